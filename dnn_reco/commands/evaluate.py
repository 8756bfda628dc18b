"""`evaluate`: trained networks, alone and together, on events that they never saw."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import torch

from dnn_reco.checkpoint_file import latest_iterations
from dnn_reco.config import Config, stage_at
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.overlap import refuse_overlap
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.evaluation.comparison import Comparison, compare_models
from dnn_reco.evaluation.comparison_report import TrainingCost, sum_of_costs, text_report
from dnn_reco.evaluation.held_out_events import (
    HeldOutFiles,
    check_same_events,
    open_held_out_events,
    predict_held_out,
    predicted_together,
    reconstruction_of,
    true_events,
)
from dnn_reco.evaluation.predictions_file import write_predictions
from dnn_reco.evaluation.reconstruction import Evaluation
from dnn_reco.evaluation.report import write_tables
from dnn_reco.evaluation.report_facts import Origin, ReportFacts
from dnn_reco.evaluation.report_page import write_report_page
from dnn_reco.files import find_files
from dnn_reco.inference.manifest import CONFIG_FILE
from dnn_reco.inference.model_folder import load_model_folder
from dnn_reco.inference.trained_model import TrainedModel, load_trained_model
from dnn_reco.metrics_log import METRICS_FILE, read_metrics
from dnn_reco.nn.device import choose_device
from dnn_reco.nn.predictor import allow_tf32
from dnn_reco.provenance import software_record
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
    """A model to evaluate, and where it comes from."""

    model: TrainedModel
    origin: Origin


@dataclass(frozen=True)
class Compared:
    """Models side by side on held-out events.

    Attributes
    ----------
    evaluation
        The events and what the models reconstruct.
    comparison
        The numbers that are printed.
    costs
        What it took to train each, by name, the ensemble among them.
    events_per_second
        How fast each model was, by name.
    """

    evaluation: Evaluation
    comparison: Comparison
    costs: Mapping[str, TrainingCost]
    events_per_second: Mapping[str, float]


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
    costs = {each.model.name: each.origin.cost for each in candidates}
    compared = compare_on_held_out(models, costs, held_out, settings.ensemble, threads)
    write_tables(compared.comparison, compared.costs, settings.out)
    write_predictions(compared.evaluation, settings.out)
    page = write_report_page(_facts(candidates, compared, held_out[0]), settings.out)
    click.echo(f"\nReport: {page}")


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
) -> Compared:
    """Predict the held-out events with all models, and print the comparison.

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
    """
    torch.set_num_threads(num_threads)
    allow_tf32(False)  # the same digits for all, whatever a training before used
    tables, speeds = [], {}
    for model, events in zip(models, held_out, strict=True):
        num_events = f"{len(events):,}"
        _log.info("%s: reconstruction of the %s held-out events.", model.name, num_events)
        start = time.perf_counter()
        tables.append(predict_held_out(model, events))
        speeds[model.name] = len(events) / (time.perf_counter() - start)
    reconstructions = [
        reconstruction_of(model, table) for model, table in zip(models, tables, strict=True)
    ]
    if ensemble:
        reconstructions.append(predicted_together(ENSEMBLE, models, tables))
        costs = {**costs, ENSEMBLE: sum_of_costs(list(costs.values()))}
    evaluation = Evaluation(true_events(held_out), tuple(reconstructions))
    comparison = compare_models(evaluation)
    click.echo(text_report(comparison, costs))
    return Compared(evaluation, comparison, costs, speeds)


def _facts(
    candidates: Sequence[_Candidate], compared: Compared, held_out: EventDataset
) -> ReportFacts:
    """What the report is made of."""
    origins = {
        each.model.name: replace(
            each.origin, events_per_second=compared.events_per_second[each.model.name]
        )
        for each in candidates
    }
    if ENSEMBLE in compared.costs and ENSEMBLE not in origins:
        source = f"the mixture of {', '.join(origins)}"
        origins[ENSEMBLE] = Origin(source, compared.costs[ENSEMBLE])
    return ReportFacts(
        compared.evaluation,
        compared.comparison,
        HeldOutFiles.of(held_out),
        origins,
        software_record(),
    )


def _load(network: tuple[Config, ...] | Path, settings: EvaluateSettings) -> _Candidate:
    device = choose_device(settings.options.device)
    if isinstance(network, Path):
        model = load_model_folder(network, device, settings.allow_code)
        cost = TrainingCost(None, None, None, model.num_weights)
        return _Candidate(model, _origin(str(network), cost, model.config, network / "logs"))
    network[-1].require("model_checkpoint_path", "trafo_model_path")
    iterations = latest_iterations(Path(network[-1].model.model_checkpoint_path))
    config = stage_at(network, iterations)
    model = load_trained_model(config, device, settings.checkpoints, _name(config.paths[-1]))
    num_events = None if len(network) > 1 else iterations * config.general.batch_size
    cost = TrainingCost(iterations, num_events, None, model.num_weights)
    source = (
        f"{' + '.join(map(str, config.paths))}: the newest of {settings.checkpoints} checkpoint(s) "
        f"in {config.model.model_checkpoint_path}, after {iterations:,} iterations"
    )
    return _Candidate(model, _origin(source, cost, config, Path(config.general.log_path)))


def _origin(source: str, cost: TrainingCost, config: Config, logs: Path) -> Origin:
    return Origin(source, cost, config.to_yaml(), read_metrics(logs / METRICS_FILE))


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
