"""Excluded bins, compared with a loop over DOMs, windows and bins; and in files."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from event_files import random_events
from hypothesis import given
from hypothesis import strategies as st

from dnn_reco.data.bin_exclusions import bin_exclusions, no_exclusions
from dnn_reco.data.exclusions import ExcludedDoms, ExcludedWindows
from dnn_reco.data.hdf5 import InputTables, read_events, read_table, write_input_tables
from dnn_reco.data.hdf5.writer import DomMap
from dnn_reco.data.pulses import Pulses, no_pulses
from dnn_reco.data.time_offsets import TimeReference
from dnn_reco.detector.geometry import dom_positions

NUM_EVENTS, DOMS = 3, (-1, 0, 1, 5159)
EDGES = (-math.inf, 0.0, 100.0, 200.0, 1000.0)
VERTEX = np.array([[0.0, 0.0, 0.0, 1000.0], [9.0, 50.0, -20.0, 500.0], [0.0, 1.0, 2.0, -30.0]])
PULSES = [(0, 1, 1200.0, 1.0), (0, 1, 1300.0, 2.0), (1, 0, 700.0, 0.5), (2, 5159, 40.0, 1.0)]
cells = st.tuples(st.integers(0, NUM_EVENTS - 1), st.sampled_from(DOMS))
times = st.sampled_from([-500.0, 0.0, 100.0, 200.0, 700.0, 1000.0, 1100.0, 1500.0])
methods = st.sampled_from(["none", "cascade_vertex", "first_light_at_dom", "wf_quantile"])


def make_pulses() -> Pulses:
    event, dom, time, charge = np.array(PULSES).T
    flags = np.zeros(len(PULSES), np.uint8)
    return Pulses(NUM_EVENTS, event.astype(int), dom.astype(int), time, charge, flags)


def slow_offset(method: str, event: int, dom: int) -> float:
    if method == "none":
        return 0.0
    if method == "wf_quantile":
        return next((t for e, d, t, _ in PULSES if (e, d) == (event, dom)), 0.0)
    distance = math.dist(dom_positions()[dom], VERTEX[event, :3])
    arrival = 0.0 if method == "cascade_vertex" else distance / (0.299792458 / 1.35634)
    return VERTEX[event, 3] + arrival


def slow_bins(
    event: int, dom: int, doms: list, windows: list, method: str, first_bin: int
) -> list[int]:
    if (event, dom) in doms:
        return [-1]
    offset, found = slow_offset(method, event, dom), set()
    for cell, start, stop in windows:
        for i, (low, high) in enumerate(pairwise(EDGES)):
            overlaps = start - offset < high and stop - offset > low
            if cell == (event, dom) and start < stop and overlaps:
                found.add(i + first_bin)
    return sorted(found)


@given(
    st.lists(cells, max_size=3),
    st.lists(st.tuples(cells, times, times), max_size=6),
    methods,
    st.integers(0, 2),
)
def test_same_as_dom_by_dom(
    doms: list[tuple[int, int]],
    windows: list[tuple[tuple[int, int], float, float]],
    method: str,
    first_bin: int,
) -> None:
    windows = [(cell, min(a, b), max(a, b)) for cell, a, b in windows]
    found = bin_exclusions(
        make_pulses(),
        ExcludedDoms(*np.array(doms, dtype=np.int64).reshape(-1, 2).T),
        ExcludedWindows(
            *np.array([cell for cell, _, _ in windows], dtype=np.int64).reshape(-1, 2).T,
            np.array([start for _, start, _ in windows], dtype=np.float64),
            np.array([stop for _, _, stop in windows], dtype=np.float64),
        ),
        EDGES,
        TimeReference(method, VERTEX),
        first_bin,
    )
    expected = [
        (event, dom, position, item)
        for event in range(NUM_EVENTS)
        for dom in DOMS[1:]
        for position, item in enumerate(slow_bins(event, dom, doms, windows, method, first_bin))
    ]
    event = np.repeat(np.arange(NUM_EVENTS), np.diff(found.offsets))
    rows = zip(event, found.dom, found.vector_index, found.item, strict=True)
    assert [tuple(map(int, row)) for row in rows] == expected
    assert found.item.dtype == np.int32


def test_a_window_that_ends_at_an_edge_does_not_exclude_the_next_bin() -> None:
    one = np.zeros(1, np.int64)
    windows = ExcludedWindows(one, one, np.array([100.0]), np.array([200.0]))
    none = ExcludedDoms(one[:0], one[:0])
    pulses = Pulses(1, one[:0], one[:0], np.zeros(0), np.zeros(0), np.zeros(0, np.uint8))
    found = bin_exclusions(pulses, none, windows, EDGES, TimeReference("none"))
    assert found.item.tolist() == [2]


@pytest.mark.parametrize("num_events", [0, 2])
def test_nothing_excluded(num_events: int) -> None:
    found = no_exclusions(num_events)
    assert found.offsets.tolist() == [0] * (num_events + 1)
    assert len(found.item) == 0 and no_pulses().num_events == 0


def test_a_file_with_excluded_bins_is_read_as_one_without(tmp_path: Path) -> None:
    events = random_events(1, 3)
    exclusions = DomMap(
        np.array([0, 0, 2, 3]), np.array([7, 7, 9]), np.array([0, 1, 0]), np.array([0, 2, -1], "i4")
    )
    arguments = (events.ids, events.time_offset, events.hits)
    path, other = tmp_path / "a.hdf5", tmp_path / "b.hdf5"
    write_input_tables(path, *arguments, maps={"dnn_data_bin_exclusions": exclusions})
    write_input_tables(other, *arguments)
    rows = read_table(path, "dnn_data_bin_exclusions")
    assert rows["item"].tolist() == [0, 2, -1]
    assert rows["Event"].tolist() == events.ids["Event"][[1, 1, 2]].tolist()
    num_bins = events.hits.num_features
    found, expected = (read_events(each, InputTables(), num_bins) for each in (path, other))
    assert np.array_equal(found.hits.features, expected.hits.features)
    assert np.array_equal(found.ids, expected.ids) and not found.stale_index
