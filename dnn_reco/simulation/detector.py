"""What differs from DOM to DOM: how many photons it detects, and whether it works at all."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.geometry import NUM_DOMS, dom_index

HIGH_EFFICIENCY = 1.35
"""Efficiency of the DOMs with the newer photocathode relative to all others (Aartsen et al., JINST
12 (2017) P03012)."""

DEAD_FRACTION = 0.015
"""Share of dead DOMs, about as in IceCube (same source)."""

_HIGH_EFFICIENCY_DOMS = {
    36: [44, 46, *range(48, 60)],
    43: [55],
    79: [30, 31, *range(33, 41), 42, 44],
    80: [*range(30, 44)],
    **{string: [*range(1, 61)] for string in range(81, 87)},
}


@dataclass(frozen=True)
class Detector:
    """The DOMs of IceCube-86.

    Attributes
    ----------
    efficiency
        Relative efficiency [5160] by DOM index: 1 for standard DOMs, 0 for dead ones.
    """

    efficiency: NDArray[np.float64]


def high_efficiency_doms() -> NDArray[np.bool_]:
    """Mask [5160] of the DOMs with 1.35 times the efficiency.

    They are all DOMs of strings 81 to 86, most of those of strings 79 and 80 between om 30 and 44,
    of string 36 from om 44 on, and one of string 43 (list: https://github.com/icecube/ppc,
    ice/spice_ftp-v3m/eff-f2k).
    """
    string = [s for s, oms in _HIGH_EFFICIENCY_DOMS.items() for _ in oms]
    om = [om for oms in _HIGH_EFFICIENCY_DOMS.values() for om in oms]
    mask = np.zeros(NUM_DOMS, dtype=bool)
    mask[dom_index(np.array(string), np.array(om))] = True
    return mask


def icecube86(dead_fraction: float = DEAD_FRACTION, dead_seed: int = 86) -> Detector:
    """The detector with its high-efficiency DOMs, and dead ones drawn at random.

    Parameters
    ----------
    dead_fraction
        Share of dead DOMs.
    dead_seed
        Which DOMs are dead. They are the same 77 by default, with every version of numpy; they are
        not those of the real detector.
    """
    efficiency = np.where(high_efficiency_doms(), HIGH_EFFICIENCY, 1.0)
    # The raw output of a bit generator is the one stream that numpy promises never to change.
    lots = np.random.Philox(key=dead_seed).random_raw(NUM_DOMS)
    dead = np.argsort(lots, kind="stable")[: round(dead_fraction * NUM_DOMS)]
    efficiency[dead] = 0.0
    return Detector(efficiency)
