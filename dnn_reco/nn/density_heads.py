"""Density heads: labels and uncertainties of an event as the parameters of a probability density.

Ordinary labels are normal distributions in the transformed space. The direction is a von
Mises-Fisher distribution on the sphere: one unit vector and one concentration κ give all labels of
the direction, and their uncertainties. Classification labels are probabilities.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dnn_reco.config.typed_settings import check_names
from dnn_reco.errors import ModelError
from dnn_reco.nn.direction import (
    angle_uncertainties,
    component_uncertainty,
    rotate_about_z,
    unit_vector,
    zenith_and_azimuth,
)
from dnn_reco.nn.interface import LabelKeys, NetworkSpec, Prediction
from dnn_reco.nn.label_head import check_classes
from dnn_reco.nn.label_transform import LabelTransform

DIRECTION = "direction"
GAUSSIAN, FISHER, CLASSES = "gaussian", "von_mises_fisher", "classification"
_PARTS = ("dir_x", "dir_y", "dir_z", "zenith", "azimuth")
_MIN_UNCERTAINTY = 1e-4
_MIN_KAPPA, _MAX_KAPPA = 1e-3, 1e7
_UNKNOWN_VECTOR = 5e-4  # each component; the length is below the smallest κ
_MAX_SHARPNESS = 8.0
_MIN_PROBABILITY = 1e-3


def choose_heads(
    heads: Mapping[str, str], names: Sequence[str], keys: LabelKeys
) -> tuple[dict[int, int], list[bool]]:
    """Which labels belong to the direction, and which are classes.

    Parameters
    ----------
    heads
        Kinds that differ from the default, by `direction` or the name of a classification label.
    names
        Names of the labels.
    keys
        Names of special labels.

    Returns
    -------
    tuple
        For the labels of the direction, by their column, which of x, y, z, zenith and azimuth
        (0 … 4) they are; and for each label whether it is a class.

    Raises
    ------
    ModelError
        If there is no such label, or no such kind of head for it.
    """
    classes = [name for name in names if name in keys.pid]
    check_names(heads, [DIRECTION, *classes], "model_kwargs.heads", ModelError)
    for name, kind in heads.items():
        default = FISHER if name == DIRECTION else CLASSES
        if kind not in (GAUSSIAN, default):
            raise ModelError(
                f"model_kwargs.heads: '{name}' is {kind!r}; allowed: {GAUSSIAN}, {default}"
            )
    direction = {
        list(names).index(name): part
        for part, name in enumerate(getattr(keys, each) for each in _PARTS)
        if name in names
    }
    if heads.get(DIRECTION) == GAUSSIAN:
        direction = {}
    return direction, [name in classes and heads.get(name) != GAUSSIAN for name in names]


class DensityHeads(nn.Module):
    """Labels and uncertainties of events.

    An event without hits gets the mean and the standard deviation that the labels have in the
    transformation model, and a direction that is almost uniform on the sphere.

    Parameters
    ----------
    spec
        Label names, special labels, transformation.
    width
        Dimension of the summary token of an event.
    heads
        See :func:`choose_heads`.

    Raises
    ------
    ModelError
        If a head is unknown, labels of the direction are transformed with logarithm, or a label is
        named like a classification (`p_…`) but is not among `label_pid_keys`.
    """

    _classes: Tensor
    _base_logit: Tensor
    _mean: Tensor
    _spread: Tensor
    _columns: Tensor
    _parts: Tensor

    def __init__(self, spec: NetworkSpec, width: int, heads: Mapping[str, str]) -> None:
        super().__init__()
        names = spec.label_names
        check_classes(names, spec.label_keys)
        direction, classes = choose_heads(heads, names, spec.label_keys)
        self.transform = LabelTransform(spec.transformation)
        for column in direction:
            if self.transform.has_log[column]:
                raise ModelError(
                    f"trafo_log_label_bins selects the logarithm of '{names[column]}', which "
                    "belongs to the direction: switch it off there, and create the transformation "
                    "model again"
                )
        self.labels = nn.Linear(width, len(names))
        self.uncertainties = nn.Linear(width, len(names))
        self.vector = nn.Linear(width, 3) if direction else None
        self.sharpness = nn.Linear(width, 1) if direction else None
        if self.sharpness is not None:
            nn.init.zeros_(self.sharpness.weight)
            nn.init.zeros_(self.sharpness.bias)
        model = spec.transformation
        base = np.clip(model.label_mean, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
        mean, spread = np.zeros(len(names)), np.ones(len(names))
        if not model.settings.normalize_label_data:
            mean, spread = np.where(classes, 0.0, model.label_mean), model.label_std

        def constant(name: str, values: Tensor) -> None:
            self.register_buffer(name, values, persistent=False)

        constant("_classes", torch.tensor(classes))
        constant("_base_logit", torch.tensor(np.log(base / (1 - base))))
        constant("_mean", torch.tensor(mean))
        constant("_spread", torch.tensor(spread))
        constant("_columns", torch.tensor(list(direction), dtype=torch.int64))
        constant("_parts", torch.tensor(list(direction.values()), dtype=torch.int64))

    def uncertainty_parameters(self) -> list[nn.Parameter]:
        """Weights that only uncertainties depend on."""
        heads = [self.uncertainties] + ([] if self.sharpness is None else [self.sharpness])
        return [parameter for head in heads for parameter in head.parameters()]

    def forward(
        self, events: Tensor, has_hits: Tensor, rotation: Tensor | None = None
    ) -> Prediction:
        """Labels and uncertainties of B events.

        Parameters
        ----------
        events
            Summary token of each event [B, width].
        has_hits
            Whether each event has any hit [B], bool.
        rotation
            Angle [B] in radian by which the events were rotated about the z axis; the direction is
            rotated back.
        """
        has_hits = has_hits[:, None]
        dtype = events.dtype
        raw = torch.where(has_hits, self.labels(events), self._mean.to(dtype))
        unit = functional.elu(self.uncertainties(events)) + 1 + _MIN_UNCERTAINTY
        sigma_trafo = torch.where(has_hits, unit, self._spread.to(dtype))
        labels = self.transform.inverse(raw)
        sigma = self.transform.unscale_uncertainty(sigma_trafo)
        logits = torch.where(self._classes, raw + self._base_logit.to(dtype), 0)
        probability = torch.sigmoid(logits)
        labels = torch.where(self._classes, probability, labels)
        spread = (probability * (1 - probability)).sqrt().detach()
        sigma = torch.where(self._classes, spread, sigma)
        if self.vector is not None and self.sharpness is not None:
            vector = torch.where(has_hits, self.vector(events), _UNKNOWN_VECTOR)
            if rotation is not None:
                vector = rotate_about_z(vector, -rotation)
            factor = self.sharpness(events).clamp(-_MAX_SHARPNESS, _MAX_SHARPNESS).exp()
            direction, widths = _direction_labels(vector, factor.squeeze(1))
            labels = labels.index_copy(1, self._columns, direction[:, self._parts])
            sigma = sigma.index_copy(1, self._columns, widths[:, self._parts])
        is_raw = ~self._classes.index_fill(0, self._columns, True)
        return Prediction(
            labels_trafo=torch.where(is_raw, raw, self.transform(labels)),
            uncertainty_trafo=torch.where(
                is_raw, sigma_trafo, self.transform.scale_uncertainty(sigma)
            ),
            labels=labels,
            uncertainty=sigma,
            logits=logits,
        )


def _direction_labels(vector: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """Values and uncertainties of x, y, z, zenith and azimuth [B, 5] each.

    The vector's length times the factor is the concentration κ: the vector is the natural parameter
    of the distribution, whose gradient does not vanish where the direction is still unknown.
    """
    unit = unit_vector(vector)
    zenith, azimuth = zenith_and_azimuth(unit)
    length = vector.square().sum(dim=1).clamp(min=_MIN_KAPPA**2).sqrt()
    kappa = (length * factor).clamp(_MIN_KAPPA, _MAX_KAPPA)
    of_component = component_uncertainty(kappa)
    of_angles = angle_uncertainties(kappa, zenith.detach())
    values = torch.cat([unit, torch.stack([zenith, azimuth], dim=1)], dim=1)
    return values, torch.stack([of_component] * 3 + list(of_angles), dim=1)
