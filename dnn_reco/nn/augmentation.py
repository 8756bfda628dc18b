"""Data augmentation of hits in training: systematic uncertainties of the simulation.

A network trained with it becomes insensitive to what is varied, and its uncertainties include it.
All random numbers are drawn by step, event and DOM (:mod:`dnn_reco.nn.counter_rng`), so that they
do not depend on the number of processes.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from dnn_reco.config.typed_settings import STRICT, typed_settings, with_newer_names
from dnn_reco.config.value_types import Allowed, NotNegativeNumber
from dnn_reco.data.hit_batch import HitBatch, count_hits
from dnn_reco.detector.geometry import NUM_DOMS
from dnn_reco.errors import ModelError
from dnn_reco.nn.counter_rng import new_key, normal, uniform
from dnn_reco.nn.sharded_batch import shard_start
from dnn_reco.nn.tokens import FeatureRoles, runs

# Number of slots per expected noise hit; each is filled or not, so that the number of noise hits is
# nearly Poisson distributed.
_SLOTS_PER_HIT = 8
# Charge of a noise hit [PE]: that of a single photon.
_NOISE_CHARGE, _NOISE_SPREAD = 1.0, 0.3


@dataclass(frozen=True, config=STRICT)
class Augmentation:
    """The settings of augmentation; by default nothing is changed.

    Attributes
    ----------
    drop_doms
        Probability that a hit DOM is dropped: DOMs that do not work, or are masked.
    noise_hits
        Mean number of hits of about 1 PE that are added to an event, anywhere in the detector and
        between its first and last hit: more noise than simulated.
    jitter_times
        Standard deviation [ns] of a shift of all times of a DOM: calibration, scattering of light.
    scale_charges
        Standard deviation of the logarithm of a factor on all charges of an event: the efficiency
        of the DOMs, the clearness of the ice.
    vary_charges
        The same for each DOM independently: the efficiency of single DOMs, local ice.
    rotate_events
        `sixths`: rotate events by multiples of 60° about string 36, `any`: by any angle; the
        predicted direction is rotated back. The grid of strings is almost the same after a rotation
        by 60°, so that an event counts as six; the anisotropy of the ice is averaged out. Not for
        labels that are positions. (Older name: `turn_events`.)
    """

    drop_doms: Annotated[float, Field(ge=0, lt=1), Allowed("a number from 0 to below 1")] = 0.0
    noise_hits: NotNegativeNumber = 0.0
    jitter_times: NotNegativeNumber = 0.0
    scale_charges: NotNegativeNumber = 0.0
    vary_charges: NotNegativeNumber = 0.0
    rotate_events: Literal["sixths", "any"] | None = None

    @classmethod
    def from_kwargs(cls, settings: Mapping[str, Any], roles: FeatureRoles) -> "Augmentation":
        """Validate the settings of a config.

        Parameters
        ----------
        settings
            The block `augmentation` of `model_kwargs`.
        roles
            The roles of the input features.

        Raises
        ------
        ModelError
            If a setting is unknown or wrong, or changes what the input features do not hold.
        """
        key = "model_kwargs.augmentation"
        renamed = with_newer_names(settings, {"turn_events": "rotate_events"}, key, ModelError)
        augmentation = typed_settings(cls, renamed, key, ModelError)
        if roles.time is None and (augmentation.jitter_times or augmentation.noise_hits):
            raise ModelError(
                f"{key}: jitter_times and noise_hits need a feature that holds the time of the "
                "first pulse: name it (model_kwargs.time_feature), or remove them."
            )
        return augmentation

    def apply(self, hits: HitBatch, roles: FeatureRoles) -> HitBatch:
        """The hits of a batch after all changes except the rotation."""
        if self.noise_hits:
            hits = self._add_noise(hits, roles)
        of_dom = self._counter(hits.event, hits.dom)
        if self.drop_doms:
            drawn = uniform(new_key(), of_dom, torch.float64)
            kept = (drawn >= self.drop_doms).nonzero().squeeze(1)
            hits, of_dom = hits.select(kept, None), of_dom[kept]
        features = hits.features.clone()
        of_event = hits.event + shard_start()
        for strength, counter in ((self.scale_charges, of_event), (self.vary_charges, of_dom)):
            if strength:
                factor = (strength * normal(new_key(), counter, features.dtype)).exp()
                for columns in runs(roles.scaling):
                    features[:, columns] *= factor[:, None]
        if self.jitter_times:
            shift = self.jitter_times * normal(new_key(), of_dom, features.dtype)
            for columns in runs(roles.times):
                features[:, columns] += shift[:, None]
        return replace(hits, features=features)

    def rotation_angles(
        self, num_events: int, device: torch.device, dtype: torch.dtype
    ) -> Tensor | None:
        """Angle [B] in radian by which each event is rotated; None: no rotation."""
        if self.rotate_events is None:
            return None
        event = torch.arange(num_events, device=device) + shard_start()
        fraction = uniform(new_key(), event, dtype)
        if self.rotate_events == "sixths":
            fraction = (6 * fraction).floor() / 6
        return 2 * math.pi * fraction

    def _add_noise(self, hits: HitBatch, roles: FeatureRoles) -> HitBatch:
        num_slots = math.ceil(_SLOTS_PER_HIT * self.noise_hits)
        features, time = hits.features, hits.features[:, roles.times[0]]
        first, last = (
            time.new_zeros(hits.num_events).scatter_reduce(
                0, hits.event, time, how, include_self=False
            )
            for how in ("amin", "amax")
        )
        slots = torch.arange(hits.num_events * num_slots, device=hits.event.device)
        event, counter = slots // num_slots, slots + shard_start() * num_slots
        filled = uniform(new_key(), counter, torch.float64) < self.noise_hits / num_slots
        dom = (uniform(new_key(), counter, torch.float64) * NUM_DOMS).long()
        filled &= (count_hits(hits.event, hits.num_events) > 0)[event]
        # DOMs that are hit already are not changed
        filled &= ~_contains(hits.event * NUM_DOMS + hits.dom, event * NUM_DOMS + dom)
        chosen = filled.nonzero().squeeze(1)
        event, dom, counter = event[chosen], dom[chosen], counter[chosen]
        fraction = uniform(new_key(), counter, features.dtype)
        charge = _NOISE_CHARGE + _NOISE_SPREAD * normal(new_key(), counter, features.dtype)
        added = features.new_zeros(len(event), features.shape[1])
        for columns in runs(roles.charge_of_one_pulse):
            added[:, columns] = charge.clamp(min=0.1)[:, None]
        for columns in runs(roles.times):
            added[:, columns] = (first[event] + fraction * (last - first)[event])[:, None]
        order = torch.cat([hits.event, event]).argsort(stable=True)
        return HitBatch(
            hits.num_events,
            torch.cat([hits.event, event])[order],
            torch.cat([hits.dom, dom])[order],
            torch.cat([features, added])[order],
        )

    def _counter(self, event: Tensor, dom: Tensor) -> Tensor:
        """A number for each hit [k], unique in the batch of all processes."""
        return (event + shard_start()) * NUM_DOMS + dom


def _contains(numbers: Tensor, wanted: Tensor) -> Tensor:
    """Whether each of the wanted [n] is among some numbers [k].

    As `torch.isin`, without waiting for a GPU.
    """
    if len(numbers) == 0:
        return torch.zeros_like(wanted, dtype=torch.bool)
    ordered = numbers.sort().values
    place = torch.searchsorted(ordered, wanted).clamp(max=len(ordered) - 1)
    return ordered[place] == wanted
