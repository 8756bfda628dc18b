"""Functions that Numba compiles for the CPU at hand."""

import functools
import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np

from dnn_reco.nn.vector_kernels import float_of_bits

types: Any = numba.types

_log = logging.getLogger(__name__)
_SLOW_COMPILATION = 2.0  # seconds, after which it is reported

# Sums may be reordered, but values that are not finite stay so: a training must notice them.
_FAST = {"reassoc", "contract", "arcp", "nsz"}
# All are inlined into the functions that are read from disk. Otherwise a process that compiles them
# may call versions whose sums are in another order than those on disk.
inlined = numba.njit(fastmath=_FAST, nogil=True, error_model="numpy", forceinline=True)
# Where reordering sums would spoil the result.
inlined_in_order = numba.njit(nogil=True, error_model="numpy", forceinline=True)
# For those that have no sums but of vectors, whose order is fixed.
separate = numba.njit(nogil=True, error_model="numpy")
# Indices of innermost loops are unsigned: a negative one would count from the end, which is a
# branch, and then loops do not become vectors.
unsigned = np.uint64


@inlined_in_order
def split_exponent(x: Any) -> Any:
    """2ⁿ and eʳ - 1 with x = n ln(2) + r and |r| ≤ ln(2) / 2, by the Taylor series; x ≤ 0.

    exp(x) is their product plus 2ⁿ.
    """
    x = max(x, np.float32(-87))
    n = np.int32(x * np.float32(1.44269504) - np.float32(0.5))
    r = x - np.float32(n) * np.float32(0.693359375) + np.float32(n) * np.float32(2.12194440e-4)
    p = np.float32(1 / 5040)
    p = p * r + np.float32(1 / 720)
    p = p * r + np.float32(1 / 120)
    p = p * r + np.float32(1 / 24)
    p = p * r + np.float32(1 / 6)
    p = p * r + np.float32(1 / 2)
    p = p * r * r + r
    return float_of_bits(np.int32((n + np.int32(127)) << np.int32(23))), p


def flat_array(dtype: Any = types.float32) -> Any:
    """The type of a flat array."""
    return types.Array(dtype, 1, "C")


def sources() -> list[Path]:
    """The modules that compiled functions may be made of."""
    folder = Path(__file__).parent
    others = (folder / f"{name}.py" for name in ("compiled", "matrix_product", "vectors"))
    return sorted([*folder.glob("*_kernels.py"), *others])


@functools.cache
def _digest() -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources())).hexdigest()[:16]


def cached_function(function: Any, *arguments: Any) -> Callable[..., None]:
    """A function for arguments of these types, compiled for this CPU, or read from disk.

    Numba looks for changes in the file of this function alone, not of those that it calls.
    """
    start = time.perf_counter()
    function.py_func.__qualname__ = f"{function.py_func.__name__}_{_digest()}"  # name of its file
    compile_function = functools.partial(
        numba.njit, types.void(*arguments), fastmath=_FAST, nogil=True, error_model="numpy"
    )
    try:
        compiled = compile_function(cache=True)(function.py_func)
    except RuntimeError:  # there is no folder that could be written to
        compiled = compile_function()(function.py_func)
    seconds = time.perf_counter() - start
    if seconds > _SLOW_COMPILATION:
        _log.info(
            "A part of the network was compiled for this CPU in %.0f s; the next start is faster.",
            seconds,
        )
    run: Callable[..., None] = compiled
    return run
