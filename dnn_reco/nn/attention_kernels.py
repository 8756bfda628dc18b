"""Attention among the tokens of events on CPUs, for the functions that Numba compiles.

Attention weights of some queries at a time are in the cache. They are not kept for the gradient but
computed again (Dao et al., arXiv:2205.14135).
"""

from typing import Any

import numpy as np

from dnn_reco.nn.compiled import inlined, separate
from dnn_reco.nn.kernel_arguments import Array, KeptLayer, Matrix, TransformerShape
from dnn_reco.nn.matrix_product import (
    COLUMNS,
    ROWS,
    copy_elements,
    copy_rows,
    multiply,
    rounded_up,
)
from dnn_reco.nn.vector_kernels import WIDTH
from dnn_reco.nn.vectors import exp, fill, first_ones, largest, load, maximum, store, total

_QUERIES = 48  # rows of attention weights that are computed at a time, a multiple of ROWS
_NEVER = np.float32(-1e30)
_ZERO, _ONE = np.float32(0), np.float32(1)


@inlined
def _exponentials(x: Array, start: int, count: int, kept: Array, scales: int) -> Any:
    """exp(x - peak) of some values in place; keeps the peak and one over their sum, and returns it.

    Values up to the next multiple of WIDTH are overwritten.
    """
    nothing, last = fill(_NEVER), start + (count - 1) // WIDTH * WIDTH
    rest = first_ones(load(x, last), start + count - last, nothing)
    store(rest, x, last)
    for k in range(start, last, WIDTH):
        rest = maximum(rest, load(x, k))
    peak = largest(rest)
    shift, sums = fill(peak), fill(_ZERO)
    for k in range(start, start + count, WIDTH):
        values = exp(load(x, k) - shift)
        store(values, x, k)
        sums += values
    factor = _ONE / total(sums)
    kept[scales], kept[scales + 1] = peak, factor
    return factor


@separate
def attend(kept: Array, layer: KeptLayer, first: int, count: int, shape: TransformerShape) -> None:
    """Attention among the tokens of an event, `count` rows from `first` on."""
    width, size = shape.width, shape.width // shape.num_heads
    n, step, scale = rounded_up(count, COLUMNS), 3 * width, np.float32(size) ** np.float32(-0.5)
    queries = np.zeros(rounded_up(count, ROWS) * size, np.float32)
    keys, out = np.zeros(size * n, np.float32), np.empty(_QUERIES * size, np.float32)
    weights = np.empty(_QUERIES * n, np.float32)
    for head in range(shape.num_heads):
        query = layer.qkv + first * step + head * size
        copy_rows(Matrix(kept, query, step, 1), Matrix(queries, 0, size, 1), count, size, scale)
        copy_elements(Matrix(kept, query + width, step, 1), Matrix(keys, 0, 1, n), count, size)
        of_values = Matrix(kept, query + 2 * width, step, 1)
        of_weights, of_out = Matrix(weights, 0, n, 1), Matrix(out, 0, size, 1)
        for start in range(0, count, _QUERIES):
            rows = min(_QUERIES, count - start)
            all_rows = rounded_up(rows, ROWS)
            of_queries = Matrix(queries, start * size, size, 1)
            multiply(of_queries, Matrix(keys, 0, n, 1), of_weights, all_rows, n, size, -1, False)
            # the sum of each row of weights is 1 only after the product with the values
            place = layer.scales + 2 * ((first + start) * shape.num_heads + head)
            for r in range(rows):
                _exponentials(weights, r * n, count, kept, place + 2 * r * shape.num_heads)
            multiply(of_weights, of_values, of_out, all_rows, size, count, -1, False)
            target = layer.attended + (first + start) * width + head * size
            for r in range(rows):
                factor = fill(kept[place + 2 * r * shape.num_heads + 1])
                for c in range(0, size, WIDTH):
                    store(load(out, r * size + c) * factor, kept, target + r * width + c)


@inlined
def _weights_and_slopes(
    weights: Array, slopes: Array, row: int, count: int, kept: Array, scales: int, mean: Any
) -> None:
    """Attention weights of a row from its logits, and their gradients from those of the weights."""
    peak, factor, mean_slope = fill(kept[scales]), fill(kept[scales + 1]), fill(mean)
    for k in range(row, row + count, WIDTH):
        shares = exp(load(weights, k) - peak) * factor
        store(shares, weights, k)
        store(shares * (load(slopes, k) - mean_slope), slopes, k)


@separate
def attend_backward(
    kept: Array, layer: KeptLayer, first: int, count: int, shape: TransformerShape,
    gradient: Array, of_qkv: Array,
) -> None:  # fmt: skip
    """Gradient of queries, keys and values of an event, from that of the attention's result."""
    width, size = shape.width, shape.width // shape.num_heads
    n, step, scale = rounded_up(count, COLUMNS), 3 * width, np.float32(size) ** np.float32(-0.5)
    num_queries = rounded_up(count, ROWS)
    queries = np.zeros(num_queries * size, np.float32)
    of_out = np.zeros(num_queries * size, np.float32)
    keys, values = np.zeros(size * n, np.float32), np.zeros(size * n, np.float32)
    of_keys, of_values = np.empty(n * size, np.float32), np.empty(n * size, np.float32)
    of_queries = np.empty(_QUERIES * size, np.float32)
    weights, slopes = np.empty(_QUERIES * n, np.float32), np.empty(_QUERIES * n, np.float32)
    for head in range(shape.num_heads):
        query, of_query = layer.qkv + first * step + head * size, first * step + head * size
        out = first * width + head * size
        key_rows = Matrix(kept, query + width, step, 1)
        copy_rows(Matrix(kept, query, step, 1), Matrix(queries, 0, size, 1), count, size, scale)
        copy_rows(Matrix(gradient, out, width, 1), Matrix(of_out, 0, size, 1), count, size, _ONE)
        copy_elements(key_rows, Matrix(keys, 0, 1, n), count, size)
        copy_elements(
            Matrix(kept, query + 2 * width, step, 1), Matrix(values, 0, 1, n), count, size
        )
        for start in range(0, count, _QUERIES):
            rows = min(_QUERIES, count - start)
            all_rows, part, add = rounded_up(rows, ROWS), start * size, start > 0
            some_queries, some_out = Matrix(queries, part, size, 1), Matrix(of_out, part, size, 1)
            some_weights, some_slopes = Matrix(weights, 0, n, 1), Matrix(slopes, 0, n, 1)
            multiply(
                some_queries, Matrix(keys, 0, n, 1), some_weights, all_rows, n, size, -1, False
            )
            multiply(some_out, Matrix(values, 0, n, 1), some_slopes, all_rows, n, size, -1, False)
            result = layer.attended + out + start * width
            place = layer.scales + 2 * ((first + start) * shape.num_heads + head)
            for r in range(rows):
                mean = _product(of_out, part + r * size, kept, result + r * width, size)
                scales = place + 2 * r * shape.num_heads
                _weights_and_slopes(weights, slopes, r * n, count, kept, scales, mean)
            of_some = Matrix(of_queries, 0, size, 1)
            multiply(some_slopes, key_rows, of_some, all_rows, size, count, -1, False)
            target = Matrix(of_qkv, of_query + start * step, step, 1)
            copy_rows(of_some, target, rows, size, scale)
            across = Matrix(slopes, 0, 1, n)
            multiply(across, some_queries, Matrix(of_keys, 0, size, 1), n, size, rows, -1, add)
            across = Matrix(weights, 0, 1, n)
            multiply(across, some_out, Matrix(of_values, 0, size, 1), n, size, rows, -1, add)
        target = Matrix(of_qkv, of_query + width, step, 1)
        copy_rows(Matrix(of_keys, 0, size, 1), target, count, size, _ONE)
        target = Matrix(of_qkv, of_query + 2 * width, step, 1)
        copy_rows(Matrix(of_values, 0, size, 1), target, count, size, _ONE)


@inlined
def _product(a: Array, a_start: int, b: Array, b_start: int, count: int) -> Any:
    """Sum of the products of some values."""
    products = fill(_ZERO)
    for c in range(0, count, WIDTH):
        products += load(a, a_start + c) * load(b, b_start + c)
    return total(products)


@inlined
def _add_multiple(
    x: Array, start: int, factor: Any, count: int, out: Array, out_start: int
) -> None:
    """Add some values times a factor."""
    factors = fill(factor)
    for c in range(0, count, WIDTH):
        store(load(out, out_start + c) + factors * load(x, start + c), out, out_start + c)


@inlined
def _write_multiple(
    x: Array, start: int, factor: Any, count: int, out: Array, out_start: int
) -> None:
    """Write some values times a factor."""
    factors = fill(factor)
    for c in range(0, count, WIDTH):
        store(factors * load(x, start + c), out, out_start + c)


@separate
def attend_first(
    kept: Array, layer: KeptLayer, first: int, count: int, event: int, shape: TransformerShape
) -> None:
    """Attention of the summary token of an event to all of its tokens."""
    width, size = shape.width, shape.width // shape.num_heads
    step, scale = 3 * width, np.float32(size) ** np.float32(-0.5)
    weights = np.empty(rounded_up(count, WIDTH), np.float32)
    for head in range(shape.num_heads):
        query = layer.qkv + first * step + head * size
        out = layer.attended + event * width + head * size
        for k in range(count):
            weights[k] = scale * _product(kept, query, kept, query + width + k * step, size)
        scales = layer.scales + 2 * (event * shape.num_heads + head)
        factor = _exponentials(weights, 0, count, kept, scales)
        _write_multiple(kept, query + 2 * width, factor * weights[0], size, kept, out)
        for k in range(1, count):
            value = query + 2 * width + k * step
            _add_multiple(kept, value, factor * weights[k], size, kept, out)


@separate
def attend_first_backward(
    kept: Array, layer: KeptLayer, first: int, count: int, event: int, shape: TransformerShape,
    gradient: Array, of_qkv: Array,
) -> None:  # fmt: skip
    """The same as :func:`attend_backward` for the summary token."""
    width, size = shape.width, shape.width // shape.num_heads
    step, scale = 3 * width, np.float32(size) ** np.float32(-0.5)
    length = rounded_up(count, WIDTH)
    weights, slopes = np.empty(length, np.float32), np.empty(length, np.float32)
    for head in range(shape.num_heads):
        query, of_query = layer.qkv + first * step + head * size, first * step + head * size
        of_out = event * width + head * size
        mean = _product(gradient, of_out, kept, layer.attended + of_out, size)
        for k in range(count):
            key = query + width + k * step
            weights[k] = scale * _product(kept, query, kept, key, size)
            slopes[k] = _product(gradient, of_out, kept, key + width, size)
        scales = layer.scales + 2 * (event * shape.num_heads + head)
        _weights_and_slopes(weights, slopes, 0, count, kept, scales, mean)
        _write_multiple(kept, query + width, scale * slopes[0], size, of_qkv, of_query)
        for k in range(count):
            slope, of_key = scale * slopes[k], of_query + width + k * step
            if k > 0:
                _add_multiple(kept, query + width + k * step, slope, size, of_qkv, of_query)
            _write_multiple(kept, query, slope, size, of_qkv, of_key)
            _write_multiple(gradient, of_out, weights[k], size, of_qkv, of_key + width)
