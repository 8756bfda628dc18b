"""What the server counts, as text that Prometheus reads (exposition format 0.0.4)."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BATCH_SIZES = tuple(2.0**n for n in range(13))

Labels: TypeAlias = "tuple[tuple[str, str], ...]"


class Histogram:
    """Counts of values up to each bound.

    Parameters
    ----------
    bounds
        Upper bounds, ascending.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, labels: Labels) -> Iterator[str]:
        """Its lines."""
        total = 0
        bounds = [f"{bound:g}" for bound in self._bounds] + ["+Inf"]
        for bound, count in zip(bounds, self._counts, strict=True):
            total += count
            yield _line(f"{name}_bucket", (*labels, ("le", bound)), total)
        yield _line(f"{name}_sum", labels, self._sum)
        yield _line(f"{name}_count", labels, total)


class Metrics:
    """Counters of the server; several threads may count at once."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._events: Counter[str] = Counter()
        self._latencies = defaultdict[str, Histogram](lambda: Histogram(_LATENCIES))
        self._batches = defaultdict[str, Histogram](lambda: Histogram(_BATCH_SIZES))
        self.in_flight = 0

    def count_request(self, model: str, code: int, seconds: float) -> None:
        """Count an inference request, its status code, and how long it took."""
        with self._lock:
            self._requests[model, code] += 1
            self._latencies[model].add(seconds)

    def batch_counter(self, model: str) -> Callable[[int], None]:
        """A function that counts batches of a model."""

        def count(num_events: int) -> None:
            with self._lock:
                self._events[model] += num_events
                self._batches[model].add(num_events)

        return count

    def text(self, queues: Mapping[str, int]) -> str:
        """All metrics.

        Parameters
        ----------
        queues
            Events that wait, by model.
        """
        with self._lock:
            return "\n".join([*self._lines(queues), ""])

    def _lines(self, queues: Mapping[str, int]) -> Iterator[str]:
        yield from _head("requests_total", "counter", "Inference requests by status code.")
        for (model, code), count in sorted(self._requests.items()):
            yield _line("requests_total", (("model", model), ("code", str(code))), count)
        yield from _head("events_total", "counter", "Events predicted.")
        for model, count in sorted(self._events.items()):
            yield _line("events_total", (("model", model),), count)
        yield from _head("request_seconds", "histogram", "Time from request to response.")
        for model, histogram in sorted(self._latencies.items()):
            yield from histogram.lines("request_seconds", (("model", model),))
        yield from _head("batch_events", "histogram", "Events predicted at once.")
        for model, histogram in sorted(self._batches.items()):
            yield from histogram.lines("batch_events", (("model", model),))
        yield from _head("queue_events", "gauge", "Events that wait for their prediction.")
        for model, waiting in queues.items():
            yield _line("queue_events", (("model", model),), waiting)
        yield from _head("requests_in_flight", "gauge", "Inference requests not yet answered.")
        yield _line("requests_in_flight", (), self.in_flight)
        yield from _head("uptime_seconds", "gauge", "Time since the start of the server.")
        yield _line("uptime_seconds", (), round(time.monotonic() - self._start, 3))


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP dnn_reco_{name} {text}", f"# TYPE dnn_reco_{name} {kind}"


def _line(name: str, labels: Labels, value: float) -> str:
    pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
    return f"dnn_reco_{name}{f'{{{pairs}}}' if pairs else ''} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
