"""`calibrate`: correct the uncertainties of a model folder with held-out events."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from dnn_reco.commands.output import print_note
from dnn_reco.config import Config
from dnn_reco.data.overlap import digest_of_ends, files_recorded, refuse_overlap
from dnn_reco.errors import ConfigError
from dnn_reco.evaluation.calibration import (
    LEVEL,
    CalibrationEvents,
    cross_fitted,
    fit_calibration,
    inside,
)
from dnn_reco.evaluation.formats import format_aligned
from dnn_reco.evaluation.held_out_events import (
    calibration_events,
    check_how_files_were_made,
    open_held_out_events,
    store_folder,
)
from dnn_reco.evaluation.metrics import ValueWithError
from dnn_reco.files import find_files, temporary_beside, writing
from dnn_reco.inference.calibrated_folder import write_calibration
from dnn_reco.inference.calibration import Calibration
from dnn_reco.inference.manifest import read_manifest
from dnn_reco.inference.model_folder import load_model_folder
from dnn_reco.inference.signature import is_signed, read_private_key, sign_folder
from dnn_reco.inference.torch_backend import TorchBackend
from dnn_reco.inference.trained_model import TrainedModel
from dnn_reco.nn.device import choose_device
from dnn_reco.nn.threads import computes_in_pieces, use_threads
from dnn_reco.run_options import RunOptions

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CalibrateSettings:
    """How to calibrate.

    Attributes
    ----------
    data
        Glob patterns of event files with labels; empty: `validation_data_file` of the training.
    coverage_by
        `class`: coverage is right among events of each true class; `reconstruction`: among events
        that are alike in what is reconstructed.
    remove
        Whether to remove the calibration instead.
    sign
        Private key to sign the folder with; None: it is not signed.
    ignore_mismatch
        Data settings that may differ between files and model.
    allow_code
        Packages whose code the model may name.
    options
        Device, threads and event store.
    """

    data: tuple[str, ...]
    coverage_by: str
    remove: bool
    sign: Path | None
    ignore_mismatch: tuple[str, ...]
    allow_code: tuple[str, ...]
    options: RunOptions


def run_calibrate(folder: Path, settings: CalibrateSettings) -> None:
    """Fit the calibration of a model folder, store it there, and print what it changes."""
    key = None if settings.sign is None else read_private_key(settings.sign)
    was_signed = is_signed(folder)
    model = load_model_folder(folder, choose_device(settings.options.device), settings.allow_code)
    if settings.remove and model.calibration is None:
        print_note(f"'{folder}' has no calibration: nothing to remove.")
        return
    with _writing_to(folder), temporary_beside(folder.resolve()):
        pass  # a folder that cannot be written to must show now, not after the work
    calibration = None if settings.remove else _fit(folder, model, settings)
    with _writing_to(folder):
        write_calibration(folder, TorchBackend(model), calibration)
    if key is not None:
        sign_folder(folder, key)
    elif was_signed:
        _log.warning(
            "The signature no longer applies and is removed: sign the model again with --sign"
        )
    if calibration is None:
        print_note(f"Calibration of '{folder}' removed.")
    else:
        print_note(f"Calibration stored in '{folder}'; dnn-reco apply --raw ignores it.")


def _writing_to(folder: Path) -> AbstractContextManager[None]:
    return writing("the calibration", folder, "copy the model folder to a writable place")


def _fit(folder: Path, model: TrainedModel, settings: CalibrateSettings) -> Calibration:
    """Fit the calibration, and print the coverage before and after."""
    if read_manifest(folder).model is None:
        raise ConfigError(
            f"'{folder}' has the old format 1: export or import the model again before "
            "calibrating it"
        )
    use_threads(settings.options.threads, computes_in_pieces(model.network))
    files = _files(folder, model.config, settings)
    check_how_files_were_made(model, model.config, files, settings.ignore_mismatch)
    beside = folder.absolute().parent / "event_store"  # not in the folder, also if that is "."
    store = store_folder(model.config, settings.options.cache_dir, beside)
    held_out = open_held_out_events(model.config, files, store, settings.options.threads)
    events = calibration_events(model, held_out)
    true_classes = settings.coverage_by == "class"
    calibration = fit_calibration(events, true_classes)
    before = inside(events)
    after = inside(cross_fitted(events, calibration, true_classes))
    click.echo("\n".join(_table(before, after, len(events))))
    for name, temperature in calibration.temperatures.items():
        click.echo(f"temperature of {name}: {temperature:.3f}")
    record = _record(events, files, before, after)
    return replace(calibration, record={**record, "coverage_by": settings.coverage_by})


def _files(folder: Path, config: Config, settings: CalibrateSettings) -> list[Path]:
    """The files of the events, which the network was not trained with."""
    if not settings.data:
        config.require("validation_data_file")
    patterns = settings.data or config.data_files.validation_data_file
    files = find_files(patterns, "--data" if settings.data else "validation_data_file")
    seen = files_recorded(folder, config)
    refuse_overlap(seen, files, settings.options.allow_overlap, "--data")
    return files


def _table(
    before: dict[str, NDArray[np.bool_]], after: dict[str, NDArray[np.bool_]], num_events: int
) -> list[str]:
    """Share of the events inside of their central intervals and cones, before and after."""
    width = max(len(name) for name in ("label", *before)) + 2
    lines = [
        f"{num_events:,} events; share inside of the {LEVEL:.1%} interval or cone, after the "
        "calibration by corrections fitted without the event:",
        f"{'label':<{width}}{'before':>16}{'after':>16}",
    ]
    for name, inside_before in before.items():
        cells = [_share(values) for values in (inside_before, after[name])]
        lines.append(f"{name:<{width}}{cells[0]:>16}{cells[1]:>16}")
    return lines


def _share(is_inside: NDArray[np.bool_]) -> str:
    share = float(is_inside.mean())
    error = np.sqrt(share * (1 - share) / len(is_inside))
    return format_aligned(ValueWithError(np.array(share), error), 3)


def _record(
    events: CalibrationEvents,
    files: Sequence[Path],
    before: dict[str, NDArray[np.bool_]],
    after: dict[str, NDArray[np.bool_]],
) -> dict[str, Any]:
    """How the calibration was fitted, for the manifest and for later checks."""
    return {
        "num_events": len(events),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "files": [
            {"name": path.name, "size": path.stat().st_size, "digest": digest_of_ends(path)}
            for path in files
        ],
        "level": LEVEL,
        "coverage_before": {name: float(values.mean()) for name, values in before.items()},
        "coverage_after": {name: float(values.mean()) for name, values in after.items()},
    }
