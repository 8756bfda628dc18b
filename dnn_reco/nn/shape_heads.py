"""Heads that predict the shapes of densities, by :mod:`dnn_reco.nn.density_layout`.

Each gives the components of B events [B, K, parameters]. Weights of the layers start small, so that
the densities of an untrained network are near those of the default heads.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from dnn_reco.nn.densities import direction_mean, student_width, unit_mixture
from dnn_reco.nn.density_layout import MAX_KAPPA, MIN_KAPPA
from dnn_reco.nn.direction import rotate_about_z, unit_vector
from dnn_reco.nn.sphere_flow import NUM_RAW, flow_mean, spline_parameters

UNKNOWN_VECTOR = 5e-4
"""Each component of the vector of an unknown direction; its length is below the smallest κ."""
MAX_SHARPNESS = 8.0

_MIN_INVERSE, _MAX_INVERSE = 0.01, 0.5  # 1 / degrees of freedom
_FIRST_INVERSE = 0.1
_MAX_LOG_SCALE = 4.0
_FIRST_LOG_SCALES = (-0.5, 0.5)


class DirectionComponents(nn.Module):
    """Mixture of von Mises-Fisher distributions, each like that of the default head.

    Parameters
    ----------
    width
        Dimension of the summary token of an event.
    num_components
        Number K of components.
    """

    def __init__(self, width: int, num_components: int) -> None:
        super().__init__()
        self.vectors = nn.Linear(width, 3 * num_components)
        self.sharpness = nn.Linear(width, num_components)
        self.weights = nn.Linear(width, num_components)
        for layer in (self.sharpness, self.weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, events: Tensor, has_hits: Tensor, rotation: Tensor | None) -> Tensor:
        """Components [B, K, 4] of each event; without hits it is almost uniform.

        Arguments are those of :meth:`dnn_reco.nn.density_heads.DensityHeads.forward`.
        """
        num_components = self.weights.out_features
        vectors = torch.where(has_hits, self.vectors(events), UNKNOWN_VECTOR).view(-1, 3)
        if rotation is not None:
            vectors = rotate_about_z(vectors, -rotation.repeat_interleave(num_components))
        sharpness = self.sharpness(events).clamp(-MAX_SHARPNESS, MAX_SHARPNESS)
        factor = torch.where(has_hits, sharpness, 0).exp().view(-1)
        natural = unit_vector(vectors) * concentration_of(vectors, factor)[:, None]
        log_weight = log_softmax(torch.where(has_hits, self.weights(events), 0), dim=1)
        return torch.cat([log_weight[..., None], natural.view(-1, num_components, 3)], dim=2)

    def mean(self, components: Tensor) -> Tensor:
        """Mean vector [B, 3] of the components, in float64."""
        return direction_mean(components)


class FlowComponents(nn.Module):
    """A flow on the sphere: first, and for small κ always, a von Mises-Fisher distribution.

    Parameters
    ----------
    width
        Dimension of the summary token of an event.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.base = DirectionComponents(width, 1)
        self.splines = nn.Linear(width, NUM_RAW)
        nn.init.zeros_(self.splines.weight)
        nn.init.zeros_(self.splines.bias)

    def forward(self, events: Tensor, has_hits: Tensor, rotation: Tensor | None) -> Tensor:
        """The component [B, 1, parameters] of each event; without hits it is almost uniform.

        Arguments are those of :meth:`dnn_reco.nn.density_heads.DensityHeads.forward`.
        """
        base = self.base(events, has_hits, rotation)
        kappa = base[:, 0, 1:].square().sum(dim=1, keepdim=True).sqrt()
        raw = self.splines(events).clamp(-MAX_SHARPNESS, MAX_SHARPNESS)
        # for a small κ the mean direction turns with the least change of its vector, and the
        # splines with it: without this factor gradients would be as large as 1/κ
        raw = raw * kappa / (1 + kappa)
        splines = spline_parameters(torch.where(has_hits, raw, 0))
        return torch.cat([base, splines[:, None]], dim=2)

    def mean(self, components: Tensor) -> Tensor:
        """Mean vector [B, 3] of the components, in float64."""
        return flow_mean(components)


def concentration_of(vectors: Tensor, factor: Tensor) -> Tensor:
    """Concentrations κ [k]: lengths of vectors [k, 3] times factors [k].

    The vector is the natural parameter of the distribution, whose gradient does not vanish where
    the direction is still unknown.
    """
    length = vectors.square().sum(dim=1).clamp(min=MIN_KAPPA**2).sqrt()
    return (length * factor).clamp(MIN_KAPPA, MAX_KAPPA)


class StudentShape(nn.Module):
    """Student's t distribution around a label, of 2 to 100 degrees of freedom.

    It starts with 10. Half the width of its central 68.27 % is the label's σ.

    Parameters
    ----------
    width
        Dimension of the summary token of an event.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.freedom = nn.Linear(width, 1)
        share = (_FIRST_INVERSE - _MIN_INVERSE) / (_MAX_INVERSE - _MIN_INVERSE)
        nn.init.zeros_(self.freedom.weight)
        nn.init.constant_(self.freedom.bias, math.log(share / (1 - share)))

    def forward(self, events: Tensor, has_hits: Tensor) -> Tensor:
        """The component [B, 1, 4] of each event; without hits it is almost normal."""
        share = torch.where(has_hits, torch.sigmoid(self.freedom(events)), 0)
        inverse = _MIN_INVERSE + (_MAX_INVERSE - _MIN_INVERSE) * share
        nothing = torch.zeros_like(inverse)
        scale = 1 / student_width(inverse)
        return torch.stack([nothing, nothing, scale, 1 / inverse], dim=2)


class NormalComponents(nn.Module):
    """Mixture of normal distributions around a label.

    Its mean is the label, and half the width of its central 68.27 % is the label's σ.

    Parameters
    ----------
    width
        Dimension of the summary token of an event.
    num_components
        Number K of components.
    """

    _first: Tensor

    def __init__(self, width: int, num_components: int) -> None:
        super().__init__()
        self.components = nn.Linear(width, 3 * num_components)
        nn.init.zeros_(self.components.bias)
        # of different widths, so that each finds its own part
        first = np.linspace(*_FIRST_LOG_SCALES, num_components) if num_components > 1 else [0.0]
        self.register_buffer("_first", torch.tensor(first, dtype=torch.float32), persistent=False)

    def forward(self, events: Tensor, has_hits: Tensor) -> Tensor:
        """Components [B, K, 3] of each event; without hits it is one normal distribution."""
        raw = self.components(events).view(-1, len(self._first), 3)
        weight, mean, log_scale = torch.where(has_hits[..., None], raw, 0).unbind(dim=2)
        log_scale = log_scale + torch.where(has_hits, self._first.to(log_scale.dtype), 0)
        log_weight = log_softmax(weight, dim=1)
        scale = log_scale.clamp(-_MAX_LOG_SCALE, _MAX_LOG_SCALE).exp()
        offset, scale = unit_mixture(log_weight, mean, scale)
        return torch.stack([log_weight, offset, scale], dim=2)
