"""The von Mises-Fisher likelihood of directions on the sphere."""

from torch import Tensor

from dnn_reco.modules.loss.interface import MIN_UNCERTAINTY, LossContext, Truth
from dnn_reco.modules.loss.reduction import at_labels, weighted_mean
from dnn_reco.modules.loss.special_labels import (
    DIRECTION_VECTOR,
    columns,
    label_indices,
    uses_labels,
)
from dnn_reco.nn.direction import concentration, log_fisher_norm, unit_vector
from dnn_reco.nn.interface import Prediction


@uses_labels(predicted=DIRECTION_VECTOR)
def von_mises_fisher(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """⟨-2 ln p⟩ of the von Mises-Fisher distribution around the predicted direction.

    p = κ / (4π sinh κ) exp(κ cos ψ) is the density on the sphere (per steradian) of the true
    direction, at the angle ψ from the predicted one. The uncertainties σ of the three components
    (physical units) give its concentration κ = 2 / (σx² + σy² + σz²): for small angles the expected
    squared length of the deviation is then σx² + σy² + σz².

    A third of it is assigned to each of the three labels, so that with equal label weights they sum
    to one likelihood, to be added to those of other labels; 0 at others. Vectors are normalised.
    """
    indices = label_indices(DIRECTION_VECTOR, context)
    predicted = unit_vector(columns(prediction.labels, indices))
    true = unit_vector(columns(truth.labels, indices))
    sigma = columns(prediction.uncertainty, indices).clamp(min=MIN_UNCERTAINTY)
    kappa = concentration(sigma)[:, None]
    # = 1 - cos ψ, exact for small angles
    deviation = (predicted - true).square().sum(dim=1, keepdim=True) / 2
    terms = 2 * (kappa * deviation - log_fisher_norm(kappa))
    third = weighted_mean(terms, context.event_weights).squeeze() / 3
    return at_labels(dict.fromkeys(indices, third), len(context.label_names))
