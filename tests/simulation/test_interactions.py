"""Numbers of neutrino interactions and tau decays against the publications."""

import numpy as np
import pytest

from dnn_reco.simulation.interactions import (
    sample_hadronic_light,
    sample_inelasticity,
    sample_scattering_angle,
    sample_tau_decay,
)


@pytest.mark.parametrize(
    ("energy", "neutral", "antineutrino", "mean"),
    [  # hep-ph/9512364
        (1e2, False, False, 0.477),
        (1e3, False, True, 0.354),
        (1e4, True, False, 0.428),
        (1e5, False, False, 0.332),
        (1e6, True, True, 0.273),
    ],
)
def test_mean_inelasticity_is_the_published_one(
    energy: float, neutral: bool, antineutrino: bool, mean: float
) -> None:
    n = 200_000
    sample = sample_inelasticity(
        np.full(n, energy), np.full(n, neutral), np.full(n, antineutrino), np.random.default_rng(1)
    )
    assert sample.mean() == pytest.approx(mean, abs=0.003)
    assert sample.min() > 0 and sample.max() < 1


def test_neutrinos_of_100_gev_share_evenly_and_antineutrinos_do_not() -> None:
    # Quark level: d sigma/dy is flat for equal helicity, (1 - y)^2 for opposite helicity.
    n = 200_000
    charged = np.zeros(n, dtype=bool)
    for antineutrino, expected in ((False, 1.3 / 1.0), (True, 6.0 / 1.0)):
        sample = sample_inelasticity(
            np.full(n, 100.0), charged, np.full(n, antineutrino), np.random.default_rng(2)
        )
        counts, _ = np.histogram(sample, bins=[0.02, 0.12, 0.88, 0.98])
        assert counts[0] / counts[2] == pytest.approx(expected, rel=0.25)


def test_fluctuating_light_of_hadrons() -> None:
    light = sample_hadronic_light(np.full(100_000, 1e3), np.random.default_rng(3)) / 1e3
    assert light.mean() == pytest.approx(0.82905, abs=0.001)
    assert light.std() == pytest.approx(0.0578, rel=0.03)  # 0.829 * 0.959 * 6.908^-1.356


def test_scattering_angle_falls_with_energy() -> None:
    rng = np.random.default_rng(4)
    for energy, degrees in ((1e3, 0.7), (1e5, 0.0279)):
        angle = np.degrees(sample_scattering_angle(np.full(100_000, energy), rng))
        assert angle.mean() == pytest.approx(degrees, rel=0.02)


def test_tau_decays() -> None:
    n = 400_000
    energy = np.full(n, 2e6)
    length, electron, muon, hadrons = sample_tau_decay(energy, np.random.default_rng(5))
    assert length.mean() == pytest.approx(2 * 49, rel=0.01)
    visible = np.stack([electron, muon, hadrons])
    assert ((visible > 0).sum(axis=0) == 1).all()
    assert (visible <= energy).all()
    assert (visible > 0).mean(axis=1) == pytest.approx([0.178, 0.174, 0.648], abs=0.003)
    assert electron[electron > 0].mean() / 2e6 == pytest.approx(0.35, abs=0.003)
    # (1 + m^2/m_tau^2)/2 of the energy in each channel, pion 0.50, rho 0.60, a1 0.75
    assert hadrons[hadrons > 0].mean() / 2e6 == pytest.approx(0.645, abs=0.01)
