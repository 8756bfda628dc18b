"""Applying a trained network to events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from dnn_reco.data.batches import as_batch
from dnn_reco.data.event_set import EventSet
from dnn_reco.modules.loss.residual import residual_trafo
from dnn_reco.nn.interface import Network
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
    events: EventSet,
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
        batch = as_batch(events.read(numbers)).to(period.device)
        said = network(batch.hits)
        true_trafo = label_transform(batch.labels)
        residual = residual_trafo(said.labels_trafo, true_trafo, period)
        pull = residual / said.uncertainty_trafo
        parts.append((said.labels, said.uncertainty, pull, batch.labels))
    columns = (torch.cat(column).double().cpu().numpy() for column in zip(*parts, strict=True))
    return Predictions(*columns)
