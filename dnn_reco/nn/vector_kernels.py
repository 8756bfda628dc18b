"""Innermost loops of convolutions on CPUs, as operations on vector registers.

Numba compiles them as part of the functions that call them. They are built from instructions of
LLVM, since a compiler does not find out by itself which sums to keep in registers: all those of a
block of 5 channels, over the whole sum of products.
"""

import itertools
from typing import Any

import numba
import numba.extending
from llvmlite import binding, ir
from numba.core import cgutils

types: Any = numba.types
intrinsic: Any = numba.extending.intrinsic
_FEATURES = binding.get_host_cpu_features()
HAS_512_BITS = bool(_FEATURES.get("avx512f"))
"""Whether vectors have 512 bits; otherwise 256."""

BLOCK = 5
"""Channels that are computed at a time."""
TAPS = 3
"""Taps of a kernel, along the last axis, that are computed at a time."""
WIDTH = 16 if HAS_512_BITS else 8
"""Numbers (float32) of a vector."""
TILE = WIDTH * (4 if HAS_512_BITS else 2)
"""Positions that are computed at a time: their sums fill two thirds of the registers."""

VECTOR = ir.VectorType(ir.FloatType(), WIDTH)
"""The type of a vector."""
_ZEROS = ir.Constant(VECTOR, [0.0] * WIDTH)


@intrinsic
def multiply_add(
    _typing: Any, x: Any, start: Any, weights: Any, first: Any, steps: Any, sums: Any
) -> Any:
    """Products of TILE positions with 3 weights at each step, summed over steps, for 5 channels.

    sums[o · TILE + z] = Σ weights[first + 15 s + 3 o + k] x[start + steps[s] + z + k] over steps s
    and taps k = 0, 1, 2, for channels o.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x_data, w_data, step_data, out = (
            array_data(context, builder, signature, arguments, i) for i in (0, 2, 4, 5)
        )
        shape = _array(context, builder, signature, arguments, 4).shape
        totals = [
            [cgutils.alloca_once(builder, VECTOR) for _ in range(0, TILE, WIDTH)]
            for _ in range(BLOCK)
        ]
        for total in itertools.chain(*totals):
            builder.store(_ZEROS, total)
        with cgutils.for_range(builder, builder.extract_value(shape, 0)) as loop:
            step = builder.load(builder.gep(step_data, [loop.index]))
            position = builder.add(arguments[1], step)
            weight = builder.add(arguments[3], builder.mul(loop.index, _integer(BLOCK * TAPS)))
            inputs = [
                [load_vector(builder, x_data, position, z + k) for z in range(0, TILE, WIDTH)]
                for k in range(TAPS)
            ]
            for channel in range(BLOCK):
                for k in range(TAPS):
                    w = broadcast(builder, w_data, weight, TAPS * channel + k)
                    for total, values in zip(totals[channel], inputs[k], strict=True):
                        add_product(builder, total, values, w)
        for i, total in enumerate(itertools.chain(*totals)):
            store_vector(builder, builder.load(total), out, _integer(0), i * WIDTH)
        return context.get_dummy_value()

    return types.void(x, start, weights, first, steps, sums), generate


@intrinsic
def add_products(
    _typing: Any, x: Any, start: Any, g: Any, g_start: Any, channel: Any, length: Any,
    sums: Any, first: Any,
) -> Any:  # fmt: skip
    """Add products of 3 shifts of x with 5 channels of g, at `length` positions.

    Each lane of a vector sums every WIDTH-th position: the sums over lanes of
    sums[first + (3 o + k) WIDTH + lane] grow by Σ x[start + z + k] g[g_start + o · channel + z].
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x_data, g_data, out = (
            array_data(context, builder, signature, arguments, i) for i in (0, 2, 6)
        )
        totals = [cgutils.alloca_once(builder, VECTOR) for _ in range(BLOCK * TAPS)]
        for i, total in enumerate(totals):
            builder.store(load_vector(builder, out, arguments[7], i * WIDTH), total)
        with cgutils.for_range(builder, builder.sdiv(arguments[5], _integer(WIDTH))) as loop:
            z = builder.mul(loop.index, _integer(WIDTH))
            position = builder.add(arguments[1], z)
            inputs = [load_vector(builder, x_data, position, k) for k in range(TAPS)]
            position = builder.add(arguments[3], z)
            for o in range(BLOCK):
                values = load_vector(builder, g_data, position, 0)
                position = builder.add(position, arguments[4])
                for k in range(TAPS):
                    add_product(builder, totals[TAPS * o + k], inputs[k], values)
        for i, total in enumerate(totals):
            store_vector(builder, builder.load(total), out, arguments[7], i * WIDTH)
        return context.get_dummy_value()

    return types.void(x, start, g, g_start, channel, length, sums, first), generate


@intrinsic
def float_of_bits(_typing: Any, bits: Any) -> Any:
    """The number (float32) with these bits (int32)."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), generate


def array_data(context: Any, builder: Any, signature: Any, arguments: Any, i: int) -> Any:
    """Where the values of an array begin, which is argument i."""
    return _array(context, builder, signature, arguments, i).data


def _array(context: Any, builder: Any, signature: Any, arguments: Any, i: int) -> Any:
    return context.make_array(signature.args[i])(context, builder, arguments[i])


def _integer(number: int) -> ir.Constant:
    return ir.Constant(ir.IntType(64), number)


def _pointer(builder: Any, data: Any, position: Any, offset: int) -> Any:
    element = builder.gep(data, [builder.add(position, _integer(offset))])
    return builder.bitcast(element, VECTOR.as_pointer())


def load_vector(builder: Any, data: Any, position: Any, offset: int) -> Any:
    """The vector at an index of the data of an array, plus an offset."""
    return builder.load(_pointer(builder, data, position, offset), align=4)


def store_vector(builder: Any, vector: Any, data: Any, position: Any, offset: int) -> None:
    """Write a vector to an index of the data of an array, plus an offset."""
    builder.store(vector, _pointer(builder, data, position, offset), align=4)


def broadcast(builder: Any, data: Any, position: Any, offset: int) -> Any:
    """A vector of one number, which is in an array."""
    number = builder.load(builder.gep(data, [builder.add(position, _integer(offset))]))
    return filled(builder, number)


def filled(builder: Any, number: Any) -> Any:
    """A vector of one number, which is in a register."""
    undefined = ir.Constant(ir.VectorType(number.type, WIDTH), ir.Undefined)
    single = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(single, undefined, lanes)


def add_product(builder: Any, total: Any, a: Any, b: Any) -> None:
    """Add a · b to the vector at `total`, as a fused operation where the CPU has one."""
    product = builder.fmul(a, b, flags=("contract",))
    builder.store(builder.fadd(product, builder.load(total), flags=("contract",)), total)
