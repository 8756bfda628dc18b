"""Convolutional layers, as the `conv_*_settings` blocks of a config describe them.

Order within a layer: convolution with bias (:mod:`dnn_reco.nn.kernels`), batch normalisation,
activation, residual addition, pooling, dropout. Inputs and outputs are [B, x, y(, z), channels].
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from dnn_reco.errors import ModelError
from dnn_reco.nn.activations import make_activation
from dnn_reco.nn.batch_norm import BatchNorm
from dnn_reco.nn.fused_layers import (
    MAX_FUSED_CHANNELS,
    FusedLayer,
    LayerWeights,
    accepts,
    apply_fused,
    pack,
    predict_fused,
)
from dnn_reco.nn.fused_stack import HitInput
from dnn_reco.nn.kernel_arguments import Weights
from dnn_reco.nn.kernels import LayerInput, check_not_empty, make_convolution
from dnn_reco.nn.pooling import Pooling
from dnn_reco.nn.settings import ConvSettings
from dnn_reco.nn.sharded_batch import dropout
from dnn_reco.nn.weight_cache import WeightCache
from dnn_reco.nn.weights import residual_scales, with_channels


class ConvLayer(nn.Module):
    """One convolutional layer.

    Parameters
    ----------
    settings
        Settings of the layer.
    layer_input
        Shape of its input, and how it is initialised.
    keep_prob
        Probability that dropout keeps a value, in training.

    Attributes
    ----------
    output_shape
        Lengths of the spatial axes of the output.

    Raises
    ------
    ModelError
        If the output would be empty, or the input cannot be added to it.
    """

    output_shape: tuple[int, ...]

    def __init__(self, settings: ConvSettings, layer_input: LayerInput, keep_prob: float) -> None:
        super().__init__()
        self.settings = settings
        self.drop_prob = 1 - keep_prob if settings.use_dropout else 0.0
        self.convolution = make_convolution(settings, layer_input)
        self.output_shape = self.convolution.output_shape
        shape = (*self.output_shape, settings.num_channels)
        self.bn = BatchNorm(shape, layer_input.dtype) if settings.use_batch_norm else None
        self.act = make_activation(settings.activation, lambda std: layer_input.weights(shape, std))
        self.residual_scale: nn.Parameter | None = None
        if settings.use_residual:
            self._check_residual(layer_input)
            self.residual_scale = residual_scales(
                settings.num_channels, layer_input.generator, layer_input.dtype
            )
        self.pooling: Pooling | None = None
        if settings.pooling is not None:
            self.pooling = Pooling(settings.pooling, self.output_shape, layer_input.dtype)
            self.output_shape = self.pooling.output_shape
            check_not_empty(self.output_shape, layer_input)
        self._whole = self.bn is None and settings.activation in ("", "elu")
        self._fused = self._fused_layer(layer_input.shape)
        self._packed: WeightCache[tuple[FusedLayer, Weights]] = WeightCache()

    def _fused_layer(self, shape: tuple[int, ...]) -> FusedLayer | None:
        """The convolution, where possible with all that follows except dropout."""
        settings, cells = self.settings, self.convolution.cells
        if cells is None or settings.num_channels > MAX_FUSED_CHANNELS:
            return None
        tiles = self._whole and self.pooling is not None and self.pooling.averages_tiles
        return FusedLayer(
            shape,
            cells,
            taps=settings.filter_size[-1],
            elu=self._whole and settings.activation == "elu",
            residual=self._whole and settings.use_residual,
            window=settings.pooling.window if tiles and settings.pooling else [1] * len(shape),
        )

    def _check_residual(self, layer_input: LayerInput) -> None:
        steps = zip(layer_input.shape, self.settings.strides, strict=True)
        if self.output_shape != tuple(math.ceil(length / stride) for length, stride in steps):
            raise ModelError(
                f"{layer_input.where}: padding_list is 'VALID', so that the output of shape "
                f"{list(self.output_shape)} is smaller than the input of shape "
                f"{list(layer_input.shape)}, and use_residual_list cannot be true there."
            )

    @property
    def can_be_fused(self) -> bool:
        """Whether all of the layer is one fused operation, except for dropout."""
        pooled = self._fused is not None and self._fused.pools == (self.pooling is not None)
        return pooled and self._whole

    def fused(self) -> tuple[FusedLayer, LayerWeights]:
        """The fused operation, and its weights.

        Raises
        ------
        ValueError
            If there is none.
        """
        if self._fused is None:
            raise ValueError("this layer cannot be fused")
        convolution = self.convolution
        scale = self.residual_scale if self._fused.residual else None
        weights, bias = convolution.cell_weights(), convolution.bias
        return self._fused, LayerWeights(weights, bias, scale, convolution.scales)

    def packed(self) -> tuple[FusedLayer, Weights]:
        """The fused operation, and its weights as it reads them.

        In inference mode they are kept until weights are loaded or training goes on.
        """
        tensors = [*self.convolution._parameters.values(), self.residual_scale]
        parameters = [each for each in tensors if each is not None]

        def packed() -> tuple[FusedLayer, Weights]:
            layer, weights = self.fused()
            return layer, pack(layer, weights)

        return self._packed.get(parameters, packed)

    def train(self, mode: bool = True) -> ConvLayer:
        """As of `torch.nn.Module`."""
        if mode:
            self._packed.forget()
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to [B, *shape, channels in]."""
        fused = self._fused if accepts(x) else None
        whole = fused is not None and self._whole
        y = self.convolution(x) if fused is None else _run_fused([x], [[self]])[0]
        if self.bn is not None:
            y = self.bn(y)
        y = (y if whole else self.act(y)).movedim(1, -1)
        if self.residual_scale is not None and not whole:
            y = self._add_residual(x, y, self.residual_scale)
        if self.pooling is not None and not (fused is not None and fused.pools):
            y = self.pooling(y)
        return dropout(y, self.drop_prob) if self.training else y

    def _add_residual(self, x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        if max(self.settings.strides) > 1:
            x = x[(slice(None), *(slice(None, None, stride) for stride in self.settings.strides))]
        x = with_channels(x, y.shape[-1])
        # Seen as one axis, the last spatial axis and the channels make long vectors: fast on CPUs.
        scales = scale.expand(y.shape[-2:]).flatten()
        return (y.flatten(-2) * scales).add_(x.flatten(-2)).view(y.shape)


class ConvLayers(nn.Sequential):
    """A stack of convolutional layers.

    Attributes
    ----------
    num_outputs
        Number of output values of an event.

    Raises
    ------
    ModelError
        If a layer does not fit its input.
    """

    def __init__(
        self,
        name: str,
        settings: Sequence[ConvSettings],
        in_channels: int,
        shape: Sequence[int],
        keep_prob: float,
        generator: torch.Generator,
        dtype: torch.dtype,
    ) -> None:
        layers = []
        shape = tuple(shape)
        for number, layer_settings in enumerate(settings, start=1):
            where = f"{name}, layer {number} of {len(settings)}"
            layer_input = LayerInput(where, in_channels, shape, generator, dtype)
            layer = ConvLayer(layer_settings, layer_input, keep_prob)
            layers.append(layer)
            in_channels, shape = layer_settings.num_channels, layer.output_shape
        super().__init__(*layers)
        self.num_outputs = in_channels * math.prod(shape)
        self._can_be_fused = all(layer.can_be_fused for layer in layers)
        self._drops = any(layer.drop_prob > 0 for layer in layers)

    @property
    def can_be_fused(self) -> bool:
        """Whether all layers are fused operations, except for dropout."""
        return self._can_be_fused

    @property
    def is_fused(self) -> bool:
        """Whether all layers are fused operations, as they are now."""
        if not self._can_be_fused or (self.training and self._drops) or has_hooks(self):
            return False
        return not any(map(has_hooks, self.layers()))

    def forward(self, x: Tensor) -> Tensor:
        """Apply all layers; those that are fused run together."""
        for fused, group in itertools.groupby(self.layers(), key=_is_fused):
            if fused and accepts(x):
                x = _run_fused([x], [list(group)])[0].movedim(1, -1)
            else:
                for layer in group:
                    x = layer(x)
        return x

    def layers(self) -> Iterator[ConvLayer]:
        """The layers."""
        return (layer for layer in self if isinstance(layer, ConvLayer))


def apply_to_hits(branches: Sequence[ConvLayers], inputs: Sequence[HitInput]) -> list[Tensor]:
    """Outputs [B, *shape, C] of stacks, all of which are fused, each for its part of the hits."""
    outputs = _run_fused(inputs, [list(branch.layers()) for branch in branches])
    return [y.movedim(1, -1) for y in outputs]


def has_hooks(module: nn.Module) -> bool:
    """Whether functions wait for the output of a module, which must then be called by itself."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _run_fused(
    inputs: Sequence[Tensor | HitInput], stacks: Sequence[Sequence[ConvLayer]]
) -> list[Tensor]:
    """Outputs [B, C, x, y(, z)] of fused layers one after another."""
    if torch.is_grad_enabled():
        return apply_fused(inputs, [[layer.fused() for layer in stack] for stack in stacks])
    return predict_fused(inputs, [[layer.packed() for layer in stack] for stack in stacks])


def _is_fused(layer: ConvLayer) -> bool:
    """Whether all of a layer is one fused operation, as it is now."""
    drops = layer.training and layer.drop_prob > 0
    return layer.can_be_fused and not drops and not has_hooks(layer)
