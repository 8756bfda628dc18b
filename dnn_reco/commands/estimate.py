"""`train --estimate`: what a training will need, from its config and some seconds of it."""

from __future__ import annotations

import logging
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from dnn_reco.amounts import counted, short_time_in_words, size_in_words, time_in_words
from dnn_reco.checkpoint_file import load_latest
from dnn_reco.cluster import CLUSTERS
from dnn_reco.config import TRAINING_KEYS, Config
from dnn_reco.data.store import free_space
from dnn_reco.data.store_preview import StorePreview
from dnn_reco.event_sources import event_store
from dnn_reco.files import TEMPORARY, existing_part
from dnn_reco.nn.device import device_name
from dnn_reco.progress import Progress
from dnn_reco.run_options import INTERRUPTED, RunOptions
from dnn_reco.training import resource_estimate
from dnn_reco.training.early_stopping import counting_from
from dnn_reco.training.measured_estimate import (
    DataEstimate,
    StageEstimate,
    TrainingEstimate,
    estimate_training,
)
from dnn_reco.training.stage import all_is_done

SECONDS = 12.0
"""How long each stage is trained, after a warm-up."""


def run_estimate(stages: Sequence[Config], options: RunOptions) -> int:
    """Print what the training of these stages will need; returns the exit code.

    Nothing is written but the event store, of which a few files are built if it lacks them.

    Parameters
    ----------
    stages
        The config of each stage, with the iterations until its end.
    options
        Device, threads and event store; those that the job needs as well are in the printed line.
    """
    for config in stages:
        config.require(*TRAINING_KEYS)
    model = stages[0].model
    checkpoints = Path(model.model_checkpoint_path)
    checkpoint = load_latest(checkpoints) if model.model_restore_model else None
    done = 0 if checkpoint is None else checkpoint.progress.iterations
    ends = [config.training.num_training_iterations for config in stages]
    spans = resource_estimate.remaining_spans(ends, done)
    if not spans:
        click.echo(all_is_done(done, ends[-1]))
        return 0
    remaining = [(span, stages[span.stage]) for span in spans]
    if checkpoint is not None:
        checkpoint = counting_from(checkpoint, [0, *ends][spans[0].stage])
    try:
        with (
            _only_warnings(),
            # on the disk of the checkpoints, as the time that they take is measured
            tempfile.TemporaryDirectory(
                dir=existing_part(checkpoints.parent), prefix=f"{TEMPORARY}estimate-"
            ) as folder,
            _progress_bar() as report_progress,
        ):
            estimate = estimate_training(
                remaining, options, checkpoint, Path(folder), SECONDS, report_progress
            )
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    click.echo(estimate if isinstance(estimate, str) else _report(estimate, stages, options))
    return 0


@contextmanager
def _only_warnings() -> Iterator[None]:
    """Leave out what a training reports, unless all details are wanted."""
    package = logging.getLogger("dnn_reco")
    level = package.level
    if level == logging.INFO:
        package.setLevel(logging.WARNING)
    try:
        yield
    finally:
        package.setLevel(level)


@contextmanager
def _progress_bar() -> Iterator[Callable[[float], None]]:
    """A bar, and the function that moves it to a share of its length."""
    with Progress(100, "Measuring", "%") as progress:

        def move_to(share: float) -> None:
            progress.update(round(100 * share) - progress.done)

        yield move_to


def _report(found: TrainingEstimate, stages: Sequence[Config], options: RunOptions) -> str:
    """The estimate as text, with the line that asks a cluster for it last but one."""
    config = stages[0]
    where = device_name(found.device)
    lines = [
        f"{config.name}, measured on {where}:",
        "",
        *_data_lines(found.data, config, options.cache_dir),
    ]
    lines.append(_row("Network", f"{found.num_weights:,} trainable weights"))
    lines += _checkpoint_lines(found, config)
    for stage in found.stages:
        lines += ["", _title(stage, len(stages)), *_item_lines(stage)]
    lines += ["", *_total_lines(found), ""]
    lines += [f"With a margin of {resource_estimate.MARGIN - 1:.0%}, request it with:"]
    lines += [f"  {_command(found, config, options)}", ""]
    lines.append(
        "Another machine is faster or slower: measure on one like that of the job, with its GPU\n"
        "and its number of CPUs (--num-threads). Less --time will do: the job saves, queues again\n"
        "and resumes."
    )
    return "\n".join(lines)


def _row(title: str, text: str) -> str:
    return f"{title:<14}{text}"


def _data_lines(data: DataEstimate, config: Config, cache_dir: str | None) -> Iterator[str]:
    training, validation = _events(data.training), _events(data.validation)
    yield _row("Events", f"{training} for training, {validation} for validation")
    for stage, events in data.other_training.items():
        yield _row("", f"{_events(events)} for training in stage {stage + 1}")
    if any(each.events_in_epoch != each.whole.events for each in (data.training, data.validation)):
        yield _row("", _epoch(data))
    folder = event_store(config, cache_dir).folder
    free, missing = free_space(folder), data.to_build
    text = f"{size_in_words(data.built.size)} in '{folder}', {size_in_words(free)} are free"
    yield _row("Event store", text)
    if missing.files:
        size, time = size_in_words(missing.size), time_in_words(missing.seconds)
        yield _row("", f"to build for {counted(missing.files, 'file')}: about {size}, in {time}")
    if missing.size > free:
        yield _row("", "NOT ENOUGH DISK SPACE: choose another folder with --cache-dir")


def _events(preview: StorePreview) -> str:
    return f"{_number(preview.whole.events, preview)} in {counted(preview.whole.files, 'file')}"


def _epoch(data: DataEstimate) -> str:
    training, validation = (
        _number(each.events_in_epoch, each) for each in (data.training, data.validation)
    )
    return (
        f"an epoch uses {training} for training, {validation} for validation (patterns listed "
        "several times, data_handler_max_events_per_file)"
    )


def _number(events: int, preview: StorePreview) -> str:
    return f"about {_rounded(events):,}" if preview.to_build.files else f"{events:,}"


def _rounded(number: int) -> int:
    """A number with three digits that count."""
    return int(float(f"{number:.3g}"))


def _checkpoint_lines(found: TrainingEstimate, config: Config) -> Iterator[str]:
    last = found.stages[-1]
    if last.settings.checkpoints is None:
        yield _row("Checkpoints", "none (model_save_model is False)")
        return
    size = last.timings.checkpoint_bytes
    has_best = any(stage.timings.set_events for stage in found.stages)
    kept = resource_estimate.checkpoints_kept(last.span.last, last.settings)
    best = " and the best one" if has_best else ""
    yield _row(
        "Checkpoints",
        f"{size_in_words(size)} each; {kept:,}{best} are kept: "
        f"{size_in_words(size * (kept + has_best))}",
    )


def _title(stage: StageEstimate, num_stages: int) -> str:
    span, timings, batch_size = stage.span, stage.timings, stage.settings.batch_size
    name = f"Stage {span.stage + 1} of {num_stages}" if num_stages > 1 else "Training"
    return (
        f"{name}, iterations {span.first:,} to {span.last:,} in batches of {batch_size:,}: "
        f"{batch_size / (timings.step + timings.choosing):,.0f} events/s, "
        f"{timings.waiting:.1%} of the time spent waiting for data"
    )


def _item_lines(stage: StageEstimate) -> Iterator[str]:
    for item in stage.items:
        each, together = short_time_in_words(item.seconds_each), time_in_words(item.seconds)
        yield f"  {item.name:<32}{item.count:>13,} x {each:>8} {together:>14}"


def _total_lines(found: TrainingEstimate) -> Iterator[str]:
    last = found.stages[-1]
    early = ", unless it stops early" if last.settings.patience is not None else ""
    build = found.data.to_build
    store = " with building the event store" if build.files else ""
    yield _row("Time", f"about {time_in_words(found.seconds)}{store}{early}")
    yield _row("Memory", f"about {size_in_words(found.memory)}")
    if found.device.type == "cuda":
        yield _row("GPU memory", f"about {size_in_words(found.gpu_memory)}")


def _command(found: TrainingEstimate, config: Config, options: RunOptions) -> str:
    """The command that submits this training and asks for what it needs."""
    cluster = next(
        (name for name, system in CLUSTERS.items() if shutil.which(system.submit_command)),
        next(iter(CLUSTERS)),
    )
    on_gpu = found.device.type == "cuda"
    words = ["dnn-reco", "submit", "train", *map(str, config.paths), "--cluster", cluster]
    words += ["--cpus", str(found.threads), "--gpus", str(int(on_gpu))]
    words += ["--memory", resource_estimate.memory_to_ask_for(found.memory)]
    words += ["--time", resource_estimate.time_to_ask_for(found.seconds)]
    job = RunOptions(
        iterations=options.iterations,
        device="auto" if on_gpu else "cpu",
        cache_dir=options.cache_dir,
        allow_overlap=options.allow_overlap,
        deterministic=options.deterministic,
    ).to_argv()
    return shlex.join([*words, *(["--", *job] if job else [])])
