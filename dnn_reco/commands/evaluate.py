"""`evaluate`: trained networks, alone and as an ensemble, on held-out events."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from dnn_reco.checkpoint_file import latest_iterations
from dnn_reco.commands.output import print_json, print_note
from dnn_reco.config import Config, stage_at
from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.features import FIRST_TIME_FEATURE
from dnn_reco.data.from_config import with_input_tables
from dnn_reco.data.overlap import (
    files_if_any,
    files_recorded,
    files_seen,
    refuse_overlap,
    refuse_recorded,
)
from dnn_reco.evaluation.comparison_report import TrainingCost, as_plain, text_report
from dnn_reco.evaluation.held_out_comparison import (
    ENSEMBLE,
    RAW,
    Compared,
    check_ensemble,
    compare_on_held_out,
    extras_of,
)
from dnn_reco.evaluation.held_out_events import (
    HeldOutFiles,
    check_how_files_were_made,
    check_same_events,
    check_same_truth,
    open_held_out_events,
    store_folder,
)
from dnn_reco.evaluation.predictions_file import write_predictions
from dnn_reco.evaluation.reconstruction import Evaluation
from dnn_reco.evaluation.report import write_tables
from dnn_reco.evaluation.report_facts import Origin, ReportFacts
from dnn_reco.evaluation.report_page import write_report_page
from dnn_reco.evaluation.report_sections.worst_events import worst_events
from dnn_reco.evaluation.robustness import (
    robustness_of_models,
)
from dnn_reco.event_sources import recorded_settings
from dnn_reco.files import find_files
from dnn_reco.inference.calibration import recorded_files
from dnn_reco.inference.manifest import CONFIG_FILE, TrainingSummary, read_manifest
from dnn_reco.inference.model_folder import load_model_folder
from dnn_reco.inference.prediction_table import check_table_names
from dnn_reco.inference.trained_model import TrainedModel, load_trained_model
from dnn_reco.metrics_log import METRICS_FILE, read_metrics
from dnn_reco.nn.device import choose_device
from dnn_reco.provenance import software_record
from dnn_reco.run_options import RunOptions

_log = logging.getLogger(__name__)


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
    tables
        Common beginning of the names of the input tables; None: those of the trainings.
    stored
        Names of reconstructions that the files hold, to be compared with.
    weights
        Misc data, or TABLE.COLUMN, with the weights of the events; None: all are equal.
    flux
        Flux that the events are weighted to; None: none.
    jobs_per_file
        For a flux: jobs of the simulation in each input of `create-data`, or file of others.
    perturb
        Whether the networks also reconstruct events with changed hits.
    ignore_mismatch
        Data settings that may differ between files and model.
    as_json
        Whether the numbers of the table are printed as JSON.
    """

    test_data: tuple[str, ...]
    checkpoints: int
    ensemble: bool
    allow_code: tuple[str, ...]
    out: Path
    options: RunOptions
    tables: str | None = None
    stored: tuple[str, ...] = ()
    weights: str | None = None
    flux: str | None = None
    jobs_per_file: int = 1
    perturb: bool = False
    ignore_mismatch: tuple[str, ...] = ()
    as_json: bool = False


@dataclass(frozen=True)
class _Candidate:
    """A model to evaluate, and where it comes from."""

    model: TrainedModel
    origin: Origin


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
    _check_names(models)
    if settings.ensemble:
        check_ensemble(names)
    configs = [_config(model, settings.tables) for model in models]
    files = _held_out_files(networks, models, settings)
    threads = settings.options.threads
    held_out = [
        open_held_out_events(config, files, _store(each, config, settings), threads)
        for each, config in zip(networks, configs, strict=True)
    ]
    check_same_events(names, held_out, settings.ensemble)
    check_same_truth(names, configs, held_out)
    costs = {each.model.name: each.origin.cost for each in candidates}
    extras = extras_of(
        models,
        held_out[0],
        settings.weights,
        settings.flux,
        settings.stored,
        settings.jobs_per_file,
    )
    compared = compare_on_held_out(models, costs, held_out, settings.ensemble, threads, extras)
    if not settings.as_json:
        click.echo(text_report(compared.comparison, compared.costs))
    facts = _facts(candidates, compared, held_out[0])
    facts = replace(facts, pictures=_pictures(compared.evaluation, held_out[0]))
    if settings.perturb:
        matrices = robustness_of_models(models, held_out, compared.evaluation)
        facts = replace(facts, robustness=matrices)
    write_tables(compared.comparison, compared.costs, settings.out)
    of_models = [each for each in compared.evaluation.reconstructions if each.name in facts.origins]
    write_predictions(replace(compared.evaluation, reconstructions=tuple(of_models)), settings.out)
    page = write_report_page(facts, settings.out)
    if settings.as_json:
        print_json({"report": str(page), **as_plain(compared.comparison, compared.costs)})
    else:
        print_note(f"\nReport: {page}")


def _check_names(models: Sequence[TrainedModel]) -> None:
    """Check that no two things that are compared have the same name, or tables of the same name.

    Raises
    ------
    ConfigError
        Naming one that two have.
    """
    names = [model.name for model in models]
    names += [f"{model.name}{RAW}" for model in models if model.calibration is not None]
    check_table_names(names)


def _config(model: TrainedModel, tables: str | None) -> Config:
    """The config of a model, with other input tables if they are named."""
    return model.config if tables is None else with_input_tables(model.config, tables)


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
        table.rows(numbers),
        titles={row: f"Run {each['Run']}, event {each['Event']}" for row, each in enumerate(ids)},
    )
    return {int(number): pictures[row] for row, number in enumerate(numbers)}


def _load(network: tuple[Config, ...] | Path, settings: EvaluateSettings) -> _Candidate:
    device = choose_device(settings.options.device)
    if isinstance(network, Path):
        model = load_model_folder(network, device, settings.allow_code)
        cost = _cost_of_folder(read_manifest(network).training, model.num_weights)
        return _Candidate(model, _origin(str(network), cost, model.config, network / "logs"))
    network[-1].require("model_checkpoint_path", "trafo_model_path")
    iterations = latest_iterations(Path(network[-1].model.model_checkpoint_path))
    config = stage_at(network, iterations)
    model = load_trained_model(config, device, settings.checkpoints, _name(config.paths[-1]))
    model = replace(model, data_settings=_training_settings(config))
    num_events = None if len(network) > 1 else iterations * config.general.batch_size
    cost = TrainingCost(iterations, num_events, None, model.num_weights)
    source = (
        f"{' + '.join(map(str, config.paths))}: {_newest(settings.checkpoints)} "
        f"in {config.model.model_checkpoint_path}, after {iterations:,} iterations"
    )
    return _Candidate(model, _origin(source, cost, config, Path(config.general.log_path)))


def _training_settings(config: Config) -> DataSettings | None:
    """How the training files were made; None where they record nothing, or are not here."""
    recorded = recorded_settings(files_if_any(config, "training_data_file"), config)
    return next((settings for _, settings in recorded if settings is not None), None)


def _newest(checkpoints: int) -> str:
    return "the newest checkpoint" if checkpoints == 1 else f"the {checkpoints} newest checkpoints"


def _cost_of_folder(training: TrainingSummary | None, num_weights: int) -> TrainingCost:
    """What it took to train the networks of a model folder, as far as its manifest records it."""
    if training is None:
        return TrainingCost(None, None, None, num_weights)
    iterations = sum(training.iterations)
    return TrainingCost(iterations, iterations * training.batch_size, None, num_weights)


def _origin(source: str, cost: TrainingCost, config: Config, logs: Path) -> Origin:
    return Origin(source, cost, config.to_yaml(), read_metrics(logs / METRICS_FILE))


def _name(path: Path) -> str:
    """Name of the network of a config: that of its file, or of the folder of a ``config.yaml``."""
    return path.resolve().parent.name if path.name == CONFIG_FILE else path.stem


def _held_out_files(
    networks: Sequence[tuple[Config, ...] | Path],
    models: Sequence[TrainedModel],
    settings: EvaluateSettings,
) -> list[Path]:
    """The files of the held-out events, which no network has seen, and no calibration."""
    first = models[0].config
    if not settings.test_data:
        first.require("test_data_file")
    key = "--test-data" if settings.test_data else "test_data_file"
    files = find_files(settings.test_data or first.data_files.test_data_file, key)
    for network, model in zip(networks, models, strict=True):
        read_with = _config(model, settings.tables)
        check_how_files_were_made(model, read_with, files, settings.ignore_mismatch)
        if model.calibration is not None:
            recorded = recorded_files(model.calibration)
            refuse_recorded(recorded, files, model.name, settings.options.allow_overlap)
        # none where it was trained elsewhere
        if isinstance(network, Path):
            seen = files_recorded(network, model.config)
        else:
            seen = files_seen(network)
        refuse_overlap(seen, files, settings.options.allow_overlap)
    return files


def _store(network: tuple[Config, ...] | Path, config: Config, settings: EvaluateSettings) -> str:
    """Folder of the event store; that of a model folder may have been on another machine."""
    is_folder = isinstance(network, Path)
    elsewhere = settings.out / "event_store" if is_folder else config.event_store
    return store_folder(config, settings.options.cache_dir, elsewhere)
