"""Evaluations at validation; see :mod:`.interface` for the arguments of a function."""

from dnn_reco.errors import ConfigError
from dnn_reco.evaluation.metrics import angle_metrics, direction_columns, opening_angle_degrees
from dnn_reco.modules.evaluation.interface import EvaluationBatch, EvaluationContext
from dnn_reco.nn.device import as_array

_TITLES = {"train": "[Train]", "val": "[Validation]"}


def eval_direction(
    train: EvaluationBatch, val: EvaluationBatch, context: EvaluationContext
) -> None:
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
            true, predicted = as_array(events.batch.labels), as_array(events.prediction.labels)
            angle = angle_metrics(opening_angle_degrees(true, predicted, labels))
            mean, median = float(angle["mean"].value), float(angle["50"].value)
            context.print_line(
                f"\t{_TITLES[name]:<12} Opening Angle: mean {mean:3.1f}, median {median:3.1f}"
                f"{remark}"
            )
            context.add_scalar(name, f"opening_angle_mean{suffix}", mean)
            context.add_scalar(name, f"opening_angle_median{suffix}", median)
