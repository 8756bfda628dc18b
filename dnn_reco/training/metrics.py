"""What training tells: the print-out at each validation, TensorBoard, and the progress bar."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from dnn_reco.evaluation import metrics
from dnn_reco.modules.loss.interface import Truth
from dnn_reco.nn.interface import Prediction

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


@dataclass(frozen=True)
class BatchMetrics:
    """How well a batch is predicted; arrays by label [L].

    Attributes
    ----------
    losses
        Weighted loss of each optimizer, without and with penalties.
    rmse
        Root mean square of the transformed residual.
    pull
        Standard deviation of residual / uncertainty: 1 if uncertainties are right.
    bias
        Mean of the transformed residual.
    mean
        Mean of the true label, physical units.
    predicted, true, uncertainty
        Transformed labels and uncertainty of all events [B, L], for histograms (in physical units
        those of energies would be one bar).
    label_loss
        Loss, all optimizers together, without the label's weight.
    """

    losses: Mapping[str, tuple[float, float]]
    rmse: np.ndarray
    pull: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    predicted: np.ndarray
    true: np.ndarray
    uncertainty: np.ndarray
    label_loss: np.ndarray


def score(
    losses: Mapping[str, tuple[Tensor, Tensor]],
    label_loss: Tensor,
    prediction: Prediction,
    truth: Truth,
    residual_trafo: Tensor,
) -> BatchMetrics:
    """Scores of a batch from what the network and the losses said."""
    residual, uncertainty = as_array(residual_trafo), as_array(prediction.uncertainty_trafo)
    return BatchMetrics(
        {name: (float(loss), float(total)) for name, (loss, total) in losses.items()},
        metrics.root_mean_square(residual).value,
        metrics.standard_deviation(residual / uncertainty).value,
        metrics.mean(residual).value,
        metrics.mean(as_array(truth.labels)).value,
        as_array(prediction.labels_trafo),
        as_array(truth.labels_trafo),
        uncertainty,
        as_array(label_loss),
    )


def as_array(values: Tensor) -> NDArray[np.float64]:
    """A tensor as an array of float64."""
    return values.detach().double().cpu().numpy()


def trained_labels(names: Sequence[str], trained: np.ndarray) -> list[tuple[str, int]]:
    """Name and column of the labels that are trained, sorted by name."""
    return sorted((name, i) for i, name in enumerate(names) if trained[i])


def format_validation(
    iteration: int,
    seconds: float,
    seconds_per_step: float,
    label_names: Sequence[str],
    trained: np.ndarray,
    weights: np.ndarray,
    train: BatchMetrics,
    validation: BatchMetrics,
) -> str:
    """The print-out of a validation, in the form of the reference: trained labels only, sorted."""
    lines = [
        f"Step: {iteration:08d}, Runtime: {seconds:2.1f}s, Per-Step: {seconds_per_step:2.3f}s, "
        f"Benchmark: {weights.sum():3.3f}"
    ]
    for title, scores in (("[Train]", train), ("[Validation]", validation)):
        losses = " ".join(
            f"loss_sum_{name}: {loss:2.3f} loss_sum_total_{name}: {total:2.3f}"
            for name, (loss, total) in scores.losses.items()
        )
        lines.append(f"\t{title:<12} {losses}")
    for name, i in trained_labels(label_names, trained):
        lines.append(
            f"\tweight: {weights[i]:2.3f}, "
            f"train: {train.rmse[i]:2.3f} [{train.pull[i]:1.2f}],"
            f"val: {validation.rmse[i]:2.3f} [{validation.pull[i]:1.2f}] "
            f"[{name}, mean: {train.mean[i]:2.3f} {validation.mean[i]:2.3f}]"
        )
    return "\n".join(lines)


class TensorBoard:
    """Scalars, histograms and figures in folders of ``<log_path>``.

    ``train`` and ``val`` are for the batches of the print-out, ``validation_set`` for that set.

    Parameters
    ----------
    log_path
        Folder of the logs.
    first_iteration
        What an earlier, interrupted run wrote from here on is dropped from the curves.
    """

    def __init__(self, log_path: Path, first_iteration: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter  # slow, and only needed here

        self._writers: dict[str, SummaryWriter] = {
            name: SummaryWriter(str(log_path / name), purge_step=first_iteration)
            for name in ("train", "val", "validation_set")
        }

    def write(
        self,
        iteration: int,
        label_names: Sequence[str],
        trained: np.ndarray,
        scores: Mapping[str, BatchMetrics],
    ) -> None:
        """Write the batches of a print-out: losses, and scores and histograms of trained labels.

        Parameters
        ----------
        scores
            By "train" and "val".
        """
        for name, batch in scores.items():
            writer = self._writers[name]
            for optimizer, (loss, total) in batch.losses.items():
                writer.add_scalar(f"loss/{optimizer}", loss, iteration)
                writer.add_scalar(f"loss_with_penalties/{optimizer}", total, iteration)
            for label, i in trained_labels(label_names, trained):
                self._write_label(writer, iteration, label, batch, i)

    def add_scalar(self, folder: str, tag: str, value: float, iteration: int) -> None:
        """Write one scalar to the logs in a folder, such as "train" or "val"."""
        self._writers[folder].add_scalar(tag, value, iteration)

    def add_picture(self, folder: str, tag: str, pixels: NDArray[np.uint8], iteration: int) -> None:
        """Write a picture [height, width, 3] to the logs in a folder."""
        self._writers[folder].add_image(tag, pixels, iteration, dataformats="HWC")

    def flush(self) -> None:
        """Bring everything to the disk, for who is watching."""
        for writer in self._writers.values():
            writer.flush()

    def _write_label(
        self, writer: SummaryWriter, iteration: int, name: str, scores: BatchMetrics, i: int
    ) -> None:
        for tag in ("rmse", "pull", "bias", "label_loss"):
            writer.add_scalar(f"{tag}/{name}", float(getattr(scores, tag)[i]), iteration)
        for tag, rows in (
            ("predicted", scores.predicted),
            ("true", scores.true),
            ("uncertainty", scores.uncertainty),
        ):
            finite = rows[np.isfinite(rows[:, i]), i]
            if finite.size:
                writer.add_histogram(f"{name}/{tag}", finite, iteration)

    def close(self) -> None:
        """Write out and close the files."""
        for writer in self._writers.values():
            writer.close()


class ProgressBar:
    """Iterations done, events a second, and the share of time spent waiting for data.

    Parameters
    ----------
    first, last
        Iterations done at the start and wanted in the end.
    batch_size
        Events of an iteration.
    """

    def __init__(self, first: int, last: int, batch_size: int) -> None:
        self._first = first
        self._batch_size = batch_size
        self._start = time.perf_counter()
        self._bar = tqdm(
            total=last,
            initial=first,
            desc="Training",
            unit="step",
            dynamic_ncols=True,
            leave=False,
            disable=None,
        )

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    def update(self, iterations: int, seconds_waited: float, remark: str = "") -> None:
        """Show that so many iterations are done and so long was waited for data, and a remark."""
        self._bar.update(iterations - self._bar.n)
        if self._bar.disable:
            return
        done = iterations - self._first
        self._bar.set_postfix_str(
            f"{done * self._batch_size / self.seconds:,.0f} events/s, "
            f"{seconds_waited / self.seconds:.1%} waiting for data"
            f"{remark and f', {remark}'}",
            refresh=False,
        )

    def print(self, text: str) -> None:
        """Print text above the bar."""
        tqdm.write(text)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()


def memory_in_use(device: torch.device) -> dict[str, float]:
    """Memory [MB] that this process holds, and that its tensors hold on a GPU.

    The first is told by Linux alone.
    """
    memory = {}
    statistics = Path("/proc/self/statm")
    if statistics.exists():
        resident_pages = int(statistics.read_text().split()[1])
        memory["process"] = resident_pages * resource.getpagesize() / 1e6
    if device.type == "cuda":
        memory["gpu"] = torch.cuda.memory_allocated(device) / 1e6
    return memory


def peak_memory(device: torch.device) -> dict[str, float]:
    """The same at its greatest so far, on any system."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss may be that of the program which started this one
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        resident = 1024 * int(lines["VmHWM"].split()[0])
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        resident = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = {"process": resident / 1e6}
    if device.type == "cuda":
        memory["gpu"] = torch.cuda.max_memory_allocated(device) / 1e6
    return memory


def device_name(device: torch.device) -> str:
    """Name of a device for people."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    return f"CPU, {torch.get_num_threads()} thread(s)"
