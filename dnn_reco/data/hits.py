"""Hits: which DOMs of which event saw light, and their input features. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnn_reco.detector import grid
from dnn_reco.detector.geometry import NUM_DOMS
from dnn_reco.errors import DataError


@dataclass(frozen=True)
class Hits:
    """The hit DOMs of n events, untransformed, from whatever source.

    Attributes
    ----------
    offsets
        [n + 1] int64; the hits of event i are `offsets[i]:offsets[i + 1]`. Events without any hit
        are allowed.
    dom
        DOM index of each hit [k], uint16, 0 … 5159, ascending within an event.
    features
        Input features of each hit DOM [k, F]; times in ns, relative to the event's time offset.
    """

    offsets: NDArray[np.int64]
    dom: NDArray[np.uint16]
    features: NDArray[np.floating]

    @property
    def num_events(self) -> int:
        """Number of events n."""
        return len(self.offsets) - 1

    @property
    def num_features(self) -> int:
        """Number of input features F of a DOM."""
        return int(self.features.shape[1])

    @property
    def event(self) -> NDArray[np.int64]:
        """Number of the event of each hit [k], 0 … n - 1."""
        return np.repeat(np.arange(self.num_events), np.diff(self.offsets))

    def part(self, start: int, stop: int) -> Hits:
        """Hits of the events start … stop - 1, as views."""
        hits = slice(self.offsets[start], self.offsets[stop])
        offsets = self.offsets[start : stop + 1] - self.offsets[start]
        return Hits(offsets, self.dom[hits], self.features[hits])

    def select(self, events: NDArray[np.bool_] | NDArray[np.integer]) -> Hits:
        """Hits of some of the events, by mask [n] or by number, in the given order."""
        numbers = np.arange(self.num_events)[events]
        starts, counts = self.offsets[numbers], np.diff(self.offsets)[numbers]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        hits = np.repeat(starts - offsets[:-1], counts) + np.arange(offsets[-1])
        return Hits(offsets, self.dom[hits], self.features[hits])


def check_hits(hits: Hits) -> None:
    """Check hits that a user made: readers of files only make valid ones.

    Raises
    ------
    DataError
        If shapes do not fit each other, a DOM does not exist or is repeated, DOMs are not in
        ascending order, or a feature is not finite.
    """
    offsets, dom, features = hits.offsets, hits.dom, hits.features
    if dom.ndim != 1 or features.ndim != 2 or len(features) != len(dom):
        raise DataError(
            f"hits have DOMs of shape {dom.shape} and features of shape {features.shape}: "
            "[k] and [k, F] are needed"
        )
    if offsets.ndim != 1 or len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(dom):
        raise DataError(f"offsets of hits must be [n + 1], from 0 to the number of hits {len(dom)}")
    if (offsets[1:] < offsets[:-1]).any():  # differences of wild offsets overflow
        raise DataError("offsets of hits must not decrease")
    index = dom.astype(np.int64)
    if ((index < 0) | (index >= NUM_DOMS)).any():
        raise DataError(f"hits have a DOM index outside 0 … {NUM_DOMS - 1}")
    if (np.diff(hits.event * NUM_DOMS + index) <= 0).any():
        raise DataError("hits of an event must have each DOM once, in ascending order")
    if not np.isfinite(features).all():
        raise DataError("hits have features that are not finite")


def join_hits(parts: Sequence[Hits]) -> Hits:
    """The events of several hits, one after the other."""
    if len(parts) == 1:
        return parts[0]
    num_hits = np.concatenate([np.diff(hits.offsets) for hits in parts])
    return Hits(
        np.concatenate([[0], np.cumsum(num_hits)]),
        np.concatenate([hits.dom for hits in parts]),
        np.concatenate([hits.features for hits in parts]),
    )


def dense_cells(hits: Hits, init_values: ArrayLike) -> NDArray[np.floating]:
    """Input features of all cells of the detector [n, 6480, F].

    Parameters
    ----------
    hits
        Hits of n events.
    init_values
        Values of DOMs without hit: one number, or one for each feature [F].
    """
    cells = np.empty((hits.num_events, grid.NUM_CELLS, hits.num_features), hits.features.dtype)
    cells[:] = init_values
    cells[hits.event, grid.DOM_CELL[hits.dom]] = hits.features
    return cells


def check_dense(
    main_array: NDArray[np.floating], deepcore: NDArray[np.floating], num_features: int
) -> None:
    """Check dense arrays that a user made.

    Parameters
    ----------
    main_array, deepcore
        [n, 10, 10, 60, F] and [n, 8, 60, F].
    num_features
        Number of features F.

    Raises
    ------
    DataError
        If they have other shapes, or a value is not finite.
    """
    num_events = len(main_array) if np.ndim(main_array) else 0
    shapes = (grid.MAIN_SHAPE, grid.DEEPCORE_SHAPE)
    for array, shape in zip((main_array, deepcore), shapes, strict=True):
        expected = (num_events, *shape, num_features)
        if np.shape(array) != expected:
            raise DataError(f"a dense array has shape {np.shape(array)}, not {expected}")
        if not np.isfinite(array).all():
            raise DataError("a dense array has values that are not finite")


def hits_of_dense(
    main_array: NDArray[np.floating], deepcore: NDArray[np.floating], init_values: ArrayLike
) -> Hits:
    """The hits of dense arrays: DOMs with other values than those of a DOM without hit.

    Parameters
    ----------
    main_array, deepcore
        [n, 10, 10, 60, F] and [n, 8, 60, F]; places without DOM do not matter.
    init_values
        Values of DOMs without hit: one number, or one for each feature [F].
    """
    num_features = main_array.shape[-1]
    cells = np.concatenate(
        [
            array.reshape(len(array), math.prod(array.shape[1:-1]), num_features)
            for array in (main_array, deepcore)
        ],
        axis=1,
    )
    doms = cells[:, grid.DOM_CELL]
    event, dom = np.nonzero((doms != np.asarray(init_values)).any(axis=2))
    offsets = np.searchsorted(event, np.arange(len(doms) + 1))
    return Hits(offsets, dom.astype(np.uint16), doms[event, dom])
