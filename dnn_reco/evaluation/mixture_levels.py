"""Levels of the truth in densities that are mixtures (:mod:`dnn_reco.nn.density_layout`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.directions import unit_vectors
from dnn_reco.evaluation.probability import normal_cdf, student_cdf
from dnn_reco.inference.cone import deviation_holding, with_concentration_scaled
from dnn_reco.inference.sky import lattice
from dnn_reco.inference.sphere_flow import flow_log_density, flow_points

Values = NDArray[np.float64]

_NODES = 2048  # of the density of one event
_FEW_NODES = 512  # where a level is computed again and again
_FEWEST_NODES = 64  # of a component
_AT_ONCE = 4_000_000  # numbers in memory
_LARGEST_LOG_FACTOR, _BISECTIONS = 4.0, 12


def mixture_cdf(components: Values, deviation: Values) -> Values:
    """Probability [n] below a deviation of the true value from the label, in units of σ [n].

    Parameters
    ----------
    components
        Components of each density [n, K, 3] (normal) or [n, K, 4] (Student's t).
    deviation
        True value minus label over σ [n].
    """
    log_weight, offset, scale, *freedom = np.moveaxis(components, 2, 0)
    pull = (deviation[:, None] - offset) / scale
    of_component = student_cdf(pull, freedom[0]) if freedom else normal_cdf(pull)
    return np.asarray((np.exp(log_weight) * of_component).sum(axis=1))


def mixture_level(
    components: Values, true: Values, is_flow: bool = False, num_nodes: int = _NODES
) -> Values:
    """Credible level [n] of true directions [n, 3]: the probability of all that is denser.

    The density is represented by points of equal probability of each component, so that levels are
    exact to some 1e-3.

    Parameters
    ----------
    components
        Components of each density [n, K, parameters]; NaN: unknown.
    true
        True directions, vectors of any length.
    is_flow
        Whether they are flows, not von Mises-Fisher distributions.
    num_nodes
        How many points represent a density.
    """
    num_events, num_components = components.shape[:2]
    nodes = max(num_nodes // num_components, _FEWEST_NODES)
    at_once = max(_AT_ONCE // (nodes * num_components**2), 1)
    level = np.full(num_events, np.nan)
    vectors = unit_vectors(true)
    known = np.isfinite(components).all(axis=(1, 2)) & np.isfinite(vectors).all(axis=1)
    chosen = np.flatnonzero(known)
    for start in range(0, len(chosen), at_once):
        part = chosen[start : start + at_once]
        of_part = components[part], vectors[part], nodes
        level[part] = _flow_levels(*of_part) if is_flow else _levels(*of_part)
    return level


def needed_factor(components: Values, true: Values, level: float, is_flow: bool = False) -> Values:
    """Factor [n] on the concentrations of densities that brings true directions to a level.

    The larger it is, the denser the density, and the farther out the true direction. By bisection
    of its logarithm between e⁻⁴ and e⁴, exact to 1e-2; at the end where there is none between.

    Parameters
    ----------
    components, true, is_flow
        As for :func:`mixture_level`.
    level
        The credible level, 0 … 1.
    """
    low = np.full(len(components), -_LARGEST_LOG_FACTOR)
    high = -low
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        scaled = with_concentration_scaled(components, np.exp(middle))
        is_inside = mixture_level(scaled, true, is_flow, _FEW_NODES) < level
        low, high = np.where(is_inside, middle, low), np.where(is_inside, high, middle)
    unknown = np.isnan(mixture_level(components, true, is_flow, _FEW_NODES))
    return np.where(unknown, np.nan, np.exp((low + high) / 2))


def _levels(components: Values, true: Values, num_nodes: int) -> Values:
    """Credible levels of some events, by so many points of each component."""
    weight, natural = np.exp(components[..., 0]), components[..., 1:]
    kappa = np.linalg.norm(natural, axis=2)
    axis = natural / kappa[..., None]
    points = _points(axis, kappa, num_nodes)
    of_points = _log_density(weight, axis, kappa, points.reshape(len(points), -1, 3))
    return _share_above(weight, of_points, _log_density(weight, axis, kappa, true[:, None]))


def _flow_levels(components: Values, true: Values, num_nodes: int) -> Values:
    """The same of flows."""
    weight, flows = np.exp(components[..., 0]), np.moveaxis(components[..., 1:], 1, 0)
    at = lattice(num_nodes)
    points = np.concatenate([flow_points(each, *at) for each in flows], axis=1)
    of_points, of_true = (
        np.log(
            sum(
                weight[:, i, None] * np.exp(flow_log_density(each, vectors))
                for i, each in enumerate(flows)
            )
        )
        for vectors in (points, true[:, None])
    )
    return _share_above(weight, of_points, of_true)


def _share_above(weight: Values, of_points: Values, of_true: Values) -> Values:
    """Probability [n] of all that is denser, by log densities of points [n, K m] and truth [n, 1].

    There are m points of equal probability of each of the components with weights [n, K].
    """
    is_denser = (of_points > of_true).reshape(*weight.shape, -1)
    return np.asarray((weight * is_denser.mean(axis=2)).sum(axis=1))


def _points(axis: Values, kappa: Values, number: int) -> Values:
    """Points of equal probability of von Mises-Fisher distributions, [n, K, points, 3]."""
    level, turn = lattice(number)
    deviation = deviation_holding(kappa[..., None], level)
    sine = np.sqrt(np.clip(deviation * (2 - deviation), 0, 1))
    # a vector across the axis, from the coordinate along which the axis is shortest
    other = np.eye(3)[np.argmin(np.abs(axis), axis=2)]
    first = unit_vectors(np.cross(axis, other))
    second = np.cross(axis, first)
    around = 2 * np.pi * turn
    parts = (
        ((1 - deviation), axis),
        (sine * np.cos(around), first),
        (sine * np.sin(around), second),
    )
    return np.asarray(sum(length[..., None] * vector[:, :, None] for length, vector in parts))


def _log_density(weight: Values, axis: Values, kappa: Values, vectors: Values) -> Values:
    """Log densities [n, m] of vectors [n, m, 3]."""
    norm = np.log(-kappa / (2 * np.pi * np.expm1(-2 * kappa)))
    with np.errstate(divide="ignore"):
        constant = np.log(weight) + norm - kappa
    # κ (1 - cos ψ) loses 1e-16 κ, which is below 1e-9
    exponent = constant[:, None] + vectors @ np.swapaxes(axis * kappa[..., None], 1, 2)
    largest = exponent.max(axis=2, keepdims=True)
    return np.asarray(np.log(np.exp(exponent - largest).sum(axis=2)) + largest[..., 0])
