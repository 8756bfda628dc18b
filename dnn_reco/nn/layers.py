"""Convolutional and dense layers, as the `*_settings` blocks of a config describe them.

Order within a layer: convolution or matrix product, division by the square root of the number of
inputs n, bias, division by √2, activation, residual addition, pooling, dropout. All weights and
biases start from a normal distribution of width 1 cut at two standard deviations; dividing by √n
and √2 at run time, not in the weights, keeps the outputs at the scale of the inputs.

Convolutions take and give [B, channels, x, y(, z)]; they are fastest where the channel axis lies
last in memory.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dnn_reco.errors import ModelError
from dnn_reco.nn.hexconv import flat_cells, square_kernel
from dnn_reco.nn.padding import output_length, pad_widths
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
        self._padding = tuple(before for before, _ in widths)
        self._extra_pad: list[int] | None = None
        if any(before != after for before, after in widths):
            self._extra_pad = [width for pair in reversed(widths) for width in pair]
            self._padding = (0,) * len(widths)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to [B, channels in, *shape]."""
        y = self.settings.activation(self._convolve(x))
        if self.residual_scale is not None:
            y = self._add_residual(x, y, self.residual_scale)
        if self.pooling is not None:
            y = self.pooling(y)
        return functional.dropout(y, self.drop_prob, self.training)

    def _convolve(self, x: Tensor) -> Tensor:
        weight = self.weight * self._scale
        if self.settings.method == "hex_convolution":
            weight = square_kernel(weight, self._cells, self.settings.filter_size[0])
        num_dims = weight.dim() - 2
        kernel = weight.permute(-1, -2, *range(num_dims))
        if self._extra_pad is not None:
            x = functional.pad(x, self._extra_pad)
        convolution = functional.conv3d if num_dims == 3 else functional.conv2d
        return convolution(
            x,
            kernel,
            self.bias * math.sqrt(0.5),
            stride=self.settings.strides,
            padding=self._padding,
            dilation=self.settings.dilation,
        )

    def _add_residual(self, x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        channels = self.settings.num_filters
        steps = (slice(None, None, stride) for stride in self.settings.strides)
        x = x[(slice(None), slice(channels), *steps)]
        missing = channels - x.shape[1]
        if missing > 0:
            x = functional.pad(x, [0, 0] * (x.dim() - 2) + [0, missing])
        return torch.addcmul(x, y, scale.view(-1, *[1] * (x.dim() - 2)))


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
            size = self.settings.size
            shortcut = functional.pad(x[:, :size], [0, max(size - x.shape[1], 0)])
            y = torch.addcmul(shortcut, y, self.residual_scale)
        return functional.dropout(y, self.drop_prob, self.training)


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
