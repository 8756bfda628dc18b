"""Fitting a calibration: how predicted widths must change for 68 % of the events to lie inside.

For each event there is a width at which its true value would lie just on the border of its central
68.3 % interval (or 68.3 % cone of its direction). The correction is the quantile regression of the
ratio of that width to the predicted one, so that the stated share of events lies inside, for any
shape of the distribution of errors. Which terms it has is chosen by cross-validation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.directions import opening_angle
from dnn_reco.errors import DataError
from dnn_reco.evaluation.metrics import uncertainty_residual
from dnn_reco.evaluation.mixture_levels import needed_factor
from dnn_reco.evaluation.quantile_regression import fit_quantile, pinball_loss, solve_quantile
from dnn_reco.inference.calibration import (
    Calibration,
    Correction,
    EventFeatures,
    Terms,
    design_matrix,
    event_features,
    num_terms,
    tempered,
)
from dnn_reco.inference.cone import needed_concentration, vector_concentration
from dnn_reco.inference.model_info import ModelInfo
from dnn_reco.nn.density_layout import DIRECTION, PredictedShapes

LEAST_EVENTS = 200
"""Events that a calibration needs at least."""
LEVEL = math.erf(math.sqrt(0.5))
"""Share of events that lie within one standard deviation of a normal distribution, 0.683."""

DENSITY = "direction density"
"""Name of the density of the direction beside those of labels."""

_FOLDS = 5
_MOST_CLASSES = 8
_MOST_DEGREE = 2
_LEAST_RESIDUAL = 1e-9
_RANGE = 0.005, 0.995
_GRID = 50
_MONOTONE_SHARE = 0.999
_LOG_TEMPERATURES = -3.0, 3.0
_PRECISION = 1e-6
_LEAST_PROBABILITY = 1e-9
_TOLERATED_LOSS = 1.05
_LEAST_SKILL = 0.05

Values = NDArray[np.float64]


@dataclass(frozen=True)
class CalibrationEvents:
    """Events that a calibration is fitted to.

    Attributes
    ----------
    labels, uncertainty
        What the network predicts for n events, not calibrated: [n, L], in physical units.
    shapes
        Shapes of the densities that it predicts; None: the default ones.
    true
        True labels [n, L], in physical units.
    num_hits
        Number of hit DOMs [n].
    info
        What the model predicts.
    """

    labels: Values
    uncertainty: Values
    shapes: PredictedShapes | None
    true: Values
    num_hits: NDArray[np.int64]
    info: ModelInfo

    def __len__(self) -> int:
        return len(self.true)

    def select(self, rows: NDArray[np.bool_]) -> CalibrationEvents:
        """Some of the events."""
        return replace(
            self,
            labels=self.labels[rows],
            uncertainty=self.uncertainty[rows],
            shapes=None if self.shapes is None else self.shapes.rows(rows),
            true=self.true[rows],
            num_hits=self.num_hits[rows],
        )

    def corrected(self, calibration: Calibration) -> CalibrationEvents:
        """The same events with calibrated predictions."""
        labels, sigma, shapes = calibration.correct(
            self.labels, self.uncertainty, self.shapes, self.num_hits, self.info
        )
        return replace(self, labels=labels, uncertainty=sigma, shapes=shapes)


def fit_calibration(events: CalibrationEvents, true_classes: bool = True) -> Calibration:
    """Fit the corrections of all trained labels; their terms are chosen by cross-validation.

    Parameters
    ----------
    events
        Events that the network was not trained with.
    true_classes
        Whether coverage is to be right among events of each true class, as far as predicted
        classes allow it; else it is right among events that are alike in what is reconstructed.

    Raises
    ------
    DataError
        If there are too few events, or a label is called as the direction vector.
    """
    for name in {DIRECTION, DENSITY} & set(events.info.trained_labels):
        raise DataError(
            f"a label is called '{name}', a name reserved for the direction vector: a model with "
            "it cannot be calibrated"
        )
    if len(events) < LEAST_EVENTS:
        raise DataError(
            f"a calibration needs at least {LEAST_EVENTS} events, there are {len(events)}: give "
            "more files with --data"
        )
    return _fit(events, lambda _, target: choose_terms(target), true_classes)


def cross_fitted(
    events: CalibrationEvents, calibration: Calibration, true_classes: bool = True
) -> CalibrationEvents:
    """The events with predictions that are calibrated by corrections fitted without each event.

    Parameters
    ----------
    events
        Events that a calibration was fitted to.
    calibration
        That calibration, whose terms are used.
    true_classes
        As for :func:`fit_calibration`.
    """
    labels, sigma = events.labels.copy(), events.uncertainty.copy()
    shapes = events.shapes and replace(events.shapes, values=events.shapes.values.copy())
    for fold in _folds(len(events)):
        others = events.select(~fold)
        fitted = _fit(others, lambda name, _: _terms_of(calibration, name), true_classes)
        corrected = events.select(fold).corrected(fitted)
        labels[fold], sigma[fold] = corrected.labels, corrected.uncertainty
        if shapes is not None and corrected.shapes is not None:
            shapes.values[fold] = corrected.shapes.values
    return replace(events, labels=labels, uncertainty=sigma, shapes=shapes)


def inside(events: CalibrationEvents) -> dict[str, NDArray[np.bool_]]:
    """Whether each event [n] lies inside of its central 68.3 % interval or cone, by label.

    The direction vector is the one entry "direction"; where its density is a mixture or a flow,
    the region of that which holds 68.3 % is the entry "direction density".
    """
    classes = np.zeros((len(events), 0))
    return {
        name: target.needed > 0 if name in (DIRECTION, DENSITY) else target.needed < 0
        for name, target in _targets(events, classes)
    }


@dataclass(frozen=True)
class Target:
    """What a correction is fitted to, for n events.

    Attributes
    ----------
    features
        What it may depend on.
    needed
        Logarithm [n] of the factor that would bring the true value to the border.
    share
        Share of the events for which the factor must be larger than the one needed.
    instruments
        The features with the true classes, if the share is to be right in each of them; None: it is
        to be right given the features.
    """

    features: EventFeatures
    needed: Values
    share: float
    instruments: EventFeatures | None = None

    def select(self, rows: NDArray[np.bool_]) -> Target:
        """Some of the events."""
        instruments = None if self.instruments is None else self.instruments.select(rows)
        return Target(self.features.select(rows), self.needed[rows], self.share, instruments)


def _fit(
    events: CalibrationEvents, terms_for: Callable[[str, Target], Terms], true_classes: bool
) -> Calibration:
    """Fit temperatures, then the corrections, which depend on calibrated classes."""
    names = events.info.label_names
    labels = events.labels.copy()
    temperatures = {}
    for each in events.info.labels:
        if each.is_class and each.is_trained:
            column = names.index(each.name)
            temperature = fit_temperature(labels[:, column], events.true[:, column])
            temperatures[each.name] = temperature
            labels[:, column] = tempered(labels[:, column], temperature)
    known = [each for each in temperatures if _is_informative(events, names.index(each))]
    classes = tuple(known)[:_MOST_CLASSES]
    columns = [names.index(name) for name in classes]
    corrections = {}
    for name, target in _targets(events, labels[:, columns]):
        if true_classes:
            instruments = replace(target.features, classes=events.true[:, columns])
            target = replace(target, instruments=instruments)
        usable = _usable(name, target)
        corrections[name] = fit_correction(usable, terms_for(name, usable))
    direction, density = (corrections.pop(name, None) for name in (DIRECTION, DENSITY))
    return Calibration(corrections, direction, temperatures, classes, density=density)


def _is_informative(events: CalibrationEvents, column: int) -> bool:
    """Whether predicted probabilities of a class explain a part of the variance of the true one."""
    true = events.true[:, column]
    wrong = np.square(true - events.labels[:, column])
    return bool(np.nanmean(wrong) <= (1 - _LEAST_SKILL) * np.nanvar(true))


def _usable(name: str, target: Target) -> Target:
    """The events with a known truth and a valid width.

    Raises
    ------
    DataError
        If there are next to none.
    """
    features = (target.features, target.instruments or target.features)
    parts = (target.needed, *(each.log_width + each.classes.sum(axis=1) for each in features))
    found = target.select(np.isfinite(np.sum(parts, axis=0)))
    if len(found.needed) < LEAST_EVENTS // 2:
        raise DataError(
            f"'{name}' cannot be calibrated: only {len(found.needed)} of the events have a true "
            "value and a valid uncertainty of it"
        )
    return found


def _terms_of(calibration: Calibration, name: str) -> Terms:
    of_direction = {DIRECTION: calibration.direction, DENSITY: calibration.density}.get(name)
    if of_direction is not None:
        return of_direction.terms
    return calibration.widths[name].terms


def _targets(events: CalibrationEvents, classes: Values) -> Iterator[tuple[str, Target]]:
    """Targets of the labels that have a width, and of the direction."""
    info = events.info
    names = info.label_names
    is_whole = info.direction is not None and set(info.direction) <= set(info.trained_labels)
    vector = (info.direction or ()) if is_whole else ()
    for label in info.labels:
        if not label.is_trained or label.is_class or label.name in vector:
            continue
        column = names.index(label.name)
        sigma = events.uncertainty[:, column]
        residual = uncertainty_residual(
            events.labels[:, column],
            events.true[:, column],
            label.has_log,
            label.name == info.azimuth,
        )
        with np.errstate(divide="ignore", invalid="ignore"):  # of widths that are 0
            needed = np.log(np.maximum(np.abs(residual), _LEAST_RESIDUAL) / sigma)
        features = event_features(sigma, events.num_hits, classes)
        yield label.name, Target(features, needed, LEVEL)
    if vector:
        columns = [names.index(name) for name in vector]
        kappa = vector_concentration(events.uncertainty[:, columns])
        vectors = (events.labels[:, columns], events.true[:, columns])
        needed = np.log(needed_concentration(opening_angle(*vectors), LEVEL) / kappa)
        features = event_features(kappa, events.num_hits, classes)
        # the larger the concentration, the smaller the cone
        yield DIRECTION, Target(features, needed, 1 - LEVEL)
        components = None if events.shapes is None else events.shapes.of(DIRECTION)
        if events.shapes is not None and components is not None:
            is_flow = events.shapes.kind(DIRECTION) == "flow"
            factor = needed_factor(components, events.true[:, columns], LEVEL, is_flow)
            yield DENSITY, Target(features, np.log(factor), 1 - LEVEL)


def fit_correction(target: Target, terms: Terms) -> Correction:
    """Fit a correction with given terms; only with those of classes are instruments used."""
    features = target.features
    ranges = [_range(features.log_width), _range(features.log_hits)]
    matrix = design_matrix(terms, features, *ranges)
    if target.instruments is None or not terms.uses_classes:
        coefficients = fit_quantile(matrix, target.needed, target.share)
    else:
        weights = design_matrix(terms, target.instruments, *ranges)
        coefficients = solve_quantile(matrix, weights, target.needed, target.share)
    return Correction(terms, tuple(coefficients.tolist()), *ranges)


def choose_terms(target: Target) -> Terms:
    """The terms with the smallest pinball loss of events that they were not fitted to.

    Of those that no more than one standard error separates from the best, the simplest is taken.
    A correction that would not keep the order of widths is left out. With instruments, it is a
    factor that depends on the predicted classes alone, unless these depend so little on the true
    ones that its loss is clearly larger than that of one factor for all.
    """
    num_classes = target.features.classes.shape[1]
    if target.instruments is not None and num_classes:
        by_class, common = (_held_out_loss(target, Terms(0, False, use)) for use in (True, False))
        if by_class.mean() <= _TOLERATED_LOSS * common.mean():
            return Terms(0, uses_classes=True)
        num_classes = 0
    candidates = [
        Terms(degree, uses_hits, uses_classes)
        for uses_classes in ((False, True) if num_classes else (False,))
        for uses_hits in (False, True)
        for degree in range(_MOST_DEGREE + 1)
    ]
    losses = {}
    for terms in candidates:
        if is_monotone(fit_correction(target, terms), target.features):
            losses[terms] = _held_out_loss(target, terms)
    best = min(losses.values(), key=np.mean)
    for terms in sorted(losses, key=lambda each: num_terms(each, num_classes)):
        worse = losses[terms] - best
        if worse.mean() <= worse.std() / math.sqrt(len(worse)):
            return terms
    raise AssertionError("the best of the terms is not worse than itself")


def is_monotone(correction: Correction, features: EventFeatures) -> bool:
    """Whether corrected widths of events alike but for the predicted width grow with it."""
    low, high = correction.width_range
    step = (high - low) / _GRID
    shift = replace(features, log_width=np.clip(features.log_width, low, high - step))
    moved = replace(shift, log_width=shift.log_width + step)
    gained = correction.log_factor(moved) - correction.log_factor(shift)
    return bool((gained + step >= 0).mean() >= _MONOTONE_SHARE)


def _held_out_loss(target: Target, terms: Terms) -> Values:
    """Pinball loss [n] of each event by the correction that was fitted without it."""
    losses = np.zeros(len(target.needed))
    for fold in _folds(len(losses)):
        correction = fit_correction(target.select(~fold), terms)
        held_out = target.select(fold)
        factor = correction.log_factor(held_out.features)
        losses[fold] = pinball_loss(held_out.needed, factor, target.share)
    return losses


def _folds(num_events: int) -> Iterator[NDArray[np.bool_]]:
    """Masks of the events of each fold."""
    fold = np.random.default_rng(0).permutation(num_events) % _FOLDS
    return (fold == number for number in range(_FOLDS))


def _range(values: Values) -> tuple[float, float]:
    """Where all but a few events lie."""
    low, high = np.quantile(values, _RANGE)
    return float(low), float(high)


def fit_temperature(probability: Values, true: Values) -> float:
    """The temperature of a class with the smallest cross entropy (Guo et al., arXiv:1706.04599).

    It is 1 where all events belong to the class, or none does.

    Parameters
    ----------
    probability
        Predicted probabilities [n].
    true
        Whether each event belongs to the class [n], 0 … 1.
    """
    known = np.isfinite(probability) & np.isfinite(true)

    def cross_entropy(log_temperature: float) -> float:
        p = tempered(probability[known], math.exp(log_temperature))
        p = np.clip(p, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
        return float(-np.mean(true[known] * np.log(p) + (1 - true[known]) * np.log(1 - p)))

    has_both = known.any() and true[known].min() < 0.5 < true[known].max()
    return math.exp(_minimum(cross_entropy, *_LOG_TEMPERATURES)) if has_both else 1.0


def _minimum(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one minimum is smallest, by golden-section search."""
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > _PRECISION:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return (low + high) / 2
