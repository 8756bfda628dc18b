"""`metrics.jsonl`: the metrics of each validation, one line of JSON each.

It can be read with ``pandas.read_json(path, lines=True)``, for example.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dnn_reco.errors import TrainingError
from dnn_reco.files import write_atomically
from dnn_reco.foreign_files import parse_json

METRICS_FILE = "metrics.jsonl"
LOG_FOLDERS = ("train", "val", "validation_set")
"""Folders of TensorBoard's files, beside the file."""
UNSAVED_LOGS = "unsaved"
"""Folder of those of trainings that save nothing: TensorBoard would mix them with saved ones."""

_KEY = "iterations_done"


@contextmanager
def writing_logs(folder: Path) -> Iterator[None]:
    """Turn a failure to write logs to a folder, such as on a full disk, into a TrainingError."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"the logs in '{folder}' cannot be written ({error}): once they can, run the same "
            "command to resume from the last checkpoint"
        ) from error


class MetricsLog:
    """Appends lines to the file.

    Parameters
    ----------
    path
        Path of the file.
    first
        Number of iterations done so far. Lines of later ones, which an interrupted run wrote, and
        incomplete lines are dropped, as those iterations will be repeated.
    """

    def __init__(self, path: Path, first: int) -> None:
        self._path = path
        if not path.exists():
            return
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if _is_up_to(line, first)]
        if kept != lines:
            write_atomically(path, b"".join(kept))

    def write(self, iteration: int, sections: Mapping[str, Any]) -> None:
        """Append the line of an iteration, which counts from 0."""
        numbers = {"iteration": iteration, _KEY: iteration + 1}
        line = json.dumps(_plain({**numbers, **sections}), allow_nan=False, ensure_ascii=False)
        with writing_logs(self._path.parent), self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a file, those that are incomplete or damaged left out; none without a file."""
    lines = []
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            values = parse_json(line)
        except ValueError:
            continue
        if isinstance(values, dict):
            lines.append(values)
    return lines


def _is_up_to(line: bytes, iterations: int) -> bool:
    """Whether a line is complete and of an iteration up to `iterations`."""
    try:
        return line.endswith(b"\n") and int(parse_json(line)[_KEY]) <= iterations
    except (ValueError, KeyError, TypeError):
        return False


def _plain(value: Any) -> Any:
    """Values for JSON: numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, str | bool | int) or value is None:
        return value
    number = float(value)
    return number if math.isfinite(number) else None
