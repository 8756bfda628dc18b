"""`apply`: trained models on event files, whatever their labels."""

from __future__ import annotations

import importlib.util
import logging
import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from dnn_reco.amounts import counted
from dnn_reco.cluster.farm import on_farm
from dnn_reco.cluster.farm_settings import FarmSettings
from dnn_reco.commands.given_options import first_given
from dnn_reco.commands.output import print_note
from dnn_reco.commands.stop import Stopped, stop_signals_interrupt
from dnn_reco.data.data_settings import DataSettings, check_setting_names
from dnn_reco.data.data_settings_file import load_data_settings
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.files import file_size, find_files
from dnn_reco.i3.reader import is_i3
from dnn_reco.inference.file_application import (
    ApplyOptions,
    FileResult,
    ModelLoading,
    applied_model,
    apply_to_file,
    apply_to_inputs,
    kinds_of,
    load_models,
    model_info,
    read_or_fail,
)
from dnn_reco.inference.output_file import read_output_record, writer_of
from dnn_reco.inference.output_plan import (
    FileTask,
    plan_outputs,
    remove_leftovers,
    without_earlier_outputs,
)
from dnn_reco.inference.output_record import Application, OutputRecord, SourceFile
from dnn_reco.inference.prediction_table import Status, check_table_names
from dnn_reco.progress import Progress
from dnn_reco.workers import in_workers

_log = logging.getLogger(__name__)

_ADVICE = "try again with fewer --jobs; finished files are kept"
_MOST_JOBS = 8  # by default: each has a copy of the models, half a GB
# Bytes of event files below which starting processes costs more than it saves.
_WORTH_PROCESSES = 50e6
_SHOWN = 3  # of many files with a problem


@dataclass(frozen=True)
class ApplySettings:
    """What to apply to what.

    Attributes
    ----------
    models
        Model folders.
    inputs
        Glob patterns of event files.
    output
        File or folder of the predictions.
    file_format
        "hdf5", "parquet" or "i3"; None: that of the output.
    batch_size
        Events to predict at once.
    jobs
        Files to work on at once; None: as many as there are CPUs, at most eight; one where the
        files are small.
    device, backend, allow_code
        See :class:`dnn_reco.inference.reconstructor.Reconstructor`.
    num_threads
        CPUs to use.
    measure_time
        Whether to write run times.
    data_settings
        File with the data settings of event files without a record; None: not known.
    ignore_mismatch
        Data settings that may differ from those of the models.
    table_names
        Common beginning of the names of the input tables; None: those of the training.
    raw
        Whether calibrations of the models are left out.
    overwrite
        Whether outputs made with different settings are replaced.
    pulses
        Pulses of files with frames; None: those of the training.
    gcd
        File with geometry, calibration and detector status beside files with frames.
    hdf5, parquet
        Further files, or folders, of the predictions of files with frames.
    farm
        The jobs that do the work; None: this process and its workers.
    """

    models: tuple[Path, ...]
    inputs: tuple[str, ...]
    output: Path
    file_format: str | None
    batch_size: int
    jobs: int | None
    device: str
    backend: str
    allow_code: tuple[str, ...]
    num_threads: int
    measure_time: bool
    data_settings: Path | None
    ignore_mismatch: tuple[str, ...]
    table_names: str | None
    raw: bool
    overwrite: bool
    pulses: str | None = None
    gcd: Path | None = None
    hdf5: Path | None = None
    parquet: Path | None = None
    farm: FarmSettings | None = None


@dataclass
class _Summary:
    """Counts of a call: files and events, those of each status, and files that failed."""

    kept_files: int = 0
    kept_events: int = 0
    new_files: int = 0
    new_events: int = 0
    failed: list[Path] = field(default_factory=list)
    status: dict[str, Counter[str]] = field(default_factory=dict)

    def keep(self, record: OutputRecord) -> None:
        """Count a file that was complete before."""
        self.kept_files += 1
        self.kept_events += record.num_events
        self._add(record.status)

    def add(self, result: FileResult) -> None:
        """Count a file that was worked on."""
        if result.error:
            self.failed.append(result.task.source)
        else:
            self.new_files += 1
            self.new_events += result.num_events
            self._add(result.status)

    def _add(self, status: Mapping[str, Mapping[str, int]]) -> None:
        for model, counts in status.items():
            self.status.setdefault(model, Counter()).update(counts)


def run_apply(settings: ApplySettings) -> int:
    """Write the predictions for all files that are not there yet; returns the exit code.

    It is 1 if a file could not be read. Ctrl-C keeps the finished files, and the same call resumes
    with the others; the exit code is 0 then, after SIGTERM 143.
    """
    tasks = _plan(settings)
    _check_options(settings, tasks)
    for output in tasks[0].outputs:
        writer_of(output)  # raises if a package is missing
    options = _options(settings)
    summary = _Summary()
    missing = _missing(tasks, options.application, settings.overwrite, summary)
    if summary.kept_files:
        _log.info("%d of %d files already exist.", summary.kept_files, len(tasks))
    remove_leftovers(path for task in missing for path in task.outputs)
    started = time.perf_counter()
    try:
        with stop_signals_interrupt():
            if missing:
                _apply(_computing(settings, options, tasks), missing, summary)
    except KeyboardInterrupt as stop:
        remove_leftovers(path for task in missing for path in task.outputs)
        _log.info("Stopped. Finished files are kept; run the same command to resume.")
        return stop.exit_code if isinstance(stop, Stopped) else 0
    _print_summary(summary, time.perf_counter() - started)
    return 1 if summary.failed else 0


def _plan(settings: ApplySettings) -> list[FileTask]:
    """All input files and their outputs."""
    found = [path for path in find_files(settings.inputs, "--input") if not path.is_dir()]
    if not found:
        raise DataError(
            f"--input '{settings.inputs[0]}' names a folder: give a pattern of files, such as "
            f"'{Path(settings.inputs[0]) / '*.hdf5'}'"
        )
    also = {
        name: output
        for name, output in (("hdf5", settings.hdf5), ("parquet", settings.parquet))
        if output is not None
    }
    sources, earlier = without_earlier_outputs(found, [settings.output, *also.values()])
    if earlier:
        _log.info("%s: outputs of this command are not used as input.", _listed(earlier))
    if not sources:
        raise DataError(
            "all files that match --input are predictions of this command: name event files"
        )
    tasks = plan_outputs(sources, settings.output, settings.file_format)
    for name, output in also.items():
        if not all(is_i3(task.output) for task in tasks):
            raise ConfigError(f"--{name} needs frames as output (--out FILE.i3.zst or --format i3)")
        further = plan_outputs(sources, output, name)
        tasks = [
            replace(task, also=(*task.also, other.output))
            for task, other in zip(tasks, further, strict=True)
        ]
    return tasks


def _check_options(settings: ApplySettings, tasks: Sequence[FileTask]) -> None:
    """Check that each option that is for one kind of files concerns at least one of them."""
    kinds = {is_i3(task.source) for task in tasks}
    for_frames = {"--pulses": settings.pulses, "--gcd": settings.gcd}
    if True not in kinds and (name := first_given(for_frames)):
        raise ConfigError(f"{name} is for .i3 files, but no file of --input is one")
    if False not in kinds and settings.table_names is not None:
        raise ConfigError("--tables is for HDF5 files, but all files of --input are .i3 files")


def _options(settings: ApplySettings) -> ApplyOptions:
    """The models and options, checked as far as it is possible without loading the models."""
    models = tuple(applied_model(folder) for folder in settings.models)
    names = [model.name for model in models]
    check_table_names(names)
    check_setting_names(settings.ignore_mismatch)
    loading = ModelLoading(
        settings.models,
        settings.device,
        settings.num_threads,
        settings.backend,
        settings.batch_size,
        settings.allow_code,
        settings.table_names,
        settings.raw,
    )
    load_models.cache_clear()  # a folder may have changed since an earlier call in this process
    made: list[DataSettings | None] = [None] * len(models)
    if path := settings.data_settings:
        made = [load_data_settings(path, info.input_tables) for info in model_info(loading)]
    application = Application(
        models,
        settings.batch_size,
        settings.backend,
        settings.measure_time,
        {name: each.to_json() for name, each in zip(names, made, strict=True) if each is not None},
        tuple(sorted(set(settings.ignore_mismatch))),
        settings.table_names,
        settings.raw,
        settings.pulses,
        None if settings.gcd is None else SourceFile.of(settings.gcd),
    )
    return ApplyOptions(loading, application, tuple(made), settings.gcd)


@dataclass(frozen=True)
class _Computing:
    """How the work is shared: files at once, whether a GPU does all of the predicting, or jobs."""

    options: ApplyOptions
    jobs: int
    on_gpu: bool
    farm: FarmSettings | None = None


def _computing(
    settings: ApplySettings, options: ApplyOptions, tasks: Sequence[FileTask]
) -> _Computing:
    """How to share the work of a call.

    It depends on all files of the call, also existing ones: with other numbers of
    threads, the last digits might differ.

    On CPUs several networks with one thread each are faster than one with as many threads, once
    their processes have started.
    """
    cpus = settings.num_threads
    if settings.farm:
        loading = replace(options.loading, num_threads=settings.farm.cpus)
        load_models(replace(loading, device="cpu"))  # raises before any job is started
        return _Computing(
            replace(options, loading=loading), settings.farm.jobs, False, settings.farm
        )
    if _uses_gpu(settings):
        loading = replace(options.loading, num_threads=0)
        jobs = settings.jobs or min(len(tasks), max(2, cpus - 1))
        return _Computing(replace(options, loading=loading), jobs, True)
    size = sum(file_size(task.source) for task in tasks)
    useful = 1 if size < _WORTH_PROCESSES else min(len(tasks), cpus, _MOST_JOBS)
    jobs = settings.jobs or useful
    loading = replace(options.loading, num_threads=max(1, cpus // jobs))
    load_models(loading)  # raises before any process is started
    return _Computing(replace(options, loading=loading), jobs, False)


def _uses_gpu(settings: ApplySettings) -> bool:
    """Whether PyTorch predicts on a GPU; ONNX Runtime computes on CPUs alone."""
    if settings.backend == "onnxruntime" or importlib.util.find_spec("torch") is None:
        return False
    if settings.device != "auto":
        return settings.device != "cpu"
    from dnn_reco.nn.device import choose_device

    return choose_device("auto").type != "cpu"


def _missing(
    tasks: Sequence[FileTask], application: Application, overwrite: bool, summary: _Summary
) -> list[FileTask]:
    """Files whose output is not there yet; the others are counted.

    Raises
    ------
    ConfigError
        If there is another file in the place of an output.
    """
    missing, differing = [], []
    for task in tasks:
        records = {path: _existing_record(path) for path in task.outputs if path.exists()}
        reasons = {path: _differences(task, each, application) for path, each in records.items()}
        changed = [f"'{path}': {'; '.join(each)}" for path, each in reasons.items() if each]
        if changed or len(records) < len(task.outputs):
            missing.append(task)
            differing += changed
        else:
            summary.keep(records[task.output])
    if differing and not overwrite:
        rest = len(differing) - _SHOWN
        more = [f"and {rest} more"] if rest > 0 else []
        listed = "".join(f"\n  {line}" for line in [*differing[:_SHOWN], *more])
        raise ConfigError(
            f"some outputs already exist, made with different settings:{listed}\n"
            "Replace them with --overwrite, or choose another --out"
        )
    return missing


def _existing_record(output: Path) -> OutputRecord:
    try:
        return read_output_record(output)
    except DataError as error:
        raise ConfigError(
            f"'{output}' already exists and is not an output of this command ({error}), so it is "
            "not replaced. Move it away, or choose another file"
        ) from error


def _differences(task: FileTask, record: OutputRecord, application: Application) -> list[str]:
    try:
        source = SourceFile.of(task.source)
    except DataError:
        return []  # a link to a file that is gone: the output is all there is
    return record.differences(source, application)


def _apply(computing: _Computing, tasks: Sequence[FileTask], summary: _Summary) -> None:
    """Work on the files, and count them."""
    shown: set[str] = set()
    started = time.perf_counter()
    progress = Progress(len(tasks), "Reconstruction", "files")
    with progress, closing(_results(computing, tasks)) as results:
        for result in results:
            summary.add(result)
            _report(result, shown)
            rate = summary.new_events / (time.perf_counter() - started)
            progress.remark = f"{rate:,.0f} events/s"
            progress.update()


def _results(computing: _Computing, tasks: Sequence[FileTask]) -> Generator[FileResult]:
    """What becomes of each file, in the order of the files; of jobs as they are done.

    On CPUs each process does all of a file. A GPU is used by this process alone; others read files
    ahead for it.
    """
    options, jobs = computing.options, min(computing.jobs, len(tasks))
    if computing.farm:
        work = partial(apply_to_file, options)
        with closing(on_farm(work, tasks, computing.farm, tasks[0].output.parent)) as done:
            for each in done:
                yield each.result or FileResult(each.item, error=each.error)
        return
    if not computing.on_gpu:
        yield from in_workers(partial(apply_to_file, options), tasks, jobs, _ADVICE)
        return
    read = partial(read_or_fail, kinds_of(options.loading))
    with closing(in_workers(read, tasks, jobs, _ADVICE)) as contents:
        for task, inputs in zip(tasks, contents, strict=True):
            yield apply_to_inputs(options, task, inputs)


def _report(result: FileResult, shown: set[str]) -> None:
    """Report a file that failed; notices once for all files."""
    if result.error:
        source = f"'{result.task.source}'"
        _log.warning("%s is skipped: %s", source, result.error.replace(source, "the file"))
    for notice in result.notices:
        general = notice.replace(f"'{result.task.source.name}'", "")
        if general not in shown:
            further = "" if general == notice else " (further files with the same are not listed)"
            _log.warning("%s%s", notice, further)
            shown.add(general)


def _print_summary(summary: _Summary, seconds: float) -> None:
    files, events = summary.new_files, summary.new_events
    rate = f" ({events:,} in {seconds:.1f} s, {events / seconds:,.0f} events/s)" if events else ""
    kept = f", {summary.kept_files} of them already existing" if summary.kept_files else ""
    print_note(
        f"{counted(events + summary.kept_events, 'event')} in "
        f"{counted(files + summary.kept_files, 'file')}{kept}{rate}."
    )
    width = max((len(model) for model in summary.status), default=0)
    for model, counts in summary.status.items():
        parts = [f"{counts[s.name]:,} {s.name}" for s in Status if counts[s.name] or s == Status.OK]
        print_note(f"  {model:{width}}  {', '.join(parts)}")
    if summary.failed:
        print_note(f"{counted(len(summary.failed), 'file')} skipped: {_listed(summary.failed)}")


def _listed(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(f"'{path}'" for path in paths[:_SHOWN]) + more
