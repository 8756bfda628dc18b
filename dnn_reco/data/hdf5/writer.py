"""Writing event files in the layout of IceCube's table writer.

Tables made here have the types, offsets, row sizes, chunks, compression and attributes of the
original ones, so that PyTables, pandas and other readers of such files understand them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.features import listed_bins
from dnn_reco.data.file_events import InputTables
from dnn_reco.data.hdf5.record import record_attributes
from dnn_reco.data.hdf5.tables import (
    HEADER_COLUMNS,
    ID_COLUMNS,
    INDEX_GROUP,
    SUB_EVENT_STREAMS,
    Rows,
)
from dnn_reco.data.hits import Hits
from dnn_reco.detector.geometry import string_and_om
from dnn_reco.errors import DataError
from dnn_reco.files import write_atomically

_CHUNK_BYTES = 65535
_ROW_ALIGNMENT = 16
_CHUNKS_PER_BLOCK = 64
# Description and unit of the columns with a meaning of their own.
_DOCUMENTATION = {
    "Run": ("run number", ""),
    "Event": ("event number", ""),
    "SubEvent": ("sub-event number", ""),
    "SubEventStream": ("ID of the splitter module that made this stream", ""),
    "exists": ("object was found in the frame", "bool"),
    "string": ("String number", ""),
    "om": ("OM number", ""),
    "pmt": ("PMT number", ""),
    "vector_index": ("index in vector", ""),
    "value": ("derived from a POD frame object", ""),
    "item": ("Item in the booked vector", ""),
    "start": ("Offset at which the rows for this event start", ""),
    "stop": ("Offset at which the rows for the next event start", ""),
}

Columns = Mapping[str, ArrayLike] | Rows


@dataclass(frozen=True)
class DomMap:
    """A list of numbers for each DOM of each of n events, flattened to m rows.

    Attributes
    ----------
    offsets
        [n + 1] the rows of event i are `offsets[i]:offsets[i + 1]`.
    dom
        DOM index of each row [m].
    vector_index
        Position of the item in the DOM's list [m].
    item
        The items [m]: float64 (bin values) or int32 (bin numbers).
    """

    offsets: NDArray[np.integer]
    dom: NDArray[np.integer]
    vector_index: NDArray[np.integer]
    item: NDArray[np.generic]


def dom_maps(hits: Hits, sparse: bool = False, num_listed: int = 0) -> tuple[DomMap, DomMap]:
    """The maps of bin values and bin indices for k hits with F features.

    Parameters
    ----------
    hits
        The hits.
    sparse
        False: each DOM lists all F bins. True: only those that are not 0, as formats of charge
        histograms do; a DOM with none is skipped.
    num_listed
        Number of first bins that are listed in any case.
    """
    features = hits.features
    listed = listed_bins(features, sparse, num_listed)
    hit, bins = np.nonzero(listed)
    row_offsets = np.concatenate([[0], np.cumsum(listed.sum(axis=1))])
    position = np.arange(len(hit)) - row_offsets[hit]
    rows, dom = row_offsets[hits.offsets], hits.dom[hit]
    values = DomMap(rows, dom, position, features[listed].astype(np.float64))
    return values, DomMap(rows, dom, position, bins.astype(np.int32))


def write_input_tables(
    path: str | PathLike[str],
    ids: Rows,
    time_offset: NDArray[np.floating],
    hits: Hits,
    *,
    names: InputTables = InputTables(),  # noqa: B008 - frozen
    sparse: bool = False,
    num_listed: int = 0,
    tables: Mapping[str, Columns] | None = None,
    maps: Mapping[str, DomMap] | None = None,
    exists: Mapping[str, ArrayLike] | None = None,
    data_settings: DataSettings | None = None,
) -> None:
    """Write hits as the three input tables, and any other tables beside them.

    Parameters
    ----------
    path
        File to write.
    ids, time_offset, hits
        As in `FileEvents`.
    names
        Names of the three tables.
    sparse, num_listed
        See `dom_maps`.
    data_settings
        How the features were made, for the record of the file; None: no record.
    tables, maps, exists
        Other tables and maps: see `write_event_file`. The map of
        :func:`dnn_reco.data.bin_exclusions.bin_exclusions` is named `<output key>_bin_exclusions`.
    """
    values, indices = dom_maps(hits, sparse, num_listed)
    write_event_file(
        path,
        ids,
        tables={names.time_offset: {"value": np.asarray(time_offset)}, **(tables or {})},
        maps={names.values: values, names.indices: indices, **(maps or {})},
        exists=exists,
        data_settings=() if data_settings is None else (data_settings,),
    )


def write_event_file(
    path: str | PathLike[str],
    ids: Rows,
    tables: Mapping[str, Columns],
    maps: Mapping[str, DomMap] | None = None,
    exists: Mapping[str, ArrayLike] | None = None,
    streams: Sequence[str] = SUB_EVENT_STREAMS,
    data_settings: Sequence[DataSettings] = (),
    attributes: Mapping[str, str] | None = None,
) -> None:
    """Write an event file; it appears under its name only when it is complete.

    Parameters
    ----------
    path
        File to write, replaced if it is there.
    ids
        Event ids [n], of type EVENT_ID.
    tables
        Name -> per-event table: column name -> [n] numbers (or [n, 2] for pairs), or a structured
        array. Types are kept.
    maps
        Name -> per-DOM map.
    exists
        Name of a table -> [n], False where the event has no such object. Its row is then zeros.
    streams
        Names of the sub-event streams: number s of `SubEventStream` is `streams[s]`.
    data_settings
        How the features of each set of input tables were made, for the record of the file.
    attributes
        Texts to attach to the file, by name, each of less than 64 kB.

    Raises
    ------
    DataError
        A column or map of the wrong length, a stream number without a name, or settings that are
        too long to be recorded.
    """
    _check_streams(ids, streams)
    record = record_attributes(data_settings)
    path = Path(path)
    masks = {name: np.asarray(mask, dtype=bool) for name, mask in (exists or {}).items()}
    everyone = np.ones(len(ids), dtype=bool)
    # In memory: where a disk is full, HDF5 cannot close a file on it, and the process crashes.
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        _set_attributes(file, {"CLASS": "GROUP", "PYTABLES_FORMAT_VERSION": "2.1"})
        _set_attributes(file, {"TITLE": "", "VERSION": "1.0", **record, **(attributes or {})})
        file.create_group(INDEX_GROUP)
        for name, columns in tables.items():
            rows = _event_rows(name, ids, columns, masks.get(name, everyone), streams)
            _write_table(file, name, rows.dtype, [rows], len(rows), is_ragged=False)
            bounds = np.arange(len(ids) + 1)
            _write_index(file, name, ids, bounds, masks.get(name, everyone), streams)
        for name, dom_map in (maps or {}).items():
            _write_map(file, name, ids, dom_map, masks.get(name, everyone), streams)
        file.flush()
        content = file.id.get_file_image()
    write_atomically(path, content)


def _check_streams(ids: Rows, streams: Sequence[str]) -> None:
    numbers = ids["SubEventStream"]
    if len(ids) and not (numbers.min() >= 0 and numbers.max() < len(streams)):
        raise DataError(
            f"SubEventStream goes from {numbers.min()} to {numbers.max()}, but there are names for "
            f"0 to {len(streams) - 1} only: {', '.join(streams)}"
        )


def _row_type(
    columns: Sequence[tuple[str, np.dtype[np.generic]]], streams: Sequence[str]
) -> np.dtype[np.void]:
    """Type of a row: id columns, then `columns`, each at its natural alignment."""
    stream = h5py.enum_dtype({name: i for i, name in enumerate(streams)}, basetype="i4")
    header = [(name, "u4") for name in ID_COLUMNS[:3]] + [(ID_COLUMNS[3], stream), ("exists", "u1")]
    aligned = np.dtype([*header, *columns], align=True)
    fields: dict[str, Any] = dict(aligned.fields or {})
    return np.dtype(
        {
            "names": list(fields),
            "formats": [kind for kind, _ in fields.values()],
            "offsets": [offset for _, offset in fields.values()],
            "itemsize": -(-aligned.itemsize // _ROW_ALIGNMENT) * _ROW_ALIGNMENT,
        }
    )


def _event_rows(
    name: str, ids: Rows, columns: Columns, mask: NDArray[np.bool_], streams: Sequence[str]
) -> Rows:
    """Rows of a per-event table."""
    names = columns.dtype.names or () if isinstance(columns, np.ndarray) else tuple(columns)
    arrays = {key: np.asarray(columns[key]) for key in names if key not in HEADER_COLUMNS}
    for key, array in arrays.items():
        if len(array) != len(ids):
            raise DataError(
                f"column '{key}' of table '{name}' has {len(array)} rows for {len(ids)} events"
            )
    types = [(key, np.dtype((array.dtype, array.shape[1:]))) for key, array in arrays.items()]
    rows = np.zeros(len(ids), dtype=_row_type(types, streams))
    for key, array in arrays.items():
        rows[key][mask] = array[mask]
    _fill_header(rows, ids, mask)
    return rows


def _fill_header(rows: Rows, ids: Rows, mask: NDArray[np.bool_] | bool) -> None:
    for key in ID_COLUMNS:
        rows[key] = ids[key]
    rows["exists"] = mask


def _write_map(
    file: h5py.File,
    name: str,
    ids: Rows,
    dom_map: DomMap,
    mask: NDArray[np.bool_],
    streams: Sequence[str],
) -> None:
    """Write a per-DOM map and its index."""
    offsets = np.asarray(dom_map.offsets, dtype=np.int64)
    m = len(dom_map.dom)
    if len(offsets) != len(ids) + 1 or offsets[-1] != m:
        raise DataError(
            f"map '{name}': {len(offsets)} offsets that end at {offsets[-1]} do not fit "
            f"{len(ids)} events and {m} rows"
        )
    item = np.dtype("i4") if dom_map.item.dtype.kind in "iu" else np.dtype("f8")
    columns = [("string", "i4"), ("om", "u4"), ("pmt", "u4"), ("vector_index", "u8")]
    dtype = _row_type([*((key, np.dtype(kind)) for key, kind in columns), ("item", item)], streams)
    event = np.repeat(np.arange(len(ids)), np.diff(offsets))
    step = _chunk_rows(dtype) * _CHUNKS_PER_BLOCK

    def block(start: int) -> Rows:
        part = slice(start, start + step)
        rows = np.zeros(len(event[part]), dtype=dtype)
        _fill_header(rows, ids[event[part]], True)
        rows["string"], rows["om"] = string_and_om(dom_map.dom[part])
        rows["vector_index"] = dom_map.vector_index[part]
        rows["item"] = dom_map.item[part]
        return rows

    _write_table(file, name, dtype, map(block, range(0, m, step)), m, is_ragged=True)
    _write_index(file, name, ids, offsets, mask, streams)


def _write_index(
    file: h5py.File,
    name: str,
    ids: Rows,
    bounds: NDArray[np.integer],
    mask: NDArray[np.bool_],
    streams: Sequence[str],
) -> None:
    """Write the index of table `name`: which of its rows belong to each event."""
    types = [("start", np.dtype("u8")), ("stop", np.dtype("u8"))]
    rows = np.zeros(len(ids), dtype=_row_type(types, streams))
    _fill_header(rows, ids, mask)
    rows["SubEventStream"] = 0  # as in the original files
    rows["start"], rows["stop"] = bounds[:-1], bounds[1:]
    _write_table(file, f"{INDEX_GROUP}/{name}", rows.dtype, [rows], len(rows), is_ragged=False)


def _chunk_rows(dtype: np.dtype[np.void]) -> int:
    return max(1, _CHUNK_BYTES // sum(dtype[name].itemsize for name in dtype.names or ()))


def _write_table(
    file: h5py.File,
    name: str,
    dtype: np.dtype[np.void],
    blocks: Iterable[Rows],
    num_rows: int,
    is_ragged: bool,
) -> None:
    table = file.create_dataset(
        name,
        shape=(num_rows,),
        maxshape=(None,),
        dtype=dtype,
        chunks=(_chunk_rows(dtype),),
        compression="gzip",
        compression_opts=6,
        shuffle=True,
    )
    start = 0
    for rows in blocks:
        table[start : start + len(rows)] = rows
        start += len(rows)
    _set_attributes(table, {"CLASS": "TABLE", "VERSION": "3.0", "TITLE": ""})
    for number, column in enumerate(dtype.names or ()):
        description, unit = _DOCUMENTATION.get(column, ("", ""))
        _set_attributes(
            table,
            {
                f"FIELD_{number}_NAME": column,
                f"FIELD_{number}_DOC": description,
                f"FIELD_{number}_UNIT": unit,
            },
        )
    table.attrs["__I3RaggedTable__"] = np.array([is_ragged], dtype=np.int8)


def _set_attributes(node: h5py.HLObject, attributes: Mapping[str, str]) -> None:
    """Attach texts as the C library does: fixed length, ending in a zero byte."""
    for name, text in attributes.items():
        content = text.encode()
        kind = h5py.h5t.C_S1.copy()
        kind.set_size(len(content) + 1)
        scalar = h5py.h5s.create(h5py.h5s.SCALAR)
        attribute = h5py.h5a.create(node.id, name.encode(), kind, scalar)
        attribute.write(np.array(content, dtype=f"S{len(content) + 1}"))
