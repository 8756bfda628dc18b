"""The detector under the names of the TensorFlow version's module `dnn_reco.detector`."""

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.constants import SPEED_OF_FIRST_LIGHT
from dnn_reco.detector.geometry import NUM_DOMS_PER_STRING, NUM_STRINGS, dom_index, dom_positions
from dnn_reco.detector.grid import MAIN_SHAPE, NUM_MAIN_STRINGS, STRING_CELL
from dnn_reco.errors import DataError

# Matrix indices of string 36, which has the hexagonal coordinates (0, 0)
_CENTRE = (4, 5)

c_in_ice = SPEED_OF_FIRST_LIGHT
"""Speed of unscattered light in ice, m/ns."""

string_hex_coord_dict: dict[int, tuple[int, int]] = {
    string: (int(a) - _CENTRE[0], int(b) - _CENTRE[1])
    for string, (a, b) in enumerate(STRING_CELL, start=1)
}
"""Hexagonal coordinates of the strings 1 … 78; string 36 is at (0, 0)."""

hex_coord_string_dict: dict[tuple[int, int], int] = {
    coordinates: string for string, coordinates in string_hex_coord_dict.items()
}
"""String at hexagonal coordinates."""


def get_matrix_indices(string: int) -> tuple[int, int]:
    """Indices of a string (1 … 78) in the first two axes of the main array.

    Raises
    ------
    DataError
        If there is no such string in the main array.
    """
    if string not in string_hex_coord_dict:
        raise DataError(f"the main array has the strings 1 to {NUM_MAIN_STRINGS}, not {string}")
    a, b = string_hex_coord_dict[string]
    return a + _CENTRE[0], b + _CENTRE[1]


def get_dom_coords(string: int, dom: int) -> NDArray[np.float64]:
    """Position x, y, z [m] of a DOM (1 … 60) on a string (1 … 86).

    Raises
    ------
    DataError
        If there is no such DOM.
    """
    index = int(dom_index(np.array(string), np.array(dom)))
    if index < 0:
        raise DataError(
            f"there is no DOM {dom} on string {string}: strings are 1 to {NUM_STRINGS}, DOMs 1 to "
            f"{NUM_DOMS_PER_STRING}"
        )
    position: NDArray[np.float64] = dom_positions()[index].copy()
    return position


def _main_array() -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    coordinates, is_real = np.zeros((*MAIN_SHAPE, 3)), np.zeros(MAIN_SHAPE, dtype=bool)
    a, b = np.array(STRING_CELL).T
    strings = dom_positions()[: NUM_MAIN_STRINGS * NUM_DOMS_PER_STRING]
    coordinates[a, b] = strings.reshape(NUM_MAIN_STRINGS, NUM_DOMS_PER_STRING, 3)
    is_real[a, b] = True
    return coordinates, is_real


# Positions [10, 10, 60, 3] of the DOMs of the main array [m], 0 in cells without; where one is
x_ic78_coords, ic78_real_DOMs_mask = _main_array()  # noqa: N816 - the name of the reference
