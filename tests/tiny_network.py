"""A network of a few weights, for tests that train many times."""

from typing import Any

import torch
from torch import nn

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.nn.interface import NetworkSpec, Prediction


class TinyNetwork(nn.Module):
    """Sums over the hits of an event, normalised over the batch, times two matrices of weights.

    All weights are matrices, as some optimizers want them.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        random_seed: int,
        dtype: str,
        dropout: float = 0.2,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(random_seed)
        shape, kind = (spec.num_bins, len(spec.label_names)), getattr(torch, dtype)
        self.prediction = nn.Parameter(torch.randn(shape, generator=random, dtype=kind))
        self.uncertainty = nn.Parameter(torch.randn(shape, generator=random, dtype=kind) * 0.1)
        norm = nn.BatchNorm1d(spec.num_bins, affine=False, dtype=kind)
        self.norm = norm if batch_norm else nn.Identity()
        self._dropout = dropout

    def forward(self, hits: HitBatch) -> Prediction:
        """Predict; labels in physical units are not told apart from transformed ones."""
        sums = hits.features.new_zeros(hits.num_events, hits.features.shape[1])
        sums.index_add_(0, hits.event, hits.features.abs().log1p() / 100)
        x = nn.functional.dropout(self.norm(sums), self._dropout, self.training)
        labels = x @ self.prediction
        uncertainty = nn.functional.softplus(x.detach() @ self.uncertainty) + 0.1
        return Prediction(labels, uncertainty, labels, uncertainty, torch.zeros_like(labels))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Weights by the names that `vars` uses."""
        return {"pred": [self.prediction], "unc": [self.uncertainty]}


def tiny(**kwargs: Any) -> dict[str, Any]:
    """The config keys that ask for it."""
    return {"model_class": "tiny_network.TinyNetwork", "model_kwargs": kwargs}


SPOILT_ENERGY = 1e9


def loss_of_spoilt_events(prediction, truth, context):
    """Gaussian likelihood; not a number, nor its gradient, for events of a certain energy."""
    energy = truth.labels[:, context.label_names.index("EnergyVisible"), None]
    spoilt = torch.where(energy == SPOILT_ENERGY, torch.nan, 1.0)
    likelihood = (
        2 * prediction.uncertainty_trafo.log()
        + (context.residual_trafo / prediction.uncertainty_trafo).square()
    )
    return (likelihood * spoilt).mean(dim=0)
