"""Features of events some of which lack what is needed for them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.data_settings import DataSettings, features_of
from dnn_reco.data.features import DomFeatures, features_depend_on
from dnn_reco.data.pulses import Pulses


def event_inputs(
    pulses: Pulses,
    vertex: NDArray[np.float64],
    exists: NDArray[np.bool_],
    settings: DataSettings,
    random: NDArray[np.float64] | None = None,
) -> tuple[DomFeatures, NDArray[np.bool_]]:
    """Features of n events, and which of the events have any [n].

    An event without the vertex that its features are relative to has none. One with a pulse whose
    time or charge is not finite has features of the other pulses, and NaN as time offset.

    Parameters
    ----------
    pulses
        Pulses, those that are excluded left out.
    vertex
        x, y, z [m] and time [ns] of each event [n, 4]; NaN where unknown.
    exists
        Which of the events have pulses that features can be made from [n], be it none.
    settings
        Settings of the features.
    random
        Numbers in 0 … 1 of each event [n], for the method with a random offset.

    Raises
    ------
    ConfigError
        If such features cannot be computed.
    """
    has_vertex = np.asarray(np.isfinite(vertex).all(axis=1))
    if "vertex" in features_depend_on(settings.data_format, settings.relative_time_method):
        exists = exists & has_vertex
    finite, is_whole = finite_pulses(pulses)
    known_vertex = np.where(has_vertex[:, None], vertex, 0.0)
    made = features_of(finite, settings, known_vertex, random)
    return replace(made, time_offset=np.where(is_whole, made.time_offset, np.nan)), exists


def finite_pulses(pulses: Pulses) -> tuple[Pulses, NDArray[np.bool_]]:
    """The pulses with finite time and charge, and which events [n] have no others."""
    finite = np.isfinite(pulses.time) & np.isfinite(pulses.charge)
    if finite.all():
        return pulses, np.ones(pulses.num_events, dtype=bool)
    num_others = np.bincount(pulses.event[~finite], minlength=pulses.num_events)
    return pulses.select(finite), num_others == 0
