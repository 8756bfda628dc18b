"""Each of the configs in configs/examples is trained, on events with the tables that it names."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from event_files import random_events

from dnn_reco.checkpoint_file import load_latest
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_stages
from dnn_reco.config import load_stages
from dnn_reco.data.hdf5 import InputTables
from dnn_reco.data.hdf5.writer import write_input_tables
from dnn_reco.data.overlap import refuse_overlap
from dnn_reco.files import find_files
from dnn_reco.run_options import RunOptions

FOLDER = Path(__file__).parents[1] / "configs" / "examples"
CONFIGS = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.yaml"))
LEVEL2 = "dnn_data_inputs3_SplitInIceDSTPulsesTWCleaning6000ns"
SPLITS = {"training": "1", "validation": "9", "test": "0"}


def write_events(path: Path, prefix: str, num_bins: int, seed: int) -> None:
    """Neutrinos that start in the detector as cascades, and muons that pass through, in turn."""
    events = random_events(seed, 40, num_bins=num_bins, run=seed)
    is_neutrino = np.arange(40) % 2 == 0
    length = np.where(is_neutrino, 10.0, 400.0)
    labels = {
        **events.labels,
        **dict.fromkeys(("p_neutrino", "p_starting", "p_starting_300m"), is_neutrino.astype(float)),
        "p_entering_muon_single": (~is_neutrino).astype(float),
        "Length": length,
        "LengthInDetector": length,
    }
    weights = {"GaisserH3aWeight": 1e-3 * ~is_neutrino, "aachen_flux_8yr": 1e-9 * is_neutrino}
    write_input_tables(
        path,
        events.ids,
        events.time_offset,
        events.hits,
        names=InputTables(
            *(f"{prefix}_{name}" for name in ("bin_values", "bin_indices")),
            f"{prefix}_global_time_offset",
        ),
        tables={
            "LabelsDeepLearning": labels,
            "LabelsDeepLearning_p150": labels,
            "MCPrimary": {"pdg_encoding": np.where(is_neutrino, 14.0, 13.0)},
            "weights": weights,
        },
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files at the paths of all configs: the same three files for each format."""
    home = tmp_path_factory.mktemp("home")
    for config in CONFIGS:
        text = (FOLDER / config).read_text()
        is_level2 = LEVEL2 in text
        for folder in set(re.findall(r"\{insert_DNN_HOME\}/([^']*)/\*", text)):
            (home / folder.replace("*", "any")).mkdir(parents=True, exist_ok=True)
            for seed, digit in enumerate(SPLITS.values()):
                source = home / f"{'level2' if is_level2 else 'nine'}_{digit}.hdf5"
                if not source.exists():
                    prefix, num_bins = (LEVEL2, 3) if is_level2 else ("dnn_data", 9)
                    write_events(source, prefix, num_bins, seed)
                link = home / folder.replace("*", "any") / f"file_{digit}.hdf5"
                if not link.exists():
                    os.link(source, link)
    return home


def test_there_are_configs_of_all_kinds() -> None:
    assert len([name for name in CONFIGS if name.startswith("DNNTracks/l2_")]) == 4
    assert {"cascade_direction.yaml", "event_selection.yaml", "muon_energy.yaml"} <= set(CONFIGS)


@pytest.mark.parametrize("name", CONFIGS)
def test_first_steps(name: str, home: Path, tmp_path: Path) -> None:
    text = (FOLDER / name).read_text().replace("{insert_DNN_HOME}", str(home))
    assert f"unique_name: {Path(name).stem}\n" in text
    text = re.sub(r"num_training_iterations: \d+", "num_training_iterations: 1", text)
    file = tmp_path / Path(name).name
    file.write_text(text.replace("'../", f"'{tmp_path}/"))
    stages = load_stages(
        [file],
        {"batch_size": 4, "trafo_num_batches": 4, "num_jobs": 1, "validation_events": 0},
    )
    config = stages[0]
    assert [notice.text for notice in config.notices] == []
    split = {key: find_files(getattr(config.data_files, f"{key}_data_file"), key) for key in SPLITS}
    assert all(split.values())
    refuse_overlap(split["training"] + split["validation"], split["test"], False)
    refuse_overlap(split["training"], split["validation"], False)
    options = RunOptions(device="cpu", num_threads=1, cache_dir=str(home / "store"))
    run_trafo(config, options, overwrite=False)
    assert run_stages(stages, options) == 0
    checkpoint = load_latest(Path(config.model.model_checkpoint_path))
    assert checkpoint is not None
    assert checkpoint.progress.iterations == len(stages)
    weights = [weight for weight in checkpoint.weights.values() if weight.is_floating_point()]
    assert weights and all(weight.isfinite().all() for weight in weights)
