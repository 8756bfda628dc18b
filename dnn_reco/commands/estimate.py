"""`train --estimate`: what a training will need, from its config and some seconds of it."""

from __future__ import annotations

import logging
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from tqdm import tqdm

from dnn_reco.checkpoint_file import Checkpoint, load_latest
from dnn_reco.cluster import CLUSTERS
from dnn_reco.commands.train import all_is_done, num_weights, out_of_patience, prepare
from dnn_reco.config import TRAINING_KEYS, Config
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.from_config import event_store
from dnn_reco.data.store import free_space
from dnn_reco.data.store_preview import StoredAmount, StorePreview, preview_store
from dnn_reco.errors import TrainingError
from dnn_reco.files import existing_part, find_files
from dnn_reco.nn.device import device_name
from dnn_reco.nn.memory import memory_in_use, peak_memory
from dnn_reco.training import resource_estimate
from dnn_reco.training.distributed import DistributedContext
from dnn_reco.training.resource_estimate import (
    Item,
    Span,
    short_time_in_words,
    size_in_words,
    time_in_words,
)
from dnn_reco.training.settings import TrainerSettings
from dnn_reco.training.timing import StepTimings, measure_step_time
from dnn_reco.training.trainer import Training

SECONDS = 12.0
"""How long each stage is trained, after a warm-up."""

INTERRUPTED = 130  # exit code of what Ctrl-C ended, as shells tell it

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Data:
    """A look at the data, and the bytes of memory in use while the rest of the store is built."""

    training: StorePreview
    validation: StorePreview
    memory: float

    @property
    def built(self) -> StoredAmount:
        """What the event store has."""
        return self.training.built + self.validation.built

    @property
    def to_build(self) -> StoredAmount:
        """What it lacks."""
        return self.training.to_build + self.validation.to_build


@dataclass(frozen=True)
class Stage:
    """What was found out about a stage, or about what is left of it."""

    span: Span
    settings: TrainerSettings
    timings: StepTimings
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Findings:
    """What was found out about a training.

    Attributes
    ----------
    data
        Its data.
    stages
        What is still to be done.
    num_weights
        Trainable weights of the network.
    device, threads
        What it was measured on.
    memory, gpu_memory
        Bytes in use at most.
    """

    data: Data
    stages: tuple[Stage, ...]
    num_weights: int
    device: torch.device
    threads: int
    memory: float
    gpu_memory: float

    @property
    def seconds(self) -> float:
        """Seconds until the end of the training."""
        training = sum(item.seconds for stage in self.stages for item in stage.items)
        return self.data.to_build.seconds + training


def run_estimate(
    stages: Sequence[Config],
    device: str,
    num_threads: int,
    cache_dir: str | None,
    iterations: int | None,
) -> int:
    """Print what the training of these stages will need; returns the exit code.

    Nothing is written but the event store, of which a few files are built if it lacks them.

    Parameters
    ----------
    stages
        The config of each stage, with the iterations until its end.
    iterations
        What the command line says about them: the job has to be told it, too.
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
    open_data = _SampledData(cache_dir)
    try:
        with (
            _only_warnings(),
            # on the disk of the checkpoints, as the time that they take is measured
            tempfile.TemporaryDirectory(
                dir=existing_part(checkpoints.parent), prefix=".tmp-estimate-"
            ) as folder,
        ):
            found = _find_out(remaining, device, num_threads, open_data, checkpoint, Path(folder))
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    if isinstance(found, str):
        click.echo(found)
    else:
        click.echo(_report(found, stages, iterations, cache_dir))
    return 0


@contextmanager
def _only_warnings() -> Iterator[None]:
    """Leave away what a training tells of itself, unless all details are wanted."""
    package = logging.getLogger("dnn_reco")
    level = package.level
    if level == logging.INFO:
        package.setLevel(logging.WARNING)
    try:
        yield
    finally:
        package.setLevel(level)


class _SampledData:
    """Opens what the event store has of the data, and a few files more if it lacks some.

    Attributes
    ----------
    looks
        What was seen, each time.
    """

    def __init__(self, cache_dir: str | None) -> None:
        self._cache_dir = cache_dir
        self.previews: list[Data] = []

    def __call__(self, config: Config, threads: int) -> tuple[EventDataset, EventDataset]:
        store = event_store(config, self._cache_dir)
        jobs = min(config.general.num_jobs, threads)
        before = memory_in_use(_CPU).get("process", 0.0)
        training, validation = (
            preview_store(store, find_files(getattr(config.data_files, key), key), jobs)
            for key in ("training_data_file", "validation_data_file")
        )
        peak = peak_memory(_CPU)["process"]
        workers = max(training.workers, validation.workers)
        building = resource_estimate.memory_while_building(
            1e6 * peak, 1e6 * (peak - before), workers
        )
        self.previews.append(Data(training, validation, building))
        return training.events, validation.events


def _find_out(
    stages: Sequence[tuple[Span, Config]],
    device: str,
    num_threads: int,
    open_data: _SampledData,
    checkpoint: Checkpoint | None,
    folder: Path,
) -> Findings | str:
    """Measure the stages that are left, the first one from the checkpoint on.

    Returns a sentence instead if no training is left.
    """
    measured: list[Stage] = []
    for span, config in stages:
        training = prepare(config, device, num_threads, open_data, DistributedContext())
        if checkpoint is not None and not measured:
            training.restore(checkpoint)
        if training.out_of_patience:
            return f"Nothing to do: {out_of_patience(training)}"
        settings = training.settings
        timings = _measure(training, span, folder / str(span.stage))
        set_events = min(
            config.training.validation_events, open_data.previews[-1].validation.whole.events
        )
        items = tuple(resource_estimate.training_items(span, settings, timings, set_events))
        measured.append(Stage(span, settings, timings, items))
    memory = peak_memory(training.device)
    data = open_data.previews[0]  # later ones have the sample of the first
    return Findings(
        data=data,
        stages=tuple(measured),
        num_weights=num_weights(training),
        device=training.device,
        threads=torch.get_num_threads(),
        memory=max(data.memory, 1e6 * memory["process"]),
        gpu_memory=1e6 * memory.get("gpu", 0.0),
    )


def _measure(training: Training, span: Span, folder: Path) -> StepTimings:
    with tqdm(
        total=1.0,
        desc="Measuring",
        bar_format="{desc}: {percentage:3.0f}%|{bar}|",
        leave=False,
        disable=None,
    ) as bar:

        def tell(share: float) -> None:
            bar.update(share - bar.n)

        try:
            return measure_step_time(training, span.first, folder, SECONDS, tell)
        except TrainingError as error:
            raise TrainingError(
                "the training diverges in the iterations that were tried, so there is nothing to "
                "estimate: train without --estimate, which stops there and says why"
            ) from error


def _report(
    found: Findings, stages: Sequence[Config], iterations: int | None, cache_dir: str | None
) -> str:
    """All findings as text, with the line that asks for them last but one."""
    config = stages[0]
    where = device_name(found.device)
    lines = [
        f"{config.name}, measured on {where}:",
        "",
        *_data_lines(found.data, config, cache_dir),
    ]
    lines.append(_row("Network", f"{found.num_weights:,} trainable weights"))
    lines += _checkpoint_lines(found, config)
    for stage in found.stages:
        lines += ["", _title(stage, len(stages)), *_item_lines(stage)]
    lines += ["", *_total_lines(found), ""]
    lines += [f"With {resource_estimate.MARGIN - 1:.0%} to spare, ask for it with:"]
    lines += [f"  {_command(found, config, iterations, cache_dir)}", ""]
    lines.append(
        "Another machine is faster or slower: measure on one like that of the job, with its GPU\n"
        "and its number of CPUs (--num_threads). Less --time will do: the job saves, queues again\n"
        "and goes on."
    )
    return "\n".join(lines)


def _row(title: str, text: str) -> str:
    return f"{title:<14}{text}"


def _data_lines(data: Data, config: Config, cache_dir: str | None) -> Iterator[str]:
    training, validation = _events(data.training), _events(data.validation)
    yield _row("Events", f"{training} for training, {validation} for validation")
    folder = event_store(config, cache_dir).folder
    free, missing = free_space(folder), data.to_build
    text = f"{size_in_words(data.built.size)} in '{folder}', {size_in_words(free)} are free there"
    yield _row("Event store", text)
    if missing.files:
        size, time = size_in_words(missing.size), time_in_words(missing.seconds)
        yield _row("", f"{missing.files:,} file(s) are still to be built: about {size}, in {time}")
    if missing.size > free:
        yield _row("", "THERE IS NOT ENOUGH SPACE for it: choose another folder with --cache-dir")


def _events(look: StorePreview) -> str:
    events, files = look.whole.events, look.whole.files
    number = f"about {_rounded(events):,}" if look.to_build.files else f"{events:,}"
    return f"{number} in {files:,} file(s)"


def _rounded(number: int) -> int:
    """A number with three digits that count."""
    return int(float(f"{number:.3g}"))


def _checkpoint_lines(found: Findings, config: Config) -> Iterator[str]:
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


def _title(stage: Stage, num_stages: int) -> str:
    span, timings, batch_size = stage.span, stage.timings, stage.settings.batch_size
    name = f"Stage {span.stage + 1} of {num_stages}" if num_stages > 1 else "Training"
    return (
        f"{name}, iterations {span.first:,} to {span.last:,} in batches of {batch_size:,}: "
        f"{batch_size / (timings.step + timings.choosing):,.0f} events/s, "
        f"{timings.waiting:.1%} of the time waiting for data"
    )


def _item_lines(stage: Stage) -> Iterator[str]:
    for item in stage.items:
        each, together = short_time_in_words(item.seconds_each), time_in_words(item.seconds)
        yield f"  {item.name:<32}{item.count:>13,} x {each:>8} {together:>14}"


def _total_lines(found: Findings) -> Iterator[str]:
    last = found.stages[-1]
    early = ", unless it stops early" if last.settings.patience is not None else ""
    build = found.data.to_build
    store = " with building the event store" if build.files else ""
    yield _row("Time", f"about {time_in_words(found.seconds)}{store}{early}")
    yield _row("Memory", f"about {size_in_words(found.memory)}")
    if found.device.type == "cuda":
        yield _row("GPU memory", f"about {size_in_words(found.gpu_memory)}")


def _command(found: Findings, config: Config, iterations: int | None, cache_dir: str | None) -> str:
    """The command that submits this training and asks for what it resource_estimate."""
    cluster = next(
        (name for name, system in CLUSTERS.items() if shutil.which(system.submit_command)),
        next(iter(CLUSTERS)),
    )
    on_gpu = found.device.type == "cuda"
    words = ["dnn-reco", "submit", "train", *map(str, config.paths), "--cluster", cluster]
    words += ["--cpus", str(found.threads), "--gpus", str(int(on_gpu))]
    words += ["--memory", resource_estimate.memory_to_ask_for(found.memory)]
    words += ["--time", resource_estimate.time_to_ask_for(found.seconds)]
    options = {
        "--iterations": iterations,
        "--device": None if on_gpu else "cpu",
        "--cache-dir": cache_dir,
    }
    given = [
        word for key, value in options.items() if value is not None for word in (key, str(value))
    ]
    return shlex.join([*words, *(["--", *given] if given else [])])
