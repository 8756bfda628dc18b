"""Ctrl-C and SIGTERM as a request to stop, served between two iterations."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_on_signals(
    tolerate_repetition: bool = False,
) -> Iterator[Callable[[], signal.Signals | None]]:
    """Turn SIGINT (Ctrl-C) and SIGTERM into a request to stop after the current iteration.

    Yields a function that returns the signal that came, None as long as there was none. A second
    signal stops the program at once, except for a repeated SIGTERM: batch systems send it to the
    script of a job as well as to its programs, and the script passes it on.

    Parameters
    ----------
    tolerate_repetition
        Whether a repeated Ctrl-C does not stop the program either: `torchrun` passes it on to
        processes that have seen it themselves.
    """
    received: list[signal.Signals] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    tolerated = numbers if tolerate_repetition else (signal.SIGTERM,)
    before = {number: signal.getsignal(number) for number in numbers}

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number))
        for each in numbers:
            if each != number or each not in tolerated:  # a repetition may come at any moment
                signal.signal(each, before[each])

    for number in numbers:
        signal.signal(number, handle)
    try:
        yield lambda: received[0] if received else None
    finally:
        for number in numbers:
            signal.signal(number, before[number])
