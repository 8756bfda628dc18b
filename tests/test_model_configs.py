"""The configs in configs/models are ready for a training on simulated events."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from dnn_reco.cli import cli
from dnn_reco.config import load_config
from dnn_reco.data.simulated_files import flat_path, tutorial_path
from dnn_reco.simulation.dataset import PlannedFile, write_file
from dnn_reco.simulation.settings import SimulationSettings
from dnn_reco.training.optimizers import learning_rate_schedule
from dnn_reco.utils.learning_rate import rate_at

CONFIGS = sorted((Path(__file__).parents[1] / "configs" / "models").glob("*.yaml"))


@pytest.fixture(scope="module")
def data_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with simulated events at the paths of the configs."""
    home = tmp_path_factory.mktemp("home")
    settings = SimulationSettings(energy=(1e4, 1e5), margin=0, seed=3)
    for number in (0, 1000, 1005):
        path = tutorial_path(home / "training_data", number)
        write_file(settings, PlannedFile(path, number, 20))
    write_file(settings, PlannedFile(flat_path(home / "simulated", 7), 7, 20))
    return home


def written_for(config: Path, home: Path) -> Path:
    """The config as a user writes it, with the sed of its first lines."""
    copy = home / config.name
    copy.write_text(config.read_text().replace("{insert_DNN_HOME}", str(home)))
    return copy


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_it_passes_the_check(config: Path, data_home: Path) -> None:
    result = CliRunner().invoke(cli, ["config", "check", str(written_for(config, data_home))])
    assert result.exit_code == 0, result.output
    assert f"{config.stem}: ready for training" in result.output
    assert not re.search(r"^(warning|missing|error)", result.output, re.MULTILINE | re.IGNORECASE)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_its_comments_show_how_to_run_it_and_its_schedule_ends_with_it(
    config: Path, data_home: Path
) -> None:
    head = config.read_text().split("\n\n")[0]
    assert head.startswith("# Run it") and f"dnn-reco train $CONFIG_DIR/{config.name}" in head
    loaded = load_config([written_for(config, data_home)], {})
    for optimizer in loaded.optimizers.values():
        schedule = learning_rate_schedule("key", optimizer.optimizer_settings)
        last = loaded.training.num_training_iterations
        rates = [rate_at("key", schedule, step) for step in (0, last // 10, last, last + 1000)]
        assert rates[0] < rates[1] / 10 and rates[2] == rates[3] == 1e-5 < rates[1]
        assert rate_at("key", schedule, last - 1000) > 1e-5


def test_the_smallest_one_trains(
    data_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = written_for(CONFIGS[0].with_name("dom_transformer_S.yaml"), data_home)
    text = config.read_text().replace("trafo_num_batches: 80", "trafo_num_batches: 1")
    config.write_text(text.replace("batch_size: 128", "batch_size: 16"))
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    for command in (["trafo"], ["train", "--device=cpu", "--num_threads=1", "--iterations=2"]):
        result = CliRunner().invoke(cli, [*command, str(config)])
        assert result.exit_code == 0, result.output
    assert (tmp_path / "checkpoints/dom_transformer_S/model/checkpoint-00000002").is_dir()
