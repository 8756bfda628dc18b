"""Maps from photomultipliers to lists of items, masks and other references to pulses."""

from __future__ import annotations

import struct
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.errors import DataError
from dnn_reco.i3.archive import U1, U2, InputArchive, IrregularIdsError, OutputArchive
from dnn_reco.i3.layout import Record
from dnn_reco.i3.objects import (
    OM_KEY,
    PULSE,
    TIME_WINDOW,
    DomCalibration,
    OMKeyMap,
    PulseMask,
)
from dnn_reco.i3.records import OM_KEY_RECORD, TIME_WINDOW_RECORD

_PAIR, _MAP = "pair<OMKey, items>", "map<OMKey, items>"
_LIST = "list of items"
_KEY_AND_COUNT = struct.Struct("<IiIBI")  # number of the key object, string, om, pmt, count
_LEAST_ENTRY = 4  # bytes: a key that occurred before


# --------------------------------------------------------------------------------------------------
# Lists of objects: pulses, photoelectrons
# --------------------------------------------------------------------------------------------------
def read_record_map(archive: InputArchive, record: Record) -> OMKeyMap:
    """A map of photomultipliers to vectors of objects of one class."""
    number = archive.container(_MAP, _LEAST_ENTRY)
    keys: list[Any] = []
    parts: list[Any] = []
    while len(keys) < number and not _can_read_fast(archive, record):
        keys.append(_read_key(archive))
        count = archive.container(_LIST, 4)
        parts.append(archive.records(record, count))
    head = _joined(keys, parts, record.dtype)
    if len(keys) < number:
        tail = _read_fast(archive, number - len(keys), record)
        head = OMKeyMap(
            np.concatenate([head.keys, tail.keys]),
            np.concatenate([head.counts, tail.counts]),
            np.concatenate([head.items, tail.items]),
        )
    return _checked(head)


def _can_read_fast(archive: InputArchive, record: Record) -> bool:
    """Whether all classes have occurred, in the current versions, so that entries are regular."""
    return not archive.one_by_one and all(
        archive.is_current(each) for each in (OM_KEY_RECORD, record)
    )


def _read_key(archive: InputArchive) -> Any:
    archive.class_version(_PAIR)
    return archive.records(OM_KEY_RECORD, 1)[0]


def _checked(value: OMKeyMap) -> OMKeyMap:
    """The map, whose photomultipliers must be in order: masks refer to them by their place."""
    keys = value.keys
    order = np.lexsort([keys[name] for name in ("pmt", "om", "string")])
    if (np.diff(order) != 1).any() or (keys[1:] == keys[:-1]).any():
        raise DataError("the photomultipliers of a map must be different and in ascending order")
    return value


def _joined(keys: list[Any], parts: list[Any], dtype: np.dtype[Any]) -> OMKeyMap:
    return OMKeyMap(
        np.array(keys, OM_KEY),
        np.array([len(part) for part in parts], dtype=np.int64),
        np.concatenate([np.zeros(0, dtype), *parts]),
    )


def _read_fast(archive: InputArchive, number: int, record: Record) -> OMKeyMap:
    """Entries that have no versions in them: a loop over photomultipliers, not over items."""
    data, position, size = archive.data, archive.position, record.stored.itemsize
    unpack, width = _KEY_AND_COUNT.unpack_from, _KEY_AND_COUNT.size
    entries, slices = [], []
    try:
        for _ in range(number):
            entry = unpack(data, position)
            start = position + width
            position = start + entry[4] * size
            entries.append(entry)
            slices.append(data[start:position])
    except struct.error as error:
        raise IrregularIdsError from error  # what refers to others is shorter
    if position > len(data):
        raise IrregularIdsError
    table = np.array(entries, dtype=np.int64).reshape(-1, 5)
    raw = np.frombuffer(b"".join(slices), record.stored)
    counts = table[:, 4]
    archive.position = position
    _expect_interleaved_ids(archive, table[:, 0], counts, raw, record)
    keys = np.zeros(number, OM_KEY)
    keys["string"], keys["om"], keys["pmt"] = table[:, 1], table[:, 2], table[:, 3]
    items = np.empty(len(raw), record.dtype)
    for name in record.dtype.names or ():
        items[name] = raw[name]
    return OMKeyMap(keys, counts, items)


def _expect_interleaved_ids(
    archive: InputArchive,
    key_ids: NDArray[np.int64],
    counts: NDArray[np.int64],
    raw: NDArray[np.void],
    record: Record,
) -> None:
    """Check that keys and items are numbered in order, and count them."""
    per_item = len(record.id_names)
    before = np.cumsum(counts) - counts  # items of the entries before
    expected = archive.num_objects + np.arange(len(counts)) + per_item * before
    if (key_ids != expected).any():
        raise IrregularIdsError
    first_item = np.repeat(expected + 1 - per_item * before, counts)
    item_ids = first_item + per_item * np.arange(len(raw))
    if any((raw[name] != item_ids + k).any() for k, name in enumerate(record.id_names)):
        raise IrregularIdsError
    archive.num_objects += len(counts) + per_item * len(raw)


def write_record_map(archive: OutputArchive, value: OMKeyMap, record: Record) -> None:
    """Append a map of photomultipliers to vectors of objects of one class."""
    archive.container(_MAP, len(value))
    for key, part in _entries(value):
        archive.class_version(_PAIR)
        archive.records(OM_KEY_RECORD, key)
        archive.container(_LIST, len(part))
        archive.records(record, part)


def _entries(value: OMKeyMap) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Key [1] and items of each photomultiplier, which must be in ascending order."""
    _checked(value)
    stops = _stops(value.counts, len(value.keys), len(value.items))
    starts = [0, *stops][:-1]
    return [
        (value.keys[i : i + 1], value.items[start:stop])
        for i, (start, stop) in enumerate(zip(starts, stops, strict=True))
    ]


def _stops(counts: NDArray[np.int64], num_lists: int, num_items: int) -> list[int]:
    """Where the items of each list end among those of all, which they must use up."""
    if len(counts) != num_lists or (counts < 0).any() or counts.sum() != num_items:
        raise DataError(f"{num_lists} lists with {num_items} items do not have the counts {counts}")
    return list(accumulate(counts.tolist()))


# --------------------------------------------------------------------------------------------------
# Lists of numbers
# --------------------------------------------------------------------------------------------------
def read_number_map(archive: InputArchive, kind: str, is_list: bool) -> OMKeyMap:
    """A map of photomultipliers to vectors of numbers, or to one number each."""
    number = archive.container(_MAP, _LEAST_ENTRY)
    dtype = np.dtype(kind)
    keys, parts = [], []
    for _ in range(number):
        keys.append(_read_key(archive))
        parts.append(archive.numbers(kind) if is_list else archive.array(dtype, 1))
    return _checked(_joined(keys, parts, dtype))


def write_number_map(archive: OutputArchive, value: OMKeyMap, kind: str, is_list: bool) -> None:
    """Append a map of photomultipliers to vectors of numbers, or to one number each."""
    archive.container(_MAP, len(value))
    for key, part in _entries(value):
        archive.class_version(_PAIR)
        archive.records(OM_KEY_RECORD, key)
        if is_list:
            archive.numbers(kind, part)
        elif len(part) == 1:
            archive.array(kind, part)
        else:
            raise DataError(f"the map holds one number per photomultiplier, not {len(part)}")


# --------------------------------------------------------------------------------------------------
# Time windows
# --------------------------------------------------------------------------------------------------
_SERIES, _SERIES_VERSION = "I3TimeWindowSeries", 1


def read_windows(archive: InputArchive, version: int) -> NDArray[np.void]:
    """Windows [n] of a series whose head has been read."""
    del version  # differs in the base alone, which the caller has read
    return archive.records(TIME_WINDOW_RECORD, archive.container(_LIST, 4))


def write_windows(archive: OutputArchive, windows: NDArray[np.void]) -> None:
    """Append the windows of a series."""
    archive.container(_LIST, len(windows))
    archive.records(TIME_WINDOW_RECORD, windows)


def read_window_map(archive: InputArchive) -> OMKeyMap:
    """A map of photomultipliers to series of time windows."""

    def series(version: int) -> NDArray[np.void]:
        if version > _SERIES_VERSION:
            raise DataError(f"class {_SERIES} in version {version} cannot be read")
        if version >= 1:
            archive.base()
        return read_windows(archive, version)

    number = archive.container(_MAP, _LEAST_ENTRY)
    keys, parts = [], []
    for _ in range(number):
        keys.append(_read_key(archive))
        parts.append(archive.tracked(_SERIES, series))
    return _checked(_joined(keys, parts, TIME_WINDOW))


def write_window_map(archive: OutputArchive, value: OMKeyMap) -> None:
    """Append a map of photomultipliers to series of time windows."""
    archive.container(_MAP, len(value))
    for key, part in _entries(value):
        archive.class_version(_PAIR)
        archive.records(OM_KEY_RECORD, key)
        archive.tracked(_SERIES, _SERIES_VERSION)
        archive.tracked("I3FrameObject", 0)
        write_windows(archive, part)


# --------------------------------------------------------------------------------------------------
# Masks
# --------------------------------------------------------------------------------------------------
_BITMASK, _MASKS = "bitmask", "vector<bitmask>"
_MASK_HEAD = struct.Struct("<HB")
_ALL_OF_VERSION_0 = 64


def read_mask(archive: InputArchive, version: int) -> PulseMask:
    """A mask whose head has been read.

    Raises
    ------
    DataError
        If its version is not known.
    """
    if version > 2:
        raise DataError(f"a mask in version {version} cannot be read")
    source = archive.string()
    if version == 1:
        archive.take(4)  # a time
    archive.class_version(_BITMASK)
    selected = _read_bits(archive)
    number = archive.container(_MASKS, _MASK_HEAD.size)
    counts, pulses = _read_element_masks(archive, number)
    if version == 0 and number == 0 and len(selected) == _ALL_OF_VERSION_0 and selected.all():
        selected = np.zeros(0, dtype=np.bool_)
    if np.count_nonzero(selected) != number:
        raise DataError(
            f"{np.count_nonzero(selected)} photomultipliers are selected, but there are pulses "
            f"of {number}"
        )
    return PulseMask(source, selected, counts, pulses)


def _read_bits(archive: InputArchive) -> NDArray[np.bool_]:
    return _read_element_masks(archive, 1)[1]


def _read_element_masks(
    archive: InputArchive, number: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Number of bits of several masks [m], and the bits of all [sum of them]."""
    data, position = archive.data, archive.position
    counts, sizes, parts = [], [], []
    try:
        for _ in range(number):
            num_bytes, padding = _MASK_HEAD.unpack_from(data, position)
            if padding > 8 * num_bytes:
                raise DataError(f"a mask of {num_bytes} bytes has {padding} unexpected bits")
            begin = position + _MASK_HEAD.size
            position = begin + num_bytes
            parts.append(data[begin:position])
            counts.append(8 * num_bytes - padding)
            sizes.append(8 * num_bytes)
    except struct.error as error:
        raise DataError("it ends too early") from error
    archive.take(position - archive.position)  # raises where the last one is not whole
    bits = np.unpackbits(np.frombuffer(b"".join(parts), np.uint8), bitorder="little")
    kept, all_bits = np.array(counts, dtype=np.int64), np.array(sizes, dtype=np.int64)
    place = np.arange(len(bits)) - np.repeat(np.cumsum(all_bits) - all_bits, all_bits)
    return kept, bits[place < np.repeat(kept, all_bits)].astype(np.bool_)


def write_mask(archive: OutputArchive, value: PulseMask) -> None:
    """Append a mask."""
    stops = _stops(value.counts, int(value.selected.sum()), len(value.pulses))
    archive.string(value.source)
    archive.class_version(_BITMASK)
    _write_bits(archive, value.selected)
    archive.container(_MASKS, len(value.counts))
    for count, stop in zip(value.counts.tolist(), stops, strict=True):
        archive.class_version(_BITMASK)
        _write_bits(archive, value.pulses[stop - count : stop])


def _write_bits(archive: OutputArchive, bits: NDArray[np.bool_]) -> None:
    content = np.packbits(bits, bitorder="little").tobytes()
    archive.number(U2, len(content))
    archive.number(U1, 8 * len(content) - len(bits))
    archive.content += content


# --------------------------------------------------------------------------------------------------
# From references to pulses
# --------------------------------------------------------------------------------------------------
def apply_mask(mask: PulseMask, pulses: OMKeyMap) -> OMKeyMap:
    """The selected pulses of a map.

    Raises
    ------
    DataError
        If the mask was made for other pulses.
    """
    if len(mask.selected) != len(pulses):
        raise DataError(
            f"the mask is for {len(mask.selected)} photomultipliers, '{mask.source}' has "
            f"{len(pulses)}"
        )
    if not np.array_equal(mask.counts, pulses.counts[mask.selected]):
        raise DataError(f"the mask does not fit the number of pulses in '{mask.source}'")
    keep = np.zeros(len(pulses.items), dtype=np.bool_)
    keep[np.repeat(mask.selected, pulses.counts)] = mask.pulses
    return _kept(pulses, keep)


def _kept(pulses: OMKeyMap, keep: NDArray[np.bool_]) -> OMKeyMap:
    """Items to keep [N]; photomultipliers without any are left out."""
    total = np.concatenate([[0], np.cumsum(keep)])
    stops = np.cumsum(pulses.counts)
    counts = total[stops] - total[stops - pulses.counts]
    filled = counts > 0
    return OMKeyMap(pulses.keys[filled], counts[filled], pulses.items[keep])


_MOST_PULSES = 2**24  # unions of unions of the same pulses must not fill the memory


def merge(maps: list[OMKeyMap], by_module: bool = False) -> OMKeyMap:
    """The items of several maps in one, sorted by time in each photomultiplier.

    Parameters
    ----------
    maps
        Maps of pulses.
    by_module
        Whether all photomultipliers of a module count as one, with number 0.

    Raises
    ------
    DataError
        If there are too many pulses.
    """
    if sum(len(each.items) for each in maps) > _MOST_PULSES:
        raise DataError(f"the maps have more than {_MOST_PULSES} pulses together")
    keys = np.concatenate([np.zeros(0, OM_KEY), *(each.keys for each in maps)])
    if by_module:
        keys["pmt"] = 0
    counts = np.concatenate([np.zeros(0, np.int64), *(each.counts for each in maps)])
    items = np.concatenate([np.zeros(0, PULSE), *(each.items for each in maps)])
    unique, number = np.unique(keys, return_inverse=True)  # in the order of the fields
    of_item = np.repeat(number.reshape(-1), counts)
    order = np.lexsort((items["time"], of_item))
    merged = np.bincount(of_item, minlength=len(unique))
    return OMKeyMap(unique, merged.astype(np.int64), items[order])


_ATWD = 2  # flag of a pulse


def corrected(pulses: OMKeyMap, calibration: DomCalibration) -> OMKeyMap:
    """Pulses with charges divided by the mean of their photomultiplier, where there is one.

    Raises
    ------
    DataError
        If a photomultiplier is not calibrated.
    """
    place = np.searchsorted(calibration.keys, pulses.keys)
    is_known = place < len(calibration.keys)
    is_known[is_known] = calibration.keys[place[is_known]] == pulses.keys[is_known]
    if not is_known.all():
        raise DataError(f"the calibration has no photomultiplier {pulses.keys[~is_known][0]}")
    place = np.repeat(place, pulses.counts)
    is_atwd = pulses.items["flags"] & _ATWD > 0
    mean = np.where(is_atwd, calibration.atwd_charge[place], calibration.fadc_charge[place])
    items = pulses.items.copy()
    items["charge"] *= np.where(np.isnan(mean), 1.0, 1 / mean)
    return OMKeyMap(pulses.keys, pulses.counts, items)
