"""Functions of a user, written against the documentation of an older version, imports included."""

from typing import Any

import h5py
import numpy as np
import torch

from dnn_reco.modules.evaluation.interface import EvaluationContext, PredictedBatch
from dnn_reco.modules.loss.interface import LossContext, Truth
from dnn_reco.modules.loss.reduction import at_labels, weighted_mean
from dnn_reco.modules.loss.special_labels import label_indices, uses_labels
from dnn_reco.nn.direction import concentration, mean_angle
from dnn_reco.nn.interface import Hits, LabelKeys, NetworkSpec, Prediction

KEYS = ("label_zenith_key",)
seen: dict[str, Any] = {}


def load_labels(input_data, config, label_names=None, *args, **kwargs):
    """Two labels; the second one is made here."""
    with h5py.File(input_data, "r") as file:
        table = file[config["data_handler_label_key"]][()]
    zenith = table["PrimaryZenith"]
    return np.stack([zenith, np.cos(zenith)], axis=1), ["PrimaryZenith", "cos_zenith"]


def load_misc(input_data, config, misc_names=None, *args, **kwargs):
    with h5py.File(input_data, "r") as file:
        return file["MCPrimary"][()]["energy"][:, None], ["energy"]


def no_low_energies(
    data_handler, input_data, config, x_ic78, x_deepcore, labels, misc_data, time_range_start, *args
):
    """Events above some energy with a hit DOM in the main array."""
    has_hits = np.asarray(x_ic78)[..., 0].sum(axis=(1, 2, 3)) > 0
    return has_hits & (misc_data[:, data_handler.get_misc_index("energy")] > 50)


def harder_spectrum(truth, misc, config):
    """Give the events a spectrum that is harder by one power."""
    return misc["energy"][:, None]


@uses_labels(predicted=KEYS)
def cosine_of_zenith(prediction: Prediction, truth: Truth, context: LossContext):
    [zenith] = label_indices(KEYS, context)
    difference = prediction.labels[:, zenith].cos() - truth.labels[:, zenith].cos()
    mean = weighted_mean(difference.square()[:, None], context.event_weights)
    seen["loss_weights"] = context.event_weights
    return at_labels({zenith: mean[0]}, len(context.label_names))


def mean_zenith(train: PredictedBatch, val: PredictedBatch, context: EvaluationContext) -> None:
    column = context.label_names.index("PrimaryZenith")
    difference = val.prediction.labels[:, column] - val.batch.labels[:, column]
    context.print_line(f"zenith of {len(difference)} events after {context.iteration}")
    context.add_scalar("val", "zenith_bias", float(difference.mean()))


class SumNetwork(torch.nn.Module):
    """Sums of the features of an event times weights."""

    def __init__(self, spec: NetworkSpec, random_seed: int, dtype: str, scale: float) -> None:
        super().__init__()
        assert isinstance(spec.label_keys, LabelKeys)
        shape, kind = (spec.num_bins, len(spec.label_names)), getattr(torch, dtype)
        self.weights = torch.nn.Parameter(torch.full(shape, scale, dtype=kind))
        self.width = torch.nn.Parameter(torch.ones(shape[1], dtype=kind))

    def forward(self, hits: Hits) -> Prediction:
        sums = hits.features.new_zeros(hits.num_events, hits.features.shape[1])
        sums.index_add_(0, hits.event, hits.features.log1p())
        labels = sums @ self.weights
        sigma = self.width.abs().expand_as(labels)
        return Prediction(labels, sigma, labels, sigma, torch.zeros_like(labels))

    def parameter_groups(self) -> dict[str, list[torch.nn.Parameter]]:
        return {"pred": [self.weights], "unc": [self.width]}


def angular_error(prediction: Prediction, x: int, y: int, z: int) -> torch.Tensor:
    return mean_angle(concentration(prediction.uncertainty[:, [x, y, z]]))
