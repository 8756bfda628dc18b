"""How reconstructions change when the hits do: noise, dead DOMs, times and charges.

Noise, dead DOMs and the scatter of times and charges of single DOMs are those of augmentation in
training (:class:`dnn_reco.nn.augmentation.Augmentation`), here with NumPy hits. What is drawn for
an event depends on the seed and on its number alone, not on how the events are divided into chunks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.data.hits import Hits
from dnn_reco.detector.geometry import NUM_DOMS
from dnn_reco.evaluation import residuals
from dnn_reco.evaluation.coverage import pull_moments
from dnn_reco.evaluation.credible_levels import direction_level, label_deviations
from dnn_reco.evaluation.held_out_events import (
    BATCH_SIZE,
    hits_of,
    predict_held_out,
    reconstruction_of,
)
from dnn_reco.evaluation.metrics import (
    ValueWithError,
    central_width,
    energy_residual,
    known_only,
    quantile,
)
from dnn_reco.evaluation.probability import share_of
from dnn_reco.evaluation.reconstruction import Evaluation, Reconstruction, TrueEvents
from dnn_reco.inference.prediction_table import PredictionTable
from dnn_reco.inference.trained_model import TrainedModel
from dnn_reco.nn.augmentation import Augmentation
from dnn_reco.nn.sharded_batch import BatchShard, batch_shard
from dnn_reco.nn.tokens import AUTO, FeatureRoles

_log = logging.getLogger(__name__)

UNCHANGED = "unchanged"
_PERCENT = 68

Predict = Callable[[Iterator[Hits]], PredictionTable]
"""Predicts all events of chunks of hits, in their order."""
Matrix = Mapping[str, Mapping[str, ValueWithError]]
"""Figures of merit by change of the hits."""
Change = Callable[[Hits, int], Hits]
"""Changes the hits of a chunk, whose first event has a number."""


@dataclass(frozen=True)
class Perturbation:
    """A change of the hits.

    Attributes
    ----------
    kind, strength
        What is changed, and how much, for tables and figures.
    change
        The changed hits of a chunk of events, from them and the number of the first event.
    """

    kind: str
    strength: str
    change: Change

    @property
    def name(self) -> str:
        """Its name in tables and figures."""
        return f"{self.kind}: {self.strength}"


def perturbations(roles: FeatureRoles, seed: int = 1) -> list[Perturbation]:
    """Changes of four kinds at two or three strengths each, as far as the features allow.

    Parameters
    ----------
    roles
        The roles of the input features; without times and charges these are not changed.
    seed
        Seed of all random numbers.
    """

    def augmented(kind: str, strength: str, **settings: float) -> Perturbation:
        augmentation = Augmentation(**settings)  # type: ignore[arg-type]

        def change(hits: Hits, first: int) -> Hits:
            return augment(hits, augmentation, roles, seed, first)

        return Perturbation(kind, strength, change)

    def shifted(shift: float) -> Perturbation:
        return Perturbation(
            "time shift of events",
            f"{shift:+g} ns",
            lambda hits, _: shift_times(hits, roles, shift),
        )

    def scaled(factor: float) -> Perturbation:
        return Perturbation(
            "charge scale", f"× {factor:g}", lambda hits, _: scale_charges(hits, roles, factor)
        )

    found = []
    if roles.time is not None:
        found += [augmented("noise", f"+{n} hits", noise_hits=n) for n in (5, 10, 20)]
    found += [augmented("dead DOMs", f"{100 * p:g} %", drop_doms=p) for p in (0.05, 0.1, 0.2)]
    if roles.time is not None:
        found += [augmented("DOM times", f"± {t} ns", jitter_times=t) for t in (5, 20)]
        found += [shifted(shift) for shift in (-100.0, 100.0)]
    if roles.charges:
        found += [scaled(factor) for factor in (0.8, 0.9, 1.1, 1.2)]
        found += [augmented("DOM charges", f"± {100 * s:g} %", vary_charges=s) for s in (0.1, 0.3)]
    return found


def augment(
    hits: Hits, augmentation: Augmentation, roles: FeatureRoles, seed: int, first: int
) -> Hits:
    """Hits after the random changes of augmentation, without rotation.

    Parameters
    ----------
    hits
        Hits of n events.
    augmentation
        What is changed.
    roles
        The roles of the input features.
    seed
        Seed of the random numbers; PyTorch's own generator is left as it was.
    first
        Number of the first event: an event of a number is always changed alike.
    """
    shard = BatchShard(first + hits.num_events, first, lambda x: x)
    with torch.random.fork_rng(devices=[]), batch_shard(shard):
        torch.manual_seed(seed)
        changed = augmentation.apply(HitBatch.from_hits(hits), roles)
    event, dom = changed.event.numpy(), changed.dom.numpy()
    # noise may hit a DOM twice: the first one counts
    _, kept = np.unique(event * NUM_DOMS + dom, return_index=True)
    offsets = np.searchsorted(event[kept], np.arange(hits.num_events + 1))
    return Hits(offsets, dom[kept].astype(hits.dom.dtype), changed.features.numpy()[kept])


def shift_times(hits: Hits, roles: FeatureRoles, shift: float) -> Hits:
    """Hits with all times shifted [ns], as by another time offset."""
    features = hits.features.copy()
    features[:, list(roles.times)] += np.asarray(shift, dtype=features.dtype)
    return replace(hits, features=features)


def scale_charges(hits: Hits, roles: FeatureRoles, factor: float) -> Hits:
    """Hits with all charges multiplied, as by another efficiency of the DOMs."""
    features = hits.features.copy()
    features[:, list(roles.scaling)] *= np.asarray(factor, dtype=features.dtype)
    return replace(hits, features=features)


def perturbed_chunks(perturbation: Perturbation, chunks: Iterable[Hits]) -> Iterator[Hits]:
    """The changed hits of all events, chunk by chunk."""
    first = 0
    for hits in chunks:
        yield perturbation.change(hits, first)
        first += hits.num_events


def perturbed_reconstructions(
    reconstruction: Reconstruction,
    predict: Predict,
    chunks: Callable[[], Iterable[Hits]],
    changes: Iterable[Perturbation],
) -> dict[str, Reconstruction]:
    """What a model reconstructs from the unchanged hits and from each change of them, by its name.

    Parameters
    ----------
    reconstruction
        What it reconstructs from the unchanged hits.
    predict
        Predicts the same labels for all events.
    chunks
        Hits of all events, anew at each call, some events at once.
    changes
        The changes.
    """
    found = {UNCHANGED: reconstruction}
    for each in changes:
        table = predict(perturbed_chunks(each, chunks()))
        found[each.name] = replace(reconstruction, table=table)
    return found


def figures_of_merit(
    reconstruction: Reconstruction, events: TrueEvents
) -> dict[str, ValueWithError]:
    """Measures of whether a reconstruction has become worse.

    Returns
    -------
    dict
        As far as direction and energy are reconstructed: `median opening angle` in degrees,
        `coverage 68 %` of the direction in percent, `energy width` (half the central 68 % of log10
        of reconstructed over true energy), `energy bias` (its median) and `energy pull width`.
    """
    found: dict[str, ValueWithError] = {}
    angle = residuals.opening_angle(reconstruction, events)
    if angle is not None:
        angle, weights = known_only(angle, events.weights)
        found["median opening angle"] = quantile(angle, 0.5, weights)
    level = direction_level(reconstruction, events)
    if level is not None:
        values, weights = known_only(level, events.weights)
        share = share_of(values < _PERCENT / 100, weights)
        error = (share.high - share.low) / 2
        found[f"coverage {_PERCENT} %"] = ValueWithError(100 * share.value, 100 * error)
    energy = residuals.energy_label(Evaluation(events, (reconstruction,)))
    if energy is not None and energy in reconstruction.table.label_names:
        residual = energy_residual(reconstruction.table[energy], events.labels[energy])
        residual, weights = known_only(residual, events.weights)
        found["energy width"] = central_width(residual, weights)
        found["energy bias"] = quantile(residual, 0.5, weights)
        deviations = label_deviations(reconstruction, events)
        if energy in deviations:
            found["energy pull width"] = pull_moments(deviations[energy].pull, events.weights)[2]
    return found


def robustness_matrix(
    reconstructions: Mapping[str, Reconstruction], events: TrueEvents
) -> dict[str, dict[str, ValueWithError]]:
    """Figures of merit by perturbation; see :func:`figures_of_merit`."""
    return {name: figures_of_merit(each, events) for name, each in reconstructions.items()}


def robustness_of_models(
    models: Sequence[TrainedModel], held_out: Sequence[EventDataset], evaluation: Evaluation
) -> dict[str, Matrix]:
    """Figures of merit of each model, by its name, with unchanged and with changed hits.

    Parameters
    ----------
    models
        The models.
    held_out
        The events with the labels of each.
    evaluation
        What they reconstruct from the unchanged hits, among others.
    """
    known = {each.name: each for each in evaluation.reconstructions}
    found: dict[str, Matrix] = {}
    for model, events in zip(models, held_out, strict=True):
        spec = model.spec
        roles = FeatureRoles.of(spec.num_bins, AUTO, AUTO, AUTO, spec.data_format)
        changes = perturbations(roles)
        _log.info("%s: reconstruction with %d changes of the hits.", model.name, len(changes))

        def predict(
            hits: Iterable[Hits], model: TrainedModel = model, events: EventDataset = events
        ) -> PredictionTable:
            return reconstruction_of(model, predict_held_out(model, events, hits)).table

        def chunks(events: EventDataset = events) -> Iterator[Hits]:
            return hits_of(events, BATCH_SIZE)

        of_model = perturbed_reconstructions(known[model.name], predict, chunks, changes)
        found[model.name] = robustness_matrix(of_model, evaluation.events)
    return found
