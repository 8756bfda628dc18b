"""Charges and times of photo-electrons, and dark noise."""

from dataclasses import replace

import numpy as np
import pytest

from dnn_reco.detector.geometry import NUM_DOMS
from dnn_reco.simulation.noise import NoiseSettings, noise_pulses
from dnn_reco.simulation.photomultiplier import (
    AnodePulses,
    PhotomultiplierSettings,
    anode_pulses,
    charges,
)
from dnn_reco.simulation.sources import PhotoElectrons

SETTINGS = PhotomultiplierSettings()
PLAIN = replace(
    SETTINGS, prepulse_probability=0.0, late_pulse_probability=0.0, afterpulse_scale=0.0
)


def photoelectrons(number: int, weight: float = 1.0) -> PhotoElectrons:
    zeros = np.zeros(number, dtype=np.int64)
    return PhotoElectrons(1, zeros, zeros, np.full(number, 5000.0), np.full(number, weight))


def pulses(number: int, settings: PhotomultiplierSettings, weight: float = 1.0) -> AnodePulses:
    return anode_pulses(photoelectrons(number, weight), settings, np.random.default_rng(0))


def density(charge: np.ndarray) -> np.ndarray:
    """Exponential plus Gaussian, whose few negative values are folded over."""
    s, q, mean, width = 0.28, charge, 1.015, 0.306
    bell = np.exp(-0.5 * ((q - mean) / width) ** 2) + np.exp(-0.5 * ((q + mean) / width) ** 2)
    return s / 0.64 * np.exp(-q / 0.64) + (1 - s) * bell / (width * np.sqrt(2 * np.pi))


class TestCharge:
    def test_distribution_against_a_numeric_integral(self) -> None:
        step = 1e-3
        q = np.arange(0.0, 12.0, step) + step / 2
        weight = density(q) * step
        assert weight.sum() == pytest.approx(1.0, abs=1e-4)
        drawn = charges(np.ones(400_000, dtype=np.int64), SETTINGS, np.random.default_rng(1))
        assert drawn.min() >= 0.0
        assert drawn.mean() == pytest.approx((weight * q).sum(), abs=0.003)
        assert drawn.mean() == pytest.approx(SETTINGS.charge_moments()[0], abs=0.003)
        assert drawn.var() == pytest.approx(SETTINGS.charge_moments()[1], abs=0.005)
        for limit in (0.1, 0.25, 0.6, 1.0, 1.4, 2.0):
            below = weight[q < limit].sum()
            assert (drawn < limit).mean() == pytest.approx(below, abs=0.004)

    @pytest.mark.parametrize("number", [2, 20, 1000])
    def test_many_photoelectrons_have_the_charge_of_so_many_single_ones(self, number: int) -> None:
        drawn = charges(np.full(20_000, number), SETTINGS, np.random.default_rng(2))
        single = charges(np.ones(400_000, dtype=np.int64), SETTINGS, np.random.default_rng(3))
        assert drawn.mean() == pytest.approx(number * single.mean(), rel=0.01)
        assert drawn.var() == pytest.approx(number * single.var(), rel=0.05)


class TestTime:
    def test_jitter(self) -> None:
        time = pulses(100_000, PLAIN).time
        assert len(time) == 100_000
        assert time.mean() == pytest.approx(5000.0, abs=0.03)
        assert time.std() == pytest.approx(2.0, rel=0.01)

    def test_pre_and_late_pulses(self) -> None:
        found = pulses(400_000, replace(SETTINGS, afterpulse_scale=0.0))
        delay = found.time - 5000.0
        assert len(delay) == 400_000
        early, late = delay[delay < -15.0], delay[delay > 15.0]
        assert len(early) / 400_000 == pytest.approx(0.003, abs=0.0003)
        assert early.mean() == pytest.approx(-31.0, abs=0.3)
        assert len(late) / 400_000 == pytest.approx(0.035, abs=0.001)
        assert 40.0 < np.median(late) < 70.0
        assert np.quantile(late, 0.98) == pytest.approx(141.0, abs=15.0)

    def test_afterpulses(self) -> None:
        delay = pulses(400_000, replace(PLAIN, afterpulse_scale=1.0)).time - 5000.0
        after = delay[delay > 15.0]
        # 0.052 a photo-electron, 0.029 of them microseconds later.
        assert len(after) / 400_000 == pytest.approx(0.052, abs=0.001)
        assert (after > 4500.0).sum() / 400_000 == pytest.approx(0.029, abs=0.001)
        assert after.max() < 7800.0 + 6 * 1150.0

    def test_no_hit_before_the_photoelectron_but_prepulses(self) -> None:
        found = pulses(300_000, SETTINGS)
        assert found.time.min() > 5000.0 - 31.0 - 6 * 2.0

    def test_weights_split_into_direct_early_late_and_after(self) -> None:
        found = pulses(1000, SETTINGS, weight=1000.0)
        mean = SETTINGS.charge_moments()[0]
        photoelectrons_out = found.charge.sum() / mean
        assert photoelectrons_out == pytest.approx(1e6 * 1.052, rel=0.003)
        late = (found.time > 5015.0) & (found.time < 5250.0)
        assert found.charge[late].sum() / mean == pytest.approx(35_000, rel=0.03)


def noise(settings: NoiseSettings, efficiency: np.ndarray, windows: np.ndarray) -> AnodePulses:
    rng = np.random.default_rng(8)
    return noise_pulses(np.zeros(len(windows)), windows, efficiency, settings, SETTINGS, rng)


class TestNoise:
    def test_rate(self) -> None:
        """Without bursts the number of pulses is a Poisson number."""
        settings = NoiseSettings(burst_probability=0.0)
        found = noise(settings, np.ones(NUM_DOMS), np.full(500, 20_000.0))
        expected = 620e-9 * NUM_DOMS * 20_000.0
        counts = np.bincount(found.event, minlength=500)
        assert counts.mean() == pytest.approx(expected, abs=4 * np.sqrt(expected / 500))
        assert counts.var() == pytest.approx(expected, rel=0.3)
        assert found.time.min() >= 0.0
        assert found.time.max() < 20_000.0
        assert found.time.mean() == pytest.approx(10_000.0, rel=0.02)

    def test_bursts_do_not_change_the_rate_but_cluster_it(self) -> None:
        # Bursts begin long before the window, so that all of them are seen.
        settings = NoiseSettings(lead=1e6, burst_delay=100.0, burst_spread=1.0)
        found = noise(settings, np.ones(NUM_DOMS), np.full(500, 20_000.0))
        expected = 620e-9 * NUM_DOMS * 20_000.0
        counts = np.bincount(found.event, minlength=500)
        assert counts.mean() == pytest.approx(expected, rel=0.03)
        # Variance over mean of sums of geometric numbers: (1 + p) / (1 - p).
        assert counts.var() / counts.mean() == pytest.approx(1.42 / 0.58, rel=0.3)

    def test_share_of_pulses_that_are_followed_by_another_of_the_burst(self) -> None:
        settings = NoiseSettings(rate=5.0, burst_spread=0.0)
        one_dom = np.zeros(NUM_DOMS)
        one_dom[100] = 1.0
        found = noise(settings, one_dom, np.full(200, 1e8))
        order = np.lexsort((found.time, found.event))
        gap, same = np.diff(found.time[order]), np.diff(found.event[order]) == 0
        followed = same & np.isclose(gap, 1200.0, atol=1e-3)
        assert followed.mean() == pytest.approx(0.42, abs=0.03)

    def test_charges_are_those_of_single_photoelectrons(self) -> None:
        """Moments of 28 % with an exponential of 0.64 PE and 72 % with 1.015 ± 0.306 PE.

        Mean 0.910; mean square 0.28 · 2 · 0.64² + 0.72 (1.015² + 0.306²) = 1.0386.
        """
        charge = noise(NoiseSettings(), np.ones(NUM_DOMS), np.full(500, 20_000.0)).charge
        assert len(charge) > 25_000
        assert charge.mean() == pytest.approx(0.910, abs=0.012)
        assert charge.std() == pytest.approx(0.4587, abs=0.012)
        # P(< q) = 0.28 (1 - exp(-q / 0.64)) + 0.72 Φ((q - 1.015) / 0.306)
        for q, share in ((0.2, 0.0779), (0.5, 0.1851), (1.0, 0.5672), (1.5, 0.9325)):
            assert (charge < q).mean() == pytest.approx(share, abs=0.01)

    def test_proportional_to_the_efficiency_and_none_in_dead_doms(self) -> None:
        efficiency = np.tile([0.0, 1.0, 2.0], NUM_DOMS // 3)
        found = noise(NoiseSettings(), efficiency, np.full(200, 50_000.0))
        share = np.bincount(found.dom % 3, minlength=3) / len(found)
        np.testing.assert_allclose(share, [0.0, 1 / 3, 2 / 3], atol=0.01)
        assert share[0] == 0.0

    def test_windows_of_different_length(self) -> None:
        found = noise(NoiseSettings(), np.ones(NUM_DOMS), np.array([1e4, 0.0, 1e6]))
        counts = np.bincount(found.event, minlength=3)
        assert counts[1] == 0
        assert counts[2] / counts[0] == pytest.approx(100.0, rel=0.4)
