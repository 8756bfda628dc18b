"""A network on dense tensors: ordinary 3D convolutions over the grid of the main array."""

import torch
from torch import nn

from dnn_reco.plugins import Densify, HitBatch, LabelTransform, NetworkSpec, Prediction


class Convolutions(nn.Module):
    """Convolutions over strings and depth, the mean over the grid, then dense layers."""

    def __init__(
        self, spec: NetworkSpec, channels: int = 16, random_seed: int = 42, dtype: str = "float32"
    ) -> None:
        super().__init__()
        torch.manual_seed(random_seed)
        num_labels, kind = len(spec.label_names), getattr(torch, dtype)
        # from hits to transformed arrays [B, 10, 10, 60, F] and [B, 8, 60, F]
        self.densify = Densify(spec, keep_prob_dom=1.0, dtype=kind)
        self.main_array = nn.Sequential(
            nn.Conv3d(spec.num_bins, channels, 3, stride=(1, 1, 2), padding=1),
            nn.ELU(),
            nn.Conv3d(channels, channels, 3, stride=2, padding=1),
            nn.ELU(),
        ).to(kind)
        self.labels = nn.Linear(channels + spec.num_bins, num_labels, dtype=kind)
        self.uncertainty = nn.Linear(channels + spec.num_bins, num_labels, dtype=kind)
        self.transform = LabelTransform(spec.transformation)

    def forward(self, hits: HitBatch) -> Prediction:
        """Predict the labels of a batch of events."""
        main_array, deepcore = self.densify(hits)
        channels = self.main_array(main_array.movedim(-1, 1))  # PyTorch: channels come second
        events = torch.cat([channels.mean(dim=(2, 3, 4)), deepcore.mean(dim=(1, 2))], dim=1)
        labels = self.labels(events)
        uncertainty = nn.functional.softplus(self.uncertainty(events)) + 1e-3
        return Prediction(
            labels_trafo=labels,
            uncertainty_trafo=uncertainty,
            labels=self.transform.inverse(labels),
            uncertainty=self.transform.unscale_uncertainty(uncertainty),
            logits=torch.zeros_like(labels),  # used for classification labels only
        )
