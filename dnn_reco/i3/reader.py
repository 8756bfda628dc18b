"""Reading `.i3` files, frame by frame."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path

from dnn_reco.errors import DataError
from dnn_reco.i3.frame import (
    LONGEST_NAME,
    MOST_BYTES,
    MOST_OBJECTS,
    NUMBER,
    STREAM_PREAMBLE,
    TAG,
    VERSIONS,
    Frame,
    StoredObject,
    checksum,
    is_stop,
)
from dnn_reco.i3.stream import ByteStream, EndOfStreamError, open_stream

_log = logging.getLogger(__name__)

COMPRESSED = (".zst", ".gz", ".bz2")
"""Endings of names of compressed files."""
I3_SUFFIXES = (*(f".i3{compression}" for compression in COMPRESSED), ".i3")
"""Endings of names of files with frames."""

_REMEDY = "To save its complete frames: dnn_reco.write_i3(new_path, read_i3(path, recover=True))"

_NO_FRAME, _CUT = "what follows is not a frame", "it ends within a frame"
_HEAD = len(TAG) + NUMBER.size + len(STREAM_PREAMBLE)
_FIRST_WITH_TAG = 4  # version
_NOT_INHERITED = ("I", "P")  # stops whose objects later frames do not see
_EVENT = "Q"  # stop of the frame that P frames belong to, which is before them in the same file


def is_i3(path: Path) -> bool:
    """Whether a file is one of frames, by its name: .i3, also compressed."""
    name = path.with_suffix("") if path.suffix in COMPRESSED else path
    return name.suffix == ".i3"


def read_i3(
    *paths: str | PathLike[str],
    verify: bool = False,
    recover: bool = False,
    mix: bool = True,
    gcd: str | PathLike[str] | None = None,
) -> Iterator[Frame]:
    """The frames of files, one file after the other.

    Reading is lazy: objects are decoded when they are asked for, and memory does not grow with the
    files.

    Parameters
    ----------
    paths
        The files, compressed or not.
    verify
        Whether checksums are compared.
    recover
        Whether to continue after a damaged frame with the next complete one, with a warning.
    mix
        Whether frames inherit the objects of the frames before them of other kinds.
    gcd
        File with geometry, calibration and detector status: its frames are inherited, not given.

    Raises
    ------
    DataError
        Where a file cannot be opened, is truncated or damaged; frames before that were given.

    Examples
    --------
    >>> import dnn_reco
    >>> for frame in dnn_reco.read_i3("events.i3.gz"):
    ...     if frame.stop == "P":
    ...         pulses = frame["InIceDSTPulses"].to_numpy()
    ...         print(frame["I3EventHeader"].event, len(pulses), pulses["charge"].sum())
    0 3 6.0
    1 3 6.0
    >>> pulses.dtype.names
    ('string', 'om', 'pmt', 'time', 'charge', 'width', 'flags')
    """
    latest: dict[str, Frame] = {}
    for path in paths if gcd is None else (gcd, *paths):
        latest.pop(_EVENT, None)
        for frame in _frames_and_gaps(Path(path), verify, recover):
            if frame is None:
                latest.pop(_EVENT, None)
                continue
            if mix:
                frame.inherited = _merged(latest, frame.stop)
                if frame.stop not in _NOT_INHERITED:
                    latest.pop(frame.stop, None)
                    latest[frame.stop] = frame
            if path is not gcd:
                yield frame


def _merged(latest: Mapping[str, Frame], stop: str) -> dict[str, StoredObject]:
    """Objects of the latest frames of other kinds; of two with one name the later one counts."""
    return {
        key: stored
        for other, frame in latest.items()
        if other != stop
        for key, stored in frame.own.items()
    }


def _frames_and_gaps(path: Path, verify: bool, recover: bool) -> Iterator[Frame | None]:
    """The frames of one file, each with its own objects; None where damaged ones are skipped.

    After such a gap it is not known which event a P frame belongs to.
    """
    if verify:
        checksum(b"", max(VERSIONS))  # raises where a package is missing
    with open_stream(path) as stream:
        number = 0
        while True:
            frame, problem = _next_frame(stream, f"frame {number} of '{path}'", verify)
            if frame is not None:
                number += 1
                yield frame
                continue
            if not problem:
                return
            is_other = problem in (_NO_FRAME, _CUT) and not stream.begins_with(TAG)
            if is_other and not (number or recover):
                raise DataError(f"'{path}' is not an .i3 file: it does not begin with a frame")
            message = f"'{path}' is damaged after {number} complete frames: {problem}"
            if not recover:
                raise DataError(f"{message}. {_REMEDY}")
            _log.warning("%s; the damaged part is skipped", message)
            begin = stream.find(TAG, 1)
            if begin < 0:
                return
            stream.consume(begin)
            yield None


def _next_frame(stream: ByteStream, source: str, verify: bool) -> tuple[Frame | None, str]:
    """The next frame, or what is wrong with it; neither at the end of the stream."""
    try:
        frame, size = _parse(stream, source, verify)
    except EndOfStreamError:
        if stream.problem:
            return None, f"it cannot be decompressed ({stream.problem})"
        return None, _CUT if stream.has_more() else ""
    except DataError as error:
        return None, str(error)
    stream.consume(size)
    return frame, ""


def _parse(stream: ByteStream, source: str, verify: bool) -> tuple[Frame, int]:
    """A frame and its number of bytes."""
    head = stream.peek(0, _HEAD)
    if not head.startswith(TAG):
        (version,) = NUMBER.unpack_from(head)
        if version < _FIRST_WITH_TAG:
            raise DataError(
                f"it is not in .i3 format, or of an unsupported old version ({version})"
            )
        raise DataError(_NO_FRAME)
    (version,) = NUMBER.unpack_from(head, len(TAG))
    if version not in VERSIONS:
        raise DataError(f"frames of version {version} cannot be read, only of 5 and 6")
    if head[-len(STREAM_PREAMBLE) :] != STREAM_PREAMBLE:
        raise DataError("the header of a frame is invalid")
    stop = stream.peek(_HEAD, _HEAD + 1).decode("latin-1")
    if not is_stop(stop):
        raise DataError(f"a frame has the stop {stop!r}")
    position = _HEAD + 1
    (num_objects,) = NUMBER.unpack(stream.peek(position, position + NUMBER.size))
    position += NUMBER.size
    if num_objects > MOST_OBJECTS:
        raise DataError(f"a frame claims to have {num_objects} objects")
    own: dict[str, StoredObject] = {}
    for _ in range(num_objects):
        key, position = _bytes(stream, position, LONGEST_NAME)
        type_name, position = _bytes(stream, position, LONGEST_NAME)
        content, position = _bytes(stream, position, MOST_BYTES - position)
        name = _text(key)
        if not name or name in own:
            raise DataError(f"a frame has an object '{name}' twice, or one without a name")
        own[name] = StoredObject(_text(type_name), content)
    end = position + NUMBER.size
    (expected,) = NUMBER.unpack(stream.peek(position, end))
    if verify and checksum(stream.peek(_HEAD, position), version) != expected:
        raise DataError("the checksum of a frame is wrong")
    return Frame(stop, own, version=version, source=source), end


def _bytes(stream: ByteStream, position: int, most: int) -> tuple[bytes, int]:
    """Bytes with their length before them, and where they end."""
    begin = position + NUMBER.size
    (length,) = NUMBER.unpack(stream.peek(position, begin))
    if length > most:
        raise DataError(f"a part of a frame claims to have {length} bytes")
    end = begin + length
    return stream.peek(begin, end), end


def _text(content: bytes) -> str:
    return content.decode(errors="surrogateescape")
