"""A transformer over hits: each hit DOM is a token.

No grid is filled, so that the cost of an event grows with its hits. Each DOM attends to all others
of the event; labels and uncertainties are computed from a summary token
(:mod:`dnn_reco.nn.density_heads`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass as settings_dataclass
from torch import Tensor, nn

from dnn_reco.config import DEFAULT_SEED
from dnn_reco.config.typed_settings import STRICT, typed_settings, with_newer_names
from dnn_reco.config.value_types import (
    Allowed,
    Flag,
    FreeSettings,
    PositiveWholeNumber,
    Precision,
    WholeNumber,
)
from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.errors import ModelError
from dnn_reco.nn.attention import RelativeBias, Trunk, init_to_variance
from dnn_reco.nn.augmentation import Augmentation
from dnn_reco.nn.density_heads import DensityHeads
from dnn_reco.nn.density_layout import DensityShape
from dnn_reco.nn.ensemble import Mixture
from dnn_reco.nn.fused_layers import numba_available
from dnn_reco.nn.fused_transformer import FusedTransformer
from dnn_reco.nn.interface import NetworkSpec, Prediction
from dnn_reco.nn.length_buckets import bucket_by_length
from dnn_reco.nn.model_kwargs import DTYPES
from dnn_reco.nn.predictor import autocast_disabled
from dnn_reco.nn.sharded_batch import dropout
from dnn_reco.nn.tokens import (
    AUTO,
    FeatureRoles,
    Features,
    HitInputs,
    TokenInputs,
    keep_highest_charge,
)


@dataclass(frozen=True)
class Size:
    """The size of a network.

    Attributes
    ----------
    width
        Dimension of a token.
    num_layers
        Number of transformer layers.
    num_heads
        Number of attention heads, a divisor of the width.
    hidden
        Hidden width of the MLP of each layer.
    max_tokens
        Maximum number of hit DOMs of an event; events are truncated to those of highest charge.
    """

    width: int
    num_layers: int
    num_heads: int
    hidden: int
    max_tokens: int


_SIZES = {
    "S": Size(width=64, num_layers=3, num_heads=2, hidden=128, max_tokens=256),
    "M": Size(width=192, num_layers=6, num_heads=6, hidden=768, max_tokens=512),
    "L": Size(width=384, num_layers=10, num_heads=12, hidden=1536, max_tokens=1024),
}


@settings_dataclass(frozen=True, config=STRICT)
class DomTransformerSettings:
    """The `model_kwargs` of :class:`DomTransformer`.

    Attributes
    ----------
    size
        `S` (for CPUs), `M` or `L`: the default of the next five.
    width, num_layers, num_heads, hidden, max_tokens
        See :class:`Size`.
    num_waves
        Number of wavelengths of the sines and cosines of position and time.
    time_feature, late_time_features, charge_features
        See :class:`dnn_reco.nn.tokens.FeatureRoles`; `auto`: derived from the
        format of the features, or from their number.
    dropout
        Dropout probability of the components of the summary token, in training.
    relative_bias
        Add an attention bias from the distance of two hits in space and time; each iteration takes
        four times as long on a CPU.
    heads
        See :func:`dnn_reco.nn.density_heads.choose_heads`.
    augmentation
        Random changes of hits in training: see :class:`dnn_reco.nn.augmentation.Augmentation`.
    test_time_rotations
        Test-time augmentation: predict each event at this number of rotations about string 36,
        evenly spaced, and take the mixture of the densities (:mod:`dnn_reco.nn.ensemble`); as with
        `rotate_events`, not for labels that are positions. 6 matches the symmetry of the grid, and
        takes six times as long. (Older name: `prediction_turns`.)
    random_seed
        Seed of the initial weights.
    dtype
        `float32` or `float64`.
    """

    size: Literal["S", "M", "L"] = "S"
    width: PositiveWholeNumber | None = None
    num_layers: PositiveWholeNumber | None = None
    num_heads: PositiveWholeNumber | None = None
    hidden: PositiveWholeNumber | None = None
    max_tokens: PositiveWholeNumber | None = None
    num_waves: PositiveWholeNumber = 8
    time_feature: Annotated[
        WholeNumber | Literal["auto"] | None, Allowed("auto, or an input feature, from 0")
    ] = AUTO
    late_time_features: Features = AUTO
    charge_features: Features = AUTO
    dropout: Annotated[float, Field(ge=0, lt=1), Allowed("a number from 0 to below 1")] = 0.0
    relative_bias: Flag = False
    heads: FreeSettings = field(default_factory=dict)
    augmentation: FreeSettings = field(default_factory=dict)
    test_time_rotations: PositiveWholeNumber = 1
    random_seed: WholeNumber | None = DEFAULT_SEED
    dtype: Precision = "float32"

    def __post_init__(self) -> None:
        shape = self.shape
        if shape.width % shape.num_heads:
            raise ValueError(
                f"the width {shape.width} cannot be divided among {shape.num_heads} heads "
                "('width', 'num_heads')"
            )

    @property
    def shape(self) -> Size:
        """The size, with the dimensions that are set explicitly."""
        given = {each.name: getattr(self, each.name) for each in fields(Size)}
        chosen = {name: value for name, value in given.items() if value is not None}
        return replace(_SIZES[self.size], **chosen)

    @classmethod
    def from_kwargs(cls, model_kwargs: Mapping[str, Any]) -> "DomTransformerSettings":
        """Validate the `model_kwargs` of a config.

        Raises
        ------
        ModelError
            If a setting is unknown, or has a wrong value.
        """
        newer = {"prediction_turns": "test_time_rotations"}
        renamed = with_newer_names(model_kwargs, newer, "model_kwargs", ModelError)
        return typed_settings(cls, renamed, "model_kwargs", ModelError)


class DomTransformer(nn.Module):
    """Attention over the hit DOMs of each event.

    Parameters
    ----------
    spec
        Properties of the data.
    model_kwargs
        See :class:`DomTransformerSettings`.

    Attributes
    ----------
    num_hits_read, num_hits_truncated
        Number of hits that the network has read so far, and of those dropped because of
        `max_tokens`.

    Raises
    ------
    ModelError
        If a setting is unknown or wrong.
    """

    def __init__(self, spec: NetworkSpec, **model_kwargs: Any) -> None:
        super().__init__()
        settings = DomTransformerSettings.from_kwargs(model_kwargs)
        self.settings = settings
        self.num_hits_read = self.num_hits_truncated = 0
        self._max_tokens = settings.shape.max_tokens
        dtype = DTYPES[settings.dtype]
        roles = FeatureRoles.of(
            spec.num_bins,
            settings.time_feature,
            settings.late_time_features,
            settings.charge_features,
            spec.data_format,
        )
        self.augmentation = Augmentation.from_kwargs(settings.augmentation, roles)
        seed = DEFAULT_SEED if settings.random_seed is None else settings.random_seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.inputs = HitInputs(spec.num_bins, roles, settings.num_waves, dtype)
            shape = settings.shape
            self.hit_tokens = _dense(self.inputs.num_hit_inputs, shape.width)
            self.event_tokens = _dense(self.inputs.num_event_inputs, shape.width)
            self.trunk = Trunk(shape.width, shape.num_layers, shape.num_heads, shape.hidden)
            self.relative_bias = RelativeBias(shape.num_heads) if settings.relative_bias else None
            self.heads = DensityHeads(spec, shape.width, settings.heads)
        self._fused = FusedTransformer(self.inputs, self.hit_tokens, self.event_tokens, self.trunk)
        self.mixture = Mixture(spec, [self.heads.layout] * settings.test_time_rotations)
        for name, rotates in (
            ("augmentation.rotate_events", self.augmentation.rotate_events is not None),
            ("test_time_rotations", settings.test_time_rotations > 1),
        ):
            if rotates and not self.heads.has_direction:
                raise ModelError(
                    f"model_kwargs.{name}: the labels have no direction with a density on the "
                    "sphere, which can be rotated back: remove this setting."
                )
        for parameter in self.parameters():
            parameter.data = parameter.data.to(dtype)

    @property
    def density_layout(self) -> tuple[DensityShape, ...]:
        """Shapes of densities that it predicts, in evaluation mode with test-time rotations."""
        return self.heads.layout if self.training else self.mixture.layout

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Weights of the uncertainty heads (`unc`), and all others (`pred`)."""
        unc = self.heads.uncertainty_parameters()
        of_unc = set(unc)
        return {"pred": [p for p in self.parameters() if p not in of_unc], "unc": unc}

    @property
    def computes_in_pieces(self) -> bool:
        """Whether it divides a batch among threads (see `dnn_reco.nn.threads`)."""
        return (
            numba_available()
            and self.relative_bias is None
            and self.settings.dtype == "float32"
            and self._fused.fits_vectors
        )

    def train(self, mode: bool = True) -> "DomTransformer":
        """As of `torch.nn.Module`."""
        if mode:
            self._fused.forget_weights()
        return super().train(mode)

    def forward(self, hits: HitBatch) -> Prediction:
        """Predict labels and uncertainties of a batch of events."""
        dtype, device = DTYPES[self.settings.dtype], hits.event.device
        if self.training:
            hits = self._truncate(self.augmentation.apply(hits, self.inputs.roles))
            return self._predict(
                hits, self.augmentation.rotation_angles(hits.num_events, device, dtype)
            )
        hits, num_rotations = self._truncate(hits), self.settings.test_time_rotations
        if num_rotations == 1:
            return self._predict(hits, None)
        angles = (2 * math.pi * number / num_rotations for number in range(num_rotations))
        mixed: Prediction = self.mixture(
            [
                self._predict(hits, torch.full((hits.num_events,), a, dtype=dtype, device=device))
                for a in angles
            ]
        )
        return mixed

    def _predict(self, hits: HitBatch, rotation: Tensor | None) -> Prediction:
        """Predict events rotated by angles [B] about string 36; the direction is rotated back."""
        if self.relative_bias is None and self._fused.accepts(hits):
            events = self.trunk.norm(self._fused(hits, rotation))
        else:
            events = self._attend_in_buckets(hits, self.inputs(hits, rotation))
        if self.training:
            events = dropout(events, self.settings.dropout)
        has_hits = hits.has_hits()
        with autocast_disabled(events.device):
            prediction: Prediction = self.heads(
                events.to(DTYPES[self.settings.dtype]), has_hits, rotation
            )
        return prediction

    def _attend_in_buckets(self, hits: HitBatch, inputs: TokenInputs) -> Tensor:
        """The summary token of each event [B, width] by operations of PyTorch."""
        layout = bucket_by_length(hits, inputs.hits.dtype)
        of_hits, of_events = self.hit_tokens(inputs.hits), self.event_tokens(inputs.events)
        tokens = inputs.hits.new_zeros(layout.num_rows, of_hits.shape[1])
        tokens = tokens.index_copy(0, layout.hits, of_hits.to(tokens.dtype))
        tokens = tokens.index_copy(0, layout.summary, of_events.to(tokens.dtype))
        biases = [bucket.bias for bucket in layout.buckets]
        if self.relative_bias is not None:
            biases = self.relative_bias(inputs.coordinates, layout)
        events: Tensor = self.trunk(tokens, layout, biases)
        return events

    def _truncate(self, hits: HitBatch) -> HitBatch:
        kept = keep_highest_charge(hits, self.inputs.roles, self._max_tokens)
        if torch.compiler.is_exporting():
            return kept
        self.num_hits_read += len(kept.event)
        self.num_hits_truncated += len(hits.event) - len(kept.event)
        return kept


def _dense(num_inputs: int, width: int) -> nn.Module:
    """An MLP from inputs to a token."""
    first, last = nn.Linear(num_inputs, 2 * width), nn.Linear(2 * width, width)
    init_to_variance(first)
    init_to_variance(last, 2.0)  # GELU halves the mean square, approximately
    return nn.Sequential(first, nn.GELU(), last)
