"""Convolutional layers on CPUs, compiled by Numba: convolution, activation, residual, pooling.

Libraries compute convolutions of few channels with vectors along the channels, most of which stay
empty, and pass over the memory again for the bias, the activation, the residual and the pooling.
Here vectors run along the last spatial axis, and an event stays in the cache from the convolution
to the pooling.

Arrays are flat: views of their parts would be counted, by atomic operations. An event [C, x, y, z]
is copied to a padded buffer, in which a step along an axis is the same distance everywhere: rows
along z are separated by as many zeros as the kernel reaches, planes by as many rows of zeros. There
the input of a cell of the kernel is the whole buffer, shifted; results at the padding are not used.
Kernels come in blocks of 5 output channels (in the gradient of the input: input channels) and
groups of 3 taps along z, filled up with zeros.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.nn.compiled import (
    cached_function,
    flat_array,
    inlined,
    inlined_in_order,
    split_exponent,
    types,
    unsigned,
)
from dnn_reco.nn.kernel_arguments import Array, Gradients, Layer, Part, PlacedHits, Shape, Weights
from dnn_reco.nn.vector_kernels import (
    BLOCK,
    TAPS,
    TILE,
    WIDTH,
    add_products,
    multiply_add,
)

_N1, _N2 = unsigned(1), unsigned(2)


@inlined_in_order
def _expm1(x: Any) -> Any:
    """exp(x) - 1 for x ≤ 0."""
    power, p = split_exponent(x)
    return p * power + (power - np.float32(1))


def scratch_sizes(layer: Layer) -> tuple[int, int, int, int]:
    """Values of the parts of the scratch memory of a layer.

    They are the padded buffers of the input and of gradients, gradients of the output with the
    padding of planes, and a plane. What lies after the last channel may be read, and is not used.
    """
    end = layer.origin + 2 * TILE
    return (
        layer.num_inputs * layer.channel + end,
        (layer.num_outputs + BLOCK) * layer.channel + end,
        layer.num_outputs * layer.shape[0] * layer.length,
        layer.length,
    )


_scratch_sizes = inlined(scratch_sizes)


@inlined
def _place(hits: PlacedHits, part: Part, first: int, last: int, x: Array) -> None:
    """Write the input of events: the background, then the hits."""
    size, num_channels = len(part.background), len(part.first_cell)
    num_positions, num_cells = size // num_channels, len(part.target)
    num_features = len(hits.values) // max(1, len(hits.cell))
    for e in range(first, last):
        start = (e - first) * size
        if len(hits.keep) == 0:
            for k in range(unsigned(size)):
                x[unsigned(start) + k] = part.background[k]
        else:
            for c in range(num_channels):
                p, q = unsigned(start + c * num_positions), unsigned(c * num_positions)
                of_cell = unsigned(e * num_cells + part.first_cell[c])
                for k in range(unsigned(num_positions)):
                    x[p + k] = part.background[q + k] * hits.keep[of_cell + k]
        for hit in range(hits.first_hit[e], hits.first_hit[e + 1]):
            target = part.target[hits.cell[hit]]
            if target >= 0:
                for feature in range(num_features):
                    x[start + target + feature * part.step] = hits.values[
                        hit * num_features + feature
                    ]


@inlined
def _fill(x: Array, e: int, buffer: Array, layer: Layer) -> None:
    """Copy event e of the input to its positions in the buffer."""
    nx, ny, nz = layer.shape
    to_event, to_channel, to_x, to_y, to_z = layer.strides
    step = unsigned(to_z)
    for c in range(layer.num_inputs):
        for i in range(nx):
            for j in range(ny):
                source = unsigned(e * to_event + c * to_channel + i * to_x + j * to_y)
                p = unsigned(layer.origin + c * layer.channel + i * layer.plane + j * layer.row)
                if to_z == 1:
                    for k in range(unsigned(nz)):
                        buffer[p + k] = x[source + k]
                else:
                    for k in range(unsigned(nz)):
                        buffer[p + k] = x[source + k * step]


@inlined
def _activate(sums: Array, o: int, bias: np.float32, elu: bool, out: Array, start: int) -> None:
    """Add the bias to channel o of a tile, and apply the activation."""
    p, q = unsigned(TILE * o), unsigned(start)
    if elu:
        for z in range(unsigned(TILE)):
            u = sums[p + z] + bias
            out[q + z] = _expm1(min(u, np.float32(0))) if u <= 0 else u
    else:
        for z in range(unsigned(TILE)):
            out[q + z] = sums[p + z] + bias


@inlined
def _convolve_plane(
    x: Array, start: int, weights: Weights, elu: bool, length: int, sums: Array,
    out: Array, out_start: int, out_channel: int,
) -> None:  # fmt: skip
    """Convolution of the plane at index `start` of the buffer, to that at `out_start` of `out`."""
    num_outputs, size = len(weights.bias), len(weights.steps) * BLOCK * TAPS
    for block in range(len(weights.kernel) // size):
        for z in range(0, length, TILE):
            multiply_add(x, start + z, weights.kernel, block * size, weights.steps, sums)
            for o in range(min(BLOCK, num_outputs - BLOCK * block)):
                c = BLOCK * block + o
                _activate(sums, o, weights.bias[c], elu, out, out_start + c * out_channel + z)


@inlined
def _sum_windows(values: Array, length: int, window: int, sums: Array) -> None:
    """Sums over windows along z of all rows of a plane."""
    if window == 1:
        for k in range(unsigned(length)):
            sums[k] = values[k]
    elif window == 2:
        for k in range(unsigned(length >> 1)):
            sums[k] = values[_N2 * k] + values[_N2 * k + _N1]
    else:
        for k in range(length // window):
            sums[k] = np.float32(0)
            for z in range(k * window, (k + 1) * window):
                sums[k] += values[z]


@inlined
def _expand_windows(sums: Array, length: int, window: int, out: Array, start: int) -> None:
    """The opposite: repeat each value for all positions of its window."""
    p = unsigned(start)
    if window == 1:
        for z in range(unsigned(length)):
            out[p + z] = sums[z]
    elif window == 2:
        for k in range(unsigned(length >> 1)):
            out[p + _N2 * k] = sums[k]
            out[p + _N2 * k + _N1] = sums[k]
    else:
        for k in range(length // window):
            for z in range(k * window, (k + 1) * window):
                out[start + z] = sums[k]


@inlined
def _pool_plane(values: Array, i: int, layer: Layer, sums: Array, means: Array, first: int) -> None:
    """Add plane i of a channel to its means, which begin at `first`."""
    nx, ny, nz = layer.shape
    wx, wy, wz = layer.window
    _, num_rows, num_means = layer.pooled_shape
    complete, rest = nz // wz, nz % wz
    num_x, target = min(wx, nx - i // wx * wx), first + i // wx * num_rows * num_means
    j = 0
    for _ in range(num_rows):
        num_y = min(wy, ny - j)
        for _ in range(num_y if rest else 0):
            for z in range(j * layer.row + complete * wz, j * layer.row + nz):
                means[target + complete] += values[z] / np.float32(num_x * num_y * rest)
            j += 1
        target += num_means
    _sum_windows(values, layer.length, wz, sums)
    target, j = first + i // wx * num_rows * num_means, 0
    for row in range(num_rows):
        num_y = min(wy, ny - row * wy)
        factor, q = np.float32(1) / np.float32(num_x * num_y * wz), unsigned(target)
        for _ in range(num_y):
            p = unsigned(j * (layer.row // wz))
            for k in range(unsigned(complete)):
                means[q + k] += factor * sums[p + k]
            j += 1
        target += num_means


@inlined
def _unpool_plane(
    means: Array, first: int, i: int, layer: Layer, sums: Array, out: Array, start: int
) -> None:
    """Gradient of plane i of a channel from that of its means, which begin at `first`.

    `sums` holds zeros between rows.
    """
    nx, ny, nz = layer.shape
    wx, wy, wz = layer.window
    _, num_rows, num_means = layer.pooled_shape
    complete, rest = nz // wz, nz % wz
    num_x, source = min(wx, nx - i // wx * wx), first + i // wx * num_rows * num_means
    j = 0
    for row in range(num_rows):
        num_y = min(wy, ny - row * wy)
        factor, q = np.float32(1) / np.float32(num_x * num_y * wz), unsigned(source)
        for _ in range(num_y):
            p = unsigned(j * (layer.row // wz))
            for k in range(unsigned(complete)):
                sums[p + k] = factor * means[q + k]
            j += 1
        source += num_means
    _expand_windows(sums, layer.length, wz, out, start)
    if rest:
        source, j = first + i // wx * num_rows * num_means + complete, 0
        for row in range(num_rows):
            num_y = min(wy, ny - row * wy)
            for _ in range(num_y):
                begin = start + j * layer.row
                for z in range(begin + complete * wz, begin + nz):
                    out[z] = means[source] / np.float32(num_x * num_y * rest)
                j += 1
            source += num_means


@inlined
def _combine(
    kept: Array, start: int, scale: np.float32, x: Array, x_start: int, add: bool, out: Array
) -> None:
    """A plane times a scale, with that of the input added."""
    p, q = unsigned(start), unsigned(x_start)
    if add:
        for z in range(unsigned(len(out))):
            out[z] = scale * kept[p + z] + x[q + z]
    else:
        for z in range(unsigned(len(out))):
            out[z] = scale * kept[p + z]


@inlined
def _forward(
    x: Array, weights: Weights, layer: Layer, activated: Array, y: Array, num_events: int,
    scratch: Array,
) -> None:  # fmt: skip
    num_planes, length = layer.shape[0], layer.length
    size = layer.pooled_shape[0] * layer.pooled_shape[1] * layer.pooled_shape[2]
    buffer = scratch[: _scratch_sizes(layer)[0]]
    sums, combined = np.empty(BLOCK * TILE, np.float32), np.empty(length, np.float32)
    of_windows = np.empty(length, np.float32)
    keep = len(activated) > 0
    kept = activated if keep else np.empty(layer.num_outputs * num_planes * length, np.float32)
    for e in range(num_events):
        _fill(x, e, buffer, layer)
        begin = e * layer.num_outputs * size
        for k in range(begin, begin + layer.num_outputs * size):
            y[k] = 0
        of_event = e * layer.num_outputs * num_planes * length if keep else 0
        for i in range(num_planes):
            start, plane = layer.origin + i * layer.plane, of_event + i * length
            _convolve_plane(
                buffer, start, weights, layer.elu, length, sums, kept, plane, num_planes * length
            )
            for o in range(layer.num_outputs):
                scale = weights.scale[o] if layer.residual else np.float32(1)
                add, position = layer.residual and o < layer.num_inputs, start + o * layer.channel
                of_channel = plane + o * num_planes * length
                _combine(kept, of_channel, scale, buffer, position if add else 0, add, combined)
                _pool_plane(combined, i, layer, of_windows, y, (e * layer.num_outputs + o) * size)


@inlined
def _add_kernel_gradient(
    x: Array, g: Array, start: int, steps: NDArray[np.int64], layer: Layer, sums: Array
) -> None:
    """Add the gradient of the kernel from one plane, at index `start` of both buffers."""
    first = 0
    for block in range(len(sums) // (len(steps) * BLOCK * TAPS * WIDTH)):
        g_start = start + BLOCK * block * layer.channel
        for s in range(len(steps)):
            position = start + steps[s]
            add_products(x, position, g, g_start, layer.channel, layer.length, sums, first)
            first += BLOCK * TAPS * WIDTH


@inlined
def _through_activation(
    outer: Array, activated: Array, o: int, weights: Weights, layer: Layer,
    gradients: Gradients, inner: Array, positions: Shape,
) -> None:  # fmt: skip
    """Gradient `inner` of a plane of the convolution, from that of the output, `outer`.

    `positions` are those of the plane in `outer`, `activated` and `inner`.
    """
    p, q, r = unsigned(positions[0]), unsigned(positions[1]), unsigned(positions[2])
    of_bias, of_scale = np.float32(0), np.float32(0)
    scale = weights.scale[o] if layer.residual else np.float32(1)
    least = np.float32(-1 if layer.elu else 0)
    for z in range(unsigned(layer.length)):
        value, gradient = activated[q + z], outer[p + z]
        of_scale += gradient * value
        gradient *= scale * (max(min(value, np.float32(0)), least) + np.float32(1))
        of_bias += gradient
        inner[r + z] = gradient
    gradients.bias[o] += of_bias
    gradients.scale[o] += of_scale


@inlined
def _write_plane(
    rows: Array, start: int, more: Array, more_start: int, add: bool, layer: Layer,
    out: Array, first: int,
) -> None:  # fmt: skip
    """Copy the rows of a plane, with those of `more` added, to [y, z] at `first`."""
    _, ny, nz = layer.shape
    for j in range(ny):
        p, q = unsigned(start + j * layer.row), unsigned(more_start + j * layer.row)
        r = unsigned(first + j * nz)
        if add:
            for z in range(unsigned(nz)):
                out[r + z] = rows[p + z] + more[q + z]
        else:
            for z in range(unsigned(nz)):
                out[r + z] = rows[p + z]


@inlined
def _backward(
    gradient: Array, x: Array, activated: Array, weights: Weights, opposite: Weights,
    layer: Layer, gradients: Gradients, num_events: int, scratch: Array,
) -> None:  # fmt: skip
    (num_planes, ny, nz), length = layer.shape, layer.length
    num_inputs, num_outputs = layer.num_inputs, layer.num_outputs
    size = layer.pooled_shape[0] * layer.pooled_shape[1] * layer.pooled_shape[2]
    of_x, of_g, of_outer, _ = _scratch_sizes(layer)
    x_buffer, g_buffer = scratch[:of_x], scratch[of_x : of_x + of_g]
    outer = scratch[of_x + of_g : of_x + of_g + of_outer]
    of_windows = scratch[of_x + of_g + of_outer :]
    rows, sums = np.empty(num_inputs * length, np.float32), np.empty(BLOCK * TILE, np.float32)
    for e in range(num_events):
        _fill(x, e, x_buffer, layer)
        for o in range(num_outputs):
            for i in range(num_planes):
                plane = (o * num_planes + i) * length
                begin = (e * num_outputs + o) * size
                _unpool_plane(gradient, begin, i, layer, of_windows, outer, plane)
                inner = layer.origin + o * layer.channel + i * layer.plane
                kept = plane + e * num_outputs * num_planes * length
                positions = (plane, kept, inner)
                _through_activation(
                    outer, activated, o, weights, layer, gradients, g_buffer, positions
                )
        for i in range(num_planes):
            start = layer.origin + i * layer.plane
            _add_kernel_gradient(x_buffer, g_buffer, start, weights.steps, layer, gradients.kernel)
            if len(gradients.x) == 0:
                continue
            _convolve_plane(g_buffer, start, opposite, False, length, sums, rows, 0, length)
            for c in range(num_inputs):
                add, plane = layer.residual and c < num_outputs, (c * num_planes + i) * length
                position = ((e * num_inputs + c) * num_planes + i) * ny * nz
                _write_plane(rows, c * length, outer, plane, add, layer, gradients.x, position)


_SHAPE = types.UniTuple(types.int64, 3)
_LAYER = types.NamedTuple(
    [
        *(types.int64, types.int64, _SHAPE, _SHAPE, types.UniTuple(types.int64, 5), _SHAPE),
        *(types.boolean, types.boolean),
        *[types.int64] * 5,
    ],
    Layer,
)
_WEIGHTS = types.NamedTuple(
    [flat_array(), flat_array(types.int64), flat_array(), flat_array()], Weights
)
_GRADIENTS = types.NamedUniTuple(flat_array(), 4, Gradients)


@functools.cache
def place() -> Callable[..., None]:
    """The function that writes the input of a stack of layers for the events `first` … `last` - 1.

    Its arguments are:

    - hits, part: a `PlacedHits` and a `Part`
    - first, last
    - x: where to write the input of these events [last - first, C, x, y, z]
    """
    index = flat_array(types.int64)
    hits = types.NamedTuple([index, index, flat_array(), flat_array()], PlacedHits)
    part = types.NamedTuple([flat_array(), index, index, types.int64, _SHAPE], Part)
    return cached_function(_place, hits, part, types.int64, types.int64, flat_array())


@functools.cache
def forward() -> Callable[..., None]:
    """The function that computes a layer.

    Its arguments are:

    - x: input, of which the strides of the layer are those
    - weights, layer: a `Weights` and a `Layer`
    - activated: where to write the activated values [B, C out, x, plane], with the padding of each
      plane, which the gradient needs; or an empty array, if they are not needed
    - y: where to write the output [B, C out, x', y', z']
    - num_events
    - scratch: memory of `scratch_sizes`, zeros at first, used for this layer alone
    """
    return cached_function(
        _forward,
        flat_array(),
        _WEIGHTS,
        _LAYER,
        flat_array(),
        flat_array(),
        types.int64,
        flat_array(),
    )


@functools.cache
def backward() -> Callable[..., None]:
    """The function that computes the gradients of a layer.

    Its arguments are:

    - gradient: of the output [B, C out, x', y', z']
    - x, activated, weights: as in `forward`
    - opposite: weights of the opposite convolution: cells and taps reversed, channels exchanged
    - layer: a `Layer`
    - gradients: a `Gradients`
    - num_events
    - scratch: memory of `scratch_sizes`, zeros at first, used for this layer alone
    """
    inputs = (flat_array(), flat_array(), flat_array(), _WEIGHTS, _WEIGHTS)
    return cached_function(_backward, *inputs, _LAYER, _GRADIENTS, types.int64, flat_array())
