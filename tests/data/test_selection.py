"""Marks and choice of biased selection, against slow versions and known shares."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dnn_reco.data.sampling import stream_key
from dnn_reco.data.selection import (
    CRITERIA,
    Residuals,
    SelectionCriterion,
    choose,
    interesting,
    pool_size,
    repeat_shuffled,
)


def fits(key: str, value: float, label: float, physical: float, trafo: float, sigma: float) -> bool:
    """Whether one event is interesting, as the keys of the config are documented."""
    if key == "label_greater":
        return label > value
    if key == "label_less":
        return label < value
    if key == "label_equal":
        return label == value
    if key == "label_unequal":
        return label != value
    if key == "true_minus_pred_greater":
        return physical > value
    if key == "true_minus_pred_less":
        return physical < value
    if key == "true_minus_pred_trafo_greater":
        return trafo > value
    if key == "true_minus_pred_trafo_less":
        return trafo < value
    if key == "cut_abs_diff":
        return abs(physical) >= value
    if key == "cut_abs_diff_trafo":
        return abs(trafo) >= value
    if key == "cut_unc_weighted_diff_trafo":
        return abs(trafo) / sigma >= value
    raise AssertionError(key)


@given(
    criteria=st.lists(
        st.tuples(st.sampled_from(CRITERIA), st.integers(0, 2), st.integers(-6, 6)), max_size=4
    ),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=200)
def test_marks_are_those_of_a_slow_loop(criteria: list[tuple[str, int, int]], seed: int) -> None:
    """Halves and powers of two, so that equality happens and division is exact."""
    rng = np.random.default_rng(seed)
    labels, physical, trafo = rng.integers(-6, 7, (3, 20, 3)) / 2
    sigma = 2.0 ** rng.integers(-2, 3, (20, 3))
    residuals = Residuals(*(torch.from_numpy(a).float() for a in (physical, trafo, sigma)))
    cuts = [SelectionCriterion(key, column, half / 2) for key, column, half in criteria]
    found = interesting(cuts, torch.from_numpy(labels).float(), residuals)
    for event in range(20):
        expected = any(
            fits(
                cut.key,
                cut.value,
                labels[event, cut.column],
                physical[event, cut.column],
                trafo[event, cut.column],
                sigma[event, cut.column],
            )
            for cut in cuts
        )
        assert found[event].item() == expected


def test_labels_are_compared_in_their_own_precision() -> None:
    """0.1 is no float32; the label in the file was 0.1 nevertheless."""
    labels = torch.tensor([[0.1], [0.2]], dtype=torch.float32)
    assert interesting([SelectionCriterion("label_equal", 0, 0.1)], labels, None).tolist() == [
        True,
        False,
    ]
    assert interesting([SelectionCriterion("label_unequal", 0, 0.1)], labels, None).tolist() == [
        False,
        True,
    ]


def test_what_is_not_a_number_is_not_interesting() -> None:
    nan = torch.full((1, 1), math.nan)
    for key in CRITERIA:
        if key != "label_unequal":
            assert not interesting(
                [SelectionCriterion(key, 0, 0.0)], nan, Residuals(nan, nan, nan)
            ).item()


def test_only_marks_on_residuals_need_a_prediction() -> None:
    without = [key for key in CRITERIA if not SelectionCriterion(key, 0, 0.0).needs_prediction]
    assert without == ["label_greater", "label_less", "label_equal", "label_unequal"]


def sample(
    share: float, fraction: float, num_pools: int = 400, size: int = 500, max_imbalance: int = 100
) -> tuple[int, int]:
    """Interesting and random events chosen from pools with a known share of interesting ones."""
    rng = np.random.default_rng(1)
    balance, num_interesting, num_random = 0.0, 0, 0
    for pool in range(num_pools):
        marked = rng.random(size) < share
        chosen, balance = choose(marked, fraction, balance, max_imbalance, stream_key(1, pool))
        assert len(np.unique(chosen)) == len(chosen)
        assert np.array_equal(np.sort(chosen[marked[chosen]]), np.flatnonzero(marked))
        num_interesting += int(marked[chosen].sum())
        num_random += int((~marked[chosen]).sum())
        wanted = num_interesting * (1 / fraction - 1)
        assert num_random - wanted <= max_imbalance + 1
    return num_interesting, num_random


@pytest.mark.parametrize(
    ("share", "fraction"),
    [(0.01, 0.5), (0.05, 0.1), (0.05, 0.9), (0.2, 0.3), (0.4, 0.5), (0.01, 0.02)],
)
def test_interesting_events_make_up_their_fraction(share: float, fraction: float) -> None:
    """Exactly so, but for the rounding of the last pool: what is missing is made up for."""
    num_interesting, num_random = sample(share, fraction)
    assert abs(num_random - num_interesting * (1 / fraction - 1)) <= 1


def test_share_about_the_fraction() -> None:
    """Pools above and below the fraction even out."""
    num_interesting, num_random = sample(0.5, 0.5)
    assert num_interesting / (num_interesting + num_random) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("share", "fraction"), [(0.3, 0.1), (0.98, 0.5), (1.0, 0.5)])
def test_more_interesting_events_than_asked_for_are_all_used(share: float, fraction: float) -> None:
    assert sum(sample(share, fraction, num_pools=50)) == 50 * 500


def test_a_fraction_of_one_takes_interesting_events_only() -> None:
    assert sample(0.05, 1.0)[1] == 0


@pytest.mark.parametrize("max_imbalance", [0, 10, 100])
def test_random_events_run_ahead_one_a_pool_up_to_the_limit(max_imbalance: int) -> None:
    assert sample(0.0, 0.5, max_imbalance=max_imbalance) == (0, max_imbalance + 1)


def test_what_was_short_of_random_events_is_made_up_for_only_up_to_the_limit() -> None:
    """As when a network is trained from scratch: at first it gets nearly everything wrong."""
    balance = 0.0
    for pool in range(100):
        _, balance = choose(np.ones(500, dtype=bool), 0.5, balance, 100, pool)
    marked = np.arange(500) < 20
    taken = []
    for pool in range(8):
        chosen, balance = choose(marked, 0.5, balance, 100, pool)
        taken.append(len(chosen) - 20)
    assert taken == [120, 20, 20, 20, 20, 20, 20, 20]


def test_every_random_event_is_equally_likely() -> None:
    marked = np.arange(60) % 6 == 0
    counts = np.zeros(60)
    for key in range(3000):
        chosen, _ = choose(marked, 0.5, 0.0, 100, stream_key(key))
        counts[chosen] += 1
    assert (counts[marked] == 3000).all()
    expected = 3000 * 10 / 50
    assert counts[~marked].sum() == 3000 * 10
    # without replacement, each count has the variance 3000 p (1 - p) with p = 1/5
    chi_square = ((counts[~marked] - expected) ** 2 / (expected * 0.8)).sum() * 49 / 50
    assert abs(chi_square - 49) < 5 * math.sqrt(2 * 49)


@given(size=st.integers(0, 300), repetitions=st.integers(1, 5), key=st.integers(0, 2**64 - 1))
@settings(max_examples=50)
def test_every_repetition_holds_every_event_once(size: int, repetitions: int, key: int) -> None:
    numbers = 1000 + 3 * np.arange(size)
    drawn = repeat_shuffled(numbers, repetitions, key).reshape(repetitions, size)
    for repetition in drawn:
        assert np.array_equal(np.sort(repetition), numbers)
    if size > 50 and repetitions > 1:
        assert not np.array_equal(drawn[0], drawn[1])


def test_a_pool_holds_the_events_of_so_many_files() -> None:
    sizes = np.array([100, 300, 200])
    assert [pool_size(sizes, files) for files in (1, 2, 3, 50)] == [200, 400, 600, 600]
    assert pool_size(np.array([1, 0, 0]), 1) == 1
