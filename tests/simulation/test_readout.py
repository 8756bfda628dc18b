"""Launches, local coincidence, merging and the trigger against slow obvious versions."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnn_reco.data.pulses import ATWD, FADC, LOCAL_COINCIDENCE
from dnn_reco.detector.geometry import NUM_DOMS, dom_index
from dnn_reco.simulation.photomultiplier import AnodePulses
from dnn_reco.simulation.readout import (
    ReadoutSettings,
    find_launches,
    first_of_each,
    local_coincidence,
    merge,
    read_out,
    saturated,
    time_ordered,
)
from dnn_reco.simulation.trigger import TriggerSettings, multiplicity_trigger

SETTINGS = ReadoutSettings(fadc_jitter=0.0)
HLC_FINE, HLC_COARSE = LOCAL_COINCIDENCE | ATWD, LOCAL_COINCIDENCE | FADC

# Quarters of a ns have no rounding on the axis that the vectorised code puts all DOMs on.
times = st.integers(0, 40_000).map(lambda quarters: quarters / 4)
few_doms = st.sampled_from([0, 1, 2, 3, 57, 58, 59, 60, 61, 119, 120, NUM_DOMS - 1])
hit_lists = st.lists(st.tuples(st.integers(0, 2), few_doms, times), max_size=60)


def make_pulses(rows: list[tuple[int, int, float]], charge: float = 1.0) -> AnodePulses:
    event, dom, time = (
        (np.array(column) for column in zip(*rows, strict=True))
        if rows
        else (
            np.zeros(0, dtype=np.int64),
            np.zeros(0, dtype=np.int64),
            np.zeros(0),
        )
    )
    return time_ordered(AnodePulses(event, dom, time, np.full(len(rows), charge)))


def on_string(*rows: tuple[int, float]) -> AnodePulses:
    """Pulses (om, time) of one event on string 30."""
    return make_pulses([(0, int(dom_index(np.array(30), np.array(om))), t) for om, t in rows])


def slow_windows(group: np.ndarray, time: np.ndarray, window: np.ndarray) -> list[int]:
    first: list[int] = []
    for i in range(len(time)):
        if (
            not first
            or group[first[-1]] != group[i]
            or time[i] >= time[first[-1]] + window[first[-1]]
        ):
            first.append(i)
    return first


@given(hit_lists, st.integers(1, 5))
def test_first_of_each_window(rows: list[tuple[int, int, float]], seed: int) -> None:
    pulses = make_pulses(rows)
    group = pulses.event * NUM_DOMS + pulses.dom
    window = np.random.default_rng(seed).choice([3.25, 13.0, 2450.0], len(pulses))
    result = first_of_each(group, pulses.time, window)
    assert result.tolist() == slow_windows(group, pulses.time, window)


@given(hit_lists, st.integers(1, 5))
def test_merging(rows: list[tuple[int, int, float]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    pulses = make_pulses([(event, dom, time / 50) for event, dom, time in rows])
    pulses = replace(pulses, charge=rng.uniform(0.1, 2.0, len(pulses)))
    kinds = np.array([HLC_FINE, HLC_COARSE, FADC], dtype=np.uint8)
    flags = kinds[rng.integers(0, 3, len(pulses))]

    expected: list[list[float]] = []
    for event, dom, time, charge, flag in zip(
        pulses.event, pulses.dom, pulses.time, pulses.charge, flags, strict=True
    ):
        width = 3.3 if flag == HLC_FINE else 13.0
        last = expected[-1] if expected else [-1, 0, 0, 0, 0]
        if last[:2] == [event, dom] and last[4] == flag and time - last[2] < width:
            last[3] += charge
        else:
            expected.append([event, dom, time, charge, flag])

    merged, merged_flags = merge(pulses, flags, SETTINGS)
    found = [merged.event, merged.dom, merged.time, merged.charge, merged_flags]
    np.testing.assert_allclose(np.array(found).T.reshape(-1, 5), np.reshape(expected, (-1, 5)))
    assert merged.charge.sum() == pytest.approx(pulses.charge.sum())


@given(hit_lists)
def test_local_coincidence(rows: list[tuple[int, int, float]]) -> None:
    pulses = make_pulses(rows)
    expected = [
        any(
            pulses.event[i] == pulses.event[j]
            and pulses.dom[i] // 60 == pulses.dom[j] // 60
            and 1 <= abs(pulses.dom[i] - pulses.dom[j]) <= 2
            and abs(pulses.time[i] - pulses.time[j]) <= 1000.0
            for j in range(len(pulses))
        )
        for i in range(len(pulses))
    ]
    channel = pulses.event * NUM_DOMS + pulses.dom
    assert local_coincidence(channel, pulses.time, SETTINGS).tolist() == expected


@given(hit_lists)
def test_flags_of_launches_fit_the_launches(rows: list[tuple[int, int, float]]) -> None:
    pulses = make_pulses(rows)
    launches = find_launches(pulses, SETTINGS)
    channel = launches.event * NUM_DOMS + launches.dom
    expected = local_coincidence(channel, launches.time, SETTINGS)
    np.testing.assert_array_equal(launches.coincident, expected)
    gaps = np.diff(launches.time)[np.diff(channel) == 0]
    assert (gaps >= SETTINGS.isolated_dead_time).all()


class TestLaunches:
    def test_isolated_launch_blinds_for_two_and_a_half_microseconds(self) -> None:
        launches = find_launches(on_string((10, 0.0), (10, 2449.0), (10, 2451.0)), SETTINGS)
        assert launches.time.tolist() == [0.0, 2451.0]
        assert not launches.coincident.any()

    def test_coincident_launch_blinds_for_six_and_a_half(self) -> None:
        pulses = on_string((10, 0.0), (11, 1.0), (10, 2451.0), (10, 6449.0), (10, 6451.0))
        launches = find_launches(pulses, SETTINGS)
        assert launches.time.tolist() == [0.0, 6451.0, 1.0]
        assert launches.coincident.tolist() == [True, False, True]

    @pytest.mark.parametrize(
        ("other", "time", "coincident"),
        [(12, 999.0, True), (12, 1001.0, False), (13, 0.0, False), (8, -999.0, True)],
    )
    def test_reach_of_the_coincidence(self, other: int, time: float, coincident: bool) -> None:
        launches = find_launches(on_string((10, 0.0), (other, time)), SETTINGS)
        assert launches.coincident.tolist() == [coincident, coincident]

    def test_the_next_string_is_no_neighbour(self) -> None:
        pulses = make_pulses([(0, 59, 0.0), (0, 60, 0.0)])
        assert not find_launches(pulses, SETTINGS).coincident.any()

    def test_a_neighbour_that_is_blind_does_not_coincide(self) -> None:
        # The neighbour launches at 0 and is busy with its readout at 3000.
        pulses = on_string((10, 0.0), (11, 0.0), (10, 3000.0), (12, 3000.0), (12, 5500.0))
        launches = find_launches(pulses, SETTINGS)
        # Hence the launch at 3000 is isolated, and the DOM ready again at 5450.
        assert launches.time.tolist() == [0.0, 0.0, 3000.0, 5500.0]
        assert launches.coincident.tolist() == [True, True, False, False]

    def test_discriminator(self) -> None:
        pulses = on_string((10, 0.0), (10, 50.0))
        launches = find_launches(replace(pulses, charge=np.array([0.24, 0.26])), SETTINGS)
        assert launches.time.tolist() == [50.0]


def pulses_of(pulses: AnodePulses) -> list[tuple[float, int]]:
    launches = find_launches(pulses, SETTINGS)
    keep = np.ones(len(launches.pulse), dtype=bool)
    found, flags = read_out(pulses, launches, keep, SETTINGS, np.random.default_rng(0))
    return list(zip(found.time.tolist(), flags.tolist(), strict=True))


class TestReadout:
    def test_coincident_launch_is_fine_first_and_coarse_later(self) -> None:
        pulses = on_string((10, 0.0), (10, 400.0), (10, 430.0), (10, 6390.0), (10, 6420.0))
        beside = on_string((11, 0.0))
        pulses = AnodePulses(*(np.append(getattr(pulses, n), getattr(beside, n)) for n in FIELDS))
        assert pulses_of(pulses) == [
            (0.0, HLC_FINE),
            (400.0, HLC_FINE),
            (430.0, HLC_COARSE),
            (6390.0, HLC_COARSE),
            (0.0, HLC_FINE),
        ]

    def test_isolated_launch_keeps_its_first_samples_only(self) -> None:
        pulses = on_string((10, 0.0), (10, 50.0), (10, 100.0), (10, 3000.0))
        assert pulses_of(pulses) == [(0.0, FADC), (50.0, FADC), (3000.0, FADC)]

    def test_pulses_before_the_launch_are_lost(self) -> None:
        pulses = on_string((10, 0.0), (10, 50.0))
        assert pulses_of(replace(pulses, charge=np.array([0.2, 1.0]))) == [(50.0, FADC)]

    def test_only_kept_launches_are_read_out(self) -> None:
        pulses = on_string((10, 0.0), (40, 100.0), (59, 200.0))
        launches = find_launches(pulses, SETTINGS)
        keep = np.array([False, True, False])
        found, _ = read_out(pulses, launches, keep, SETTINGS, np.random.default_rng(0))
        assert found.time.tolist() == [100.0]

    def test_nothing(self) -> None:
        assert pulses_of(make_pulses([])) == []

    def test_coarse_digitiser_adds_its_jitter(self) -> None:
        pulses = make_pulses([(event, 100, 0.0) for event in range(20_000)])
        launches = find_launches(pulses, SETTINGS)
        keep = np.ones(len(launches.pulse), dtype=bool)
        found, _ = read_out(pulses, launches, keep, ReadoutSettings(), np.random.default_rng(0))
        assert found.time.std() == pytest.approx(2.2, rel=0.03)


FIELDS = ("event", "dom", "time", "charge")


def test_saturation() -> None:
    flags = np.array([HLC_FINE, HLC_FINE, FADC, HLC_COARSE], dtype=np.uint8)
    charge = np.array([1e-3, 99.0, 390.0, 1e9])
    # 30 PE/ns over 3.3 ns and 13 ns: half of the charge at 99 PE and 390 PE, which is the maximum.
    np.testing.assert_allclose(
        saturated(charge, flags, SETTINGS), [1e-3, 49.5, 195.0, 390.0], rtol=2e-5
    )
    q = np.array([7.0])
    for flag, width in ((HLC_FINE, 3.3), (FADC, 13.0)):
        result = saturated(q, np.array([flag], dtype=np.uint8), SETTINGS)
        # The formula that undoes it, in terms of the recorded charge.
        np.testing.assert_allclose(result / (1 - result / (30 * width)), q)


launch_lists = st.lists(st.tuples(st.integers(0, 3), times), max_size=120)


@given(launch_lists, st.integers(1, 8))
def test_trigger(rows: list[tuple[int, float]], multiplicity: int) -> None:
    trigger = TriggerSettings(multiplicity=multiplicity, window=2000.0)
    expected = []
    for event in range(4):
        time = sorted(t for e, t in rows if e == event)
        windows = [
            (time[i], time[i + multiplicity - 1])
            for i in range(len(time) - multiplicity + 1)
            if time[i + multiplicity - 1] - time[i] <= 2000.0
        ]
        if windows:
            expected.append((event, windows[0][0], windows[-1][1]))
    event = np.array([e for e, _ in rows], dtype=np.int64)
    found = multiplicity_trigger(event, np.array([t for _, t in rows], dtype=float), trigger)
    assert list(zip(found.event, found.start, found.stop, strict=True)) == expected
