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

MC_PHOTOELECTRON_RECORD = Record(
    "I3MCPE",
    1,
    (("time", "f8"), ("npe", "u4"), ("major_id", "u8"), ("minor_id", "i4")),
    tracked=False,
)

MC_PULSE_RECORD = Record(
    "I3MCPulse", 1, (("time", "f8"), ("charge", "f4"), ("source", "i4")), tracked=False
)

FILTER_RESULT_RECORD = Record(
    "I3FilterResult", 0, (FRAME_OBJECT, ("condition_passed", "u1"), ("prescale_passed", "u1"))
)


# --------------------------------------------------------------------------------------------------
# Particles
# --------------------------------------------------------------------------------------------------
POSITION_RECORD = Record("I3Position", 0, (FRAME_OBJECT, *((axis, "f8") for axis in "xyz")))
DIRECTION_RECORD = Record("I3Direction", 0, (FRAME_OBJECT, ("zenith", "f8"), ("azimuth", "f8")))
TIME_RECORD = Record("I3Time", 0, (FRAME_OBJECT, ("year", "i4"), ("daq_time", "i8")))

# Codes of particles before version 5, and what the Particle Data Group calls them.
_CODES_3 = {
    1: 22,
    2: -11,
    3: 11,
    5: -13,
    6: 13,
    7: 111,
    8: 211,
    9: -211,
    10: 130,
    11: 321,
    12: -321,
    13: 2112,
    14: 2212,
    15: -2212,
    66: 12,
    67: -12,
    68: 14,
    69: -14,
    131: -15,
    132: 15,
    133: 16,
    134: -16,
}
_LOSSES = {1001 + i: -2000001001 - i for i in range(6)}
_CODES_2 = {
    **{code: pdg for code, pdg in _CODES_3.items() if code <= 15},
    4: -2000000004,
    33: -15,
    34: 15,
    201: 12,
    202: 14,
    203: 16,
    204: -12,
    205: -14,
    206: -16,
    **_LOSSES,
}
_LEAST_NUCLEUS, _MOST_NUCLEUS = 200, 30000


def _pdg_of_nucleus(code: int) -> int:
    """Nuclei were 100 times mass number plus atomic number; the PDG has 10LZZZAAAI."""
    mass, charge = divmod(code, 100)
    return 1_000_000_000 + 10_000 * charge + 10 * mass


def _with_pdg_codes(codes: Mapping[int, int], old: _Rows, nuclei: bool) -> _Rows:
    """Particles whose private codes are replaced by those of the Particle Data Group."""
    rows = np.zeros(len(old), PARTICLE)
    for name in set(PARTICLE.names or ()) & set(old.dtype.names or ()):
        rows[name] = old[name]
    rows["pdg"] = [
        codes.get(
            code,
            _pdg_of_nucleus(code)
            if nuclei and _LEAST_NUCLEUS <= code < _MOST_NUCLEUS and code % 100
            else 0,
        )
        for code in old["pdg"].tolist()
    ]
    return rows


def _from_version_4(old: _Rows) -> _Rows:
    return _with_pdg_codes({**_CODES_3, **_LOSSES}, old, nuclei=True)


def _from_version_2(old: _Rows) -> _Rows:
    return _with_pdg_codes(_CODES_2, old, nuclei=False)


_KIND = (("pdg", "i4"), ("shape", "i4"), ("fit_status", "i4"))
_MOTION = tuple((name, "f8") for name in ("time", "energy", "length", "speed"))
_CONTENT: tuple[tuple[str, str] | Record, ...] = (
    *_KIND,
    POSITION_RECORD,
    DIRECTION_RECORD,
    *_MOTION,
    ("location", "i4"),
)
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
    },
)

_TRACK_POINTS = tuple((name, "f8") for name in (MMC_TRACK.names or ())[1:])
MMC_TRACK_RECORD = Record("I3MMCTrack", 1, (PARTICLE_RECORD, *_TRACK_POINTS))


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
