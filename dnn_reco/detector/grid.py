"""The grid of cells that is the input of convolutional networks.

Strings 1…78 form a hexagonal grid with axial coordinates (a, b), string 36 at (0, 0). The main
array is the tensor ``[a + 4, b + 5, om - 1]`` of shape (10, 10, 60), with empty cells where there
is no string. Strings 79…86 are DeepCore, ``[string - 79, om - 1]`` of shape (8, 60): DOMs 1…10 are
its upper part, 11…60 its lower part.

Both parts together are one list of 6480 *cells*: first the 6000 of the main array (row-major), then
the 480 of DeepCore, so that one scatter fills a whole event.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.geometry import NUM_DOMS, NUM_DOMS_PER_STRING, NUM_STRINGS

_Number = TypeVar("_Number", bound=np.generic)

MAIN_SHAPE = (10, 10, 60)
DEEPCORE_SHAPE = (8, 60)
NUM_MAIN_STRINGS = 78
NUM_UPPER_DEEPCORE_DOMS = 10
NUM_MAIN_CELLS = int(np.prod(MAIN_SHAPE))
NUM_DEEPCORE_CELLS = int(np.prod(DEEPCORE_SHAPE))
NUM_CELLS = NUM_MAIN_CELLS + NUM_DEEPCORE_CELLS

_FIRST_A, _FIRST_B = -4, -5
# Each row of constant a = -4 … 5: its first string, and b of that string; b increases by one per
# string (the survey map of the detector).
_ROWS = (
    (1, -1),
    (7, -2),
    (14, -3),
    (22, -4),
    (31, -5),
    (41, -5),
    (51, -5),
    (60, -5),
    (68, -5),
    (75, -5),
)


def _string_cells() -> NDArray[np.int64]:
    """Cell column [78, 2] of each main-array string: (a + 4, b + 5)."""
    first_strings = [first for first, _ in _ROWS] + [NUM_MAIN_STRINGS + 1]
    cells = np.empty((NUM_MAIN_STRINGS, 2), dtype=np.int64)
    for row, (first, first_b) in enumerate(_ROWS):
        for string in range(first, first_strings[row + 1]):
            cells[string - 1] = row, first_b - _FIRST_B + (string - first)
    return cells


def _dom_cells() -> NDArray[np.int64]:
    """Cell of each DOM index [5160]."""
    row, column = _string_cells().T
    om = np.arange(NUM_DOMS_PER_STRING)
    main = (row * MAIN_SHAPE[1] + column)[:, None] * NUM_DOMS_PER_STRING + om
    deepcore_string = np.arange(NUM_STRINGS - NUM_MAIN_STRINGS)
    deepcore = NUM_MAIN_CELLS + deepcore_string[:, None] * NUM_DOMS_PER_STRING + om
    return np.concatenate([main.ravel(), deepcore.ravel()])


STRING_CELL = _string_cells()
STRING_CELL.setflags(write=False)

DOM_CELL = _dom_cells()
DOM_CELL.setflags(write=False)

CELL_HAS_DOM = np.zeros(NUM_CELLS, dtype=bool)
CELL_HAS_DOM[DOM_CELL] = True
CELL_HAS_DOM.setflags(write=False)

assert len(DOM_CELL) == NUM_DOMS


def main_array(cells: NDArray[_Number]) -> NDArray[_Number]:
    """View the main array of ``cells`` [..., 6480, F] as [..., 10, 10, 60, F]."""
    return cells[..., :NUM_MAIN_CELLS, :].reshape(*cells.shape[:-2], *MAIN_SHAPE, cells.shape[-1])


def deepcore(cells: NDArray[_Number]) -> NDArray[_Number]:
    """View DeepCore of ``cells`` [..., 6480, F] as [..., 8, 60, F]."""
    return cells[..., NUM_MAIN_CELLS:, :].reshape(
        *cells.shape[:-2], *DEEPCORE_SHAPE, cells.shape[-1]
    )
