"""The values that objects of `.i3` frames decode to: NumPy arrays and small dataclasses.

Scalars are Python numbers and strings, maps by name are dicts, vectors of numbers are arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

OM_KEY = np.dtype([("string", "i4"), ("om", "u4"), ("pmt", "u1")])
"""A photomultiplier: string, module on it and number in the module."""

PULSE = np.dtype([("time", "f8"), ("charge", "f4"), ("width", "f4"), ("flags", "u1")])
"""A pulse: ns, PE, ns, bits (1 local coincidence, 2 ATWD, 4 FADC)."""

TIME_WINDOW = np.dtype([("start", "f8"), ("stop", "f8")])
"""A time window in ns; start <= t < stop is inside."""

PARTICLE = np.dtype(
    [
        ("minor_id", "i4"),
        ("major_id", "u8"),
        ("pdg", "i4"),
        ("shape", "i4"),
        ("fit_status", "i4"),
        *((name, "f8") for name in ("x", "y", "z", "zenith", "azimuth")),
        *((name, "f8") for name in ("time", "energy", "length", "speed")),
        ("location", "i4"),
    ]
)
"""A particle: m, rad, ns, GeV, m/ns. Zenith and azimuth point to where it comes from."""

_POINTS = [f"{quantity}{point}" for point in "ifc" for quantity in "xyzte"]
MMC_TRACK = np.dtype(
    [("particle", PARTICLE), *((name, "f8") for name in _POINTS), ("energy_lost", "f8")]
)
"""A muon or tau that was propagated: position [m], time [ns] and energy [GeV] where it enters (i)
and leaves (f) the simulated volume, and where it is closest (c) to the origin."""

MC_PHOTOELECTRON = np.dtype([("time", "f8"), ("npe", "u4"), ("major_id", "u8"), ("minor_id", "i4")])
MC_PULSE = np.dtype([("time", "f8"), ("charge", "f4"), ("source", "i4")])
TANK_KEY = np.dtype([("string", "i4"), ("tank", "i4")])

NO_SUB_RUN = 2**32 - 1
"""Number of a sub-run that is not set."""

_COUNTS_PER_SECOND, _SECONDS_PER_DAY = 10**10, 86_400
_COUNTS_PER_DAY = 8.64e14
_DAYS_BEFORE_LEAP_SECOND = {2005: 365, 2008: 366, 2012: 182, 2015: 181, 2016: 366}  # of the year
_MJD_OF_YEAR_1 = -678575  # of 1 January of the year 1 in the Gregorian calendar


@dataclass(frozen=True)
class Time:
    """A time of the data acquisition.

    Attributes
    ----------
    year
        Year in UTC.
    daq_time
        Tenths of nanoseconds since the year's start.
    """

    year: int
    daq_time: int

    @property
    def utc_count(self) -> int:
        """Tenths of nanoseconds since the year's start without leap seconds, in days of 86,400 s.

        A leap second has the times of the second before.
        """
        days = _DAYS_BEFORE_LEAP_SECOND.get(self.year)
        is_later = (
            days is not None and self.daq_time >= days * _SECONDS_PER_DAY * _COUNTS_PER_SECOND
        )
        return self.daq_time - is_later * _COUNTS_PER_SECOND

    @property
    def mjd(self) -> float:
        """Modified Julian date in UTC."""
        before = self.year - 1
        leap_days = before // 4 - before // 100 + before // 400
        start = 365 * before + leap_days + _MJD_OF_YEAR_1
        return start + self.utc_count / _COUNTS_PER_DAY


@dataclass(frozen=True)
class Position:
    """A point in detector coordinates, in m."""

    x: float
    y: float
    z: float


@dataclass(frozen=True)
class Direction:
    """A direction in rad, pointing to where a particle comes from."""

    zenith: float
    azimuth: float


@dataclass(frozen=True)
class Quaternion:
    """A rotation: vector part x, y, z and scalar part w."""

    x: float
    y: float
    z: float
    w: float


@dataclass(frozen=True)
class EventHeader:
    """Identity and times of an event.

    Attributes
    ----------
    run, sub_run, event, sub_event
        Numbers; `sub_run` is `NO_SUB_RUN` where it is not set.
    stream
        Name of the sub-event stream, empty in Q frames.
    state
        0 unknown, 20 OK, 40 transition.
    start, end
        Times.
    """

    run: int
    event: int
    start: Time
    end: Time
    sub_run: int = NO_SUB_RUN
    sub_event: int = 0
    stream: str = ""
    state: int = 20


@dataclass(frozen=True)
class OMKeyMap:
    """A list of items for each of n photomultipliers: pulses, time windows, numbers.

    Attributes
    ----------
    keys
        Photomultipliers [n], of type `OM_KEY`, ascending.
    counts
        Number of items of each [n]; some may have none.
    items
        Items [N] of all, one photomultiplier after the other: of type `PULSE`, `TIME_WINDOW`,
        `MC_PHOTOELECTRON`, `MC_PULSE`, or numbers.
    """

    keys: NDArray[np.void]
    counts: NDArray[np.int64]
    items: NDArray[Any]

    def __len__(self) -> int:
        return len(self.keys)

    def to_numpy(self) -> NDArray[np.void]:
        """One row [N] for each item: string, om, pmt and the fields of the item.

        Numbers have the field `value`.
        """
        names = self.items.dtype.names
        fields = [(name, self.items.dtype[name]) for name in names or ()]
        rows = np.empty(
            len(self.items), [*_fields(OM_KEY), *(fields or [("value", self.items.dtype)])]
        )
        repeated = np.repeat(self.keys, self.counts)
        for name in OM_KEY.names or ():
            rows[name] = repeated[name]
        for name, _ in fields:
            rows[name] = self.items[name]
        if not fields:
            rows["value"] = self.items
        return rows


def _fields(dtype: np.dtype[np.void]) -> list[tuple[str, np.dtype[np.generic]]]:
    return [(name, dtype[name]) for name in dtype.names or ()]


@dataclass(frozen=True)
class PulseMask:
    """A selection of the pulses of another map.

    Attributes
    ----------
    source
        Key of that map.
    selected
        Whether each photomultiplier of the map has a selected pulse [n].
    counts
        Number of pulses of the selected photomultipliers [m], in order.
    pulses
        Whether each of their pulses is selected [sum(counts)].
    """

    source: str
    selected: NDArray[np.bool_]
    counts: NDArray[np.int64]
    pulses: NDArray[np.bool_]


@dataclass(frozen=True)
class PulseUnion:
    """The pulses of several maps together, sorted by time in each photomultiplier."""

    sources: tuple[str, ...]


@dataclass(frozen=True)
class PulsesByModule:
    """The pulses of a map with all photomultipliers of a module as one, with number 0."""

    source: str


@dataclass(frozen=True)
class CorrectedPulses:
    """The pulses of a map with charges that a calibration corrects."""

    source: str
    calibration: str


@dataclass(frozen=True)
class Particle:
    """One particle; see `PARTICLE` for units and directions.

    Attributes
    ----------
    pdg
        Code of the Particle Data Group; negative ones below -2000000000 are energy losses.
    shape
        0 null, 10 primary, 30 cascade, 40 infinite, 50 starting, 60 stopping, 70 contained track…
    fit_status
        -1 not set, 0 OK, 10 general failure, 20 too few hits…
    location
        0 anywhere, 10 IceTop, 20 in ice, 30 in the active volume.
    """

    x: float = np.nan
    y: float = np.nan
    z: float = np.nan
    zenith: float = np.nan
    azimuth: float = np.nan
    time: float = np.nan
    energy: float = np.nan
    length: float = np.nan
    speed: float = 0.299792458
    pdg: int = 0
    shape: int = 0
    fit_status: int = -1
    location: int = 0
    major_id: int = 0
    minor_id: int = 0

    @classmethod
    def of(cls, row: NDArray[np.void]) -> Particle:
        """The particle of a row of type `PARTICLE`."""
        return cls(**{name: row[name].item() for name in PARTICLE.names or ()})

    def to_numpy(self) -> NDArray[np.void]:
        """The particle as an array [1] of type `PARTICLE`."""
        row = np.zeros(1, PARTICLE)
        for name in PARTICLE.names or ():
            value = getattr(self, name)
            row[name] = value
            if isinstance(value, int) and row[name][0] != value:  # NumPy below 2 wraps around
                raise OverflowError(f"{name} is out of range")
        return row


@dataclass(frozen=True)
class MCTree:
    """Simulated particles and which of them made which.

    Attributes
    ----------
    particles
        Particles [n] of type `PARTICLE`, each before its descendants, which follow at once.
    parents
        Number of the parent of each [n]; -1: it is a primary.
    """

    particles: NDArray[np.void]
    parents: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.particles)

    @property
    def primaries(self) -> NDArray[np.int64]:
        """Numbers of the particles without parent."""
        return np.flatnonzero(self.parents < 0)

    def daughters(self, number: int) -> NDArray[np.int64]:
        """Numbers of the particles that a particle made, in order."""
        return np.flatnonzero(self.parents == number)

    def end(self, number: int) -> int:
        """Number after that of the last descendant: particle and descendants are number:end."""
        later = np.flatnonzero(self.parents[number + 1 :] < number)
        return number + 1 + int(later[0]) if len(later) else len(self)

    def to_numpy(self) -> NDArray[np.void]:
        """One row [n] for each particle: number of its parent, and the fields of `PARTICLE`."""
        rows = np.empty(len(self), [("parent", "i8"), *_fields(PARTICLE)])
        rows["parent"] = self.parents
        for name in PARTICLE.names or ():
            rows[name] = self.particles[name]
        return rows


class TimeWindow(NamedTuple):
    """A time window in ns."""

    start: float
    stop: float


class FilterResult(NamedTuple):
    """Whether an event passed a filter, and its prescale."""

    condition_passed: bool
    prescale_passed: bool


class TriggerKey(NamedTuple):
    """Identity of a trigger."""

    source: int
    type: int
    subtype: int
    config_id: int | None


@dataclass(frozen=True)
class Trigger:
    """A trigger: time and length in ns; number of its parent in the hierarchy, -1 for none."""

    time: float
    length: float
    fired: bool
    key: TriggerKey
    parent: int


@dataclass(frozen=True)
class DomGeometry:
    """Geometry of n photomultipliers, as in a G frame.

    Attributes
    ----------
    keys
        Photomultipliers [n], of type `OM_KEY`.
    position
        x, y, z [n, 3] in m.
    om_type
        Types [n]: 20 IceCube, 30 IceTop, 110 PDOM, 120 D-Egg, 130 mDOM…
    area
        Sensitive areas [n] in m².
    start, end
        When it is valid; None: not decoded.
    """

    keys: NDArray[np.void]
    position: NDArray[np.float64]
    om_type: NDArray[np.int32]
    area: NDArray[np.float64]
    start: Time | None = None
    end: Time | None = None


@dataclass(frozen=True)
class DomCalibration:
    """Calibration of n photomultipliers as far as it corrects charges, as in a C frame.

    Attributes
    ----------
    keys
        Photomultipliers [n], of type `OM_KEY`, ascending.
    atwd_charge, fadc_charge
        Mean charges [n] in PE of single photoelectrons in pulses of ATWD and FADC, which charges
        are divided by; NaN: there is no correction.
    """

    keys: NDArray[np.void]
    atwd_charge: NDArray[np.float64]
    fadc_charge: NDArray[np.float64]


@dataclass(frozen=True)
class RawObject:
    """An object of a class that is not known here, as it is in the file.

    Attributes
    ----------
    class_name, type_name
        Class, and the name of its C++ type.
    content
        The bytes.
    """

    class_name: str
    type_name: str
    content: bytes = field(repr=False)
