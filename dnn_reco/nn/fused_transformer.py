"""A transformer over hits on CPUs, without padding and in pieces of a batch.

The computation is in :mod:`dnn_reco.nn.token_kernels`. Events are divided into groups, which stay
in the cache from the inputs to the summary tokens, and groups into pieces, each of which runs on
one thread. Gradients of weights are summed in the order of the pieces, so that results do not
depend on the number of threads.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.nn.attention import Trunk
from dnn_reco.nn.conv_layers import has_hooks
from dnn_reco.nn.fused_layers import accepts
from dnn_reco.nn.kernel_arguments import (
    Array,
    InputConstants,
    RawHits,
    Tokens,
    TransformerShape,
)
from dnn_reco.nn.threads import run_pieces
from dnn_reco.nn.tokens import NUM_EVENT_INPUTS, HitInputs
from dnn_reco.nn.weight_cache import WeightCache

_NUM_PIECES = 8
_ROWS_OF_GROUP = 256  # tokens of a group of events
_ROWS_OF_PIECE = 512  # fewer are not worth a second thread


@dataclass(frozen=True)
class _Dense:
    """A dense layer, after a layer normalisation or not."""

    linear: nn.Linear
    norm: nn.LayerNorm | None = None

    def weights(self) -> tuple[Tensor, Tensor]:
        """Kernel [inputs, outputs] and bias, with those of the normalisation multiplied in."""
        weight: Tensor = self.linear.weight
        bias: Tensor = self.linear.bias
        if self.norm is not None:
            bias = torch.addmv(bias, weight, self.norm.bias)
            weight = weight * self.norm.weight
        return weight.t(), bias


class FusedTransformer:
    """The modules of a transformer, computed together.

    Parameters
    ----------
    inputs
        Computes the inputs of hits and events.
    hit_tokens, event_tokens
        Two dense layers each, which make tokens from the inputs of hits and events.
    trunk
        The transformer layers.
    """

    def __init__(
        self, inputs: HitInputs, hit_tokens: nn.Module, event_tokens: nn.Module, trunk: Trunk
    ) -> None:
        layers = [*trunk.layers, trunk.last]
        self._inputs = inputs
        of_tokens = [inputs, hit_tokens, event_tokens, *layers]
        self._modules = [each for module in of_tokens for each in module.modules()]
        self._dense = [_Dense(each) for mlp in (hit_tokens, event_tokens) for each in _linear(mlp)]
        for layer in layers:
            self._dense += [
                _Dense(layer.qkv, layer.norm_attention),
                _Dense(layer.out),
                _Dense(layer.mlp_in, layer.norm_mlp),
                _Dense(layer.mlp_out),
            ]
        self._weighted = [module for module in self._modules if module._parameters]
        first = layers[0]
        self.shape = TransformerShape(
            first.qkv.in_features,
            first.num_heads,
            first.mlp_in.out_features,
            len(layers),
            _dense_table([each.linear for each in self._dense]),
        )
        self._constants: InputConstants | None = None
        self._packed: WeightCache[Array] = WeightCache()

    @property
    def fits_vectors(self) -> bool:
        """Whether matrix products of its dimensions consist of whole blocks."""
        from dnn_reco.nn.matrix_product import COLUMNS

        width, num_heads = self.shape.width, self.shape.num_heads
        return not any(size % COLUMNS for size in (width, width // num_heads, self.shape.hidden))

    def accepts(self, hits: HitBatch) -> bool:
        """Whether these hits can be computed: float32 on a CPU, in the order of events."""
        return (
            accepts(hits.features)
            and accepts(self._dense[0].linear.weight)
            and not hits.features.requires_grad
            and self.fits_vectors
            and not any(map(has_hooks, self._modules))
            and hits.is_in_order
            and self._inputs.accepts(hits)
        )

    def __call__(self, hits: HitBatch, rotation: Tensor | None) -> Tensor:
        """The summary token of each event after all layers [B, width], before the last norm.

        Parameters
        ----------
        hits
            The hits.
        rotation
            See `HitInputs`.
        """
        if self._constants is None:
            self._constants = self._inputs.constants()
        pieces = _pieces(hits, rotation, self._constants)
        if not torch.is_grad_enabled():
            return _summaries(pieces, self.shape, self._weights_without_gradient())
        arguments = (pieces, self.shape, self._weights())
        summaries: Tensor = _Transformer.apply(*arguments)  # type: ignore[no-untyped-call]
        return summaries

    def forget_weights(self) -> None:
        """Forget packed weights: steps of fused optimizers change the originals without notice."""
        self._packed.forget()

    def _weights(self) -> Tensor:
        """All kernels and biases in one tensor."""
        return torch.cat([part.reshape(-1) for each in self._dense for part in each.weights()])

    def _weights_without_gradient(self) -> Array:
        """The same as an array; in inference mode it is kept until weights are loaded."""
        of_modules = (module._parameters.values() for module in self._weighted)
        parameters = [each for values in of_modules for each in values if each is not None]
        return self._packed.get(parameters, lambda: self._weights().detach().numpy())


def _linear(mlp: nn.Module) -> list[nn.Linear]:
    return [each for each in mlp.modules() if isinstance(each, nn.Linear)]


def _dense_table(layers: Sequence[nn.Linear]) -> NDArray[np.int64]:
    """`TransformerShape.dense`: kernels and biases follow each other."""
    table, start = [], 0
    for layer in layers:
        size = layer.in_features * layer.out_features
        table += [start, start + size, layer.in_features, layer.out_features]
        start += size + layer.out_features
    return np.array(table)


@dataclass(frozen=True)
class _Group:
    """Some events that are computed together.

    Attributes
    ----------
    events
        Which events of the batch.
    hits, constants
        Their hits, and what the inputs of tokens are computed with.
    """

    events: slice
    hits: RawHits
    constants: InputConstants

    def tokens(self) -> Tokens:
        """Inputs of the tokens."""
        from dnn_reco.nn.input_kernels import inputs
        from dnn_reco.nn.vector_kernels import WIDTH

        num_inputs = self.constants.num_features + 8 + 10 * self.constants.num_waves
        first_hit = self.hits.first_hit
        of_hits = np.empty(int(first_hit[-1]) * num_inputs + WIDTH, np.float32)
        of_events = np.empty((len(first_hit) - 1) * NUM_EVENT_INPUTS, np.float32)
        inputs()(self.hits, self.constants, of_hits, of_events)
        return Tokens(of_hits, of_events, first_hit)


@dataclass(frozen=True)
class _Kept:
    """What the gradient needs of a group."""

    tokens: Tokens
    values: Array


def _pieces(
    hits: HitBatch, rotation: Tensor | None, constants: InputConstants
) -> list[list[_Group]]:
    """The events of a batch in pieces for single threads, each in groups for the cache."""
    features, dom = hits.features.contiguous().numpy(), hits.dom.numpy()
    angles = np.empty(0, np.float32) if rotation is None else rotation.numpy()
    first_hit = hits.first_hits()
    end = first_hit + np.arange(len(first_hit))  # rows of all events before
    num_pieces = min(_NUM_PIECES, max(1, int(end[-1]) // _ROWS_OF_PIECE))

    def group(first: int, last: int) -> _Group:
        start, stop = first_hit[first], first_hit[last]
        raw = RawHits(
            features[start:stop].reshape(-1),
            dom[start:stop],
            first_hit[first : last + 1] - start,
            angles[first:last],
        )
        return _Group(slice(first, last), raw, constants)

    def divided(first: int, last: int, rows: float) -> list[tuple[int, int]]:
        """Events first … last - 1 in parts of about so many rows."""
        if end[last] - end[first] <= rows:
            return [(first, last)]
        marks = np.arange(end[first] + rows, end[last], rows)
        ends = np.unique([first, *np.searchsorted(end, marks, side="right") - 1, last])
        return list(itertools.pairwise(ends.tolist()))

    pieces = divided(0, len(first_hit) - 1, max(1.0, end[-1] / num_pieces))
    return [[group(*part) for part in divided(*piece, _ROWS_OF_GROUP)] for piece in pieces]


def _summaries(
    pieces: Sequence[Sequence[_Group]],
    shape: TransformerShape,
    weights: Array,
    kept: dict[int, _Kept] | None = None,
) -> Tensor:
    """Summary tokens [B, width]; `kept` takes what the gradient needs, by the first event."""
    from dnn_reco.nn.token_kernels import forward, num_kept

    run, num_layers = forward(), 1 if kept is None else shape.num_layers
    num_events = pieces[-1][-1].events.stop if pieces else 0
    out = torch.empty(num_events, shape.width)
    flat = out.numpy().reshape(-1)

    def compute(piece: int) -> None:
        for group in pieces[piece]:
            events, tokens = group.events, group.tokens()
            num_hits = int(tokens.first_hit[-1])
            size = num_kept(shape, num_hits, events.stop - events.start, num_layers)
            values = np.empty(size, np.float32)
            if kept is not None:
                kept[events.start] = _Kept(tokens, values)
            part = flat[events.start * shape.width : events.stop * shape.width]
            run(tokens, weights, shape, kept is not None, values, part)

    run_pieces(compute, len(pieces))
    return out


class _Transformer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, pieces: Sequence[Sequence[_Group]], shape: TransformerShape, weights: Tensor
    ) -> Tensor:
        ctx.pieces, ctx.shape, ctx.kept = pieces, shape, {}
        ctx.save_for_backward(weights)
        return _summaries(pieces, shape, weights.detach().numpy(), ctx.kept)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        from dnn_reco.nn.token_kernels import backward

        run = backward()
        pieces, shape = ctx.pieces, ctx.shape
        of_output = gradient.contiguous().numpy().reshape(-1)
        opposite = _opposite(ctx.saved_tensors[0].numpy(), shape)
        sums = np.zeros((len(pieces), len(opposite)), np.float32)

        def compute(piece: int) -> None:
            for group in pieces[piece]:
                events = group.events
                part = of_output[events.start * shape.width : events.stop * shape.width]
                kept = ctx.kept[events.start]
                run(part, kept.tokens, opposite, shape, kept.values, sums[piece])

        run_pieces(compute, len(pieces))
        return None, None, torch.from_numpy(sums.sum(axis=0))


def _opposite(weights: Array, shape: TransformerShape) -> Array:
    """Weights with all kernels transposed."""
    opposite = np.empty_like(weights)
    for kernel, bias, inputs, outputs in shape.dense.reshape(-1, 4):
        part = weights[kernel:bias].reshape(inputs, outputs)
        opposite[kernel:bias].reshape(outputs, inputs)[...] = part.T
    return opposite
