"""Excluded pulses, compared with a loop over pulses and windows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnn_reco.data.exclusions import ExcludedDoms, ExcludedWindows, exclude
from dnn_reco.data.pulses import Pulses

NUM_EVENTS, DOMS, TIMES = 3, (-1, 0, 1, 5159), (-np.inf, -1.0, 0.0, 1.0, 2.0, 3.0, np.inf)
keys = st.tuples(st.integers(0, NUM_EVENTS - 1), st.sampled_from(DOMS))
finite = st.sampled_from(TIMES[1:-1])
pulse_lists = st.lists(st.tuples(keys, finite), max_size=20)
window_lists = st.lists(st.tuples(keys, st.sampled_from(TIMES), st.sampled_from(TIMES)), max_size=8)


def make_pulses(rows: list[tuple[tuple[int, int], float]]) -> Pulses:
    rows = sorted(rows)
    return Pulses(
        NUM_EVENTS,
        np.array([event for (event, _), _ in rows], dtype=np.int64),
        np.array([dom for (_, dom), _ in rows], dtype=np.int64),
        np.array([time for _, time in rows], dtype=np.float64),
        np.arange(len(rows), dtype=np.float64),
        np.zeros(len(rows), dtype=np.uint8),
    )


def is_excluded(
    key: tuple[int, int],
    time: float,
    doms: list[tuple[int, int]],
    windows: list[tuple[tuple[int, int], float, float]],
    partial: bool,
) -> bool:
    if key[1] == -1:
        return False
    for other, start, stop in windows:
        if other == key and (not partial or start <= time < stop):
            return True
    return key in doms


@given(pulse_lists, st.lists(keys, max_size=3), window_lists, st.booleans())
def test_exclusion_of_each_pulse(
    rows: list[tuple[tuple[int, int], float]],
    doms: list[tuple[int, int]],
    windows: list[tuple[tuple[int, int], float, float]],
    partial: bool,
) -> None:
    pulses = make_pulses(rows)
    found = exclude(
        pulses,
        ExcludedDoms(*np.array(doms, dtype=np.int64).reshape(-1, 2).T),
        ExcludedWindows(
            *np.array([key for key, _, _ in windows], dtype=np.int64).reshape(-1, 2).T,
            np.array([start for _, start, _ in windows], dtype=np.float64),
            np.array([stop for _, _, stop in windows], dtype=np.float64),
        ),
        partial,
    )
    kept = [
        i
        for i, ((event, dom), time) in enumerate(sorted(rows))
        if not is_excluded((event, dom), time, doms, windows, partial)
    ]
    assert found.num_events == NUM_EVENTS
    assert found.charge.tolist() == kept
    assert found.event.tolist() == pulses.event[kept].tolist()
    assert found.dom.tolist() == pulses.dom[kept].tolist()
    assert found.time.tolist() == pulses.time[kept].tolist()


@pytest.mark.parametrize(("time", "stays"), [(0.9, True), (1.0, False), (3.9, False), (4.0, True)])
def test_a_window_holds_its_start_and_not_its_stop(time: float, stays: bool) -> None:
    """Windows that touch are as one."""
    pulses = make_pulses([((0, 7), time)])
    none = np.zeros(0, dtype=np.int64)
    windows = ExcludedWindows(
        np.array([0, 0]), np.array([7, 7]), np.array([2.0, 1.0]), np.array([4.0, 2.0])
    )
    found = exclude(pulses, ExcludedDoms(none, none), windows, partial=True)
    assert (len(found.time) == 1) == stays
