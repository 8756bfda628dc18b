"""A loss: the likelihood of a Laplace distribution, which is robust against outliers."""

from dnn_reco.plugins import MIN_UNCERTAINTY, weighted_mean


def laplace_likelihood(prediction, truth, context):
    """Return the mean of 2 ln σ + 2 √2 |d| / σ over the events, for each label: a tensor [labels].

    d is the transformed residual, σ the predicted uncertainty, the standard deviation of the
    distribution.
    """
    sigma = prediction.uncertainty_trafo.clamp(min=MIN_UNCERTAINTY)
    terms = 2 * sigma.log() + 2 * 2**0.5 * context.residual_trafo.abs() / sigma
    return weighted_mean(terms, context.event_weights)
