"""Comparing what a table declares with what its file holds, before memory is allocated for it.

A damaged header can declare billions of rows, or columns where others are. The chunks of a table
and their sizes stand in the file's chunk index, so that this costs no reading of data.
"""

import h5py
import numpy as np
from numpy.typing import NDArray

from dnn_reco.errors import DataError

# Deflate shrinks data to 1/1032 at most (RFC 1951: 258 bytes in two bits). Other filters store
# constant data in a few bytes; this is far above what tables of events reach.
_LARGEST_DEFLATE_RATIO, _LARGEST_RATIO = 1032, 100_000
_CHUNK = np.dtype([("start", "u8"), ("position", "u8"), ("size", "u8"), ("left_out", "u4")])


def check_layout(table: h5py.Dataset) -> None:
    """Check the sizes and number types that a table declares.

    Raises
    ------
    DataError
        They do not fit each other or the size of the file.
    """
    problem = _type_problem(table) or _size_problem(table)
    if problem:
        raise DataError(
            f"table '{table.name.lstrip('/')}' of '{table.file.filename}' is damaged: {problem}"
        )


def _type_problem(table: h5py.Dataset) -> str:
    """Columns that overlap or leave the row, or are of a number type that NumPy has not."""
    kind, dtype = table.id.get_type(), table.dtype
    end, last = 0, ""
    for offset, name in sorted((dtype.fields[name][1], name) for name in dtype.names):
        if offset < end:
            return f"the columns '{last}' and '{name}' overlap"
        end, last = offset + dtype[name].itemsize, name
    if end > kind.get_size() or kind.get_size() != dtype.itemsize:
        return f"its columns take {end} bytes of a row of {kind.get_size()}"
    for number, name in enumerate(dtype.names):
        column = dtype[name]
        is_number = column.kind in "iuf" and h5py.check_enum_dtype(column) is None
        if is_number and not kind.get_member_type(number).equal(h5py.h5t.py_create(column)):
            return f"column '{name}' has an unknown number type"
    return ""


def _size_problem(table: h5py.Dataset) -> str:
    num_rows, row_bytes = len(table), table.id.get_type().get_size()
    file_size = table.file.id.get_filesize()
    if table.chunks is None:
        stored = table.id.get_storage_size()
        if stored > file_size or num_rows * row_bytes > stored:
            return f"{num_rows} rows of {row_bytes} bytes are declared, {stored} bytes are there"
        return ""
    (chunk_rows,) = table.chunks
    chunks = _chunks(table)
    num_chunks = -(-num_rows // chunk_rows)
    starts = chunk_rows * np.arange(len(chunks), dtype=np.uint64)
    if len(chunks) != num_chunks or not np.array_equal(chunks["start"], starts):
        return (
            f"{num_rows} rows in chunks of {chunk_rows} are declared, but {len(chunks)} different "
            "chunks are found"
        )
    ends = chunks["position"].astype(float) + chunks["size"]  # floats do not overflow
    if (ends > file_size).any():
        return "chunks are beyond the end of the file"
    return _compression_problem(table, chunks, chunk_rows * row_bytes)


def _chunks(table: h5py.Dataset) -> NDArray[np.void]:
    """Chunks of a table by the rows at which they start."""
    found: list[tuple[int, int, int, int]] = []

    def add(chunk: h5py.h5d.StoreInfo) -> None:
        found.append((chunk.chunk_offset[0], chunk.byte_offset, chunk.size, chunk.filter_mask))

    table.id.chunk_iter(add)
    return np.array(sorted(found), dtype=_CHUNK)


def _compression_problem(table: h5py.Dataset, chunks: NDArray[np.void], chunk_bytes: int) -> str:
    settings = table.id.get_create_plist()
    codes = [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]
    is_deflated = h5py.h5z.FILTER_DEFLATE in codes
    ratio = _LARGEST_DEFLATE_RATIO if is_deflated else _LARGEST_RATIO
    if (chunks["size"].astype(float) * (ratio if codes else 1) < chunk_bytes).any():
        return f"chunks of {chunk_bytes} bytes are declared, for which the stored data are too few"
    if is_deflated:
        # HDF5 leaves deflate out where data do not shrink; other programs leave out all filters.
        masks = [1 << codes.index(h5py.h5z.FILTER_DEFLATE), (1 << len(codes)) - 1]
        stored_plainly = np.isin(chunks["left_out"], masks) & (chunks["size"] >= chunk_bytes)
        if not ((chunks["left_out"] == 0) | stored_plainly).all():
            return "chunks claim to be stored without their filters"
    return ""
