"""Threads that compute on CPUs.

PyTorch divides each operation among its threads, which then wait for each other in a loop that
keeps their CPUs busy: where other programs run, all wait for the one that the system has suspended.
Networks that compute in pieces (`run_pieces`) need that no longer. Each thread takes the next piece
when it is free, and none spins. Pieces do not depend on the number of threads, nor do results.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

_number: int | None = None
_helpers: tuple[int, int, ThreadPoolExecutor] | None = None


def num_threads() -> int:
    """Number of threads that compute on CPUs: that of `use_threads`, otherwise that of PyTorch."""
    return torch.get_num_threads() if _number is None else _number


def computes_in_pieces(network: object) -> bool:
    """Whether a network computes in pieces: its attribute of this name, False without one."""
    return bool(getattr(network, "computes_in_pieces", False))


def use_threads(number: int, in_pieces: bool) -> None:
    """Compute with this number of threads: in pieces, or each operation by all of PyTorch's."""
    global _number
    _number = number
    torch.set_num_threads(1 if in_pieces else number)


@contextmanager
def at_most_threads(number: int | None) -> Iterator[None]:
    """Compute with at most this number of threads; None or 0: with as many as before."""
    global _number
    before = _number, torch.get_num_threads()
    if number:
        _number = min(number, num_threads())
        torch.set_num_threads(min(number, torch.get_num_threads()))
    try:
        yield
    finally:
        _number = before[0]
        torch.set_num_threads(before[1])


def run_pieces(compute: Callable[[int], None], count: int) -> None:
    """Call `compute(piece)` for each piece 0 … count - 1, in several threads.

    They run at the same time as far as `compute` releases the global interpreter lock.
    """
    pieces = iter(range(count))

    def work() -> None:
        for piece in pieces:
            compute(piece)

    number = min(num_threads(), count)
    helpers = [_pool(num_threads()).submit(work) for _ in range(number - 1)]
    try:
        work()
    finally:
        for helper in helpers:
            # one that has not started has nothing left to do
            if not helper.cancel():
                helper.result()


def _pool(number: int) -> ThreadPoolExecutor:
    """Helping threads of this process: a forked one has none."""
    global _helpers
    if _helpers is None or _helpers[:2] != (os.getpid(), number):
        _helpers = (os.getpid(), number, ThreadPoolExecutor(number - 1, "dnn_reco"))
    return _helpers[2]
