"""Convolutional layers, as the `conv_*_settings` blocks of a config describe them.

Order within a layer: convolution with bias (:mod:`dnn_reco.nn.kernels`), batch normalisation,
activation, residual addition, pooling, dropout. Inputs and outputs are [B, x, y(, z), channels].
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dnn_reco.errors import ModelError
from dnn_reco.nn.activations import make_activation
from dnn_reco.nn.batch_norm import BatchNorm
from dnn_reco.nn.kernels import LayerInput, check_not_empty, make_convolution
from dnn_reco.nn.pooling import Pooling
from dnn_reco.nn.settings import ConvSettings
from dnn_reco.nn.sharded_batch import dropout
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

    def _check_residual(self, layer_input: LayerInput) -> None:
        steps = zip(layer_input.shape, self.settings.strides, strict=True)
        if self.output_shape != tuple(math.ceil(length / stride) for length, stride in steps):
            raise ModelError(
                f"{layer_input.where}: padding_list is 'VALID', so that the output of shape "
                f"{list(self.output_shape)} is smaller than the input of shape "
                f"{list(layer_input.shape)}, and use_residual_list cannot be true there."
            )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to [B, *shape, channels in]."""
        y = self.convolution(x)
        if self.bn is not None:
            y = self.bn(y)
        y = self.act(y).movedim(1, -1)
        if self.residual_scale is not None:
            y = self._add_residual(x, y, self.residual_scale)
        if self.pooling is not None:
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
