"""Matrix products on CPUs, for the functions that Numba compiles."""

from dnn_reco.nn.compiled import separate
from dnn_reco.nn.kernel_arguments import Array
from dnn_reco.nn.vector_kernels import COLUMNS, ROWS, block_of_rows, single_row


@separate
def multiply(
    a: Array, a_start: int, a_row: int, a_step: int, b: Array, b_start: int, b_step: int,
    rows: int, columns: int, count: int, bias: int, out: Array, out_start: int, out_row: int,
    add: bool,
) -> None:  # fmt: skip
    """A matrix product [rows, columns], written or added to `out`.

    out[out_start + r · out_row + c] = b[bias + c] + Σ a[a_start + r · a_row + k · a_step] b[b_start
    + k · b_step + c], summed over k = 0 … count - 1; without a bias if that is negative. The number
    of columns is a multiple of COLUMNS.
    """
    blocks = rows // ROWS * ROWS
    for c in range(0, columns, COLUMNS):
        of_columns = bias if bias < 0 else bias + c
        for r in range(0, blocks, ROWS):
            block_of_rows(
                a, a_start + r * a_row, a_row, a_step, b, b_start + c, b_step, count, of_columns,
                out, out_start + r * out_row + c, out_row, add,
            )  # fmt: skip
        for r in range(blocks, rows):
            single_row(
                a, a_start + r * a_row, a_row, a_step, b, b_start + c, b_step, count, of_columns,
                out, out_start + r * out_row + c, out_row, add,
            )  # fmt: skip
