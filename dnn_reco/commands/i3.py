"""`i3 ls`, `i3 show`, `i3 export`: what is in `.i3` files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from dnn_reco.amounts import plural
from dnn_reco.commands.output import print_json, print_note
from dnn_reco.data.event_choice import parse_event
from dnn_reco.errors import DataError
from dnn_reco.files import writing
from dnn_reco.i3.describe import (
    event_text,
    printable,
    reference_text,
    summary,
    table,
    text_of,
)
from dnn_reco.i3.events import HEADER, count_text, find_frame
from dnn_reco.i3.frame import Frame, StoredObject
from dnn_reco.i3.objects import EventHeader
from dnn_reco.i3.reader import read_i3
from dnn_reco.i3.table_file import write_table
from dnn_reco.progress import with_progress
from dnn_reco.suggestions import did_you_mean

_MOST_LINES = 40
_LEFT = frozenset((0, 1))
_ROW = "{:>11}  {:4}  {:20}  {:20}  {:>7}  {:>12}"
_TITLES = ("frame", "stop", "event", "stream", "objects", "bytes")


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Attributes
    ----------
    verify
        Whether checksums are compared.
    recover
        Whether what is damaged is skipped.
    """

    verify: bool = False
    recover: bool = False


def _own_frames(file: Path, reading: Reading) -> Iterator[Frame]:
    """The frames of a file, each with its own objects alone."""
    return read_i3(file, verify=reading.verify, recover=reading.recover, mix=False)


def _bar(frames: Iterable[Frame]) -> Iterator[Frame]:
    yield from with_progress(frames, None, "Reading", "frames")


# --------------------------------------------------------------------------------------------------
# ls
# --------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class ListSettings:
    """What to list.

    Attributes
    ----------
    frame
        Number of the frame whose objects are listed; None: the frames are listed.
    by_key
        Whether keys are listed in place of frames.
    whole
        Whether long lists are printed whole.
    reading
        How files are read.
    as_json
        Whether all is printed as one JSON document.
    """

    frame: int | None
    by_key: bool
    whole: bool
    reading: Reading
    as_json: bool = False


def run_ls(files: Sequence[Path], settings: ListSettings) -> int:
    """List the frames or keys of files; the exit code is 1 if one of them cannot be read."""
    if settings.as_json:
        found = [_file_document(file, settings) for file in files]
        print_json({"files": found})
        return 1 if any("error" in each for each in found) else 0
    exit_code = 0
    for number, file in enumerate(files):
        if len(files) > 1:
            click.echo(f"{'' if number == 0 else chr(10)}{printable(str(file))}")
        try:
            if settings.frame is not None:
                _list_objects(file, settings.frame, settings.reading)
            elif settings.by_key:
                _list_keys(file, settings)
            else:
                _list_frames(file, settings)
        except DataError as error:  # the others may be good
            click.echo(f"Error: {error}", err=True)
            exit_code = 1
    return exit_code


def _file_document(file: Path, settings: ListSettings) -> dict[str, Any]:
    """What is in a file, for `--json`; of a damaged one, what comes before the damage."""
    document: dict[str, Any] = {"file": str(file)}
    try:
        if settings.frame is not None:
            frame = _numbered_frame(file, settings.frame, settings.reading)
            document |= {"frame": settings.frame, "stop": frame.stop, "objects": []}
            for key, stored in frame.own.items():
                size = len(stored.content)
                document["objects"].append({"key": key, "class": _class_of(stored), "bytes": size})
        elif settings.by_key:
            uses, num_frames = _key_uses(file, settings.reading)
            document |= {"frames": dict(num_frames), "keys": []}
            for (key, kind), use in sorted(uses.items()):
                entry = {"key": key, "class": kind, "frames": dict(use.frames), "bytes": use.size}
                document["keys"].append(entry)
        else:
            document["frames"] = []
            for line in _lines(_own_frames(file, settings.reading)):
                document["frames"].append(line.to_dict())
    except DataError as error:
        click.echo(f"Error: {error}", err=True)
        document["error"] = str(error)
    return document


@dataclass
class _Line:
    """One or several frames in a row that are alike, as a line of the list."""

    first: int
    stop: str
    event: str = ""
    stream: str = ""
    last: int = 0
    num_objects: int = 0
    size: int = 0

    def takes(self, other: _Line) -> bool:
        """Whether a frame that follows belongs to the same line: it has no event either."""
        return not self.event and not other.event and self.stop == other.stop

    def to_dict(self) -> dict[str, Any]:
        """The line for `--json`."""
        return {
            "first": self.first,
            "last": self.last,
            "stop": self.stop,
            "event": self.event or None,
            "stream": self.stream or None,
            "objects": self.num_objects,
            "bytes": self.size,
        }

    def text(self) -> str:
        """The line."""
        frames = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        numbers = f"{self.num_objects:,}", f"{self.size:,}"
        return _ROW.format(frames, self.stop, self.event, self.stream, *numbers).rstrip()


def _line_of(number: int, frame: Frame) -> _Line:
    line = _Line(number, printable(frame.stop), last=number, num_objects=len(frame.own))
    line.size = _size(frame)
    try:
        header = frame.get(HEADER)
    except DataError:
        line.event = "?"
    else:
        if isinstance(header, EventHeader):
            line.event, line.stream = event_text(header), printable(header.stream)
    return line


def _size(frame: Frame) -> int:
    return sum(len(stored.content) for stored in frame.own.values())


def _lines(frames: Iterable[Frame]) -> Iterator[_Line]:
    """Lines of the list; frames without event in a row share one.

    Raises
    ------
    DataError
        After the last line, if a frame is damaged.
    """
    waiting: _Line | None = None
    damage: DataError | None = None
    try:
        for number, frame in enumerate(frames):
            line = _line_of(number, frame)
            if waiting is not None and waiting.takes(line):
                waiting.last = number
                waiting.num_objects += line.num_objects
                waiting.size += line.size
                continue
            if waiting is not None:
                yield waiting
            waiting = line
    except DataError as error:
        damage = error
    if waiting is not None:
        yield waiting
    if damage is not None:
        raise damage


def _list_frames(file: Path, settings: ListSettings) -> None:
    num_frames: Counter[str] = Counter()
    size = shown = left_out = 0
    click.echo(_ROW.format(*_TITLES).rstrip())
    frames = _own_frames(file, settings.reading)
    try:
        for line in _lines(frames):
            num_frames[line.stop] += line.last - line.first + 1
            size += line.size
            if settings.whole or shown < _MOST_LINES:
                shown += 1
                click.echo(line.text())
            else:
                left_out += line.last - line.first + 1
    finally:
        if left_out:
            click.echo(f"… {left_out:,} more frames: --all lists them")
        if num_frames:
            text = f"{num_frames.total():,} frames: {count_text(num_frames)}"
            checked = "; checksums are right" if settings.reading.verify else ""
            click.echo(f"{text}; objects of {size:,} bytes{checked}")


def _numbered_frame(file: Path, number: int, reading: Reading) -> Frame:
    """A frame by its number.

    Raises
    ------
    DataError
        If there are fewer.
    """
    num_frames = 0
    for frame in _own_frames(file, reading):
        if num_frames == number:
            return frame
        num_frames += 1
    raise DataError(f"'{file}' has no frame {number}, but {num_frames} frames, counted from 0")


def _list_objects(file: Path, number: int, reading: Reading) -> None:
    """List the objects of one frame."""
    frame = _numbered_frame(file, number, reading)
    rows = [
        (printable(key), _class_of(stored), f"{len(stored.content):,}")
        for key, stored in frame.own.items()
    ]
    click.echo(f"Frame {number}, stop {printable(frame.stop)}: {plural(len(rows), 'object')}")
    _echo_table(["key", "class", "bytes"], rows)


def _class_of(stored: StoredObject) -> str:
    try:
        return printable(stored.class_name)
    except DataError:
        return "(damaged)"


def _echo_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    click.echo("\n".join(table(titles, rows, _LEFT)))


@dataclass
class _KeyUse:
    """How often a key is used for objects of a class, and for how many bytes."""

    frames: Counter[str] = field(default_factory=Counter)
    size: int = 0


def _key_uses(file: Path, reading: Reading) -> tuple[dict[tuple[str, str], _KeyUse], Counter[str]]:
    """Use of each key and class, and the number of frames of each stop."""
    uses: dict[tuple[str, str], _KeyUse] = {}
    num_frames: Counter[str] = Counter()
    for frame in _bar(_own_frames(file, reading)):
        num_frames[frame.stop] += 1
        for key, stored in frame.own.items():
            use = uses.setdefault((printable(key), _class_of(stored)), _KeyUse())
            use.frames[frame.stop] += 1
            use.size += len(stored.content)
    return uses, num_frames


def _list_keys(file: Path, settings: ListSettings) -> None:
    uses, num_frames = _key_uses(file, settings.reading)
    shown = {
        names: use for names, use in uses.items() if settings.whole or use.frames.keys() != {"I"}
    }
    rows = [
        (
            *names,
            *(f"{use.frames[stop]:,}" if use.frames[stop] else "" for stop in num_frames),
            f"{use.size / use.frames.total():,.0f}",
        )
        for names, use in sorted(shown.items())
    ]
    stops = [f"in {printable(stop)}" for stop in num_frames]
    _echo_table(["key", "class", *stops, "mean bytes"], rows)
    if len(shown) < len(uses):
        click.echo(f"… {len(uses) - len(shown):,} keys that only I frames have: --all lists them")
    click.echo(f"{len(uses):,} keys in {num_frames.total():,} frames: {count_text(num_frames)}")


# --------------------------------------------------------------------------------------------------
# show
# --------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class ShowSettings:
    """What to show.

    Attributes
    ----------
    event
        The event, see :func:`dnn_reco.data.event_choice.parse_event`.
    keys
        Keys of the objects to show; none: a line for each object of the frame.
    stop
        Stop of its frame.
    most_rows
        Most rows of tables and trees.
    reading
        How the file is read.
    """

    event: str
    keys: tuple[str, ...]
    stop: str
    most_rows: int
    reading: Reading


def run_show(file: Path, settings: ShowSettings) -> None:
    """Print objects of an event as text."""
    event = parse_event(settings.event)
    reading = settings.reading
    frames = read_i3(file, verify=reading.verify, recover=reading.recover)
    try:
        _, frame = find_frame(_bar(frames), event, settings.stop)
    except DataError as error:
        if str(file) in str(error):
            raise
        raise DataError(f"'{file}': {error}") from error
    for key in settings.keys:
        if key not in frame:
            raise DataError(
                f"{frame.source} has no object '{key}'.{did_you_mean(key, frame)} Without --key "
                f"all its {len(frame)} objects are listed"
            )
    if not settings.keys:
        _show_overview(frame)
    for number, key in enumerate(settings.keys):
        if number:
            click.echo()
        _show_object(frame, key, settings.most_rows)


def _show_overview(frame: Frame) -> None:
    header = frame.get(HEADER)
    event = f", event {summary(header)}" if isinstance(header, EventHeader) else ""
    click.echo(f"{frame.source}, stop {frame.stop}{event}")
    inherited = [key for key in frame.inherited if key not in frame.own]
    for title, keys in (("Its objects", list(frame.own)), ("Those of frames before", inherited)):
        if keys:
            click.echo(f"\n{title}:")
            rows = [
                (printable(key), _class_of(frame.object(key)), _line(frame, key)) for key in keys
            ]
            click.echo("\n".join(table(["key", "class", ""], rows, frozenset(range(3)))))


def _line(frame: Frame, key: str) -> str:
    try:
        return summary(frame[key])
    except DataError as error:
        return f"cannot be read: {error}"


def _show_object(frame: Frame, key: str, most_rows: int) -> None:
    stored = frame.object(key)
    click.echo(f"{printable(key)}: {_class_of(stored)}, {len(stored.content):,} bytes")
    if reference := reference_text(frame.stored(key)):
        click.echo(reference)
    click.echo("\n".join(text_of(frame[key], most_rows)))


# --------------------------------------------------------------------------------------------------
# export
# --------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class ExportSettings:
    """What to write.

    Attributes
    ----------
    names
        Keys and fields of objects, see :class:`dnn_reco.i3.table_file.FieldTable`.
    out
        File to write.
    stop
        Stop of the frames that have a row.
    reading
        How the files are read.
    """

    names: tuple[str, ...]
    out: Path
    stop: str
    reading: Reading


def run_export(files: Sequence[Path], settings: ExportSettings) -> None:
    """Write fields of objects as a table."""
    reading = settings.reading
    frames = _bar(read_i3(*files, verify=reading.verify, recover=reading.recover))
    num_frames: Counter[str] = Counter()
    with writing("the table", settings.out, "choose another --out"):
        num_rows, num_columns = write_table(
            settings.out, _of_stop(frames, settings.stop, num_frames), settings.names
        )
    print_note(f"Wrote '{settings.out}': {num_rows:,} rows, {num_columns} columns.")


def _of_stop(frames: Iterable[Frame], stop: str, num_frames: Counter[str]) -> Iterator[Frame]:
    """The frames of a stop.

    Raises
    ------
    DataError
        At the end, if there was none.
    """
    for frame in frames:
        num_frames[frame.stop] += 1
        if frame.stop == stop:
            yield frame
    if not num_frames[stop]:
        raise DataError(f"there is no {stop} frame, but {count_text(num_frames)}: choose --stop")
