"""Computation of fused layers one after another, in pieces of a batch.

Each piece runs through all layers on one thread, a few events at a time, whose values stay in the
cache. Gradients of weights are summed in the order of the pieces, so that results do not depend on
the number of threads.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnn_reco.nn.kernel_arguments import Array, Gradients, Layer, Part, PlacedHits, Weights
from dnn_reco.nn.threads import run_pieces

_NUM_PIECES = 8
_MIN_PRODUCTS = 20_000_000  # fewer are not worth a second thread
_SIZE_IN_CACHE = 250_000  # input values of the events that run through the layers at a time


class TensorInput:
    """Input of a stack of layers from a tensor [B, C, x, y, z]."""

    def __init__(self, x: Tensor) -> None:
        self.num_events, self.shape = len(x), tuple(x.shape[1:])
        self.strides = x.stride()
        self._values = _flat(x)

    def of_events(self, events: slice) -> Array:
        """The input of some events, flat, with these strides."""
        return self._values[events.start * self.strides[0] :]


class HitInput:
    """Input of a stack of layers from hits: only that of a few events exists at a time.

    Parameters
    ----------
    hits, part
        The hits, and the part of the detector that the layers read.
    """

    strides = None

    def __init__(self, hits: PlacedHits, part: Part) -> None:
        self.num_events = len(hits.first_hit) - 1
        self.shape: tuple[int, ...] = (len(part.first_cell), *part.shape)
        self._hits, self._part = hits, part

    def of_events(self, events: slice) -> Array:
        """The input of some events [n, C, x, y, z], flat."""
        from dnn_reco.nn.cpu_kernels import place

        x = np.empty((events.stop - events.start) * len(self._part.background), np.float32)
        place()(self._hits, self._part, events.start, events.stop, x)
        return x


StackInput: TypeAlias = TensorInput | HitInput


def stack_input(x: Tensor | HitInput) -> StackInput:
    """The input of a stack from a tensor [B, C, x, y, z] or hits."""
    return x if isinstance(x, HitInput) else TensorInput(x)


class MakeGeometry(Protocol):
    """Geometry of a layer from its channels, and the strides of its input (None: no gaps)."""

    def __call__(
        self, num_inputs: int, num_outputs: int, strides: tuple[int, ...] | None = None
    ) -> Layer:
        """The geometry."""


class StackedLayers:
    """Layers one after another, for one input.

    Parameters
    ----------
    x
        The input.
    geometries, weights
        Geometry and weights of each layer.

    Attributes
    ----------
    pieces
        Events of each piece, a few at a time.
    """

    def __init__(
        self, x: StackInput, geometries: Sequence[MakeGeometry], weights: Sequence[Weights]
    ) -> None:
        self.input, self.weights = x, weights
        self.layers: list[Layer] = []
        num_inputs, products = x.shape[0], 0
        strides: tuple[int, ...] | None = x.strides
        for geometry, each in zip(geometries, weights, strict=True):
            layer = geometry(num_inputs, len(each.bias), strides)
            self.layers.append(layer)
            num_inputs, strides = layer.num_outputs, None
            products += math.prod(layer.shape) * each.kernel.size
        count = x.num_events
        size = max(1, count)
        if products * count > _MIN_PRODUCTS:
            size = math.ceil(count / _NUM_PIECES)
        self.pieces = [
            _slices(first, min(first + size, count), self._num_in_cache)
            for first in range(0, count, size)
        ]

    @property
    def _num_in_cache(self) -> int:
        return max(1, _SIZE_IN_CACHE // math.prod(self.input.shape))

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        last = self.layers[-1]
        return self.input.num_events, last.num_outputs, *last.pooled_shape


def _slices(first: int, end: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, end)) for start in range(first, end, size)]


@dataclass(frozen=True)
class Kept:
    """What the gradient needs of each layer: its output and its activated values, flat."""

    outputs: list[Array]
    activated: list[Array]


@dataclass(frozen=True)
class KernelSums:
    """Sums over a batch, from which the gradients of the weights of a layer follow."""

    kernel: Array
    bias: Array
    scale: Array


def run_all(computations: Sequence[tuple[Callable[[int], None], int]]) -> None:
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


def compute_outputs(stacks: Sequence[StackedLayers], keep: bool) -> tuple[list[Tensor], list[Kept]]:
    """Outputs of stacks [B, C, x, y, z], and what their gradients need."""
    outputs = [torch.empty(stack.output_shape) for stack in stacks]
    kept, computations = [], []
    for stack, y in zip(stacks, outputs, strict=True):
        num_kept = stack.input.num_events if keep else 0
        kept.append(
            Kept(
                [np.empty(num_kept * _output_size(each), np.float32) for each in stack.layers[:-1]],
                [np.empty(num_kept * _activated_size(each), np.float32) for each in stack.layers],
            )
        )
        compute = functools.partial(_compute_piece, stack, _flat(y), kept[-1], keep)
        computations.append((compute, len(stack.pieces)))
    run_all(computations)
    return outputs, kept


def _compute_piece(stack: StackedLayers, y: Array, kept: Kept, keep: bool, piece: int) -> None:
    for events in stack.pieces[piece]:
        _compute_events(stack, y, kept, keep, events)


def _compute_events(stack: StackedLayers, y: Array, kept: Kept, keep: bool, events: slice) -> None:
    """Compute the outputs of some events."""
    from dnn_reco.nn.cpu_kernels import forward

    run, nothing = forward(), np.empty(0, np.float32)
    num_events = events.stop - events.start
    values = stack.input.of_events(events)
    for k, layer in enumerate(stack.layers):
        size = _output_size(layer)
        if k == len(stack.layers) - 1:
            out = _part(y, events, size)
        elif keep:
            out = _part(kept.outputs[k], events, size)
        else:
            out = np.empty(num_events * size, np.float32)
        activated = _part(kept.activated[k], events, _activated_size(layer)) if keep else nothing
        run(values, stack.weights[k], layer, activated, out, num_events, _scratch(layer))
        values = out


class StackGradients:
    """Gradients of a stack from that of its output.

    Parameters
    ----------
    stack, kept
        The stack, and what was kept of its outputs.
    of_output
        Gradient of the output.
    of_input
        Where to write the gradient of the input; None: it is not needed.
    opposite
        Weights of the opposite convolution of each layer.
    """

    def __init__(
        self,
        stack: StackedLayers,
        kept: Kept,
        of_output: Tensor,
        of_input: Tensor | None,
        opposite: Sequence[Weights],
    ) -> None:
        from dnn_reco.nn.vector_kernels import WIDTH

        self._stack, self._kept = stack, kept
        self._opposite = opposite
        self._of_output = _flat(of_output)
        self._of_input = np.empty(0, np.float32) if of_input is None else _flat(of_input)
        self.num_pieces = len(stack.pieces)
        self._of_kernels = [
            np.zeros((self.num_pieces, each.kernel.size * WIDTH), np.float32)
            for each in stack.weights
        ]
        self._of_others = [
            np.zeros((2, self.num_pieces, layer.num_outputs), np.float32) for layer in stack.layers
        ]

    def compute(self, piece: int) -> None:
        """Compute the gradients from the events of a piece."""
        for events in self._stack.pieces[piece]:
            self._add_events(piece, events)

    def _add_events(self, piece: int, events: slice) -> None:
        from dnn_reco.nn.cpu_kernels import backward

        run, layers = backward(), self._stack.layers
        num_events = events.stop - events.start
        of_output = _part(self._of_output, events, _output_size(layers[-1]))
        for k in reversed(range(len(layers))):
            layer = layers[k]
            size = layer.num_inputs * math.prod(layer.shape)
            if k > 0:
                x = _part(self._kept.outputs[k - 1], events, size)
                of_input = np.empty(num_events * size, np.float32)
            else:
                x = self._stack.input.of_events(events)
                of_input = _part(self._of_input, events, size)
            run(
                *(of_output, x, _part(self._kept.activated[k], events, _activated_size(layer))),
                *(self._stack.weights[k], self._opposite[k], layer),
                Gradients(of_input, self._of_kernels[k][piece], *self._of_others[k][:, piece]),
                *(num_events, _scratch(layer)),
            )
            of_output = of_input

    def sums(self) -> list[KernelSums]:
        """What makes up the gradients of the weights of each layer."""
        return [
            KernelSums(of_kernel.sum(axis=0), *of_others.sum(axis=1))
            for of_kernel, of_others in zip(self._of_kernels, self._of_others, strict=True)
        ]


_memory = threading.local()
_MAX_SCRATCH = 128


def _scratch(layer: Layer) -> Array:
    """Memory of this thread for a layer."""
    from dnn_reco.nn.cpu_kernels import scratch_sizes

    memory: Any = _memory.__dict__
    if layer not in memory:
        if len(memory) == _MAX_SCRATCH:  # of networks that may be gone
            memory.clear()
        memory[layer] = np.zeros(sum(scratch_sizes(layer)), np.float32)
    array: Array = memory[layer]
    return array


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


def pack_weights(
    steps: NDArray[np.int64], kernel: Array, bias: Array | None = None, scale: Array | None = None
) -> Weights:
    """Weights of a layer as the compiled functions read them, zeros for those not given."""
    from dnn_reco.nn.vector_kernels import BLOCK, TAPS

    cells, taps, num_inputs, num_outputs = kernel.shape
    blocks, groups = math.ceil(num_outputs / BLOCK), math.ceil(taps / TAPS)
    filled = np.zeros((cells, groups * TAPS, num_inputs, blocks * BLOCK), np.float32)
    filled[:, :taps, :, :num_outputs] = kernel
    filled = filled.reshape(cells, groups, TAPS, num_inputs, blocks, BLOCK)
    zeros = np.zeros(num_outputs, np.float32)
    others = (zeros if each is None else each for each in (bias, scale))
    return Weights(filled.transpose(4, 0, 3, 1, 5, 2).ravel(), steps, *others)


def unpack_gradient(sums: Array, shape: Sequence[int]) -> Array:
    """Gradient of a kernel of a shape from the sums of each block, step, channel, tap and lane."""
    from dnn_reco.nn.vector_kernels import BLOCK, TAPS, WIDTH

    cells, taps, num_inputs, num_outputs = shape
    blocks, groups = math.ceil(num_outputs / BLOCK), math.ceil(taps / TAPS)
    filled = sums.reshape(-1, WIDTH).sum(axis=1)
    filled = filled.reshape(blocks, cells, num_inputs, groups, BLOCK, TAPS)
    filled = filled.transpose(1, 3, 5, 2, 0, 4).reshape(cells, -1, num_inputs, blocks * BLOCK)
    gradient: Array = filled[:, :taps, :, :num_outputs]
    return gradient
