"""A transformer over the tokens of some events on CPUs, compiled by Numba.

Tokens of events follow each other without padding: of each event first the summary token, then its
hits. A group of events stays in the cache from its inputs to its output. Attention weights are not
kept for the gradient but computed again (Dao et al., arXiv:2205.14135).
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from dnn_reco.nn.compiled import cached_function, flat_array, inlined, separate, types
from dnn_reco.nn.kernel_arguments import Array, Tokens, TransformerShape
from dnn_reco.nn.matrix_product import multiply
from dnn_reco.nn.vector_kernels import COLUMNS, ROWS, WIDTH
from dnn_reco.nn.vectors import (
    exp,
    fill,
    first_ones,
    largest,
    load,
    maximum,
    store,
    total,
    where_negative,
)

_QUERIES = 48  # rows of attention weights that are computed at a time, a multiple of ROWS
_EPSILON = np.float32(1e-5)  # of PyTorch's LayerNorm
_NEVER = np.float32(-1e30)
_ZERO, _ONE, _HALF, _MINUS = map(np.float32, (0, 1, 0.5, -1))
_TAIL_SLOPE = np.float32(0.3275911 * 0.5**0.5)
_PEAK = np.float32((2 * np.pi) ** -0.5)  # of the normal distribution
# Numbers of the dense layers of tokens; those of the transformer layers follow, four each.
_HIT_IN, _HIT_OUT, _EVENT_IN, _EVENT_OUT, _LAYERS = range(5)
_QKV, _OUT, _MLP_IN, _MLP_OUT = range(4)


def num_kept(shape: TransformerShape, num_hits: int, num_events: int, num_layers: int) -> int:
    """Number of values that are kept of a group of events and so many layers."""
    rows = num_hits + num_events
    of_row = 6 * shape.width + 2 + 2 * shape.num_heads + shape.hidden
    return (num_layers * of_row + 2 * shape.width) * rows


@inlined
def _places(shape: TransformerShape, rows: int, layer: int) -> tuple[int, ...]:
    """Where the values that are kept of a layer begin.

    These are: normalised tokens [rows, width]; one over their standard deviation [rows]; queries,
    keys and values [rows, 3 width]; the largest logit and one over the sum of its exponentials
    [rows, heads, 2]; results of the attention [rows, width]; normalised tokens before the MLP
    [rows, width]; one over their standard deviation [rows]; hidden values before the activation
    [rows, hidden].
    """
    normed = layer * rows * (6 * shape.width + 2 + 2 * shape.num_heads + shape.hidden)
    deviation = normed + rows * shape.width
    qkv = deviation + rows
    scales = qkv + 3 * rows * shape.width
    attended = scales + 2 * rows * shape.num_heads
    normed_mlp = attended + rows * shape.width
    deviation_mlp = normed_mlp + rows * shape.width
    return (
        normed,
        deviation,
        qkv,
        scales,
        attended,
        normed_mlp,
        deviation_mlp,
        deviation_mlp + rows,
    )


@inlined
def _rounded_up(number: int, of: int) -> int:
    return (number + of - 1) // of * of


@inlined
def _tail(x: Any, bell: Any) -> Any:
    """The normal distribution's probability beyond |x|, from `bell` = exp(-x²/2).

    Abramowitz & Stegun, formula 7.1.26; its error is below 1e-7.
    """
    t = _ONE / (maximum(x, x * _MINUS) * _TAIL_SLOPE + _ONE)
    p = t * np.float32(1.061405429) - np.float32(1.453152027)
    p = p * t + np.float32(1.421413741)
    p = p * t - np.float32(0.284496736)
    p = p * t + np.float32(0.254829592)
    return p * t * bell * _HALF


@separate
def _gelu(x: Array, start: int, count: int, out: Array) -> None:
    """GELU (Hendrycks & Gimpel, arXiv:1606.08415) of some values."""
    for k in range(0, count, WIDTH):
        u = load(x, start + k)
        tail = u * _tail(u, exp(u * u * -_HALF))
        store(where_negative(u, tail, u - tail), out, k)


@separate
def _gelu_backward(x: Array, start: int, count: int, out: Array, gradient: Array) -> None:
    """GELU of some values, and the gradient of these, in place of that of the output."""
    for k in range(0, count, WIDTH):
        u = load(x, start + k)
        bell = exp(u * u * -_HALF)
        tail = _tail(u, bell)
        below = where_negative(u, tail, _ONE - tail)
        store(u * below, out, k)
        store(load(gradient, k) * (u * bell * _PEAK + below), gradient, k)


@separate
def _normalise(x: Array, rows: int, width: int, kept: Array, start: int, deviations: int) -> None:
    """Layer normalisation without weights, to `start`; one over the deviations to `deviations`."""
    for r in range(rows):
        first, end = r * width, (r + 1) * width
        sums = fill(_ZERO)
        for k in range(first, end, WIDTH):
            sums += load(x, k)
        mean = fill(total(sums) / np.float32(width))
        squares = fill(_ZERO)
        for k in range(first, end, WIDTH):
            difference = load(x, k) - mean
            squares += difference * difference
        factor = _ONE / np.sqrt(total(squares) / np.float32(width) + _EPSILON)
        kept[deviations + r] = factor
        for k in range(first, end, WIDTH):
            store((load(x, k) - mean) * factor, kept, start + k)


@separate
def _add_through_norm(
    gradient: Array, rows: int, width: int, kept: Array, start: int, deviations: int, out: Array
) -> None:
    """Add the gradient of the input of a layer normalisation, from that of its output."""
    for r in range(rows):
        first, end = r * width, (r + 1) * width
        sums, products = fill(_ZERO), fill(_ZERO)
        for k in range(first, end, WIDTH):
            values = load(gradient, k)
            sums += values
            products += values * load(kept, start + k)
        mean = fill(total(sums) / np.float32(width))
        slope = fill(total(products) / np.float32(width))
        factor = fill(kept[deviations + r])
        for k in range(first, end, WIDTH):
            inner = load(gradient, k) - mean - slope * load(kept, start + k)
            store(load(out, k) + factor * inner, out, k)


@separate
def _dense(
    x: Array, start: int, rows: int, weights: Array, shape: TransformerShape, i: int,
    out: Array, out_start: int, add: bool,
) -> None:  # fmt: skip
    """Dense layer i of some rows, written or added to `out`."""
    kernel, bias = shape.dense[4 * i], shape.dense[4 * i + 1]
    inputs, outputs = shape.dense[4 * i + 2], shape.dense[4 * i + 3]
    multiply(
        x, start, inputs, 1, weights, kernel, outputs, rows, outputs, inputs, bias,
        out, out_start, outputs, add,
    )  # fmt: skip


@separate
def _add_kernel_gradient(
    gradient: Array, x: Array, start: int, rows: int, shape: TransformerShape, i: int, sums: Array
) -> None:
    """Add the gradients of kernel and bias of dense layer i, from that of its output."""
    kernel, bias = shape.dense[4 * i], shape.dense[4 * i + 1]
    inputs, outputs = shape.dense[4 * i + 2], shape.dense[4 * i + 3]
    for c in range(0, outputs, WIDTH):
        of_bias = load(sums, bias + c)
        for r in range(rows):
            of_bias += load(gradient, r * outputs + c)
        store(of_bias, sums, bias + c)
    multiply(
        x, start, 1, inputs, gradient, 0, outputs, inputs, outputs, rows, -1,
        sums, kernel, outputs, True,
    )  # fmt: skip


@separate
def _through_dense(
    gradient: Array, rows: int, opposite: Array, shape: TransformerShape, i: int, out: Array
) -> None:
    """Gradient of the input of dense layer i, from that of its output."""
    inputs, outputs = shape.dense[4 * i + 2], shape.dense[4 * i + 3]
    multiply(
        gradient, 0, outputs, 1, opposite, shape.dense[4 * i], inputs, rows, inputs, outputs, -1,
        out, 0, inputs, False,
    )  # fmt: skip


@inlined
def _copy(
    x: Array, start: int, step: int, rows: int, columns: int, factor: Any,
    out: Array, out_start: int, out_step: int,
) -> None:  # fmt: skip
    """Copy some columns of a matrix, times a factor."""
    factors = fill(factor)
    for r in range(rows):
        p, q = start + r * step, out_start + r * out_step
        for c in range(0, columns, WIDTH):
            store(load(x, p + c) * factors, out, q + c)


@separate
def _transpose(
    x: Array, start: int, step: int, rows: int, columns: int, out: Array, n: int
) -> None:
    """Transpose some columns of a matrix to [columns, n]."""
    for r in range(rows):
        for c in range(columns):
            out[c * n + r] = x[start + r * step + c]


@separate
def _attend(
    kept: Array, qkv: int, scales: int, attended: int, first: int, count: int,
    shape: TransformerShape,
) -> None:  # fmt: skip
    """Attention among the tokens of an event, `count` rows from `first` on."""
    width, size = shape.width, shape.width // shape.num_heads
    n, step, scale = _rounded_up(count, COLUMNS), 3 * width, np.float32(size) ** np.float32(-0.5)
    queries = np.zeros(_rounded_up(count, ROWS) * size, np.float32)
    keys, out = np.zeros(size * n, np.float32), np.empty(_QUERIES * size, np.float32)
    factors = np.empty(_QUERIES, np.float32)
    weights = np.empty(_QUERIES * n, np.float32)
    for head in range(shape.num_heads):
        query = qkv + first * step + head * size
        _copy(kept, query, step, count, size, scale, queries, 0, size)
        _transpose(kept, query + width, step, count, size, keys, n)
        for start in range(0, count, _QUERIES):
            rows = min(_QUERIES, count - start)
            all_rows = _rounded_up(rows, ROWS)
            multiply(
                queries, start * size, size, 1, keys, 0, n, all_rows, n, size, -1,
                weights, 0, n, False,
            )  # fmt: skip
            for r in range(rows):
                place = scales + 2 * ((first + start + r) * shape.num_heads + head)
                factors[r] = _exponentials(weights, r * n, count, kept, place)
            multiply(
                weights, 0, n, 1, kept, query + 2 * width, step, all_rows, size, count, -1,
                out, 0, size, False,
            )  # fmt: skip
            target = attended + (first + start) * width + head * size
            for r in range(rows):
                _copy(out, r * size, 0, 1, size, factors[r], kept, target + r * width, 0)


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
def _attend_backward(
    kept: Array, qkv: int, scales: int, attended: int, first: int, count: int,
    shape: TransformerShape, gradient: Array, of_qkv: Array,
) -> None:  # fmt: skip
    """Gradient of queries, keys and values of an event, from that of the attention's result."""
    width, size = shape.width, shape.width // shape.num_heads
    n, step, scale = _rounded_up(count, COLUMNS), 3 * width, np.float32(size) ** np.float32(-0.5)
    num_queries, one = _rounded_up(count, ROWS), np.float32(1)
    queries, of_out = (
        np.zeros(num_queries * size, np.float32),
        np.zeros(num_queries * size, np.float32),
    )
    keys, values = np.zeros(size * n, np.float32), np.zeros(size * n, np.float32)
    of_keys, of_values = np.empty(n * size, np.float32), np.empty(n * size, np.float32)
    of_queries = np.empty(_QUERIES * size, np.float32)
    weights, of_logits = np.empty(_QUERIES * n, np.float32), np.empty(_QUERIES * n, np.float32)
    for head in range(shape.num_heads):
        query, of_query = qkv + first * step + head * size, first * step + head * size
        result = attended + first * width + head * size
        _copy(kept, query, step, count, size, scale, queries, 0, size)
        _copy(gradient, first * width + head * size, width, count, size, one, of_out, 0, size)
        _transpose(kept, query + width, step, count, size, keys, n)
        _transpose(kept, query + 2 * width, step, count, size, values, n)
        for start in range(0, count, _QUERIES):
            rows = min(_QUERIES, count - start)
            all_rows, part = _rounded_up(rows, ROWS), start * size
            multiply(
                queries, part, size, 1, keys, 0, n, all_rows, n, size, -1, weights, 0, n, False
            )
            multiply(
                of_out, part, size, 1, values, 0, n, all_rows, n, size, -1, of_logits, 0, n, False
            )
            for r in range(rows):
                mean = fill(
                    _product(of_out, part + r * size, kept, result + (start + r) * width, size)
                )
                place = scales + 2 * ((first + start + r) * shape.num_heads + head)
                peak, factor = fill(kept[place]), fill(kept[place + 1])
                for k in range(r * n, r * n + count, WIDTH):
                    shares = exp(load(weights, k) - peak) * factor
                    store(shares, weights, k)
                    store(shares * (load(of_logits, k) - mean), of_logits, k)
            multiply(
                of_logits, 0, n, 1, kept, query + width, step, all_rows, size, count, -1,
                of_queries, 0, size, False,
            )  # fmt: skip
            _copy(of_queries, 0, size, rows, size, scale, of_qkv, of_query + start * step, step)
            multiply(
                of_logits,
                0,
                1,
                n,
                queries,
                part,
                size,
                n,
                size,
                rows,
                -1,
                of_keys,
                0,
                size,
                start > 0,
            )
            multiply(
                weights,
                0,
                1,
                n,
                of_out,
                part,
                size,
                n,
                size,
                rows,
                -1,
                of_values,
                0,
                size,
                start > 0,
            )
        _copy(of_keys, 0, size, count, size, one, of_qkv, of_query + width, step)
        _copy(of_values, 0, size, count, size, one, of_qkv, of_query + 2 * width, step)


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


@separate
def _attend_first(
    kept: Array, qkv: int, scales: int, attended: int, first: int, count: int, event: int,
    shape: TransformerShape,
) -> None:  # fmt: skip
    """Attention of the summary token of an event to all of its tokens."""
    width, size = shape.width, shape.width // shape.num_heads
    step, scale = 3 * width, np.float32(size) ** np.float32(-0.5)
    weights = np.empty(_rounded_up(count, WIDTH), np.float32)
    for head in range(shape.num_heads):
        query, out = qkv + first * step + head * size, attended + event * width + head * size
        for k in range(count):
            weights[k] = scale * _product(kept, query, kept, query + width + k * step, size)
        place = scales + 2 * (event * shape.num_heads + head)
        factor = _exponentials(weights, 0, count, kept, place)
        for c in range(0, size, WIDTH):
            store(fill(_ZERO), kept, out + c)
        for k in range(count):
            _add_multiple(kept, query + 2 * width + k * step, factor * weights[k], size, kept, out)


@separate
def _attend_first_backward(
    kept: Array, qkv: int, scales: int, attended: int, first: int, count: int, event: int,
    shape: TransformerShape, gradient: Array, of_qkv: Array,
) -> None:  # fmt: skip
    """The same as `_attend_backward` for the summary token."""
    width, size = shape.width, shape.width // shape.num_heads
    step, scale = 3 * width, np.float32(size) ** np.float32(-0.5)
    slopes, weights = np.empty(count, np.float32), np.empty(_rounded_up(count, WIDTH), np.float32)
    for head in range(shape.num_heads):
        query, of_query = qkv + first * step + head * size, first * step + head * size
        of_out = event * width + head * size
        mean = _product(gradient, of_out, kept, attended + of_out, size)
        for k in range(count):
            key = query + width + k * step
            weights[k] = scale * _product(kept, query, kept, key, size)
            slopes[k] = _product(gradient, of_out, kept, key + width, size) - mean
        place = scales + 2 * (event * shape.num_heads + head)
        peak, factor = fill(kept[place]), fill(kept[place + 1])
        for k in range(0, count, WIDTH):
            store(exp(load(weights, k) - peak) * factor, weights, k)
        for c in range(0, size, WIDTH):
            store(fill(_ZERO), of_qkv, of_query + c)
        for k in range(count):
            slope, of_key = scale * weights[k] * slopes[k], of_query + width + k * step
            _add_multiple(kept, query + width + k * step, slope, size, of_qkv, of_query)
            _copy(kept, query, 0, 1, size, slope, of_qkv, of_key, 0)
            _copy(gradient, of_out, 0, 1, size, weights[k], of_qkv, of_key + width, 0)


@separate
def _embed(
    tokens: Tokens, weights: Array, shape: TransformerShape, kept: Array, start: int, x: Array
) -> None:
    """Tokens of all hits and events, from their inputs."""
    width, num_events = shape.width, len(tokens.first_hit) - 1
    num_hits = tokens.first_hit[num_events]
    hidden = np.empty(2 * width * (num_hits + num_events), np.float32)
    of_events = np.empty(num_events * width, np.float32)
    _dense(tokens.hits, 0, num_hits, weights, shape, _HIT_IN, kept, start, False)
    _gelu(kept, start, num_hits * 2 * width, hidden)
    for e in range(num_events):
        hit, end = tokens.first_hit[e], tokens.first_hit[e + 1]
        row = hit + e + 1
        _dense(hidden, hit * 2 * width, end - hit, weights, shape, _HIT_OUT, x, row * width, False)
    start += num_hits * 2 * width
    _dense(tokens.events, 0, num_events, weights, shape, _EVENT_IN, kept, start, False)
    _gelu(kept, start, num_events * 2 * width, hidden)
    _dense(hidden, 0, num_events, weights, shape, _EVENT_OUT, of_events, 0, False)
    for e in range(num_events):
        row = tokens.first_hit[e] + e
        _copy(of_events, e * width, width, 1, width, np.float32(1), x, row * width, width)


@separate
def _embed_backward(
    gradient: Array, tokens: Tokens, opposite: Array, shape: TransformerShape, kept: Array,
    start: int, sums: Array,
) -> None:  # fmt: skip
    width, num_events = shape.width, len(tokens.first_hit) - 1
    num_hits = tokens.first_hit[num_events]
    size, one = num_hits + num_events, np.float32(1)
    of_hits, of_events = (
        np.empty(num_hits * width, np.float32),
        np.empty(num_events * width, np.float32),
    )
    hidden, of_hidden = (
        np.empty(2 * width * size, np.float32),
        np.empty(2 * width * size, np.float32),
    )
    for e in range(num_events):
        hit, count = tokens.first_hit[e], tokens.first_hit[e + 1] - tokens.first_hit[e]
        row = hit + e
        _copy(gradient, row * width, width, 1, width, one, of_events, e * width, width)
        _copy(gradient, (row + 1) * width, width, count, width, one, of_hits, hit * width, width)
    _through_dense(of_hits, num_hits, opposite, shape, _HIT_OUT, of_hidden)
    _gelu_backward(kept, start, num_hits * 2 * width, hidden, of_hidden)
    _add_kernel_gradient(of_hits, hidden, 0, num_hits, shape, _HIT_OUT, sums)
    _add_kernel_gradient(of_hidden, tokens.hits, 0, num_hits, shape, _HIT_IN, sums)
    start += num_hits * 2 * width
    _through_dense(of_events, num_events, opposite, shape, _EVENT_OUT, of_hidden)
    _gelu_backward(kept, start, num_events * 2 * width, hidden, of_hidden)
    _add_kernel_gradient(of_events, hidden, 0, num_events, shape, _EVENT_OUT, sums)
    _add_kernel_gradient(of_hidden, tokens.events, 0, num_events, shape, _EVENT_IN, sums)


@separate
def _summary_queries(
    tokens: Tokens, weights: Array, shape: TransformerShape, i: int, kept: Array, normed: int,
    qkv: int,
) -> None:  # fmt: skip
    """Keys and values of all tokens, and queries of summary tokens."""
    width, num_events = shape.width, len(tokens.first_hit) - 1
    rows, kernel, step = tokens.first_hit[num_events] + num_events, shape.dense[4 * i], 3 * width
    bias = shape.dense[4 * i + 1]
    multiply(
        kept, normed, width, 1, weights, kernel + width, step, rows, 2 * width, width, bias + width,
        kept, qkv + width, step, False,
    )  # fmt: skip
    for e in range(num_events):
        row = tokens.first_hit[e] + e
        multiply(
            kept, normed + row * width, width, 1, weights, kernel, step, 1, width, width, bias,
            kept, qkv + row * step, step, False,
        )  # fmt: skip


@separate
def _forward(
    tokens: Tokens, weights: Array, shape: TransformerShape, keep: bool, kept: Array, out: Array
) -> None:
    width, num_events = shape.width, len(tokens.first_hit) - 1
    rows = tokens.first_hit[num_events] + num_events
    x, hidden = np.empty(rows * width, np.float32), np.empty(rows * shape.hidden, np.float32)
    end = _places(shape, rows, shape.num_layers if keep else 1)[0]
    _embed(tokens, weights, shape, kept, end, x)
    for layer in range(shape.num_layers):
        normed, deviation, qkv, scales, attended, normed_mlp, deviation_mlp, before = _places(
            shape, rows, layer if keep else 0
        )
        i = _LAYERS + 4 * layer
        _normalise(x, rows, width, kept, normed, deviation)
        if layer < shape.num_layers - 1:
            _dense(kept, normed, rows, weights, shape, i + _QKV, kept, qkv, False)
        else:
            _summary_queries(tokens, weights, shape, i + _QKV, kept, normed, qkv)
        for e in range(num_events):
            first = tokens.first_hit[e] + e
            count = tokens.first_hit[e + 1] - tokens.first_hit[e] + 1
            if layer < shape.num_layers - 1:
                _attend(kept, qkv, scales, attended, first, count, shape)
            else:
                _attend_first(kept, qkv, scales, attended, first, count, e, shape)
                _copy(x, first * width, width, 1, width, np.float32(1), x, e * width, width)
        if layer == shape.num_layers - 1:
            rows = num_events
        _dense(kept, attended, rows, weights, shape, i + _OUT, x, 0, True)
        _normalise(x, rows, width, kept, normed_mlp, deviation_mlp)
        _dense(kept, normed_mlp, rows, weights, shape, i + _MLP_IN, kept, before, False)
        _gelu(kept, before, rows * shape.hidden, hidden)
        _dense(hidden, 0, rows, weights, shape, i + _MLP_OUT, x, 0, True)
    for c in range(num_events * width):
        out[c] = x[c]


@separate
def _backward(
    gradient: Array, tokens: Tokens, opposite: Array, shape: TransformerShape, kept: Array,
    sums: Array,
) -> None:  # fmt: skip
    width, num_events = shape.width, len(tokens.first_hit) - 1
    all_rows = tokens.first_hit[num_events] + num_events
    x = np.zeros(all_rows * width, np.float32)  # gradient of the tokens
    inner, of_qkv = (
        np.empty(all_rows * width, np.float32),
        np.zeros(all_rows * 3 * width, np.float32),
    )
    hidden = np.empty(all_rows * shape.hidden, np.float32)
    of_hidden = np.empty(all_rows * shape.hidden, np.float32)
    rows = num_events
    for c in range(num_events * width):
        x[c] = gradient[c]
    for layer in range(shape.num_layers - 1, -1, -1):
        normed, deviation, qkv, scales, attended, normed_mlp, deviation_mlp, before = _places(
            shape, all_rows, layer
        )
        i = _LAYERS + 4 * layer
        _through_dense(x, rows, opposite, shape, i + _MLP_OUT, of_hidden)
        _gelu_backward(kept, before, rows * shape.hidden, hidden, of_hidden)
        _add_kernel_gradient(x, hidden, 0, rows, shape, i + _MLP_OUT, sums)
        _add_kernel_gradient(of_hidden, kept, normed_mlp, rows, shape, i + _MLP_IN, sums)
        _through_dense(of_hidden, rows, opposite, shape, i + _MLP_IN, inner)
        _add_through_norm(inner, rows, width, kept, normed_mlp, deviation_mlp, x)
        _add_kernel_gradient(x, kept, attended, rows, shape, i + _OUT, sums)
        _through_dense(x, rows, opposite, shape, i + _OUT, inner)
        for e in range(num_events):
            first = tokens.first_hit[e] + e
            count = tokens.first_hit[e + 1] - tokens.first_hit[e] + 1
            if layer < shape.num_layers - 1:
                _attend_backward(kept, qkv, scales, attended, first, count, shape, inner, of_qkv)
            else:
                _attend_first_backward(
                    kept, qkv, scales, attended, first, count, e, shape, inner, of_qkv
                )
        if layer == shape.num_layers - 1:
            rows = all_rows
            _spread(x, tokens, width)
        _add_kernel_gradient(of_qkv, kept, normed, rows, shape, i + _QKV, sums)
        _through_dense(of_qkv, rows, opposite, shape, i + _QKV, inner)
        _add_through_norm(inner, rows, width, kept, normed, deviation, x)
    end = _places(shape, all_rows, shape.num_layers)[0]
    _embed_backward(x, tokens, opposite, shape, kept, end, sums)


@separate
def _spread(x: Array, tokens: Tokens, width: int) -> None:
    """Move rows of events, the first ones, to those of their summary tokens; the others are 0."""
    for e in range(len(tokens.first_hit) - 2, 0, -1):
        row = tokens.first_hit[e] + e
        if row > e:
            _copy(x, e * width, width, 1, width, np.float32(1), x, row * width, width)
            _copy(x, e * width, width, 1, width, _ZERO, x, e * width, width)


_SHAPE = types.NamedTuple([*[types.int64] * 4, flat_array(types.int64)], TransformerShape)
_TOKENS = types.NamedTuple([flat_array(), flat_array(), flat_array(types.int64)], Tokens)


@functools.cache
def forward() -> Callable[..., None]:
    """The function that computes a transformer for some events.

    Its arguments are:

    - tokens, weights, shape: a `Tokens`, the weights, and a `TransformerShape`
    - keep: whether the values of all layers are kept for the gradient
    - kept: memory of `num_kept` values for all layers, or for one if they are not kept
    - out: where to write the summary token of each event [E, width]
    """
    return cached_function(
        _forward, _TOKENS, flat_array(), _SHAPE, types.boolean, flat_array(), flat_array()
    )


@functools.cache
def backward() -> Callable[..., None]:
    """The function that adds up the gradients of the weights.

    Its arguments are:

    - gradient: of the summary tokens [E, width]
    - tokens, shape, kept: as in `forward`
    - opposite: the weights with all kernels transposed
    - sums: gradients of the weights, to be added to
    """
    return cached_function(
        _backward, flat_array(), _TOKENS, flat_array(), _SHAPE, flat_array(), flat_array()
    )
