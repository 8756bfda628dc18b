"""The arguments of a loss function.

A loss is a plain function ``loss(prediction, truth, context) -> Tensor [L]``: one value for each
label, averaged over the events of the batch. A list of losses is summed; the label weights multiply
the result afterwards. A loss that needs labels of a certain meaning declares them with
:func:`dnn_reco.modules.loss.special_labels.uses_labels`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from dnn_reco.nn.density_layout import DensityShape
from dnn_reco.nn.interface import LabelKeys, Prediction
from dnn_reco.nn.misc_data import MiscData

# Uncertainties are clamped to this minimum where a loss takes their logarithm or divides by them.
MIN_UNCERTAINTY = 1e-6
# Standard deviation over median absolute deviation of a normal distribution
_MAD_TO_STD = 1.4826
_MIN_SCALE = 1e-6


@dataclass(frozen=True)
class Truth:
    """True labels of B events [B, L], in physical units and transformed."""

    labels: Tensor
    labels_trafo: Tensor


@dataclass(frozen=True)
class LossContext:
    """Further input of losses, in addition to prediction and truth.

    Attributes
    ----------
    label_names
        Names of the L labels, in order.
    label_keys
        Names of special labels.
    residual_trafo
        Predicted minus true label in the transformed space [B, L]; azimuth labels corrected for
        their period.
    event_weights
        Weight of each event [B, 1]; None: all weights are equal.
    tukey_scale
        Median absolute transformed residual of each label [L] (`label_scale_tukey`).
    misc
        Misc data of the events, raw and transformed; None only in tests of single losses.
    layout
        The shapes of densities that the network predicts (`prediction.shapes`).
    """

    label_names: tuple[str, ...]
    label_keys: LabelKeys
    residual_trafo: Tensor
    event_weights: Tensor | None
    tukey_scale: Tensor
    misc: MiscData | None = None
    layout: tuple[DensityShape, ...] = ()

    @property
    def residual_scale(self) -> Tensor:
        """Standard deviation [L] of normally distributed residuals with that median, above 0."""
        return _MAD_TO_STD * self.tukey_scale.clamp(min=_MIN_SCALE)


Loss: TypeAlias = Callable[[Prediction, Truth, LossContext], Tensor]
