"""Trained networks and held-out events: what they say of them, told side by side."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

from dnn_reco.config import Config
from dnn_reco.data.build import open_events
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.from_config import event_store, label_weight
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.evaluation.comparison import (
    Comparison,
    Mask,
    ModelResult,
    compare,
    energy_residual,
    event_types,
)
from dnn_reco.evaluation.comparison_report import (
    TrainingCost,
    as_plain,
    markdown_report,
    sum_of_costs,
    text_report,
)
from dnn_reco.evaluation.directions import (
    credible_level,
    direction_columns,
    opening_angle_degrees,
)
from dnn_reco.files import temporary_beside, write_atomically
from dnn_reco.inference.reconstructor import Predictions, mix, predict
from dnn_reco.inference.trained_model import trained_networks, trained_spec
from dnn_reco.nn.ensemble import Ensemble, mean_direction
from dnn_reco.nn.interface import LabelKeys, Network, NetworkSpec
from dnn_reco.nn.label_transform import LabelTransform
from dnn_reco.nn.predictor import allow_tf32

_log = logging.getLogger(__name__)

ENSEMBLE = "ensemble"
# Labels that may hold the energy [GeV], besides that of `label_particle_keys`.
_ENERGIES = ("EnergyVisible", "PrimaryEnergy")
_FIGURES = {"opening_angle", "energy", "pulls"}


@dataclass(frozen=True)
class TrainedModel:
    """A trained network, or several as one.

    Attributes
    ----------
    name
        What it is called.
    labels
        Names of the labels that it learnt.
    spec
        What it knows of the data.
    network
        Ready to predict, on its device.
    """

    name: str
    labels: tuple[str, ...]
    spec: NetworkSpec
    network: Network

    @property
    def num_weights(self) -> int:
        """Number of its trainable weights."""
        return sum(p.numel() for _, p in self.network.named_parameters() if p.requires_grad)

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return next(parameter.device for _, parameter in self.network.named_parameters())


@dataclass(frozen=True)
class ModelPredictions:
    """What a network says of the held-out events.

    Attributes
    ----------
    of
        The network.
    said
        Its predictions, and the truth.
    """

    of: TrainedModel
    said: Predictions

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of all labels, in order."""
        return self.of.spec.label_names

    @property
    def keys(self) -> LabelKeys:
        """Names of special labels."""
        return self.of.spec.label_keys

    def true(self) -> dict[str, NDArray[np.float64]]:
        """True labels [n] by name."""
        return {name: self.said.true[:, i] for i, name in enumerate(self.label_names)}


def trained_by(
    config: Config, name: str, device: torch.device, num_checkpoints: int
) -> TrainedModel:
    """The newest checkpoints of a training as one network.

    Parameters
    ----------
    config
        What it was trained with.
    name
        What to call it.
    device
        Where to put it.
    num_checkpoints
        How many checkpoints to take.
    """
    spec = trained_spec(config)
    labels = trained_labels(config, spec)
    networks = trained_networks(config, spec, device, num_checkpoints)
    looks = [TrainedModel(name, labels, spec, network) for network in networks]
    return looks[0] if len(looks) == 1 else ensemble_of(name, looks)


def trained_labels(config: Config, spec: NetworkSpec) -> tuple[str, ...]:
    """Names of the labels that a training of this config learns."""
    return tuple(name for name in spec.label_names if label_weight(config, name) > 0)


def ensemble_of(name: str, trained: Sequence[TrainedModel]) -> TrainedModel:
    """Several networks as the mixture of their densities."""
    first = trained[0]
    labels = tuple(label for label in first.labels if all(label in each.labels for each in trained))
    network = Ensemble([each.network for each in trained], first.spec)
    network.to(first.device)
    return TrainedModel(name, labels, first.spec, network)


def open_held_out(
    config: Config, files: Sequence[Path], cache_dir: str, num_threads: int
) -> EventDataset:
    """The events of files as a network of this config sees them."""
    jobs = min(config.general.num_jobs, num_threads)
    return open_events(event_store(config, cache_dir), files, jobs)


def check_comparable(
    names: Sequence[str], held_out: Sequence[EventDataset], ensemble: bool
) -> None:
    """Check that filters and the like leave the same events of the same files.

    Parameters
    ----------
    names
        Names of the networks.
    held_out
        The events as each sees them.
    ensemble
        Whether all together shall be one: then the labels must be the same, too.

    Raises
    ------
    DataError
        Naming two networks that see other events.
    ConfigError
        Naming two networks of other labels.
    """
    first, *others = [_ids(events) for events in held_out]
    for name, ids in zip(names[1:], others, strict=True):
        if not np.array_equal(first, ids):
            missing, more = (len(np.setdiff1d(a, b)) for a, b in ((first, ids), (ids, first)))
            raise DataError(
                f"'{names[0]}' and '{name}' keep other events of the same held-out files: the "
                f"former has {missing} which the latter lacks, and lacks {more} which that has. "
                "Give both the same filter_* keys and data_handler_nan_fill_value, and labels that "
                "are known for the same events"
            )
    for name, events in zip(names, held_out, strict=True):
        if ensemble and events.names.labels != held_out[0].names.labels:
            raise ConfigError(
                f"--ensemble needs networks of the same labels in the same order; those of "
                f"'{name}' differ from those of '{names[0]}': give both the same label keys"
            )


def _ids(events: EventDataset) -> NDArray[np.void]:
    return events.read(np.arange(len(events)), hits_of=slice(0, 0)).ids


def check_ensemble(names: Sequence[str]) -> None:
    """Check that these networks can be compared with all of them together."""
    if len(names) == 1 or ENSEMBLE in names:
        raise ConfigError(
            f"--ensemble needs at least two networks, none of them called '{ENSEMBLE}'; there are: "
            f"{', '.join(names)}"
        )


def evaluate(
    trained: Sequence[TrainedModel],
    costs: Sequence[TrainingCost],
    held_out: Sequence[EventDataset],
    ensemble: bool,
    num_threads: int,
    out: Path,
) -> None:
    """Let networks reconstruct the held-out events; compare, print, and write the files.

    Parameters
    ----------
    trained
        The networks.
    efforts
        What each took to train.
    held_out
        The events as each sees them.
    ensemble
        Whether all together are one more.
    num_threads
        CPU threads to use.
    out
        Folder to write to.
    """
    torch.set_num_threads(num_threads)
    allow_tf32(False)  # the same digits for all, whatever a training before used
    answers = [_ask(each, events) for each, events in zip(trained, held_out, strict=True)]
    if ensemble:
        said = mix([each.said for each in answers], trained[0].spec)
        answers.append(ModelPredictions(ensemble_of(ENSEMBLE, trained), said))
        costs = [*costs, sum_of_costs(costs)]
    by_name = {each.of.name: cost for each, cost in zip(answers, costs, strict=True)}
    label = _energy_label(answers)
    results = [_contender(each, label) for each in answers]
    types = _event_types(answers)
    energy = None if label is None else _true(answers, label)
    comparison = compare(results, types, energy, label)
    click.echo(text_report(comparison, by_name))
    write_atomically(
        out / "comparison.json", json.dumps(as_plain(comparison, by_name), indent=1).encode()
    )
    write_atomically(out / "comparison.md", markdown_report(comparison, by_name).encode())
    _draw(results, types, energy, comparison, out)
    _log.info("Written: comparison.json, comparison.md and figures in '%s'.", out)


def _ask(trained: TrainedModel, events: EventDataset) -> ModelPredictions:
    """What a network says of events."""
    transform = LabelTransform(trained.spec.transformation).to(trained.device)
    _log.info("%s: reconstruction of the %s held-out events.", trained.name, f"{len(events):,}")
    azimuth = trained.spec.label_keys.azimuth
    return ModelPredictions(trained, predict(trained.network, transform, azimuth, events))


def _energy_label(answers: Sequence[ModelPredictions]) -> str | None:
    """The label of the energy: one that is trained, if there is such a one."""
    particles = [each.keys.particle["energy"] for each in answers if "energy" in each.keys.particle]
    trained = {name for each in answers for name in each.of.labels}
    known = {name for each in answers for name in each.label_names}
    candidates = [*particles, *_ENERGIES]
    of_trained = (name for name in candidates if name in trained)
    return next(of_trained, next((name for name in candidates if name in known), None))


def _event_types(answers: Sequence[ModelPredictions]) -> dict[str, Mask]:
    """Event types by the labels of that network whose labels tell most."""
    found = [event_types(each.true(), len(each.said.true)) for each in answers]
    return max(found, key=len)


def _true(answers: Sequence[ModelPredictions], label: str) -> NDArray[np.float64]:
    return next(each.true()[label] for each in answers if label in each.label_names)


def _contender(answers: ModelPredictions, energy_label: str | None) -> ModelResult:
    said, names, learnt = answers.said, answers.label_names, answers.of.labels
    trained = [label if label in learnt else "" for label in names]
    angle = content = None
    for columns in direction_columns(trained, answers.keys):  # the vector wins over the angles
        true, predicted = torch.from_numpy(said.true), torch.from_numpy(said.labels)
        angle = opening_angle_degrees(true, predicted, columns)
        if len(columns) == 3:
            vectors, sigmas = predicted[:, columns], torch.from_numpy(said.uncertainty[:, columns])
            _, kappa = mean_direction(vectors[None], sigmas[None])
            content = credible_level(angle, kappa.numpy())
    residual = None
    if energy_label in learnt:
        column = names.index(energy_label)
        residual = energy_residual(said.labels[:, column], said.true[:, column])
    pulls = {
        label: said.pull[:, names.index(label)]
        for label in learnt
        if label not in answers.keys.pid  # a class is right or wrong
    }
    return ModelResult(answers.of.name, angle, residual, pulls, content)


def _draw(
    results: Sequence[ModelResult],
    types: dict[str, Mask],
    energy: NDArray[np.float64] | None,
    comparison: Comparison,
    out: Path,
) -> None:
    from dnn_reco.evaluation import comparison_plots as plots  # slow, and only needed here

    figures = {}
    label = comparison.energy_label
    if energy is not None and label is not None:
        if any(each.angle is not None for each in results):
            figures["opening_angle"] = plots.opening_angles(results, types, energy, label)
        if any(each.energy_residual is not None for each in results):
            figures["energy"] = plots.energy_residuals(results, types, energy, label)
    shown = sorted({name for each in results for name in each.pulls})
    figures["pulls"] = plots.pull_distributions(results, shown)
    for name in _FIGURES - figures.keys():  # of other networks, that were evaluated before
        (out / f"{name}.png").unlink(missing_ok=True)
    for name, figure in figures.items():
        path = out / f"{name}.png"
        with temporary_beside(path) as folder:
            figure.savefig(folder / path.name, dpi=150)
            (folder / path.name).replace(path)
