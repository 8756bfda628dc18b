"""The window search against the loop over all steps that defines it."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnn_reco.data.time_window import WindowSearch, window_starts
from dnn_reco.errors import ConfigError

Pulse = tuple[float, float]  # time, charge

# Charges that tie, vanish beside others, or are not exact in binary.
CHARGES = st.sampled_from([0.0, 1e-9, 0.1, 0.3, 1.0, 1.1, 7.0, 60.0, 1e4])
TIMES = st.one_of(
    st.integers(-3000, 5000).map(float),
    st.integers(0, 40).map(lambda i: 900.0 + i / 4),  # many within few steps
    st.floats(-3000, 5000),
)
PULSES = st.lists(st.tuples(TIMES, CHARGES), max_size=25).map(sorted)


def slow_window_start(pulses: Sequence[Pulse], search: WindowSearch) -> float:
    """The definition, step by step."""
    if not pulses:
        return 9000.0
    total = 0.0
    for _, charge in pulses:
        total += charge
    begin = int(pulses[0][0] / 1000) * 1000
    end = int((pulses[-1][0] + search.width) / 1000) * 1000
    window_charge = accepted_charge = start = 0.0
    step_charges: list[float] = []
    steps_per_window = int(search.width / search.step)
    pulse = 0
    for T in range(begin, math.ceil(end - search.step), int(search.step)):
        step_charge = 0.0
        while pulse < len(pulses) and pulses[pulse][0] < T + search.step:
            step_charge += pulses[pulse][1]
            pulse += 1
        step_charges.append(step_charge)
        window_charge += step_charge
        if len(step_charges) > steps_per_window:
            window_charge -= step_charges[-1 - steps_per_window]
        current = T - search.width + search.step
        noise = max(0.003, 0.003 * min(current - start, search.width))
        difference = window_charge - accepted_charge
        if (
            difference / math.sqrt(noise) >= search.noise_threshold
            and difference >= -total * search.charge_threshold
        ):
            accepted_charge = window_charge
            start = max(current, float(begin))
    return start


def starts_of(lists: Sequence[Sequence[Pulse]], search: WindowSearch) -> list[float]:
    offsets = np.cumsum([0, *(len(pulses) for pulses in lists)])
    time = np.array([time for pulses in lists for time, _ in pulses])
    charge = np.array([charge for pulses in lists for _, charge in pulses])
    return window_starts(offsets, time, charge, search).tolist()


@settings(max_examples=150)
@given(
    lists=st.lists(PULSES, max_size=3),
    search=st.builds(
        WindowSearch,
        width=st.sampled_from([1.0, 80.0, 333.5, 1000.0, 2500.0]),
        step=st.sampled_from([1.0, 3.0, 100.0]),
        charge_threshold=st.sampled_from([0.0, 0.02, 0.5]),
        noise_threshold=st.sampled_from([0.0, -1.0, -8.0]),
    ),
)
def test_same_window_as_step_by_step(lists: list[list[Pulse]], search: WindowSearch) -> None:
    assert starts_of(lists, search) == [slow_window_start(pulses, search) for pulses in lists]


@pytest.mark.parametrize("seed", range(4))
def test_same_window_for_pulses_like_those_of_the_detector(seed: int) -> None:
    """Noise over the whole readout, one or two flashes of light with long tails."""
    rng = np.random.default_rng(seed)
    lists = []
    for _ in range(6):
        times = [rng.uniform(0, 28_000, rng.integers(0, 60))]
        for _ in range(rng.integers(0, 3)):
            delays = rng.exponential(rng.choice([200.0, 3000.0]), rng.integers(1, 1500))
            times.append(rng.uniform(7000, 12_000) + delays)
        time = np.sort(np.floor(np.concatenate(times)))
        charge = rng.gamma(2.0, 0.5, len(time)).astype(np.float32) * rng.choice([1.0, 30.0])
        lists.append(list(zip(time.tolist(), charge.tolist(), strict=True)))
    search = WindowSearch()
    assert starts_of(lists, search) == [slow_window_start(pulses, search) for pulses in lists]


def test_without_pulses() -> None:
    assert starts_of([[], [], []], WindowSearch()) == [9000.0] * 3
    assert starts_of([], WindowSearch()) == []


def test_window_creeps_to_the_last_place_that_holds_the_charge() -> None:
    """The latest window with a pulse at 10,000 ns starts with it."""
    assert starts_of([[(10_000.0, 5.0)]], WindowSearch()) == [10_000.0]


def test_sweep_ends_at_a_full_microsecond() -> None:
    """(10,000 + 1,500) truncated is 11,000, and the last window ends one step before it."""
    pulses = [(9_000.0, 0.01), (10_000.0, 5.0)]
    assert starts_of([pulses], WindowSearch(width=1500.0)) == [10_999.0 - 1500.0]
    # No window starts before the first pulse, truncated to 10,000.
    assert starts_of([pulses[1:]], WindowSearch(width=1500.0)) == [10_000.0]


def test_later_window_may_lose_one_part_in_fifty() -> None:
    """Of 100 PE, up to 2 are given up for a later window; the last one starts at 11,999 ns."""
    for first, start in ((1.9, 11_999.0), (2.1, 10_100.0)):
        pulses = [(10_100.0, first), (12_000.0, 100.0 - first)]
        assert starts_of([pulses], WindowSearch()) == [start]


def test_loss_must_be_within_the_noise() -> None:
    """A window u ns later may lose 8 sqrt(0.003 u) PE: 33.9 at 5,999 ns, where 10,000 PE remain."""
    for first, start in ((33.8, 16_099.0), (34.1, 10_100.0)):
        pulses = [(10_100.0, first), (16_099.0, 10_000.0), (22_000.0, 0.0)]
        assert starts_of([pulses], WindowSearch()) == [start]


def test_lists_do_not_touch_each_other() -> None:
    lists = [[(10_000.0, 1e9)], [], [(5_000.0, 0.1), (9_000.0, 0.3)]]
    alone = [starts_of([pulses], WindowSearch())[0] for pulses in lists]
    assert starts_of(lists, WindowSearch()) == alone


@pytest.mark.parametrize(
    "wrong",
    [
        {"step": 0.5},
        {"step": 0.0},
        {"step": 1.5},
        {"step": math.nan},
        {"width": 0.0},
        {"width": math.inf},
        {"charge_threshold": -0.1},
        {"noise_threshold": 1.0},
    ],
)
def test_settings_without_meaning(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="time window"):
        WindowSearch(**wrong)
