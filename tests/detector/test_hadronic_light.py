"""Mean light of hadronic showers, against values worked out by hand."""

import numpy as np
import pytest

from dnn_reco.detector.hadronic_light import hadronic_light_fraction


def test_positive_pions_stand_for_all_hadrons() -> None:
    # By hand: 1 - 0.69025877 * (E / 0.18791678)^-0.16267529
    energy = np.array([10.0, 1e3, 1e6, 1.0])
    expected = np.array([0.63840, 0.82905, 0.94443, 0.55305])
    np.testing.assert_allclose(hadronic_light_fraction(energy), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("pdg", "expected"),
    [  # at 100 GeV, by hand: ln f = -m ln(100 / E0), 1 - f (1 - f0)
        (211, 0.751370),
        (-211, 0.751645),
        (130, 0.743060),
        (2212, 0.684312),
        (-2212, 0.684312),
        (2112, 0.685933),
        (321, 0.751370),
    ],
)
def test_particles_with_their_own_parameters(pdg: int, expected: float) -> None:
    fraction = hadronic_light_fraction(np.array([100.0, 100.0]), np.array([pdg, 211]))
    np.testing.assert_allclose(fraction, [expected, 0.751370], atol=2e-6)
