"""Evaluations at validation; see :mod:`.interface` for what a function gets."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dnn_reco.errors import ConfigError
from dnn_reco.evaluation import metrics
from dnn_reco.modules.evaluation.interface import EvaluationContext, PredictedBatch
from dnn_reco.nn.interface import LabelKeys

_TITLES = {"train": "[Train]", "val": "[Validation]"}


def eval_direction(train: PredictedBatch, val: PredictedBatch, context: EvaluationContext) -> None:
    """Mean and median opening angle [degrees] between true and predicted direction.

    It is computed from the labels `label_zenith_key` and `label_azimuth_key`, and from the
    direction vector `label_dir_{x,y,z}_key`: from both where the labels have both. In TensorBoard
    the scalars are ``opening_angle_mean`` and ``opening_angle_median``, and those with ``_vector``
    behind them.

    Raises
    ------
    ConfigError
        If the labels have neither.
    """
    columns = list(direction_columns(context.label_names, context.label_keys))
    if not columns:
        raise ConfigError(
            "eval_direction needs labels of a direction: set label_zenith_key and "
            "label_azimuth_key, or label_dir_x_key, label_dir_y_key and label_dir_z_key. Labels "
            f"there are: {', '.join(context.label_names)}"
        )
    for labels in columns:
        suffix, remark = ("_vector", " [Over Direction Vector]") if len(labels) == 3 else ("", "")
        for name, events in (("train", train), ("val", val)):
            angle = opening_angle_degrees(events.batch.labels, events.prediction.labels, labels)
            mean, median = float(angle.mean()), float(np.median(angle))
            context.print_line(
                f"\t{_TITLES[name]:<12} Opening Angle: mean {mean:3.1f}, median {median:3.1f}"
                f"{remark}"
            )
            context.add_scalar(name, f"opening_angle_mean{suffix}", mean)
            context.add_scalar(name, f"opening_angle_median{suffix}", median)


def direction_columns(label_names: Sequence[str], keys: LabelKeys) -> Iterator[list[int]]:
    """Columns of (zenith, azimuth) and of (x, y, z), where there are such labels."""
    for names in ((keys.zenith, keys.azimuth), (keys.dir_x, keys.dir_y, keys.dir_z)):
        if all(name in label_names for name in names):
            yield [label_names.index(name) for name in names if name is not None]


def opening_angle_degrees(
    true: Tensor, predicted: Tensor, columns: Sequence[int]
) -> NDArray[np.float64]:
    """Angle [B] between directions, in degrees.

    Parameters
    ----------
    true, predicted
        Labels [B, L].
    columns
        Where (zenith, azimuth) or (x, y, z) stand among them.
    """
    first, second = (_vectors(labels[:, list(columns)]) for labels in (true, predicted))
    return np.degrees(metrics.opening_angle(first, second))


def _vectors(labels: Tensor) -> NDArray[np.float64]:
    """Vectors [B, 3] from labels that are vectors, or zenith and azimuth [B, 2]."""
    values = labels.detach().double().cpu().numpy()
    return values if values.shape[1] == 3 else metrics.direction(values[:, 0], values[:, 1])
