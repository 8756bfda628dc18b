"""Losses for the vertex of tracks that depend only on its distance from the true track.

The position of the vertex of a muon along its track is hardly observable, and does not matter. So
the residual r [m] is taken at the point of the true track that is closest to the predicted vertex:
for x, y, z the displacement from the predicted vertex to that point, for the time the difference
between the predicted time and the true one there, multiplied by the speed of light. σ are the
uncertainties of these labels in physical units; that of the time is compared with r directly (as in
the reference), so it is in metres.
"""

import torch
from torch import Tensor

from dnn_reco.detector.constants import SPEED_OF_LIGHT
from dnn_reco.modules.loss.interface import MIN_UNCERTAINTY, LossContext, Truth
from dnn_reco.modules.loss.reduction import at_labels, weighted_mean
from dnn_reco.modules.loss.special_labels import (
    DIRECTION_VECTOR,
    columns,
    label_indices,
    uses_labels,
)
from dnn_reco.nn.interface import Prediction

_POSITION = tuple(f"label_particle_keys.pos_{axis}" for axis in "xyz")
_TIME = "label_particle_keys.time"
_VERTEX = (*_POSITION, _TIME)


@uses_labels(predicted=_POSITION, true=(_TIME, *DIRECTION_VECTOR))
def track_pos_mse(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """⟨r²⟩ + ⟨(r - σ)²⟩ for the vertex and its time, 0 for others; the second term trains only σ.

    r is signed in the second term, as in the reference, so that σ is not the width of r: where
    uncertainties matter, use :func:`track_pos_gaussian`.
    """
    residual, sigma = _track_residual(prediction, truth, context)
    terms = residual.square() + (residual.detach() - sigma).square()
    return _at_vertex(context, terms)


@uses_labels(predicted=_POSITION, true=(_TIME, *DIRECTION_VECTOR))
def track_pos_gaussian(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """⟨2 ln σ + (r / σ)²⟩ for the vertex and its time, 0 for others."""
    residual, sigma = _track_residual(prediction, truth, context)
    sigma = sigma.clamp(min=MIN_UNCERTAINTY)
    return _at_vertex(context, 2 * sigma.log() + (residual / sigma).square())


def _track_residual(
    prediction: Prediction, truth: Truth, context: LossContext
) -> tuple[Tensor, Tensor]:
    """Residual r and uncertainty σ of x, y, z and time, both [B, 4]."""
    vertex = label_indices(_VERTEX, context)
    difference = columns(prediction.labels, vertex) - columns(truth.labels, vertex)
    direction = columns(truth.labels, label_indices(DIRECTION_VECTOR, context))
    along = (difference[:, :3] * direction).sum(dim=1, keepdim=True)
    position = along * direction - difference[:, :3]
    time = along - SPEED_OF_LIGHT * difference[:, 3:]
    return torch.cat([position, time], dim=1), columns(prediction.uncertainty, vertex)


def _at_vertex(context: LossContext, terms: Tensor) -> Tensor:
    """Averages of terms [B, 4] at vertex position and time, 0 at other labels [L]."""
    means = weighted_mean(terms, context.event_weights).unbind()
    indices = label_indices(_VERTEX, context)
    return at_labels(dict(zip(indices, means, strict=True)), len(context.label_names))
