"""Operations that ONNX, or ONNX Runtime, does not have, as others that they have.

ONNX Runtime computes several functions in float32 only. In float64 the angle of a vector is that of
float32, and one step of Newton's method.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torch.nn import functional

Decomposition: TypeAlias = Callable[..., Any]


def with_known_operations(program: ExportedProgram) -> ExportedProgram:
    """The same program of operations that ONNX Runtime supports."""
    # also those of contexts, such as one without autocast, which are modules of their own
    parts = [each for each in program.graph_module.modules() if isinstance(each, GraphModule)]
    nodes = [node for part in parts for node in part.graph.nodes]
    for node in nodes:
        if node.target is torch.ops.aten.argsort.stable:  # TopK of ONNX is stable
            node.target = torch.ops.aten.argsort.default
            node.kwargs = {key: value for key, value in node.kwargs.items() if key != "stable"}
    table = _in_float64()
    in_float64 = (node for node in nodes if node.target in table)
    if any(node.args[0].meta["val"].dtype == torch.float64 for node in in_float64):
        for_float64 = {name: _of_float64(replacement) for name, replacement in table.items()}
        program = program.run_decompositions(for_float64)
    return program


def _in_float64() -> dict[Any, Decomposition]:
    """What to replace each operation by in float64."""
    aten = torch.ops.aten
    return {
        aten.acos.default: _acos,
        aten.atan.default: lambda x: _atan2(x, torch.ones_like(x)),
        aten.atan2.default: _atan2,
        aten.asinh.default: _asinh,
        aten.sinh.default: lambda x: (x.exp() - (-x).exp()) / 2,
        aten.cosh.default: lambda x: (x.exp() + (-x).exp()) / 2,
        aten.tan.default: lambda x: x.sin() / x.cos(),
        aten.erf.default: _erf,
        aten.special_erf.default: _erf,
        aten.gelu.default: _gelu,
        aten.conv2d.default: _convolution,
        aten.conv3d.default: _convolution,
    }


def _of_float64(replacement: Decomposition) -> Decomposition:
    """A replacement for arguments in float64; all others stay as they are."""

    def decompose(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        return replacement(x, *args, **kwargs) if x.dtype == torch.float64 else NotImplemented

    return decompose


def _atan2(y: Tensor, x: Tensor) -> Tensor:
    angle = torch.atan2(y.float(), x.float()).double()
    cosine, sine = angle.cos(), angle.sin()
    along, across = x * cosine + y * sine, y * cosine - x * sine
    return angle + torch.where(along > 0, across / along, 0)


def _acos(x: Tensor) -> Tensor:
    return _atan2(((1 - x) * (1 + x)).sqrt(), x)


def _asinh(x: Tensor) -> Tensor:
    size = x.abs()
    return x.sign() * (size + size.square() / (1 + (1 + size.square()).sqrt())).log1p()


def _erf(x: Tensor) -> Tensor:
    """In float32, exact to 1e-7."""
    return torch.erf(x.float()).double()


def _gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    return x * 0.5 * (1 + _erf(x * 0.5**0.5))


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    stride: Sequence[int] = (1, 1, 1),
    padding: Sequence[int] = (0, 0, 0),
    dilation: Sequence[int] = (1, 1, 1),
) -> Tensor:
    """[B, C in, …] -> [B, C out, …], as the sum of a matrix product for each cell of the kernel."""
    x = functional.pad(x, [width for width in reversed(padding) for _ in range(2)]).movedim(1, -1)
    y = bias
    cells = itertools.product(*map(range, weight.shape[2:]))
    for cell, kernel_cell in zip(cells, weight.flatten(2).unbind(2), strict=True):
        inputs = x
        for axis, first in enumerate(cell):
            kernel, step, wide = weight.shape[2 + axis], stride[axis], dilation[axis]
            length = x.shape[1 + axis] - (kernel - 1) * wide
            inputs = torch.ops.aten.slice(
                inputs, 1 + axis, first * wide, first * wide + length, step
            )
        y = y + inputs @ kernel_cell.T
    return y.movedim(-1, 1)


def translations() -> dict[Any, Callable[..., Any]]:
    """Operations that are not translated as the exporter does, for `torch.onnx.export`."""
    return {torch.ops.aten.index_add.default: _index_add}


def _index_add(self: Any, dim: int, index: Any, source: Any, alpha: float = 1) -> Any:
    """Sums by ScatterElements: the exporter takes ScatterND, which loses summands.

    Several threads of ONNX Runtime (as of 1.32) add to the same number at once.
    """
    import onnxscript

    op: Any = onnxscript.opset18
    assert dim == 0 and alpha == 1
    column = op.Reshape(index, [-1, *[1] * (len(source.shape) - 1)])
    return op.ScatterElements(
        self, op.Expand(column, op.Shape(source)), source, axis=0, reduction="add"
    )
