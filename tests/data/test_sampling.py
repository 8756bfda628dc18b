"""The order of events: permutations, epochs, windows, independence of streams."""

import hashlib
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnn_reco.data.sampling import EventOrder, permute, permute_each, stream_key


@given(size=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
@settings(max_examples=60)
def test_permute_is_a_permutation(size: int, key: int) -> None:
    assert np.array_equal(np.sort(permute(np.arange(size), size, key)), np.arange(size))


def test_permute_of_a_part_is_the_part_of_the_permutation() -> None:
    whole = permute(np.arange(10_000), 10_000, 5)
    part = np.array([17, 9_999, 0, 4_711])
    assert np.array_equal(permute(part, 10_000, 5), whole[part])


def test_permutations_look_random() -> None:
    """Neighbours part, and over many keys each place is taken by each event equally often."""
    order = permute(np.arange(50_000), 50_000, 1)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(np.arange(50_000), order)[0, 1]) < 0.02
    counts = np.zeros((10, 10))
    for key in range(3000):
        counts[np.arange(10), permute(np.arange(10), 10, stream_key(key))] += 1
    chi_square = ((counts - 300) ** 2 / 300).sum()
    assert chi_square < 81 + 5 * np.sqrt(2 * 81)  # 81 degrees of freedom, five sigma


@pytest.mark.parametrize("window", [0, 1, 3, 100])
def test_every_epoch_holds_every_event_once(window: int) -> None:
    order = EventOrder(
        np.array([5, 0, 11, 3, 1, 0, 7, 8]), seed=3, stream="training", window=window
    )
    assert order.num_events == 35
    drawn = np.concatenate([order.batch(number, 10) for number in range(7)])
    first, second = drawn[:35], drawn[35:]
    assert np.array_equal(np.sort(first), np.arange(35))
    assert np.array_equal(np.sort(second), np.arange(35))
    assert not np.array_equal(first, second)


def test_a_window_reads_only_its_shards() -> None:
    order = EventOrder(np.full(20, 100), seed=1, stream="training", window=4)
    for number in range(5):
        shards = np.unique(order.batch(number, 400) // 100)
        assert len(shards) == 4


def test_batches_depend_on_seed_stream_and_number_only() -> None:
    counts = np.array([100, 200])
    order = EventOrder(counts, seed=1, stream="training")
    again = EventOrder(counts, seed=1, stream="training")
    assert np.array_equal(order.batch(7, 32), again.batch(7, 32))
    for other in (EventOrder(counts, 2, "training"), EventOrder(counts, 1, "validation")):
        assert not np.array_equal(order.batch(7, 32), other.batch(7, 32))


@pytest.mark.parametrize(("window", "batch_size"), [(0, 32), (3, 32), (0, 5000)])
def test_batches_one_after_the_other_are_the_batches_by_number(
    window: int, batch_size: int
) -> None:
    order = EventOrder(np.full(7, 100), seed=1, stream="training", window=window)
    for number, batch in enumerate(islice(order.batches(3, batch_size), 200), start=3):
        assert np.array_equal(batch, order.batch(number, batch_size))


def test_fewer_events_than_a_batch_fill_it_by_repetition() -> None:
    batch = EventOrder(np.array([3]), seed=1, stream="training").batch(0, 8)
    assert len(batch) == 8
    assert set(batch) == {0, 1, 2}


@pytest.mark.parametrize("window", [0, 1, 2, 100])
def test_a_shard_is_visited_as_often_as_asked_for(window: int) -> None:
    visits = np.array([3, 1, 2])
    order = EventOrder(np.array([4, 5, 2]), 3, "training", window, visits)
    assert order.num_events == 3 * 4 + 5 + 2 * 2
    for epoch in range(3):
        drawn = order.batch(epoch, order.num_events)
        assert np.bincount(drawn).tolist() == [3] * 4 + [1] * 5 + [2] * 2


@pytest.mark.parametrize("window", [0, 1])
def test_a_visit_uses_some_events_of_a_large_shard(window: int) -> None:
    order = EventOrder(np.array([300, 5]), 3, "training", window, max_per_visit=10)
    assert order.num_events == 15
    counts = np.zeros(305)
    for epoch in range(3000):
        drawn = order.batch(epoch, 15)
        assert len(np.unique(drawn)) == 15
        assert np.count_nonzero(drawn < 300) == 10
        counts[drawn] += 1
    assert (counts[300:] == 3000).all()
    # each event has the chance 1/30: variance 3000 / 30 * 29 / 30, and the sum is fixed
    chi_square = ((counts[:300] - 100) ** 2 / (100 * 29 / 30)).sum()
    assert abs(chi_square - 300) < 5 * np.sqrt(2 * 300)


def test_visits_of_one_shard_choose_independently() -> None:
    """Of two visits that use half of the events each, half of the first is in the second, too."""
    order = EventOrder(np.array([1000]), 3, "training", 0, np.array([2]), 500)
    twice = [np.count_nonzero(np.bincount(order.batch(epoch, 1000)) == 2) for epoch in range(20)]
    assert abs(np.mean(twice) - 250) < 5 * np.sqrt(1000 / 16 / 20)


@pytest.mark.parametrize("window", [0, 2])
def test_sampled_batches_are_a_function_of_their_number(window: int) -> None:
    def order() -> EventOrder:
        return EventOrder(np.array([30, 7, 500]), 3, "biased", window, np.array([1, 4, 2]), 20)

    for number, batch in enumerate(islice(order().batches(5, 32), 150), start=5):
        assert np.array_equal(batch, order().batch(number, 32))


def test_each_position_has_its_own_permutation() -> None:
    sizes = np.repeat([1, 2, 10, 777], [1, 2, 10, 777])
    positions = np.concatenate([np.arange(size) for size in (1, 2, 10, 777)])
    places = permute_each(positions, sizes, sizes.astype(np.uint64))
    for size in (1, 2, 10, 777):
        assert np.array_equal(np.sort(places[sizes == size]), np.arange(size))
    counts = np.zeros((10, 10))
    for key in range(3000):
        keys = np.full(10, stream_key(key) >> 1, dtype=np.uint64)
        counts[np.arange(10), permute_each(np.arange(10), np.full(10, 10), keys)] += 1
    chi_square = ((counts - 300) ** 2 / 300).sum()
    assert chi_square < 81 + 5 * np.sqrt(2 * 81)


def slow_mix(value: int) -> int:
    """Finaliser of SplitMix64 in whole numbers, without its last bit."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return (value ^ value >> 31) >> 1


def slow_permute(position: int, size: int, keys: list[int]) -> int:
    """Place of a number: row and column of a table, shifted in turn until it is in the range."""
    rows = 1
    while rows * rows < size:
        rows += 1
    columns = -(-size // rows)
    while True:
        row, column = divmod(position, columns)
        for row_key, column_key in zip(keys[::2], keys[1::2], strict=True):
            row = (row + slow_mix(column ^ row_key)) % rows
            column = (column + slow_mix(row ^ column_key)) % columns
        position = row * columns + column
        if position < size:
            return position


@pytest.mark.parametrize("size", [1, 2, 7, 16, 17, 1000])
def test_orders_stay_those_of_earlier_trainings(size: int) -> None:
    """A training that goes on with a later version takes up the same order of events."""
    keys = [stream_key(99, number) for number in range(10)]
    expected = [slow_permute(position, size, keys) for position in range(size)]
    assert permute(np.arange(size), size, 99).tolist() == expected
    digest = hashlib.blake2b(b"99/training/3", digest_size=8).digest()
    assert stream_key(99, "training", 3) == int.from_bytes(digest, "little")
    assert slow_mix(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF >> 1  # published, of the seed 0
