"""Whether uncertainties are right: pulls, credible levels, and how many events lie inside of them.

The *credible level* of an event is the probability that the reconstruction gives to values nearer
to its own than the true one. If the uncertainties are correct, all levels from 0 to 1 are equally
frequent: 68 % of the events have a level below 0.68. This holds for labels and for directions, in
any selection of events that does not depend on the truth given the prediction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.directions import Plane, vector_of
from dnn_reco.evaluation.metrics import (
    Values,
    ValueWithError,
    central_width,
    event_number,
    known_only,
    mean,
    standard_deviation,
    weights_of,
)
from dnn_reco.evaluation.mixture_levels import mixture_cdf
from dnn_reco.evaluation.probability import (
    Share,
    chi_square_p_value,
    normal_cdf,
    share_of,
)
from dnn_reco.inference.cone import deviation_of, probability_within

PERCENTS = tuple(range(1, 100))
"""Levels of a coverage curve."""
COVERAGE_LEVELS = (50, 68, 90)
"""Levels of which the coverage is given in tables, in percent."""

# Turns of the circle on either side that matter for a Gaussian as wide as the whole circle.
_TURNS = np.arange(-4, 5)


# --------------------------------------------------------------------------------------------------
# Credible levels of directions
# --------------------------------------------------------------------------------------------------
def credible_level(angle: Values, kappa: Values) -> NDArray[np.float64]:
    """Credible level [N] of the opening angle for a von Mises-Fisher distribution.

    That within the true angle: :func:`dnn_reco.inference.cone.probability_within`.

    Parameters
    ----------
    angle
        Opening angle ψ [N], in degrees.
    kappa
        Concentration κ of each prediction [N].
    """
    return probability_within(kappa, deviation_of(np.radians(angle)))


@np.errstate(invalid="ignore", divide="ignore")
def elliptical_level(
    predicted: NDArray[np.float64], sigma: NDArray[np.float64], true: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Credible level [N] of directions given by Gaussian zenith and azimuth.

    The Gaussian lies in the tangent plane at the predicted direction, with the standard deviations
    σ(θ) and sin θ σ(φ) along its axes; the true direction is where its great circle ends that
    starts there. With m² the sum of the squared pulls along the axes, the level is
    1 - exp(-m² / 2).

    Parameters
    ----------
    predicted, sigma, true
        Zenith and azimuth predicted, their uncertainties, and the true ones [N, 2], in radian.
    """
    zenith, azimuth = predicted.T
    across, along = Plane.at(vector_of(zenith, azimuth)).points(vector_of(*true.T))
    pulls = along / sigma[:, 0], across / (sigma[:, 1] * np.sin(zenith))
    return np.asarray(-np.expm1(-np.square(pulls).sum(axis=0) / 2))


# --------------------------------------------------------------------------------------------------
# Pulls and credible levels of labels
# --------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class LabelDeviation:
    """How far predictions of a label are from the truth, for n events.

    Attributes
    ----------
    pull
        Predicted minus true value over the uncertainty [n], in the space of the uncertainty:
        ln(1 + x) for labels with logarithm; of azimuths the smaller way round.
    sigma
        The uncertainty [n].
    is_azimuth
        Whether values repeat after 2π.
    components
        Components [n, K, parameters] of the density, if it has a shape of its own
        (:class:`dnn_reco.nn.density_layout.DensityShape`); None: it is Gaussian.
    """

    pull: NDArray[np.float64]
    sigma: NDArray[np.float64]
    is_azimuth: bool = False
    components: NDArray[np.float64] | None = None

    def pit(self) -> NDArray[np.float64]:
        """Probability [n] that the prediction gives to values below the true one.

        The probability integral transform, uniform from 0 to 1 if the uncertainties are right.
        Values of azimuths start on the far side of the predicted one, and the Gaussian is wrapped
        around the circle.
        """
        if self.components is not None:
            return mixture_cdf(self.components, -self.pull)
        if not self.is_azimuth:
            return normal_cdf(-self.pull)
        turn = 2 * math.pi / self.sigma[:, None]
        turns = turn * _TURNS
        parts = normal_cdf(turns - self.pull[:, None]) - normal_cdf(turns - turn / 2)
        # wider than the circle: all azimuths are equally likely
        flat = 0.5 - self.pull * self.sigma / (2 * math.pi)
        return np.where(self.sigma > 2 * math.pi, flat, parts.sum(axis=1))

    def level(self) -> NDArray[np.float64]:
        """Credible level [n] of the true value."""
        return np.asarray(np.abs(2 * self.pit() - 1))


# --------------------------------------------------------------------------------------------------
# Coverage
# --------------------------------------------------------------------------------------------------
def coverage(
    level: Values, percents: Sequence[int], weights: Values | None = None
) -> dict[int, ValueWithError]:
    """Share of the events with a credible level [N] below each of some percentages."""
    return {
        percent: mean((level < percent / 100).astype(np.float64), weights) for percent in percents
    }


def coverage_curve(
    level: NDArray[np.float64],
    weights: NDArray[np.float64] | None = None,
    percents: Sequence[int] = PERCENTS,
) -> Share:
    """Share of the events inside of each level [P], with Wilson intervals.

    Parameters
    ----------
    level
        Credible levels [n]; events without one (NaN) do not count.
    weights
        Weights [n]; None: all are equal.
    percents
        The levels [P].
    """
    known, of_known = known_only(level, weights)
    shares = [share_of(known < percent / 100, of_known) for percent in percents]
    value, low, high = np.array(shares).T.reshape(3, len(shares))
    return Share(value, low, high)


@dataclass(frozen=True)
class CoverageCell:
    """Coverage and pull width of some events.

    Attributes
    ----------
    number
        How many events there are that have an uncertainty; with weights the effective number.
    shares
        Share of them inside of the credible level, by percentage.
    pull_width
        Half the width of the central 68 % of the pulls; None: there are no pulls.
    """

    number: float
    shares: Mapping[int, Share]
    pull_width: ValueWithError | None = None


def coverage_cell(
    level: NDArray[np.float64],
    pull: NDArray[np.float64] | None = None,
    weights: NDArray[np.float64] | None = None,
    percents: Sequence[int] = COVERAGE_LEVELS,
) -> CoverageCell:
    """Coverage and pull width of some events.

    Parameters
    ----------
    level, pull
        Credible levels and pulls [n]; events without a level (NaN) do not count.
    weights
        Weights [n]; None: all are equal.
    percents
        Levels of which the coverage is wanted.
    """
    known = np.isfinite(level)
    number = event_number(weights_of(known, weights), int(known.sum()))
    curve = coverage_curve(level, weights, percents)
    shares = {p: Share(*parts) for p, parts in zip(percents, zip(*curve, strict=True), strict=True)}
    width = None if pull is None else pull_moments(np.where(known, pull, np.nan), weights)[2]
    return CoverageCell(number, shares, width)


def pull_moments(
    pull: NDArray[np.float64], weights: NDArray[np.float64] | None = None
) -> tuple[ValueWithError, ValueWithError, ValueWithError]:
    """Mean, standard deviation and central width of pulls [n]; those that are NaN do not count."""
    known, of_known = known_only(pull, weights)
    if event_number(of_known, len(known)) == 0:
        unknown = ValueWithError(np.array(np.nan), np.array(np.nan))
        return unknown, unknown, unknown
    measures = (mean, standard_deviation, central_width)
    average, deviation, width = (measure(known, of_known) for measure in measures)
    return average, deviation, width


@dataclass(frozen=True)
class CellTest:
    """Whether the deviations of all cells together are as small as chance allows.

    Attributes
    ----------
    chi_square
        Sum over the cells of the squared deviation over its error.
    num_cells
        Number of cells.
    """

    chi_square: float
    num_cells: int

    @property
    def p_value(self) -> float:
        """Probability of a larger sum if all uncertainties are right; NaN without cells."""
        return chi_square_p_value(self.chi_square, self.num_cells)


def coverage_test(cells: Sequence[CoverageCell], percent: int) -> CellTest:
    """χ² of the coverage of disjoint cells, with the binomial error of right uncertainties."""
    p = percent / 100
    terms = [
        float(cell.number * (cell.shares[percent].value - p) ** 2 / (p * (1 - p)))
        for cell in cells
        if cell.number > 0
    ]
    return CellTest(sum(terms), len(terms))


def pull_width_test(cells: Sequence[CoverageCell]) -> CellTest:
    """χ² of the pull widths of disjoint cells, that should all be 1, with their own errors."""
    widths = [cell.pull_width for cell in cells if cell.pull_width is not None]
    terms = [float(((width.value - 1) / width.error) ** 2) for width in widths if width.error > 0]
    return CellTest(sum(terms), len(terms))
