"""Density heads: labels and uncertainties of an event as the parameters of a probability density.

Ordinary labels are normal distributions in the transformed space. The direction is a von
Mises-Fisher distribution on the sphere: one unit vector and one concentration κ give all labels of
the direction, and their uncertainties. Classification labels are probabilities. Where a config asks
for it, the density of a label or of the direction has another shape
(:mod:`dnn_reco.nn.density_layout`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from dnn_reco.config.typed_settings import STRICT, check_names, typed_settings
from dnn_reco.config.value_types import PositiveWholeNumber
from dnn_reco.errors import ModelError
from dnn_reco.nn.densities import direction_moments
from dnn_reco.nn.density_layout import DIRECTION, DensityKind, DensityShape
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
from dnn_reco.nn.shape_heads import (
    MAX_SHARPNESS,
    UNKNOWN_VECTOR,
    DirectionComponents,
    FlowComponents,
    NormalComponents,
    StudentShape,
    concentration_of,
)

_KEY = "model_kwargs.heads"

GAUSSIAN, FISHER, CLASSES = "gaussian", "von_mises_fisher", "classification"
STUDENT, MIXTURE, FLOW = "student", "mixture", "flow"
_PARTS = ("dir_x", "dir_y", "dir_z", "zenith", "azimuth")
_MIN_UNCERTAINTY = 1e-4
_MIN_PROBABILITY = 1e-3


@dataclass(frozen=True, config=STRICT)
class HeadSettings:
    """A kind of head in a config that is not given by its name alone.

    Attributes
    ----------
    kind
        See :func:`choose_heads`.
    components
        Number of components of a `mixture`.
    """

    kind: str
    components: PositiveWholeNumber = 4


@dataclasses.dataclass(frozen=True)
class ChosenHeads:
    """Which heads the labels have.

    Attributes
    ----------
    direction
        For the labels of the direction, by their column, which of x, y, z, zenith and azimuth
        (0 … 4) they are.
    classes
        Whether each label is a class.
    layout
        Shapes of densities: first that of the direction, then those of labels, in their order.
    """

    direction: dict[int, int]
    classes: list[bool]
    layout: tuple[DensityShape, ...]


def choose_heads(heads: Mapping[str, Any], names: Sequence[str], keys: LabelKeys) -> ChosenHeads:
    """Which heads the labels have.

    Parameters
    ----------
    heads
        Kinds that differ from the default, by `direction` or the name of a label: for the
        direction `von_mises_fisher` (default), `mixture` (of such), `flow` or `gaussian`; for
        classification labels `classification` (default) or `gaussian`; for all others `gaussian`
        (default), `student` or `mixture` (of normal distributions). Instead of the name of a kind
        :class:`HeadSettings` may be given.
    names
        Names of the labels.
    keys
        Names of special labels.

    Raises
    ------
    ModelError
        If there is no such label, or no such kind of head for it.
    """
    columns = {
        list(names).index(name): part
        for part, name in enumerate(getattr(keys, each) for each in _PARTS)
        if name in names
    }
    check_names(heads, [DIRECTION, *names], _KEY, ModelError)
    chosen = {name: _settings(name, value) for name, value in heads.items()}
    if DIRECTION in chosen and chosen[DIRECTION].kind == GAUSSIAN:
        columns = {}
    for name, settings in chosen.items():
        _check_kind(name, settings.kind, [names[column] for column in columns], keys)
    has_shape = DIRECTION in chosen and chosen[DIRECTION].kind in (MIXTURE, FLOW)
    if has_shape and not {0, 1, 2} <= set(columns.values()):
        raise ModelError(
            f"{_KEY}: a {chosen[DIRECTION].kind} for the direction needs all three components of "
            "its vector among the labels (label_dir_x_key, label_dir_y_key, label_dir_z_key)"
        )
    layout = [_shape(name, chosen[name]) for name in (DIRECTION, *names) if name in chosen]
    classes = [
        name in keys.pid and not (name in chosen and chosen[name].kind == GAUSSIAN)
        for name in names
    ]
    return ChosenHeads(columns, classes, tuple(shape for shape in layout if shape is not None))


def _shape(name: str, settings: HeadSettings) -> DensityShape | None:
    """The shape of the density of a label, or of `direction`; None: it is the default density."""
    kinds: dict[tuple[bool, str], DensityKind] = {
        (True, MIXTURE): "von_mises_fisher",
        (True, FLOW): "flow",
        (False, MIXTURE): "normal",
        (False, STUDENT): "student",
    }
    kind = kinds.get((name == DIRECTION, settings.kind))
    if kind is None:
        return None
    return DensityShape(name, kind, settings.components if settings.kind == MIXTURE else 1)


def _settings(name: str, value: Any) -> HeadSettings:
    """The settings of a head, by the name of its kind or as a mapping."""
    if isinstance(value, str):
        return HeadSettings(value)
    settings = typed_settings(HeadSettings, value, f"{_KEY}.{name}", ModelError)
    if settings.kind != MIXTURE and "components" in value:
        raise ModelError(
            f"{_KEY}.{name}: only a {MIXTURE} has 'components', not {settings.kind!r}: remove it"
        )
    return settings


def _check_kind(name: str, kind: str, of_direction: Sequence[str], keys: LabelKeys) -> None:
    """Check that a label, or the direction, may have a kind of head."""
    if name in of_direction:
        raise ModelError(
            f"{_KEY}: '{name}' belongs to the direction: give the kind of '{DIRECTION}', of which "
            f"{GAUSSIAN} makes its labels ordinary ones"
        )
    allowed = [GAUSSIAN, STUDENT, MIXTURE]
    if name == DIRECTION:
        allowed = [GAUSSIAN, FISHER, MIXTURE, FLOW]
    elif name in keys.pid:
        allowed = [GAUSSIAN, CLASSES]
    elif name == keys.azimuth:
        allowed = [GAUSSIAN]
    if kind not in allowed:
        raise ModelError(f"{_KEY}: '{name}' is {kind!r}; allowed: {', '.join(allowed)}")


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

    Attributes
    ----------
    layout
        Shapes of densities that it predicts beside labels and uncertainties.

    Raises
    ------
    ModelError
        If a head is unknown, labels of the direction are transformed with logarithm, or a label is
        named like a classification (`p_…`) but is not among `label_pid_keys`.
    """

    _classes: Tensor
    _is_raw: Tensor
    _base_logit: Tensor
    _mean: Tensor
    _spread: Tensor
    _columns: Tensor
    _parts: Tensor

    def __init__(self, spec: NetworkSpec, width: int, heads: Mapping[str, Any]) -> None:
        super().__init__()
        names = spec.label_names
        check_classes(names, spec.label_keys)
        chosen = choose_heads(heads, names, spec.label_keys)
        direction, classes, self.layout = chosen.direction, chosen.classes, chosen.layout
        of_direction = [shape for shape in self.layout if shape.label == DIRECTION]
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
        has_default = bool(direction) and not of_direction
        self.vector = nn.Linear(width, 3) if has_default else None
        self.sharpness = nn.Linear(width, 1) if has_default else None
        if self.sharpness is not None:
            nn.init.zeros_(self.sharpness.weight)
            nn.init.zeros_(self.sharpness.bias)
        self.direction_components: DirectionComponents | FlowComponents | None = None
        if of_direction and of_direction[0].kind == "flow":
            self.direction_components = FlowComponents(width)
        elif of_direction:
            self.direction_components = DirectionComponents(width, of_direction[0].num_components)
        self.shapes = nn.ModuleList(
            StudentShape(width)
            if shape.kind == "student"
            else NormalComponents(width, shape.num_components)
            for shape in self.layout
            if shape.label != DIRECTION
        )
        model = spec.transformation
        base = np.clip(model.label_mean, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
        mean, spread = np.zeros(len(names)), np.ones(len(names))
        if not model.settings.normalize_label_data:
            mean, spread = np.where(classes, 0.0, model.label_mean), model.label_std

        def constant(name: str, values: Tensor) -> None:
            self.register_buffer(name, values, persistent=False)

        self._has_classes = any(classes)
        is_raw = [
            not is_class and column not in direction for column, is_class in enumerate(classes)
        ]
        constant("_classes", torch.tensor(classes))
        constant("_is_raw", torch.tensor(is_raw))
        constant("_base_logit", torch.tensor(np.log(base / (1 - base))))
        constant("_mean", torch.tensor(mean))
        constant("_spread", torch.tensor(spread))
        constant("_columns", torch.tensor(list(direction), dtype=torch.int64))
        constant("_parts", torch.tensor(list(direction.values()), dtype=torch.int64))

    @property
    def has_direction(self) -> bool:
        """Whether the direction has a density on the sphere."""
        return len(self._columns) > 0

    def uncertainty_parameters(self) -> list[nn.Parameter]:
        """Weights that only uncertainties, or the shapes of densities of labels, depend on."""
        heads: list[nn.Module] = [self.uncertainties, self.shapes]
        if self.sharpness is not None:
            heads.append(self.sharpness)
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
        # float64 from here on, as are the constants: conversions cost as much as computing
        raw = torch.where(has_hits, self.labels(events).double(), self._mean)
        width = functional.elu(self.uncertainties(events)).double() + (1 + _MIN_UNCERTAINTY)
        sigma_trafo = torch.where(has_hits, width, self._spread)
        labels = self.transform.inverse(raw)
        sigma = self.transform.unscale_uncertainty(sigma_trafo)
        logits = torch.zeros_like(raw)
        if self._has_classes:
            logits = torch.where(self._classes, raw + self._base_logit, logits)
            probability = torch.sigmoid(logits)
            labels = torch.where(self._classes, probability, labels)
            spread = (probability * (1 - probability)).sqrt().detach()
            sigma = torch.where(self._classes, spread, sigma)
        shapes = []
        if self.direction_components is not None:
            components = self.direction_components(events, has_hits, rotation)
            unit, kappa = direction_moments(self.direction_components.mean(components.double()))
            shapes.append(components.flatten(1))
        elif self.vector is not None and self.sharpness is not None:
            vector = torch.where(has_hits, self.vector(events), UNKNOWN_VECTOR)
            if rotation is not None:
                vector = rotate_about_z(vector, -rotation)
            factor = self.sharpness(events).clamp(-MAX_SHARPNESS, MAX_SHARPNESS).exp()
            unit, kappa = unit_vector(vector), concentration_of(vector, factor.squeeze(1))
        if self.has_direction:
            direction, widths = _direction_labels(unit.double(), kappa.double())
            labels = labels.index_copy(1, self._columns, direction[:, self._parts])
            sigma = sigma.index_copy(1, self._columns, widths[:, self._parts])
        shapes += [head(events, has_hits).flatten(1) for head in self.shapes]
        uncertainty_trafo = self.transform.scale_uncertainty(sigma)
        return Prediction(
            labels_trafo=torch.where(self._is_raw, raw, self.transform(labels)).to(dtype),
            uncertainty_trafo=torch.where(self._is_raw, sigma_trafo, uncertainty_trafo).to(dtype),
            labels=labels.to(dtype),
            uncertainty=sigma.to(dtype),
            logits=logits.to(dtype),
            shapes=torch.cat(shapes, dim=1) if shapes else events[:, :0],
        )


def _direction_labels(unit: Tensor, kappa: Tensor) -> tuple[Tensor, Tensor]:
    """Values and uncertainties of x, y, z, zenith and azimuth [B, 5] each.

    Parameters
    ----------
    unit, kappa
        Mean direction [B, 3] and concentration [B].
    """
    zenith, azimuth = zenith_and_azimuth(unit)
    of_component = component_uncertainty(kappa)
    of_angles = angle_uncertainties(kappa, zenith.detach())
    values = torch.cat([unit, torch.stack([zenith, azimuth], dim=1)], dim=1)
    return values, torch.stack([of_component] * 3 + list(of_angles), dim=1)
