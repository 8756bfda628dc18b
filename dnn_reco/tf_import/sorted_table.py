"""Reading the index of a TensorFlow checkpoint: a sorted table of keys and values.

The format is that of LevelDB's table files
(https://github.com/google/leveldb/blob/main/doc/table_format.md): blocks of entries whose keys
leave out what they share with the key before, each block with a checksum; an index block with the
place of each block; and a footer with the place of the index block.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from dnn_reco.errors import ModelError
from dnn_reco.tf_import.crc32c import masked_crc32c
from dnn_reco.tf_import.protobuf import read_varint

_MAGIC = 0xDB4775248B80FB57
_FOOTER_SIZE = 48
_TRAILER_SIZE = 5  # kind of the block, checksum
_UNCOMPRESSED, _SNAPPY = 0, 1
# Keys that share their beginning take no space in the file, but memory.
_MAX_KEY_LENGTH = 1024
_MAX_GROWTH = 100


def read_table(data: bytes) -> dict[bytes, bytes]:
    """Keys and values of a table file.

    Raises
    ------
    ModelError
        If it is not such a table, is damaged, or is compressed.
    """
    if len(data) < _FOOTER_SIZE or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise ModelError("it does not end as the index of a TensorFlow checkpoint does")
    footer = data[-_FOOTER_SIZE:]
    filter_handle, position = _read_handle(footer, 0)
    _read_block(data, filter_handle)  # its content is not needed, but damage is an error
    index_handle, _ = _read_handle(footer, position)
    table: dict[bytes, bytes] = {}
    room = _MAX_GROWTH * len(data)
    for _, handle in _entries(_read_block(data, index_handle)):
        block = _read_block(data, _read_handle(handle, 0)[0])
        room -= len(block)
        for key, value in _entries(block):
            room -= len(key)
            if room < 0:
                raise ModelError("it expands to far more than its size")
            table[key] = value
    return table


def _read_handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    """Offset and size of a block, and the position after them."""
    offset, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return (offset, size), position


def _read_block(data: bytes, handle: tuple[int, int]) -> bytes:
    """Content of a block, checked."""
    offset, size = handle
    end = offset + size
    if end > len(data) - _FOOTER_SIZE - _TRAILER_SIZE:
        raise ModelError(f"a block of {size} bytes at {offset} extends beyond the end of the file")
    kind, checksum = struct.unpack("<BI", data[end : end + _TRAILER_SIZE])
    if masked_crc32c(data[offset : end + 1]) != checksum:
        raise ModelError(f"the checksum of the block at {offset} is wrong")
    if kind == _SNAPPY:
        raise ModelError("it is compressed with Snappy, which TensorFlow's checkpoints never are")
    if kind != _UNCOMPRESSED:
        raise ModelError(f"the block at {offset} is compressed with the unknown method {kind}")
    return data[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block: entries, offsets of restarts, number of restarts."""
    num_restarts = struct.unpack("<I", block[-4:])[0] if len(block) >= 4 else len(block)
    end = len(block) - 4 * (num_restarts + 1)
    if end < 0:
        raise ModelError("a block is shorter than it declares")
    key, position = b"", 0
    while position < end:
        shared, position = read_varint(block, position)
        not_shared, position = read_varint(block, position)
        value_length, position = read_varint(block, position)
        if shared > len(key) or not_shared + value_length > end - position:
            raise ModelError("an entry exceeds its block")
        if shared + not_shared > _MAX_KEY_LENGTH:
            raise ModelError(f"a key is longer than {_MAX_KEY_LENGTH} bytes")
        key = key[:shared] + block[position : position + not_shared]
        position += not_shared
        yield key, block[position : position + value_length]
        position += value_length
