"""`trafo`: fit the data transformation model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dnn_reco.commands.output import print_note
from dnn_reco.config import TRAFO_KEYS, Config
from dnn_reco.data.build import open_events
from dnn_reco.data.data_settings import check_same_settings
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.from_config import (
    file_sampling,
    transform_settings,
    unknown_fill_values,
)
from dnn_reco.errors import DataError, ModelError
from dnn_reco.event_sources import event_store, recorded_settings
from dnn_reco.files import write_atomically
from dnn_reco.progress import Progress
from dnn_reco.provenance import record_text
from dnn_reco.run_options import RunOptions
from dnn_reco.transform import (
    TransformationModel,
    TransformFit,
    TransformSettings,
    load_transformation,
    save_transformation,
    settings_differences,
)

if TYPE_CHECKING:
    from dnn_reco.training.initial_weights import InitialModel

_log = logging.getLogger(__name__)

# Events that the fit takes in at once: few enough to stay in the processor's cache.
_BLOCK = 256

_KEEP_IT = (
    "Networks trained with it need exactly this file: choose another trafo_model_path, or replace "
    "the file with --overwrite"
)


def run_trafo(config: Config, options: RunOptions, overwrite: bool) -> None:
    """Fit the transformation model and write it to `trafo_model_path`, and print the path."""
    path = make_transformation(config, options, overwrite)
    print_note("\n=======================================")
    print_note("= Successfully saved trafo model to:  =")
    print_note("=======================================")
    print_note(f"'{path}'\n")


def make_transformation(config: Config, options: RunOptions, overwrite: bool) -> Path:
    """Fit the transformation model and write it to `trafo_model_path`, which is returned.

    With `model_initial_weights`, inputs and labels are transformed as by that model.

    Raises
    ------
    DataError
        If there are too few events.
    ModelError
        If another one already exists, unless it may be overwritten, or if the initial model has
        other labels or inputs.
    """
    config.require(*TRAFO_KEYS)
    path = Path(config.trafo.trafo_model_path)
    batch_size, num_batches = config.general.batch_size, config.trafo.trafo_num_batches
    sampling = file_sampling(config, "trafo_data_file")
    files = _shuffled_files(sampling.visits, config.seed)
    events = open_events(
        event_store(config, options.cache_dir),
        files,
        min(config.trafo.trafo_num_jobs, options.threads),
        batch_size * num_batches,
        sampling,
    )
    for text in unknown_fill_values(config, events.names.labels):
        _log.warning("%s", text)
    some = recorded_settings(tuple(sampling.visits), config)  # the fit may need only a few files
    for text in check_same_settings([*some, *events.recorded_settings]):
        _log.warning("%s.", text)
    settings = transform_settings(config, events.names)
    initial = _initial_model(config, settings) if config.model.model_initial_weights else None
    present = _refuse_other(path, settings, overwrite)
    model = _transformation(config, events, settings, initial)
    if present not in (None, model.digest):
        which = "fitted to different events" if initial is None else f"not that of '{initial.name}'"
        raise ModelError(f"'{path}' already exists, {which}. {_KEEP_IT}")
    if present is None:  # else it is the same, and may be in use
        save_transformation(model, path)
    record = path.with_name(f"config_trafo__{path.stem}.yaml")
    title = "Configuration of a transformation model, complete with defaults."
    write_atomically(record, record_text(title, config.to_yaml()).encode())
    return path


def _initial_model(config: Config, settings: TransformSettings) -> InitialModel | None:
    # imports PyTorch, which takes longer than all else
    from dnn_reco.training.initial_weights import check_labels_and_inputs, initial_model

    initial = initial_model(config)
    if initial is not None:
        check_labels_and_inputs(initial, settings)
    return initial


def _transformation(
    config: Config,
    events: EventDataset,
    settings: TransformSettings,
    initial: InitialModel | None,
) -> TransformationModel:
    """The fitted transformation model, or as far as possible that of the initial model."""
    if initial is not None:
        _log.info("Inputs and labels are transformed as by '%s'.", initial.name)
        if initial.transformation.settings == settings:
            return initial.transformation
    batch_size, num_batches = config.general.batch_size, config.trafo.trafo_num_batches
    _check_enough(events.order(config.seed, "trafo").num_events, batch_size, num_batches)
    fitted = fit_transformation(
        events,
        settings,
        np.array(config.dom_init_values),
        batch_size * num_batches,
        config.seed,
    )
    if initial is None:
        return fitted
    from dnn_reco.training.initial_weights import with_moments_of

    return with_moments_of(initial, fitted)


def fit_transformation(
    events: EventDataset,
    settings: TransformSettings,
    dom_init_values: np.ndarray,
    num_events: int,
    seed: int,
) -> TransformationModel:
    """Fit a transformation model to `num_events` events, drawn at random.

    Each is used once, or as often as its file is listed.

    Parameters
    ----------
    events
        Where to draw from.
    settings
        Settings of the model.
    dom_init_values
        What an unlisted bin holds [F].
    num_events
        How many events to use; all, if there are fewer.
    seed
        Seed of the choice.
    """
    fit = TransformFit(settings, dom_init_values)
    order = events.order(seed, "trafo")
    numbers = order.batch(0, min(num_events, order.num_events))
    with Progress(len(numbers), "Transformation model", "events") as progress:
        for start in range(0, len(numbers), _BLOCK):
            block = events.read(numbers[start : start + _BLOCK])
            fit.add(block.hits.dom, block.hits.features, block.labels, block.misc)
            progress.update(len(block.labels))
    return fit.result()


def _shuffled_files(visits: Mapping[Path, int], seed: int) -> list[Path]:
    """Files in random order, those of many visits earlier on average, each once.

    The model is fitted to the first ones that hold enough events.
    """
    files = [file for file, times in visits.items() for _ in range(times)]
    order = np.random.default_rng(seed).permutation(len(files))
    return list(dict.fromkeys(files[i] for i in order))


def _check_enough(num_events: int, batch_size: int, num_batches: int) -> None:
    found = -(-num_events // batch_size)  # a last partial batch counts
    if found < num_batches:
        raise DataError(
            f"trafo_num_batches is {num_batches}, but the {num_events} events of trafo_data_file "
            f"make only {found} batches of batch_size {batch_size}: set trafo_num_batches to "
            f"{found} or less, or give trafo_data_file more files"
        )


def _refuse_other(path: Path, settings: TransformSettings, overwrite: bool) -> str | None:
    """Digest of the model that is at `path` already; other models are not replaced unasked.

    Networks may have been trained with the model that is there, and fit no other.
    """
    if overwrite or not path.exists():
        return None
    model = load_transformation(path)
    differences = settings_differences(model, settings)
    if differences:
        listed = "\n".join(differences)
        raise ModelError(f"'{path}' already exists, with different settings:\n{listed}\n{_KEEP_IT}")
    return model.digest
