"""Inputs of the tokens of hits and events on CPUs, compiled by Numba.

The same numbers as those of :class:`dnn_reco.nn.tokens.HitInputs`.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from dnn_reco.nn.compiled import cached_function, flat_array, inlined, types
from dnn_reco.nn.kernel_arguments import Array, InputConstants, RawHits
from dnn_reco.nn.vector_kernels import WIDTH
from dnn_reco.nn.vectors import (
    fill,
    load,
    log,
    maximum,
    sine_and_cosine,
    store,
    total,
    where_negative,
)

_MIN_WEIGHT = np.float32(1e-3)  # of a hit without charge


@inlined
def _write_coordinates(
    hits: RawHits, event: int, constants: InputConstants, size: int, out: Array
) -> None:
    """Positions and times of the hits of an event, in m, and their weights [5, size].

    The weight is 0 up to the next multiple of WIDTH.
    """
    rotates = len(hits.rotation) > 0
    cosine, sine = np.float32(1), np.float32(0)
    if rotates:
        cosine, sine = np.cos(hits.rotation[event]), np.sin(hits.rotation[event])
    first = hits.first_hit[event]
    count = hits.first_hit[event + 1] - first
    for k in range(count):
        dom, place = 3 * hits.dom[first + k], (first + k) * constants.num_features
        x, y = constants.positions[dom], constants.positions[dom + 1]
        if rotates:
            dx, dy = x - constants.axis[0], y - constants.axis[1]
            x = constants.axis[0] + (dx * cosine - dy * sine)
            y = constants.axis[1] + (dx * sine + dy * cosine)
        time = np.float32(0)
        if constants.time >= 0:
            time = hits.features[place + constants.time]
        charge = np.float32(0)
        for feature in constants.charges:
            charge += hits.features[place + feature]
        if len(constants.charges) == 0:
            charge = np.float32(1)
        out[k], out[size + k], out[2 * size + k] = x, y, constants.positions[dom + 2]
        out[3 * size + k] = constants.speed * time
        out[4 * size + k] = max(charge, np.float32(0)) + _MIN_WEIGHT
    for k in range(count, (count + WIDTH - 1) // WIDTH * WIDTH):
        for row in range(5):
            out[row * size + k] = 0


@inlined
def _mean_product(x: Array, size: int, a: int, b: int, centre: Array, count: int, norm: Any) -> Any:
    """Weighted mean of the product of the deviations of coordinates a and b from the centre."""
    sums = fill(np.float32(0))
    for k in range(0, count, WIDTH):
        deviation = load(x, a * size + k) - centre[a]
        sums += load(x, 4 * size + k) * deviation * (load(x, b * size + k) - centre[b])
    return total(sums) / norm


@inlined
def _write_event(
    event: int, count: int, constants: InputConstants, coordinates: Array, size: int,
    centre: Array, out: Array,
) -> None:  # fmt: skip
    """Inputs of an event, and the charge-weighted mean coordinates of its hits."""
    sums = fill(np.float32(0))
    for k in range(0, count, WIDTH):
        sums += load(coordinates, 4 * size + k)
    weight = total(sums)
    norm = max(weight, np.float32(1e-3))
    p = 16 * event
    charge = max(weight - count * _MIN_WEIGHT, np.float32(0))
    out[p] = np.log1p(charge) * np.float32(0.25)
    out[p + 1] = np.log1p(np.float32(count)) * np.float32(0.25)
    for axis in range(4):
        sums = fill(np.float32(0))
        for k in range(0, count, WIDTH):
            sums += load(coordinates, 4 * size + k) * load(coordinates, axis * size + k)
        centre[axis] = total(sums) / norm
        out[p + 2 + axis] = centre[axis] * constants.per_length
    p += 6
    for row in range(4):
        for column in range(row, 4):
            value = _mean_product(coordinates, size, row, column, centre, count, norm)
            value *= constants.per_length * constants.per_length
            out[p] = value / np.sqrt(abs(value) + np.float32(1e-6))
            p += 1


@inlined
def _write_hit(
    hits: RawHits, hit: int, constants: InputConstants, coordinates: Array, size: int, place: int,
    centre: Array, buffer: Array, out: Array,
) -> None:  # fmt: skip
    """Inputs of a hit. What vectors write beyond them is overwritten by those that follow."""
    num_features, num_waves = constants.num_features, constants.num_waves
    p, q = hit * (num_features + 8 + 10 * num_waves), hit * num_features
    time = np.float32(0)
    if constants.time >= 0:
        time = hits.features[q + constants.time]
    for feature in range(num_features):
        buffer[feature] = hits.features[q + feature] - constants.is_time[feature] * time
    for k in range(0, num_features, WIDTH):
        values = load(buffer, k)
        logarithms = log(maximum(values, values * np.float32(-1)) + np.float32(1))
        logarithms = logarithms * np.float32(0.25)
        store(where_negative(values, logarithms * np.float32(-1), logarithms), out, p + k)
    p += num_features
    for axis in range(4):
        value = coordinates[axis * size + place]
        relative = value - centre[axis]
        if axis < 3:
            out[p + axis] = value * constants.per_length
        out[p + 3 + axis] = relative * constants.per_length
        _multiples(constants, relative, buffer, axis * num_waves)
    _multiples(constants, coordinates[2 * size + place], buffer, 4 * num_waves)
    out[p + 7] = constants.is_efficient[hits.dom[hit]]
    p += 8
    for k in range(0, 5 * num_waves, WIDTH):
        sine, cosine = sine_and_cosine(load(buffer, k))
        store(sine, out, p + k)
        store(cosine, buffer, k)
    for k in range(0, 5 * num_waves, WIDTH):
        store(load(buffer, k), out, p + 5 * num_waves + k)


@inlined
def _multiples(constants: InputConstants, factor: Any, out: Array, start: int) -> None:
    """All wave numbers times a factor."""
    for k in range(0, constants.num_waves, WIDTH):
        store(load(constants.waves, k) * fill(factor), out, start + k)


@inlined
def _inputs(hits: RawHits, constants: InputConstants, of_hits: Array, of_events: Array) -> None:
    num_events, most = len(hits.first_hit) - 1, 0
    for event in range(num_events):
        most = max(most, hits.first_hit[event + 1] - hits.first_hit[event])
    size = (most + WIDTH - 1) // WIDTH * WIDTH
    coordinates, centre = np.empty(5 * size, np.float32), np.empty(4, np.float32)
    buffer = np.zeros(max(constants.num_features, 5 * constants.num_waves) + 2 * WIDTH, np.float32)
    for event in range(num_events):
        first = hits.first_hit[event]
        count = hits.first_hit[event + 1] - first
        _write_coordinates(hits, event, constants, size, coordinates)
        _write_event(event, count, constants, coordinates, size, centre, of_events)
        for k in range(count):
            _write_hit(hits, first + k, constants, coordinates, size, k, centre, buffer, of_hits)


@functools.cache
def inputs() -> Callable[..., None]:
    """The function that computes the inputs of tokens.

    Its arguments are:

    - hits, constants: a `RawHits` and an `InputConstants`
    - of_hits: where to write the inputs of hits [k, F + 8 + 10 waves], and WIDTH values more
    - of_events: where to write the inputs of events [E, 16]
    """
    floats, indices = flat_array(), flat_array(types.int64)
    hits = types.NamedTuple([floats, indices, indices, floats], RawHits)
    constants = types.NamedTuple(
        [
            *[floats] * 5,
            indices,
            *[types.int64] * 3,
            *[types.float32] * 2,
        ],
        InputConstants,
    )
    return cached_function(_inputs, hits, constants, floats, floats)
