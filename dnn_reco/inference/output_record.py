"""What a file of predictions records: the models and options that made it, its input, its counts.

The record decides whether an existing file has to be made again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dnn_reco.errors import DataError
from dnn_reco.foreign_files import parse_json

RECORD = "dnn_reco_predictions"
"""Name of the record in a file."""

_FORMAT = "dnn_reco predictions 1"
_OPTIONS = {"inputs": "--tables"}  # of `apply`, where they are not called as the field


@dataclass(frozen=True)
class SourceFile:
    """An input file in a certain state.

    Attributes
    ----------
    name
        Its name, without folder: it may be moved.
    size
        In bytes.
    modified
        Time of its last modification, in ns since 1970.
    """

    name: str
    size: int
    modified: int

    @classmethod
    def of(cls, path: Path) -> SourceFile:
        """The state of a file.

        Raises
        ------
        DataError
            If there is no such file.
        """
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"'{path}' cannot be read: {error.strerror}") from error
        return cls(path.name, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class AppliedModel:
    """A model folder in a certain state: its name, and the SHA-256 of its manifest."""

    name: str
    digest: str


@dataclass(frozen=True)
class Application:
    """What decides the predictions of a file, besides the file.

    Attributes
    ----------
    models
        The models, in the order of their tables.
    batch_size
        Events predicted at once.
    backend
        Library that computes, as it was asked for.
    measure_time
        Whether there are columns of run times.
    data_settings
        Data settings of files without a record, as JSON text, by model; empty: not known.
    ignore_mismatch
        Data settings that may differ from those of the models.
    inputs
        Common beginning of the names of the input tables; None: those of the training.
    raw
        Whether calibrations of the models were left out.
    pulses
        Pulses of files with frames; None: those of the training.
    gcd
        File with geometry, calibration and detector status beside files with frames.
    """

    models: tuple[AppliedModel, ...]
    batch_size: int
    backend: str
    measure_time: bool
    data_settings: Mapping[str, str]
    ignore_mismatch: tuple[str, ...]
    inputs: str | None = None
    raw: bool = False
    pulses: str | None = None
    gcd: SourceFile | None = None


@dataclass(frozen=True)
class OutputRecord:
    """The record of a file of predictions.

    Attributes
    ----------
    source
        The input file.
    application
        How it was made.
    num_events
        Rows of each table.
    status
        Number of events of each status that occurs, by model.
    data_settings
        How the features of the input were made, by model, as JSON text; empty: not known.
    ignored_mismatches
        How they differ from what the models were trained on.
    streams
        Names of the sub-event streams, by number.
    versions
        Versions of the packages that computed.
    """

    source: SourceFile
    application: Application
    num_events: int
    status: Mapping[str, Mapping[str, int]]
    data_settings: Mapping[str, str]
    ignored_mismatches: tuple[str, ...]
    streams: Mapping[int, str]
    versions: Mapping[str, str]

    def to_json(self) -> str:
        """The record as JSON text of ASCII characters."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> OutputRecord:
        """The record in a JSON text.

        Raises
        ------
        ValueError
            If it is none.
        """
        values = parse_json(text)
        if not isinstance(values, dict) or values.pop("format", None) != _FORMAT:
            raise ValueError("it has another version")
        try:
            return _ADAPTER.validate_python(values)
        except ValidationError as error:
            raise ValueError(f"it is damaged ({error.errors()[0]['msg']})") from error

    def differences(self, source: SourceFile, application: Application) -> list[str]:
        """Why this file is not what these models make of this input; empty: it is."""
        found = [] if self.source == source else ["the input file has changed since"]
        return found + _changes(self.application, application)


_ADAPTER = TypeAdapter(OutputRecord)


def _changes(before: Application, now: Application) -> list[str]:
    """How two applications differ, in words."""
    names, names_now = ([model.name for model in each.models] for each in (before, now))
    if names != names_now:
        found = [f"it holds predictions of {_listed(names)}, not of {_listed(names_now)}"]
    else:
        pairs = zip(before.models, now.models, strict=True)
        found = [f"the model '{new.name}' has changed since" for old, new in pairs if old != new]
    options = [field.name for field in fields(Application) if field.name != "models"]
    return found + [
        f"{option_of(key)} was {_shown(getattr(before, key))}, is {_shown(getattr(now, key))}"
        for key in options
        if getattr(before, key) != getattr(now, key)
    ]


def option_of(key: str) -> str:
    """The option of `apply` that sets a field of `Application`."""
    return _OPTIONS.get(key, f"--{key.replace('_', '-')}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _shown(value: Any) -> str:
    """An option as text."""
    if isinstance(value, Mapping):
        value = tuple(sorted(set(value.values())))
    if isinstance(value, tuple):
        return ", ".join(value) or "not given"
    if value is None:
        return "not given"
    return value.name if isinstance(value, SourceFile) else str(value)
