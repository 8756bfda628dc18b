"""Stacks of convolutional layers of few channels on CPUs, in one pass over each event.

The computation of a layer is in :mod:`dnn_reco.nn.cpu_kernels`. A batch is divided into pieces of
some events, each of which runs through all layers on one thread. Gradients of weights are summed in
the order of the pieces, so that results do not depend on the number of threads.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

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


Stack: TypeAlias = Sequence[tuple[FusedLayer, LayerWeights]]
"""Layers one after another, with the weights of each."""


def apply_fused(inputs: Sequence[Tensor], stacks: Sequence[Stack]) -> list[Tensor]:
    """Compute stacks of layers, which do not depend on each other, for the same events.

    Parameters
    ----------
    inputs
        Input of each stack [B, x, y(, z), channels in].
    stacks
        The stacks.

    Returns
    -------
    list of Tensor
        Output of each stack [B, channels out, x, y(, z)].
    """
    tensors = [
        tensor
        for stack in stacks
        for _, weights in stack
        for tensor in (weights.kernel, weights.bias, weights.scale)
    ]
    layers = [[layer for layer, _ in stack] for stack in stacks]
    channels_first = [_with_three_axes(x) for x in inputs]
    outputs: Any = _Stacks.apply(layers, *channels_first, *tensors)  # type: ignore[no-untyped-call]
    return [_with_axes_of(x, y) for x, y in zip(inputs, outputs, strict=True)]


def predict_fused(
    inputs: Sequence[Tensor], stacks: Sequence[Sequence[tuple[FusedLayer, Weights]]]
) -> list[Tensor]:
    """The same without gradients, from packed weights."""
    channels_first = [_with_three_axes(x) for x in inputs]
    stacked = [
        _Stacked(x, [layer for layer, _ in stack], [weights for _, weights in stack])
        for x, stack in zip(channels_first, stacks, strict=True)
    ]
    outputs, _ = _compute(stacked, channels_first, keep=False)
    return [_with_axes_of(x, y) for x, y in zip(inputs, outputs, strict=True)]


def pack(layer: FusedLayer, weights: LayerWeights) -> Weights:
    """Weights of a layer as its compiled function reads them."""
    kernel = weights.kernel.detach().numpy()
    return _packed(layer.steps(kernel.shape[2]), kernel, weights.bias, weights.scale)


def _with_three_axes(x: Tensor) -> Tensor:
    """[B, x, y(, z), C] as [B, C, x, y, z]."""
    x = x.movedim(-1, 1)
    return x.unsqueeze(2) if x.dim() == 4 else x


def _with_axes_of(x: Tensor, y: Tensor) -> Tensor:
    return y.squeeze(2) if x.dim() == 4 else y


class _Stacks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, layers: Sequence[Sequence[FusedLayer]], *tensors: Tensor | None
    ) -> tuple[Tensor, ...]:
        values: Any = tensors
        inputs, values = values[: len(layers)], iter(values[len(layers) :])
        weights = [
            [LayerWeights(next(values), next(values), next(values)) for _ in stack]
            for stack in layers
        ]
        stacked = [
            _Stacked(x, stack, [pack(*each) for each in zip(stack, of_stack, strict=True)])
            for x, stack, of_stack in zip(inputs, layers, weights, strict=True)
        ]
        outputs, kept = _compute(stacked, inputs, keep=True)
        ctx.save_for_backward(*tensors)
        ctx.layers, ctx.stacked, ctx.kept = layers, stacked, kept
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[Tensor | None, ...]:
        num_stacks = len(ctx.layers)
        inputs, weights = ctx.saved_tensors[:num_stacks], ctx.saved_tensors[num_stacks:]
        of_inputs = [
            torch.empty(x.shape) if needed else None
            for x, needed in zip(inputs, ctx.needs_input_grad[1:], strict=False)
        ]
        gradients, shapes, first = [], [], 0
        for k, (layers, stacked) in enumerate(zip(ctx.layers, ctx.stacked, strict=True)):
            kernels = [weights[first + 3 * i].detach().numpy() for i in range(len(layers))]
            opposite = [
                _packed(layer.steps(kernel.shape[3], sign=-1), kernel[:, ::-1].swapaxes(2, 3))
                for layer, kernel in zip(layers, kernels, strict=True)
            ]
            gradients.append(
                _StackGradients(
                    *(stacked, ctx.kept[k], inputs[k], output_gradients[k].contiguous()),
                    *(of_inputs[k], opposite),
                )
            )
            shapes.append([kernel.shape for kernel in kernels])
            first += 3 * len(layers)
        _run([(each.compute, len(each.stacked.pieces)) for each in gradients])
        of_weights = [
            array
            for each, of_stack in zip(gradients, shapes, strict=True)
            for array in each.of_weights(of_stack)
        ]
        return (
            None,
            *of_inputs,
            *(
                None if tensor is None else torch.from_numpy(gradient)
                for tensor, gradient in zip(weights, of_weights, strict=True)
            ),
        )


class _Stacked:
    """Layers one after another, for inputs of one shape.

    Parameters
    ----------
    x
        Input [B, C, x, y, z].
    layers, weights
        The layers and their weights.
    """

    def __init__(self, x: Tensor, layers: Sequence[FusedLayer], weights: Sequence[Weights]) -> None:
        self.weights = weights
        self.layers: list[Layer] = []
        num_inputs, products = x.shape[1], 0
        strides: tuple[int, ...] | None = x.stride()
        for layer, each in zip(layers, weights, strict=True):
            geometry = layer.geometry(num_inputs, len(each.bias), strides)
            self.layers.append(geometry)
            num_inputs, strides = geometry.num_outputs, None
            products += math.prod(geometry.shape) * each.kernel.size
        self.num_events = size = len(x)
        if products * size > _MIN_PRODUCTS:
            size = math.ceil(size / _NUM_PIECES)
        self.pieces = [slice(i, min(i + size, len(x))) for i in range(0, len(x), size)]

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        last = self.layers[-1]
        return self.num_events, last.num_outputs, *last.pooled_shape


@dataclass(frozen=True)
class _Kept:
    """What the gradient needs of each layer: its output and its activated values, flat."""

    outputs: list[Array]
    activated: list[Array]


def _run(computations: Sequence[tuple[Callable[[int], None], int]]) -> None:
    """Call each function for all of its pieces, in several threads."""
    pieces = [(compute, number) for compute, count in computations for number in range(count)]

    def run(number: int) -> None:
        compute, piece = pieces[number]
        compute(piece)

    if any(count > 1 for _, count in computations):
        run_pieces(run, len(pieces))
    else:  # too little for several threads
        for number in range(len(pieces)):
            run(number)


def _compute(
    stacks: Sequence[_Stacked], inputs: Sequence[Tensor], keep: bool
) -> tuple[list[Tensor], list[_Kept]]:
    """Outputs of stacks, and what their gradients need."""
    outputs = [torch.empty(stack.output_shape) for stack in stacks]
    kept, computations = [], []
    for stack, x, y in zip(stacks, inputs, outputs, strict=True):
        num_kept = stack.num_events if keep else 0
        kept.append(
            _Kept(
                [np.empty(num_kept * _output_size(each), np.float32) for each in stack.layers[:-1]],
                [np.empty(num_kept * _activated_size(each), np.float32) for each in stack.layers],
            )
        )
        compute = functools.partial(_compute_piece, stack, _flat(x), _flat(y), kept[-1], keep)
        computations.append((compute, len(stack.pieces)))
    _run(computations)
    return outputs, kept


def _compute_piece(
    stack: _Stacked, x: Array, y: Array, kept: _Kept, keep: bool, piece: int
) -> None:
    """Compute the outputs of the events of a piece."""
    from dnn_reco.nn.cpu_kernels import forward

    run, nothing = forward(), np.empty(0, np.float32)
    events = stack.pieces[piece]
    num_events = events.stop - events.start
    values = x[events.start * stack.layers[0].strides[0] :]
    for k, layer in enumerate(stack.layers):
        size = _output_size(layer)
        if k == len(stack.layers) - 1:
            out = _part(y, events, size)
        elif keep:
            out = _part(kept.outputs[k], events, size)
        else:
            out = np.empty(num_events * size, np.float32)
        activated = _part(kept.activated[k], events, _activated_size(layer)) if keep else nothing
        run(values, stack.weights[k], layer, activated, out, num_events)
        values = out


class _StackGradients:
    """Gradients of a stack from that of its output.

    Parameters
    ----------
    stacked, kept
        The stack, and what was kept of its outputs.
    x, of_output
        Input, and gradient of the output.
    of_input
        Where to write the gradient of the input; None: nobody needs it.
    opposite
        Weights of the opposite convolution of each layer.
    """

    def __init__(
        self,
        stacked: _Stacked,
        kept: _Kept,
        x: Tensor,
        of_output: Tensor,
        of_input: Tensor | None,
        opposite: Sequence[Weights],
    ) -> None:
        from dnn_reco.nn.vector_kernels import WIDTH

        self.stacked = stacked
        self._kept, self._opposite = kept, opposite
        self._x, self._of_output = _flat(x), _flat(of_output)
        self._of_input = np.empty(0, np.float32) if of_input is None else _flat(of_input)
        num_pieces = len(stacked.pieces)
        self._of_kernels = [
            np.zeros((num_pieces, each.kernel.size * WIDTH), np.float32) for each in stacked.weights
        ]
        self._of_others = [
            np.zeros((2, num_pieces, layer.num_outputs), np.float32) for layer in stacked.layers
        ]

    def compute(self, piece: int) -> None:
        """Compute the gradients from the events of a piece."""
        from dnn_reco.nn.cpu_kernels import Gradients, backward

        run, layers, events = backward(), self.stacked.layers, self.stacked.pieces[piece]
        num_events = events.stop - events.start
        of_output = _part(self._of_output, events, _output_size(layers[-1]))
        for k in reversed(range(len(layers))):
            layer = layers[k]
            size = layer.num_inputs * math.prod(layer.shape)
            if k > 0:
                x = _part(self._kept.outputs[k - 1], events, size)
                of_input = np.empty(num_events * size, np.float32)
            else:
                x = self._x[events.start * layer.strides[0] :]
                of_input = _part(self._of_input, events, size)
            run(
                *(of_output, x, _part(self._kept.activated[k], events, _activated_size(layer))),
                *(self.stacked.weights[k], self._opposite[k], layer),
                Gradients(of_input, self._of_kernels[k][piece], *self._of_others[k][:, piece]),
                num_events,
            )
            of_output = of_input

    def of_weights(self, shapes: Sequence[Sequence[int]]) -> list[Array]:
        """Gradients of kernel, bias and scale of each layer, with kernels of these shapes."""
        layers = zip(self._of_kernels, self._of_others, shapes, strict=True)
        return [
            gradient
            for of_kernel, of_others, shape in layers
            for gradient in (_unpacked(of_kernel, shape), *of_others.sum(axis=1))
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
