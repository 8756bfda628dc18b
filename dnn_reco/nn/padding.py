"""SAME padding: as much padding as makes the output ceil(input / stride) long."""

import math


def output_length(length: int, kernel: int, stride: int, dilation: int, padding: str) -> int:
    """Number of outputs along one axis; 0 or less where a VALID kernel does not fit."""
    if padding == "SAME":
        return math.ceil(length / stride)
    return math.ceil((length - (kernel - 1) * dilation) / stride)


def pad_widths(
    length: int, kernel: int, stride: int, dilation: int, padding: str
) -> tuple[int, int]:
    """Cells to add (before, after) along one axis; an odd one goes to the end."""
    if padding == "VALID":
        return 0, 0
    outputs = math.ceil(length / stride)
    total = max((outputs - 1) * stride + (kernel - 1) * dilation + 1 - length, 0)
    return total // 2, total - total // 2
