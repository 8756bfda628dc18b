"""`evaluate`: trained networks, alone and together, on events that they never saw."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

from dnn_reco.checkpoint_file import latest_iterations
from dnn_reco.config import Config, stage_at
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.features import FIRST_TIME_FEATURE
from dnn_reco.data.from_config import record_settings, with_input_tables
from dnn_reco.data.hits import Hits
from dnn_reco.data.overlap import refuse_overlap, refuse_recorded
from dnn_reco.data.records import relative_time_columns
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.evaluation.comparison import Comparison, compare_models
from dnn_reco.evaluation.comparison_report import TrainingCost, sum_of_costs, text_report
from dnn_reco.evaluation.event_weights import event_weights, flux_weights
from dnn_reco.evaluation.events_of_files import EventsOfFile, events_of_files
from dnn_reco.evaluation.held_out_events import (
    HeldOutFiles,
    calibrated_table,
    check_same_events,
    hits_of,
    open_held_out_events,
    predict_held_out,
    predicted_together,
    reconstruction_of,
    true_events,
)
from dnn_reco.evaluation.predictions_file import write_predictions
from dnn_reco.evaluation.reconstruction import Evaluation, Reconstruction
from dnn_reco.evaluation.report import write_tables
from dnn_reco.evaluation.report_facts import Origin, ReportFacts
from dnn_reco.evaluation.report_page import write_report_page
from dnn_reco.evaluation.report_sections.worst_events import worst_events
from dnn_reco.evaluation.robustness import (
    Matrix,
    perturbations,
    perturbed_reconstructions,
    robustness_matrix,
)
from dnn_reco.evaluation.stored_reconstructions import TrueLabels, read_stored, read_stored_networks
from dnn_reco.files import find_files
from dnn_reco.inference.calibration import recorded_files
from dnn_reco.inference.manifest import CONFIG_FILE
from dnn_reco.inference.model_folder import load_model_folder
from dnn_reco.inference.prediction_table import PredictionTable
from dnn_reco.inference.trained_model import TrainedModel, load_trained_model
from dnn_reco.metrics_log import METRICS_FILE, read_metrics
from dnn_reco.nn.device import choose_device
from dnn_reco.nn.memory import keep_freed_memory
from dnn_reco.nn.predictor import allow_tf32
from dnn_reco.nn.tokens import AUTO, FeatureRoles
from dnn_reco.provenance import software_record
from dnn_reco.run_options import RunOptions

_log = logging.getLogger(__name__)

ENSEMBLE = "ensemble"
"""Name of the ensemble of all models."""
RAW = "_raw"
"""End of the name of a calibrated model without its calibration."""
ALL_STORED = "all"
"""Stands for all reconstructions of networks that the files hold."""

_EVENTS_AT_ONCE = 256


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
    tables
        Common beginning of the names of the input tables; None: those of the trainings.
    stored
        Names of reconstructions that the files hold, to be compared with.
    weights
        Misc data, or TABLE.COLUMN, with the weights of the events; None: all are equal.
    flux
        Flux that the events are weighted to; None: none.
    perturb
        Whether the networks reconstruct events with changed hits, too.
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
    tables: str | None
    stored: tuple[str, ...]
    weights: str | None
    flux: str | None
    perturb: bool
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
    configs = [_config(model, settings.tables) for model in models]
    files = _held_out_files(models, settings)
    threads = settings.options.threads
    held_out = [
        open_held_out_events(config, files, _store(each, config, settings), threads)
        for each, config in zip(networks, configs, strict=True)
    ]
    check_same_events(names, held_out, settings.ensemble)
    costs = {each.model.name: each.origin.cost for each in candidates}
    extras = _extras(models, held_out[0], settings)
    compared = compare_on_held_out(models, costs, held_out, settings.ensemble, threads, extras)
    facts = _facts(candidates, compared, held_out[0])
    facts = replace(facts, pictures=_pictures(compared.evaluation, held_out[0]))
    if settings.perturb:
        facts = replace(facts, robustness=_robustness(models, held_out, compared.evaluation))
    write_tables(compared.comparison, compared.costs, settings.out)
    of_models = [each for each in compared.evaluation.reconstructions if each.name in facts.origins]
    write_predictions(replace(compared.evaluation, reconstructions=tuple(of_models)), settings.out)
    page = write_report_page(facts, settings.out)
    click.echo(f"\nReport: {page}")


def _config(model: TrainedModel, tables: str | None) -> Config:
    """The config of a model, with other input tables if they are named."""
    return model.config if tables is None else with_input_tables(model.config, tables)


@dataclass(frozen=True)
class Extras:
    """What the held-out files give besides the events of the models.

    Attributes
    ----------
    weights
        Weights of the events [n]; None: all are equal.
    stored
        Reconstructions that the files hold.
    """

    weights: NDArray[np.float64] | None = None
    stored: tuple[Reconstruction, ...] = ()


def _extras(
    models: Sequence[TrainedModel], held_out: EventDataset, settings: EvaluateSettings
) -> Extras:
    """Weights and stored reconstructions of the held-out events, as far as they are asked for."""
    if settings.weights is None and settings.flux is None and not settings.stored:
        return Extras()
    files = events_of_files(held_out)
    weights = None
    if settings.flux is not None:
        weights = flux_weights(settings.flux, files)
    elif settings.weights is not None:
        weights = event_weights(settings.weights, true_events([held_out]).misc, files)
    if not settings.stored:
        return Extras(weights)
    # a label that no model gives has nothing to be compared with
    trained = {name for model in models for name in model.trained_labels}
    names = [name for name in held_out.names.labels if name in trained]
    relative = relative_time_columns(names, record_settings(models[0].config))
    relative_labels = [name for name, flag in zip(names, relative, strict=True) if flag]
    truth = TrueLabels(names, models[0].spec.label_keys, relative_labels)
    return Extras(weights, tuple(_stored(settings.stored, files, truth)))


def _stored(
    asked: Sequence[str], files: Sequence[EventsOfFile], truth: TrueLabels
) -> list[Reconstruction]:
    """The stored reconstructions of these names; `all` stands for those of networks."""
    named = [name for name in dict.fromkeys(asked) if name != ALL_STORED]
    found = read_stored_networks(files, truth) if ALL_STORED in asked else []
    return [*(each for each in found if each.name not in named), *read_stored(named, files, truth)]


def _pictures(evaluation: Evaluation, held_out: EventDataset) -> dict[int, bytes]:
    """Displays of the worst events, by their number; none if the features are not known."""
    from dnn_reco.display.event_pictures import event_pictures  # slow to import

    numbers = worst_events(evaluation)
    hits = held_out.read(numbers).hits
    if not len(numbers) or hits.num_features not in FIRST_TIME_FEATURE:
        return {}
    events, table = evaluation.events, evaluation.reconstructions[0].table
    ids = events.ids[numbers]
    pictures = event_pictures(
        hits,
        range(len(numbers)),
        {name: values[numbers] for name, values in events.labels.items()},
        replace(
            table,
            labels=table.labels[numbers],
            uncertainty=table.uncertainty[numbers],
            ids=None,
            status=None,
        ),
        titles={row: f"Run {each['Run']}, event {each['Event']}" for row, each in enumerate(ids)},
    )
    return {int(number): pictures[row] for row, number in enumerate(numbers)}


def _robustness(
    models: Sequence[TrainedModel], held_out: Sequence[EventDataset], evaluation: Evaluation
) -> Mapping[str, Matrix]:
    """Figures of merit of each model with changed hits."""
    known = {each.name: each for each in evaluation.reconstructions}
    found: dict[str, Matrix] = {}
    for model, events in zip(models, held_out, strict=True):
        changes = perturbations(FeatureRoles.of(model.spec.num_bins, AUTO, AUTO, AUTO))
        _log.info("%s: reconstruction with %d changes of the hits.", model.name, len(changes))

        def predict(
            hits: Iterable[Hits], model: TrainedModel = model, events: EventDataset = events
        ) -> PredictionTable:
            return reconstruction_of(model, predict_held_out(model, events, hits)).table

        def chunks(events: EventDataset = events) -> Iterator[Hits]:
            return hits_of(events, _EVENTS_AT_ONCE)

        of_model = perturbed_reconstructions(known[model.name], predict, chunks, changes)
        found[model.name] = robustness_matrix(of_model, evaluation.events)
    return found


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
    extras: Extras | None = None,
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
    extras
        Weights of the events, and further reconstructions; None: there are none.
    """
    torch.set_num_threads(num_threads)
    keep_freed_memory(same_shapes=False)  # otherwise memory grows with the number of events
    allow_tf32(False)  # the same digits for all, whatever a training before used
    extras = extras or Extras()
    events = replace(true_events(held_out), weights=extras.weights)
    tables, speeds = [], {}
    reconstructions: list[Reconstruction] = []
    costs = dict(costs)
    for model, data in zip(models, held_out, strict=True):
        _log.info("%s: reconstruction of the %s held-out events.", model.name, f"{len(data):,}")
        start = time.perf_counter()
        raw = predict_held_out(model, data, raw=True)
        speeds[model.name] = len(data) / (time.perf_counter() - start)
        tables.append(calibrated_table(model, raw, events.num_hit_doms))
        reconstructions.append(reconstruction_of(model, tables[-1]))
        if model.calibration is not None:
            without = reconstruction_of(replace(model, name=f"{model.name}{RAW}"), raw)
            reconstructions.append(replace(without, is_raw=True))
    if ensemble:
        reconstructions.append(predicted_together(ENSEMBLE, models, tables))
        costs[ENSEMBLE] = sum_of_costs([costs[model.name] for model in models])
    reconstructions += extras.stored
    costs |= {each.name: TrainingCost(None, None, None, None) for each in extras.stored}
    evaluation = Evaluation(events, tuple(reconstructions))
    comparison = compare_models(evaluation.without_raw())
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


def _held_out_files(models: Sequence[TrainedModel], settings: EvaluateSettings) -> list[Path]:
    """The files of the held-out events, which no network has seen, and no calibration."""
    first = models[0].config
    if not settings.test_data:
        first.require("test_data_file")
    files = find_files(settings.test_data or first.data_files.test_data_file, "test_data_file")
    for model in models:
        if model.calibration is not None:
            recorded = recorded_files(model.calibration)
            refuse_recorded(recorded, files, model.name, settings.options.allow_overlap)
        try:
            seen = find_files(model.config.data_files.training_data_file, "training_data_file")
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
