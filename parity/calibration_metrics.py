"""Compare measures of calibration with the packages netcal and sbi.

    python parity/calibration_metrics.py

Predictions are synthetic: probabilities, Gaussian labels and directions, whose uncertainties are
right or wrong by a known factor. netcal and sbi compute with their own code what
`dnn_reco.evaluation` does: the expected calibration error, the coverage of intervals, and the
expected coverage of directions from samples of their density. The exit code is 1 if a deviation
exceeds its limit. It needs requirements-parity.txt: `make parity`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
import torch
from comparison import Comparison, print_comparisons
from netcal.metrics.confidence import ECE
from netcal.metrics.regression import PICP
from numpy.typing import NDArray
from sbi.diagnostics.tarp import _run_tarp
from scipy import stats

from dnn_reco.evaluation.classification import NUM_BINS, reliability
from dnn_reco.evaluation.coverage import LabelDeviation, coverage_curve, credible_level

NUM_EVENTS, NUM_SAMPLES = 4000, 1500
FACTORS = (0.7, 1.0, 1.5)
"""Predicted over right uncertainties."""

EXACT = 1e-9
FROM_SAMPLES = 0.01
"""Largest deviation of shares that are estimated from samples."""


def calibration_errors() -> Iterator[Comparison]:
    """Expected calibration error and shares of bins of probabilities, against netcal."""
    rng = np.random.default_rng(1)
    probability = rng.beta(0.7, 1.2, NUM_EVENTS)
    for power in (1.0, 2.0):
        is_signal = rng.random(NUM_EVENTS) < probability**power
        for equal_count in (False, True):
            ours = reliability(probability, is_signal, equal_count=equal_count)
            theirs = ECE(NUM_BINS, equal_intervals=not equal_count)
            error = theirs.measure(probability, is_signal.astype(int))
            kind = "equal numbers" if equal_count else "equal widths"
            what = f"calibration error, truth p^{power:g}, {kind}"
            # netcal sets edges between two events, where an event may fall into the next bin
            allowed = NUM_BINS / NUM_EVENTS if equal_count else EXACT
            yield Comparison(what, abs(ours.calibration_error - float(error)), allowed)


def interval_coverage() -> Iterator[Comparison]:
    """Coverage of intervals of a Gaussian label, against netcal."""
    rng = np.random.default_rng(2)
    sigma = rng.uniform(0.1, 2.0, NUM_EVENTS)
    predicted = rng.normal(5.0, 3.0, NUM_EVENTS)
    noise = rng.normal(size=NUM_EVENTS)
    percents = (10, 50, 68, 90, 99)
    for factor in FACTORS:
        true = predicted - sigma * noise / factor
        deviation = LabelDeviation((predicted - true) / sigma, sigma)
        ours = coverage_curve(deviation.level(), None, percents)
        shares = np.array(percents) / 100
        found = PICP(bins=1).measure((predicted, sigma), true, q=shares, reduction="none")
        theirs = np.asarray(found.picp, dtype=np.float64).ravel()
        largest = float(np.abs(ours.value - theirs).max())
        yield Comparison(f"coverage of intervals, σ × {factor:g}", largest, EXACT)


def direction_coverage() -> Iterator[Comparison]:
    """Expected coverage of directions, against that of sbi from samples of their density.

    The test of accuracy with random points (Lemos et al., arXiv:2302.03026), where the points are
    the predicted directions: regions are the cones around them.
    """
    rng = np.random.default_rng(3)
    mean = np.array([0.48, -0.6, 0.64])
    kappa = 40.0
    true = stats.vonmises_fisher(mean, kappa).rvs(NUM_EVENTS, random_state=rng)
    angle = np.degrees(np.arccos(np.clip(true @ mean, -1, 1)))
    references = np.tile(mean, (NUM_EVENTS, 1))
    for factor in FACTORS:
        predicted = kappa / factor**2
        density = stats.vonmises_fisher(mean, predicted)
        samples = density.rvs(NUM_SAMPLES * NUM_EVENTS, random_state=rng)
        theirs, nominal = _run_tarp(  # run_tarp itself takes only posteriors of sbi
            _tensor(samples.reshape(NUM_SAMPLES, NUM_EVENTS, 3)),
            _tensor(true),
            _tensor(references),
            num_bins=50,
            z_score_theta=False,
        )
        level = credible_level(angle, np.full(NUM_EVENTS, predicted))
        ours = np.searchsorted(np.sort(level), nominal.numpy()) / NUM_EVENTS
        deviation = float(np.abs(ours - theirs.numpy()).max())
        what = f"expected coverage of directions, width × {factor:g}"
        yield Comparison(what, deviation, FROM_SAMPLES)


def main() -> None:
    """Print all comparisons; exit code 1 if one deviates."""
    comparisons = chain(calibration_errors(), interval_coverage(), direction_coverage())
    print_comparisons("Measures of calibration, against netcal and sbi", comparisons)


def _tensor(values: NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


if __name__ == "__main__":
    main()
