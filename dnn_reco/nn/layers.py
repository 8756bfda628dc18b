"""Convolutional and dense layers, as the `*_settings` blocks of a config describe them.

Order within a layer: convolution or matrix product, division by the square root of the number of
inputs n, bias, division by √2, activation, residual addition, pooling, dropout. All weights and
biases start from a normal distribution of width 1 cut at two standard deviations; dividing by √n
and √2 at run time, not in the weights, keeps the outputs at the scale of the inputs.

Convolutions take and give [B, x, y(, z), channels].
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dnn_reco.errors import ModelError
from dnn_reco.nn.convolution import convolve
from dnn_reco.nn.hexconv import flat_cells, square_kernel
from dnn_reco.nn.padding import output_length, pad_argument, pad_widths
from dnn_reco.nn.pooling import Pooling
from dnn_reco.nn.settings import ConvSettings, FCSettings

_RESIDUAL_SCALE_STD = 0.001


def initial_weights(
    shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype, std: float = 1.0
) -> nn.Parameter:
    """Random weights from a normal distribution cut at two standard deviations."""
    weights = torch.empty(*shape, dtype=dtype)
    nn.init.trunc_normal_(weights, std=std, a=-2 * std, b=2 * std, generator=generator)
    return nn.Parameter(weights)


class ConvLayer(nn.Module):
    """One convolutional layer, plain or hexagonal.

    Parameters
    ----------
    settings
        What the layer does.
    in_channels
        Channels of the input.
    shape
        Lengths of the spatial axes of the input.
    keep_prob
        Probability that dropout keeps a value, in training.
    generator, dtype
        Where initial weights come from, and their type.
    """

    output_shape: tuple[int, ...]
    _cells: Tensor

    def __init__(
        self,
        settings: ConvSettings,
        in_channels: int,
        shape: Sequence[int],
        keep_prob: float,
        generator: torch.Generator,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.drop_prob = 1 - keep_prob if settings.use_dropout else 0.0
        channels = settings.num_filters
        kernel = settings.filter_size
        if settings.method == "hex_convolution":
            size, _, length = settings.filter_size
            kernel = (2 * size - 1, 2 * size - 1, length)
            self.register_buffer("_cells", flat_cells(size), persistent=False)
            num_cells = len(self._cells)
            weight_shape: tuple[int, ...] = (num_cells, length, in_channels, channels)
            # The reference counts the cells plus (not times) the length along z; kept, since it
            # sets the scale of what trained weights mean.
            num_inputs = (num_cells + length) * in_channels
        else:
            weight_shape = (*kernel, in_channels, channels)
            num_inputs = math.prod(kernel) * in_channels
        self._scale = 1 / math.sqrt(2 * num_inputs)
        self.weight = initial_weights(weight_shape, generator, dtype)
        self.bias = initial_weights((channels,), generator, dtype)
        self.residual_scale: nn.Parameter | None = None
        if settings.use_residual:
            self.residual_scale = initial_weights(
                (channels,), generator, dtype, std=_RESIDUAL_SCALE_STD
            )
        self._set_padding(shape, kernel)
        self.pooling: Pooling | None = None
        if settings.pooling is not None:
            self.pooling = Pooling(settings.pooling, self.output_shape, dtype)
            self.output_shape = self.pooling.output_shape

    def _set_padding(self, shape: Sequence[int], kernel: Sequence[int]) -> None:
        s = self.settings
        axes = list(zip(shape, kernel, s.strides, s.dilation, strict=True))
        self.output_shape = tuple(output_length(*axis, s.padding) for axis in axes)
        widths = [pad_widths(*axis, s.padding) for axis in axes]
        symmetric = all(before == after for before, after in widths)
        self._padding = [before if symmetric else 0 for before, _ in widths]
        self._extra_padding = None if symmetric else pad_argument(widths)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to [B, *shape, channels in]."""
        y = self.settings.activation(self._convolve(x)).movedim(1, -1)
        if self.residual_scale is not None:
            y = self._add_residual(x, y, self.residual_scale)
        if self.pooling is not None:
            y = self.pooling(y)
        return functional.dropout(y, self.drop_prob) if self.training else y

    def _convolve(self, x: Tensor) -> Tensor:
        kernel = self.weight * self._scale
        if self.settings.method == "hex_convolution":
            kernel = square_kernel(kernel, self._cells, self.settings.filter_size[0])
        if self._extra_padding is not None:
            x = functional.pad(x, self._extra_padding)
        bias = self.bias * math.sqrt(0.5)
        return convolve(
            x, kernel, bias, self.settings.strides, self._padding, self.settings.dilation
        )

    def _add_residual(self, x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        if max(self.settings.strides) > 1:
            x = x[(slice(None), *(slice(None, None, stride) for stride in self.settings.strides))]
        x = _with_channels(x, y.shape[-1])
        # Seen as one axis, the last spatial axis and the channels make long vectors: fast on CPUs.
        scales = scale.expand(y.shape[-2:]).flatten()
        return (y.flatten(-2) * scales).add_(x.flatten(-2)).view(y.shape)


def _with_channels(x: Tensor, channels: int) -> Tensor:
    """The first channels of x, zeros where it has fewer."""
    missing = channels - x.shape[-1]
    if missing == 0:
        return x
    return functional.pad(x, [0, missing]) if missing > 0 else x[..., :channels]


class ConvLayers(nn.Sequential):
    """Convolutional layers one after the other.

    Attributes
    ----------
    num_outputs
        Number of output values of an event.

    Raises
    ------
    ModelError
        If a kernel or window without padding is larger than its input.
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
        for number, layer_settings in enumerate(settings, start=1):
            layer = ConvLayer(layer_settings, in_channels, shape, keep_prob, generator, dtype)
            if min(layer.output_shape) < 1:
                raise ModelError(
                    f"{name}, layer {number} of {len(settings)}: nothing is left of its input of "
                    f"shape {list(shape)}: use padding 'SAME' or a smaller kernel or window."
                )
            layers.append(layer)
            in_channels, shape = layer_settings.num_filters, layer.output_shape
        super().__init__(*layers)
        self.num_outputs = in_channels * math.prod(shape)


class FCLayer(nn.Module):
    """One dense layer."""

    def __init__(
        self,
        settings: FCSettings,
        num_inputs: int,
        keep_prob: float,
        generator: torch.Generator,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.drop_prob = 1 - keep_prob if settings.use_dropout else 0.0
        self._scale = 1 / math.sqrt(2 * num_inputs)
        self.weight = initial_weights((num_inputs, settings.size), generator, dtype)
        self.bias = initial_weights((settings.size,), generator, dtype)
        self.residual_scale: nn.Parameter | None = None
        if settings.use_residual:
            self.residual_scale = initial_weights(
                (settings.size,), generator, dtype, std=_RESIDUAL_SCALE_STD
            )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to [B, inputs]."""
        y = torch.addmm(self.bias * math.sqrt(0.5), x, self.weight * self._scale)
        y = self.settings.activation(y)
        if self.residual_scale is not None:
            shortcut = _with_channels(x, self.settings.size)
            y = torch.addcmul(shortcut, y, self.residual_scale)
        return functional.dropout(y, self.drop_prob) if self.training else y


class FCLayers(nn.Sequential):
    """Dense layers one after the other."""

    def __init__(
        self,
        settings: Sequence[FCSettings],
        num_inputs: int,
        keep_prob: float,
        generator: torch.Generator,
        dtype: torch.dtype,
    ) -> None:
        sizes = [num_inputs, *(layer.size for layer in settings)]
        super().__init__(
            *(
                FCLayer(layer, size, keep_prob, generator, dtype)
                for layer, size in zip(settings, sizes[:-1], strict=True)
            )
        )
