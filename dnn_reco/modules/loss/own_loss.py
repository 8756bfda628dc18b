"""Users' own losses: their mistakes are reported in one message that names the loss."""

from __future__ import annotations

from functools import wraps

from torch import Tensor

from dnn_reco.config import call_plugin, check_signature, is_of_package
from dnn_reco.errors import ConfigError
from dnn_reco.modules.loss.interface import Loss, LossContext, Truth
from dnn_reco.nn.interface import Prediction
from dnn_reco.nn.own_network import described


def checked_loss(loss: Loss, name: str, key: str) -> Loss:
    """A loss whose result is checked each time; losses of this package are returned as they are.

    Parameters
    ----------
    loss
        The loss.
    name, key
        Its dotted name, and its config key.

    Raises
    ------
    ConfigError
        If it cannot be called with (prediction, truth, context).
    """
    if is_of_package(loss):
        return loss
    check_signature(loss, name, key)

    @wraps(loss)
    def checked(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
        value = call_plugin(
            loss, name, key, "for a batch", prediction, truth, context, error=ConfigError
        )
        _check(value, prediction.labels, context.label_names, f"{name} ({key})")
        return value  # type: ignore[no-any-return]

    # identifies the loss when a training resumes
    checked.__qualname__ = getattr(loss, "__qualname__", type(loss).__qualname__)
    return checked


def _check(value: object, labels: Tensor, names: tuple[str, ...], who: str) -> None:
    what = described(value)
    remedy = "average over the events, with dnn_reco.plugins.weighted_mean"
    if value is None:
        remedy = "end it with 'return' and the tensor"
    elif isinstance(value, Tensor) and value.dim() > 0:
        if value.device != labels.device:
            what += f" on {value.device}"
            remedy = f"keep it on the device of the prediction, {labels.device}"
        elif value.is_floating_point() and value.shape == (len(names),):
            return
    elif isinstance(value, float | int | Tensor):
        remedy = (
            "do not sum over the labels; for a single one set its entry and leave the others 0, "
            "with dnn_reco.plugins.at_labels"
        )
    else:
        remedy = "compute it with functions of PyTorch, whose tensors have gradients"
    raise ConfigError(
        f"{who} must return a floating-point tensor of shape [{len(names)}], one loss for each "
        f"label, as the label weights multiply them, but returned {what}: {remedy}"
    )
