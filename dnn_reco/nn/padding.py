"""SAME padding, with which the output has the length ceil(input / stride)."""

import math
from collections.abc import Sequence


def output_length(length: int, kernel: int, stride: int, dilation: int, padding: str) -> int:
    """Number of outputs along one axis; 0 or less where a VALID kernel does not fit."""
    if padding == "SAME":
        return math.ceil(length / stride)
    return math.ceil((length - (kernel - 1) * dilation) / stride)


def pad_widths(
    length: int, kernel: int, stride: int, dilation: int, padding: str
) -> tuple[int, int]:
    """Number of cells to add (before, after) along one axis; an odd one is added at the end."""
    if padding == "VALID":
        return 0, 0
    outputs = math.ceil(length / stride)
    total = max((outputs - 1) * stride + (kernel - 1) * dilation + 1 - length, 0)
    return total // 2, total - total // 2


def pad_argument(widths: Sequence[tuple[int, int]]) -> list[int]:
    """The argument of `torch.nn.functional.pad` for (before, after) of each spatial axis.

    It begins with the last axis, here that of the channels.
    """
    return [0, 0, *(width for before_after in reversed(widths) for width in before_after)]
