"""Vectors of WIDTH numbers (float32) in functions that Numba compiles: a register of the CPU each.

They have the operations + - * / of numbers. Their order is as written, so that results do not
depend on what a compiler makes of a loop.
"""

import operator
from typing import Any

import numba
import numba.extending
import numpy as np
from llvmlite import ir

from dnn_reco.nn.vector_kernels import (
    VECTOR,
    WIDTH,
    array_data,
    filled,
    load_vector,
    store_vector,
)

types: Any = numba.types
intrinsic: Any = numba.extending.intrinsic
overload: Any = numba.extending.overload
models: Any = numba.extending.models
_inlined: Any = numba.njit(nogil=True, error_model="numpy", forceinline=True)

_INTEGERS = ir.VectorType(ir.IntType(32), WIDTH)
_LANE = ir.IntType(32)
# Added to a number it rounds that to a whole one, which is then in the last bits.
_SHIFT = np.float32(1.5 * 2**23)
_ROOT_HALF_BITS = int(np.float32(0.5**0.5).view(np.int32))


class _VectorType(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="vector")


_vector = _VectorType()


@numba.extending.register_model(_VectorType)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, VECTOR)


@intrinsic
def load(_typing: Any, values: Any, position: Any) -> Any:
    """The vector of values[position], …, values[position + WIDTH - 1]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = array_data(context, builder, signature, arguments, 0)
        return load_vector(builder, data, arguments[1], 0)

    return _vector(values, types.int64), generate


@intrinsic
def store(_typing: Any, vector: Any, values: Any, position: Any) -> Any:
    """Write a vector to values[position], …, values[position + WIDTH - 1]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = array_data(context, builder, signature, arguments, 1)
        store_vector(builder, arguments[0], data, arguments[2], 0)
        return context.get_dummy_value()

    return types.void(vector, values, types.int64), generate


@intrinsic
def fill(_typing: Any, number: Any) -> Any:
    """A vector of one number."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return filled(builder, arguments[0])

    return _vector(types.float32), generate


@intrinsic
def total(_typing: Any, vector: Any) -> Any:
    """The sum of the numbers of a vector: of its two halves, their halves, and so on."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _folded(builder, arguments[0], builder.fadd)

    return types.float32(vector), generate


@intrinsic
def largest(_typing: Any, vector: Any) -> Any:
    """The largest number of a vector."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _folded(builder, arguments[0], lambda a, b: _maximum(builder, a, b))

    return types.float32(vector), generate


@intrinsic
def maximum(_typing: Any, a: Any, b: Any) -> Any:
    """The larger of each two numbers; NaN of `a` stays."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _maximum(builder, *arguments)

    return _vector(a, b), generate


@intrinsic
def where_negative(_typing: Any, x: Any, a: Any, b: Any) -> Any:
    """Numbers of a where x < 0, otherwise those of b."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        zeros = ir.Constant(VECTOR, [0.0] * WIDTH)
        negative = builder.fcmp_ordered("<", arguments[0], zeros)
        return builder.select(negative, arguments[1], arguments[2])

    return _vector(x, a, b), generate


@intrinsic
def first_ones(_typing: Any, x: Any, count: Any, others: Any) -> Any:
    """The first numbers of x, and `others` in place of those from index `count` on."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        lanes = ir.Constant(ir.VectorType(ir.IntType(64), WIDTH), list(range(WIDTH)))
        is_first = builder.icmp_signed("<", lanes, filled(builder, arguments[1]))
        return builder.select(is_first, arguments[0], arguments[2])

    return _vector(x, types.int64, others), generate


@intrinsic
def _times_power_of_2(_typing: Any, x: Any, shifted: Any) -> Any:
    """X · 2ⁿ for a whole number n, which is the last bits of `shifted` = n + _SHIFT."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        bits, exponent = (builder.bitcast(each, _INTEGERS) for each in arguments)
        exponent = builder.shl(exponent, ir.Constant(_INTEGERS, [23] * WIDTH))
        return builder.bitcast(builder.add(bits, exponent), VECTOR)

    return _vector(x, shifted), generate


def _define(python_operator: Any, instruction: str) -> None:
    """Define an operation of two vectors, or of a vector and a number."""

    @intrinsic
    def operation(_typing: Any, a: Any, b: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            # products are added without rounding where the CPU can
            return getattr(builder, instruction)(*arguments, flags=("contract",))

        return _vector(a, b), generate

    @overload(python_operator, strict=False)
    def choose(a: Any, b: Any) -> Any:
        if isinstance(a, _VectorType) and isinstance(b, _VectorType):
            return lambda a, b: operation(a, b)
        if isinstance(a, _VectorType):
            return lambda a, b: operation(a, fill(np.float32(b)))
        if isinstance(b, _VectorType):
            return lambda a, b: operation(fill(np.float32(a)), b)
        return None


for _operator, _instruction in (
    (operator.add, "fadd"),
    (operator.iadd, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define(_operator, _instruction)


@_inlined
def exp(x: Any) -> Any:
    """exp(x) of a vector of numbers ≤ 0, at least exp(-86): 2ⁿ eʳ with |r| ≤ ln(2) / 2.

    The coefficients are those of the polynomial with the smallest error of eʳ, 1.1e-7 of it.
    """
    x = maximum(x, fill(np.float32(-86)))
    shifted = x * np.float32(1 / np.log(2)) + _SHIFT
    n = shifted - _SHIFT
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    p = r * np.float32(0.0082968797) + np.float32(0.0419404453)
    p = p * r + np.float32(0.1666774519)
    p = p * r + np.float32(0.4999862417)
    p = p * r + np.float32(0.9999995648)
    p = p * r + np.float32(1.0000001053)
    return _times_power_of_2(p, shifted)


@intrinsic
def _split(_typing: Any, x: Any) -> Any:
    """Whole numbers n and m from 1/√2 to √2 with x = m 2ⁿ; x is positive."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        def integers(value: int) -> Any:
            return ir.Constant(_INTEGERS, [value] * WIDTH)

        bits = builder.bitcast(arguments[0], _INTEGERS)
        n = builder.ashr(builder.sub(bits, integers(_ROOT_HALF_BITS)), integers(23))
        m = builder.bitcast(builder.sub(bits, builder.shl(n, integers(23))), VECTOR)
        parts = builder.sitofp(n, VECTOR), m
        return context.make_tuple(builder, types.UniTuple(_vector, 2), parts)

    return types.UniTuple(_vector, 2)(x), generate


@intrinsic
def _where_finite(_typing: Any, x: Any, result: Any) -> Any:
    """Numbers of `result` where x is finite or -∞, otherwise those of x."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        infinity = ir.Constant(VECTOR, [float("inf")] * WIDTH)
        is_below = builder.fcmp_ordered("<", arguments[0], infinity)
        return builder.select(is_below, arguments[1], arguments[0])

    return _vector(x, result), generate


@_inlined
def log(x: Any) -> Any:
    """The natural logarithm of a vector of positive numbers: n ln(2) + 2 artanh(s).

    x = m 2ⁿ, s = (m - 1) / (m + 1), and the Taylor series of artanh; NaN and infinity stay.
    """
    n, m = _split(x)
    s = (m - np.float32(1)) / (m + np.float32(1))
    square = s * s
    p = square * np.float32(2 / 9) + np.float32(2 / 7)
    p = p * square + np.float32(2 / 5)
    p = p * square + np.float32(2 / 3)
    p = p * square + np.float32(2)
    return _where_finite(x, n * np.float32(np.log(2)) + p * s)


@_inlined
def sine_and_cosine(x: Any) -> Any:
    """sin(x) and cos(x) of a vector of numbers, |x| below about 10⁴.

    x = n π/2 + r with |r| ≤ π/4, the Taylor series of r, and a swap by n.
    """
    shifted = x * np.float32(2 / np.pi) + _SHIFT
    n = shifted - _SHIFT
    # π/2 in three parts, the first of which has few bits: their products with n are exact
    r = x - n * np.float32(1.5703125) - n * np.float32(4.837512969970703125e-4)
    r = r - n * np.float32(7.549789948768648e-8)
    square = r * r
    p = square * np.float32(-1 / 39916800) + np.float32(1 / 362880)
    p = p * square - np.float32(1 / 5040)
    p = p * square + np.float32(1 / 120)
    p = p * square - np.float32(1 / 6)
    sine = p * square * r + r
    p = square * np.float32(-1 / 3628800) + np.float32(1 / 40320)
    p = p * square - np.float32(1 / 720)
    p = p * square + np.float32(1 / 24)
    p = p * square - np.float32(1 / 2)
    cosine = p * square + np.float32(1)
    return _turned(sine, cosine, shifted, 0), _turned(cosine, sine, shifted, 1)


@intrinsic
def _turned(_typing: Any, even: Any, odd: Any, shifted: Any, first: Any) -> Any:
    """A sine or cosine of r + n π/2: that of r for even n, the other for odd n, with its sign.

    n is in the last bits of `shifted` = n + _SHIFT; `first` is 0 for a sine, 1 for a cosine.
    """

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        def integers(value: int) -> Any:
            return ir.Constant(_INTEGERS, [value] * WIDTH)

        n = builder.bitcast(arguments[2], _INTEGERS)
        is_odd = builder.icmp_signed("!=", builder.and_(n, integers(1)), integers(0))
        value = builder.bitcast(builder.select(is_odd, arguments[1], arguments[0]), _INTEGERS)
        quadrant = builder.add(n, filled(builder, builder.trunc(arguments[3], _LANE)))
        sign = builder.shl(builder.and_(quadrant, integers(2)), integers(30))
        return builder.bitcast(builder.xor(value, sign), VECTOR)

    return _vector(even, odd, shifted, types.int64), generate


def _maximum(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", a, b), b, a)


def _folded(builder: Any, vector: Any, combine: Any) -> Any:
    """All numbers of a vector combined, halves first."""
    size = WIDTH
    while size > 1:
        size //= 2
        undefined = ir.Constant(vector.type, ir.Undefined)
        low, high = (
            builder.shuffle_vector(
                vector,
                undefined,
                ir.Constant(ir.VectorType(_LANE, size), list(range(start, start + size))),
            )
            for start in (0, size)
        )
        vector = combine(low, high)
    return builder.extract_element(vector, _LANE(0))
