"""Settings that the trainer itself follows."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.sampling import EventOrder
from dnn_reco.run_options import PrintFormat


@dataclass(frozen=True)
class TrainerSettings:
    """How long to train, and how often to validate and save.

    Attributes
    ----------
    num_iterations
        Iterations in all, over all calls.
    batch_size
        Events of an iteration.
    validation_frequency, save_frequency
        Iterations between two validations, between two checkpoints.
    seed
        Seed of everything random.
    shuffle_window
        See :class:`dnn_reco.data.sampling.EventOrder`.
    checkpoints
        Folder of the checkpoints; None saves nothing.
    max_to_keep
        Number of checkpoints kept.
    log_path
        Folder of the TensorBoard logs.
    validation_set_frequency
        Iterations between two evaluations of the validation set.
    patience
        Evaluations without a better loss after which training stops early; None: never.
    ema_decay
        See :class:`dnn_reco.training.ema.ExponentialMovingAverage`; None: weights are not averaged.
    log_untrained_labels
        Whether the RMSE of labels of weight 0 is logged, and printed in the reference's form.
    print_format
        See :class:`dnn_reco.run_options.RunOptions`.
    initial_weights
        SHA-256 of the file of weights that the network begins with; empty: random ones.
    """

    num_iterations: int
    batch_size: int
    validation_frequency: int
    save_frequency: int
    seed: int
    shuffle_window: int
    checkpoints: Path | None
    max_to_keep: int
    log_path: Path
    validation_set_frequency: int
    patience: int | None
    ema_decay: float | None = None
    log_untrained_labels: bool = False
    print_format: PrintFormat = "table"
    initial_weights: str = ""

    def order(self, events: EventDataset, stream: str) -> EventOrder:
        """The order in which a stream draws from a set of events."""
        return events.order(self.seed, stream, self.shuffle_window)

    def for_trial(self, folder: Path) -> TrainerSettings:
        """The same for a trial, which has no end and writes to another folder."""
        checkpoints = None if self.checkpoints is None else folder / "model"
        return replace(
            self, num_iterations=sys.maxsize, checkpoints=checkpoints, log_path=folder / "logs"
        )
