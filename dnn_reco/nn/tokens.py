"""Inputs of a transformer: features of each hit DOM, and of each event.

Times and positions are also given relative to their charge-weighted mean, since differences within
the event matter most. All numbers are of order 1. The moments of the transformation model are not
used: they are over all DOMs, most of which have no hit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dnn_reco.config.value_types import Allowed, WholeNumber
from dnn_reco.data.first_pulses import NUM_SUMMARY_FEATURES, num_first_pulses
from dnn_reco.data.hit_batch import HitBatch, count_hits
from dnn_reco.detector.constants import SPEED_OF_FIRST_LIGHT
from dnn_reco.detector.geometry import NUM_DOMS, NUM_DOMS_PER_STRING, dom_positions, string_and_om
from dnn_reco.detector.grid import NUM_MAIN_STRINGS
from dnn_reco.errors import ModelError
from dnn_reco.nn.direction import rotate_about_z
from dnn_reco.nn.kernel_arguments import InputConstants

_LENGTH = 500.0  # [m], half the height of the detector
_LONGEST_WAVE = 2000.0  # [m]
_AXIS_STRING = 36  # about which the hexagonal grid is mapped to itself by rotations of 60°
NUM_EVENT_INPUTS = 2 + 4 + 10
"""Number of inputs of an event: charge and hits, mean coordinates, covariance."""
AUTO: Literal["auto"] = "auto"
Features = Annotated[
    Sequence[WholeNumber] | Literal["auto"],
    Allowed("auto, or a list of input features, from 0"),
]


@dataclass(frozen=True)
class FeatureRoles:
    """The roles of the input features of a DOM.

    Attributes
    ----------
    time
        The feature that holds the time of the first pulse [ns]; None if there is none.
    late_times
        Features that hold later times [ns], relative to the same time offset.
    charges
        Features whose sum is the charge of the DOM [PE].
    parts_of_charge
        Features that hold a part of this charge again, the first pulse's among others.
    later_pulses
        Features that hold the charge of a later pulse again; 0 if a DOM has only one.
    """

    time: int | None
    late_times: tuple[int, ...]
    charges: tuple[int, ...]
    parts_of_charge: tuple[int, ...] = ()
    later_pulses: tuple[int, ...] = ()

    @property
    def times(self) -> tuple[int, ...]:
        """All features that hold times, the first pulse's first."""
        return () if self.time is None else (self.time, *self.late_times)

    @property
    def scaling(self) -> tuple[int, ...]:
        """All features that grow with the charge."""
        return (*self.charge_of_one_pulse, *self.later_pulses)

    @property
    def charge_of_one_pulse(self) -> tuple[int, ...]:
        """All features that hold the charge of the pulse if a DOM has only one."""
        return (*self.charges, *self.parts_of_charge)

    @classmethod
    def of(
        cls,
        num_bins: int,
        time: int | Literal["auto"] | None,
        late_times: Features,
        charges: Features,
        data_format: str | None = None,
    ) -> "FeatureRoles":
        """The roles of a config; `auto`: those of the format, or of the number of features.

        Raises
        ------
        ModelError
            If there is no such feature, or the format has more of them.
        """
        known = _known_roles(num_bins, data_format)
        first = known.time if isinstance(time, str) else time
        if first is not None:
            first = _feature("time_feature", first, num_bins)
        late = _features("late_time_features", late_times, known.late_times, num_bins)
        roles = cls(first, late if first is not None else (), ())
        others = [each for each in known.charges if each not in roles.times]
        summed = _features("charge_features", charges, others, num_bins)
        taken = (*roles.times, *summed)
        parts, later = (
            tuple(each for each in features if each not in taken)
            for features in (known.parts_of_charge, known.later_pulses)
        )
        return replace(roles, charges=summed, parts_of_charge=parts, later_pulses=later)

    def charge(self, features: Tensor) -> Tensor:
        """Charge of each hit [k] in PE, at least 0; 1 if no feature holds it."""
        if not self.charges:
            return torch.ones_like(features[:, 0])
        parts = [features[:, columns] for columns in runs(self.charges)]
        return torch.cat(parts, dim=1).sum(dim=1).clamp(min=0)


def runs(columns: Sequence[int]) -> list[slice]:
    """Columns as slices of consecutive ones, in their order.

    An index by a list of numbers would be copied to a GPU each time, which waits for it.
    """
    slices: list[slice] = []
    for column in columns:
        if slices and slices[-1].stop == column:
            slices[-1] = slice(slices[-1].start, column + 1)
        else:
            slices.append(slice(column, column + 1))
    return slices


_SUMMARY = FeatureRoles(time=3, late_times=(4, 5, 6, 7), charges=(0,), parts_of_charge=(1, 2))
_REDUCED_SUMMARY = FeatureRoles(time=1, late_times=(), charges=(0,))
# Roles by the number of features, and this number of known formats (see `dnn_reco.data.features`).
_KNOWN_ROLES = {9: _SUMMARY, 3: _REDUCED_SUMMARY}
_NUM_FEATURES = {"pulse_summmary_clipped": 9, "reduced_summary_statistics_data": 3}


def _known_roles(num_bins: int, data_format: str | None) -> FeatureRoles:
    """The roles of the features of a format; None: of the known one with this number of them.

    In others all features are charges.
    """
    others = FeatureRoles(None, (), tuple(range(num_bins)))
    if data_format is None:
        return _KNOWN_ROLES.get(num_bins, others)
    num_pulses = num_first_pulses(data_format)
    if num_pulses is not None:
        num_features = NUM_SUMMARY_FEATURES + 2 * num_pulses
    elif data_format in _NUM_FEATURES:
        num_features = _NUM_FEATURES[data_format]
    else:
        return others
    if num_features > num_bins:
        raise ModelError(
            f"the format '{data_format}' has {num_features} features, but the model has "
            f"{num_bins}: set data_handler_num_bins to {num_features}, or name the format of the "
            "data with data_handler_data_format."
        )
    return _KNOWN_ROLES[num_features] if num_pulses is None else _roles_with_pulses(num_pulses)


def _roles_with_pulses(num_pulses: int) -> FeatureRoles:
    """Those of the summary, then times of pulses, then their charges."""
    charge = NUM_SUMMARY_FEATURES + num_pulses  # of the first
    return replace(
        _SUMMARY,
        late_times=(*_SUMMARY.late_times, *range(NUM_SUMMARY_FEATURES, charge)),
        parts_of_charge=(*_SUMMARY.parts_of_charge, charge),
        later_pulses=tuple(range(charge + 1, charge + num_pulses)),
    )


def _features(
    key: str, given: Sequence[int] | str, known: Sequence[int], num_bins: int
) -> tuple[int, ...]:
    if isinstance(given, str):
        return tuple(known)
    return tuple(_feature(key, each, num_bins) for each in given)


def _feature(key: str, feature: int, num_bins: int) -> int:
    if feature < num_bins:
        return feature
    raise ModelError(
        f"model_kwargs.{key}: there is no input feature {feature!r}; a DOM has {num_bins}, "
        f"0 … {num_bins - 1}."
    )


@dataclass(frozen=True)
class TokenInputs:
    """Inputs of the tokens of hits and events.

    Attributes
    ----------
    hits
        Inputs of each hit [k, `num_hit_inputs`].
    events
        Inputs of each event [B, `num_event_inputs`]; 0 if it has no hit.
    coordinates
        Position of each hit, and time (0 if there is none) multiplied by the speed of light in ice,
        relative to their charge-weighted mean in the event [k, 4], in m.
    """

    hits: Tensor
    events: Tensor
    coordinates: Tensor


class HitInputs(nn.Module):
    """Computes the inputs of hit tokens and summary tokens.

    Of a hit: its features as sign(x) ln(1 + |x|) (later times as differences to the first);
    position in the detector and relative to the charge-weighted mean position of the event's hits;
    time relative to the charge-weighted mean time; whether the DOM has a high quantum efficiency
    (DeepCore); sines and cosines of relative position and time, and of the depth, with wavelengths
    of 2000 m / 2^i.

    Of an event: logarithm of charge and number of hits, mean position and time, and the
    charge-weighted covariance of position and time of its hits.

    Parameters
    ----------
    num_bins
        Number of input features F of a DOM.
    roles
        Their roles.
    num_waves
        Number of wavelengths.
    dtype
        Type of the output.
    """

    _positions: Tensor
    _axis: Tensor
    _is_efficient: Tensor
    _is_time: Tensor
    _waves: Tensor

    def __init__(
        self, num_bins: int, roles: FeatureRoles, num_waves: int, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.roles = roles
        string, _ = string_and_om(np.arange(NUM_DOMS))

        def constant(name: str, values: NDArray[np.generic]) -> None:
            self.register_buffer(name, torch.tensor(values, dtype=dtype), persistent=False)

        positions = dom_positions()
        top_of_axis = positions[NUM_DOMS_PER_STRING * (_AXIS_STRING - 1)]
        constant("_positions", positions)
        constant("_axis", top_of_axis * [1, 1, 0])
        constant("_is_efficient", (string > NUM_MAIN_STRINGS)[:, None])
        constant("_waves", 2 * math.pi / _LONGEST_WAVE * 2.0 ** np.arange(num_waves))
        is_time = torch.tensor([feature in roles.times for feature in range(num_bins)])
        self.register_buffer("_is_time", is_time, persistent=False)
        self.num_hit_inputs = num_bins + 8 + 10 * num_waves
        self.num_event_inputs = NUM_EVENT_INPUTS

    def accepts(self, hits: HitBatch) -> bool:
        """Whether hits, in the memory of the CPU, have these features and DOMs that exist."""
        dom = hits.dom.numpy()
        has_features = hits.features.shape[1] == len(self._is_time)
        return has_features and (len(dom) == 0 or bool(dom.min() >= 0 and dom.max() < NUM_DOMS))

    def constants(self) -> InputConstants:
        """What compiled functions compute the same with, on the CPU."""
        from dnn_reco.nn.vector_kernels import WIDTH

        num_waves = len(self._waves)
        return InputConstants(
            self._positions.numpy().ravel(),
            self._is_efficient.numpy().ravel(),
            self._axis.numpy(),
            np.pad(self._waves.numpy(), (0, -num_waves % WIDTH)),
            self._is_time.numpy().astype(np.float32),
            np.array(self.roles.charges, np.int64),
            len(self._is_time),
            num_waves,
            -1 if self.roles.time is None else self.roles.time,
            np.float32(SPEED_OF_FIRST_LIGHT),
            np.float32(1 / _LENGTH),
        )

    def forward(self, hits: HitBatch, rotation: Tensor | None = None) -> TokenInputs:
        """Inputs of all hits and events of a batch.

        Parameters
        ----------
        hits
            The hits.
        rotation
            Angle [B] in radian by which each event is rotated about string 36, the centre of
            DeepCore.
        """
        features = hits.features.to(self._positions.dtype)
        position = self._positions[hits.dom]
        if rotation is not None:
            from_axis = rotate_about_z(position - self._axis, rotation[hits.event])
            position = self._axis + from_axis
        charge = self.roles.charge(features)
        time = torch.zeros_like(charge) if self.roles.time is None else features[:, self.roles.time]
        coordinates = torch.cat([position, SPEED_OF_FIRST_LIGHT * time[:, None]], dim=1)
        events, centre = self._event_inputs(hits, charge, coordinates)
        relative = coordinates - centre[hits.event]
        waves = torch.cat([relative, position[:, 2:]], dim=1)[:, :, None] * self._waves
        of_hits = torch.cat(
            [
                self._logarithms(features, time),
                position / _LENGTH,
                relative / _LENGTH,
                self._is_efficient[hits.dom],
                waves.sin().flatten(1),
                waves.cos().flatten(1),
            ],
            dim=1,
        )
        return TokenInputs(of_hits, events, relative)

    def _logarithms(self, features: Tensor, time: Tensor) -> Tensor:
        """Features [k, F] as ± ln(1 + |x|) / 4, times relative to the first (which becomes 0)."""
        values = features - torch.where(self._is_time, time[:, None], 0)
        return values.sign() * values.abs().log1p() / 4

    def _event_inputs(
        self, hits: HitBatch, charge: Tensor, coordinates: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Inputs of events, and the charge-weighted mean coordinates of each [B, 4] in m."""

        def total(values: Tensor) -> Tensor:
            sums = values.new_zeros(hits.num_events, values.shape[1])
            return sums.index_add_(0, hits.event, values)

        weight = (charge + 1e-3)[:, None]
        sums = total(
            torch.cat([weight, charge[:, None], torch.ones_like(weight), weight * coordinates], 1)
        )
        norm = sums[:, :1].clamp(min=1e-3)
        centre = sums[:, 3:] / norm
        deviation = (coordinates - centre[hits.event]) / _LENGTH
        rows, columns = torch.triu_indices(4, 4, device=coordinates.device)
        covariance = total(weight * deviation[:, rows] * deviation[:, columns]) / norm
        # a root without a jump at 0, where the sign is that of rounding errors
        root = covariance / (covariance.abs() + 1e-6).sqrt()
        return torch.cat([sums[:, 1:3].log1p() / 4, centre / _LENGTH, root], dim=1), centre


def keep_highest_charge(hits: HitBatch, roles: FeatureRoles, max_hits: int) -> HitBatch:
    """Truncate each event to the hits of the highest charge.

    Of equal charges the DOM with the lower index is preferred.

    Parameters
    ----------
    hits
        Hits of a batch.
    roles
        Roles of their features, which give the charge.
    max_hits
        Maximum number of hits of an event.
    """
    on_host = None  # in graphs, which have no branches
    if not torch.compiler.is_exporting():
        hits = hits.with_counts()
        on_host = hits.counts
        if on_host is None or len(hits.event) == 0 or on_host.max() <= max_hits:
            return hits
        if hits.event.device.type == "cpu" and hits.is_in_order:
            return _without_lowest_charges(hits, roles.charge(hits.features), max_hits)
    charge = roles.charge(hits.features)
    counts = count_hits(hits.event, hits.num_events)
    order = hits.dom.argsort(stable=True)
    order = order[charge[order].argsort(descending=True, stable=True)]
    order = order[hits.event[order].argsort(stable=True)]  # by event, highest charge first
    rank = (
        torch.arange(order.shape[0], device=order.device)
        - (counts.cumsum(0) - counts)[hits.event[order]]
    )
    if on_host is None:
        return hits.select(order[rank < max_hits].sort().values, None)
    kept_counts = np.minimum(on_host, max_hits)
    dropped_last = torch.where(rank < max_hits, order, order.shape[0]).sort().values
    return hits.select(dropped_last[: kept_counts.sum()], kept_counts)


def _without_lowest_charges(hits: HitBatch, charge: Tensor, max_hits: int) -> HitBatch:
    """The same on the CPU: only events with more hits are sorted."""
    first_hit, kept = hits.first_hits(), np.ones(len(hits.event), bool)
    values, dom = charge.detach().numpy(), hits.dom.numpy()
    counts = np.diff(first_hit)
    for event in np.flatnonzero(counts > max_hits):
        of_event = slice(first_hit[event], first_hit[event + 1])
        order = np.lexsort([dom[of_event], -values[of_event]])
        kept[of_event][order[max_hits:]] = False
    return hits.select(torch.from_numpy(np.flatnonzero(kept)), np.minimum(counts, max_hits))
