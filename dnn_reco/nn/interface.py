"""What goes into a network and what comes out: the only types that models and losses share.

A model named by a config is any callable ``model(spec, **model_kwargs) -> Network``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.transform import TransformationModel

Hits = HitBatch
"""Older name, for users' own networks."""


@dataclass(frozen=True)
class LabelKeys:
    """Names of the labels that networks and losses treat in a special way (None: there is none).

    Attributes
    ----------
    zenith, azimuth, dir_x, dir_y, dir_z
        The label that `label_zenith_key`, … names.
    pid
        The classification labels (`label_pid_keys`).
    particle
        Labels by the part they have in the reconstructed particle (`label_particle_keys`).
    """

    zenith: str | None = None
    azimuth: str | None = None
    dir_x: str | None = None
    dir_y: str | None = None
    dir_z: str | None = None
    pid: tuple[str, ...] = ()
    particle: Mapping[str, str] = field(default_factory=dict)

    def named_by(self, config_key: str) -> str | None:
        """The label that `label_zenith_key`, …, `label_particle_keys.pos_x`, … names, if any."""
        group, _, part = config_key.partition(".")
        if group == "label_particle_keys":
            return self.particle.get(part)
        name: str | None = getattr(self, group.removeprefix("label_").removesuffix("_key"))
        return name


@dataclass(frozen=True)
class NetworkSpec:
    """All that a network must know about the data it will see.

    Attributes
    ----------
    transformation
        Names of labels and features' flags, and the moments to transform with.
    dom_init_values
        What an unlisted bin holds [F] (`DOM_init_values`), untransformed.
    label_keys
        Names of special labels.
    """

    transformation: TransformationModel
    dom_init_values: NDArray[np.float64]
    label_keys: LabelKeys

    @property
    def num_bins(self) -> int:
        """Number of input features F of a DOM."""
        return self.transformation.settings.num_bins

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the L labels, in order."""
        return self.transformation.settings.label_names


@dataclass(frozen=True)
class Prediction:
    """What a network says of B events; all tensors [B, L].

    Attributes
    ----------
    labels_trafo, uncertainty_trafo
        Labels and their uncertainties in the transformed (normalised) space.
    labels, uncertainty
        The same in physical units; for labels with logarithm the uncertainty is that of ln(1 + x).
    logits
        For classification labels the value before the sigmoid, 0 for all other labels.
    """

    labels_trafo: Tensor
    uncertainty_trafo: Tensor
    labels: Tensor
    uncertainty: Tensor
    logits: Tensor


class Network(Protocol):
    """What training and inference ask of a `torch.nn.Module`."""

    def __call__(self, hits: HitBatch) -> Prediction:
        """Predict labels and uncertainties of a batch of events."""

    def parameter_groups(self) -> dict[str, list[torch.nn.Parameter]]:
        """Trainable parameters by the names that `vars` of an optimizer may use (`pred`, `unc`)."""

    def train(self, mode: bool = True) -> Any:
        """Switch dropout and batch statistics on (see `torch.nn.Module`)."""

    def eval(self) -> Any:
        """Switch them off."""

    def to(self, device: torch.device) -> Any:
        """Move all parameters and buffers."""

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """All parameters by name."""

    def state_dict(self) -> dict[str, Any]:
        """Parameters and buffers to be saved, by name."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Take over what `state_dict` gave."""


@runtime_checkable
class TruncatingNetwork(Protocol):
    """A network that reads at most so many hits of an event, and counts.

    Attributes
    ----------
    num_hits_read, num_hits_cut
        How many hits it has read so far, and how many it has left out.
    """

    num_hits_read: int
    num_hits_truncated: int


def share_of_hits_truncated(network: object) -> float | None:
    """Share of the hits of all events so far that a network did not read; None: it reads all."""
    if not isinstance(network, TruncatingNetwork):
        return None
    num_hits = network.num_hits_read + network.num_hits_truncated
    return network.num_hits_truncated / max(num_hits, 1)
