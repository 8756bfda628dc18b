"""The transformation of labels and their uncertainties, on the device.

It is computed in float64 and returned in the type of the input, as labels with logarithm span many
orders of magnitude.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dnn_reco.transform import TransformationModel

_MAX_EXPONENT = 60.0
# The logarithm diverges at -1; labels at or below are clamped to just above.
_MIN_LOG_ARGUMENT = -1 + 1e-6


class ColumnTransform(nn.Module):
    """Transform columns [..., C]: ln(1 + x) of those with log flag, then (x - mean) / scale.

    Parameters
    ----------
    has_log
        Log flag of each column.
    mean, scale
        Moments of each column [C], after the logarithm.
    normalize
        Whether mean and scale are applied.
    """

    _log: Tensor
    _arguments: Tensor
    _exponents: Tensor
    _mean: Tensor
    _scale: Tensor

    def __init__(
        self,
        has_log: Sequence[bool],
        mean: NDArray[np.float64],
        scale: NDArray[np.float64],
        normalize: bool,
    ) -> None:
        super().__init__()
        moments = torch.tensor(np.stack([mean, scale]), dtype=torch.float64)
        if not normalize:
            moments = torch.stack([torch.zeros(len(mean)), torch.ones(len(mean))]).double()
        self.has_log = tuple(has_log)
        log = np.array(self.has_log, dtype=bool)

        def constant(name: str, values: Tensor) -> None:
            self.register_buffer(name, values, persistent=False)

        def bounds(lowest: float, highest: float) -> Tensor:
            """Of each column with log flag; the others are held at 0, which has no gradient."""
            return torch.tensor(np.where(log, [[lowest], [highest]], 0.0))

        constant("_log", torch.tensor(log))
        constant("_arguments", bounds(_MIN_LOG_ARGUMENT, math.inf))
        constant("_exponents", bounds(-_MAX_EXPONENT, _MAX_EXPONENT))
        constant("_mean", moments[0].clone())
        constant("_scale", moments[1].clone())

    def forward(self, columns: Tensor) -> Tensor:
        """Transform columns in physical units."""
        values = columns.double()
        logs = torch.log1p(values.clamp(self._arguments[0], self._arguments[1]))
        values = torch.where(self._log, logs, values)
        return ((values - self._mean) / self._scale).to(columns.dtype)


class LabelTransform(ColumnTransform):
    """Transform labels [..., L] to the normalised space and back.

    Parameters
    ----------
    transformation
        Settings and moments of the labels.

    Attributes
    ----------
    has_log
        Whether each of the L labels is transformed with logarithm.
    """

    def __init__(self, transformation: TransformationModel) -> None:
        settings = transformation.settings
        super().__init__(
            settings.log_label_bins,
            transformation.label_mean,
            transformation.label_std + settings.norm_constant,
            settings.normalize_label_data,
        )

    def inverse(self, labels_trafo: Tensor) -> Tensor:
        """Labels in physical units; exponents are limited to ±60."""
        values = labels_trafo.double() * self._scale + self._mean
        exponents = values.clamp(self._exponents[0], self._exponents[1])
        return torch.where(self._log, torch.expm1(exponents), values).to(labels_trafo.dtype)

    def scale_uncertainty(self, uncertainty: Tensor) -> Tensor:
        """Transform uncertainties: the scale alone (with logarithm: those of ln(1 + x))."""
        return (uncertainty.double() / self._scale).to(uncertainty.dtype)

    def unscale_uncertainty(self, uncertainty_trafo: Tensor) -> Tensor:
        """Uncertainties in physical units; for labels with logarithm that of ln(1 + x)."""
        return (uncertainty_trafo.double() * self._scale).to(uncertainty_trafo.dtype)

    def azimuth_period(self, label_names: tuple[str, ...], azimuth_key: str | None) -> Tensor:
        """2π in transformed units for each label whose name contains the azimuth's, else inf."""
        is_azimuth = [azimuth_key is not None and azimuth_key in name for name in label_names]
        mask = torch.tensor(is_azimuth, device=self._scale.device)
        return torch.where(mask, 2 * math.pi / self._scale, torch.inf)


def residual_trafo(prediction_trafo: Tensor, truth_trafo: Tensor, period: Tensor) -> Tensor:
    """Predicted minus true labels in the transformed space, [B, L].

    Parameters
    ----------
    prediction_trafo, truth_trafo
        Transformed labels [B, L].
    period
        Period of each label in transformed units [L], inf where there is none. Residuals beyond
        half a period are shifted by one period towards 0.
    """
    residual = prediction_trafo - truth_trafo
    period = period.to(residual.dtype)
    periodic = torch.where(residual.abs() > period / 2, period, 0)
    return residual - torch.copysign(periodic, residual)
