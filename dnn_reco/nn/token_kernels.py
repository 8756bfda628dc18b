"""A transformer over the tokens of some events on CPUs, compiled by Numba.

Tokens of events follow each other without padding: of each event first the summary token, then its
hits. A group of events stays in the cache from its inputs to its output.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from dnn_reco.nn.attention_kernels import (
    attend,
    attend_backward,
    attend_first,
    attend_first_backward,
)
from dnn_reco.nn.compiled import cached_function, flat_array, inlined, separate, types
from dnn_reco.nn.kernel_arguments import Array, KeptLayer, Matrix, Tokens, TransformerShape
from dnn_reco.nn.matrix_product import copy_rows, multiply
from dnn_reco.nn.vector_kernels import WIDTH
from dnn_reco.nn.vectors import exp, fill, load, maximum, store, total, where_negative

_EPSILON = np.float32(1e-5)  # of PyTorch's LayerNorm
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
def _kept_layer(shape: TransformerShape, rows: int, layer: int) -> KeptLayer:
    """Where values of a layer are kept."""
    normed = layer * rows * (6 * shape.width + 2 + 2 * shape.num_heads + shape.hidden)
    deviation = normed + rows * shape.width
    qkv = deviation + rows
    scales = qkv + 3 * rows * shape.width
    attended = scales + 2 * rows * shape.num_heads
    normed_mlp = attended + rows * shape.width
    deviation_mlp = normed_mlp + rows * shape.width
    hidden = deviation_mlp + rows
    return KeptLayer(normed, deviation, qkv, scales, attended, normed_mlp, deviation_mlp, hidden)


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
    x: Matrix, rows: int, weights: Array, shape: TransformerShape, i: int, out: Matrix, add: bool
) -> None:
    """Dense layer i of some rows, written or added to `out`."""
    kernel, bias = shape.dense[4 * i], shape.dense[4 * i + 1]
    inputs, outputs = shape.dense[4 * i + 2], shape.dense[4 * i + 3]
    multiply(x, Matrix(weights, kernel, outputs, 1), out, rows, outputs, inputs, bias, add)


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
    across, of_kernel = Matrix(x, start, 1, inputs), Matrix(sums, kernel, outputs, 1)
    multiply(across, Matrix(gradient, 0, outputs, 1), of_kernel, inputs, outputs, rows, -1, True)


@separate
def _through_dense(
    gradient: Array, rows: int, opposite: Array, shape: TransformerShape, i: int, out: Array
) -> None:
    """Gradient of the input of dense layer i, from that of its output."""
    inputs, outputs = shape.dense[4 * i + 2], shape.dense[4 * i + 3]
    kernel = Matrix(opposite, shape.dense[4 * i], inputs, 1)
    of_output, of_input = Matrix(gradient, 0, outputs, 1), Matrix(out, 0, inputs, 1)
    multiply(of_output, kernel, of_input, rows, inputs, outputs, -1, False)


@separate
def _embed(
    tokens: Tokens, weights: Array, shape: TransformerShape, kept: Array, start: int, x: Array
) -> None:
    """Tokens of all hits and events, from their inputs."""
    width, num_events = shape.width, len(tokens.first_hit) - 1
    num_hits, double = tokens.first_hit[num_events], 2 * shape.width
    hidden = np.empty(double * (num_hits + num_events), np.float32)
    of_events = np.empty(num_events * width, np.float32)
    inputs = Matrix(tokens.hits, 0, shape.dense[4 * _HIT_IN + 2], 1)
    _dense(inputs, num_hits, weights, shape, _HIT_IN, Matrix(kept, start, double, 1), False)
    _gelu(kept, start, num_hits * double, hidden)
    for e in range(num_events):
        hit, end = tokens.first_hit[e], tokens.first_hit[e + 1]
        some, out = (
            Matrix(hidden, hit * double, double, 1),
            Matrix(x, (hit + e + 1) * width, width, 1),
        )
        _dense(some, end - hit, weights, shape, _HIT_OUT, out, False)
    start += num_hits * double
    inputs = Matrix(tokens.events, 0, shape.dense[4 * _EVENT_IN + 2], 1)
    _dense(inputs, num_events, weights, shape, _EVENT_IN, Matrix(kept, start, double, 1), False)
    _gelu(kept, start, num_events * double, hidden)
    some, out = Matrix(hidden, 0, double, 1), Matrix(of_events, 0, width, 1)
    _dense(some, num_events, weights, shape, _EVENT_OUT, out, False)
    for e in range(num_events):
        _copy_row(of_events, e, x, tokens.first_hit[e] + e, width)


@inlined
def _copy_row(x: Array, row: int, out: Array, out_row: int, width: int) -> None:
    """Copy a row of a matrix."""
    for c in range(0, width, WIDTH):
        store(load(x, row * width + c), out, out_row * width + c)


@separate
def _embed_backward(
    gradient: Array, tokens: Tokens, opposite: Array, shape: TransformerShape, kept: Array,
    start: int, sums: Array,
) -> None:  # fmt: skip
    """Add the gradients of the weights of tokens, from that of the tokens."""
    width, num_events = shape.width, len(tokens.first_hit) - 1
    num_hits, double = tokens.first_hit[num_events], 2 * shape.width
    size = num_hits + num_events
    of_hits = np.empty(num_hits * width, np.float32)
    of_events = np.empty(num_events * width, np.float32)
    hidden, of_hidden = np.empty(double * size, np.float32), np.empty(double * size, np.float32)
    for e in range(num_events):
        hit, end = tokens.first_hit[e], tokens.first_hit[e + 1]
        _copy_row(gradient, hit + e, of_events, e, width)
        some = Matrix(gradient, (hit + e + 1) * width, width, 1)
        copy_rows(some, Matrix(of_hits, hit * width, width, 1), end - hit, width, _ONE)
    _through_dense(of_hits, num_hits, opposite, shape, _HIT_OUT, of_hidden)
    _gelu_backward(kept, start, num_hits * double, hidden, of_hidden)
    _add_kernel_gradient(of_hits, hidden, 0, num_hits, shape, _HIT_OUT, sums)
    _add_kernel_gradient(of_hidden, tokens.hits, 0, num_hits, shape, _HIT_IN, sums)
    start += num_hits * double
    _through_dense(of_events, num_events, opposite, shape, _EVENT_OUT, of_hidden)
    _gelu_backward(kept, start, num_events * double, hidden, of_hidden)
    _add_kernel_gradient(of_events, hidden, 0, num_events, shape, _EVENT_OUT, sums)
    _add_kernel_gradient(of_hidden, tokens.events, 0, num_events, shape, _EVENT_IN, sums)


@separate
def _summary_queries(
    tokens: Tokens, weights: Array, shape: TransformerShape, i: int, kept: Array, layer: KeptLayer
) -> None:
    """Keys and values of all tokens, and queries of summary tokens."""
    width, num_events = shape.width, len(tokens.first_hit) - 1
    rows, kernel, step = tokens.first_hit[num_events] + num_events, shape.dense[4 * i], 3 * width
    bias, normed = shape.dense[4 * i + 1] + width, Matrix(kept, layer.normed, width, 1)
    of_keys, out = (
        Matrix(weights, kernel + width, step, 1),
        Matrix(kept, layer.qkv + width, step, 1),
    )
    multiply(normed, of_keys, out, rows, 2 * width, width, bias, False)
    for e in range(num_events):
        row = tokens.first_hit[e] + e
        summary = Matrix(kept, layer.normed + row * width, width, 1)
        out = Matrix(kept, layer.qkv + row * step, step, 1)
        of_queries = Matrix(weights, kernel, step, 1)
        multiply(summary, of_queries, out, 1, width, width, bias - width, False)


@separate
def _forward(
    tokens: Tokens, weights: Array, shape: TransformerShape, keep: bool, kept: Array, out: Array
) -> None:
    width, num_events = shape.width, len(tokens.first_hit) - 1
    rows = tokens.first_hit[num_events] + num_events
    x, hidden = np.empty(rows * width, np.float32), np.empty(rows * shape.hidden, np.float32)
    of_x, of_hidden = Matrix(x, 0, width, 1), Matrix(hidden, 0, shape.hidden, 1)
    end = _kept_layer(shape, rows, shape.num_layers if keep else 1).normed
    _embed(tokens, weights, shape, kept, end, x)
    for number in range(shape.num_layers):
        layer, i = _kept_layer(shape, rows, number if keep else 0), _LAYERS + 4 * number
        is_last = number == shape.num_layers - 1
        _normalise(x, rows, width, kept, layer.normed, layer.deviation)
        if is_last:
            _summary_queries(tokens, weights, shape, i + _QKV, kept, layer)
        else:
            normed, qkv = (
                Matrix(kept, layer.normed, width, 1),
                Matrix(kept, layer.qkv, 3 * width, 1),
            )
            _dense(normed, rows, weights, shape, i + _QKV, qkv, False)
        for e in range(num_events):
            first = tokens.first_hit[e] + e
            count = tokens.first_hit[e + 1] - tokens.first_hit[e] + 1
            if is_last:
                attend_first(kept, layer, first, count, e, shape)
                _copy_row(x, first, x, e, width)
            else:
                attend(kept, layer, first, count, shape)
        if is_last:
            rows = num_events
        attended = Matrix(kept, layer.attended, width, 1)
        _dense(attended, rows, weights, shape, i + _OUT, of_x, True)
        _normalise(x, rows, width, kept, layer.normed_mlp, layer.deviation_mlp)
        normed, before = (
            Matrix(kept, layer.normed_mlp, width, 1),
            Matrix(kept, layer.hidden, shape.hidden, 1),
        )
        _dense(normed, rows, weights, shape, i + _MLP_IN, before, False)
        _gelu(kept, layer.hidden, rows * shape.hidden, hidden)
        _dense(of_hidden, rows, weights, shape, i + _MLP_OUT, of_x, True)
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
    inner = np.empty(all_rows * width, np.float32)
    of_qkv = np.zeros(all_rows * 3 * width, np.float32)
    hidden = np.empty(all_rows * shape.hidden, np.float32)
    of_hidden = np.empty(all_rows * shape.hidden, np.float32)
    rows = num_events
    for c in range(num_events * width):
        x[c] = gradient[c]
    for number in range(shape.num_layers - 1, -1, -1):
        layer, i = _kept_layer(shape, all_rows, number), _LAYERS + 4 * number
        is_last = number == shape.num_layers - 1
        _through_dense(x, rows, opposite, shape, i + _MLP_OUT, of_hidden)
        _gelu_backward(kept, layer.hidden, rows * shape.hidden, hidden, of_hidden)
        _add_kernel_gradient(x, hidden, 0, rows, shape, i + _MLP_OUT, sums)
        _add_kernel_gradient(of_hidden, kept, layer.normed_mlp, rows, shape, i + _MLP_IN, sums)
        _through_dense(of_hidden, rows, opposite, shape, i + _MLP_IN, inner)
        _add_through_norm(inner, rows, width, kept, layer.normed_mlp, layer.deviation_mlp, x)
        _add_kernel_gradient(x, kept, layer.attended, rows, shape, i + _OUT, sums)
        _through_dense(x, rows, opposite, shape, i + _OUT, inner)
        for e in range(num_events):
            first = tokens.first_hit[e] + e
            count = tokens.first_hit[e + 1] - tokens.first_hit[e] + 1
            if is_last:
                attend_first_backward(kept, layer, first, count, e, shape, inner, of_qkv)
            else:
                attend_backward(kept, layer, first, count, shape, inner, of_qkv)
        if is_last:
            rows = all_rows
            _spread(x, tokens, width)
        _add_kernel_gradient(of_qkv, kept, layer.normed, rows, shape, i + _QKV, sums)
        _through_dense(of_qkv, rows, opposite, shape, i + _QKV, inner)
        _add_through_norm(inner, rows, width, kept, layer.normed, layer.deviation, x)
    end = _kept_layer(shape, all_rows, shape.num_layers).normed
    _embed_backward(x, tokens, opposite, shape, kept, end, sums)


@separate
def _spread(x: Array, tokens: Tokens, width: int) -> None:
    """Move rows of events, the first ones, to those of their summary tokens; the others are 0."""
    for e in range(len(tokens.first_hit) - 2, 0, -1):
        row = tokens.first_hit[e] + e
        if row > e:
            _copy_row(x, e, x, row, width)
            for c in range(e * width, (e + 1) * width, WIDTH):
                store(fill(_ZERO), x, c)


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
