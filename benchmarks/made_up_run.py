"""A config and data for benchmarks: the tutorial's network on given or made-up files."""

import sys
from pathlib import Path

from ruamel.yaml import YAML

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests"))

from event_files import random_events, write_events  # noqa: E402

_HITS_PER_EVENT = 300


def make_run(folder: Path, source: str | None, filters: int = 5, **changes: object) -> Path:
    """Write a config (and files, without `source`) to `folder`; returns the config's path.

    Parameters
    ----------
    folder
        Folder of the config and of all outputs of the run.
    source
        Glob of HDF5 files with the tutorial's tables.
    filters
        Kernels of each convolutional layer.
    changes
        Keys of the config to set.
    """
    if source is None:
        for seed in range(2):
            events = random_events(seed, 1000, mean_hits=_HITS_PER_EVENT, run=seed)
            write_events(folder / f"made_up_{seed}.hdf5", events)
        source = str(folder / "made_up_*.hdf5")
        changes = {"misc_load_dict": {}, **changes}
    yaml = YAML(typ="safe", pure=True)
    config = yaml.load(REPOSITORY / "configs" / "tutorial" / "getting_started_v2.yaml")
    for key in ("training", "trafo", "validation", "test"):
        config[f"{key}_data_file"] = [str(Path(source).absolute())]
    for name in ("upper_deepcore", "lower_deepcore", "ic78"):
        settings = config["model_kwargs"][f"conv_{name}_settings"]
        settings["num_filters_list"] = [filters] * len(settings["num_filters_list"])
    config |= {
        "log_path": str(folder / "logs"),
        "model_checkpoint_path": str(folder / "checkpoints" / "model"),
        "trafo_model_path": str(folder / "data" / "trafo" / "model.npy"),
        **changes,
    }
    path = folder / "benchmark.yaml"
    with path.open("w") as file:
        yaml.dump(config, file)
    return path
