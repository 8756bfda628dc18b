"""What a training needs, computed from what was measured: time, memory, space on the disk."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dnn_reco.training.settings import TrainerSettings
from dnn_reco.training.timing import StepTimings

MARGIN = 1.3
"""Ratio of what is requested to what is expected: machines and batches differ."""

_MEBIBYTE = 2**20  # as batch systems count
_MEMORY_STEP = 512 * _MEBIBYTE
_WORKER = 60e6  # bytes of a process that has only been started
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@dataclass(frozen=True)
class Span:
    """The iterations `first` … `last` - 1, which stage `stage` (from 0) has still to do."""

    stage: int
    first: int
    last: int


@dataclass(frozen=True)
class Item:
    """Something that a training does `count` times, for so many seconds each time."""

    name: str
    count: int
    seconds_each: float

    @property
    def seconds(self) -> float:
        """Seconds together."""
        return self.count * self.seconds_each


def remaining_spans(ends: Sequence[int], done: int) -> list[Span]:
    """What is left to do of stages that end after so many iterations, of which some are done."""
    begins = [0, *ends[:-1]]
    spans = [
        Span(stage, max(begin, done), end)
        for stage, (begin, end) in enumerate(zip(begins, ends, strict=True))
    ]
    return [span for span in spans if span.first < span.last]


def training_items(
    span: Span, settings: TrainerSettings, timings: StepTimings, set_events: int
) -> Iterator[Item]:
    """What a stage of a training does, with its seconds.

    Parameters
    ----------
    span
        Its iterations.
    settings
        How often it validates and saves.
    timings
        What was measured.
    set_events
        Events of the validation set; those that were measured may be fewer.
    """
    yield Item("iterations", span.last - span.first, timings.step)
    if timings.choosing:
        yield Item("choices of their events", span.last - span.first, timings.choosing)
    printed = _multiples(span.first, span.last - 1, settings.validation_frequency)
    yield Item("printed metrics", printed, timings.batch_metrics)
    if timings.set_events:
        # each might be the best so far, which is saved
        seconds = timings.evaluation * set_events / timings.set_events + timings.checkpoint
        count = _multiples_and_last(span, settings.validation_set_frequency)
        yield Item("evaluations of the validation set", count, seconds)
    if settings.checkpoints is not None:
        count = _multiples_and_last(span, settings.save_frequency)
        yield Item("checkpoints", count, timings.checkpoint)


def iterations_within(seconds: float, settings: TrainerSettings, timings: StepTimings) -> int:
    """How many iterations fit into a time, with all that is done between them; at least 1."""

    def needed(iterations: int) -> float:
        items = training_items(Span(0, 0, iterations), settings, timings, timings.set_events)
        return sum(item.seconds for item in items)

    most = int(seconds / timings.step) + 1
    return max(1, bisect_right(range(most + 1), seconds, key=needed) - 1)


def _multiples(low: int, high: int, factor: int) -> int:
    """How many of low … high are multiples of a number."""
    return high // factor - (low - 1) // factor


def _multiples_and_last(span: Span, factor: int) -> int:
    """How often something happens after every so many iterations, and after the last one."""
    return _multiples(span.first + 1, span.last, factor) + (span.last % factor > 0)


def checkpoints_kept(iterations: int, settings: TrainerSettings) -> int:
    """Number of checkpoints that are there after so many iterations."""
    return min(
        settings.max_to_keep, _multiples_and_last(Span(0, 0, iterations), settings.save_frequency)
    )


def memory_while_building(main: float, growth: float, workers: int) -> float:
    """Bytes in use while several processes build the event store.

    Parameters
    ----------
    main
        Bytes of this process.
    growth
        By how much it grew when it built a part of the store.
    workers
        Number of the other processes.
    """
    return main + workers * (_WORKER + growth)


def memory_to_ask_for(used: float) -> str:
    """Memory to ask a batch system for if so many bytes are used: half gigabytes, with a margin."""
    steps = math.ceil(MARGIN * used / _MEMORY_STEP)
    return f"{steps / 2:g} GB"


def time_to_ask_for(seconds: float) -> str:
    """Time to ask a batch system for if a training takes so long: rounded up, with a margin.

    Below two hours it is in steps of 10 minutes, below two days in hours, above in half days.
    """
    wanted = MARGIN * seconds
    step = 10 * _MINUTE if wanted <= 2 * _HOUR else _HOUR if wanted <= 2 * _DAY else _DAY // 2
    rounded = step * max(1, math.ceil(wanted / step))
    days, rest = divmod(rounded, _DAY)
    if rounded <= 2 * _DAY:
        days, rest = 0, rounded
    hours, minutes = rest // _HOUR, rest % _HOUR // _MINUTE
    parts = ((days, "d"), (hours, "h"), (minutes, "m"))
    return "".join(f"{number}{unit}" for number, unit in parts if number)
