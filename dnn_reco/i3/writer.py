"""Writing `.i3` files."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO, cast

from dnn_reco.files import temporary_beside, writing
from dnn_reco.i3.frame import Frame, frame_bytes
from dnn_reco.i3.stream import zstandard

_GZIP_LEVEL, _ZSTD_LEVEL = 6, 6


class FrameWriter:
    """Writes frames to an open file, each with its own objects."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, frame: Frame) -> None:
        """Append a frame.

        Raises
        ------
        DataError
            If an object is too long, or a package is missing that makes checksums.
        """
        self._file.write(frame_bytes(frame))


@contextmanager
def open_i3(
    path: str | PathLike[str], finish: Callable[[Path], None] | None = None
) -> Iterator[FrameWriter]:
    """Write a file; it appears under its name only when it is complete.

    Parameters
    ----------
    path
        The file; its name decides the compression: .gz, .bz2, .zst, or none.
    finish
        Called with the complete file, before it gets its name.

    Raises
    ------
    DataError
        If the file cannot be written, or a package is missing that compresses it.
    """
    path = Path(path)
    with writing("the frames", path, "choose another file"), temporary_beside(path) as folder:
        part = folder / path.name
        with _compressed(part) as file:
            yield FrameWriter(file)
        if finish is not None:
            finish(part)
        part.replace(path)


def write_i3(path: str | PathLike[str], frames: Iterable[Frame]) -> int:
    """Write frames to a file, each with its own objects.

    Parameters
    ----------
    path
        The file; it appears when it is complete. Its name decides the compression: .gz, .bz2,
        .zst, or none.
    frames
        The frames.

    Returns
    -------
    number
        How many there were.

    Raises
    ------
    DataError
        If the file cannot be written, or a package is missing that it needs.

    Examples
    --------
    >>> from dnn_reco import Frame, write_i3
    >>> frame = Frame("P")
    >>> frame.put("Energy", 12.5)
    >>> write_i3("new.i3.gz", [frame])
    1
    """
    number = 0
    with open_i3(path) as writer:
        for frame in frames:
            writer.write(frame)
            number += 1
    return number


@contextmanager
def _compressed(path: Path) -> Iterator[IO[bytes]]:
    with path.open("wb") as raw:
        if path.suffix == ".gz":
            # Without name and time the same frames give the same file.
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0) as zipped:
                yield cast("IO[bytes]", zipped)
        elif path.suffix == ".bz2":
            with bz2.BZ2File(raw, "wb") as packed:
                yield cast("IO[bytes]", packed)
        elif path.suffix == ".zst":
            compressor = zstandard(path).ZstdCompressor(_ZSTD_LEVEL, write_checksum=True)
            with compressor.stream_writer(raw, closefd=False) as writer:
                yield writer
        else:
            yield raw
