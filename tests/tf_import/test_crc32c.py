"""The checksum of TensorFlow's files."""

from collections.abc import Callable

import pytest
import reference_files
from hypothesis import given
from hypothesis import strategies as st

from dnn_reco.tf_import.crc32c import crc32c, library_crc32c, masked_crc32c, table_crc32c


@pytest.mark.parametrize("checksum_of", [crc32c, table_crc32c])
@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_published_values(data: bytes, checksum: int, checksum_of: Callable[[bytes], int]) -> None:
    """RFC 3720, appendix B.4, and the usual check value."""
    assert checksum_of(data) == checksum


@given(st.binary(max_size=400))
def test_against_bit_by_bit(data: bytes) -> None:
    assert table_crc32c(data) == reference_files.crc32c(data)
    assert masked_crc32c(data) == reference_files.masked(data)


def test_long_messages() -> None:
    data = bytes(i * i % 251 for i in range(20_011))
    assert table_crc32c(data) == reference_files.crc32c(data)


def test_library_and_table_agree() -> None:
    library = library_crc32c()
    if library is None:
        pytest.skip("google-crc32c is not installed")
    assert crc32c is library
    for length in (0, 1, 2, 3, 100, 4095, 100_003):
        data = bytes(i * i % 251 for i in range(length))
        assert library(data) == table_crc32c(data)
