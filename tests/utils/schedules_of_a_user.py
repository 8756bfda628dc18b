"""Learning-rate schedules as users write them."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Halving:
    """The rate is halved every few steps."""

    start: float
    every: int

    def __call__(self, step: int) -> float:
        return self.start / 2 ** (step // self.every)


def sinking(start: float) -> Callable[[int], float]:
    """A schedule that falls below 0 at the third step."""
    return lambda step: start * (2 - step) if step < 3 else -1.0


def number(rate: float) -> float:
    return rate


def broken(rate: float) -> Callable[[int], float]:
    raise RuntimeError("out of order")


@dataclass
class Deaf:
    """Does nothing."""

    def __call__(self, step: int) -> None:
        return None
