"""Where a training reports what validations found: printed text, TensorBoard, `metrics.jsonl`."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dnn_reco.checkpoint_file import BestCheckpoint
from dnn_reco.metrics_log import METRICS_FILE, MetricsLog
from dnn_reco.run_options import PrintFormat
from dnn_reco.training.metrics import BatchMetrics, trained_labels
from dnn_reco.training.objectives import Objective
from dnn_reco.training.print_out import TrainingTable
from dnn_reco.training.progress_bar import ProgressBar
from dnn_reco.training.run_state import RunState
from dnn_reco.training.settings import TrainerSettings
from dnn_reco.training.tensorboard import TensorBoard
from dnn_reco.training.validation_set import ValidationMetrics

_log = logging.getLogger(__name__)

_SET = "validation_set"
# Labels in the figure: so many of the largest weight.
_LABELS_SHOWN = 6
# A figure takes half a second, in which a fast GPU trains on ten thousand events.
_SECONDS_BETWEEN_FIGURES = 60.0


class TrainingLog:
    """Where a training reports its progress.

    Attributes
    ----------
    bar
        The progress bar, above which text can be printed.
    tensorboard
        The curves.

    Parameters
    ----------
    log_path
        Folder of the logs.
    first, last
        Iterations done at the start and wanted in the end.
    batch_size
        Events of an iteration.
    write_metrics
        Whether to write `metrics.jsonl`.
    print_format
        What is printed at validations, see :class:`dnn_reco.run_options.RunOptions`.
    validation_frequency
        Iterations between two validations with batches.
    """

    @classmethod
    def open(cls, settings: TrainerSettings, first: int) -> TrainingLog:
        """The log of a training of which `first` iterations are done already."""
        return cls(
            settings.log_path,
            first,
            settings.num_iterations,
            settings.batch_size,
            write_metrics=settings.checkpoints is not None,
            print_format=settings.print_format,
            validation_frequency=settings.validation_frequency,
        )

    def __init__(
        self,
        log_path: Path,
        first: int,
        last: int,
        batch_size: int,
        write_metrics: bool,
        print_format: PrintFormat = "table",
        validation_frequency: int = 1,
    ) -> None:
        self.tensorboard = TensorBoard(log_path, first)
        self.bar = ProgressBar(first, last, batch_size)
        self._metrics = MetricsLog(log_path / METRICS_FILE, first) if write_metrics else None
        self._last = last
        self._time_of_figure = -np.inf
        self._prints_like_reference = print_format == "reference"
        self._prints = print_format != "none"
        self._is_best = False
        self._table = (
            TrainingTable(first, last, validation_frequency, self.bar.print)
            if print_format == "table"
            else None
        )

    def print(self, text: str) -> None:
        """Print a remark above the bar, unless nothing is to be printed."""
        if self._prints:
            self.bar.print(text)

    def print_metrics(self, text: str) -> None:
        """Print metrics of batches in the form of the reference, if that is wanted."""
        if self._prints_like_reference:
            self.bar.print(text)

    def write_set(
        self,
        iteration: int,
        metrics: ValidationMetrics,
        best: BestCheckpoint,
        is_last: bool,
        weights: Sequence[float],
        has_log: Sequence[bool],
    ) -> None:
        """Write an evaluation of the validation set to TensorBoard, and print it.

        Beside the table of the training, its metrics of each label are printed in the end only.

        Parameters
        ----------
        iteration
            Number of the iteration, from 0.
        metrics
            Metrics of the validation set.
        best
            The best evaluation so far.
        is_last
            Whether it is the last one of the training.
        weights, has_log
            Weight in the config of each of the L labels, and whether it has a logarithm.
        """
        for tag, value in set_scalars(metrics).items():
            self.tensorboard.add_scalar(_SET, tag, value, iteration)
        self._is_best = best.iterations == iteration + 1
        if self._prints_like_reference or is_last:
            _log.info("%s", format_set(iteration + 1, metrics, best))
        is_due = time.monotonic() - self._time_of_figure > _SECONDS_BETWEEN_FIGURES
        if is_due or iteration + 1 == self._last:
            self._time_of_figure = time.monotonic()
            self._add_figure(iteration, metrics, weights, has_log)

    def _add_figure(
        self,
        iteration: int,
        metrics: ValidationMetrics,
        weights: Sequence[float],
        has_log: Sequence[bool],
    ) -> None:
        from dnn_reco.evaluation import plots  # slow, and only needed here

        heaviest = sorted(range(len(metrics.columns)), key=lambda i: -weights[metrics.columns[i]])
        labels = [
            plots.LabelPoints(
                metrics.label_names[i],
                metrics.true[:, i],
                metrics.predicted[:, i],
                has_log[metrics.columns[i]],
            )
            for i in heaviest[:_LABELS_SHOWN]
        ]
        title = f"{metrics.num_events} validation events after {iteration + 1} iterations"
        figure = plots.reconstructed_against_true(labels, title)
        self.tensorboard.add_picture(
            _SET, "reconstructed_against_true", plots.pixels(figure), iteration
        )

    def write_removed_gradients(self, iteration: int, objectives: Sequence[Objective]) -> None:
        """Print and log how many gradient entries `remove_nan_gradients` removed."""
        for objective in objectives:
            if objective.gradient_filter is None:
                continue
            entries, batches = objective.gradient_filter.take_counts()
            tag = f"removed_gradient_entries/{objective.name}"
            self.tensorboard.add_scalar("train", tag, entries, iteration)
            if entries:
                self.print(
                    f"\tgradient of {objective.name}: {entries} entries removed in {batches} "
                    "batches"
                )

    def write_sections(self, iteration: int, sections: Mapping[str, Any], state: RunState) -> None:
        """Write the line of an iteration with a validation to `metrics.jsonl`, and its scalars.

        In the table of the training it is a row.

        Parameters
        ----------
        iteration
            Number of the iteration, from 0.
        sections
            Results of its validations, by section of the line.
        state
            State of the run.
        """
        for tag, value in state.scalars().items():
            self.tensorboard.add_scalar("train", tag, value, iteration)
        self.tensorboard.flush()
        if self._table is not None:
            self._table.add(iteration, sections, self._is_best, state)
        if self._metrics is not None:
            self._metrics.write(iteration, {**sections, **state.sections()})

    def close(self) -> None:
        """Close the bar and the files."""
        if self._table is not None:
            self._table.close()
        self.bar.close()
        self.tensorboard.close()


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
    """The printed metrics, in the form of the reference: trained labels only, sorted."""
    lines = [
        f"Step: {iteration:08d}, Runtime: {seconds:2.1f}s, Per-Step: {seconds_per_step:2.3f}s, "
        f"Benchmark: {weights.sum():3.3f}"
    ]
    for title, metrics in (("[Train]", train), ("[Validation]", validation)):
        losses = " ".join(
            f"loss_sum_{name}: {loss:2.3f} loss_sum_total_{name}: {total:2.3f}"
            for name, (loss, total) in metrics.losses.items()
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


def format_untrained(train: Mapping[str, float], validation: Mapping[str, float]) -> str:
    """The printed metrics of labels of weight 0: RMSE in both batches, sorted by name."""
    lines = (
        f"\tweight: 0, train: {train[name]:2.3f}, val: {validation[name]:2.3f} [{name}]"
        for name in sorted(train)
    )
    return "\n".join(lines)


def batch_section(
    metrics: BatchMetrics, label_names: Sequence[str], trained: np.ndarray
) -> dict[str, Any]:
    """Metrics of a printed batch, for `metrics.jsonl`."""
    return {
        "losses": {name: loss for name, (loss, _) in metrics.losses.items()},
        "losses_with_penalties": {name: total for name, (_, total) in metrics.losses.items()},
        "labels": {
            name: {
                key: getattr(metrics, key)[i]
                for key in ("rmse", "pull", "bias", "label_loss", "mean")
            }
            for name, i in trained_labels(label_names, trained)
        },
    }


def set_section(metrics: ValidationMetrics) -> dict[str, Any]:
    """Metrics of the validation set, for `metrics.jsonl`."""
    labels: dict[str, dict[str, float]] = {name: {} for name in metrics.label_names}
    for key, measured in metrics.of_labels().items():
        for i, name in enumerate(metrics.label_names):
            labels[name] |= {key: measured.value[i], f"{key}_error": measured.error[i]}
    section: dict[str, Any] = {
        "num_events": metrics.num_events,
        "loss": metrics.loss.value,
        "loss_error": metrics.loss.error,
        "losses": {name: loss.value for name, loss in metrics.losses.items()},
        "losses_error": {name: loss.error for name, loss in metrics.losses.items()},
        "labels": labels,
    }
    for suffix, angles in metrics.opening_angles.items():
        for kind, angle in zip(("mean", "median"), angles, strict=True):
            key = f"opening_angle_{kind}{suffix}"
            section |= {key: angle.value, f"{key}_error": angle.error}
    return section


def set_scalars(metrics: ValidationMetrics) -> dict[str, float]:
    """What TensorBoard shows of the validation set, by tag."""
    scalars = {f"configured_loss/{name}": loss.value for name, loss in metrics.losses.items()}
    scalars["configured_loss_total"] = metrics.loss.value
    for key, measured in metrics.of_labels().items():
        for name, value in zip(metrics.label_names, measured.value, strict=True):
            scalars[f"{key}/{name}"] = value
    for suffix, (average, median) in metrics.opening_angles.items():
        scalars[f"opening_angle_mean{suffix}"] = average.value
        scalars[f"opening_angle_median{suffix}"] = median.value
    return {tag: float(value) for tag, value in scalars.items()}


def format_set(iterations: int, metrics: ValidationMetrics, best: BestCheckpoint) -> str:
    """The table of an evaluation of the validation set: trained labels only, sorted."""
    if best.iterations == iterations:
        remark = "best so far"
    elif best.loss is None:
        remark = "no finite one so far"
    else:
        remark = f"best: {best.loss:.4f} after {best.iterations} iterations"
    width = max(len("label"), *(len(name) for name in metrics.label_names))
    titles = "".join(f"{title:<18}" for title in ("RMSE", "68 % width", "bias", "pull"))
    lines = [
        f"Validation set after {iterations} iterations: {metrics.num_events} events, "
        f"loss {metrics.loss.value:.4f} ± {metrics.loss.error:.4f} ({remark})",
        f"  {'label':<{width}}  {titles}68 % pull",
    ]
    columns = (metrics.rmse, metrics.width_68, metrics.bias, metrics.pull, metrics.pull_68)
    for i, name in enumerate(metrics.label_names):
        cells = (f"{c.value[i]:6.3f} ± {c.error[i]:5.3f}" for c in columns)
        lines.append(f"  {name:<{width}}  " + "".join(f"{cell:<18}" for cell in cells).rstrip())
    for suffix, (average, median) in metrics.opening_angles.items():
        source = "direction vector" if suffix else "zenith and azimuth"
        lines.append(
            f"  opening angle by {source}: mean {average.value:.2f}° ± {average.error:.2f}°, "
            f"median {median.value:.2f}° ± {median.error:.2f}°"
        )
    return "\n".join(lines)
