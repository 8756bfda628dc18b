"""Input and output types of networks: the only types that models and losses share.

A model named by a config is any callable ``model(spec, **model_kwargs) -> Network``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.nn.density_layout import DensityShape
from dnn_reco.transform import TransformationModel

Hits = HitBatch
"""Older name, for users' own networks."""


@dataclass(frozen=True)
class LabelKeys:
    """Names of the labels with a special meaning for networks and losses (None: not set).

    Attributes
    ----------
    zenith, azimuth, dir_x, dir_y, dir_z
        The label that `label_zenith_key`, … names.
    pid
        The classification labels (`label_pid_keys`).
    particle
        Labels by the property of the reconstructed particle they hold (`label_particle_keys`).
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
    """Properties of the data that a network needs.

    Attributes
    ----------
    transformation
        The transformation model: names of labels, flags and moments.
    dom_init_values
        Values [F] of bins that are not listed in the file (`DOM_init_values`), untransformed.
    label_keys
        Names of special labels.
    data_format
        Format of the input features (`data_handler_data_format`); None: as their number suggests.
    """

    transformation: TransformationModel
    dom_init_values: NDArray[np.float64]
    label_keys: LabelKeys
    data_format: str | None = None

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
    """Prediction of a network for B events; all tensors but the last [B, L].

    Attributes
    ----------
    labels_trafo, uncertainty_trafo
        Labels and their uncertainties in the transformed (normalised) space.
    labels, uncertainty
        The same in physical units; for labels with logarithm the uncertainty is that of ln(1 + x).
    logits
        Input of the sigmoid for classification labels, 0 for all other labels.
    shapes
        Shapes of densities [B, P], as the network's `density_layout` defines; P is 0 without
        such densities. None is replaced by no columns.
    """

    labels_trafo: Tensor
    uncertainty_trafo: Tensor
    labels: Tensor
    uncertainty: Tensor
    logits: Tensor
    shapes: Tensor = cast(Tensor, None)  # noqa: RUF009

    def __post_init__(self) -> None:
        if cast(Tensor | None, self.shapes) is None:
            object.__setattr__(self, "shapes", _no_columns(self.labels))


def _no_columns(values: object) -> Tensor | None:
    """None of the columns of [B, L]; None for what is no such tensor, as users may give."""
    return values[:, :0] if isinstance(values, Tensor) and values.dim() == 2 else None


class Network(Protocol):
    """The part of a `torch.nn.Module` that training and inference use.

    A network whose `forward` has an argument `misc` is called with the misc data of the events
    (:class:`dnn_reco.nn.misc_data.MiscData`) as well. `parameter_groups` may be absent: see
    :func:`dnn_reco.nn.own_network.parameter_groups`; so may `density_layout`, without which all
    densities are the default ones.
    """

    def __call__(self, hits: HitBatch) -> Prediction:
        """Predict labels and uncertainties of a batch of events."""

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """All parameters."""

    def train(self, mode: bool = True) -> Any:
        """Switch to training mode: dropout and batch statistics (see `torch.nn.Module`)."""

    def eval(self) -> Any:
        """Switch to inference mode."""

    def to(self, device: torch.device) -> Any:
        """Move all parameters and buffers."""

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """All parameters by name."""

    def state_dict(self) -> dict[str, Any]:
        """Parameters and persistent buffers, by name."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Load parameters and buffers from the result of `state_dict`."""


def density_layout(network: object) -> tuple[DensityShape, ...]:
    """The shapes of densities that a network predicts, its `density_layout`; empty: none."""
    layout: tuple[DensityShape, ...] = getattr(network, "density_layout", ())
    return layout


@runtime_checkable
class TruncatingNetwork(Protocol):
    """A network that reads a limited number of hits per event, and counts the truncated ones.

    Attributes
    ----------
    num_hits_read, num_hits_truncated
        Number of hits that it has read so far, and of those dropped by truncation.
    """

    num_hits_read: int
    num_hits_truncated: int


def share_of_hits_truncated(network: object) -> float | None:
    """Fraction of the hits so far that a network dropped by truncation; None: it reads all."""
    if not isinstance(network, TruncatingNetwork):
        return None
    num_hits = network.num_hits_read + network.num_hits_truncated
    return network.num_hits_truncated / max(num_hits, 1)
