"""Arithmetic on segments: runs of neighbouring values in a flat array.

A segment is all pulses of an event, or of a DOM of an event, and segment i is
`values[offsets[i]:offsets[i + 1]]`.
"""

import numpy as np
from numpy.typing import NDArray


def offsets_after(keep: NDArray[np.bool_], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Offsets [k + 1] of the same segments when only the values with `keep` [p] stay."""
    return np.append(0, np.cumsum(keep))[offsets]


def segment_of(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the segment that each value [p] belongs to."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def accumulate(
    ufunc: np.ufunc, values: NDArray[np.float64], offsets: NDArray[np.int64]
) -> NDArray[np.float64]:
    """`ufunc.accumulate` [p] within each segment.

    Each segment is worked through value by value, so that running sums are rounded as a plain loop
    over its values rounds them, whatever the other segments hold.
    """
    sizes = np.diff(offsets)
    result = values.copy()
    # Segments of similar size are laid side by side, padded to the next power of two.
    exponents = np.frexp(sizes - 1)[1]
    for exponent in np.unique(exponents[sizes > 1]):
        rows = np.flatnonzero((exponents == exponent) & (sizes > 1))
        columns = np.arange(2**exponent)
        inside = columns < sizes[rows, None]
        index = (offsets[rows, None] + columns)[inside]
        table = np.zeros(inside.shape)
        table[inside] = values[index]
        result[index] = ufunc.accumulate(table, axis=1)[inside]
    return result
