"""Ctrl-C, SIGTERM and SIGHUP as a request to stop, served between two iterations."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_on_signals(
    tolerate_repetition: bool = False,
) -> Iterator[Callable[[], signal.Signals | None]]:
    """Turn SIGINT (Ctrl-C), SIGTERM and SIGHUP into a request to stop after the current iteration.

    Yields a function that returns the signal that came, None as long as there was none. A second
    signal stops the program at once, except for SIGTERM or SIGHUP after one of the two: batch
    systems send SIGTERM to the script of a job as well as to its programs, and the script passes it
    on; a terminal that closes, or a shut-down, may send both. A SIGHUP that is ignored (`nohup`)
    stays so.

    Parameters
    ----------
    tolerate_repetition
        Whether a repeated Ctrl-C does not stop the program either: `torchrun` passes it on to
        processes that have seen it themselves.
    """
    received: list[signal.Signals] = []
    numbers = stop_signals()
    before = {number: signal.getsignal(number) for number in numbers}

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number))
        if number == signal.SIGINT:
            tolerated = {signal.SIGINT} if tolerate_repetition else set()
        else:
            tolerated = {*numbers} - {signal.SIGINT}
        for each in numbers:
            if each not in tolerated:  # a repetition may come at any moment
                signal.signal(each, before[each])

    for number in numbers:
        signal.signal(number, handle)
    try:
        yield lambda: received[0] if received else None
    finally:
        for number in numbers:
            signal.signal(number, before[number])


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals that ask a training to stop; without SIGHUP where it is ignored (`nohup`)."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return signal.SIGINT, signal.SIGTERM
    return signal.SIGINT, signal.SIGTERM, signal.SIGHUP
