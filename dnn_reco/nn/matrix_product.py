"""Matrices in functions that Numba compiles for CPUs: products and copies."""

import itertools
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from dnn_reco.nn.compiled import flat_array, inlined, separate, types
from dnn_reco.nn.kernel_arguments import Matrix
from dnn_reco.nn.vector_kernels import (
    HAS_512_BITS,
    VECTOR,
    WIDTH,
    add_product,
    broadcast,
    intrinsic,
    load_vector,
    store_vector,
)
from dnn_reco.nn.vectors import fill, load, store

ROWS = 8 if HAS_512_BITS else 4
"""Rows of a product that are computed at a time."""
COLUMNS = 2 * WIDTH
"""Columns of a product that are computed at a time."""

_INTEGER = ir.IntType(64)
_MATRIX = types.NamedTuple([flat_array(), *[types.int64] * 3], Matrix)


@inlined
def rounded_up(number: int, of: int) -> int:
    """The next multiple of a number."""
    return (number + of - 1) // of * of


# not inlined, since all its sums have a fixed order
@separate
def multiply(
    a: Matrix, b: Matrix, out: Matrix, rows: int, columns: int, count: int, bias: int, add: bool
) -> None:
    """The product of a [rows, count] and b [count, columns], written or added to `out`.

    Parameters
    ----------
    a, b, out
        The matrices; columns of `b` and `out` are next to each other.
    rows, columns, count
        Their lengths; the number of columns is a multiple of COLUMNS.
    bias
        Where in the values of `b` a row begins that is added; negative: none.
    add
        Whether to add to `out`.
    """
    blocks = rows // ROWS * ROWS
    for column in range(0, columns, COLUMNS):
        for row in range(0, blocks, ROWS):
            _block_of_rows(a, b, out, row, column, count, bias, add)
        for row in range(blocks, rows):
            _single_row(a, b, out, row, column, count, bias, add)


def _block_product(num_rows: int) -> Any:
    """A function that computes so many rows, and COLUMNS columns, of :func:`multiply`."""

    @intrinsic
    def block_product(
        _typing: Any, a: Any, b: Any, out: Any, row: Any, column: Any, count: Any, bias: Any,
        add: Any,
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            first_row, first_column, length, of_bias, adds = arguments[3:]
            of_a, of_b, of_out = (_Operand(context, builder, each) for each in arguments[:3])
            offsets, rows = range(0, COLUMNS, WIDTH), range(num_rows)
            totals = [[cgutils.alloca_once(builder, VECTOR) for _ in offsets] for _ in rows]
            of_a.start = builder.add(of_a.start, builder.mul(first_row, of_a.row))
            of_b.start = builder.add(of_b.start, first_column)
            place = builder.add(of_out.start, builder.mul(first_row, of_out.row))
            of_out.start = builder.add(place, first_column)
            has_bias = builder.icmp_signed(">=", of_bias, _INTEGER(0))
            with builder.if_else(has_bias) as (with_bias, without):
                with with_bias:
                    start = builder.add(of_bias, first_column)
                    for k, c in enumerate(offsets):
                        value = load_vector(builder, of_b.data, start, c)
                        for r in rows:
                            builder.store(value, totals[r][k])
                with without:
                    for total in itertools.chain(*totals):
                        builder.store(ir.Constant(VECTOR, [0.0] * WIDTH), total)
            of_rows = [of_a.place(builder, r) for r in rows]
            with cgutils.for_range(builder, length) as loop:
                position = builder.add(of_b.start, builder.mul(loop.index, of_b.row))
                values = [load_vector(builder, of_b.data, position, c) for c in offsets]
                step = builder.mul(loop.index, of_a.column)
                for r in rows:
                    factor = broadcast(builder, of_a.data, builder.add(of_rows[r], step), 0)
                    for total, value in zip(totals[r], values, strict=True):
                        add_product(builder, total, value, factor)
            places = [of_out.place(builder, r) for r in rows]
            with builder.if_then(adds):
                for r in rows:
                    for total, c in zip(totals[r], offsets, strict=True):
                        value = load_vector(builder, of_out.data, places[r], c)
                        builder.store(builder.fadd(builder.load(total), value), total)
            for r in rows:
                for total, c in zip(totals[r], offsets, strict=True):
                    store_vector(builder, builder.load(total), of_out.data, places[r], c)
            return context.get_dummy_value()

        numbers = (row, column, count, bias)
        return types.void(_MATRIX, _MATRIX, _MATRIX, *map(types.unliteral, numbers), add), generate

    return block_product


class _Operand:
    """The parts of a matrix while code is generated."""

    def __init__(self, context: Any, builder: Any, matrix: Any) -> None:
        values, self.start, self.row, self.column = (
            builder.extract_value(matrix, i) for i in range(4)
        )
        self.data = context.make_array(flat_array())(context, builder, values).data

    def place(self, builder: Any, row: int) -> Any:
        """Where a row begins."""
        return builder.add(self.start, builder.mul(_INTEGER(row), self.row))


_block_of_rows, _single_row = _block_product(ROWS), _block_product(1)


@inlined
def copy_rows(x: Matrix, out: Matrix, rows: int, columns: int, factor: Any) -> None:
    """Copy rows times a factor; their number of columns is a multiple of WIDTH."""
    factors = fill(factor)
    for r in range(rows):
        p, q = x.start + r * x.row, out.start + r * out.row
        for c in range(0, columns, WIDTH):
            store(load(x.values, p + c) * factors, out.values, q + c)


@separate
def copy_elements(x: Matrix, out: Matrix, rows: int, columns: int) -> None:
    """Copy a matrix one by one: also to its transpose."""
    for r in range(rows):
        for c in range(columns):
            place = out.start + r * out.row + c * out.column
            out.values[place] = x.values[x.start + r * x.row + c * x.column]
