"""Model folders and event files to apply them to."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import torch
from event_files import Events, random_events, write_events
from numpy.typing import NDArray
from small_run import ON_CPU, SmallRun, make_small_run

from dnn_reco.checkpoint_file import load_latest
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.file_events import InputTables
from dnn_reco.inference.model_folder import Member, contents_of, write_model_folder
from dnn_reco.nn.from_config import make_network, network_spec
from dnn_reco.transform import load_transformation

TIME_OFFSET = InputTables().time_offset


def model_of_run(
    run: SmallRun,
    folder: Path,
    scale: float = 1.0,
    data_settings: DataSettings | None = None,
    **changes: object,
) -> Path:
    """A model folder of a trained run: its weights times `scale`, its config with `changes`."""
    config = run.config(**changes)
    checkpoint = load_latest(run.checkpoints)
    assert checkpoint is not None
    weights = {name: scale * value for name, value in checkpoint.section("network").items()}
    transformation = load_transformation(Path(config.trafo.trafo_model_path))
    contents = contents_of([Member(weights, transformation, config)], "a test")
    info = replace(contents.model, data_settings=data_settings)
    write_model_folder(folder, replace(contents, model=info), overwrite=True)
    return folder


def model_with_misc(run_folder: Path, folder: Path) -> Path:
    """A model folder of a network, not trained, that reads misc data of the table MCPrimary."""
    run = make_small_run(
        run_folder,
        num_events=24,
        trafo_num_batches=6,
        trafo_norm_constant=1e-4,
        trafo_normalize_misc_data=True,
        trafo_log_misc_bins={"energy": True},
        data_handler_misc_class="misc_plugins.load_energy_and_sign",
        model_class="misc_plugins.ReadsMisc",
        model_kwargs={"dropout": 0.0},
    )
    config = run.config()
    run_trafo(config, ON_CPU, overwrite=False)
    transformation = load_transformation(Path(config.trafo.trafo_model_path))
    torch.manual_seed(1)
    network = make_network(config, network_spec(config, transformation), torch.device("cpu"))
    member = Member(network.state_dict(), transformation, config)
    write_model_folder(folder, contents_of([member], "a test"))
    return folder


@dataclass(frozen=True)
class FlawedEvents:
    """Events of which some cannot be reconstructed, and the status that each must get."""

    events: Events
    exists: NDArray[np.bool_]
    status: NDArray[np.int32]


def flawed_events(seed: int, num_events: int = 40) -> FlawedEvents:
    """Events without time offset, without hits, and with values that are not finite."""
    events = random_events(seed, num_events, num_bins=3, empty_fraction=0.2, run=seed)
    exists = np.ones(num_events, dtype=bool)
    exists[[0, 7, num_events - 1]] = False
    status = np.where(np.diff(events.offsets) == 0, 2, 0)
    has_hits = np.flatnonzero(status == 0)
    features, time_offset = events.features.copy(), events.time_offset.copy()
    features[events.offsets[has_hits[3]], 1] = np.nan
    features[events.offsets[has_hits[5]], 0] = np.inf
    time_offset[has_hits[8]] = np.nan
    status[has_hits[[3, 5, 8]]] = 3
    status[~exists] = 1
    events = replace(events, features=features, time_offset=time_offset)
    return FlawedEvents(events, exists, status.astype(np.int32))


def write_flawed(path: Path, flawed: FlawedEvents) -> Path:
    return write_events(path, flawed.events, exists={TIME_OFFSET: flawed.exists})


def rows(path: Path, table: str) -> NDArray[np.void]:
    with h5py.File(path) as file:
        return file[table][()]


def contents(folder: Path) -> Mapping[str, bytes]:
    """Bytes of all files below a folder, hidden ones too, by path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
