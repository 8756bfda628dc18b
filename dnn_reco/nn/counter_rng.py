"""A counter-based random number generator: a random number for each hit, event or other item.

Each number is a function of a key and a counter, which identifies for example a hit of a batch. It
does not depend on which others are drawn, in which order, or in which process. Keys come from
PyTorch's generator, which training seeds in each iteration, equally in all processes.

The function is the finalizer of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), whose numbers pass
the usual tests of randomness.
"""

import math

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MULTIPLIERS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))
_NUM_BITS = 24  # integers of this many bits are exact in float32


def new_key() -> int:
    """A key drawn from PyTorch's global generator."""
    return int(torch.randint(2**62, ()))


def uniform(key: int, counter: Tensor, dtype: torch.dtype) -> Tensor:
    """Uniform numbers from 0 (inclusive) to 1 (exclusive), in the shape of `counter`.

    Parameters
    ----------
    key
        The same key and counter give the same number.
    counter
        What each number belongs to: int64, any shape.
    dtype
        Type of the result.
    """
    bits = counter * _GOLDEN + key
    for shift, multiplier in _MULTIPLIERS:
        bits = (bits ^ _shifted(bits, shift)) * multiplier
    bits = bits ^ _shifted(bits, 31)
    whole: Tensor = _shifted(bits, 64 - _NUM_BITS).to(dtype)
    return whole * 2.0**-_NUM_BITS


def normal(key: int, counter: Tensor, dtype: torch.dtype) -> Tensor:
    """Standard normal numbers (Box & Muller, 1958); parameters as for :func:`uniform`."""
    radius, angle = (uniform(key, 2 * counter + i, dtype) for i in range(2))
    length: Tensor = (-2 * torch.log1p(-radius)).sqrt()
    return length * (2 * math.pi * angle).cos()


def _shifted(bits: Tensor, count: int) -> Tensor:
    """Logical shift to the right: zeros are inserted from the left."""
    shifted: Tensor = (bits >> count) & (2 ** (64 - count) - 1)
    return shifted
