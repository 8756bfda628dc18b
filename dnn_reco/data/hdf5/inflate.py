"""Inflating gzip data, by libdeflate (the optional package `deflate`) where it is there, else zlib.

Both release Python's global lock, so several threads inflate at once.
"""

import zlib

from dnn_reco.errors import DataError

try:
    import deflate
except ImportError:
    deflate = None

_ERRORS: tuple[type[Exception], ...] = (
    (zlib.error,) if deflate is None else (zlib.error, deflate.DeflateError)
)


def inflate(compressed: bytes, size: int) -> bytes | bytearray:
    """The `size` bytes that `compressed` (zlib format) holds.

    Raises
    ------
    DataError
        The data are damaged, or hold another number of bytes.
    """
    try:
        if deflate is not None:
            data: bytes | bytearray = deflate.zlib_decompress(compressed, size)
        else:
            stream = zlib.decompressobj()
            data = stream.decompress(compressed, size + 1)  # never more, whatever the data hold
            if len(data) <= size and not stream.eof:
                raise DataError("the compressed data are damaged (they end too early)")
    except _ERRORS as error:
        raise DataError(f"the compressed data are damaged ({error})") from error
    if len(data) != size:
        raise DataError(f"the compressed data hold {len(data)} bytes where {size} are expected")
    return data
