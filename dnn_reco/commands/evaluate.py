"""`evaluate`: trained networks, alone and together, on events that they never saw."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import torch

from dnn_reco.checkpoint_file import latest_iterations
from dnn_reco.config import Config, stage_at
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.overlap import refuse_overlap
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.evaluation.comparison import compare_models
from dnn_reco.evaluation.comparison_report import TrainingCost, sum_of_costs, text_report
from dnn_reco.evaluation.held_out_events import (
    check_same_events,
    open_held_out_events,
    predict_held_out,
    predicted_together,
)
from dnn_reco.evaluation.report import write_report
from dnn_reco.files import find_files
from dnn_reco.inference.manifest import CONFIG_FILE
from dnn_reco.inference.model_folder import load_model_folder
from dnn_reco.inference.trained_model import TrainedModel, load_trained_model
from dnn_reco.nn.device import choose_device
from dnn_reco.nn.predictor import allow_tf32
from dnn_reco.run_options import RunOptions

_log = logging.getLogger(__name__)

ENSEMBLE = "ensemble"
"""Name of the ensemble of all models."""


@dataclass(frozen=True)
class EvaluateSettings:
    """How to evaluate.

    Attributes
    ----------
    test_data
        Glob patterns of the held-out files; empty: `test_data_file` of the first network.
    checkpoints
        How many of the newest checkpoints of a training are taken together.
    ensemble
        Whether all networks together are evaluated as one more.
    allow_code
        Packages whose code model folders may name.
    out
        Folder to write to.
    options
        Device, threads and event store.
    """

    test_data: tuple[str, ...]
    checkpoints: int
    ensemble: bool
    allow_code: tuple[str, ...]
    out: Path
    options: RunOptions


@dataclass(frozen=True)
class _Candidate:
    """A model to evaluate, and what it took to train it."""

    model: TrainedModel
    cost: TrainingCost


def run_evaluate(networks: Sequence[tuple[Config, ...] | Path], settings: EvaluateSettings) -> None:
    """Evaluate trained networks on the same events; print the comparison and write its files.

    Parameters
    ----------
    networks
        Model folders, and trainings: the config of each stage.
    settings
        How to evaluate.
    """
    candidates = [_load(each, settings) for each in networks]
    models = [each.model for each in candidates]
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two of the networks would be called '{name}': rename one of them")
    if settings.ensemble:
        check_ensemble(names)
    configs = [model.config for model in models]
    files = _held_out_files(configs, settings)
    threads = settings.options.threads
    held_out = [
        open_held_out_events(config, files, _store(each, config, settings), threads)
        for each, config in zip(networks, configs, strict=True)
    ]
    check_same_events(names, held_out, settings.ensemble)
    costs = {each.model.name: each.cost for each in candidates}
    compare_on_held_out(models, costs, held_out, settings.ensemble, threads, settings.out)


def check_ensemble(names: Sequence[str]) -> None:
    """Check that the models of these names can be compared with the ensemble of all.

    Raises
    ------
    ConfigError
        If there is only one, or one is called as the ensemble will be.
    """
    if len(names) == 1 or ENSEMBLE in names:
        raise ConfigError(
            f"--ensemble needs at least two networks, none of them called '{ENSEMBLE}'; there are: "
            f"{', '.join(names)}"
        )


def compare_on_held_out(
    models: Sequence[TrainedModel],
    costs: Mapping[str, TrainingCost],
    held_out: Sequence[EventDataset],
    ensemble: bool,
    num_threads: int,
    out: Path,
) -> None:
    """Predict the held-out events with all models; print the comparison and write its files.

    Parameters
    ----------
    models
        The models.
    costs
        What it took to train each, by name.
    held_out
        The events with the labels of each.
    ensemble
        Whether the ensemble of all models is compared, too.
    num_threads
        CPU threads to use.
    out
        Folder to write to.
    """
    torch.set_num_threads(num_threads)
    allow_tf32(False)  # the same digits for all, whatever a training before used
    predictions = []
    for model, events in zip(models, held_out, strict=True):
        num_events = f"{len(events):,}"
        _log.info("%s: reconstruction of the %s held-out events.", model.name, num_events)
        predictions.append(predict_held_out(model, events))
    if ensemble:
        predictions.append(predicted_together(ENSEMBLE, predictions))
        costs = {**costs, ENSEMBLE: sum_of_costs(list(costs.values()))}
    comparison = compare_models(predictions)
    click.echo(text_report(comparison, costs))
    write_report(comparison, costs, out)
    _log.info("Written: comparison.json, comparison.md and figures in '%s'.", out)


def _load(network: tuple[Config, ...] | Path, settings: EvaluateSettings) -> _Candidate:
    device = choose_device(settings.options.device)
    if isinstance(network, Path):
        model = load_model_folder(network, device, settings.allow_code)
        return _Candidate(model, TrainingCost(None, None, None, model.num_weights))
    network[-1].require("model_checkpoint_path", "trafo_model_path")
    iterations = latest_iterations(Path(network[-1].model.model_checkpoint_path))
    config = stage_at(network, iterations)
    model = load_trained_model(config, device, settings.checkpoints, _name(config.paths[-1]))
    num_events = None if len(network) > 1 else iterations * config.general.batch_size
    return _Candidate(model, TrainingCost(iterations, num_events, None, model.num_weights))


def _name(path: Path) -> str:
    """Name of the network of a config: that of its file, or of the folder of a ``config.yaml``."""
    return path.resolve().parent.name if path.name == CONFIG_FILE else path.stem


def _held_out_files(configs: Sequence[Config], settings: EvaluateSettings) -> list[Path]:
    """The files of the held-out events, which no network has seen."""
    if not settings.test_data:
        configs[0].require("test_data_file")
    patterns = settings.test_data or configs[0].data_files.test_data_file
    files = find_files(patterns, "test_data_file")
    for config in configs:
        try:
            seen = find_files(config.data_files.training_data_file, "training_data_file")
        except DataError:
            continue  # it was trained elsewhere
        refuse_overlap(seen, files, settings.options.allow_overlap)
    return files


def _store(network: tuple[Config, ...] | Path, config: Config, settings: EvaluateSettings) -> str:
    """Folder of the event store; that of a model folder may have been on another machine."""
    if settings.options.cache_dir:
        return settings.options.cache_dir
    elsewhere = isinstance(network, Path) and not config.event_store.is_dir()
    return str(settings.out / "event_store" if elsewhere else config.event_store)
