"""Batches read ahead are those of the stream; the reading thread ends when it is done with."""

import shutil
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from event_files import random_events, write_events
from make_store import assert_is_event, make_store, read_all
from numpy.typing import NDArray

from dnn_reco.data import loader
from dnn_reco.data.build import open_events
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.hit_batch import TensorBatch
from dnn_reco.data.loader import PrefetchLoader, read_tensors, to_tensors
from dnn_reco.data.sampling import EventOrder
from dnn_reco.errors import DataError


@pytest.fixture
def events(tmp_path: Path) -> EventDataset:
    sources = [
        write_events(tmp_path / f"{i}.hdf5", random_events(i, 20, run=i, empty_fraction=0.1))
        for i in range(2)
    ]
    return open_events(make_store(tmp_path / "store"), sources, 1)


@pytest.fixture
def order(events: EventDataset) -> EventOrder:
    return EventOrder(events.events_per_shard, seed=1, stream="training")


def assert_same_batch(one: TensorBatch, other: TensorBatch) -> None:
    assert one.hits.num_events == other.hits.num_events
    for name in ("event", "dom", "features"):
        assert torch.equal(getattr(one.hits, name), getattr(other.hits, name))
    assert torch.equal(one.labels, other.labels)
    assert torch.equal(one.misc, other.misc)


def reading_threads() -> int:
    return sum(thread.name == "batches" for thread in threading.enumerate())


def test_a_batch_holds_the_events_of_the_order(events: EventDataset, order: EventOrder) -> None:
    files = [random_events(i, 20, run=i, empty_fraction=0.1) for i in range(2)]
    numbers = order.batch(3, 16)
    read = events.read(numbers)
    batch = read_tensors(events, order, 3, 16)
    assert_same_batch(batch, to_tensors(read))
    for position, number in enumerate(numbers):
        assert_is_event(read, position, files[number // 20], number % 20)
        of_event = batch.hits.event == position
        hits = slice(read.hits.offsets[position], read.hits.offsets[position + 1])
        assert batch.hits.dom[of_event].tolist() == read.hits.dom[hits].tolist()
        assert batch.hits.features[of_event].tolist() == read.hits.features[hits].tolist()
    assert batch.hits.num_events == 16
    assert batch.hits.event.dtype == batch.hits.dom.dtype == torch.int64
    assert batch.labels.dtype == batch.hits.features.dtype == torch.float32
    np.testing.assert_array_equal(batch.labels, read.labels)


def test_batches_read_ahead_are_those_of_the_stream(
    events: EventDataset, order: EventOrder
) -> None:
    with PrefetchLoader(events, order.batches(5, 7), depth=3) as stream:
        for number, batch in enumerate(islice(stream, 12), start=5):
            assert_same_batch(batch, read_tensors(events, order, number, 7))


def test_the_same_events_may_be_read_elsewhere_meanwhile(
    events: EventDataset, order: EventOrder
) -> None:
    whole = read_all(events)
    with PrefetchLoader(events, order.batches(0, 7)) as stream:
        for _ in islice(stream, 30):
            np.testing.assert_array_equal(read_all(events).hits.features, whole.hits.features)


def test_the_thread_ends_with_the_block(events: EventDataset, order: EventOrder) -> None:
    before = reading_threads()
    with PrefetchLoader(events, order.batches(0, 7), depth=2) as stream:
        next(iter(stream))
        assert reading_threads() == before + 1
    assert reading_threads() == before
    assert list(stream) == []  # and whoever goes on reading does not wait for ever
    with pytest.raises(KeyboardInterrupt), PrefetchLoader(events, order.batches(0, 7)):
        raise KeyboardInterrupt
    assert reading_threads() == before


def test_the_consumer_asks_for_events_a_fixed_number_of_batches_ahead(
    events: EventDataset, order: EventOrder
) -> None:
    """However long the thread takes: selections depend on when they happen in the training."""
    asked = 0

    def numbers() -> Iterator[NDArray[np.int64]]:
        nonlocal asked
        for batch in order.batches(0, 7):
            assert threading.current_thread() is threading.main_thread()
            asked += 1
            yield batch

    with PrefetchLoader(events, numbers(), depth=3) as stream:
        for taken, _ in enumerate(islice(stream, 20), start=1):
            assert asked == taken + 3
            time.sleep(0.002 * (taken % 3))


def test_the_batches_end_where_the_numbers_end(events: EventDataset, order: EventOrder) -> None:
    for num_batches in (0, 1, 2, 5):
        numbers = list(islice(order.batches(0, 7), num_batches))
        with PrefetchLoader(events, numbers, depth=2) as stream:
            read = list(stream)
        assert len(read) == num_batches
        for number, batch in enumerate(read):
            assert_same_batch(batch, read_tensors(events, order, number, 7))


def test_what_goes_wrong_while_reading_reaches_the_consumer(
    tmp_path: Path, events: EventDataset, order: EventOrder
) -> None:
    before = reading_threads()
    shutil.rmtree(tmp_path / "store")
    with (
        pytest.raises(DataError, match="lost a part"),
        PrefetchLoader(events, order.batches(0, 7)) as stream,
    ):
        next(iter(stream))
    assert reading_threads() == before


def test_only_waiting_counts_as_waiting(
    events: EventDataset, order: EventOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_read = threading.Event()

    def slow_read(*arguments: object) -> TensorBatch:
        may_read.wait()
        return to_tensors(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loader, "to_tensors", slow_read)
    with PrefetchLoader(events, order.batches(0, 7), depth=4) as stream:
        timer = threading.Timer(0.5, may_read.set)
        timer.start()
        taking = iter(stream)
        next(taking)
        waited = stream.seconds_waited
        assert waited >= 0.4
        time.sleep(0.5)  # the consumer computes, the thread reads on
        next(taking)
        assert stream.seconds_waited - waited < 0.4
        timer.join()
