"""Drawings of the strings, the grid of the network, and hexagonal kernels."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from svg import drawing, polygon, text

from dnn_reco.detector.geometry import NUM_DOMS_PER_STRING, dom_positions
from dnn_reco.detector.grid import MAIN_SHAPE, NUM_MAIN_STRINGS, STRING_CELL
from dnn_reco.nn.hexconv import kernel_cells, kernel_width

_KERNELS = ((1, 0), (2, 0), (3, 0), (2, 1), (3, 1))
_CENTRE = (4, 5)  # cell of string 36


def strings_and_grid() -> str:
    """The strings of the main array from above, and their cells of the grid."""
    scale, size, right = 0.3, 34.0, 430.0
    parts = [text(200, 22, "strings from above", "title"), text(right + 170, 22, "grid", "title")]
    positions = dom_positions().reshape(-1, NUM_DOMS_PER_STRING, 3)[:NUM_MAIN_STRINGS, 0, :2]
    occupied = {tuple(cell) for cell in STRING_CELL.tolist()}
    for string, ((x, y), cell) in enumerate(zip(positions, STRING_CELL.tolist(), strict=True), 1):
        kind = _kind(cell[0] - _CENTRE[0], cell[1] - _CENTRE[1])
        cx, cy = 205 + scale * x, 215 - scale * y
        parts.append(polygon(_circle(cx, cy, 14.5), kind))
        parts.append(text(cx, cy, str(string), "small"))
        parts.append(_square(right + size * cell[1], 42 + size * cell[0], size - 3, kind))
        corner = (right + size * cell[1], 42 + size * cell[0])
        parts.append(text(corner[0] + size / 2 - 2, corner[1] + size / 2 - 2, str(string), "small"))
    for a, b in np.ndindex(MAIN_SHAPE[:2]):
        if (a, b) not in occupied:
            parts.append(_square(right + size * b, 42 + size * a, size - 3, "empty"))
    return drawing(right + 10 * size + 20, 400, "Strings and grid", parts)


def kernels() -> str:
    """Kernels over the strings, and the cells of the grid that they have weights for."""
    width = 150.0
    parts = []
    for number, (size, orientation) in enumerate(_KERNELS):
        x = width * (number + 0.5) + 10
        cells = kernel_cells(size, orientation)
        side = kernel_width(size, orientation)
        middle = side // 2
        parts.append(text(x, 20, f"[{size}, {orientation}, z]", "title"))
        parts.append(text(x, 38, f"{len(cells)} string{'s' * (len(cells) > 1)}", "small"))
        square = min(20.0, 130 / side)
        for a, b in np.ndindex(side, side):
            kind = _kind(a - middle, b - middle) if (a, b) in cells else "empty"
            left, top = x + (b - side / 2) * square, 255 + (a - side / 2) * square
            parts.append(_square(left, top, square - 2, kind))
            if (a, b) in cells:
                cx, cy = _above(a - middle, b - middle)
                parts.append(polygon(_circle(x + 19 * cx, 115 - 19 * cy, 8), kind))
    return drawing(width * len(_KERNELS) + 20, 335, "Hexagonal kernels", parts)


def _above(a: int, b: int) -> tuple[float, float]:
    """Position of a string from above, in units of the distance of neighbours."""
    return b + a / 2, a * math.sqrt(3) / 2


def _kind(a: int, b: int) -> str:
    """Style by the distance from the centre in steps."""
    steps = max(abs(a), abs(b), abs(a + b))
    return {0: "box warm", 1: "box strong"}.get(steps, "box")


def _circle(x: float, y: float, radius: float) -> list[tuple[float, float]]:
    angles = [math.pi * (2 * corner + 1) / 6 for corner in range(6)]
    return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]


def _square(x: float, y: float, size: float, kind: str) -> str:
    return polygon([(x, y), (x + size, y), (x + size, y + size), (x, y + size)], kind)


def all_hexagons() -> Iterator[tuple[str, str]]:
    """Names and texts of the files."""
    yield "strings_and_grid", strings_and_grid()
    yield "kernels", kernels()
