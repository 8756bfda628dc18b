"""What `dnn-reco simulate --layout tutorial` makes by default is enough for the tutorial."""

from fnmatch import fnmatch
from pathlib import Path

from dnn_reco.cli.data import simulate_command
from dnn_reco.config import load_config
from dnn_reco.simulation.dataset import plan_files
from dnn_reco.simulation.settings import SimulationSettings

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "tutorial" / "getting_started.yaml"


def test_default_number_of_events_suffices_for_the_transformation_model(tmp_path: Path) -> None:
    text = CONFIG.read_text().replace("{insert_DNN_HOME}", str(tmp_path))
    (tmp_path / "getting_started.yaml").write_text(text)
    config = load_config([tmp_path / "getting_started.yaml"])
    default = next(p.default for p in simulate_command.params if p.name == "events")
    folder = tmp_path / "training_data"
    files = plan_files(folder, default, SimulationSettings().events_per_file, "tutorial")
    patterns = config.data_files.trafo_data_file
    num_events = sum(
        file.num_events
        for file in files
        if any(fnmatch(str(file.path), pattern) for pattern in patterns)
    )
    assert num_events >= config.trafo.trafo_num_batches * config.general.batch_size
