"""Pulses in the compressed form of I3SuperDST.

Times are whole ns, charges steps of 0.05 PE and widths powers of two; in the first version times
are multiples of 4 ns and charges of 0.15 PE. A *readout* is a sequence of
pulses of one DOM; it has a header and for each pulse a *stamp* of 16 bits, which further words
follow where its time or charge does not fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.errors import DataError
from dnn_reco.i3.archive import U1, U2, InputArchive
from dnn_reco.i3.objects import OM_KEY, PULSE, OMKeyMap

_Ints = NDArray[np.int64]

_LONGEST_SHORT_SIZE = 0xF6
_FIRST_TIME = -512
_SATURATED_FIRST, _SATURATED_TIME, _SATURATED_CHARGE, _SATURATED_WORD = 2047, 255, 63, 0xFFFF
_LAST_IN_ICE = 60  # number of the deepest DOM of a string; tanks at the surface come after it
_LARGEST_SHIFT = 32  # bits: lengths of runs have less
_HLC_FLAGS, _SLC_FLAGS = 7, 4
_STOP = 0x8000  # bit of a stamp: it is the last of its readout
_TRUNCATED = "its stamps end too early"
_TOO_MANY = "it has more stamps than its readouts use"


@dataclass(frozen=True)
class _Stamps:
    """Pulses [p] in the order of the file: codes of DOM, time, charge, and coincidence."""

    dom: _Ints
    time: _Ints
    charge: _Ints
    is_hlc: _Ints
    is_first: NDArray[np.bool_]

    @classmethod
    def of(cls, codes: list[int]) -> _Stamps:
        """Pulses from five numbers each."""
        dom, time, charge, is_hlc, is_first = np.array(codes, dtype=np.int64).reshape(-1, 5).T
        return cls(dom, time, charge, is_hlc, is_first.astype(np.bool_))


def read_super_dst(archive: InputArchive, version: int) -> OMKeyMap:
    """The pulses of an object whose head has been read.

    Raises
    ------
    DataError
        If its version is not known, or its parts do not fit each other.
    """
    if version == 0:
        return _read_version_0(archive)
    if version != 1:
        raise DataError(f"class I3SuperDST in version {version} cannot be read")
    stamps = _compact_vector(archive, "stamps", "<u2").tolist()
    headers = _compact_vector(archive, "headers", "<u2").tolist()
    widths = [_compact_vector(archive, "bytes", "u1") for _ in range(4)]
    extra = _compact_vector(archive, "bytes", "u1").tolist()
    found = _split(stamps, headers, extra)
    om = (found.dom & 63) + 1
    pulses = np.zeros(len(om), PULSE)
    pulses["time"] = _times(found)
    in_ice = om <= _LAST_IN_ICE
    pulses["charge"] = found.charge * 0.05 + 0.025
    pulses["charge"][~in_ice] = 10 ** (found.charge[~in_ice] * (9 / 16383) - 2)
    pulses["width"] = _widths(widths, 2 * ~in_ice + found.is_hlc)
    pulses["flags"] = np.where(found.is_hlc == 1, _HLC_FLAGS, _SLC_FLAGS)
    return _by_dom(found.dom, pulses)


_TIME_STEP_0, _CHARGE_STEP_0, _WIDTH_0 = 4, 0.15, 1  # ns, PE, ns


def _read_version_0(archive: InputArchive) -> OMKeyMap:
    """The pulses of the first version, whose words beyond the first of a pulse have 15 bits.

    The bit that ends a readout is that of the last word. Source: IceTray, I3SuperDST, which gives
    all pulses a width of 1 ns.
    """
    words = archive.array(np.dtype("<u2"), archive.number(U2))
    headers = archive.array(np.dtype("<u2"), int(np.count_nonzero(words & _STOP)))
    found = _split_version_0(words.tolist(), headers.tolist())
    pulses = np.zeros(len(found.dom), PULSE)
    pulses["time"] = _times(found, _FIRST_TIME // _TIME_STEP_0) * _TIME_STEP_0
    pulses["charge"] = found.charge * _CHARGE_STEP_0
    pulses["width"] = _WIDTH_0
    pulses["flags"] = np.where(found.is_hlc == 1, _HLC_FLAGS, _SLC_FLAGS)
    return _by_dom(found.dom, pulses)


def _split_version_0(stamps: list[int], headers: list[int]) -> _Stamps:
    codes: list[int] = []  # five for each pulse
    words = iter(stamps)
    try:
        for header in headers:
            dom, begin, is_first, word = header & 0x1FFF, header >> 13 << 8, True, 0
            while not word & _STOP:
                word = stamp = next(words)
                time, charge = stamp & 0xFF, (stamp >> 8) & 63
                if is_first:
                    time |= begin
                    if time == _SATURATED_FIRST:
                        word = next(words)
                        time += word & ~_STOP
                if charge == _SATURATED_CHARGE:
                    word = next(words)
                    charge += word & ~_STOP
                codes += (dom, time, charge, (stamp >> 14) & 1, is_first)
                is_first = False
    except StopIteration as error:
        raise DataError(_TRUNCATED) from error
    if next(words, None) is not None:
        raise DataError(_TOO_MANY)
    return _Stamps.of(codes)


def _compact_vector(archive: InputArchive, name: str, kind: str) -> NDArray[Any]:
    archive.class_version(f"CompactVector<{name}>")
    archive.class_version("SizeCodec")
    size = archive.number(U1)
    if size > _LONGEST_SHORT_SIZE:
        size = int.from_bytes(archive.take(0xFF - size), "little")
    return archive.array(np.dtype(kind), size)


def _split(stamps: list[int], headers: list[int], extra: list[int]) -> _Stamps:
    """Split the words of all readouts; how many belong to a pulse stands in the words."""
    codes: list[int] = []  # five for each pulse
    words, more = iter(stamps), iter(extra)
    try:
        for header in headers:
            dom, begin, is_first, word = header & 0x1FFF, header >> 13 << 8, True, 0
            in_ice = (dom & 63) < _LAST_IN_ICE
            while not word & _STOP:
                word = next(words)
                time, saturated = word & 0xFF, _SATURATED_TIME
                if is_first:
                    time, saturated = time | begin, _SATURATED_FIRST
                charge = (word >> 8) & 63
                if time == saturated:
                    time += _overflow(words)
                if not in_ice:
                    charge |= next(more) << 6
                elif charge == _SATURATED_CHARGE:
                    charge += _overflow(words)
                codes += (dom, time, charge, (word >> 14) & 1, is_first)
                is_first = False
    except StopIteration as error:
        raise DataError(_TRUNCATED) from error
    if next(words, None) is not None or next(more, None) is not None:
        raise DataError(_TOO_MANY)
    return _Stamps.of(codes)


def _overflow(words: Any) -> int:
    total = 0
    while True:
        word: int = next(words)
        total += word
        if word != _SATURATED_WORD:
            return total


def _times(found: _Stamps, begin: int = _FIRST_TIME) -> _Ints:
    """Times [p] in the unit of the codes, from that of the earliest that there can be.

    The code of a readout's first pulse counts from the first pulse of the readout before, those of
    the others from the pulse before.
    """
    first_code = np.where(found.is_first, found.time, 0)
    reference = begin + np.cumsum(first_code)
    later = np.cumsum(found.time - first_code)
    at_first = np.flatnonzero(found.is_first)
    readout = np.cumsum(found.is_first) - 1
    return reference + later - later[at_first][readout] if len(at_first) else reference


def _widths(streams: list[NDArray[np.uint8]], stream_of_pulse: _Ints) -> NDArray[np.float32]:
    """Widths [p] in ns; each stream lists those of its pulses."""
    widths = np.zeros(len(stream_of_pulse), dtype=np.float32)
    for number, stream in enumerate(streams):
        of_stream = stream_of_pulse == number
        lengths, codes = _runs(stream.tolist())
        if sum(lengths) != np.count_nonzero(of_stream):
            raise DataError(f"it has {sum(lengths)} widths for {of_stream.sum()} pulses")
        widths[of_stream] = np.exp2(np.repeat(codes, lengths))
    return widths


def _runs(stream: list[int]) -> tuple[list[int], list[int]]:
    """Lengths and codes of the runs of equal codes; a length is spread over bytes of one code."""
    lengths: list[int] = []
    codes: list[int] = []
    shift = 0
    for byte in stream:
        length, code = byte >> 4, byte & 15
        if codes and codes[-1] == code:
            shift += 4
            if shift > _LARGEST_SHIFT:
                raise DataError("a run of equal widths is too long")
            lengths[-1] += length << shift
        else:
            shift = 0
            lengths.append(length)
            codes.append(code)
    return lengths, codes


def _by_dom(dom: _Ints, pulses: NDArray[np.void]) -> OMKeyMap:
    """Pulses by DOM and time, none reaching into the next one."""
    order = np.lexsort((pulses["time"], dom))
    dom, pulses = dom[order], pulses[order]
    codes, starts, counts = np.unique(dom, return_index=True, return_counts=True)
    until_next = np.full(len(dom), np.inf, dtype=np.float32)
    is_followed = dom[1:] == dom[:-1]
    gap = np.diff(pulses["time"])[is_followed]
    until_next[:-1][is_followed] = gap
    if (gap == 0).any():
        with_ties = np.unique(dom[:-1][is_followed][gap == 0])
        for k in np.searchsorted(codes, with_ties).tolist():
            _separate(pulses[starts[k] : starts[k] + counts[k]])
        untouched = ~np.isin(dom, with_ties)
        until_next[~untouched] = np.inf
    pulses["width"] = np.minimum(pulses["width"], until_next)
    keys = np.zeros(len(codes), OM_KEY)
    keys["string"], keys["om"] = codes >> 6, (codes & 63) + 1
    return OMKeyMap(keys, counts.astype(np.int64), pulses)


def _separate(pulses: NDArray[np.void]) -> None:
    """Shorten the pulses of a DOM in place, and share out the width of those at the same time."""
    time, width = pulses["time"], pulses["width"]
    last = len(pulses) - 1
    is_postponed = False
    for i in range(len(pulses)):
        if i < last:
            width[i] = min(width[i], np.float32(time[i + 1] - time[i]))
        if i == 0:
            is_postponed = width[0] == 0
            continue
        if width[i] == 0 or is_postponed:
            if width[i - 1] == 0 and width[i] > 0:
                width[i - 1] = width[i]
            width[i - 1 : i + 1] = np.float32(width[i - 1] / 2)
            time[i] = time[i - 1] + width[i]
        is_postponed = False
