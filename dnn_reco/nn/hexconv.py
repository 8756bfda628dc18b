"""Hexagonal kernels: convolutions over the triangular grid of the strings.

In axial coordinates (a, b) the cells within s - 1 steps of a cell form a hexagon of size s. A
kernel is a square of cells around it; cells of the square outside the hexagon have no weight.

A kernel may have an orientation o, 0 < o < s: then it also contains six cells of the ring around
the hexagon, its tips. o is their position in the ring, and thus determines the tilt of the kernel.

Rotated kernels share their weights between R angles, 360°/R apart. The cells around the centre form
rings, ring k with 6k cells; a rotation moves the weights along each ring, and interpolates between
two cells where the angle is no multiple of the cells' spacing.
"""

import math

import torch
from torch import Tensor

Cell = tuple[int, int]


def kernel_width(size: int, orientation: int) -> int:
    """Cells along each side of the square around a kernel."""
    return 2 * size - 1 if orientation == 0 else 2 * size + 1


def kernel_cells(size: int, orientation: int) -> list[Cell]:
    """Cells (a, b) of a kernel in its square, row by row.

    Parameters
    ----------
    size
        1 for a single cell, 2 for a cell and its six neighbours, …
    orientation
        0: a hexagon; 1 … size - 1: a hexagon with tips.
    """
    s, o = size, orientation
    centre = kernel_width(s, o) // 2
    steps = range(-centre, centre + 1)
    cells = {(a, b) for a in steps for b in steps if max(abs(a), abs(b), abs(a + b)) < s}
    if o > 0:
        cells |= {(s - o, -s), (-o, o - s), (-s, o), (o - s, s), (o, s - o), (s, -o)}
    return sorted((a + centre, b + centre) for a, b in cells)


def flat_cells(size: int, orientation: int) -> Tensor:
    """Row-major index of each cell of a kernel in its square [cells], int64."""
    width = kernel_width(size, orientation)
    return torch.tensor([a * width + b for a, b in kernel_cells(size, orientation)])


def square_kernel(weight: Tensor, cells: Tensor, width: int) -> Tensor:
    """Place the weights of a kernel's cells in its square, 0 elsewhere.

    Parameters
    ----------
    weight
        Weights [cells, z, channels in, channels out].
    cells
        Result of `flat_cells`.
    width
        Result of `kernel_width`.

    Returns
    -------
    Tensor
        Kernel [a, b, z, channels in, channels out].
    """
    kernel = weight.new_zeros((width * width, *weight.shape[1:]))
    return kernel.index_copy(0, cells, weight).reshape(width, width, *weight.shape[1:])


def ring(radius: int) -> list[Cell]:
    """The 6 · radius cells at `radius` steps around (0, 0), in the order of the reference.

    It begins at the corner (-radius, radius); the second ring begins one cell later. Ring 0 is the
    central cell.
    """
    if radius == 0:
        return [(0, 0)]
    a, b = -radius, radius
    cells = []
    for step_a, step_b in ((1, 0), (1, -1), (0, -1), (-1, 0), (-1, 1), (0, 1)):
        for _ in range(radius):
            cells.append((a, b))
            a, b = a + step_a, b + step_b
    return cells[1:] + cells[:1] if radius == 2 else cells


def rotations(size: int, orientation: int, num_rotations: int, legacy: bool) -> Tensor:
    """The contribution of each weight to each cell of a rotated kernel, for each rotation.

    Parameters
    ----------
    size, orientation
        As in `kernel_cells`; the tips are the cells `orientation`, `orientation + size`, … of their
        ring.
    num_rotations
        Number R of rotations, 360° / R apart.
    legacy
        Repeat an error of the reference: with size 2 and orientation 0 one of the six neighbours
        gets the weight of the one before.

    Returns
    -------
    Tensor
        Contribution [R, cells of the square, weights] of each weight to each cell, row-major in the
        cells. Weights are numbered from the centre outwards, along each ring.
    """
    width = kernel_width(size, orientation)
    centre = width // 2
    rings = _ring_weights(size, orientation)
    count = 1 + max(weight for weights in rings for weight in weights if weight is not None)
    shares = torch.zeros(num_rotations, width, width, count, dtype=torch.float64)
    for rotation in range(num_rotations):
        for radius, weights in enumerate(rings):
            steps, rest = divmod(rotation * len(weights), num_rotations)
            fraction = rest / num_rotations  # of the distance to the next cell
            for position, (a, b) in enumerate(ring(radius)):
                for shift, share in ((steps, 1 - fraction), (steps + 1, fraction)):
                    weight = weights[(position - shift) % len(weights)]
                    if weight is not None:
                        shares[rotation, a + centre, b + centre, weight] += share
    if legacy and (size, orientation) == (2, 0):
        (a, b), (a_before, b_before) = ring(1)[4], ring(1)[3]
        shares[:, a + 1, b + 1] = shares[:, a_before + 1, b_before + 1]
    return shares.flatten(1, 2)


def _ring_weights(size: int, orientation: int) -> list[list[int | None]]:
    """Number of the weight at each position of each ring, None between tips."""
    rings: list[list[int | None]] = []
    count = 0
    for radius in range(size + (orientation > 0)):
        weights: list[int | None] = []
        for position in range(max(1, 6 * radius)):
            has_weight = radius < size or position % size == orientation
            weights.append(count if has_weight else None)
            count += has_weight
        rings.append(weights)
    return rings


def rotated_kernel(shares: Tensor, spatial: Tensor, in_out: Tensor) -> Tensor:
    """Kernels of all rotations, stacked along the output channels.

    Parameters
    ----------
    shares
        Result of `rotations` [R, cells, weights].
    spatial
        Weights in space [weights, z].
    in_out
        Weights from channel to channel of each rotation [R, channels in, channels out].

    Returns
    -------
    Tensor
        Kernel [a, b, z, channels in, R · channels out], the channels of one rotation together.
    """
    width = math.isqrt(shares.shape[1])
    kernels = torch.einsum("rkz,rio->kziro", shares @ spatial, in_out)
    return kernels.reshape(width, width, len(spatial[0]), in_out.shape[1], -1)
