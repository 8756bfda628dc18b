"""Applying a trained network to events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.loader import to_tensors
from dnn_reco.modules.loss.residual import residual_trafo
from dnn_reco.nn.ensemble import Mixture
from dnn_reco.nn.interface import Network, NetworkSpec, Prediction
from dnn_reco.nn.label_transform import LabelTransform


@dataclass(frozen=True)
class Predictions:
    """What a network says of n events, beside the truth; physical units, columns are labels.

    Attributes
    ----------
    labels, uncertainty
        Predicted labels and their uncertainties [n, L].
    pull
        Residual over uncertainty, in the space in which the network was trained [n, L].
    true
        True labels [n, L].
    """

    labels: NDArray[np.float64]
    uncertainty: NDArray[np.float64]
    pull: NDArray[np.float64]
    true: NDArray[np.float64]


@torch.inference_mode()
def predict(
    network: Network,
    label_transform: LabelTransform,
    azimuth_key: str | None,
    events: EventDataset,
    batch_size: int = 256,
) -> Predictions:
    """Apply a network to all events of a set, in their order.

    Parameters
    ----------
    network
        In evaluation mode, on its device.
    label_transform
        Transformation of its labels, on the same device.
    azimuth_key
        Name of the azimuth label, whose residuals are taken modulo 2π.
    events
        The events.
    batch_size
        Events to predict at once.
    """
    period = label_transform.azimuth_period(events.names.labels, azimuth_key)
    parts: list[tuple[torch.Tensor, ...]] = []
    starts = range(0, len(events), batch_size)
    for start in tqdm(starts, desc="Reconstruction", unit="batch", leave=False, disable=None):
        numbers = np.arange(start, min(start + batch_size, len(events)))
        batch = to_tensors(events.read(numbers)).to(period.device)
        said = network(batch.hits)
        pull = _pull(said, label_transform(batch.labels), period)
        parts.append((said.labels, said.uncertainty, pull, batch.labels))
    columns = (torch.cat(column).double().cpu().numpy() for column in zip(*parts, strict=True))
    return Predictions(*columns)


def mix(said: Sequence[Predictions], spec: NetworkSpec) -> Predictions:
    """What several networks say of the same events as one: the mixture of their densities.

    Parameters
    ----------
    said
        What each says.
    spec
        Names and transformation of the labels, for the pulls.
    """
    transform = LabelTransform(spec.transformation)
    period = transform.azimuth_period(spec.label_names, spec.label_keys.azimuth)
    mixed = Mixture(spec).mix(
        torch.from_numpy(np.stack([each.labels for each in said])),
        torch.from_numpy(np.stack([each.uncertainty for each in said])),
    )
    true = said[0].true
    pull = _pull(mixed, transform(torch.from_numpy(true)), period)
    return Predictions(mixed.labels.numpy(), mixed.uncertainty.numpy(), pull.numpy(), true)


def _pull(said: Prediction, true_trafo: torch.Tensor, period: torch.Tensor) -> torch.Tensor:
    residual = residual_trafo(said.labels_trafo, true_trafo, period)
    return residual / said.uncertainty_trafo
