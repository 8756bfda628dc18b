"""Bytes of a file that may be compressed, read in pieces."""

from __future__ import annotations

import bz2
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from dnn_reco.errors import DataError

_PIECE = 2**20
_ZSTD_PIECE = 2**10  # compressed: up to 50 MB come out of it
_MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zst"}
INSTALL = "pip install 'dnn_reco[i3]'"


class _Bytes(Protocol):
    """A file that gives what one read of its source gives."""

    def read1(self, size: int, /) -> bytes:
        """The next bytes, none at the end."""


class EndOfStreamError(Exception):
    """The stream ends before the bytes that were asked for."""


class ByteStream:
    """A window on a stream that only moves forward.

    Parameters
    ----------
    file
        A binary file, decompressed.
    """

    def __init__(self, file: _Bytes) -> None:
        self._file = file
        self._data = b""
        self._start = 0  # of what is not yet consumed, in _data
        self.offset = 0
        """Number of bytes before those that are not yet consumed."""
        self.problem = ""
        """Why the stream could not be read further; empty at its end."""
        self._is_at_end = False

    def peek(self, begin: int, end: int) -> bytes:
        """Bytes begin:end, counted from the first that is not yet consumed.

        Raises
        ------
        EndOfStreamError
            If there are fewer.
        """
        if self._start + end > len(self._data):
            self._fill(end)
        return self._data[self._start + begin : self._start + end]

    def _fill(self, end: int) -> None:
        missing = end - (len(self._data) - self._start)
        parts, size = [self._data[self._start :]], 0
        while size < max(missing, _PIECE) and not self._is_at_end:
            parts.append(self._read())
            size += len(parts[-1])
        if size:
            self._data, self._start = b"".join(parts), 0
        if size < missing:
            raise EndOfStreamError

    def _read(self) -> bytes:
        try:
            part = self._file.read1(_PIECE)  # unlike read, it gives what is before a damage
        except (EOFError, zlib.error, OSError, ValueError) as error:
            part, self.problem = b"", str(error) or type(error).__name__
        except Exception as error:  # zstandard raises its own exception, and may be absent
            if type(error).__module__.split(".")[0] not in ("zstd", "zstandard"):
                raise
            part, self.problem = b"", str(error)
        self._is_at_end = not part
        return part

    def begins_with(self, pattern: bytes) -> bool:
        """Whether what is not yet consumed begins like this."""
        try:
            return self.peek(0, len(pattern)) == pattern
        except EndOfStreamError:
            return False

    def has_more(self) -> bool:
        """Whether any byte is left."""
        return self._start < len(self._data)

    def consume(self, number: int) -> None:
        """Move on by a number of bytes that were seen."""
        self._start += number
        self.offset += number

    def find(self, pattern: bytes, begin: int) -> int:
        """Where a pattern begins next, counted as in `peek`; -1: nowhere.

        Where it is nowhere near, what is before it is consumed.
        """
        while True:
            found = self._data.find(pattern, self._start + begin)
            if found >= 0:
                return found - self._start
            begin = max(begin, len(self._data) - self._start - len(pattern) + 1)
            if begin > 16 * _PIECE:  # nothing here: what lies behind is not needed any more
                self.consume(begin)
                begin = 0
            try:
                self.peek(0, len(self._data) - self._start + 1)
            except EndOfStreamError:
                return -1


@contextmanager
def open_stream(path: Path) -> Iterator[ByteStream]:
    """Open a file; its compression is detected from its content.

    Raises
    ------
    DataError
        If there is no such file, it is empty, or a package is missing that decompresses it.
    """
    if path.is_dir():
        raise DataError(f"'{path}' is a folder: name the files in it, such as '{path}/*.i3.zst'")
    try:
        raw = path.open("rb")
    except OSError as error:
        raise DataError(f"'{path}' cannot be opened: {error.strerror or error}") from error
    with raw:
        start = raw.peek(4)[:4]  # of a buffered file: reads without moving
        if not start:
            raise DataError(f"'{path}' is empty (0 bytes): the job that wrote it probably failed")
        with _decompressed(raw, start, path) as file:
            yield ByteStream(file)


@contextmanager
def _decompressed(raw: io.BufferedReader, start: bytes, path: Path) -> Iterator[_Bytes]:
    kind = next((name for magic, name in _MAGIC.items() if start.startswith(magic)), None)
    if kind == "gz":
        with gzip.GzipFile(fileobj=raw) as file:
            yield file
    elif kind == "bz2":
        with bz2.BZ2File(raw) as compressed:
            yield compressed
    elif kind == "zst":
        yield _ZstdFile(raw, zstandard(path))
    else:
        yield raw


class _ZstdFile:
    """Decompresses zstd frames, one after the other.

    Unlike the package's own reader it reports the position at which a file is cut off.
    """

    def __init__(self, raw: io.BufferedReader, package: Any) -> None:
        self._raw = raw
        self._decompressor = package.ZstdDecompressor(max_window_size=2**27)
        self._frame: Any = None
        self._rest = b""

    def read1(self, size: int, /) -> bytes:
        """The next bytes, none at the end; more than `size` where they are packed densely."""
        del size
        part = b""
        while not part:
            self._rest = self._rest or self._raw.read(_ZSTD_PIECE)
            if not self._rest and self._frame is not None:
                raise EOFError("Compressed file ended before the end-of-stream marker was reached")
            if not self._rest:
                return b""
            if self._frame is None:
                self._frame = self._decompressor.decompressobj()
            part = self._frame.decompress(self._rest)
            self._rest = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = None
        return part


def zstandard(path: Path) -> Any:
    """The package that reads and writes .zst files.

    Raises
    ------
    DataError
        If it is not installed.
    """
    try:
        import zstandard as package
    except ImportError as error:
        raise DataError(f"'{path}' needs the package zstandard: {INSTALL}") from error
    return package
