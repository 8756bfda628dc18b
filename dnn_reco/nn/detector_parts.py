"""Parts of the detector as inputs [channels, x, y, z] of fused layers, filled from hits."""

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.grid import (
    DEEPCORE_SHAPE,
    MAIN_SHAPE,
    NUM_CELLS,
    NUM_MAIN_CELLS,
    NUM_UPPER_DEEPCORE_DOMS,
)
from dnn_reco.nn.kernel_arguments import Part


def main_part(background: NDArray[np.float32]) -> Part:
    """The main array [F, 10, 10, 60].

    Parameters
    ----------
    background
        Values of an event without hits [10, 10, 60, F].
    """
    num_features = background.shape[-1]
    target = np.full(NUM_CELLS, -1)
    target[:NUM_MAIN_CELLS] = np.arange(NUM_MAIN_CELLS)
    first_cell = np.zeros(num_features, np.int64)
    values = np.moveaxis(background, -1, 0).ravel()
    return Part(values, first_cell, target, NUM_MAIN_CELLS, MAIN_SHAPE)


def deepcore_parts(background: NDArray[np.float32]) -> list[Part]:
    """Upper and lower DeepCore [F · 8, 1, 1, DOMs], channels feature by feature.

    Parameters
    ----------
    background
        Values of an event without hits [8, 60, F].
    """
    num_strings, num_doms = DEEPCORE_SHAPE
    num_features = background.shape[-1]
    parts = []
    for doms in (
        np.arange(NUM_UPPER_DEEPCORE_DOMS),
        np.arange(NUM_UPPER_DEEPCORE_DOMS, num_doms),
    ):
        target = np.full(NUM_CELLS, -1)
        for string in range(num_strings):
            cells = NUM_MAIN_CELLS + string * num_doms + doms
            target[cells] = string * len(doms) + np.arange(len(doms))
        first_cell = NUM_MAIN_CELLS + num_doms * np.arange(num_strings) + doms[0]
        parts.append(
            Part(
                np.moveaxis(background[:, doms], -1, 0).ravel(),
                np.tile(first_cell, num_features),
                target,
                num_strings * len(doms),
                (1, 1, len(doms)),
            )
        )
    return parts
