"""Reading Protocol Buffers messages field by field, as far as TensorFlow's checkpoints need it.

Encoding: https://protobuf.dev/programming-guides/encoding/. No length that
a message declares is trusted.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TypeAlias

from dnn_reco.errors import ModelError

Value: TypeAlias = int | bytes

_MAX_VARINT_BYTES = 10
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """A variable-length unsigned number (below 2⁶⁴) and the position after it.

    Raises
    ------
    ModelError
        If it is cut short or too long.
    """
    value = 0
    for count, byte in enumerate(data[position : position + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            if value >> 64:
                break
            return value, position + count + 1
    raise ModelError("a number is truncated or too long")


def read_fields(message: bytes) -> Iterator[tuple[int, Value]]:
    """Number and value of each field: numbers as they are stored, all else as bytes.

    Raises
    ------
    ModelError
        If the message is damaged.
    """
    position = 0
    while position < len(message):
        tag, position = read_varint(message, position)
        number, kind = tag >> 3, tag & 7
        value: Value
        if kind == _VARINT:
            value, position = read_varint(message, position)
            yield number, value
            continue
        if kind == _BYTES:
            length, position = read_varint(message, position)
        elif kind in (_FIXED_32, _FIXED_64):
            length = 4 if kind == _FIXED_32 else 8
        else:
            raise ModelError(f"a message holds a field of the unknown kind {kind}")
        if length > len(message) - position:
            raise ModelError(f"a field of {length} bytes exceeds its message")
        value = message[position : position + length]
        position += length
        if kind != _BYTES:
            value = int(struct.unpack("<I" if kind == _FIXED_32 else "<Q", value)[0])
        yield number, value


def number_field(value: Value) -> int:
    """A field's value that must be a number.

    Raises
    ------
    ModelError
        If it is something else.
    """
    if not isinstance(value, int):
        raise ModelError("a message holds bytes where a number belongs")
    return value


def bytes_field(value: Value) -> bytes:
    """A field's value that must be bytes: a string or a message.

    Raises
    ------
    ModelError
        If it is something else.
    """
    if not isinstance(value, bytes):
        raise ModelError("a message holds a number where bytes belong")
    return value
