"""Where a training reports what validations found: printed text, TensorBoard, `metrics.jsonl`."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dnn_reco.checkpoint_file import BestCheckpoint
from dnn_reco.evaluation.formats import format_aligned
from dnn_reco.inference.model_info import label_unit
from dnn_reco.metrics_log import METRICS_FILE, UNSAVED_LOGS, MetricsLog
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
# Labels in the figure: so many of the largest weight; classes only if there are no others.
_LABELS_SHOWN = 6
# A figure takes half a second, in which a fast GPU trains on ten thousand events.
_SECONDS_BETWEEN_FIGURES = 60.0
# Columns of the printed table, by name of the measure.
_COLUMNS = {
    "rmse": "RMSE",
    "width_68": "68 % width",
    "bias": "bias",
    "pull": "pull",
    "pull_68": "68 % pull",
}
_COLUMNS_OF_CLASSES = {"auc": "AUC", "rmse": "RMSE", "bias": "bias"}


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
        is_saved = settings.checkpoints is not None
        return cls(
            settings.log_path if is_saved else settings.log_path / UNSAVED_LOGS,
            first,
            settings.num_iterations,
            settings.batch_size,
            write_metrics=is_saved,
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
        self._last_scores = ""  # printed below the table
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
        scores = format_set(iteration + 1, metrics, best)
        if self._prints_like_reference:
            _log.info("%s", scores)
        elif is_last:
            self._last_scores = scores
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

        of_classes = [name in metrics.auc for name in metrics.label_names]
        order = [(of_classes[i], -weights[column], i) for i, column in enumerate(metrics.columns)]
        shown = [i for is_class, _, i in sorted(order) if not is_class or all(of_classes)]
        labels = [
            plots.LabelPoints(
                metrics.label_names[i],
                metrics.true[:, i],
                metrics.predicted[:, i],
                has_log[metrics.columns[i]],
                label_unit(metrics.label_names[i], {}),
            )
            for i in shown[:_LABELS_SHOWN]
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
        if self._last_scores:
            _log.info("%s", self._last_scores)
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
            f"\tweight: {weights[i]:2.3f}, train: {train.rmse[i]:2.3f} [{train.pull[i]:1.2f}],val: "
            f"{validation.rmse[i]:2.3f} [{validation.pull[i]:1.2f}] [{name}, mean: "
            f"{train.mean[i]:2.3f} {validation.mean[i]:2.3f}]"
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
    metrics: BatchMetrics,
    label_names: Sequence[str],
    trained: np.ndarray,
    classes: Collection[str] = (),
) -> dict[str, Any]:
    """Metrics of a printed batch, for `metrics.jsonl`; labels that are classes have no pulls."""
    return {
        "losses": {name: loss for name, (loss, _) in metrics.losses.items()},
        "losses_with_penalties": {name: total for name, (_, total) in metrics.losses.items()},
        "labels": {
            name: {
                key: getattr(metrics, key)[i]
                for key in ("rmse", "pull", "bias", "label_loss", "mean")
                if not (key == "pull" and name in classes)
            }
            for name, i in trained_labels(label_names, trained)
        },
    }


def set_section(metrics: ValidationMetrics) -> dict[str, Any]:
    """Metrics of the validation set, for `metrics.jsonl`."""
    labels: dict[str, dict[str, float]] = {name: {} for name in metrics.label_names}
    for i, name in enumerate(metrics.label_names):
        for key, measured in metrics.of_label(i).items():
            labels[name] |= {key: float(measured.value), f"{key}_error": float(measured.error)}
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
    for i, name in enumerate(metrics.label_names):
        for key, measured in metrics.of_label(i).items():
            scalars[f"{key}/{name}"] = measured.value
    for suffix, (average, median) in metrics.opening_angles.items():
        scalars[f"opening_angle_mean{suffix}"] = average.value
        scalars[f"opening_angle_median{suffix}"] = median.value
    return {tag: float(value) for tag, value in scalars.items()}


def format_set(iterations: int, metrics: ValidationMetrics, best: BestCheckpoint) -> str:
    """The table of an evaluation of the validation set: trained labels only, sorted."""
    if best.iterations == iterations:
        remark = "best so far"
    elif best.loss is None:
        remark = "no finite loss so far"
    else:
        remark = f"best: {best.loss:.4f} after {best.iterations} iterations"
    lines = [
        f"Validation set after {iterations} iterations: {metrics.num_events} events, "
        f"loss {format_aligned(metrics.loss, 4)} ({remark})",
        *_label_table("label", _COLUMNS, metrics, is_class=False),
        *_label_table("class", _COLUMNS_OF_CLASSES, metrics, is_class=True),
    ]
    for suffix, (average, median) in metrics.opening_angles.items():
        source = "direction vector" if suffix else "zenith and azimuth"
        lines.append(
            f"  opening angle by {source}: "
            f"mean {format_aligned(average, 2, '°')}, median {format_aligned(median, 2, '°')}"
        )
    return "\n".join(lines)


def _label_table(
    kind: str, columns: Mapping[str, str], metrics: ValidationMetrics, is_class: bool
) -> list[str]:
    """Lines of a table of labels, or of classes, with a title; none if there are no such labels."""
    chosen = [i for i, name in enumerate(metrics.label_names) if (name in metrics.auc) is is_class]
    if not chosen:
        return []
    measured = [metrics.of_label(i) for i in chosen]
    width = max(len("label"), *(len(name) for name in metrics.label_names))
    table = [[f"{name:<{width}}" for name in (kind, *(metrics.label_names[i] for i in chosen))]]
    for key, title in columns.items():
        cells = [title, *(format_aligned(found[key], 3, sign="±") for found in measured)]
        width = max(len(cell) for cell in cells)
        table.append([f"{cell:>{width}}" for cell in cells])
    return [f"  {' '.join(row)}" for row in zip(*table, strict=True)]
