"""A network on hits: a sum over the hit DOMs of an event (deep sets)."""

import torch
from torch import nn

from dnn_reco.detector.geometry import dom_positions
from dnn_reco.plugins import HitBatch, LabelTransform, NetworkSpec, Prediction


class DeepSets(nn.Module):
    """Dense layers for each hit, the sum over the hits, then dense layers for each event."""

    def __init__(
        self, spec: NetworkSpec, width: int = 64, random_seed: int = 42, dtype: str = "float32"
    ) -> None:
        super().__init__()
        torch.manual_seed(random_seed)
        num_labels, kind = len(spec.label_names), getattr(torch, dtype)
        self.each_hit = nn.Sequential(
            nn.Linear(spec.num_bins + 3, width), nn.ELU(), nn.Linear(width, width), nn.ELU()
        ).to(kind)
        self.labels = nn.Linear(width, num_labels, dtype=kind)
        self.uncertainty = nn.Linear(width, num_labels, dtype=kind)
        self.transform = LabelTransform(spec.transformation)
        kilometres = torch.tensor(dom_positions() / 1000, dtype=kind)
        self.register_buffer("positions", kilometres, persistent=False)

    def forward(self, hits: HitBatch) -> Prediction:
        """Predict the labels of a batch of events."""
        features = hits.features.sign() * hits.features.abs().log1p()
        tokens = self.each_hit(torch.cat([features, self.positions[hits.dom]], dim=1))
        # [hits, width] -> [events, width]; an event without hits keeps zeros
        events = tokens.new_zeros(hits.num_events, tokens.shape[1])
        events = events.index_add(0, hits.event, tokens)
        events = events.sign() * events.abs().log1p()
        labels = self.labels(events)
        uncertainty = nn.functional.softplus(self.uncertainty(events)) + 1e-3
        return Prediction(
            labels_trafo=labels,
            uncertainty_trafo=uncertainty,
            labels=self.transform.inverse(labels),
            uncertainty=self.transform.unscale_uncertainty(uncertainty),
            logits=torch.zeros_like(labels),  # used for classification labels only
        )
