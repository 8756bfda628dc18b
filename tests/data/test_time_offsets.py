"""Random time offsets and the offsets of single DOMs."""

import numpy as np
import pytest
from scipy.stats import kstest

from dnn_reco.data.features import dom_features
from dnn_reco.data.file_events import EVENT_ID
from dnn_reco.data.pulses import Pulses
from dnn_reco.data.time_offsets import TimeReference, dom_time_offsets, event_randoms, uses_vertex
from dnn_reco.detector.constants import SPEED_OF_FIRST_LIGHT
from dnn_reco.errors import ConfigError

RANDOM = "cascade_vertex_random_uniform_minus_plus_200_500"


def ids_of(n: int, run: int = 1) -> np.ndarray:
    ids = np.zeros(n, EVENT_ID)
    ids["Run"], ids["Event"], ids["SubEvent"] = run, np.arange(n) // 2, np.arange(n) % 2
    return ids


def pulses_of(n: int) -> Pulses:
    """One pulse at 1000 ns in DOM 5 of each event."""
    event = np.arange(n)
    flags = np.zeros(n, np.uint8)
    return Pulses(n, event, np.full(n, 5), np.full(n, 1000.0), np.ones(n), flags)


def test_random_numbers_are_uniform_and_belong_to_the_event() -> None:
    ids = ids_of(20_000)
    found = event_randoms(3, ids)
    assert kstest(found, "uniform").pvalue > 1e-3
    assert found.min() >= 0 and found.max() < 1
    assert len(np.unique(found)) == len(ids)
    order = np.random.default_rng(0).permutation(len(ids))
    assert np.array_equal(event_randoms(3, ids[order]), found[order])
    for other in (event_randoms(4, ids), event_randoms(3, ids_of(20_000, run=2))):
        assert abs(np.corrcoef(found, other)[0, 1]) < 0.03
    stream = ids.copy()
    stream["SubEventStream"] = 3
    assert np.array_equal(event_randoms(3, stream), found)


def test_random_offset_around_the_vertex() -> None:
    vertex = np.array([[0.0, 0.0, 0.0, 900.0]] * 3)
    made = dom_features(
        pulses_of(3),
        "charge_bins_and_times",
        RANDOM,
        time_bins=[-1e4, 1e4],
        vertex=vertex,
        random=np.array([0.0, 0.5, 1.0]),
    )
    assert made.time_offset.tolist() == [700.0, 1050.0, 1400.0]
    assert made.hits.features[:, 0].tolist() == [1000.0] * 3
    assert made.hits.features[:, 1].tolist() == [700.0, 1050.0, 1400.0]


@pytest.mark.parametrize(
    ("method", "random", "message"),
    [
        (RANDOM, None, "needs a random number for each of the 2 events"),
        (RANDOM, np.zeros(1), "needs a random number"),
        (f"{RANDOM}_3", np.zeros(2), "two numbers must follow"),
        (f"{RANDOM[:-8]}_a_b", np.zeros(2), "two numbers must follow"),
        ("cascade_vertex_random_uniform_minus_plus_-20_10", np.zeros(2), "end before it starts"),
        ("cascade_vertex_random_uniform_minus_plus_0_inf", np.zeros(2), "must be finite"),
        ("cascade_vertex_random", np.zeros(2), "unknown relative time method"),
    ],
)
def test_unusable_random_offset(method: str, random: np.ndarray | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dom_features(
            pulses_of(2), relative_time_method=method, vertex=np.zeros((2, 4)), random=random
        )


def test_speed_of_first_light() -> None:
    """The number that the original tools hold for it."""
    assert pytest.approx(0.22103046286329384, rel=1e-9) == SPEED_OF_FIRST_LIGHT


def test_offset_of_doms_with_and_without_pulses() -> None:
    event, dom = np.array([0, 0, 1]), np.array([4, 5, 6])
    found = dom_time_offsets(pulses_of(2), TimeReference("wf_quantile"), event, dom)
    assert found.tolist() == [0.0, 1000.0, 0.0]
    vertex = np.array([[0.0, 0.0, 0.0, 100.0], [0.0, 0.0, 0.0, 200.0]])
    reference = TimeReference("cascade_vertex", vertex)
    assert dom_time_offsets(pulses_of(2), reference, event, dom).tolist() == [100.0, 100.0, 200.0]


def test_which_methods_use_a_vertex() -> None:
    assert uses_vertex(RANDOM) and uses_vertex("First_Light_at_DOM")
    assert not uses_vertex("time_range") and not uses_vertex(None)
