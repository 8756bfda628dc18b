"""TensorBoard curves, histograms and figures of a training."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dnn_reco.errors import TrainingError
from dnn_reco.metrics_log import LOG_FOLDERS, writing_logs
from dnn_reco.training.metrics import BatchMetrics, trained_labels

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

_SCALARS = ("rmse", "pull", "bias", "label_loss")
_END_OF_BINS = 1e19  # histograms of PyTorch have no bins from 1e20 on, and fail if all are empty


class TensorBoard:
    """Scalars, histograms and figures in folders of ``<log_path>``.

    ``train`` and ``val`` are for the batches of the printed metrics, ``validation_set`` for that
    set.

    Parameters
    ----------
    log_path
        Folder of the logs.
    first_iteration
        What an earlier, interrupted run wrote from here on is dropped from the curves.

    All methods raise a TrainingError if the files cannot be written.
    """

    def __init__(self, log_path: Path, first_iteration: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter  # slow, and only needed here

        self._log_path = log_path
        self._writers: dict[str, SummaryWriter] = {}
        self._print_exception, threading.excepthook = threading.excepthook, self._on_exception
        try:
            with writing_logs(log_path):
                for name in LOG_FOLDERS:
                    writer = SummaryWriter(str(log_path / name), purge_step=first_iteration)
                    self._writers[name] = writer
        except TrainingError:
            self.close()
            raise

    def write(
        self,
        iteration: int,
        label_names: Sequence[str],
        trained: np.ndarray,
        scores: Mapping[str, BatchMetrics],
        classes: Collection[str] = (),
    ) -> None:
        """Write the batches of printed metrics: losses, scores and histograms of trained labels.

        Parameters
        ----------
        scores
            By "train" and "val".
        classes
            Names of the labels that are probabilities: without pulls and uncertainties.
        """
        with writing_logs(self._log_path):
            for name, batch in scores.items():
                writer = self._writers[name]
                for optimizer, (loss, total) in batch.losses.items():
                    writer.add_scalar(f"loss/{optimizer}", loss, iteration)
                    writer.add_scalar(f"loss_with_penalties/{optimizer}", total, iteration)
                for label, i in trained_labels(label_names, trained):
                    self._write_label(writer, iteration, label, batch, i, label in classes)

    def add_scalar(self, folder: str, tag: str, value: float, iteration: int) -> None:
        """Write one scalar to the logs in a folder, such as "train" or "val"."""
        with writing_logs(self._log_path):
            self._writers[folder].add_scalar(tag, value, iteration)

    def add_scalars(self, folder: str, values: Mapping[str, float], iteration: int) -> None:
        """Write scalars by tag to the logs in a folder."""
        for tag, value in values.items():
            self.add_scalar(folder, tag, value, iteration)

    def add_picture(self, folder: str, tag: str, pixels: NDArray[np.uint8], iteration: int) -> None:
        """Write a picture [height, width, 3] to the logs in a folder."""
        with writing_logs(self._log_path):
            self._writers[folder].add_image(tag, pixels, iteration, dataformats="HWC")

    def flush(self) -> None:
        """Write everything to the disk, so that TensorBoard can show it."""
        with writing_logs(self._log_path):
            for writer in self._writers.values():
                writer.flush()

    def _write_label(
        self,
        writer: SummaryWriter,
        iteration: int,
        name: str,
        scores: BatchMetrics,
        i: int,
        is_class: bool,
    ) -> None:
        for tag in ("rmse", "bias", "label_loss") if is_class else _SCALARS:
            writer.add_scalar(f"{tag}/{name}", float(getattr(scores, tag)[i]), iteration)
        for tag, rows in (
            ("predicted", scores.predicted),
            ("true", scores.true),
            ("uncertainty", scores.uncertainty),
        ):
            if is_class and tag == "uncertainty":
                continue
            finite = rows[np.isfinite(rows[:, i]), i]
            if finite.size:
                within = np.clip(finite, -_END_OF_BINS, _END_OF_BINS)
                writer.add_histogram(f"{name}/{tag}", within, iteration)

    def close(self) -> None:
        """Write out and close the files."""
        with writing_logs(self._log_path), ExitStack() as stack:
            stack.callback(setattr, threading, "excepthook", self._print_exception)
            for writer in self._writers.values():
                stack.callback(writer.close)

    def _on_exception(self, exception: threading.ExceptHookArgs) -> None:
        """Print nothing where the thread of a writer fails: the next call raises its error."""
        if type(exception.thread).__module__ != "tensorboard.summary.writer.event_file_writer":
            self._print_exception(exception)
