"""The checksum of TensorFlow's files."""

import pytest
import reference_files
from hypothesis import given
from hypothesis import strategies as st

from dnn_reco.tf_import.crc32c import crc32c, masked_crc32c


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
def test_published_values(data: bytes, checksum: int) -> None:
    """RFC 3720, appendix B.4, and the usual check value."""
    assert crc32c(data) == checksum


@given(st.binary(max_size=400))
def test_against_bit_by_bit(data: bytes) -> None:
    assert crc32c(data) == reference_files.crc32c(data)
    assert masked_crc32c(data) == reference_files.masked(data)


def test_long_messages() -> None:
    data = bytes(i * i % 251 for i in range(20_011))
    assert crc32c(data) == reference_files.crc32c(data)
