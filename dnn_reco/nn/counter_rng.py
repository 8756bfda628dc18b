"""Random numbers that belong to something: to a hit, say, of an event of a batch.

Each is a function of a key and of a number that names what it belongs to. Which others are drawn
beside it, in which order, and in which process, makes no difference. Keys come from PyTorch's
generator, which the training sets in each iteration, in all processes alike.

The function is the finalizer of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), whose numbers pass
the usual tests of randomness.
"""

import math

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MULTIPLIERS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))
_NUM_BITS = 24  # all numbers of so many bits have an exact float32


def new_key() -> int:
    """A key that has not been used before."""
    return int(torch.randint(2**62, ()))


def uniform(key: int, owner: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers from 0 to below 1.

    Parameters
    ----------
    key
        The same key and owner give the same number.
    owner
        Whose numbers they are: whole numbers, int64, any shape.
    dtype
        Type of the result.
    """
    bits = owner * _GOLDEN + key
    for shift, multiplier in _MULTIPLIERS:
        bits = (bits ^ _shifted(bits, shift)) * multiplier
    bits = bits ^ _shifted(bits, 31)
    whole: Tensor = _shifted(bits, 64 - _NUM_BITS).to(dtype)
    return whole * 2.0**-_NUM_BITS


def normal(key: int, owner: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers of a standard normal distribution (Box & Muller, 1958); see :func:`uniform`."""
    radius, angle = (uniform(key, 2 * owner + i, dtype) for i in range(2))
    length: Tensor = (-2 * torch.log1p(-radius)).sqrt()
    return length * (2 * math.pi * angle).cos()


def _shifted(bits: Tensor, places: int) -> Tensor:
    """Shift to the right, with zeros coming in from the left."""
    shifted: Tensor = (bits >> places) & (2 ** (64 - places) - 1)
    return shifted
