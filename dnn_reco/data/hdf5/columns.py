"""The columns of a per-DOM table, streamed block by block into compact arrays.

A row takes 48 bytes and an event has thousands of rows, but of each row only the DOM, the position
in the DOM's list and the item matter: ten bytes. Tables as IceCube's writer makes them (chunks,
bytes shuffled, then deflate) are decoded here without ever building the rows: shuffling has put
byte b of all rows of a chunk side by side, in a *plane*, and so a column is a few planes, most of
which are zero since strings, DOM numbers and list positions are small. Any other table is read
through h5py, row by row, with the same result.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from dnn_reco.data.file_events import EVENT_ID
from dnn_reco.data.hdf5.inflate import inflate
from dnn_reco.data.hdf5.tables import ID_COLUMNS, Rows, describe, event_ids, read_rows
from dnn_reco.detector.geometry import NUM_DOMS_PER_STRING, NUM_STRINGS, dom_index
from dnn_reco.errors import DataError

# What stands in place of a DOM index in rows that belong to none.
UNKNOWN_DOM, SURFACE_TANK, NO_OBJECT = -1, -2, -3
_SURFACE_TANKS = range(NUM_DOMS_PER_STRING + 1, NUM_DOMS_PER_STRING + 5)

Columns = dict[str, NDArray[Any]]

_IdRuns = tuple[NDArray[np.int64], Rows]  # first rows and event ids of runs of equal ids

_MAP_COLUMNS = ("exists", "string", "om", "vector_index", "item")
_ROWS_PER_BLOCK = 1 << 15  # some megabytes of inflated rows at a time in each thread


@dataclass(frozen=True)
class DomRows:
    """The m rows of a per-DOM map.

    Attributes
    ----------
    dom
        DOM index [m] (int16); negative for rows that belong to no DOM of ours.
    vector_index
        Position in the DOM's list [m] (int32).
    item
        The items [m].
    run_start
        First row [r] of each run of rows with the same event id, ascending.
    run_ids
        Event id [r] of each run.
    """

    dom: NDArray[np.int16]
    vector_index: NDArray[np.int32]
    item: NDArray[np.generic]
    run_start: NDArray[np.int64]
    run_ids: Rows

    def __len__(self) -> int:
        return len(self.dom)


def read_dom_rows(table: h5py.Dataset, item_dtype: DTypeLike, threads: int = 1) -> DomRows:
    """Stream a per-DOM table.

    Parameters
    ----------
    item_dtype
        Type of the items: floats for values, int32 for bin indices.
    threads
        Number of threads that inflate and decode.

    Raises
    ------
    DataError
        The data are damaged.
    """
    m = len(table)
    dom = np.empty(m, dtype=np.int16)
    vector_index = np.empty(m, dtype=np.int32)
    item = np.empty(m, dtype=item_dtype)
    planes = _PlaneReader.for_table(table)

    def fill(block: slice) -> _IdRuns:
        decoded = None if planes is None else planes.read(block)
        if decoded is None:
            plain = read_rows(table, block.start, block.stop)
            decoded = {name: plain[name] for name in _MAP_COLUMNS}, _runs_of_equal_ids(plain)
        columns, (run_start, run_ids) = decoded
        dom[block] = _dom_of_rows(columns["string"], columns["om"], columns["exists"])
        vector_index[block] = columns["vector_index"]
        with np.errstate(over="ignore", invalid="ignore"):  # not finite in float32: dropped later
            item[block] = columns["item"]
        return block.start + run_start, run_ids

    blocks = _blocks(m, table.chunks[0] if table.chunks else 1)
    if threads == 1:
        runs = [fill(block) for block in blocks]
    else:
        with ThreadPoolExecutor(threads) as pool:
            runs = list(pool.map(fill, blocks))
    start, ids = _joined(runs)
    return DomRows(dom, vector_index, item, start, ids)


def _blocks(num_rows: int, chunk_rows: int) -> Iterator[slice]:
    """Ranges of rows that start where a chunk starts."""
    step = max(1, _ROWS_PER_BLOCK // chunk_rows) * chunk_rows
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))


def _runs_of_equal_ids(rows: Rows) -> _IdRuns:
    """Runs of some rows, the first of them at the first row."""
    is_start = np.ones(len(rows), dtype=bool)
    is_start[1:] = False
    for name in ID_COLUMNS:
        column = rows[name]
        is_start[1:] |= column[1:] != column[:-1]
    start = np.flatnonzero(is_start)
    return start, event_ids(rows[start])


def _joined(blocks: list[_IdRuns]) -> _IdRuns:
    """Runs of all blocks; those that continue in the next block are joined."""
    if not blocks:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=EVENT_ID)
    start, ids = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    is_new = np.append(True, ids[1:] != ids[:-1])
    return start[is_new], ids[is_new]


def _dom_of_rows(
    string: NDArray[np.integer], om: NDArray[np.integer], exists: NDArray[np.integer]
) -> NDArray[np.int64]:
    """DOM index of each row, or one of the codes for rows without a DOM."""
    dom = dom_index(string, om)
    if (dom < 0).any():
        is_tank = np.isin(om, _SURFACE_TANKS) & (string >= 1) & (string <= NUM_STRINGS)
        dom[is_tank] = SURFACE_TANK
    if not exists.all():
        dom[exists == 0] = NO_OBJECT
    return dom


@dataclass(frozen=True)
class _PlaneReader:
    """Reads columns of a chunked, deflated table from its raw chunks."""

    table: h5py.Dataset
    dtype: np.dtype[np.void]
    chunk_rows: int
    is_shuffled: bool

    @classmethod
    def for_table(cls, table: h5py.Dataset) -> "_PlaneReader | None":
        """A reader for this table, or None if its layout is another than we decode ourselves."""
        dtype = table.dtype
        settings = table.id.get_create_plist()
        filters = [settings.get_filter(i) for i in range(settings.get_nfilters())]
        codes = tuple(code for code, *_ in filters)
        is_shuffled = codes == (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE)
        decodable = (
            (is_shuffled and filters[0][2] == (dtype.itemsize,))
            or codes == (h5py.h5z.FILTER_DEFLATE,)
        ) and (
            table.id.get_type().get_size() == dtype.itemsize
            and table.id.get_num_chunks() == -(-len(table) // table.chunks[0])
            and all(_is_plain_number(dtype[name]) for name in (*ID_COLUMNS, *_MAP_COLUMNS))
        )
        return cls(table, dtype, table.chunks[0], is_shuffled) if decodable else None

    def read(self, block: slice) -> tuple[Columns, _IdRuns] | None:
        """Columns and runs of the rows of `block`, which starts with a chunk.

        None where a chunk was stored without its filters, as HDF5 does with data that do not
        shrink: h5py then reads the block.
        """
        row_bytes = self.dtype.itemsize
        chunks = []
        for start in range(block.start, block.stop, self.chunk_rows):
            try:
                filters_left_out, raw = self.table.id.read_direct_chunk((start,))
                if filters_left_out:
                    return None
                chunks.append(inflate(raw, self.chunk_rows * row_bytes))
            except (OSError, RuntimeError, DataError) as error:
                raise DataError(
                    f"{describe(self.table)} is damaged at rows {start} to "
                    f"{start + self.chunk_rows}: {error}"
                ) from error
        data = np.frombuffer(b"".join(chunks), dtype=np.uint8)
        if self.is_shuffled:
            planes = data.reshape(len(chunks), row_bytes, self.chunk_rows)
        else:
            planes = data.reshape(len(chunks), self.chunk_rows, row_bytes).transpose(0, 2, 1)
        num_rows = block.stop - block.start
        columns = {name: self._column(planes, name)[:num_rows] for name in _MAP_COLUMNS}
        return columns, self._runs_of_equal_ids(planes, num_rows)

    def _runs_of_equal_ids(self, planes: NDArray[np.uint8], num_rows: int) -> _IdRuns:
        """As the function of this name, without decoding the ids of all rows."""
        places = {name: self.dtype.fields[name][:2] for name in ID_COLUMNS}  # type: ignore[index]
        is_start = np.ones(num_rows, dtype=bool)
        is_start[1:] = False
        for dtype, offset in places.values():
            for byte in range(offset, offset + dtype.itemsize):
                plane = planes[:, byte].reshape(-1)[:num_rows]
                is_start[1:] |= plane[1:] != plane[:-1]
        start = np.flatnonzero(is_start)
        chunk, row = np.divmod(start, self.chunk_rows)
        ids = {
            name: np.ascontiguousarray(planes[chunk, offset : offset + dtype.itemsize, row])
            .view(dtype)
            .reshape(-1)
            for name, (dtype, offset) in places.items()
        }
        return start, event_ids(ids)

    def _column(self, planes: NDArray[np.uint8], name: str) -> NDArray[np.generic]:
        """One column from the byte planes [chunks, row bytes, chunk rows]."""
        dtype, offset = self.dtype.fields[name][:2]  # type: ignore[index]
        planes = planes[:, offset : offset + dtype.itemsize]
        if dtype.kind in "iu" and not planes[:, 1:].any():
            return planes[:, 0].reshape(-1)  # numbers below 256: their lowest bytes are the values
        return np.ascontiguousarray(planes.transpose(0, 2, 1)).view(dtype).reshape(-1)


def _is_plain_number(dtype: np.dtype[np.generic]) -> bool:
    """Whether a column is made of numbers with the lowest byte first."""
    return dtype.kind in "iuf" and not dtype.shape and dtype == dtype.newbyteorder("<")
