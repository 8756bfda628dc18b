"""Input features relative to a cascade hypothesis: the format `cascade_classification_data`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.features import DomFeatures
from dnn_reco.data.hit_pulses import hit_pulses
from dnn_reco.data.hits import Hits
from dnn_reco.data.pulses import Pulses
from dnn_reco.data.segments import segment_of
from dnn_reco.detector.constants import SPEED_OF_LIGHT
from dnn_reco.detector.geometry import dom_positions
from dnn_reco.errors import ConfigError

HYPOTHESIS_KEYS = tuple(
    f"Vertex{part}{ending}" for ending in ("", "_unc") for part in ("X", "Y", "Z", "Time")
)
"""Names of the numbers of a cascade hypothesis: x, y, z [m], time [ns], their uncertainties."""

SMALLEST_VALUE = 1e-7
"""Features that are not larger are not listed."""

_MOST_SIGMA = 4.0  # pulses that come later than this after the last edge do not count
_erf = np.frompyfunc(math.erf, 1, 1)


def cascade_classification_data(
    pulses: Pulses, hypothesis: NDArray[np.floating], edges: Sequence[Sequence[float]]
) -> DomFeatures:
    """Charge of each hit DOM around the times at which light from a cascade would arrive.

    Parameters
    ----------
    pulses
        Pulses of n events.
    hypothesis
        The cascade of each event [n, 8], in the order of `HYPOTHESIS_KEYS`, finite, at least one
        uncertainty of it positive.
    edges
        For each edge of a bin a pair [B + 1, 2]: multiple of the time that light in vacuum takes
        from the vertex to the DOM, and time to add in ns.

    Returns
    -------
    features
        B + 2 numbers of a DOM: the charge in each bin, distance to the vertex in m, uncertainty of
        the time in ns. Numbers up to 1e-7 are 0. The time offset is the time of the vertex.

    Raises
    ------
    ConfigError
        If the edges are not pairs, or fewer than two.

    Notes
    -----
    With edges e_i of a DOM, and s² = |dx|² / c² + dt², a pulse of charge q at time t adds
    q (Φ((e_(i+1) - t) / s) - Φ((e_i - t) / s)) to bin i; Φ is the normal distribution. Pulses with
    t > e_B + 4 s are left out.
    """
    pairs = _pairs(edges)
    hits = hit_pulses(pulses)
    position, time = hypothesis[:, :3], hypothesis[:, 3]
    along = np.linalg.norm(hypothesis[:, 4:7], axis=1) / SPEED_OF_LIGHT
    uncertainty = np.hypot(along, hypothesis[:, 7])[hits.event]
    distance = np.linalg.norm(dom_positions()[hits.dom] - position[hits.event], axis=1)
    edge = time[hits.event, None] + (distance / SPEED_OF_LIGHT)[:, None] * pairs[:, 0] + pairs[:, 1]

    hit = segment_of(hits.offsets)
    in_time = hits.time <= edge[hit, -1] + _MOST_SIGMA * uncertainty[hit]
    hit, pulse_time, charge = hit[in_time], hits.time[in_time], hits.charge[in_time]
    deviation = (edge[hit] - pulse_time[:, None]) / uncertainty[hit, None]
    below = 0.5 * (1 + _erf(deviation / math.sqrt(2)).astype(np.float64))
    features = np.zeros((len(hits.dom), len(pairs) + 1))
    for column, fraction in enumerate(np.diff(below, axis=1).T):
        features[:, column] = np.bincount(hit, charge * fraction, minlength=len(hits.dom))
    features[:, -2], features[:, -1] = distance, uncertainty
    return listed_features(pulses.num_events, hits.event, hits.dom, features, time)


def _pairs(edges: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """The edges [B + 1, 2]."""
    is_pairs = len(edges) >= 2 and all(isinstance(e, Sequence) and len(e) == 2 for e in edges)
    if not is_pairs:
        raise ConfigError(
            "the data format 'cascade_classification_data' needs 'time_quantiles' that are pairs, "
            "at least two: multiple of the light's travel time and ns to add, such as "
            f"[[0.9, -20], [1.2, 50]]; not {list(edges)}"
        )
    return np.asarray(edges, dtype=np.float64)


def listed_features(
    num_events: int,
    event: NDArray[np.int64],
    dom: NDArray[np.int64],
    features: NDArray[np.float64],
    time_offset: NDArray[np.floating],
) -> DomFeatures:
    """Features [k, F] of DOMs [k] in order, of which only numbers above 1e-7 are listed."""
    features = np.where(features > SMALLEST_VALUE, features, 0.0)
    is_hit = (features > 0).any(axis=1)
    offsets = np.searchsorted(event[is_hit], np.arange(num_events + 1))
    hits = Hits(offsets, dom[is_hit].astype(np.uint16), features[is_hit])
    return DomFeatures(hits, np.asarray(time_offset, dtype=np.float64), sparse=True)
