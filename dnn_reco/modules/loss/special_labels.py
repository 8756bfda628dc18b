"""Labels that a loss needs for their meaning: direction, position, classification.

Config keys such as `label_zenith_key` name the label of each meaning. Whether all labels exist that
a loss needs is checked before any event is read.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dnn_reco.errors import ConfigError
from dnn_reco.modules.loss.interface import Loss, LossContext
from dnn_reco.nn.interface import LabelKeys
from dnn_reco.suggestions import did_you_mean

DIRECTION_VECTOR = ("label_dir_x_key", "label_dir_y_key", "label_dir_z_key")
"""Config keys of the direction vector."""
ANGLES = ("label_zenith_key", "label_azimuth_key")
"""Config keys of the angles of the direction."""


@dataclass(frozen=True)
class SpecialLabels:
    """The labels of special meaning that a loss needs.

    Attributes
    ----------
    predicted
        Config keys of the labels whose predictions it combines: all of them must be trained, since
        predictions of other labels are masked.
    true
        Config keys of the labels whose true values it needs, trained or not.
    only_classes
        Whether it acts on classification labels only: one of them must be trained.
    joined
        Config keys of labels that it treats as one quantity if all of them exist: then all must be
        trained, or none.
    implied
        Config keys of labels that are derived from these, and have no loss themselves.
    shapes
        Whether it trains the shapes of densities (`prediction.shapes`).
    """

    predicted: tuple[str, ...] = ()
    true: tuple[str, ...] = ()
    only_classes: bool = False
    joined: tuple[str, ...] = ()
    implied: tuple[str, ...] = ()
    shapes: bool = False


def uses_labels(
    *,
    predicted: tuple[str, ...] = (),
    true: tuple[str, ...] = (),
    only_classes: bool = False,
    joined: tuple[str, ...] = (),
    implied: tuple[str, ...] = (),
    shapes: bool = False,
) -> Callable[[Loss], Loss]:
    """Declare the labels that a loss needs (a decorator; see :class:`SpecialLabels`)."""

    def decorate(loss: Loss) -> Loss:
        loss.special_labels = SpecialLabels(  # type: ignore[attr-defined]
            predicted, true, only_classes, joined, implied, shapes
        )
        return loss

    return decorate


def special_labels(loss: Loss) -> SpecialLabels:
    """The labels that a loss needs; none if it is not decorated with :func:`uses_labels`."""
    declared: SpecialLabels = getattr(loss, "special_labels", SpecialLabels())
    return declared


def label_index(config_key: str, keys: LabelKeys, names: Sequence[str]) -> int:
    """Column of the label that a config key names.

    Raises
    ------
    ConfigError
        If the key is not set, or its label does not exist.
    """
    name = keys.named_by(config_key)
    if name is None:
        raise ConfigError(f"'{config_key}' is not set: name a label there ({', '.join(names)})")
    if name not in names:
        raise ConfigError(
            f"'{config_key}' names '{name}', which is not among the labels."
            f"{did_you_mean(name, names)} Labels: {', '.join(names)}"
        )
    return names.index(name)


def label_indices(config_keys: Sequence[str], context: LossContext) -> list[int]:
    """Columns of the labels that config keys name."""
    return [label_index(key, context.label_keys, context.label_names) for key in config_keys]


def named_labels(config_keys: Sequence[str], context: LossContext) -> list[int]:
    """Columns of the labels that config keys name, without those that do not exist."""
    named = [context.label_keys.named_by(key) for key in config_keys]
    return [context.label_names.index(name) for name in named if name in context.label_names]


def columns(values: Tensor, indices: Sequence[int]) -> Tensor:
    """Some columns [B, K] of the values [B, L] of all labels."""
    return torch.stack([values[:, index] for index in indices], dim=1)


def where_class(context: LossContext, values: Tensor, others: Tensor) -> Tensor:
    """`values` for classification labels, `others` for all other labels; all [L]."""
    classes = [i for i, name in enumerate(context.label_names) if name in context.label_keys.pid]
    return replaced_at(classes, values, others)


def replaced_at(indices: Collection[int], values: Tensor, others: Tensor) -> Tensor:
    """`values` at some labels, `others` at all others; all [L].

    Chosen on the CPU: a mask would be copied to a GPU each time, which waits for it.
    """
    pairs = enumerate(zip(values.unbind(), others.unbind(), strict=True))
    return torch.stack([value if i in indices else other for i, (value, other) in pairs])


def check_special_labels(
    loss: Loss, name: str, keys: LabelKeys, names: Sequence[str], trained: Collection[str]
) -> None:
    """Check that the labels that a loss needs exist and are trained.

    Parameters
    ----------
    loss
        The loss function.
    name
        Its name in messages.
    keys
        Names of special labels.
    names
        Names of all labels.
    trained
        Names of those with a weight above 0.

    Raises
    ------
    ConfigError
        Naming the config key to set, or the label to give a weight.
    """
    needed = special_labels(loss)
    try:
        for key in needed.true:
            label_index(key, keys, names)
        for key in needed.predicted:
            label = names[label_index(key, keys, names)]
            if label not in trained:
                raise ConfigError(
                    f"the label '{label}' ('{key}') has weight 0, but {', '.join(needed.predicted)}"
                    " are trained together: give each a weight above 0 in label_weight_dict"
                )
        _check_joined(needed, keys, names, trained)
    except ConfigError as error:
        raise ConfigError(f"{name} cannot be used: {error}") from error
    if needed.only_classes and not set(keys.pid) & set(trained):
        raise ConfigError(
            f"{name} trains only classification labels, but no label of 'label_pid_keys' has a "
            "weight above 0: name such labels there and in label_weight_dict, or use another loss"
        )


def _check_joined(
    needed: SpecialLabels, keys: LabelKeys, names: Sequence[str], trained: Collection[str]
) -> None:
    joined, implied = (
        [str(label) for key in part if (label := keys.named_by(key)) in names]
        for part in (needed.joined, needed.implied)
    )
    if len(joined) < len(needed.joined):
        return
    missing = [label for label in joined if label not in trained]
    if missing and set(trained) & {*joined, *implied}:
        raise ConfigError(
            f"the labels {missing} have weight 0, but {', '.join(joined)} are trained together, "
            f"and {', '.join(implied)} with them: give each a weight above 0 in "
            "label_weight_dict"
        )


def true_label_names(losses: Collection[Loss], keys: LabelKeys) -> set[str]:
    """Names of the labels whose true values losses need, trained or not."""
    named = {keys.named_by(key) for loss in losses for key in special_labels(loss).true}
    return {name for name in named if name is not None}
