"""A loader of misc data, and a network and a loss that read them."""

from typing import Any

import numpy as np
import torch
from older_plugins import load_misc
from tiny_network import TinyNetwork

from dnn_reco.plugins import HitBatch, LossContext, MiscData, Prediction, Truth

seen: dict[str, list[Any]] = {"network": [], "loss": []}


def load_energy_and_sign(input_data, config, misc_names=None, *args, **kwargs):
    """The energy of the primary, and a column down to -1."""
    energy, _ = load_misc(input_data, config)
    return np.concatenate([energy, np.sign(energy - 1e3)], axis=1), ["energy", "sign"]


class ReadsMisc(TinyNetwork):
    """Adds the transformed energy to all labels."""

    def forward(self, hits: HitBatch, misc: MiscData) -> Prediction:
        plain = super().forward(hits)
        seen["network"].append((len(misc), hits.num_events, misc["energy"]))
        shift = misc.values_trafo[:, [misc.index("energy")]]
        labels = plain.labels + shift
        return Prediction(labels, plain.uncertainty, labels, plain.uncertainty, plain.logits)


def loss_with_misc(prediction: Prediction, truth: Truth, context: LossContext) -> torch.Tensor:
    """Mean square with weights from the raw energy."""
    assert context.misc is not None
    seen["loss"].append(context.misc)
    weights = context.misc["energy"][:, None].log1p()
    return (context.residual_trafo.square() * weights).sum(dim=0) / weights.sum()


def loss_of_logarithm(prediction, truth, context):
    return context.residual_trafo.square().mean(dim=0) + context.misc.values_trafo.mean() * 0
