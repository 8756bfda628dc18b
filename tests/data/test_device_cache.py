"""Batches put together in memory are those that are read."""

from pathlib import Path

import numpy as np
import pytest
import torch
from event_files import random_events, write_events
from make_store import make_store

from dnn_reco.data.build import open_events
from dnn_reco.data.device_cache import DeviceEvents, DeviceLoader, size_in_memory
from dnn_reco.data.event_dataset import EventBatch, EventDataset
from dnn_reco.data.loader import PrefetchLoader, to_tensors


@pytest.fixture(params=["float32", "float64"])
def events(tmp_path: Path, request: pytest.FixtureRequest) -> EventDataset:
    sources = [
        write_events(tmp_path / f"{i}.hdf5", random_events(i, 20, run=i, empty_fraction=0.2))
        for i in range(2)
    ]
    return open_events(make_store(tmp_path / "store", dtype=request.param), sources, 1)


def weight_function(events: EventBatch) -> torch.Tensor:
    return torch.from_numpy(events.labels[:, :1] / events.labels[:, :1].max())


@pytest.mark.parametrize("local_slice", [slice(None), slice(3, 7), slice(0, 0)])
def test_batches_are_those_that_are_read(
    events: EventDataset, local_slice: slice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dnn_reco.data.device_cache._EVENTS_PER_READ", 7)
    resident = DeviceEvents(events, torch.device("cpu"))
    numbers = [np.random.default_rng(i).integers(0, 40, 16) for i in range(20)]
    with (
        PrefetchLoader(
            events, numbers, weight_function=weight_function, local_slice=local_slice
        ) as read,
        DeviceLoader(resident, numbers, weight_function, local_slice) as there,
    ):
        pairs = list(zip(read, there, strict=True))
    assert len(pairs) == 20
    for one, other in pairs:
        assert one.hits.num_events == other.hits.num_events
        for a, b in (
            (one.hits.event, other.hits.event),
            (one.hits.dom, other.hits.dom),
            (one.hits.features, other.hits.features),
            (one.labels, other.labels),
            (one.misc, other.misc),
            (one.event_weights, other.event_weights),
        ):
            assert a is not None and b is not None
            assert a.dtype == b.dtype
            assert torch.equal(a, b)


def test_numbers_are_asked_for_as_early_as_when_batches_are_read(events: EventDataset) -> None:
    """Biased selection looks at the weights whenever it is asked for numbers."""

    def asked_before_each(kind: str) -> list[int]:
        asked = 0

        def numbers():
            nonlocal asked
            for i in range(12):
                asked += 1
                yield np.array([i])

        batches = (
            PrefetchLoader(events, numbers())
            if kind == "read"
            else DeviceLoader(DeviceEvents(events, torch.device("cpu")), numbers())
        )
        with batches:
            return [asked for _ in batches]

    assert asked_before_each("resident") == asked_before_each("read")


def test_size_is_that_of_the_numbers(events: EventDataset) -> None:
    batch = to_tensors(events.read(np.arange(len(events))))
    tensors = (batch.hits.features, batch.labels, batch.misc)
    expected = sum(t.numel() * t.element_size() for t in tensors) + 2 * len(batch.hits.dom)
    assert size_in_memory(events) == expected
