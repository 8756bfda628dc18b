"""Requests that are predicted together: each gets its own rows, and none harms another."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future

import numpy as np
import pytest

from dnn_reco.errors import DataError
from dnn_reco.inference.server.micro_batches import (
    BatchSettings,
    ClosedError,
    Columns,
    MicroBatches,
    QueueFullError,
)

BAD = "bad"


class Network:
    """Squares numbers, once its gate is open; refuses what is bad."""

    def __init__(self) -> None:
        self.gate, self.begun = threading.Event(), threading.Event()
        self.batches: list[list[object]] = []

    def predict(self, sources: Sequence[object]) -> Columns:
        self.batches.append(list(sources))
        self.begun.set()
        assert self.gate.wait(20)
        if BAD in sources:
            raise DataError("a bad request")
        values = np.concatenate([np.asarray(source) for source in sources])
        return {"square": values**2, "number": values}


@pytest.fixture
def network() -> Network:
    return Network()


def occupied(network: Network, **settings: float) -> MicroBatches[object]:
    """Batches of which the first, one event, is being predicted."""
    batches = MicroBatches[object](network.predict, BatchSettings(max_wait=0, **settings))
    batches.submit((7,), 1)
    assert network.begun.wait(20)
    return batches


def square(result: "Future[Columns]") -> list[int]:
    return result.result(20)["square"].tolist()


def test_waiting_requests_share_a_batch_up_to_its_size(network: Network) -> None:
    batches = occupied(network, batch_size=4)
    sources = [(1,), (2, 3), (), (4, 5), (6, 7, 8, 9, 10), (11,)]
    results = [batches.submit(source, len(source)) for source in sources]
    assert batches.num_waiting == 11
    network.gate.set()
    assert [square(result) for result in results] == [[n * n for n in s] for s in sources]
    assert network.batches == [[(7,)], sources[:3], [sources[3]], [sources[4]], [sources[5]]]
    batches.close()


def test_a_bad_request_fails_alone(network: Network) -> None:
    batches = occupied(network)
    sources = [(1,), BAD, (2, 3)]
    results = [
        batches.submit(source, len(source) if source is not BAD else 1) for source in sources
    ]
    network.gate.set()
    assert square(results[0]) == [1] and square(results[2]) == [4, 9]
    with pytest.raises(DataError, match="a bad request"):
        results[1].result(20)
    assert square(batches.submit((5,), 1)) == [25]
    batches.close()


def test_full_queue(network: Network) -> None:
    batches = occupied(network, max_queue=3)
    result = batches.submit((1, 2), 2)
    with pytest.raises(QueueFullError, match="2 events are already waiting"):
        batches.submit((3, 4), 2)
    other = batches.submit((5,), 1)
    network.gate.set()
    assert square(result) == [1, 4] and square(other) == [25]
    batches.close()
    assert batches.num_waiting == 0


def test_requests_taken_back_are_not_predicted(network: Network) -> None:
    batches = occupied(network)
    kept, gone = batches.submit((1,), 1), batches.submit((2,), 1)
    assert gone.cancel()
    network.gate.set()
    assert square(kept) == [1]
    with pytest.raises(CancelledError):
        gone.result(20)
    batches.close()
    assert network.batches == [[(7,)], [(1,)]]


def test_closing_answers_what_waits_and_accepts_no_more(network: Network) -> None:
    batches = occupied(network, batch_size=1)
    results = [batches.submit((n,), 1) for n in range(3)]
    closing = threading.Thread(target=batches.close)
    closing.start()
    while batches.is_ready:
        time.sleep(0.001)
    with pytest.raises(ClosedError):
        batches.submit((9,), 1)
    network.gate.set()
    closing.join(20)
    assert all(result.done() for result in results)
    assert [square(result) for result in results] == [[0], [1], [4]]


def test_a_request_waits_for_others(network: Network) -> None:
    """Until the batch is full, though the time it may wait is long."""
    network.gate.set()
    seen: list[int] = []
    settings = BatchSettings(batch_size=2, max_wait=60)
    batches = MicroBatches[object](network.predict, settings, seen.append)
    results = [batches.submit((n,), 1) for n in (3, 4)]
    assert [square(result) for result in results] == [[9], [16]]
    last = batches.submit((5,), 1)
    batches.close()  # waits no longer
    assert square(last) == [25]
    assert seen == [2, 1]
