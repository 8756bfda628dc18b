"""The checksum of TensorFlow's files: CRC-32C (Castagnoli polynomial, RFC 3720), masked.

It is computed by the package google-crc32c where that is installed, else with a table and numpy:
the checksum is linear over bits, so a long message is cut into rows of equal length whose checksums
are computed side by side; joining them needs only the effect of a row of zeros on each of the 32
bits.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78  # bits reversed
_MASK_DELTA = 0xA282EAD8
_ALL_BITS = 0xFFFFFFFF


def _byte_table() -> NDArray[np.uint32]:
    """Effect of one byte on a checksum of 0 [256]."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table


_TABLE = _byte_table()


def masked_crc32c(data: bytes) -> int:
    """CRC-32C of `data`, rotated and shifted as TensorFlow stores it beside the data."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & _ALL_BITS


def table_crc32c(data: bytes) -> int:
    """CRC-32C of `data`, with numpy alone."""
    row_length = max(math.isqrt(len(data)), 1)
    num_rows, rest = divmod(len(data), row_length)
    content = np.frombuffer(data, dtype=np.uint8)
    state = _advance(np.array([_ALL_BITS], dtype=np.uint32), content[None, :rest])[0]
    rows = content[rest:].reshape(num_rows, row_length)
    row_states = _advance(np.zeros(num_rows, dtype=np.uint32), rows)
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    bits_after_zeros = _advance(bits, np.zeros((32, row_length), dtype=np.uint8))
    for row_state in row_states:
        state = np.bitwise_xor.reduce(bits_after_zeros[(state & bits) != 0]) ^ row_state
    return int(state) ^ _ALL_BITS


def _advance(states: NDArray[np.uint32], rows: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """States [n] after the bytes of each row [n, length]."""
    for column in rows.T:
        states = _TABLE[(states & 0xFF) ^ column] ^ (states >> 8)
    return states


def library_crc32c() -> Callable[[bytes], int] | None:
    """The function of google-crc32c; none if only its slow form without C is installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # about its slow form
            import google_crc32c
    except ImportError:
        return None
    return google_crc32c.value if google_crc32c.implementation == "c" else None


crc32c: Callable[[bytes], int] = library_crc32c() or table_crc32c
