"""Input features of many events at once, made of what was read from their frames."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.bin_exclusions import FIRST_BIN, bin_exclusions, no_exclusions
from dnn_reco.data.data_settings import DataSettings, fit_num_bins
from dnn_reco.data.event_inputs import event_inputs, finite_pulses
from dnn_reco.data.exclusions import ExcludedDoms, ExcludedWindows, exclude
from dnn_reco.data.features import DomFeatures
from dnn_reco.data.hdf5.writer import DomMap
from dnn_reco.data.hypothesis_features import HYPOTHESIS_KEYS, cascade_classification_data
from dnn_reco.data.loss_features import mc_tree_input_data
from dnn_reco.data.pulses import Pulses, join, no_pulses
from dnn_reco.data.time_offsets import TimeReference, event_randoms, method_name
from dnn_reco.data_creation.frame_inputs import FrameInput
from dnn_reco.data_creation.own_format import OwnFormat, own_features


@dataclass(frozen=True)
class EventBlock:
    """What the features of n events are computed from.

    Attributes
    ----------
    pulses
        Pulses, those that are excluded left out.
    doms, windows
        What the events exclude.
    vertex
        x, y, z [m] and time [ns] of each event [n, 4]; NaN where unknown.
    exists
        Which events have what is needed [n]; the others have no pulses and exclude nothing.
    num_excluded
        Number of pulses of each event that are left out because they are excluded [n].
    """

    pulses: Pulses
    doms: ExcludedDoms
    windows: ExcludedWindows
    vertex: NDArray[np.float64]
    exists: NDArray[np.bool_]
    num_excluded: NDArray[np.int64]


@dataclass(frozen=True)
class EventInputs:
    """Input features of n events, as the tables of an event file hold them.

    Attributes
    ----------
    features
        Features and time offsets.
    exclusions
        Excluded bins.
    exists
        Which events have features [n]; the others have no hit.
    num_excluded
        Number of pulses of each event that are left out because they are excluded [n].
    seconds
        Time to prepare each event [n]: to read its frame, and its part of the time for all.
    """

    features: DomFeatures
    exclusions: DomMap
    exists: NDArray[np.bool_]
    num_excluded: NDArray[np.int64]
    seconds: NDArray[np.float64]


def join_inputs(inputs: Sequence[FrameInput], partial_exclusion: bool) -> EventBlock:
    """The events of frames as one block, without the pulses that they exclude.

    Parameters
    ----------
    inputs
        What was read of each of n frames.
    partial_exclusion
        Whether only pulses inside of time windows are left out, not all of the DOM.
    """
    pulses = join([no_pulses(), *(each.pulses for each in inputs)])
    doms = [each.doms for each in inputs]
    windows = [each.windows for each in inputs]
    of_doms = ExcludedDoms(
        _events([len(d.dom) for d in doms]), _joined([d.dom for d in doms], np.int64)
    )
    of_windows = ExcludedWindows(
        _events([len(w.dom) for w in windows]),
        _joined([w.dom for w in windows], np.int64),
        _joined([w.start for w in windows], np.float64),
        _joined([w.stop for w in windows], np.float64),
    )
    kept = exclude(pulses, of_doms, of_windows, partial_exclusion)
    num = np.bincount(pulses.event, minlength=len(inputs))
    return EventBlock(
        pulses=kept,
        doms=of_doms,
        windows=of_windows,
        vertex=np.array([each.vertex for each in inputs]).reshape(-1, 4),
        exists=np.array([not each.missing for each in inputs], dtype=bool),
        num_excluded=num - np.bincount(kept.event, minlength=len(inputs)),
    )


def _events(sizes: Sequence[int]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(sizes)), sizes)


def _joined(parts: Sequence[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *parts])


def make_inputs(
    inputs: Sequence[FrameInput],
    settings: DataSettings,
    ids: NDArray[np.void],
    seed: int = 0,
    own: OwnFormat | None = None,
) -> EventInputs:
    """Input features of the events of frames; about a hundred at a time go fastest.

    Parameters
    ----------
    inputs
        What was read of each of n frames, see :func:`dnn_reco.data_creation.frame_inputs`.
    settings
        Settings of the features.
    ids
        Event ids [n], of type EVENT_ID.
    seed
        Seed of random time offsets, which else depend on the event id alone.
    own
        The user's function, if the data format is one.

    Raises
    ------
    ConfigError
        If such features cannot be computed.
    DataError
        If the user's function fails.
    """
    start = time.perf_counter()
    block = join_inputs(inputs, bool(settings.partial_exclusion))
    random = event_randoms(seed, ids)
    exclusions = no_exclusions(len(inputs))
    if own is not None:
        made, exclusions = _own_features(inputs, block, settings, random, own)
    elif settings.data_format == "mc_tree_input_data":
        made = fit_num_bins(mc_tree_input_data([each.losses for each in inputs]), settings)
    elif settings.data_format == "cascade_classification_data":
        made = _around_hypothesis(inputs, block, settings)
    else:
        made, _ = event_inputs(block.pulses, block.vertex, block.exists, settings, random)
        if settings.data_format in FIRST_BIN:
            exclusions = _excluded_bins(block, settings, random)
    elapsed = (time.perf_counter() - start) / max(len(inputs), 1)
    seconds = np.array([each.seconds for each in inputs], dtype=np.float64) + elapsed
    return EventInputs(made, exclusions, block.exists, block.num_excluded, seconds)


def _excluded_bins(
    block: EventBlock, settings: DataSettings, random: NDArray[np.float64]
) -> DomMap:
    """Excluded bins of formats with a histogram of charge."""
    doms, windows = block.doms, block.windows
    if not settings.partial_exclusion:
        doms = ExcludedDoms(np.append(doms.event, windows.event), np.append(doms.dom, windows.dom))
    pulses, _ = finite_pulses(block.pulses)
    reference = _reference(block, settings, random)
    first_bin = FIRST_BIN[settings.data_format]
    return bin_exclusions(pulses, doms, windows, settings.time_bins or (), reference, first_bin)


def _reference(
    block: EventBlock, settings: DataSettings, random: NDArray[np.float64]
) -> TimeReference:
    vertex = np.where(block.exists[:, None], block.vertex, 0.0)
    return TimeReference(method_name(settings.relative_time_method), vertex, random)


def _around_hypothesis(
    inputs: Sequence[FrameInput], block: EventBlock, settings: DataSettings
) -> DomFeatures:
    """Features of the format `cascade_classification_data`."""
    hypothesis = np.array([each.hypothesis for each in inputs]).reshape(-1, len(HYPOTHESIS_KEYS))
    hypothesis[~block.exists] = 1.0  # they have no pulses
    pulses, is_whole = finite_pulses(block.pulses)
    made = cascade_classification_data(pulses, hypothesis, settings.time_quantiles or ())
    is_usable = block.exists & is_whole
    made = replace(made, time_offset=np.where(is_usable, made.time_offset, np.nan))
    return fit_num_bins(made, settings)


def _own_features(
    inputs: Sequence[FrameInput],
    block: EventBlock,
    settings: DataSettings,
    random: NDArray[np.float64],
    own: OwnFormat,
) -> tuple[DomFeatures, DomMap]:
    """Features and excluded bins of a user's function."""
    pulses, is_whole = finite_pulses(block.pulses)
    excluded = (
        np.append(block.doms.event, block.windows.event),
        np.append(block.doms.dom, block.windows.dom),
    )
    reference, frames = _reference(block, settings, random), [each.frame for each in inputs]
    made, exclusions = own_features(own, pulses, excluded, settings, reference, frames)
    return replace(made, time_offset=np.where(is_whole, made.time_offset, np.nan)), exclusions
