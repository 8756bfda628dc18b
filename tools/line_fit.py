"""A robust line fit: the simple estimate of directions that the networks are compared with.

    python tools/line_fit.py 'FILES'

adds its result to event files as the table `LineFit`, from where `dnn-reco evaluate --stored
LineFit` reads it.

The first hits of the DOMs are fitted with a point that moves at constant velocity. As in the
standard first guess of IceCube, noise and hits of scattered light are left out before, and the
Huber loss limits the influence of hits far from the line (Aartsen et al., Nucl. Instrum. Meth. A
736 (2014) 143). All of its settings were chosen for the best result on tracks of the demo.
"""

import sys
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from dnn_reco import open_events
from dnn_reco.data.hdf5 import InputTables
from dnn_reco.data.hits import Hits
from dnn_reco.detector.geometry import dom_positions
from dnn_reco.errors import DnnRecoError
from dnn_reco.files import find_files

Numbers = NDArray[np.float64]
Mask = NDArray[np.bool_]

TABLE = "LineFit"
NUM_FEATURES, CHARGE, FIRST_TIME = 9, 0, 3
# A hit is kept if at least two other DOMs have one near it …
NEAR, SOON = 150.0, 1000.0  # [m], [ns]
NEIGHBOURS = 2
# … and none near it has one much earlier.
LATE, LATE_NEAR = 778.0, 156.0  # [ns], [m]
LEAST_HITS = 5
HUBER = 153.0  # [m]
ITERATIONS = 20


def line_fit(hits: Hits) -> Numbers:
    """Velocity [n, 3] of the fitted point in m/ns for n events; 0 where no line can be fitted."""
    positions = dom_positions()[hits.dom.astype(np.int64)]
    times = hits.features[:, FIRST_TIME].astype(np.float64)
    charges = hits.features[:, CHARGE].astype(np.float64)
    velocities = np.zeros((len(hits.offsets) - 1, 3))
    for event, bounds in enumerate(pairwise(hits.offsets)):
        of_event = slice(*bounds)
        chosen = selected(positions[of_event], times[of_event])
        velocities[event] = fit(
            positions[of_event][chosen], times[of_event][chosen], charges[of_event][chosen]
        )
    return velocities


def selected(positions: Numbers, times: Numbers) -> Mask:
    """Which hits [n] of an event are neither noise nor late; all where too few would be left.

    Parameters
    ----------
    positions
        Of the hit DOMs [n, 3], in m.
    times
        Of their first hits [n], in ns.
    """
    distance = np.linalg.norm(positions[:, None] - positions, axis=-1)
    delay = times[:, None] - times
    neighbours = ((distance < NEAR) & (np.abs(delay) < SOON)).sum(axis=1) - 1
    kept = _unless_too_few(neighbours >= NEIGHBOURS, np.ones(len(times), dtype=bool))
    late = ((delay > LATE) & (distance < LATE_NEAR) & kept).any(axis=1)
    return _unless_too_few(kept & ~late, kept)


def _unless_too_few(chosen: Mask, before: Mask) -> Mask:
    return chosen if chosen.sum() >= LEAST_HITS else before


def fit(positions: Numbers, times: Numbers, charges: Numbers) -> Numbers:
    """Velocity [3] in m/ns of the point that passes hits [n] at their times, weighted by charge.

    Least squares, repeated with weights that follow from the distances: the Huber loss.
    """
    weights, velocity = charges, np.zeros(3)
    for _ in range(ITERATIONS):
        total = weights.sum()
        if total == 0:
            break
        time = times - weights @ times / total
        place = positions - weights @ positions / total
        variance = weights @ time**2
        if variance == 0:
            break
        velocity = (weights * time) @ place / variance
        distance = np.linalg.norm(place - time[:, None] * velocity, axis=1)
        weights = charges * HUBER / np.maximum(distance, HUBER)
    return velocity


def add_table(path: Path) -> int:
    """Add the fitted directions to an event file; returns its number of events."""
    velocity = line_fit(open_events(path, num_bins=NUM_FEATURES).hits)
    speed = np.linalg.norm(velocity, axis=1)
    x, y, z = velocity.T / np.where(speed > 0, speed, 1)
    particle = {
        **dict.fromkeys(("x", "y", "z", "time", "energy", "length"), np.nan),
        "zenith": np.arccos(np.clip(-z, -1, 1)),
        "azimuth": np.arctan2(-y, -x) % (2 * np.pi),
        "fit_status": np.where(speed > 0, 0, 1),
    }
    with h5py.File(path, "r+", locking=False) as file:
        events = file[InputTables().time_offset][:]
        ids = [(name, events.dtype[name]) for name in events.dtype.names if name != "value"]
        rows = np.zeros(len(events), np.dtype([*ids, *((name, "f8") for name in particle)]))
        for name, _ in ids:
            rows[name] = events[name]
        for name, column in particle.items():
            rows[name] = column
        if TABLE in file:
            del file[TABLE]
        file.create_dataset(TABLE, data=rows)
    return len(rows)


def main() -> None:
    """Fit the events of the files that are named."""
    for path in find_files(sys.argv[1:], "the command line"):
        print(f"{path}: {add_table(path)} events fitted")


if __name__ == "__main__":
    try:
        main()
    except DnnRecoError as error:
        sys.exit(f"Error: {error}")
