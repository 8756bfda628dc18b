"""Hexagonal kernels: convolutions over the triangular grid on which the strings stand.

In axial coordinates (a, b) the cells within s - 1 steps of a cell form a hexagon. Inside the
square of 2s - 1 by 2s - 1 cells around it, those are the cells with s - 1 <= a + b <= 3s - 3,
counted from the square's corner; its two other corners are no neighbours and carry no weight.
"""

import torch
from torch import Tensor


def hexagon_cells(size: int) -> list[tuple[int, int]]:
    """Cells (a, b) of a hexagon of the given size in its square, row by row.

    Parameters
    ----------
    size
        1 for a single cell, 2 for a cell and its six neighbours, …
    """
    width = 2 * size - 1
    return [(a, b) for a in range(width) for b in range(width) if size - 1 <= a + b <= 3 * size - 3]


def flat_cells(size: int) -> Tensor:
    """Row-major index of each hexagon cell in its square [cells], int64."""
    width = 2 * size - 1
    return torch.tensor([a * width + b for a, b in hexagon_cells(size)])


def square_kernel(weight: Tensor, cells: Tensor, size: int) -> Tensor:
    """Place the weights of the hexagon's cells in the square kernel, 0 elsewhere.

    Parameters
    ----------
    weight
        Weights [cells, z, channels in, channels out].
    cells
        Result of `flat_cells`.
    size
        Size of the hexagon.

    Returns
    -------
    Tensor
        Kernel [a, b, z, channels in, channels out].
    """
    width = 2 * size - 1
    kernel = weight.new_zeros((width * width, *weight.shape[1:]))
    return kernel.index_copy(0, cells, weight).reshape(width, width, *weight.shape[1:])
