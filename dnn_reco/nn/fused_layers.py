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
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from dnn_reco.errors import ModelError
from dnn_reco.nn.fused_stack import (
    HitInput,
    KernelSums,
    StackedLayers,
    StackGradients,
    StackInput,
    compute_outputs,
    pack_weights,
    run_all,
    stack_input,
    unpack_gradient,
)
from dnn_reco.nn.kernel_arguments import Layer, Weights

MAX_FUSED_CHANNELS = 12
"""With more output channels, convolutions of oneDNN are faster."""


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
    factors
        Constants that kernel and bias are multiplied by.
    """

    kernel: Tensor
    bias: Tensor
    scale: Tensor | None
    factors: tuple[float, float] = (1.0, 1.0)


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
        self._squeezed = missing > 0
        self._shape = (1,) * missing + tuple(shape)
        self._cells = [(0,) * missing + tuple(cell) for cell in cells]
        self._window = (1,) * missing + tuple(window)
        self._taps, self._elu, self.residual = taps, elu, residual

    def check_input(self, x: StackInput, num_steps: int) -> None:
        """Check an input [B, C, x, y, z] for weights of so many steps: compiled functions do not.

        Raises
        ------
        ModelError
            If it has other lengths or another number of channels.
        """
        from dnn_reco.nn.vector_kernels import TAPS

        num_channels = num_steps // (len(self._cells) * math.ceil(self._taps / TAPS))
        expected = (num_channels, *self._shape)
        if x.shape != expected:
            raise ModelError(
                f"a convolution needs an input [channels, x, y, z] of {list(expected)}, this one "
                f"has {list(x.shape)}"
            )

    def with_its_axes(self, y: Tensor) -> Tensor:
        """An output [B, C, x, y, z] with as many axes as the input."""
        return y.squeeze(2) if self._squeezed else y

    @property
    def pools(self) -> bool:
        """Whether the output is pooled."""
        return max(self._window) > 1

    @functools.cache  # noqa: B019 (layers live as long as their network)
    def geometry(
        self, num_inputs: int, num_outputs: int, strides: tuple[int, ...] | None = None
    ) -> Layer:
        """What it computes from an input [B, C, x, y, z] of these strides; None: without gaps."""
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
        """Distances of `kernel_arguments.Weights`; sign -1: those of the opposite convolution."""
        from dnn_reco.nn.vector_kernels import TAPS

        layer = self.geometry(0, 0)
        cells = [sign * (a * layer.plane + b * layer.row) for a, b in self._cells]
        channels = layer.channel * np.arange(num_channels)
        taps = np.arange(0, self._taps, TAPS) - self._taps // 2
        return np.add.outer(np.add.outer(cells, channels), taps).ravel()


Stack: TypeAlias = Sequence[tuple[FusedLayer, LayerWeights]]
"""Layers one after another, with the weights of each."""


def apply_fused(inputs: Sequence[Tensor | HitInput], stacks: Sequence[Stack]) -> list[Tensor]:
    """Compute stacks of layers, which do not depend on each other, for the same events.

    Parameters
    ----------
    inputs
        Input of each stack: a tensor [B, x, y(, z), channels in], or hits.
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
    factors = [[weights.factors for _, weights in stack] for stack in stacks]
    arguments = (layers, factors, *channels_first, *tensors)
    outputs: Any = _Stacks.apply(*arguments)  # type: ignore[no-untyped-call]
    return [stack[0].with_its_axes(y) for stack, y in zip(layers, outputs, strict=True)]


def predict_fused(
    inputs: Sequence[Tensor | HitInput], stacks: Sequence[Sequence[tuple[FusedLayer, Weights]]]
) -> list[Tensor]:
    """The same without gradients, from packed weights."""
    stacked = [
        _stacked(x, [layer for layer, _ in stack], [weights for _, weights in stack])
        for x, stack in zip(map(_with_three_axes, inputs), stacks, strict=True)
    ]
    outputs, _ = compute_outputs(stacked, keep=False)
    return [stack[0][0].with_its_axes(y) for stack, y in zip(stacks, outputs, strict=True)]


def pack(layer: FusedLayer, weights: LayerWeights) -> Weights:
    """Weights of a layer as its compiled function reads them."""
    of_kernel, of_bias = map(np.float32, weights.factors)
    kernel = weights.kernel.detach().numpy() * of_kernel
    bias = weights.bias.detach().numpy() * of_bias
    scale = None if weights.scale is None else weights.scale.detach().numpy()
    return pack_weights(layer.steps(kernel.shape[2]), kernel, bias, scale)


def _stacked(
    x: Tensor | HitInput, layers: Sequence[FusedLayer], weights: Sequence[Weights]
) -> StackedLayers:
    """Layers one after another for an input [B, C, x, y, z], which is checked."""
    values = stack_input(x)
    layers[0].check_input(values, len(weights[0].steps))
    return StackedLayers(values, [layer.geometry for layer in layers], weights)


def _with_three_axes(x: Tensor | HitInput) -> Tensor | HitInput:
    """[B, x, y(, z), C] as [B, C, x, y, z]."""
    if isinstance(x, HitInput):
        return x
    x = x.movedim(-1, 1)
    return x.unsqueeze(2) if x.dim() == 4 else x


class _Stacks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        layers: Sequence[Sequence[FusedLayer]],
        factors: Sequence[Sequence[tuple[float, float]]],
        *arguments: Any,
    ) -> Any:
        inputs, tensors = arguments[: len(layers)], iter(arguments[len(layers) :])
        ctx.weights = [
            [LayerWeights(next(tensors), next(tensors), next(tensors), each) for each in of_stack]
            for of_stack in factors
        ]
        ctx.stacked = [
            _stacked(x, stack, [pack(*each) for each in zip(stack, weights, strict=True)])
            for x, stack, weights in zip(inputs, layers, ctx.weights, strict=True)
        ]
        outputs, ctx.kept = compute_outputs(ctx.stacked, keep=True)
        # checked for changes in place until the gradient is computed
        ctx.save_for_backward(*(x if isinstance(x, Tensor) else None for x in arguments))
        ctx.layers = layers
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors[: len(ctx.layers)]
        of_inputs = [
            torch.empty(x.shape) if needed else None
            for x, needed in zip(saved, ctx.needs_input_grad[2:], strict=False)
        ]
        gradients = []
        for k, (layers, weights) in enumerate(zip(ctx.layers, ctx.weights, strict=True)):
            opposite = [_opposite(*each) for each in zip(layers, weights, strict=True)]
            outputs = output_gradients[k].contiguous(), of_inputs[k]
            gradients.append(StackGradients(ctx.stacked[k], ctx.kept[k], *outputs, opposite))
        run_all([(each.compute, each.num_pieces) for each in gradients])
        of_weights = [
            gradient
            for each, weights in zip(gradients, ctx.weights, strict=True)
            for sums, layer_weights in zip(each.sums(), weights, strict=True)
            for gradient in _gradients(sums, layer_weights)
        ]
        return None, None, *of_inputs, *of_weights


def _opposite(layer: FusedLayer, weights: LayerWeights) -> Weights:
    """Weights of the convolution that gives the gradient of the input."""
    kernel = weights.kernel.detach().numpy() * np.float32(weights.factors[0])
    steps = layer.steps(kernel.shape[3], sign=-1)
    return pack_weights(steps, kernel[:, ::-1].swapaxes(2, 3))


def _gradients(sums: KernelSums, weights: LayerWeights) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of kernel, bias and scale."""
    of_kernel, of_bias = weights.factors
    kernel = unpack_gradient(sums.kernel, weights.kernel.shape)
    return (
        torch.from_numpy(kernel * np.float32(of_kernel)),
        torch.from_numpy(sums.bias * np.float32(of_bias)),
        None if weights.scale is None else torch.from_numpy(sums.scale),
    )


def _multiple(number: int, of: int) -> int:
    """The next multiple of a number."""
    return math.ceil(number / of) * of
