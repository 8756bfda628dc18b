"""`create-data`: training data from files with IceCube's frames."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click

from dnn_reco.amounts import counted
from dnn_reco.cluster.farm import on_farm
from dnn_reco.cluster.farm_settings import FarmSettings
from dnn_reco.commands.output import print_note
from dnn_reco.commands.stop import Stopped, stop_signals_interrupt
from dnn_reco.data.hdf5 import read_attribute
from dnn_reco.data_creation.event_file import CREATION_RECORD, NOTHING_USABLE
from dnn_reco.data_creation.plan import (
    CREATE_DATA,
    CreationPlan,
    DirectOptions,
    PlannedFile,
    load_plan,
    plan_from_options,
)
from dnn_reco.data_creation.planned_files import (
    CreatedFile,
    CreationOptions,
    create_planned_file,
    creation_record,
    modules_of_file,
)
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.foreign_files import parse_json
from dnn_reco.i3.reader import is_i3
from dnn_reco.i3.record import read_frame_record
from dnn_reco.progress import Progress
from dnn_reco.suggestions import did_you_mean
from dnn_reco.workers import in_workers

_log = logging.getLogger(__name__)

_ADVICE = "try again with fewer --jobs; finished files are kept"
_SHOWN = 20  # of many runs that are skipped
_SHOWN_NAMES = 3  # of many files without events


@dataclass(frozen=True)
class CreateDataSettings:
    """What to make, and how.

    Attributes
    ----------
    source
        The config, or the files and options that were given directly.
    out
        Folder of the outputs; None: the one that the config names.
    step
        The only processing step of the config to run; None: all.
    jobs
        Files to make at once; None: as many as there are CPUs.
    num_threads
        CPUs to use.
    allow_code
        Packages whose data formats may be named.
    farm
        The jobs that make the files; None: this process and its workers.
    overwrite
        Whether existing outputs are made again.
    dry_run
        Whether to print only what would be made.
    """

    source: Path | DirectOptions
    out: Path | None = None
    step: int | None = None
    jobs: int | None = None
    num_threads: int = 0
    allow_code: tuple[str, ...] = ()
    farm: FarmSettings | None = None
    overwrite: bool = False
    dry_run: bool = False


def run_create_data(settings: CreateDataSettings) -> int:
    """Make all files of a plan that are not there yet; returns the exit code."""
    plan = _plan(settings)
    for notice in plan.notices:
        level = "debug" if notice.only_in_checks and not settings.dry_run else notice.level
        _log.log(getattr(logging, level.upper()), "%s", notice.text)
    config = None if isinstance(settings.source, DirectOptions) else settings.source.absolute()
    options = CreationOptions(plan.outputs, plan.exclude_corrupted, settings.allow_code, config)
    for file in plan.files:
        modules_of_file(options, file)  # raises before any file is made
    if settings.dry_run:
        click.echo(_described(plan, settings.overwrite))
        return 0
    summary = _Summary(len(plan.skipped))
    missing = plan.files if settings.overwrite else _missing(options, plan.files)
    summary.num_kept = len(plan.files) - len(missing)
    if summary.num_kept:
        _log.info("The output of %d of %d runs already exists.", summary.num_kept, len(plan.files))
    started = time.perf_counter()
    try:
        with stop_signals_interrupt():
            _make(settings, options, missing, summary)
    except KeyboardInterrupt as stop:
        _log.info("Stopped. Finished files are kept; run the same command to resume.")
        return stop.exit_code if isinstance(stop, Stopped) else 0
    summary.show(time.perf_counter() - started)
    nothing = summary.why_nothing(plan)
    if nothing:
        _log.warning("%s", nothing)
    # events of outputs that are kept can be used
    return 1 if summary.failed or (nothing and not summary.num_kept) else 0


def _make(
    settings: CreateDataSettings,
    options: CreationOptions,
    files: Sequence[PlannedFile],
    summary: _Summary,
) -> None:
    """Make files, and count them."""
    progress = Progress(len(files), "Creating data", "files")
    with progress, closing(_results(settings, options, files)) as results:
        for result in results:
            summary.add(result)
            if result.error:
                _log.warning("run %d of %s failed: %s", *_run(result.file), result.error)
            for path, reason in result.excluded:
                _log.warning("'%s' is skipped: %s", path, reason.replace(f"'{path}'", "it"))
            progress.update()


def _results(
    settings: CreateDataSettings, options: CreationOptions, files: Sequence[PlannedFile]
) -> Generator[CreatedFile]:
    """What becomes of each file, in their order; those of a farm as they are done."""
    work = partial(create_planned_file, options)
    if settings.farm is not None and files:
        with closing(on_farm(work, files, settings.farm, files[0].output.parent)) as done:
            for each in done:
                yield each.result or CreatedFile(each.item, error=each.error)
        return
    jobs = min(settings.jobs or settings.num_threads, max(1, len(files)))
    yield from in_workers(work, files, jobs, _ADVICE)


def _run(file: PlannedFile) -> tuple[int, str]:
    return file.run_number, file.dataset


def _missing(options: CreationOptions, files: Sequence[PlannedFile]) -> Sequence[PlannedFile]:
    """The files without complete outputs; all, if no event of the existing outputs can be used.

    Making these has failed, and the same command must fail again instead of keeping them.

    Raises
    ------
    ConfigError
        If an event file is there and was made with other settings.
    """
    is_there = [_is_there(options, file) for file in files]
    kept = [file for file, there in zip(files, is_there, strict=True) if there]
    if not any(_is_usable(options, file) for file in kept):
        return files
    return [file for file, there in zip(files, is_there, strict=True) if not there]


def _is_usable(options: CreationOptions, file: PlannedFile) -> bool:
    """Whether an event of an existing output can be used, as far as the output records it."""
    if not options.outputs.hdf5:
        return True
    path, *_ = options.outputs.paths(file.output)
    return read_attribute(path, NOTHING_USABLE) is None


def _is_there(options: CreationOptions, file: PlannedFile) -> bool:
    """Whether the outputs of a file are complete.

    Raises
    ------
    ConfigError
        If the event file is there and was made with other settings.
    """
    paths = options.outputs.paths(file.output)
    present = [path for path in paths if path.exists()]
    record = creation_record(options.outputs, file, modules_of_file(options, file))
    for path in present:
        _check_record(path, record)
    return len(present) == len(paths)


def _check_record(path: Path, record: str) -> None:
    try:
        found = read_frame_record(path) if is_i3(path) else read_attribute(path, CREATION_RECORD)
        before = parse_json(found) if found is not None else {}
        if not isinstance(before, dict):
            raise ValueError("its record is damaged")
    except (DataError, ValueError) as error:
        raise ConfigError(
            f"'{path}' already exists and cannot be read ({error}): make it again with --overwrite"
        ) from error
    if found == record:
        return
    now = parse_json(record)
    differences = [
        f"{name} is {old} in the file, {new} now"
        for key, value in now.items()
        for name, old, new in _differences(key, before.get(key), value)
    ]
    reason = "; ".join(differences) if before else "it has no record of its settings"
    raise ConfigError(
        f"'{path}' already exists, made with different settings: {reason}. Make it again with "
        "--overwrite, or choose another --out"
    )


def _differences(name: str, old: Any, new: Any) -> list[tuple[str, str, str]]:
    """Names and values that differ, of settings inside of each other."""
    if old == new:
        return []
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() & new.keys():
        pairs = [(key, old.get(key), new.get(key)) for key in {**old, **new}]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(name, *both) for both in zip(old, new, strict=True)]
    else:
        return [(name, repr(old), repr(new))]
    return [each for part in pairs for each in _differences(*part)]


@dataclass
class _Summary:
    """Counts over all files of a call."""

    num_skipped: int
    num_kept: int = 0
    num_made: int = 0
    num_frames: int = 0
    num_events: int = 0
    num_usable: int = 0
    num_excluded: int = 0
    pulse_names: tuple[str, ...] = ()
    failed: list[PlannedFile] = field(default_factory=list)
    without_events: list[str] = field(default_factory=list)
    without_features: list[str] = field(default_factory=list)
    frames: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    pulses: Counter[str] = field(default_factory=Counter)
    absent: Counter[str] = field(default_factory=Counter)
    unwritable: set[str] = field(default_factory=set)
    unlabelled: Counter[str] = field(default_factory=Counter)
    absent_exclusions: Counter[str] = field(default_factory=Counter)

    def add(self, made: CreatedFile) -> None:
        """Count a file."""
        self.num_excluded += len(made.excluded)
        if made.error:
            self.failed.append(made.file)
            return
        found = made.summary
        self.num_made += 1
        self.num_frames += found.num_frames
        self.num_events += found.num_events
        self.num_usable += found.num_usable
        if not found.num_usable:
            names = self.without_features if found.num_events else self.without_events
            names.append(f"'{made.file.output.name}'")
        self.pulse_names = self.pulse_names or found.pulses
        self.frames.update(found.skipped)
        self.events.update(found.without)
        self.pulses.update(found.left_out)
        self.absent.update(found.absent)
        self.unwritable |= set(found.unwritable)
        self.unlabelled.update(found.unlabelled)
        self.absent_exclusions.update(found.absent_exclusions)

    def show(self, seconds: float) -> None:
        """Print the counts."""
        rate = f", {self.num_events / seconds:,.0f} events/s" if self.num_events else ""
        lines = [
            f"{counted(self.num_events, 'event')} in {counted(self.num_made, 'file')} "
            f"({counted(self.num_frames, 'frame')} read in {seconds:.1f} s{rate})."
        ]
        for number, noun, text in (
            (self.num_kept, "run", "already existing"),
            (self.num_skipped, "run", "without input skipped"),
            (self.num_excluded, "input", "skipped, see above"),
            (len(self.failed), "run", "failed, see above"),
        ):
            lines += [f"  {counted(number, noun)} {text}"] if number else []
        for counts, noun, text in (
            (self.frames, "P frame", "skipped"),
            (self.events, "event", "with empty rows"),
            (self.pulses, "pulse", "left out"),
        ):
            lines += [
                f"  {counted(n, noun)} {text}: {why}" for why, n in counts.most_common(_SHOWN)
            ]
        for files, text in (
            (self.without_events, "events"),
            (self.without_features, "features"),
        ):
            more = ", …" if len(files) > _SHOWN_NAMES else ""
            shown = ", ".join(files[:_SHOWN_NAMES]) + more
            lines += [f"  {counted(len(files), 'file')} without {text}: {shown}"] if files else []
        if self.without_features and self.pulse_names:
            lines.append(f"  available pulses: {', '.join(self.pulse_names)}")
        absent = [key for key, number in self.absent.items() if number == self.num_made]
        lines += [f"  in no frame, so not written: {', '.join(absent)}"] if absent else []
        if self.unwritable:
            names = ", ".join(sorted(self.unwritable))
            lines.append(f"  no rows of a table, so not written: {names}")
        print_note("\n".join(lines))
        for key, number in self.absent_exclusions.items():
            if number == self.num_made and self.num_events:
                _log.warning(
                    "no frame has '%s' of the exclusions, so it excludes nothing; it may be in "
                    "the GCD file (--gcd)",
                    key,
                )

    def why_nothing(self, plan: CreationPlan) -> str:
        """Why no event can be used though there are P frames; empty: some can, or there is none."""
        if not self.num_made:
            return ""
        unlabelled = [key for key, number in self.unlabelled.items() if number == self.num_made]
        if unlabelled and self.num_events:
            return f"No event has the labels {', '.join(unlabelled)}: see the reasons above"
        if self.num_usable:
            return ""
        if self.num_events:
            wanted = [
                str(segment.kwargs.get("PulseKey"))
                for segment in plan.files[0].segments
                if segment.module_class == CREATE_DATA
            ]
            if not wanted:
                return ""
            if wanted[0] in self.pulse_names:
                return "No event has features: see the reasons above"
            hint = did_you_mean(wanted[0], self.pulse_names)
            there = f" There are {', '.join(self.pulse_names)}" if self.pulse_names else ""
            why = "No event has features: see the reasons above."
            return f"{why} Pulses are '{wanted[0]}'.{hint}{there}"
        if self.frames:
            streams = ", ".join(plan.outputs.sub_event_streams)
            return (
                f"No P frame is of the sub-event streams {streams}: name others by --stream or "
                "write_hdf5_kwargs.SubEventStreams"
            )
        return ""


def _plan(settings: CreateDataSettings) -> CreationPlan:
    if isinstance(settings.source, DirectOptions):
        return plan_from_options(settings.source)
    return load_plan(settings.source, settings.out, settings.step)


def _described(plan: CreationPlan, overwrite: bool) -> str:
    """A plan as text: segments, files and runs that are skipped."""
    lines = ["Segments:"]
    for segment in plan.steps:
        lines.append(
            f"  {segment.module_class}{' (simulation only)' if segment.only_simulation else ''}"
        )
    lines.append("Files:")
    counts: Counter[str] = Counter()
    for file in plan.files:
        paths = plan.outputs.paths(file.output)
        is_there = not overwrite and all(path.exists() for path in paths)
        counts["already made" if is_there else "to make"] += 1
        lines.append(_line(file, paths, is_there))
    if plan.skipped:
        lines.append("Skipped:")
        shown = plan.skipped[:_SHOWN]
        lines += [f"  {s.dataset}, run {s.run_number}: {s.reason}" for s in shown]
        if len(plan.skipped) > _SHOWN:
            lines.append(f"  … and {len(plan.skipped) - _SHOWN} more")
    numbers = [f"{number} {what}" for what, number in counts.items()]
    lines.append(f"Runs: {', '.join([*numbers, f'{len(plan.skipped)} skipped'])}")
    return "\n".join(lines)


def _line(file: PlannedFile, paths: tuple[Path, ...], is_there: bool) -> str:
    """A file of a plan: its run, outputs and inputs."""
    inputs = ", ".join(str(path) for path in (file.gcd, *file.inputs) if path is not None)
    mark = " (already made)" if is_there else ""
    return (
        f"  {file.dataset}, run {file.run_number}: {', '.join(map(str, paths))}{mark}\n"
        f"    from {inputs}"
    )
