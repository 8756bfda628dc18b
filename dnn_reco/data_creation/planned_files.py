"""Making the files of a plan, one at a time."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from dnn_reco.config import allow_plugins_beside, source_hash
from dnn_reco.data_creation.event_file import FileJob, FileSummary, make_event_file
from dnn_reco.data_creation.modules import Modules, modules_of
from dnn_reco.data_creation.plan import Outputs, PlannedFile
from dnn_reco.errors import DataError
from dnn_reco.i3.reader import read_i3


@dataclass(frozen=True)
class CreationOptions:
    """What is the same for all files of a plan.

    Attributes
    ----------
    outputs
        What is written.
    exclude_corrupted
        Whether inputs that are truncated or damaged are left out, instead of failing the run.
    allow_code
        Packages of functions of users that may be called as data formats.
    config
        The config, beside which such packages may lie; None: there is none.
    """

    outputs: Outputs
    exclude_corrupted: bool = False
    allow_code: tuple[str, ...] = ()
    config: Path | None = None


@dataclass(frozen=True)
class CreatedFile:
    """What became of a file of a plan.

    Attributes
    ----------
    file
        The file.
    summary
        What became of its frames.
    excluded
        Inputs that were left out because they cannot be read, and why.
    error
        Why nothing was written; empty: the outputs are complete.
    """

    file: PlannedFile
    summary: FileSummary = field(default_factory=FileSummary)
    excluded: tuple[tuple[Path, str], ...] = ()
    error: str = ""


def create_planned_file(options: CreationOptions, file: PlannedFile) -> CreatedFile:
    """Make the outputs of a run; files that cannot be read or written are part of the result.

    Raises
    ------
    ConfigError
        If a segment is not available, or its arguments are wrong.
    """
    modules = modules_of_file(options, file)
    excluded = _unreadable(file.inputs) if options.exclude_corrupted else {}
    inputs = [path for path in file.inputs if path not in excluded]
    reasons = tuple(excluded.items())
    if not inputs:
        return CreatedFile(file, excluded=reasons, error="none of its inputs can be read")
    paths = iter(options.outputs.paths(file.output))
    job = FileJob(
        inputs=tuple(inputs),
        hdf5=next(paths) if options.outputs.hdf5 else None,
        keys=file.hdf5_keys,
        streams=options.outputs.sub_event_streams,
        i3=next(paths) if options.outputs.i3 else None,
        i3_stops=options.outputs.i3_streams,
        gcd=file.gcd,
        record=creation_record(options.outputs, file, modules),
    )
    try:
        return CreatedFile(file, make_event_file(job, modules), reasons)
    except DataError as error:
        return CreatedFile(file, excluded=reasons, error=str(error))
    except OSError as error:
        text = f"'{error.filename or file.output}' cannot be written: {error.strerror or error}"
        return CreatedFile(file, excluded=reasons, error=text)


def modules_of_file(options: CreationOptions, file: PlannedFile) -> Modules:
    """The modules that run on a file.

    Raises
    ------
    ConfigError
        If a segment is not available, or its arguments are wrong.
    """
    if options.allow_code and options.config is not None:
        allow_plugins_beside([options.config])
    return modules_of(file.segments, options.allow_code)


def creation_record(outputs: Outputs, file: PlannedFile, modules: Modules) -> str:
    """JSON text of all settings that decide what is in the event file of a run."""
    formats = [each.user_format for each in modules.features if each.user_format is not None]
    segments = [{segment.module_class: dict(segment.kwargs)} for segment in file.segments]
    record = {
        "segments": segments,
        "keys": list(file.hdf5_keys),
        "streams": list(outputs.sub_event_streams),
        "i3_streams": list(outputs.i3_streams) if outputs.i3 else [],
        "inputs": [_state(path) for path in file.inputs],
        "gcd": None if file.gcd is None else _state(file.gcd),
    }
    if formats:
        record["code"] = {
            f"SHA-256 of the source of {own.name}": source_hash(own.function)[:16]
            for own in formats
        }
    return json.dumps(record, default=str, sort_keys=True)


def _state(path: Path) -> str:
    """Name, size and time of change [ns] of a file."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}") from error
    return f"{path.name}, {status.st_size} bytes, changed at {status.st_mtime_ns}"


def _unreadable(paths: tuple[Path, ...]) -> dict[Path, str]:
    """Files that cannot be read to their end, or of which a checksum is wrong, and why."""
    found = {}
    for path in paths:
        try:
            for _ in read_i3(path, mix=False, verify=True):
                pass
        except DataError as error:
            found[path] = str(error)
    return found
