"""The classes of `.i3` files that are a fixed sequence of numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dnn_reco.i3.layout import FRAME_OBJECT, Record
from dnn_reco.i3.objects import MMC_TRACK, PARTICLE, PULSE

_Rows = NDArray[np.void]

_STRING_AND_OM = (("string", "i4"), ("om", "u4"))
OM_KEY_RECORD = Record(
    "OMKey",
    2,
    (*_STRING_AND_OM, ("pmt", "u1")),
    older={
        1: Record("OMKey", 1, (FRAME_OBJECT, *_STRING_AND_OM, ("pmt", "u1"))),
        0: Record("OMKey", 0, (FRAME_OBJECT, *_STRING_AND_OM)),
    },
)

TANK_KEY_RECORD = Record("TankKey", 0, (("string", "i4"), ("tank", "i4")))


# --------------------------------------------------------------------------------------------------
# Pulses and windows
# --------------------------------------------------------------------------------------------------
_FLAGS_OF_SOURCE = {0: 3, 1: 5, 10: 5, 5: 4, 50: 4}


def _pulses_of_sources(old: _Rows) -> _Rows:
    """Pulses of versions before 2, which name a source instead of flags."""
    rows = np.zeros(len(old), PULSE)
    with np.errstate(over="ignore"):  # what is too large for a smaller type becomes infinite
        for name in ("time", "charge", "width"):
            rows[name] = old[name]
    if "source" in (old.dtype.names or ()):
        rows["flags"] = [_FLAGS_OF_SOURCE.get(source, 0) for source in old["source"].tolist()]
    return rows


def _pulses_of_version_2(old: _Rows) -> _Rows:
    return old.astype(PULSE)


_OLD_PULSE = (("time", "f8"), ("hit_id", "i4"), ("charge", "f8"), ("width", "f8"))
PULSE_RECORD = Record(
    "I3RecoPulse",
    3,
    (("time", "f8"), ("charge", "f4"), ("width", "f4"), ("flags", "u1")),
    older={
        2: Record(
            "I3RecoPulse",
            2,
            (("time", "f4"), ("charge", "f4"), ("width", "f4"), ("flags", "u1")),
            upgrade=_pulses_of_version_2,
        ),
        1: Record("I3RecoPulse", 1, (*_OLD_PULSE, ("source", "i4")), upgrade=_pulses_of_sources),
        0: Record("I3RecoPulse", 0, _OLD_PULSE, upgrade=_pulses_of_sources),
    },
)

TIME_WINDOW_RECORD = Record(
    "I3TimeWindow",
    1,
    (FRAME_OBJECT, ("start", "f8"), ("stop", "f8")),
    older={0: Record("I3TimeWindow", 0, (("start", "f8"), ("stop", "f8")))},
)

_NUMBER_AND_MAKER = (("npe", "u4"), ("major_id", "u8"), ("minor_id", "i4"))
MC_PHOTOELECTRON_RECORD = Record(
    "I3MCPE",
    1,
    (("time", "f8"), *_NUMBER_AND_MAKER),
    tracked=False,
    older={0: Record("I3MCPE", 0, (("time", "f4"), *_NUMBER_AND_MAKER), tracked=False)},
)

_CHARGE_AND_SOURCE = (("charge", "f4"), ("source", "i4"))
MC_PULSE_RECORD = Record(
    "I3MCPulse",
    1,
    (("time", "f8"), *_CHARGE_AND_SOURCE),
    tracked=False,
    older={0: Record("I3MCPulse", 0, (("time", "f4"), *_CHARGE_AND_SOURCE), tracked=False)},
)

FILTER_RESULT_RECORD = Record(
    "I3FilterResult", 0, (FRAME_OBJECT, ("condition_passed", "u1"), ("prescale_passed", "u1"))
)


# --------------------------------------------------------------------------------------------------
# Particles
# --------------------------------------------------------------------------------------------------
POSITION_RECORD = Record("I3Position", 0, (FRAME_OBJECT, *((axis, "f8") for axis in "xyz")))
DIRECTION_RECORD = Record("I3Direction", 0, (FRAME_OBJECT, ("zenith", "f8"), ("azimuth", "f8")))
QUATERNION_RECORD = Record("I3Quaternion", 0, (FRAME_OBJECT, *((part, "f8") for part in "xyzw")))
ORIENTATION_RECORD = Record("I3Orientation", 0, (FRAME_OBJECT, QUATERNION_RECORD))
TIME_RECORD = Record("I3Time", 0, (FRAME_OBJECT, ("year", "i4"), ("daq_time", "i8")))

# Codes of particles before version 5, and what the Particle Data Group calls them. Source:
# IceTray, I3Particle.
_CODES_OF_ALL = {
    1: 22, 2: -11, 3: 11, 5: -13, 6: 13, 7: 111, 8: 211, 9: -211, 11: 321, 12: -321, 14: 2212,
    15: -2212,
}  # fmt: skip
_LOSSES = {1001 + i: -2000001001 - i for i in range(6)}
_LASERS = {2100: -2000002100, 2101: -2000002101, 2201: -2000002201}
_MONOPOLE, _NEUTRINO = -2000000041, -2000000004
_CODES_3 = {
    **_CODES_OF_ALL,
    10: 130, 13: 2112, 16: 310, 17: 221, 18: 3122, 19: 3222, 20: 3212, 21: 3112, 22: 3322,
    23: 3312, 24: 3334, 25: -2112, 26: -3122, 27: -3222, 28: -3212, 29: -3112, 30: -3322,
    31: -3312, 32: -3334, 35: 411, 36: -411, 37: 421, 38: -421, 39: 431, 40: -431, 41: 4122,
    42: 24, 43: -24, 44: 23, 66: 12, 67: -12, 68: 14, 69: -14, 131: -15, 132: 15, 133: 16,
    134: -16, 9900: 2000009900, -4: _NEUTRINO, -41: _MONOPOLE, -1111: -2000001111,
    -9131: -2000009131, -9132: -2000009132, -9500: -2000009500, -9501: -2000009501,
    **{-code: pdg for code, pdg in (_LOSSES | _LASERS).items()},
}  # fmt: skip
_CODES_2 = {
    **_CODES_OF_ALL, **_LOSSES, **_LASERS,
    4: _NEUTRINO, 33: -15, 34: 15, 41: _MONOPOLE, 201: 12, 202: 14, 203: 16, 204: -12, 205: -14,
    206: -16,
}  # fmt: skip

# Mass numbers of the nuclei that had codes: from helium to iron, the first and the last.
_ISOTOPES = (
    *((3, 6), (6, 7), (9, 9), (10, 11), (12, 13), (14, 15), (16, 18), (19, 19), (20, 22)),
    *((23, 23), (24, 26), (26, 27), (28, 32), (31, 33), (32, 36), (35, 37), (36, 42), (39, 41)),
    *((40, 48), (44, 48), (44, 50), (48, 51), (50, 54), (52, 55), (54, 58)),
)
_MOST_COMMON = (
    *(4, 7, 9, 11, 12, 14, 16, 19, 20, 23, 24, 27, 28, 31, 32, 35, 40, 39, 40, 45, 48, 51, 52),
    *(55, 56),
)


def _pdg_of_nucleus(charge: int, mass: int) -> int:
    return 1_000_000_000 + 10_000 * charge + 10 * mass


_CODES_3 |= {
    100 * mass + charge: _pdg_of_nucleus(charge, mass)
    for charge, (first, last) in enumerate(_ISOTOPES, start=2)
    for mass in range(first, last + 1)
}
_CODES_2 |= {
    3000 + charge: _pdg_of_nucleus(charge, mass)
    for charge, mass in enumerate(_MOST_COMMON, start=2)
}


def _with_pdg_codes(codes: Mapping[int, int], old: _Rows) -> _Rows:
    """Particles whose private codes are replaced by those of the Particle Data Group."""
    rows = np.zeros(len(old), PARTICLE)
    for name in set(PARTICLE.names or ()) & set(old.dtype.names or ()):
        rows[name] = old[name]
    rows["pdg"] = [codes.get(code, 0) for code in old["pdg"].tolist()]
    return rows


def _from_version_4(old: _Rows) -> _Rows:
    return _with_pdg_codes(_CODES_3, old)


def _from_version_2(old: _Rows) -> _Rows:
    return _with_pdg_codes(_CODES_2, old)


_KIND = (("pdg", "i4"), ("shape", "i4"), ("fit_status", "i4"))
_MOTION = tuple((name, "f8") for name in ("time", "energy", "length", "speed"))
_FIRST_CONTENT: tuple[tuple[str, str] | Record, ...] = (
    *_KIND,
    POSITION_RECORD,
    DIRECTION_RECORD,
    *_MOTION,
)
_CONTENT = (*_FIRST_CONTENT, ("location", "i4"))
_RELATIVES = (("parent_id", "i4"), ("primary_id", "i4"))
_IDS = (("minor_id", "i4"), ("major_id", "u8"))
_SURPLUS = (("surplus_0", "f8"), ("surplus_1", "f8"))
PARTICLE_RECORD = Record(
    "I3Particle",
    5,
    (FRAME_OBJECT, *_IDS, *_CONTENT),
    older={
        4: Record(
            "I3Particle", 4, (FRAME_OBJECT, *_IDS, *_CONTENT, *_SURPLUS), upgrade=_from_version_4
        ),
        3: Record("I3Particle", 3, (FRAME_OBJECT, *_IDS, *_CONTENT), upgrade=_from_version_4),
        2: Record("I3Particle", 2, (FRAME_OBJECT, *_IDS, *_CONTENT), upgrade=_from_version_2),
        1: Record("I3Particle", 1, (FRAME_OBJECT, _IDS[0], *_CONTENT), upgrade=_from_version_2),
        0: Record(
            "I3Particle",
            0,
            (FRAME_OBJECT, _IDS[0], *_RELATIVES, *_FIRST_CONTENT),
            upgrade=_from_version_2,
            has_children=True,
        ),
    },
)

# Losses of a muon in a tree that stores them without position and direction.
STOCHASTIC_RECORD = Record(
    "I3Stochastic",
    0,
    (("time", "f4"), ("energy", "f4"), ("major_id", "u8"), ("minor_id", "i4"), ("pdg", "i4")),
)

_TRACK_POINTS = tuple((name, "f8") for name in (MMC_TRACK.names or ())[1:])


def _times_from_seconds(old: _Rows) -> _Rows:
    """Tracks of version 0, with times in s."""
    rows = old.copy()
    for name in ("ti", "tf", "tc"):
        rows[name] *= 1e9
    return rows


_TRACK_PARTS: tuple[tuple[str, str] | Record, ...] = (PARTICLE_RECORD, *_TRACK_POINTS)
MMC_TRACK_RECORD = Record(
    "I3MMCTrack",
    1,
    _TRACK_PARTS,
    older={0: Record("I3MMCTrack", 0, _TRACK_PARTS, upgrade=_times_from_seconds)},
)


def mmc_tracks(rows: _Rows) -> _Rows:
    """Tracks [n] of type `MMC_TRACK` from rows of `MMC_TRACK_RECORD`."""
    tracks = np.zeros(len(rows), MMC_TRACK)
    for name in PARTICLE.names or ():
        tracks["particle"][name] = rows[name]
    for name, _ in _TRACK_POINTS:
        tracks[name] = rows[name]
    return tracks


def mmc_rows(tracks: _Rows) -> _Rows:
    """Rows of `MMC_TRACK_RECORD` from tracks [n] of type `MMC_TRACK`."""
    rows = np.zeros(len(tracks), MMC_TRACK_RECORD.dtype)
    for name in PARTICLE.names or ():
        rows[name] = tracks["particle"][name]
    for name, _ in _TRACK_POINTS:
        rows[name] = tracks[name]
    return rows
