"""A text about a file with frames, in a hidden file beside it."""

from __future__ import annotations

import json
from pathlib import Path

from dnn_reco.files import write_atomically
from dnn_reco.foreign_files import parse_json


def record_place(path: Path) -> Path:
    """The file beside a file with frames that holds its record."""
    return path.with_name(f".{path.name}.record.json")


def write_frame_record(path: Path, complete: Path, record: str) -> None:
    """Write the record of a file with frames.

    Parameters
    ----------
    path
        The file, once it has its name.
    complete
        The same file under its temporary name; the record counts for a file of its size.
    record
        The text.
    """
    content = {"size": complete.stat().st_size, "record": record}
    write_atomically(record_place(path), json.dumps(content).encode())


def read_frame_record(path: Path) -> str | None:
    """The record of a file with frames; None: there is none, or it belongs to another file."""
    try:
        content = parse_json(record_place(path).read_bytes())
        is_whole = content["size"] == path.stat().st_size
        return str(content["record"]) if is_whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
