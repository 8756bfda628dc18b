"""Write events of your own as a training file: pulses in arrays -> features and labels in HDF5."""

import sys

import numpy as np

from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.features import dom_features
from dnn_reco.data.file_events import EVENT_ID
from dnn_reco.data.hdf5 import write_input_tables
from dnn_reco.data.pulses import Pulses

rng = np.random.default_rng(1)
num_events = 100

# Replace these made-up pulses by yours: p pulses, sorted by event, DOM and time.
event = np.repeat(np.arange(num_events), 20)
dom = np.sort(rng.integers(0, 4680, (num_events, 20)), axis=1).ravel()  # 60 (string - 1) + om - 1
pulses = Pulses(
    num_events=num_events,
    event=event,
    dom=dom,
    time=10_000 + 100.0 * np.tile(np.arange(20), num_events),  # ns
    charge=rng.exponential(1.0, len(event)),  # PE
    flags=np.zeros(len(event), dtype=np.uint8),
)

# Nine features of each hit DOM, as in the tutorial.
features = dom_features(pulses, "pulse_summmary_clipped", "time_range")
ids = np.zeros(num_events, dtype=EVENT_ID)
ids["Run"], ids["Event"] = 1, np.arange(num_events)

write_input_tables(
    sys.argv[1],
    ids,
    features.time_offset,
    features.hits,
    tables={"LabelsDeepLearning": {"EnergyVisible": rng.uniform(100.0, 1e5, num_events)}},
    data_settings=DataSettings(
        num_bins=9,
        data_format="pulse_summmary_clipped",
        relative_time_method="time_range",
    ),
)
