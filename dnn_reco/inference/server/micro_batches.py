"""Micro-batches: requests that wait at the same time are predicted together.

A batch of 32 events takes far less than 32 times as long as one event. One thread takes the waiting
requests, as many as fit into a batch, predicts them at once, and gives each its own rows. Which
requests share a batch changes their predictions by no more than the rounding of float32.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from dnn_reco.errors import DnnRecoError

Columns: TypeAlias = "Mapping[str, NDArray[Any]]"
"""Values [n] of each output, one row per event."""

_Source = TypeVar("_Source")


class QueueFullError(DnnRecoError):
    """Too many events wait already."""


class ClosedError(DnnRecoError):
    """Nothing is accepted any more."""


@dataclass(frozen=True)
class BatchSettings:
    """How requests are collected.

    Attributes
    ----------
    batch_size
        Events in a batch at most; a larger request is one batch.
    max_wait
        How long [s] a request waits for others to share its batch.
    max_queue
        Events that may wait.
    """

    batch_size: int = 256
    max_wait: float = 0.002
    max_queue: int = 4096


@dataclass(frozen=True)
class _Job(Generic[_Source]):
    source: _Source
    num_events: int
    arrival: float
    result: Future[Columns]


class MicroBatches(Generic[_Source]):
    """Collects requests into batches and predicts these, in its own thread.

    Parameters
    ----------
    predict
        Predicts the events of several requests, one after the other.
    settings
        How requests are collected.
    observe
        Called with the number of events of each batch.
    """

    def __init__(
        self,
        predict: Callable[[Sequence[_Source]], Columns],
        settings: BatchSettings,
        observe: Callable[[int], None] = lambda num_events: None,
    ) -> None:
        self._predict = predict
        self._observe = observe
        self.settings = settings
        self._waiting: deque[_Job[_Source]] = deque()
        self._num_waiting = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="micro-batches", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Events that wait."""
        return self._num_waiting

    @property
    def is_ready(self) -> bool:
        """Whether requests are accepted."""
        return self._thread.is_alive() and not self._is_closed

    def submit(self, source: _Source, num_events: int) -> Future[Columns]:
        """Let a request wait for its prediction; who cancels the result takes it back.

        Raises
        ------
        QueueFullError
            If too many events wait.
        ClosedError
            After `close`.
        """
        with self._changed:
            if not self.is_ready:
                raise ClosedError("the server is shutting down")
            if self._num_waiting + num_events > self.settings.max_queue:
                raise QueueFullError(
                    f"{self._num_waiting} events are already waiting: try again later"
                )
            job = _Job(source, num_events, time.monotonic(), Future[Columns]())
            self._waiting.append(job)
            self._num_waiting += num_events
            self._changed.notify()
        return job.result

    def close(self) -> None:
        """Accept nothing more, and return when all that waited is answered."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while jobs := self._next_batch():
            started = [job for job in jobs if job.result.set_running_or_notify_cancel()]
            if started:
                self._answer(started)

    def _next_batch(self) -> list[_Job[_Source]]:
        """Wait for requests and take as many as fit into a batch; none after the last one."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            if self._waiting:
                end = self._waiting[0].arrival + self.settings.max_wait
                self._changed.wait_for(
                    lambda: self._num_waiting >= self.settings.batch_size or self._is_closed,
                    timeout=max(end - time.monotonic(), 0.0),
                )
            jobs: list[_Job[_Source]] = []
            free = self.settings.batch_size
            while self._waiting and (not jobs or self._waiting[0].num_events <= free):
                jobs.append(self._waiting.popleft())
                free -= jobs[-1].num_events
                self._num_waiting -= jobs[-1].num_events
        return jobs

    def _answer(self, jobs: Sequence[_Job[_Source]]) -> None:
        """Predict requests together; one by one if that fails, so that one cannot harm another."""
        try:
            columns = self._predict([job.source for job in jobs])
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].result.set_exception(error)
            else:
                for job in jobs:
                    self._answer([job])
            return
        stops = np.cumsum([job.num_events for job in jobs]).tolist()
        self._observe(stops[-1])
        for job, stop in zip(jobs, stops, strict=True):
            rows = slice(stop - job.num_events, stop)
            job.result.set_result({name: values[rows] for name, values in columns.items()})
