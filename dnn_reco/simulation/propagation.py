"""How much light reaches a DOM, and when: formulas for showers in scattering, absorbing ice.

The functions take the library of their arrays as first argument, numpy or torch: the simulation
evaluates them, the calibration differentiates them with respect to the constants.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from math import pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.constants import CHERENKOV_COSINE
from dnn_reco.simulation.energy_losses import TRACK_PER_GEV

PHOTONS_PER_METRE = 33_000.0
"""Cherenkov photons of 300 to 600 nm per metre of bare track (formula of Frank and Tamm)."""

PHOTONS_PER_GEV = PHOTONS_PER_METRE * TRACK_PER_GEV

EARLY_POWER, LATE_POWER = 2.0, 1.0
"""The gamma variates of early and of late light are raised to these powers. It is 1 in the function
of Pandel; early light of the reference simulation rises more steeply and has a longer tail."""

_MIN_SCATTERING_NUMBER = 0.03  # keeps the shape of the delays above 0


@dataclass(frozen=True)
class LightConstants:
    """Constants of the formulas, fitted by `dnn_reco.simulation.calibration` (`light.json`).

    u = d/λ_e is the distance in effective scattering lengths, θ the angle between the direction of
    the shower and that from it to the DOM, η the one between the upward vertical and the latter.

    Attributes
    ----------
    effective_area
        Area of a DOM in m² times its efficiency, averaged over angles and 300 to 600 nm.
    direct_range
        Light that is hardly scattered is the share exp(-u/direct_range).
    forward_far, forward_near, forward_offset
        Scattered light goes as exp(A cos θ), A = far + near/(offset + u).
    acceptance_far, acceptance_near
        Photomultipliers look down: they see exp(G cos η), G = far + near/(1 + u).
    """

    effective_area: Any
    direct_range: Any
    forward_far: Any
    forward_near: Any
    forward_offset: Any
    acceptance_far: Any
    acceptance_near: Any


@dataclass(frozen=True)
class GammaConstants:
    """Constants of the gamma distribution of delays of early or of late light.

    Attributes
    ----------
    shape, shape_power, shape_ice, shape_angle
        Shape: shape · u^power (4λ_e/λ_a)^ice exp(angle cos θ/(1 + u)).
    scale, scale_absorption, scale_scattering
        Scale in ns: scale (λ_a/100 m)^absorption (λ_e/25 m)^scattering.
    """

    shape: Any
    shape_power: Any
    shape_ice: Any
    shape_angle: Any
    scale: Any
    scale_absorption: Any
    scale_scattering: Any


@dataclass(frozen=True)
class DelayConstants:
    """Constants of the delays, fitted by `dnn_reco.simulation.calibration` (`light.json`).

    Attributes
    ----------
    early, late
        Those of early and of late light.
    late_odds, late_odds_power, late_odds_angle
        Odds that light is late: late_odds · u^power exp(angle cos θ/(1 + u)).
    """

    early: GammaConstants
    late: GammaConstants
    late_odds: Any
    late_odds_power: Any
    late_odds_angle: Any


@dataclass(frozen=True)
class DelayDistribution:
    """Delays after the way in a straight line, of n pairs of a source and a DOM.

    A delay is scale · g^power, g from the gamma distribution with a shape: the function of Pandel
    (Ahrens et al., NIM A 524 (2004) 169), for early light raised to a power.

    Attributes
    ----------
    early_shape, early_scale, late_shape, late_scale
        Shapes [n] and scales [n] in ns.
    late_share
        Share [n] of the light that is late.
    """

    early_shape: Any
    early_scale: Any
    late_shape: Any
    late_scale: Any
    late_share: Any


@cache
def fitted_constants() -> LightConstants:
    """The constants of the light in `light.json`, fitted to a photon-tracking simulation."""
    return LightConstants(**_light_file()["light"])


@cache
def fitted_delays() -> DelayConstants:
    """The constants of the delays in `light.json`, fitted to a photon-tracking simulation."""
    constants = dict(_light_file()["delays"])
    early, late = (GammaConstants(**constants.pop(name)) for name in ("early", "late"))
    return DelayConstants(early, late, **constants)


def _light_file() -> Any:
    file = resources.files("dnn_reco.simulation").joinpath("light.json")
    return json.loads(file.read_text(encoding="utf-8"))


def shower_emission(cos_emission: NDArray[np.floating]) -> NDArray[np.float64]:
    """Light of a shower by direction [n], relative to its mean over all directions.

    4.27033 exp(-6.02527 |cos θ - cos θ_c|^0.29887) - 0.00103, in arbitrary units: the distribution
    for electrons in Rädel and Wiebusch, Astropart. Phys. 44 (2013) 102. It stands for bare track
    too, whose light is more sharply peaked only within a few metres.
    """
    grid = (np.arange(200_000) + 0.5) / 100_000 - 1
    light = [
        4.27033 * np.exp(-6.02527 * np.abs(cosine - CHERENKOV_COSINE) ** 0.29887) - 0.00103
        for cosine in (np.asarray(cos_emission, dtype=np.float64), grid)
    ]
    return np.asarray(light[0] / light[1].mean())


def bulk_light(xp: Any, distance: Any, scattering: Any, absorption: Any) -> Any:
    """Photons per area [n] in 1/m² at a distance from a source that emits one into all directions.

    exp(-d/λ_p) / (4π λ_c d tanh(d/λ_c)) with λ_p = (λ_a λ_e/3)^½, λ_c = λ_e/3 exp(λ_e/λ_a):
    1/(4πd²) close by and diffusion, exp(-d/λ_p)/d, far away (Ackermann et al., J. Geophys. Res. 111
    (2006) D13203), joined as for tracks in Abbasi et al., NIM A 703 (2013) 190.

    Parameters
    ----------
    xp
        The library of the arrays: numpy or torch.
    distance
        Distances [n] in m.
    scattering, absorption
        Mean 1/λ_e and 1/λ_a [n] in 1/m on the way.
    """
    diffusion = xp.exp(absorption / scattering) / (3 * scattering)
    decay = xp.exp(-distance * xp.sqrt(3 * scattering * absorption))
    return decay / (4 * pi * diffusion * distance * xp.tanh(distance / diffusion))


def photoelectrons_per_gev(
    xp: Any,
    constants: LightConstants,
    distance: Any,
    cos_emission: Any,
    cos_arrival: Any,
    emission: Any,
    scattering: Any,
    absorption: Any,
) -> Any:
    """Expected photo-electrons [n] of a shower of 1 GeV in a DOM of relative efficiency 1.

    Parameters
    ----------
    xp
        The library of the arrays: numpy or torch.
    constants
        The fitted constants.
    distance
        Distances [n] in m from source to DOM.
    cos_emission
        cos θ [n] of the angle between the direction of the shower and the one to the DOM.
    cos_arrival
        cos η [n] of the angle between the upward vertical and the direction to the DOM.
    emission
        `shower_emission` [n] at cos θ.
    scattering, absorption
        Mean 1/λ_e and 1/λ_a [n] in 1/m on the way.
    """
    c = constants
    u = distance * scattering
    direct = xp.exp(-u / c.direct_range)
    forward = _exponential(
        xp, c.forward_far + c.forward_near / (c.forward_offset + u), cos_emission
    )
    angular = direct * emission + (1 - direct) * forward
    acceptance = _exponential(xp, c.acceptance_far + c.acceptance_near / (1 + u), cos_arrival)
    bulk = bulk_light(xp, distance, scattering, absorption)
    return PHOTONS_PER_GEV * c.effective_area * bulk * angular * acceptance


def _exponential(xp: Any, slope: Any, cosine: Any) -> Any:
    """exp(slope · cosine), normalised to a mean of 1 over all directions."""
    return xp.exp(slope * cosine) * slope / xp.sinh(slope)


def delay_distribution(
    xp: Any,
    constants: DelayConstants,
    distance: Any,
    cos_emission: Any,
    scattering: Any,
    absorption: Any,
) -> DelayDistribution:
    """Delays of pairs; parameters as in `photoelectrons_per_gev`."""
    u, forward = _way(distance, cos_emission, scattering)
    odds = constants.late_odds * u**constants.late_odds_power
    odds = odds * xp.exp(constants.late_odds_angle * forward)
    return DelayDistribution(
        *gamma_of_delays(xp, constants.early, distance, cos_emission, scattering, absorption),
        *gamma_of_delays(xp, constants.late, distance, cos_emission, scattering, absorption),
        late_share=odds / (1 + odds),
    )


def gamma_of_delays(
    xp: Any,
    constants: GammaConstants,
    distance: Any,
    cos_emission: Any,
    scattering: Any,
    absorption: Any,
) -> tuple[Any, Any]:
    """Shape [n] and scale [n] in ns of the delays of early or of late light."""
    c = constants
    u, forward = _way(distance, cos_emission, scattering)
    shape = c.shape * u**c.shape_power * (4 * absorption / scattering) ** c.shape_ice
    scale = c.scale * (100 * absorption) ** -c.scale_absorption
    scale = scale * (25 * scattering) ** -c.scale_scattering
    return shape * xp.exp(c.shape_angle * forward), scale


def _way(distance: Any, cos_emission: Any, scattering: Any) -> tuple[Any, Any]:
    """Effective scattering lengths [n], and how much of the way they leave forward [n]."""
    u = distance * scattering
    return u + _MIN_SCATTERING_NUMBER, cos_emission / (1 + u)
