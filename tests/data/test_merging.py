"""Merged pulses, compared with a loop over the pulses of each DOM."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dnn_reco.data.merging import merge_pulses
from dnn_reco.data.pulses import Pulses

pulse = st.tuples(
    st.integers(0, 1), st.sampled_from([-1, 0, 7]), st.integers(0, 40), st.floats(0, 9, width=32)
)


def slow_merge(rows: list[tuple], within: float) -> list[tuple]:
    found: list[list] = []
    for event, dom, time, charge in rows:
        last = found[-1] if found else None
        if last and dom >= 0 and last[:2] == [event, dom] and time - last[2] <= within:
            last[3] = np.float32(last[3]) + np.float32(charge)
        else:
            found.append([event, dom, time, charge])
    return [(event, dom, time, float(charge)) for event, dom, time, charge in found]


@given(st.lists(pulse, max_size=30), st.integers(0, 12))
def test_same_as_pulse_by_pulse(rows: list[tuple], within: float) -> None:
    rows = sorted(rows)
    event, dom, time, charge = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    flags = np.arange(len(rows), dtype=np.uint8)
    pulses = Pulses(2, event.astype(int), dom.astype(int), time, charge, flags)
    found = merge_pulses(pulses, within)
    columns = (found.event, found.dom, found.time, found.charge)
    assert list(zip(*(c.tolist() for c in columns), strict=True)) == slow_merge(rows, within)
    assert pulses.charge is charge and found.num_events == 2


def test_a_merged_pulse_does_not_grow_beyond_its_start() -> None:
    time = np.array([0.0, 4.0, 8.0, 12.0])
    none = np.zeros(4, np.int64)
    pulses = Pulses(1, none, none, time, np.ones(4), np.array([1, 2, 4, 3], np.uint8))
    found = merge_pulses(pulses, 5.0)
    assert found.time.tolist() == [0.0, 8.0] and found.charge.tolist() == [2.0, 2.0]
    assert found.flags.tolist() == [1, 4]
