"""Simulated events in memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dnn_reco.data.event_table import EventTable, NamedColumns
from dnn_reco.simulation.dataset import simulate, simulated_ids
from dnn_reco.simulation.settings import SimulationSettings


def simulated_events(settings: SimulationSettings, num_events: int) -> EventTable:
    """Simulated events: those of the first file of a simulated data set.

    Parameters
    ----------
    settings
        What to simulate.
    num_events
        Number of events, at least 1.

    Raises
    ------
    DataError
        If next to no event triggers the detector.
    """
    events = simulate(settings, num_events)
    features = settings.features(events.pulses)
    return EventTable(
        replace(features.hits, features=features.hits.features.astype(np.float32)),
        NamedColumns(tuple(events.labels), np.stack(list(events.labels.values()), axis=1)),
        NamedColumns((), np.empty((num_events, 0))),
        features.time_offset,
        simulated_ids(num_events, 0),
        (settings.data_settings,),
    )
