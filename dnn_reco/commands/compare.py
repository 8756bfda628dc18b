"""`compare`: train several configs on the same events for as long, and evaluate them alike."""

from __future__ import annotations

import importlib
import json
import logging
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

from dnn_reco.commands.comparison_entry import (
    Entry,
    check_budget,
    check_files,
    check_unchanged,
    make_entries,
    tell_schedule,
)
from dnn_reco.commands.needs import iterations_within
from dnn_reco.commands.network import choose_device, trained_network
from dnn_reco.commands.settings import event_store, label_weight
from dnn_reco.commands.trafo import make_transformation
from dnn_reco.commands.train import (
    farewell,
    is_done,
    open_all_data,
    prepare,
    prepare_to_go_on,
    train_stage,
)
from dnn_reco.config import Config
from dnn_reco.data.build import open_events
from dnn_reco.data.event_set import EventSet
from dnn_reco.errors import ConfigError, DataError, TrainingError
from dnn_reco.evaluation.comparison import (
    Comparison,
    Contender,
    Mask,
    compare,
    energy_residual,
    event_types,
)
from dnn_reco.evaluation.comparison_report import (
    Effort,
    as_plain,
    markdown_report,
    sum_of_efforts,
    text_report,
)
from dnn_reco.evaluation.directions import (
    cone_content,
    direction_columns,
    opening_angle_degrees,
)
from dnn_reco.files import temporary_beside, write_atomically
from dnn_reco.inference.predict import Predictions, predict
from dnn_reco.nn.ensemble import Ensemble, mean_direction
from dnn_reco.nn.from_config import network_spec
from dnn_reco.nn.interface import LabelKeys
from dnn_reco.nn.label_transform import LabelTransform
from dnn_reco.nn.predictor import allow_tf32
from dnn_reco.training.engine import Training
from dnn_reco.training.pace import measure_pace
from dnn_reco.training.ranks import Ranks
from dnn_reco.transform import load_transformation
from dnn_reco.workers import available_cpus, processes_of_training

_log = logging.getLogger(__name__)

_PRINT_OUT = "print_out.txt"
_ENSEMBLE = "ensemble"
# Part of a time that is spent, besides, on measuring how many iterations fit into it [s].
_SHARE_TO_MEASURE, _LEAST_SECONDS, _MOST_SECONDS = 0.05, 1.0, 20.0
# Labels that may hold the energy [GeV], besides that of `label_particle_keys`.
_ENERGIES = ("EnergyVisible", "PrimaryEnergy")


@dataclass(frozen=True)
class CompareSettings:
    """How to compare.

    Attributes
    ----------
    seconds, iterations
        The budget of each training: one of the two.
    out
        Folder for all that is written.
    test_data
        Glob patterns of the held-out files; empty: those of the configs.
    allow_overlap
        Whether files may be both trained on and held out.
    seed
        Seed of all trainings; None: that of the first config.
    ensemble
        Whether all networks together are compared as one more.
    device, num_threads, cache_dir, checkpoint_exit_code
        See :func:`dnn_reco.commands.train.run_stages`.
    """

    seconds: float | None
    iterations: int | None
    out: Path
    test_data: tuple[str, ...]
    allow_overlap: bool
    seed: int | None
    ensemble: bool
    device: str
    num_threads: int
    cache_dir: str | None
    checkpoint_exit_code: int | None


@dataclass(frozen=True)
class Answers:
    """What a network says of the held-out events.

    Attributes
    ----------
    label_names, trained
        Names of all labels, and of those that it learnt.
    keys
        Names of special labels.
    said
        Its predictions, and the truth.
    """

    label_names: tuple[str, ...]
    trained: tuple[str, ...]
    keys: LabelKeys
    said: Predictions

    def true(self) -> dict[str, NDArray[np.float64]]:
        """True labels [n] by name."""
        return {name: self.said.true[:, i] for i, name in enumerate(self.label_names)}


def run_compare(configs: Sequence[Config], settings: CompareSettings) -> int:
    """Train all configs with equal budgets, evaluate them, and tell; returns the exit code."""
    if processes_of_training() > 1:
        raise ConfigError("compare runs in one process: start it without torchrun")
    entries = make_entries(
        configs, settings.out, settings.seed, settings.test_data, settings.cache_dir
    )
    check_files(entries, settings.allow_overlap)
    if settings.ensemble:
        _check_ensemble(entries)
    _import_slow_modules()
    try:
        held_out = [_held_out(entry, settings) for entry in entries]
        _check_same_events(entries, held_out)
        if settings.ensemble:
            _check_same_labels(entries, held_out)
        check_budget(settings.out, settings.seconds, settings.iterations)
        for entry in entries:
            _log.info("\nPreparing %s", entry.name)
            _make_ready(entry, settings)
        for number, entry in enumerate(entries, start=1):
            _log.info("\nTraining %s (%d of %d)", entry.name, number, len(entries))
            code = _train(entry, settings)
            if code is not None:
                return code
        answers = [_evaluate([e], of, settings) for e, of in zip(entries, held_out, strict=True)]
        if settings.ensemble:
            answers.append(_evaluate(entries, held_out[0], settings))
    except KeyboardInterrupt:
        _log.info("Stopped. What is trained so far is kept; the same command goes on from there.")
        return 0
    efforts = {entry.name: _effort(entry) for entry in entries}
    if settings.ensemble:
        efforts[_ENSEMBLE] = sum_of_efforts(list(efforts.values()))
    _report(list(efforts), answers, efforts, settings.out)
    return 0


def _import_slow_modules() -> None:
    """Import what the first training would otherwise import at the expense of its own time."""
    for name in ("torch.utils.tensorboard", "dnn_reco.evaluation.plots"):
        importlib.import_module(name)


def _threads(settings: CompareSettings) -> int:
    return settings.num_threads or available_cpus()


def _held_out(entry: Entry, settings: CompareSettings) -> EventSet:
    config = entry.config()
    files = entry.files("test_data_file")
    jobs = min(config.general.num_jobs, _threads(settings))
    return open_events(event_store(config, entry.cache_dir), files, jobs)


def _check_same_events(entries: Sequence[Entry], held_out: Sequence[EventSet]) -> None:
    """Check that filters and the like leave the same events of the same files."""
    first, *others = [_ids(events) for events in held_out]
    for entry, ids in zip(entries[1:], others, strict=True):
        if not np.array_equal(first, ids):
            missing, more = (len(np.setdiff1d(a, b)) for a, b in ((first, ids), (ids, first)))
            raise DataError(
                f"'{entries[0].name}' and '{entry.name}' keep other events of the same held-out "
                f"files: the former has {missing} which the latter lacks, and lacks {more} which "
                "that has. Give both the same filter_* keys and data_handler_nan_fill_value, and "
                "labels that are known for the same events"
            )


def _check_ensemble(entries: Sequence[Entry]) -> None:
    names = [entry.name for entry in entries]
    if len(names) == 1 or _ENSEMBLE in names:
        raise ConfigError(
            f"--ensemble needs at least two configs, none of them called '{_ENSEMBLE}'; there are: "
            f"{', '.join(names)}"
        )


def _check_same_labels(entries: Sequence[Entry], held_out: Sequence[EventSet]) -> None:
    for entry, events in zip(entries, held_out, strict=True):
        if events.names.labels != held_out[0].names.labels:
            raise ConfigError(
                f"--ensemble needs networks of the same labels in the same order; those of "
                f"'{entry.name}' differ from those of '{entries[0].name}': give both the same "
                "label keys"
            )


def _ids(events: EventSet) -> NDArray[np.void]:
    return events.read(np.arange(len(events)), hits_of=slice(0, 0)).ids


def _make_ready(entry: Entry, settings: CompareSettings) -> None:
    """Do all that comes before a training, so that mistakes show before the first one begins."""
    begun = entry.begun()
    if begun is not None:
        check_unchanged(entry, begun)
        return
    tell_schedule(entry)
    make_transformation(entry.config(), settings.num_threads, entry.cache_dir, overwrite=False)
    open_data = partial(open_all_data, cache_dir=entry.cache_dir)
    trial = prepare(entry.config(), settings.device, settings.num_threads, open_data, Ranks())
    iterations = settings.iterations
    if settings.seconds is not None:
        iterations = _iterations_within(settings.seconds, trial, entry)
    assert iterations is not None
    entry.settle(iterations)


def _iterations_within(seconds: float, trial: Training, entry: Entry) -> int:
    """How many iterations of a training fit into a time; the trial is used up in measuring it."""
    measuring = min(max(_SHARE_TO_MEASURE * seconds, _LEAST_SECONDS), _MOST_SECONDS)
    try:
        with temporary_beside(entry.folder) as folder:
            pace = measure_pace(trial, 0, folder, measuring, lambda share: None)
    except TrainingError as error:
        raise TrainingError(
            f"'{entry.name}' diverges in the iterations that were tried: 'dnn-reco train' stops "
            "there, too, and says why"
        ) from error
    iterations = iterations_within(seconds, trial.plan, pace)
    step = pace.step + pace.choosing
    _log.info("An iteration takes %.4g s: %s fit into %g s.", step, f"{iterations:,}", seconds)
    return iterations


def _train(entry: Entry, settings: CompareSettings) -> int | None:
    """Train what is left to train; returns an exit code if a signal came."""
    config = entry.settled()
    if is_done(config):
        _log.info("Trained already, in '%s'.", entry.folder)
        return None
    training = prepare_to_go_on(
        config, settings.device, settings.num_threads, entry.cache_dir, True, Ranks()
    )
    with (entry.folder / _PRINT_OUT).open("a", buffering=1) as file, redirect_stdout(file):
        start = time.perf_counter()
        received, _ = train_stage(training, config)
        entry.add_seconds(time.perf_counter() - start)
    code = farewell(training, received, settings.checkpoint_exit_code)
    return None if received is None else code


def _evaluate(entries: Sequence[Entry], events: EventSet, settings: CompareSettings) -> Answers:
    """What a trained network, or several together, say of the held-out events."""
    config = entries[0].settled()
    device = choose_device(settings.device)
    torch.set_num_threads(_threads(settings))
    allow_tf32(False)  # the same digits for all, whatever the training before used
    transformation = load_transformation(Path(config.trafo.trafo_model_path))
    spec = network_spec(config, transformation)
    networks = [trained_network(entry.settled(), device) for entry in entries]
    network = networks[0] if len(networks) == 1 else Ensemble(networks, spec).to(device)
    label_transform = LabelTransform(transformation).to(device)
    names = " and ".join(entry.name for entry in entries)
    _log.info("%s: reconstruction of the %s held-out events.", names, f"{len(events):,}")
    trained = [
        {name for name in spec.label_names if label_weight(entry.settled(), name) > 0}
        for entry in entries
    ]
    return Answers(
        spec.label_names,
        tuple(name for name in spec.label_names if all(name in each for each in trained)),
        spec.label_keys,
        predict(network, label_transform, spec.label_keys.azimuth, events),
    )


def _effort(entry: Entry) -> Effort:
    config = entry.settled()
    network = trained_network(config, torch.device("cpu"))
    return Effort(
        iterations=config.training.num_training_iterations,
        num_events=config.training.num_training_iterations * config.general.batch_size,
        seconds=entry.seconds,
        num_weights=sum(p.numel() for _, p in network.named_parameters() if p.requires_grad),
    )


def _report(
    names: Sequence[str], answers: Sequence[Answers], efforts: dict[str, Effort], out: Path
) -> None:
    """Compare, print, and write the files."""
    label = _energy_label(answers)
    contenders = [_contender(n, each, label) for n, each in zip(names, answers, strict=True)]
    types = _event_types(answers)
    energy = None if label is None else _true(answers, label)
    comparison = compare(contenders, types, energy, label)
    click.echo(text_report(comparison, efforts))
    write_atomically(
        out / "comparison.json", json.dumps(as_plain(comparison, efforts), indent=1).encode()
    )
    write_atomically(out / "comparison.md", markdown_report(comparison, efforts).encode())
    _draw(contenders, types, energy, comparison, out)
    _log.info("Written: comparison.json, comparison.md and figures in '%s'.", out)


def _energy_label(answers: Sequence[Answers]) -> str | None:
    """The label of the energy: one that is trained, if there is such a one."""
    particles = [each.keys.particle["energy"] for each in answers if "energy" in each.keys.particle]
    trained = {name for each in answers for name in each.trained}
    known = {name for each in answers for name in each.label_names}
    candidates = [*particles, *_ENERGIES]
    of_trained = (name for name in candidates if name in trained)
    return next(of_trained, next((name for name in candidates if name in known), None))


def _event_types(answers: Sequence[Answers]) -> dict[str, Mask]:
    """Event types by the labels of that network whose labels tell most."""
    found = [event_types(each.true(), len(each.said.true)) for each in answers]
    return max(found, key=len)


def _true(answers: Sequence[Answers], label: str) -> NDArray[np.float64]:
    return next(each.true()[label] for each in answers if label in each.label_names)


def _contender(name: str, answers: Answers, energy_label: str | None) -> Contender:
    said, names = answers.said, answers.label_names
    trained = [label if label in answers.trained else "" for label in names]
    angle = content = None
    for columns in direction_columns(trained, answers.keys):  # the vector wins over the angles
        true, predicted = torch.from_numpy(said.true), torch.from_numpy(said.labels)
        angle = opening_angle_degrees(true, predicted, columns)
        if len(columns) == 3:
            vectors, sigmas = predicted[:, columns], torch.from_numpy(said.uncertainty[:, columns])
            _, kappa = mean_direction(vectors[None], sigmas[None])
            content = cone_content(angle, kappa.numpy())
    residual = None
    if energy_label in answers.trained:
        column = names.index(energy_label)
        residual = energy_residual(said.labels[:, column], said.true[:, column])
    pulls = {
        label: said.pull[:, names.index(label)]
        for label in answers.trained
        if label not in answers.keys.pid  # a class is right or wrong
    }
    return Contender(name, angle, residual, pulls, content)


def _draw(
    contenders: Sequence[Contender],
    types: dict[str, Mask],
    energy: NDArray[np.float64] | None,
    comparison: Comparison,
    out: Path,
) -> None:
    from dnn_reco.evaluation import comparison_plots as plots  # slow, and only needed here

    figures = {}
    label = comparison.energy_label
    if energy is not None and label is not None:
        if any(each.angle is not None for each in contenders):
            figures["opening_angle"] = plots.opening_angles(contenders, types, energy, label)
        if any(each.energy_residual is not None for each in contenders):
            figures["energy"] = plots.energy_residuals(contenders, types, energy, label)
    shown = sorted({name for each in contenders for name in each.pulls})
    figures["pulls"] = plots.pull_distributions(contenders, shown)
    for name, figure in figures.items():
        path = out / f"{name}.png"
        with temporary_beside(path) as folder:
            figure.savefig(folder / path.name, dpi=150)
            (folder / path.name).replace(path)
