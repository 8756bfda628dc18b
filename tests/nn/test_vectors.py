"""Functions of vectors in compiled functions, against NumPy in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

numba = pytest.importorskip("numba")

from dnn_reco.nn import token_kernels, vectors  # noqa: E402 (need numba)
from dnn_reco.nn.vector_kernels import WIDTH  # noqa: E402

Array = NDArray[np.float32]


def applied(function: Callable[[Any], Any], x: NDArray[np.float64]) -> Array:
    """A function of vectors, of all values."""
    compiled = numba.njit(error_model="numpy")(lambda v: function(v))

    @numba.njit(error_model="numpy")
    def run(values: Array, out: Array) -> None:
        for k in range(0, len(values), WIDTH):
            vectors.store(compiled(vectors.load(values, k)), out, k)

    padded = np.pad(x, (0, -len(x) % WIDTH)).astype(np.float32)
    out = np.empty_like(padded)
    run(padded, out)
    return out[: len(x)]


@numba.njit
def _sine(x: Any) -> Any:
    return vectors.sine_and_cosine(x)[0]


@numba.njit
def _cosine(x: Any) -> Any:
    return vectors.sine_and_cosine(x)[1]


def single(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values as float32 holds them."""
    return x.astype(np.float32).astype(np.float64)


def test_exp() -> None:
    x = single(-np.concatenate([[0.0], np.geomspace(1e-8, 86, 20_000), np.linspace(0, 86, 20_000)]))
    found = applied(vectors.exp, x)
    assert np.abs(found / np.exp(x) - 1).max() < 3e-7
    assert (applied(vectors.exp, np.array([-87.0, -1e30, -np.inf])) < 1e-37).all()
    assert np.isnan(applied(vectors.exp, np.array([np.nan]))).all()


def test_log() -> None:
    x = single(np.concatenate([np.geomspace(1e-37, 3e38, 20_000), np.linspace(0.5, 2, 20_000)]))
    expected = np.log(x)
    difference = np.abs(applied(vectors.log, x) - expected)
    assert (difference < 1e-7 + 2e-7 * np.abs(expected)).all()
    found = applied(vectors.log, np.array([np.inf, np.nan, 1.0]))
    assert np.isinf(found[0]) and np.isnan(found[1]) and found[2] == 0


def test_sine_and_cosine() -> None:
    x = single(np.concatenate([np.linspace(-3000, 3000, 40_000), np.geomspace(1e-6, 1, 1_000)]))
    sine = applied(_sine, x)
    cosine = applied(_cosine, x)
    assert np.abs(sine - np.sin(x)).max() < 2e-7
    assert np.abs(cosine - np.cos(x)).max() < 2e-7
    for value in (np.nan, np.inf, -np.inf):
        assert np.isnan(applied(_sine, np.array([value]))).all()


def test_sums_and_largest_values() -> None:
    @numba.njit(error_model="numpy")
    def compute(x: Array) -> tuple[float, float, float]:
        values = vectors.load(x, 0)
        few = vectors.first_ones(values, 3, vectors.fill(np.float32(-100)))
        return vectors.total(values), vectors.largest(values), vectors.total(few)

    x = np.random.default_rng(1).normal(size=WIDTH).astype(np.float32)
    total, largest, few = compute(x)
    assert total == pytest.approx(x.sum(), abs=1e-5)
    assert largest == x.max()
    assert few == pytest.approx(x[:3].sum() - 100 * (WIDTH - 3), abs=1e-3)


def test_gelu_and_its_gradient() -> None:
    """x Φ(x), and its derivative Φ(x) + x φ(x)."""
    from scipy.stats import norm

    x = single(np.linspace(-12, 12, 12_000))
    values, out = x.astype(np.float32), np.empty(len(x), np.float32)
    token_kernels._gelu(values, 0, len(x), out)
    assert np.abs(out - x * norm.cdf(x)).max() < 1e-6
    gradient = np.full(len(x), 2, np.float32)
    token_kernels._gelu_backward(values, 0, len(x), out, gradient)
    assert np.abs(out - x * norm.cdf(x)).max() < 1e-6
    assert np.abs(gradient / 2 - (norm.cdf(x) + x * norm.pdf(x))).max() < 1e-6
