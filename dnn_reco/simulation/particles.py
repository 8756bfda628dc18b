"""Neutrino interactions and single muons in and around the detector."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.directions import vector_of
from dnn_reco.detector.hull import Hull, detector_hull
from dnn_reco.errors import ConfigError
from dnn_reco.simulation.interactions import (
    sample_inelasticity,
    sample_scattering_angle,
    sample_tau_decay,
)
from dnn_reco.simulation.muons import mean_range

Flavor = Literal["nue", "numu", "nutau", "mixed", "muon"]
_PDG = {"nue": (12,), "numu": (14,), "nutau": (16,), "mixed": (12, 14, 16), "muon": (13,)}

NO_INTERACTION, CHARGED_CURRENT, NEUTRAL_CURRENT = 0, 1, 2

REACH = 300.0
"""Distance in m from the detector up to which light sources matter."""


@dataclass(frozen=True)
class ParticleSettings:
    """What to generate. The defaults suit a training sample of all neutrino flavours.

    Attributes
    ----------
    flavor
        `nue`, `numu`, `nutau`, or `mixed` for equal numbers of the three, neutrinos and
        antineutrinos half and half; `muon` for single muons, as those of air showers if `zenith`
        ends at 90. Or the share of each of them, such as `{nue: 0.4, muon: 0.6}`, which sum up
        to 1.
    energy
        Lowest and highest energy in GeV: of the neutrino, or of the muon 300 m before the detector.
    spectral_index
        The spectrum falls as E^-spectral_index.
    zenith
        Smallest and largest zenith angle in degrees, 0 for straight down-going; isotropic between
        them.
    nc_fraction
        Share of neutral-current interactions; 0.3 is that of the cross sections from 1 to 100 TeV
        (Gandhi et al., Phys. Rev. D 58 (1998) 093009).
    margin
        Interactions are spread evenly over the detector and this distance around it, in m, at most
        300; if negative, over what is as far inside of its surface, at most 150. Muons from outside
        are aimed at the same volume.
    through_going
        Share of the muon neutrinos' charged-current interactions that happen outside of that
        volume, at any distance up to the mean range of their muon, which flies into it.
    """

    flavor: Flavor | dict[Flavor, float] = "mixed"
    energy: tuple[float, float] = (1e2, 1e6)
    spectral_index: float = 1.5
    zenith: tuple[float, float] = (0.0, 180.0)
    nc_fraction: float = 0.3
    margin: float = 100.0
    through_going: float = 0.5

    def __post_init__(self) -> None:
        for flavor in self.flavor_shares:
            if flavor not in get_args(Flavor):
                raise ConfigError(
                    f"unknown flavor '{flavor}' to simulate; give one of "
                    f"{', '.join(get_args(Flavor))}."
                )
        shares = self.flavor_shares.values()
        if not all(share >= 0 for share in shares) or abs(sum(shares) - 1) > 1e-6:
            raise ConfigError(
                f"the shares of 'flavor' are {', '.join(map(str, shares)) or 'none'}; give numbers "
                "that are not negative, and sum up to 1"
            )
        low, high = self.energy
        if not 1 <= low <= high < np.inf:
            raise ConfigError(
                f"the energies to simulate are {low:g} to {high:g} GeV; give two ascending "
                "numbers of at least 1 GeV"
            )
        if not np.isfinite(self.spectral_index):
            raise ConfigError(
                f"the spectral index to simulate is {self.spectral_index:g}; give a finite number"
            )
        low, high = self.zenith
        if not 0 <= low <= high <= 180:
            raise ConfigError(
                f"the zenith angles to simulate are {low:g} to {high:g} degrees; give two "
                "ascending numbers between 0 (from above) and 180 (from below)"
            )
        for name, smallest, largest in (
            ("nc_fraction", 0.0, 1.0),
            ("through_going", 0.0, 1.0),
            ("margin", -150.0, REACH),
        ):
            value = getattr(self, name)
            if not smallest <= value <= largest:
                raise ConfigError(
                    f"'{name}' of the simulation is {value:g}; give a number between "
                    f"{smallest:g} and {largest:g}."
                )

    @property
    def flavor_shares(self) -> Mapping[Flavor, float]:
        """The share of the events that each flavor has."""
        return self.flavor if isinstance(self.flavor, Mapping) else {self.flavor: 1.0}


_Self = TypeVar("_Self", bound="Interactions")


@dataclass(frozen=True)
class Interactions:
    """n events: the primary, its interaction and what comes out of it.

    Energies are in GeV, lengths in m, times in ns, angles in rad, positions in detector
    coordinates. Particles that an event does not have have energy 0.

    Attributes
    ----------
    pdg
        PDG code [n] of the primary: a neutrino, or a muon.
    energy, zenith, azimuth
        Of the primary [n]; the angles point to where it comes from.
    interaction
        `CHARGED_CURRENT`, `NEUTRAL_CURRENT` or, for muons, `NO_INTERACTION` [n].
    inelasticity
        Share [n] of the energy that goes to hadrons; 0 for muons.
    vertex, time
        Where [n, 3] and when [n] the neutrino interacts, or the muon starts.
    lepton_direction
        Unit vector of flight [n, 3] of the charged lepton.
    electron_energy, hadron_energy
        Of the showers at the vertex [n].
    tau_energy, tau_length
        Energy and flight length of the tau [n].
    decay_electron_energy, decay_hadron_energy
        Of the showers where the tau decays [n].
    muon_energy
        Of the muon where it starts [n]: `tau_length` behind the vertex.
    """

    pdg: NDArray[np.int64]
    energy: NDArray[np.float64]
    zenith: NDArray[np.float64]
    azimuth: NDArray[np.float64]
    interaction: NDArray[np.int64]
    inelasticity: NDArray[np.float64]
    vertex: NDArray[np.float64]
    time: NDArray[np.float64]
    lepton_direction: NDArray[np.float64]
    electron_energy: NDArray[np.float64]
    hadron_energy: NDArray[np.float64]
    tau_energy: NDArray[np.float64]
    tau_length: NDArray[np.float64]
    decay_electron_energy: NDArray[np.float64]
    decay_hadron_energy: NDArray[np.float64]
    muon_energy: NDArray[np.float64]

    @property
    def direction(self) -> NDArray[np.float64]:
        """Unit vectors of flight [n, 3] of the primaries."""
        return vector_of(self.zenith, self.azimuth)

    @property
    def lepton_end(self) -> NDArray[np.float64]:
        """Where the tau decays [n, 3] in m; the vertex of events without tau."""
        return self.vertex + self.tau_length[:, None] * self.lepton_direction

    def select(self: _Self, events: NDArray[np.int64] | NDArray[np.bool_]) -> _Self:
        """Some of the events, by number or by mask."""
        return type(self)(**{f.name: getattr(self, f.name)[events] for f in fields(self)})


def generate(settings: ParticleSettings, num_events: int, rng: np.random.Generator) -> Interactions:
    """Draw primaries and their interactions, each at time 0.

    Parameters
    ----------
    settings
        What to generate.
    num_events
        How many events n.
    rng
        Source of all randomness: equal generators give equal events.
    """
    energy = sample_power_law(settings.energy, settings.spectral_index, num_events, rng)
    low, high = np.cos(np.radians(settings.zenith[::-1]))
    zenith = np.arccos(rng.uniform(low, high, num_events))
    azimuth = rng.uniform(0, 2 * np.pi, num_events)
    pdg = _sample_codes(settings, num_events, rng)
    is_muon = np.abs(pdg) == 13
    parts = [
        make(settings, pdg[which], energy[which], zenith[which], azimuth[which], rng)
        for make, which in ((_neutrinos, ~is_muon), (_single_muons, is_muon))
    ]
    return _joined(parts).select(np.argsort(np.argsort(is_muon, kind="stable")))


def _sample_codes(
    settings: ParticleSettings, num_events: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """PDG codes of primaries, particles and antiparticles half and half."""
    if isinstance(settings.flavor, str):
        codes = rng.choice(_PDG[settings.flavor], num_events)
    else:
        of_code = [
            (code, share / len(_PDG[flavor]))
            for flavor, share in settings.flavor.items()
            for code in _PDG[flavor]
        ]
        all_codes, shares = np.array(of_code).T
        codes = rng.choice(all_codes.astype(np.int64), num_events, p=shares / shares.sum())
    return np.asarray(codes * rng.choice([-1, 1], num_events))


def _joined(parts: list[Interactions]) -> Interactions:
    names = [field.name for field in fields(Interactions)]
    return Interactions(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    )


def _neutrinos(
    settings: ParticleSettings,
    pdg: NDArray[np.int64],
    energy: NDArray[np.float64],
    zenith: NDArray[np.float64],
    azimuth: NDArray[np.float64],
    rng: np.random.Generator,
) -> Interactions:
    n = energy.size
    neutral = rng.random(n) < settings.nc_fraction
    inelasticity = sample_inelasticity(energy, neutral, pdg < 0, rng)
    lepton_energy = np.where(neutral, 0.0, (1 - inelasticity) * energy)
    electron, muon, tau = (np.where(abs(pdg) == code, lepton_energy, 0.0) for code in (12, 14, 16))
    length, decay_electron, decay_muon, decay_hadron = sample_tau_decay(tau, rng)

    angle = np.where(neutral, 0.0, sample_scattering_angle(energy, rng))
    direction = vector_of(zenith, azimuth)
    lepton_direction = deflected(direction, angle, rng.uniform(0, 2 * np.pi, n))

    volume = detector_hull().extended(settings.margin)
    from_outside = (muon > 0) & (rng.random(n) < settings.through_going)
    vertex = np.empty((n, 3))
    vertex[~from_outside] = points_inside(volume, int(np.sum(~from_outside)), rng)
    incoming = lepton_direction[from_outside]
    entry = entries_into(volume, incoming, rng)
    distance = rng.random(len(entry)) * mean_range(muon[from_outside])
    vertex[from_outside] = entry - distance[:, None] * incoming
    return Interactions(
        pdg=pdg,
        energy=energy,
        zenith=zenith,
        azimuth=azimuth,
        interaction=np.where(neutral, NEUTRAL_CURRENT, CHARGED_CURRENT),
        inelasticity=inelasticity,
        vertex=vertex,
        time=np.zeros(n),
        lepton_direction=lepton_direction,
        electron_energy=electron,
        hadron_energy=inelasticity * energy,
        tau_energy=tau,
        tau_length=length,
        decay_electron_energy=decay_electron,
        decay_hadron_energy=decay_hadron,
        muon_energy=muon + decay_muon,
    )


def _single_muons(
    settings: ParticleSettings,
    pdg: NDArray[np.int64],
    energy: NDArray[np.float64],
    zenith: NDArray[np.float64],
    azimuth: NDArray[np.float64],
    rng: np.random.Generator,
) -> Interactions:
    n = energy.size
    direction = vector_of(zenith, azimuth)
    point = entries_into(detector_hull().extended(settings.margin), direction, rng)
    enter, _ = detector_hull().extended(REACH).crossing(point, direction)
    nothing = np.zeros(n)
    return Interactions(
        pdg=pdg,
        energy=energy,
        zenith=zenith,
        azimuth=azimuth,
        interaction=np.full(n, NO_INTERACTION),
        inelasticity=nothing,
        vertex=point + enter[:, None] * direction,
        time=nothing,
        lepton_direction=direction,
        electron_energy=nothing,
        hadron_energy=nothing,
        tau_energy=nothing,
        tau_length=nothing,
        decay_electron_energy=nothing,
        decay_hadron_energy=nothing,
        muon_energy=energy,
    )


def sample_power_law(
    limits: tuple[float, float], index: float, num: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Random numbers [num] between two positive limits with a density that falls as x^-index."""
    low, high = np.log(limits)
    rank = rng.random(num)
    slope = (1 - index) * (high - low)
    if abs(slope) > 1e-9:
        rank = np.log1p(rank * np.expm1(slope)) / slope
    return np.asarray(np.clip(np.exp(low + rank * (high - low)), *limits))


def deflected(
    direction: NDArray[np.float64], angle: NDArray[np.float64], phase: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Unit vectors [n, 3] turned away by an angle [n] to the side given by a phase [n], in rad."""
    side, other = _perpendicular(direction)
    aside = np.cos(phase)[:, None] * side + np.sin(phase)[:, None] * other
    return np.cos(angle)[:, None] * direction + np.sin(angle)[:, None] * aside


def _perpendicular(
    direction: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two unit vectors [n, 3] that make a right-handed frame with each unit vector."""
    helper = np.where(np.abs(direction[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
    side = np.cross(direction, helper)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    return side, np.cross(direction, side)


def points_inside(hull: Hull, num: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Points [num, 3] in m, evenly spread over the hull."""
    corners = hull.corners()
    points = np.empty((num, 3))
    missing = np.arange(num)
    while missing.size:
        points[missing] = rng.uniform(corners.min(axis=0), corners.max(axis=0), (missing.size, 3))
        missing = missing[~hull.contains(points[missing])]
    return points


def entries_into(
    hull: Hull, direction: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Points [n, 3] in m where particles of the given directions [n, 3] enter the hull.

    Their lines are spread evenly over the area that the hull shows to them.
    """
    radius = np.linalg.norm(hull.corners(), axis=1).max()
    side, other = _perpendicular(direction)
    entry = np.empty_like(direction)
    missing = np.arange(len(direction))
    while missing.size:
        offset = rng.uniform(-radius, radius, (2, missing.size, 1))
        point = offset[0] * side[missing] + offset[1] * other[missing]
        enter, _ = hull.crossing(point, direction[missing])
        entry[missing] = point + enter[:, None] * direction[missing]
        missing = missing[np.isnan(enter)]
    return entry
