"""Evaluations at validation; see :mod:`.interface` for what a function gets."""

from collections.abc import Iterator

import torch
from torch import Tensor

from dnn_reco.errors import ConfigError
from dnn_reco.modules.evaluation.interface import EvaluationContext, PredictedBatch

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
    columns = list(_direction_columns(context))
    if not columns:
        raise ConfigError(
            "eval_direction needs labels of a direction: set label_zenith_key and "
            "label_azimuth_key, or label_dir_x_key, label_dir_y_key and label_dir_z_key. Labels "
            f"there are: {', '.join(context.label_names)}"
        )
    for labels in columns:
        suffix, remark = ("_vector", " [Over Direction Vector]") if len(labels) == 3 else ("", "")
        for name, events in (("train", train), ("val", val)):
            angle = opening_angle(
                _direction(events.batch.labels[:, labels]),
                _direction(events.prediction.labels[:, labels]),
            ).rad2deg()
            mean, median = float(angle.mean()), float(angle.quantile(0.5))
            context.print_line(
                f"\t{_TITLES[name]:<12} Opening Angle: mean {mean:3.1f}, median {median:3.1f}"
                f"{remark}"
            )
            context.add_scalar(name, f"opening_angle_mean{suffix}", mean)
            context.add_scalar(name, f"opening_angle_median{suffix}", median)


def opening_angle(first: Tensor, second: Tensor) -> Tensor:
    """Angle [B] between vectors [B, 3] of any length, rad; NaN for a vector of length 0."""
    first, second = (v.double() / v.double().norm(dim=1, keepdim=True) for v in (first, second))
    # exact at small angles, where the cosine is not
    sine = torch.linalg.cross(first, second, dim=1).norm(dim=1)
    return torch.atan2(sine, (first * second).sum(dim=1))


def _direction_columns(context: EvaluationContext) -> Iterator[list[int]]:
    """Columns of (zenith, azimuth) and of (x, y, z), where there are such labels."""
    keys = context.label_keys
    for names in ((keys.zenith, keys.azimuth), (keys.dir_x, keys.dir_y, keys.dir_z)):
        if all(name in context.label_names for name in names):
            yield [context.label_names.index(name) for name in names if name is not None]


def _direction(labels: Tensor) -> Tensor:
    """Vectors [B, 3] from labels that are vectors, or zenith and azimuth [B, 2]."""
    if labels.shape[1] == 3:
        return labels
    zenith, azimuth = labels.double().unbind(dim=1)
    sine = zenith.sin()
    return torch.stack([sine * azimuth.cos(), sine * azimuth.sin(), zenith.cos()], dim=1)
