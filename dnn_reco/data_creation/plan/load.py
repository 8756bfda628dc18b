"""From a config of data creation to a plan: all files that are made, before anything is read."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnn_reco.config.yaml_file import YamlFile, read_yaml_file
from dnn_reco.data.data_settings_file import settings_of_segment
from dnn_reco.data_creation.plan.keys import EXCLUDE_KEYS, check_keys, dataset_mappings
from dnn_reco.data_creation.plan.patterns import PatternFiller
from dnn_reco.data_creation.plan.records import (
    CREATE_DATA,
    CreationPlan,
    Outputs,
    PlannedFile,
    Segment,
    SkippedRun,
)
from dnn_reco.data_creation.plan.runs import Run, read_runs
from dnn_reco.data_creation.plan.segments import (
    Step,
    Writing,
    fill_segments,
    hdf5_keys_of,
    notices_of_steps,
    read_steps,
    read_writing,
)
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.files import find_files, is_in_package

_FROM_LISTS = "GET_GCD_FROM_GRL"
_SHOWN = 3
_DIFFERENT = (
    "use placeholders such as {run_number:06d} in out_file_pattern or in the patterns of the "
    "folders"
)


@dataclass(frozen=True)
class _Work:
    """What is done with each run: these steps, into this folder.

    `first` is the number of the first step; the inputs of one after the first step of the config
    are the files that the step before it left. `suffix` is added to the names of outputs.
    """

    steps: tuple[Step, ...]
    first: int
    suffix: str
    folder: str | Path | None
    writing: Writing


class _NoInputError(Exception):
    """A run whose input files are not there."""


def load_plan(
    path: str | Path, data_folder: str | Path | None = None, step: int | None = None
) -> CreationPlan:
    """Read a config in the layout of IceCube's ic3-processing, and find all files that it is about.

    Parameters
    ----------
    path
        The YAML file. Patterns in it are :data:`~dnn_reco.data_creation.plan.patterns.FORMS`.
    data_folder
        Folder of the outputs; None: the key `data_folder` of the config.
    step
        Number of the only processing step to run, counted from 0; None: all steps, one after the
        other, without files between them. A step that is not the last writes frames to files whose
        names end in `_step0000`, which the next step reads.

    Returns
    -------
    plan
        Runs without input are listed as skipped.

    Raises
    ------
    ConfigError
        If a key is missing, misspelt, misplaced or wrong, a pattern cannot be filled, or two runs
        would write the same file.
    DataError
        If no run has input.
    """
    file = read_yaml_file(Path(path), "config of data creation")
    notices = check_keys(file)
    steps = read_steps(file)
    work = _work(file, steps, data_folder, step)
    files, skipped = _plan_runs(file, work)
    if not files:
        raise DataError(f"'{path}': {_no_files(skipped)}")
    check_outputs(files, work.writing.outputs, _DIFFERENT)
    _check_features(files)
    segments = tuple(segment for each in work.steps for segment in each.segments)
    return CreationPlan(
        tuple(files),
        tuple(skipped),
        segments,
        work.writing.outputs,
        _excludes_corrupted(file),
        (*notices, *notices_of_steps(file, work.steps)),
    )


@dataclass(frozen=True)
class ConfiguredSteps:
    """The processing steps of a config, for a file that it does not name.

    Attributes
    ----------
    segments
        What they run, in order.
    hdf5_keys
        Frame objects to write.
    streams
        Sub-event streams whose P frames are events.
    names_gcd
        Whether the config names files with geometry, calibration and detector status.
    """

    segments: tuple[Segment, ...]
    hdf5_keys: tuple[str, ...]
    streams: tuple[str, ...]
    names_gcd: bool


def load_steps(path: str | Path) -> ConfiguredSteps:
    """Read the processing steps of a config, without its files.

    Parameters
    ----------
    path
        As for :func:`load_plan`. Patterns in arguments of segments can name top-level keys only.

    Raises
    ------
    ConfigError
        If a key is missing, misspelt, misplaced or wrong, or an argument depends on the run.
    """
    file = read_yaml_file(Path(path), "config of data creation")
    check_keys(file)
    steps = read_steps(file)
    writing = read_writing(file, steps, is_last=True)
    filled = [
        fill_segments(
            step.segments, PatternFiller({**file.values, **step.content}, _line(file)), {}
        )
        for step in steps
    ]
    return ConfiguredSteps(
        tuple(segment for segments in filled for segment in segments),
        hdf5_keys_of(writing, filled[-1]),
        writing.outputs.sub_event_streams,
        any(place.get("gcd") for place in (file.values, *dataset_mappings(file).values())),
    )


def _line(file: YamlFile) -> Callable[[str], str]:
    return lambda key: file.where((key,))


def _work(
    file: YamlFile, steps: tuple[Step, ...], folder: str | Path | None, step: int | None
) -> _Work:
    if step is not None and not 0 <= step < len(steps):
        raise ConfigError(
            f"'{file.path}' has no step {step}: its steps are 0 to {len(steps) - 1}"
            if len(steps) > 1
            else f"'{file.path}' has no step {step}: its only step is 0"
        )
    chosen = steps if step is None else steps[step : step + 1]
    is_last = chosen[-1] is steps[-1]
    if folder is None and "data_folder" not in file.values:
        raise ConfigError(
            f"'{file.path}': no folder for the outputs is given: add the option --out, or the key "
            "'data_folder'"
        )
    return _Work(
        chosen,
        step or 0,
        "" if is_last else _suffix(step or 0),
        folder,
        read_writing(file, chosen, is_last),
    )


def _suffix(step: int) -> str:
    """End of the names of the files that a step leaves for the next one."""
    return f"_step{step:04d}"


def _excludes_corrupted(file: YamlFile) -> bool:
    for key in EXCLUDE_KEYS:
        value = file.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise file.wrong((key,), value, "true or false")
    return any(file.values.get(key) for key in EXCLUDE_KEYS)


def _plan_runs(file: YamlFile, work: _Work) -> tuple[list[PlannedFile], list[SkippedRun]]:
    """The files of all runs, and the runs without input."""
    files, skipped = [], []
    for run in read_runs(file):
        filler = run.filler()
        output = _output(run, filler, work.folder)
        gcd = _gcd(run, filler)
        try:
            inputs = _inputs(run, filler, output, gcd, work)
        except _NoInputError as reason:
            skipped.append(SkippedRun(run.dataset, run.number, str(reason)))
        else:
            files.append(_planned(run, inputs, gcd, _with_end(output, work.suffix), work))
    return files, skipped


def _planned(
    run: Run, inputs: tuple[Path, ...], gcd: Path | None, output: Path, work: _Work
) -> PlannedFile:
    """The plan of a run with these inputs, GCD file and output."""
    context = file_context(inputs, gcd, output)
    filled = [fill_segments(s.segments, run.filler(s.content), context) for s in work.steps]
    return PlannedFile(
        inputs,
        gcd,
        output,
        run.number,
        run.dataset,
        tuple(segment for segments in filled for segment in segments),
        hdf5_keys_of(work.writing, filled[-1]),
        context,
    )


def file_context(inputs: Sequence[Path], gcd: Path | None, output: Path) -> dict[str, Any]:
    """What `context-->ic3_processing.…` refers to, for the outputs of one run."""
    names = [str(path) for path in (gcd, *inputs) if path is not None]
    return {"ic3_processing": {"infiles": names, "n_files": len(inputs), "outfile": str(output)}}


def _with_end(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def _output(run: Run, filler: PatternFiller, folder: str | Path | None) -> Path:
    """Path of the outputs of a run without ending, in the folder of the outputs."""
    where = run.values.where
    if folder is None:
        given = run.values.merged()["data_folder"]
        if not isinstance(given, str) or not given:
            raise run.values.file.wrong(("data_folder",), given, "text")
        folder = filler.fill(given, where(("data_folder",)))
    keys = ("out_dir_pattern", "folder_pattern", "out_file_pattern")
    parts = [filler.fill(getattr(run.keys, key), where((key,))) for key in keys]
    output = Path(os.path.normpath(Path(folder, *parts)))
    inside = Path(os.path.normpath(folder))
    if not output.is_relative_to(inside) or output == inside or not Path(parts[-1]).name:
        raise ConfigError(
            f"{where(('out_file_pattern',))}: the output '{output}' of run {run.number} of "
            f"'{run.dataset}' is not inside the output folder '{inside}': see "
            f"{', '.join(keys)}"
        )
    return output


def _gcd(run: Run, filler: PatternFiller) -> Path | None:
    if not run.keys.gcd:
        return None
    where = run.values.where(("gcd",))
    if run.keys.gcd == _FROM_LISTS:
        raise ConfigError(
            f"{where}: '{_FROM_LISTS}' is not supported: give the 'gcd' of each run in "
            "'run_number_settings'"
        )
    return Path(filler.fill(run.keys.gcd, where))


def _inputs(
    run: Run, filler: PatternFiller, output: Path, gcd: Path | None, work: _Work
) -> tuple[Path, ...]:
    """The input files of a run, sorted; the GCD file is none of them."""
    if gcd is not None and not gcd.exists():
        raise _NoInputError(f"the GCD file '{gcd}' does not exist")
    if work.first > 0:
        ending = work.writing.outputs.i3_ending
        left = _with_end(output, f"{_suffix(work.first - 1)}.{ending}")
        if not left.exists():
            raise _NoInputError(f"step {work.first - 1} has not made its file '{left}'")
        return (left,)
    where = run.values.where(("in_file_pattern",))
    patterns = [filler.fill(pattern, where) for pattern in run.keys.in_file_pattern]
    found = {path for pattern in patterns for path in _matches(pattern)} - {gcd}
    if not found:
        raise _NoInputError(f"only the GCD file '{gcd}' matches {', '.join(patterns)}")
    return tuple(sorted(found))


def _matches(pattern: str) -> list[Path]:
    try:
        return find_files([pattern], "in_file_pattern")
    except DataError as error:
        raise _NoInputError(f"no file matches '{pattern}'") from error


def _check_features(files: Sequence[PlannedFile]) -> None:
    """Check the settings of features, once for each data set."""
    for file in {file.dataset: file for file in files}.values():
        for segment in file.segments:
            if segment.module_class == CREATE_DATA:
                settings_of_segment(segment.kwargs, segment.where)


def check_outputs(files: Sequence[PlannedFile], outputs: Outputs, remedy: str) -> None:
    """Refuse outputs that two runs would write, that are inputs, or lie in this package.

    Parameters
    ----------
    files
        The files to make.
    outputs
        What is written.
    remedy
        What helps if two runs would write the same file.
    """
    first: dict[Path, PlannedFile] = {}
    for file in files:
        other = first.setdefault(file.output, file)
        if other is not file:
            raise ConfigError(
                f"two runs would write '{file.output}': run {other.run_number} of "
                f"'{other.dataset}' ({other.inputs[0]}) and run {file.run_number} of "
                f"'{file.dataset}' ({file.inputs[0]}): {remedy}"
            )
    for folder in {file.output.parent for file in files}:
        if is_in_package(folder):
            raise ConfigError(
                f"the folder '{folder}' of outputs lies inside the package dnn_reco: write to "
                "another folder"
            )
    inputs = {_absolute(path) for file in files for path in file.inputs}
    inputs |= {_absolute(file.gcd) for file in files if file.gcd is not None}
    for file in files:
        for path in outputs.paths(file.output):
            if _absolute(path) in inputs:
                raise ConfigError(
                    f"the output '{path}' of run {file.run_number} of '{file.dataset}' is also an "
                    "input: write to another folder"
                )


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100


def _no_files(skipped: Sequence[SkippedRun]) -> str:
    """Message that all runs are skipped."""
    if not skipped:
        return "there is no run: see runs_range, runs_list and runs_to_ignore"
    shown = "".join(f"\n  {s.dataset}, run {s.run_number}: {s.reason}" for s in skipped[:_SHOWN])
    more = f"\n  … and {len(skipped) - _SHOWN} more" if len(skipped) > _SHOWN else ""
    return (
        f"nothing to do: all runs are skipped:{shown}{more}\n"
        f"Relative paths start from the working directory '{Path.cwd()}'."
    )
