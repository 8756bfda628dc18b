"""What happens at the vertex: sharing of the energy, light of hadrons, decay of the tau."""

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.hadronic_light import hadronic_light_fraction

_LOG_ENERGY = np.arange(1.0, 9.0)  # log10(E/GeV) of the rows below
_MEAN_INELASTICITY = {
    ("cc", "matter"): (0.483, 0.477, 0.472, 0.426, 0.332, 0.273, 0.250, 0.237),
    ("cc", "antimatter"): (0.333, 0.340, 0.354, 0.345, 0.301, 0.266, 0.249, 0.237),
    ("nc", "matter"): (0.474, 0.470, 0.467, 0.428, 0.341, 0.279, 0.254, 0.239),
    ("nc", "antimatter"): (0.350, 0.354, 0.368, 0.358, 0.313, 0.273, 0.253, 0.239),
}
_EPSILON = {"matter": 0.3, "antimatter": 5.0}
_MIN_INELASTICITY = 1e-3

TAU_LENGTH_PER_GEV = 49e-6
"""Mean decay length of the tau in m per GeV: c tau / m = 87.03 um / 1.777 GeV (PDG 2022)."""

_TAU_TO_ELECTRON, _TAU_TO_MUON = 0.178, 0.174  # branching fractions, PDG 2022
# The hadronic channels: share, and mass squared of the meson over that of the tau (PDG 2022):
# one pion or kaon, the rho, the a1 with all that is heavier.
_TAU_MESON_SHARE = np.array([0.18, 0.39, 0.43])
_TAU_MESON_MASS2 = np.array([0.0062, 0.19, 0.50])


def mean_inelasticity(
    energy: NDArray[np.float64], neutral: NDArray[np.bool_], antineutrino: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Mean share [n] of the neutrino's energy that goes to hadrons.

    Interpolated in log E in the table of Gandhi et al., Astropart. Phys. 5 (1996) 81
    (hep-ph/9512364), 10 GeV to 100 PeV: 0.48 for neutrinos and 0.34 for antineutrinos at 100 GeV,
    0.27 for both at 1 PeV.

    Parameters
    ----------
    energy
        Neutrino energies [n] in GeV.
    neutral
        Neutral current, else charged current [n].
    antineutrino
        Antineutrino, else neutrino [n].
    """
    mean = np.zeros_like(energy)
    for (current, kind), row in _MEAN_INELASTICITY.items():
        chosen = (neutral == (current == "nc")) & (antineutrino == (kind == "antimatter"))
        mean[chosen] = np.interp(np.log10(energy[chosen]), _LOG_ENERGY, row)
    return mean


def sample_inelasticity(
    energy: NDArray[np.float64],
    neutral: NDArray[np.bool_],
    antineutrino: NDArray[np.bool_],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Random shares [n] of the energy that go to hadrons, 0.001 to 0.999.

    Density y^(lambda - 1) (1 + epsilon (1 - y)^2), the form of IceCube, Phys. Rev. D 99 (2019)
    032004. epsilon, the weight of the quarks of opposite helicity, is 0.3 for neutrinos and 5 for
    antineutrinos, which gives the means of a few hundred GeV with lambda = 1; lambda is chosen so
    that the mean is `mean_inelasticity`.
    """
    mean = mean_inelasticity(energy, neutral, antineutrino)
    inelasticity = np.empty_like(energy)
    for kind, epsilon in _EPSILON.items():
        chosen = antineutrino == (kind == "antimatter")
        lam = _lambda_of_mean(mean[chosen], epsilon)
        # The two terms are beta distributions of integrals 1/lambda and epsilon B(lambda, 3).
        flat = 1 / lam
        falling = 2 * epsilon / (lam * (lam + 1) * (lam + 2))
        is_flat = rng.random(lam.size) * (flat + falling) < flat
        inelasticity[chosen] = rng.beta(lam, np.where(is_flat, 1, 3))
    return np.clip(inelasticity, _MIN_INELASTICITY, 1 - _MIN_INELASTICITY)


def _lambda_of_mean(mean: NDArray[np.float64], epsilon: float) -> NDArray[np.float64]:
    lam = np.geomspace(0.05, 20, 400)
    norm = 2 * epsilon + (lam + 1) * (lam + 2)
    means = lam * (2 * epsilon + (lam + 2) * (lam + 3)) / ((lam + 3) * norm)
    return np.interp(mean, means, lam)


def sample_hadronic_light(
    energy: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Electromagnetic-equivalent energies [n] in GeV of hadronic showers, with their fluctuation.

    The light fraction F varies by a Gaussian of width 0.959 F ln(E/GeV)^-1.356 (same source as the
    mean; 12 % at 100 GeV, 7 % at 1 TeV) and is kept between 0 and 1.1.
    """
    fraction = hadronic_light_fraction(energy)
    width = 0.95899551 * fraction * np.log(np.maximum(energy, np.e)) ** -1.35589541
    return energy * np.clip(rng.normal(fraction, width), 0, 1.1)


def sample_scattering_angle(
    energy: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Angles [n] in rad between a neutrino and the charged lepton that it makes.

    Of mean 0.7 degrees (E/TeV)^-0.7 (Learned and Mannheim, Annu. Rev. Nucl. Part. Sci. 50 (2000)
    679), Gaussian in each of the two projections.
    """
    mean = np.radians(0.7) * (energy / 1e3) ** -0.7
    return np.asarray(np.minimum(rng.rayleigh(mean / np.sqrt(np.pi / 2)), np.pi))


def sample_tau_decay(
    energy: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Where taus decay and into what.

    Channels: e 17.8 %, mu 17.4 %, hadrons 64.8 % (PDG). Energy sharing of an unpolarised, fast
    tau (Gaisser, Cosmic Rays and Particle Physics, 1990, ch. 7; Dutta, Reno and Sarcevic, Phys.
    Rev. D 62 (2000) 123001): the electron or muon takes a share x of density
    5/3 - 3 x^2 + 4/3 x^3, mean 0.35; in a decay to one meson the hadrons take a share that is flat
    between m^2/m_tau^2 and 1.

    Returns
    -------
    length, electron, muon, hadrons
        Flight lengths [n] in m and energies [n] in GeV of what is visible of the decay, one of
        the three not 0.
    """
    n = energy.size
    length = rng.exponential(TAU_LENGTH_PER_GEV * energy)
    grid = np.linspace(0, 1, 1001)
    lepton_share = np.interp(rng.random(n), 5 / 3 * grid - grid**3 + grid**4 / 3, grid)
    mass2 = rng.choice(_TAU_MESON_MASS2, n, p=_TAU_MESON_SHARE)
    hadron_share = rng.uniform(mass2, 1)
    channel = rng.random(n)
    to_electron = channel < _TAU_TO_ELECTRON
    to_muon = ~to_electron & (channel < _TAU_TO_ELECTRON + _TAU_TO_MUON)
    to_hadrons = ~to_electron & ~to_muon
    lepton = lepton_share * energy
    return (
        length,
        np.where(to_electron, lepton, 0.0),
        np.where(to_muon, lepton, 0.0),
        np.where(to_hadrons, hadron_share * energy, 0.0),
    )
