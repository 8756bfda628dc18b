"""The checksum of TensorFlow's files: CRC-32C (Castagnoli polynomial, RFC 3720), masked.

The checksum is linear over bits, so a long message is cut into rows of equal length whose
checksums numpy computes side by side; joining them needs only the effect of a row of zeros on each
of the 32 bits.
"""

import math

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


def crc32c(data: bytes) -> int:
    """CRC-32C of `data`."""
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
