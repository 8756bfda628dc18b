"""Reading the arrays of a TensorFlow checkpoint, without TensorFlow.

A checkpoint ``ckpt-N`` is a "tensor bundle"
(https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/tensor_bundle.proto):
``ckpt-N.index`` is a sorted table that holds type, shape and place of each array by its key, and
``ckpt-N.data-00000-of-00001`` (or several such files) holds the arrays one after the other.
"""

from __future__ import annotations

import math
import re
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.errors import ModelError
from dnn_reco.foreign_files import MAX_TEXT_SIZE, MAX_WEIGHTS_SIZE, check_foreign_file
from dnn_reco.tf_import.crc32c import masked_crc32c
from dnn_reco.tf_import.protobuf import bytes_field, number_field, read_fields, read_varint
from dnn_reco.tf_import.sorted_table import read_table

OBJECT_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"

# Numbers of the types in TensorFlow's DataType.
_STRING = 7
_DTYPES = {
    1: "<f4",
    2: "<f8",
    3: "<i4",
    4: "|u1",
    5: "<i2",
    6: "|i1",
    9: "<i8",
    10: "|b1",
    17: "<u2",
    19: "<f2",
    22: "<u4",
    23: "<u8",
}
_MAX_DIMENSIONS = 16
_MAX_SHARDS = 99_999
_LATEST = re.compile(r'^model_checkpoint_path:\s*"([^"\n]+)"', re.MULTILINE)


@dataclass(frozen=True)
class TensorEntry:
    """Type (number in DataType), shape and place of one array."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int


@dataclass(frozen=True)
class TensorBundle:
    """The arrays of a checkpoint, read one by one.

    Attributes
    ----------
    prefix
        Path of the checkpoint without the suffixes of its files.
    num_shards
        Number of data files.
    entries
        Type, shape and place of each array, by key.
    """

    prefix: Path
    num_shards: int
    entries: Mapping[str, TensorEntry]

    def read(self, key: str) -> NDArray[Any]:
        """The array of a key.

        Raises
        ------
        ModelError
            If there is no such array, it is damaged, or it does not hold numbers.
        """
        entry = self._entry(key)
        if entry.dtype not in _DTYPES:
            raise ModelError(f"{self._where(key)}: arrays of TensorFlow's type {entry.dtype}")
        dtype = np.dtype(_DTYPES[entry.dtype])
        size = math.prod(entry.shape) * dtype.itemsize
        if size != entry.size or _is_too_large(entry.shape, dtype):
            raise ModelError(
                f"{self._where(key)}: {entry.size} bytes do not match an array of shape "
                f"{list(entry.shape)} and type {dtype.name}"
            )
        data = self._read_bytes(key, entry)
        self._check(key, data, entry.checksum)
        return np.frombuffer(data, dtype=dtype).reshape(entry.shape)

    def read_string(self, key: str) -> bytes:
        """The single string of a key, stored as its length, a checksum of that, and the bytes.

        Raises
        ------
        ModelError
            If there is none, or it is damaged.
        """
        entry = self._entry(key)
        if entry.dtype != _STRING or entry.shape or entry.size > MAX_TEXT_SIZE:
            raise ModelError(
                f"{self._where(key)}: it is not a single string of at most {MAX_TEXT_SIZE:,} bytes"
            )
        data = self._read_bytes(key, entry)
        length, position = read_varint(data, 0)
        content = data[position + 4 :]
        if len(data) < position + 4 or length != len(content) or length >= 2**32:
            raise ModelError(f"{self._where(key)}: its length is wrong")
        # checksums count the length as a number of four bytes
        start = struct.pack("<I", length)
        self._check(key, start, struct.unpack("<I", data[position : position + 4])[0])
        self._check(key, start + data[position:], entry.checksum)
        return content

    def _entry(self, key: str) -> TensorEntry:
        if key not in self.entries:
            raise ModelError(f"the checkpoint '{self.prefix}' has no '{key}'")
        return self.entries[key]

    def _where(self, key: str) -> str:
        return f"'{key}' of the checkpoint '{self.prefix}' cannot be read"

    def _read_bytes(self, key: str, entry: TensorEntry) -> bytes:
        if entry.shard >= self.num_shards:
            raise ModelError(f"{self._where(key)}: it lies in a data file that does not exist")
        path = Path(f"{self.prefix}.data-{entry.shard:05d}-of-{self.num_shards:05d}")
        if not path.exists():
            raise ModelError(f"{self._where(key)}: the file '{path}' is missing")
        check_foreign_file(path, MAX_WEIGHTS_SIZE, folder=path.parent)
        if entry.offset + entry.size > path.stat().st_size:
            raise ModelError(
                f"{self._where(key)}: '{path}' ends before byte {entry.offset + entry.size}: it "
                "was not copied completely, or belongs to another checkpoint"
            )
        with path.open("rb") as file:
            file.seek(entry.offset)
            return file.read(entry.size)

    def _check(self, key: str, data: bytes, checksum: int) -> None:
        if masked_crc32c(data) != checksum:
            raise ModelError(f"{self._where(key)}: its checksum is wrong, the file is damaged")


def _is_too_large(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether numpy has no array of that shape; an axis of length 0 hides others in the size."""
    lengths = [max(length, 1) for length in shape]
    return len(shape) > _MAX_DIMENSIONS or math.prod(lengths) * dtype.itemsize > sys.maxsize


def open_bundle(prefix: Path) -> TensorBundle:
    """Read the index of a checkpoint.

    Parameters
    ----------
    prefix
        Path of the checkpoint without the suffixes of its files, such as ``…/ckpt-200``.

    Raises
    ------
    ModelError
        If there is none, or it is damaged.
    """
    path = Path(f"{prefix}.index")
    if not path.exists():
        raise ModelError(f"the checkpoint has no index: the file '{path}' is missing")
    check_foreign_file(path, MAX_TEXT_SIZE, folder=path.parent)
    try:
        table = read_table(path.read_bytes())
        num_shards = _num_shards(table.pop(b"", None))
        entries = {_decoded(key): _entry(value) for key, value in table.items()}
    except ModelError as error:
        raise ModelError(
            f"'{path}' is damaged, or not the index of a TensorFlow checkpoint: {error}"
        ) from error
    return TensorBundle(prefix, num_shards, entries)


def _num_shards(header: bytes | None) -> int:
    """Number of data files, from the bundle's header (BundleHeaderProto)."""
    if header is None:
        raise ModelError("it has no header")
    fields = dict(read_fields(header))
    if fields.get(2, 0) != 0:
        raise ModelError("its numbers are big-endian, which is not supported")
    num_shards = number_field(fields.get(1, 0))
    if not 1 <= num_shards <= _MAX_SHARDS:
        raise ModelError(f"it declares {num_shards} data files")
    return num_shards


def _entry(message: bytes) -> TensorEntry:
    """Type, shape and place of an array, from a BundleEntryProto."""
    numbers = {1: 0, 3: 0, 4: 0, 5: 0, 6: 0}
    shape: tuple[int, ...] = ()
    for field, value in read_fields(message):
        if field == 2:
            shape = _shape(bytes_field(value))
        elif field in numbers:
            numbers[field] = number_field(value)
        else:
            raise ModelError("it has an array in slices, which is not supported")
    dtype, shard, offset, size, checksum = numbers.values()
    return TensorEntry(dtype, shape, shard, offset, size, checksum)


def _shape(message: bytes) -> tuple[int, ...]:
    """Lengths of the axes, from a TensorShapeProto."""
    axes = [bytes_field(value) for field, value in read_fields(message) if field == 2]
    return tuple(number_field(dict(read_fields(axis)).get(1, 0)) for axis in axes)


def variable_names(object_graph: bytes) -> dict[str, str]:
    """Name that each saved variable had in its program, by the key of its value.

    Parameters
    ----------
    object_graph
        The string under `OBJECT_GRAPH_KEY` (TrackableObjectGraph).

    Raises
    ------
    ModelError
        If it is damaged.
    """
    names = {}
    nodes = [value for field, value in read_fields(object_graph) if field == 1]
    for node in nodes:
        for field, attribute in read_fields(bytes_field(node)):
            if field == 2:
                saved = dict(read_fields(bytes_field(attribute)))
                key = _decoded(bytes_field(saved.get(3, b"")))
                names[key] = _decoded(bytes_field(saved.get(2, b"")))
    return names


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ModelError(f"a name is not UTF-8: {data[:40]!r}") from error


def latest_checkpoint(folder: Path) -> Path:
    """The newest checkpoint of a folder, without the suffixes of its files.

    It is the one that the file ``checkpoint`` names (whatever folder it was written in), or the
    only one that there is.

    Raises
    ------
    ModelError
        If there is no checkpoint, or several and no file that names the newest.
    """
    state = folder / "checkpoint"
    if state.exists():
        check_foreign_file(state, MAX_TEXT_SIZE, folder=folder)
        match = _LATEST.search(state.read_text(errors="replace"))
        if match is None:
            raise ModelError(f"'{state}' names no checkpoint (model_checkpoint_path)")
        return folder / match[1].rpartition("/")[2]
    found = sorted(folder.glob("*.index"))
    if not found:
        raise ModelError(
            f"there is no TensorFlow checkpoint in '{folder}': neither a file 'checkpoint' nor a "
            "'….index'"
        )
    if len(found) > 1:
        listed = ", ".join(path.name for path in found)
        raise ModelError(
            f"there are several checkpoints in '{folder}' ({listed}) and no file 'checkpoint' that "
            "names the newest: keep one of them there"
        )
    return found[0].with_suffix("")
