"""Stacks of convolutional layers of few channels on CPUs, in one pass over each event.

The computation of a layer is in :mod:`dnn_reco.nn.cpu_kernels`. A batch is divided into pieces of
some events, each of which runs through all layers on one thread. Gradients of weights are summed in
the order of the pieces, so that results do not depend on the number of threads.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from dnn_reco.nn.threads import run_pieces

if TYPE_CHECKING:
    from dnn_reco.nn.cpu_kernels import Layer, Weights

MAX_FUSED_CHANNELS = 12
"""With more output channels, convolutions of oneDNN are faster."""

_NUM_PIECES = 8
_MIN_PRODUCTS = 20_000_000  # fewer are not worth a second thread

Array = NDArray[np.float32]


@functools.cache
def numba_available() -> bool:
    """Whether Numba is installed, without importing it."""
    return importlib.util.find_spec("numba") is not None


def accepts(x: Tensor) -> bool:
    """Whether fused layers can compute this input."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and numba_available()
    )


@dataclass(frozen=True)
class LayerWeights:
    """Weights of a layer.

    Attributes
    ----------
    kernel
        [cells, taps, channels in, channels out].
    bias
        [channels out].
    scale
        Factor of the convolution next to the residual [channels out]; None: no residual.
    """

    kernel: Tensor
    bias: Tensor
    scale: Tensor | None


class FusedLayer:
    """A convolution that keeps the shape, with activation, residual and pooling.

    Parameters
    ----------
    shape
        Lengths of two or three spatial axes.
    cells
        Position of each cell of the kernel along all axes but the last, relative to the centre.
    taps
        Length of the kernel along the last axis, an odd number.
    elu, residual
        Whether to apply an ELU, and to add the input to the output times a scale.
    window
        Windows of the average pooling, which tile the axes.
    """

    def __init__(
        self,
        shape: Sequence[int],
        cells: Sequence[Sequence[int]],
        taps: int,
        elu: bool,
        residual: bool,
        window: Sequence[int],
    ) -> None:
        missing = 3 - len(shape)
        self._shape = (1,) * missing + tuple(shape)
        self._cells = [(0,) * missing + tuple(cell) for cell in cells]
        self._window = (1,) * missing + tuple(window)
        self._taps, self._elu, self.residual = taps, elu, residual

    @property
    def pools(self) -> bool:
        """Whether the output is pooled."""
        return max(self._window) > 1

    @functools.cache  # noqa: B019 (layers live as long as their network)
    def geometry(
        self, num_inputs: int, num_outputs: int, strides: tuple[int, ...] | None = None
    ) -> Layer:
        """What it computes from an input [B, C, x, y, z] of these strides; None: without gaps."""
        from dnn_reco.nn.cpu_kernels import Layer
        from dnn_reco.nn.vector_kernels import TILE

        nx, ny, nz = self._shape
        reach_x, reach_y = (max(abs(cell[axis]) for cell in self._cells) for axis in (0, 1))
        # a multiple of the window: windows are then at the same positions in all rows
        row = _multiple(nz + self._taps // 2, self._window[2])
        length = _multiple(ny * row, TILE)
        plane = max(length, _multiple((ny + reach_y) * row, TILE))
        origin = reach_x * plane + reach_y * row + self._taps // 2
        lengths = zip(self._shape, self._window, strict=True)
        if strides is None:
            strides = (num_inputs * nx * ny * nz, nx * ny * nz, ny * nz, nz, 1)
        return Layer(
            num_inputs,
            num_outputs,
            self._shape,
            tuple(math.ceil(length / window) for length, window in lengths),
            strides,
            self._window,
            self._elu,
            self.residual,
            origin,
            row,
            plane,
            origin + nx * plane + origin,
            length,
        )

    @functools.cache  # noqa: B019
    def steps(self, num_channels: int, sign: int = 1) -> NDArray[np.int64]:
        """Distances of `cpu_kernels.Weights`; sign -1: those of the opposite convolution."""
        from dnn_reco.nn.vector_kernels import TAPS

        layer = self.geometry(0, 0)
        cells = [sign * (a * layer.plane + b * layer.row) for a, b in self._cells]
        channels = layer.channel * np.arange(num_channels)
        taps = np.arange(0, self._taps, TAPS) - self._taps // 2
        return np.add.outer(np.add.outer(cells, channels), taps).ravel()


def apply_fused(x: Tensor, layers: Sequence[tuple[FusedLayer, LayerWeights]]) -> Tensor:
    """Compute a stack of layers, each with its weights.

    Parameters
    ----------
    x
        Input [B, x, y(, z), channels in].
    layers
        The layers.

    Returns
    -------
    Tensor
        [B, channels out, x, y(, z)].
    """
    two_axes = x.dim() == 4
    x = x.movedim(-1, 1)
    if two_axes:
        x = x.unsqueeze(2)
    tensors = [tensor for _, each in layers for tensor in (each.kernel, each.bias, each.scale)]
    keep = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in (x, *tensors)
    )
    stack = [layer for layer, _ in layers]
    y: Tensor = _Stack.apply(x, stack, keep, *tensors)  # type: ignore[no-untyped-call]
    return y.squeeze(2) if two_axes else y


class _Stack(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, layers: Sequence[FusedLayer], keep: bool, *tensors: Tensor | None
    ) -> Tensor:
        values: Any = tensors
        weights = [LayerWeights(*values[i : i + 3]) for i in range(0, len(values), 3)]
        stack = _Stacked(x, layers, weights)
        y = torch.empty(stack.output_shape)
        kept = stack.compute(_flat(x), _flat(y), keep)
        if keep:
            ctx.save_for_backward(x, *tensors)
            ctx.stack, ctx.layers, ctx.kept = stack, layers, kept
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, *tensors = ctx.saved_tensors
        x_gradient = torch.empty(x.shape if ctx.needs_input_grad[0] else (0,))
        gradients = ctx.stack.gradients(
            _flat(gradient.contiguous()), _flat(x), ctx.kept, _flat(x_gradient)
        )
        needed = zip(gradients, tensors, strict=True)
        return (
            x_gradient if ctx.needs_input_grad[0] else None,
            None,
            None,
            *(None if tensor is None else torch.from_numpy(each) for each, tensor in needed),
        )


@dataclass(frozen=True)
class _Kept:
    """What the gradient needs of each layer: its output and its activated values, flat."""

    outputs: list[Array]
    activated: list[Array]


class _Stacked:
    """A stack of layers for inputs of one shape, with weights as the compiled functions read them.

    Parameters
    ----------
    x
        Input [B, C, x, y, z].
    layers, weights
        The layers and their weights.
    """

    def __init__(
        self, x: Tensor, layers: Sequence[FusedLayer], weights: Sequence[LayerWeights]
    ) -> None:
        strides: list[Any] = [x.stride(), *[None] * (len(layers) - 1)]
        self._layers = [
            layer.geometry(*each.kernel.shape[2:], stride)
            for layer, each, stride in zip(layers, weights, strides, strict=True)
        ]
        self._kernels = [each.kernel.detach().numpy() for each in weights]
        self._weights = [
            _packed(layer.steps(kernel.shape[2]), kernel, each.bias, each.scale)
            for layer, kernel, each in zip(layers, self._kernels, weights, strict=True)
        ]
        self._opposite_steps = [
            layer.steps(kernel.shape[3], sign=-1)
            for layer, kernel in zip(layers, self._kernels, strict=True)
        ]
        self._num_events = len(x)
        products = sum(
            math.prod(layer.shape) * kernel.size
            for layer, kernel in zip(self._layers, self._kernels, strict=True)
        )
        size = len(x)
        if products * size > _MIN_PRODUCTS:
            size = math.ceil(size / _NUM_PIECES)
        self._pieces = [slice(i, min(i + size, len(x))) for i in range(0, len(x), size)]

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        last = self._layers[-1]
        return self._num_events, last.num_outputs, *last.pooled_shape

    def compute(self, x: Array, y: Array, keep: bool) -> _Kept:
        """Compute the output, flat."""
        from dnn_reco.nn.cpu_kernels import forward

        run, nothing = forward(), np.empty(0, np.float32)
        num_kept = self._num_events if keep else 0
        kept = _Kept(
            [np.empty(num_kept * _output_size(layer), np.float32) for layer in self._layers[:-1]],
            [np.empty(num_kept * _activated_size(layer), np.float32) for layer in self._layers],
        )

        def compute(number: int) -> None:
            events = self._pieces[number]
            num_events = events.stop - events.start
            values = x[events.start * self._layers[0].strides[0] :]
            for k, layer in enumerate(self._layers):
                size = _output_size(layer)
                if k == len(self._layers) - 1:
                    out = _part(y, events, size)
                elif keep:
                    out = _part(kept.outputs[k], events, size)
                else:
                    out = np.empty(num_events * size, np.float32)
                activated = nothing
                if keep:
                    activated = _part(kept.activated[k], events, _activated_size(layer))
                run(values, self._weights[k], layer, activated, out, num_events)
                values = out

        run_pieces(compute, len(self._pieces))
        return kept

    def gradients(self, gradient: Array, x: Array, kept: _Kept, x_gradient: Array) -> list[Array]:
        """Gradients of kernel, bias and scale of each layer, from that of the output.

        That of the input is written to `x_gradient`, if it is not empty.
        """
        from dnn_reco.nn.cpu_kernels import Gradients, backward
        from dnn_reco.nn.vector_kernels import WIDTH

        run, num_pieces = backward(), len(self._pieces)
        of_kernels = [
            np.zeros((num_pieces, each.kernel.size * WIDTH), np.float32) for each in self._weights
        ]
        others = [
            np.zeros((2, num_pieces, layer.num_outputs), np.float32) for layer in self._layers
        ]
        opposite = [
            _packed(steps, kernel[:, ::-1].swapaxes(2, 3))
            for steps, kernel in zip(self._opposite_steps, self._kernels, strict=True)
        ]

        def compute(number: int) -> None:
            events, layer = self._pieces[number], self._layers[-1]
            num_events = events.stop - events.start
            of_output = _part(gradient, events, _output_size(layer))
            for k in reversed(range(len(self._layers))):
                layer = self._layers[k]
                size = layer.num_inputs * math.prod(layer.shape)
                if k > 0:
                    values = _part(kept.outputs[k - 1], events, size)
                    of_input = np.empty(num_events * size, np.float32)
                else:
                    values = x[events.start * layer.strides[0] :]
                    of_input = _part(x_gradient, events, size)
                of_weights = (of_kernels[k][number], *others[k][:, number])
                run(
                    of_output,
                    values,
                    _part(kept.activated[k], events, _activated_size(layer)),
                    self._weights[k],
                    opposite[k],
                    layer,
                    Gradients(of_input, *of_weights),
                    num_events,
                )
                of_output = of_input

        run_pieces(compute, num_pieces)
        return [
            each
            for sums, of_others, kernel in zip(of_kernels, others, self._kernels, strict=True)
            for each in (_unpacked(sums, kernel.shape), *of_others.sum(axis=1))
        ]


def _part(values: Array, events: slice, size: int) -> Array:
    """The values of some events, of so many each."""
    return values[events.start * size : events.stop * size]


def _output_size(layer: Layer) -> int:
    """Number of output values of an event."""
    return layer.num_outputs * math.prod(layer.pooled_shape)


def _activated_size(layer: Layer) -> int:
    """Number of activated values of an event, with their padding."""
    return layer.num_outputs * layer.shape[0] * layer.length


def _flat(x: Tensor) -> Array:
    """The memory of a tensor, from its first to its last value."""
    steps = zip(x.shape, x.stride(), strict=True)
    extent = 1 + sum((length - 1) * stride for length, stride in steps) if x.numel() else 0
    values: Array = x.detach().as_strided((extent,), (1,)).numpy()
    return values


def _packed(
    steps: NDArray[np.int64], kernel: Array, bias: Tensor | None = None, scale: Tensor | None = None
) -> Weights:
    """Weights of a layer as the compiled functions read them, zeros for those not given."""
    from dnn_reco.nn.cpu_kernels import Weights
    from dnn_reco.nn.vector_kernels import BLOCK, TAPS

    cells, taps, num_inputs, num_outputs = kernel.shape
    blocks, groups = math.ceil(num_outputs / BLOCK), math.ceil(taps / TAPS)
    filled = np.zeros((cells, groups * TAPS, num_inputs, blocks * BLOCK), np.float32)
    filled[:, :taps, :, :num_outputs] = kernel
    filled = filled.reshape(cells, groups, TAPS, num_inputs, blocks, BLOCK)
    zeros = np.zeros(num_outputs, np.float32)
    others = (zeros if each is None else each.detach().numpy() for each in (bias, scale))
    return Weights(filled.transpose(4, 0, 3, 1, 5, 2).ravel(), steps, *others)


def _unpacked(sums: Array, shape: Sequence[int]) -> Array:
    """Gradient of a kernel from the sums of each piece, block, step, channel, tap and lane."""
    from dnn_reco.nn.vector_kernels import BLOCK, TAPS, WIDTH

    cells, taps, num_inputs, num_outputs = shape
    blocks, groups = math.ceil(num_outputs / BLOCK), math.ceil(taps / TAPS)
    filled = sums.sum(axis=0).reshape(-1, WIDTH).sum(axis=1)
    filled = filled.reshape(blocks, cells, num_inputs, groups, BLOCK, TAPS)
    filled = filled.transpose(1, 3, 5, 2, 0, 4).reshape(cells, -1, num_inputs, blocks * BLOCK)
    return np.ascontiguousarray(filled[:, :taps, :, :num_outputs])


def _multiple(number: int, of: int) -> int:
    """The next multiple of a number."""
    return math.ceil(number / of) * of
