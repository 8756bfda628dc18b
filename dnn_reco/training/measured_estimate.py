"""What a training will need, by trying each of its stages for some seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from dnn_reco.checkpoint_file import Checkpoint
from dnn_reco.config import Config
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.from_config import file_sampling
from dnn_reco.data.store_preview import StoredAmount, StorePreview, preview_store
from dnn_reco.errors import TrainingError
from dnn_reco.event_sources import event_store
from dnn_reco.files import find_files
from dnn_reco.nn.memory import memory_in_use, peak_memory
from dnn_reco.nn.predictor import GridNetwork
from dnn_reco.nn.threads import num_threads
from dnn_reco.run_options import RunOptions
from dnn_reco.training.forward import ForwardPass
from dnn_reco.training.from_config import make_trainer
from dnn_reco.training.resource_estimate import (
    Item,
    Span,
    memory_while_building,
    training_items,
)
from dnn_reco.training.settings import TrainerSettings
from dnn_reco.training.stage import reason_for_nothing
from dnn_reco.training.timing import StepTimings, measure_step_time

_CPU = torch.device("cpu")

# Batches of networks that read hits differ in shape: during a training some are larger than those
# of a trial, and freed memory does not fit all of them ("Memory allocation" in RESULTS.md).
_GROWTH_WITH_SHAPES = 1.25


@dataclass(frozen=True)
class DataEstimate:
    """The data of a training.

    Attributes
    ----------
    training, validation
        What the event store has of both, and what it lacks.
    memory
        Bytes in use while the rest of the store is built.
    other_training
        The training data of later stages with files of their own, by number of the stage from 0.
    """

    training: StorePreview
    validation: StorePreview
    memory: float
    other_training: Mapping[int, StorePreview] = field(default_factory=dict)

    @property
    def built(self) -> StoredAmount:
        """What the event store has."""
        return sum((each.built for each in self._further), self.training.built)

    @property
    def to_build(self) -> StoredAmount:
        """What it lacks."""
        return sum((each.to_build for each in self._further), self.training.to_build)

    @property
    def _further(self) -> tuple[StorePreview, ...]:
        return self.validation, *self.other_training.values()


@dataclass(frozen=True)
class StageEstimate:
    """A stage, or what is left of it: its iterations, settings, timings and what it does."""

    span: Span
    settings: TrainerSettings
    timings: StepTimings
    items: tuple[Item, ...]


@dataclass(frozen=True)
class TrainingEstimate:
    """What a training will need.

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

    data: DataEstimate
    stages: tuple[StageEstimate, ...]
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


def estimate_training(
    stages: Sequence[tuple[Span, Config]],
    options: RunOptions,
    checkpoint: Checkpoint | None,
    folder: Path,
    seconds: float,
    report_progress: Callable[[float], None],
) -> TrainingEstimate | str:
    """Measure the stages that are left.

    Parameters
    ----------
    stages
        The stages that are left, with their iterations.
    options
        Device, threads and event store.
    checkpoint
        Checkpoint that the first stage resumes from; None: it starts from the beginning.
    folder
        For checkpoints and logs of the trials.
    seconds
        How long to train each stage.
    report_progress
        Called with the share of the time of a stage that has passed.

    Returns
    -------
    TrainingEstimate or str
        What it needs; a sentence instead if early stopping has ended the training already.
    """
    open_data = _SampledData()
    measured: list[StageEstimate] = []
    data: dict[tuple[str, ...], tuple[int, DataEstimate]] = {}
    for span, config in stages:
        trial_folder = folder / str(span.stage)
        trainer = make_trainer(config, options, open_data=open_data, trial_folder=trial_folder)
        if checkpoint is not None and not measured:
            trainer.restore(checkpoint)
        # Of stages with the same files later ones have the sample of the first.
        data.setdefault(config.data_files.training_data_file, (span.stage, open_data.estimates[-1]))
        nothing_to_do = reason_for_nothing(trainer)
        if nothing_to_do is not None:
            return nothing_to_do
        trainer.skip_to(span.first)
        try:
            timings = measure_step_time(trainer, trial_folder, seconds, report_progress)
        except TrainingError as error:
            raise TrainingError(
                "the training diverges in the measured iterations, so nothing can be estimated: "
                "train without --estimate, which stops there and reports the reason"
            ) from error
        stored = open_data.estimates[-1].validation.whole.events
        set_events = min(config.training.validation_events, stored)
        items = tuple(training_items(span, trainer.settings, timings, set_events))
        measured.append(StageEstimate(span, trainer.settings, timings, items))
    device = trainer.forward.device
    memory = peak_memory(device)
    (_, first), *others = data.values()
    whole = replace(
        first,
        memory=max(each.memory for _, each in data.values()),
        other_training={stage: each.training for stage, each in others},
    )
    return TrainingEstimate(
        data=whole,
        stages=tuple(measured),
        num_weights=trainer.forward.num_weights,
        device=device,
        threads=num_threads(),
        memory=max(whole.memory, memory_of_training(1e6 * memory["process"], trainer.forward)),
        gpu_memory=1e6 * memory.get("gpu", 0.0),
    )


def memory_of_training(peak_of_trial: float, forward: ForwardPass) -> float:
    """Bytes that a whole training uses at most, from those of a trial of some seconds."""
    same_shapes = isinstance(forward.network, GridNetwork) or forward.device.type != "cpu"
    return peak_of_trial if same_shapes else _GROWTH_WITH_SHAPES * peak_of_trial


class _SampledData:
    """Opens what the event store has of the data, and a few files more if it lacks some.

    Attributes
    ----------
    estimates
        What was found each time.
    """

    def __init__(self) -> None:
        self.estimates: list[DataEstimate] = []

    def __call__(self, config: Config, options: RunOptions) -> tuple[EventDataset, EventDataset]:
        store = event_store(config, options.cache_dir)
        jobs = min(config.general.num_jobs, options.threads)
        before = memory_in_use(_CPU).get("process", 0.0)
        training, validation = (
            preview_store(
                store,
                find_files(getattr(config.data_files, key), key),
                jobs,
                file_sampling(config, key),
            )
            for key in ("training_data_file", "validation_data_file")
        )
        peak = peak_memory(_CPU)["process"]
        workers = max(training.workers, validation.workers)
        building = memory_while_building(1e6 * peak, 1e6 * (peak - before), workers)
        self.estimates.append(DataEstimate(training, validation, building))
        return training.events, validation.events
