"""Small event files for tests, written with the package's own writer."""

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.file_events import EVENT_ID
from dnn_reco.data.hdf5 import InputTables, write_input_tables
from dnn_reco.data.hits import Hits
from dnn_reco.detector.geometry import NUM_DOMS

LABEL_TABLE = "LabelsDeepLearning"
PRIMARY_TABLE = "MCPrimary"


@dataclass(frozen=True)
class Events:
    """The content of an event file: hits, labels and the primary of n events."""

    ids: NDArray[np.void]
    time_offset: NDArray[np.float64]
    offsets: NDArray[np.int64]
    dom: NDArray[np.uint16]
    features: NDArray[np.float32]
    labels: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    primary: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def hits(self) -> Hits:
        return Hits(self.offsets, self.dom, self.features)


def event_ids(num_events: int, run: int = 1, first_event: int = 0) -> NDArray[np.void]:
    """Different ids, as of one simulation file."""
    ids = np.zeros(num_events, dtype=EVENT_ID)
    ids["Run"] = run
    ids["Event"] = first_event + np.arange(num_events)
    ids["SubEventStream"] = 3
    return ids


def random_events(
    seed: int,
    num_events: int,
    num_bins: int = 9,
    mean_hits: float = 20.0,
    empty_fraction: float = 0.0,
    run: int = 1,
) -> Events:
    """Random events roughly like real ones: charges, times, a vertex, an energy.

    All features are positive; the labels carry some information on them (EnergyVisible is the
    summed charge), so that networks have something to learn.
    """
    rng = np.random.default_rng(seed)
    num_hits = np.maximum(1, rng.poisson(mean_hits, num_events))
    num_hits[rng.random(num_events) < empty_fraction] = 0
    num_hits = np.minimum(num_hits, NUM_DOMS)
    dom = [np.sort(rng.choice(NUM_DOMS, size, replace=False)) for size in num_hits]
    offsets = np.concatenate([[0], np.cumsum(num_hits)])
    features = rng.gamma(2.0, 0.5, (offsets[-1], num_bins)).astype(np.float32)
    features[:, num_bins // 3 :] *= 1000.0
    charge = np.array([features[a:b, 0].sum() for a, b in pairwise(offsets)])
    time_offset = rng.integers(8000, 11000, num_events).astype(np.float64)
    zenith, azimuth = np.arccos(rng.uniform(-1, 1, num_events)), rng.uniform(0, 6.28, num_events)
    labels = {
        "EnergyVisible": 10.0 * (1.0 + charge),
        "PrimaryEnergy": 12.0 * (1.0 + charge) * rng.uniform(1.0, 2.0, num_events),
        "PrimaryAzimuth": azimuth,
        "PrimaryZenith": zenith,
        "PrimaryDirectionX": -np.sin(zenith) * np.cos(azimuth),
        "PrimaryDirectionY": -np.sin(zenith) * np.sin(azimuth),
        "PrimaryDirectionZ": -np.cos(zenith),
        "VertexTime": time_offset + rng.normal(0.0, 300.0, num_events),
        "VertexX": rng.normal(0.0, 200.0, num_events),
        "VertexY": rng.normal(0.0, 200.0, num_events),
        "VertexZ": rng.normal(0.0, 200.0, num_events),
        "p_starting": (rng.random(num_events) < 0.5).astype(np.float64),
    }
    primary = {
        "energy": labels["PrimaryEnergy"],
        "pdg_encoding": rng.choice([12.0, -12.0, 14.0, -14.0], num_events),
    }
    return Events(
        ids=event_ids(num_events, run),
        time_offset=time_offset,
        offsets=offsets.astype(np.int64),
        dom=(np.concatenate(dom) if dom else np.zeros(0)).astype(np.uint16),
        features=features,
        labels=labels,
        primary=primary,
    )


def write_events(
    path: Path,
    events: Events,
    *,
    names: InputTables = InputTables(),  # noqa: B008 - frozen
    sparse: bool = False,
    exists: dict[str, NDArray[np.bool_]] | None = None,
) -> Path:
    """Write `events` with the tables LabelsDeepLearning and MCPrimary; returns `path`."""
    tables = {LABEL_TABLE: events.labels, PRIMARY_TABLE: events.primary}
    write_input_tables(
        path,
        events.ids,
        events.time_offset,
        events.hits,
        names=names,
        sparse=sparse,
        tables={name: columns for name, columns in tables.items() if columns},
        exists=exists,
    )
    return path
