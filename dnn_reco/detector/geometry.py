"""Positions and numbering of the 5160 DOMs of IceCube-86.

A DOM is identified by its string (1…86) and its number on the string, `om` (1…60, from the top);
the surface tanks (om 61…64) are not part of this detector. The package uses one integer for each
DOM, its *DOM index*::

    dom = 60 * (string - 1) + (om - 1)          # 0 … 5159, fits in uint16
"""

import csv
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

NUM_STRINGS = 86
NUM_DOMS_PER_STRING = 60
NUM_DOMS = NUM_STRINGS * NUM_DOMS_PER_STRING


def dom_index(string: NDArray[np.integer], om: NDArray[np.integer]) -> NDArray[np.int64]:
    """DOM index of each (string, om) pair; -1 where there is no such DOM.

    Parameters
    ----------
    string, om
        String numbers and DOM numbers, any integer type, equal shapes.
    """
    string = string.astype(np.int64)
    om = om.astype(np.int64)
    exists = (string >= 1) & (string <= NUM_STRINGS) & (om >= 1) & (om <= NUM_DOMS_PER_STRING)
    return np.where(exists, NUM_DOMS_PER_STRING * (string - 1) + (om - 1), -1)


def string_and_om(dom: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """String (1…86) and DOM number (1…60) of each DOM index."""
    string, om = np.divmod(dom.astype(np.int64), NUM_DOMS_PER_STRING)
    return string + 1, om + 1


@cache
def dom_positions() -> NDArray[np.float64]:
    """Positions [5160, 3] of all DOMs by DOM index: x, y, z [m], detector coordinates."""
    positions = np.full((NUM_DOMS, 3), np.nan)
    table = resources.files("dnn_reco.detector").joinpath("icecube86.csv")
    for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines()):
        dom = NUM_DOMS_PER_STRING * (int(row["string"]) - 1) + int(row["om"]) - 1
        positions[dom] = float(row["x_m"]), float(row["y_m"]), float(row["z_m"])
    positions.setflags(write=False)
    return positions
