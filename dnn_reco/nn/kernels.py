"""Convolutions with their weights: plain, hexagonal, rotated, and locally connected.

Each maps [B, x, y(, z), channels in] to [B, channels out, x, y(, z)]: the convolution divided by
the square root of the number of inputs n, plus bias, divided by √2. All weights and biases are
initialised from a normal distribution of width 1 truncated at two standard deviations; dividing by
√n and √2 at run time, not in the weights, keeps the outputs at the scale of the inputs.
"""

import itertools
import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from dnn_reco.detector.grid import MAIN_SHAPE, STRING_CELL
from dnn_reco.errors import ModelError
from dnn_reco.nn.convolution import convolve
from dnn_reco.nn.hexconv import (
    flat_cells,
    kernel_cells,
    kernel_width,
    rotated_kernel,
    rotations,
    square_kernel,
)
from dnn_reco.nn.padding import output_length, pad_argument, pad_widths
from dnn_reco.nn.settings import ConvSettings
from dnn_reco.nn.weights import initial_weights


@dataclass(frozen=True)
class LayerInput:
    """The input of a layer, and how its weights are initialised.

    Attributes
    ----------
    where
        Settings block and number of the layer, for messages.
    channels, shape
        Number of channels and lengths of the spatial axes of the input.
    generator, dtype
        Random number generator and data type of the initial weights.
    """

    where: str
    channels: int
    shape: tuple[int, ...]
    generator: torch.Generator
    dtype: torch.dtype

    def weights(self, shape: Sequence[int], std: float = 1.0) -> nn.Parameter:
        """Initial weights of a shape, from a normal distribution of width `std`."""
        return initial_weights(shape, self.generator, self.dtype, std)


class Convolution(nn.Module):
    """Base of all convolutions: strides, dilation, padding, and the shape of the output.

    Parameters
    ----------
    settings
        Settings of the layer.
    layer_input
        Shape of its input, and how it is initialised.
    kernel
        Lengths of the kernel along the spatial axes.

    Raises
    ------
    ModelError
        If the output would be empty.
    """

    bias: nn.Parameter
    _weight_factor: float

    def __init__(
        self, settings: ConvSettings, layer_input: LayerInput, kernel: Sequence[int]
    ) -> None:
        super().__init__()
        self.settings = settings
        self._bias_scale = math.sqrt(0.5) if settings.repair_std_deviation else 1.0
        axes = list(
            zip(layer_input.shape, kernel, settings.strides, settings.dilation, strict=True)
        )
        self.output_shape = tuple(output_length(*axis, settings.padding) for axis in axes)
        check_not_empty(self.output_shape, layer_input)
        widths = [pad_widths(*axis, settings.padding) for axis in axes]
        symmetric = all(before == after for before, after in widths)
        self._padding = [before if symmetric else 0 for before, _ in widths]
        self._extra_padding = None if symmetric else pad_argument(widths)

    def _weight_scale(self, num_inputs: int) -> float:
        """Factor of the weights of this number of inputs."""
        repair = self.settings.repair_std_deviation
        return self._bias_scale / math.sqrt(num_inputs) if repair else 1.0

    @property
    def cells(self) -> list[tuple[int, ...]] | None:
        """Cells of the kernel along all axes but the last, relative to the centre; None: no kernel.

        The kernel is odd along each axis and visits each position of the input once.
        """
        return None

    def cell_weights(self) -> Tensor:
        """Weights of each of `cells`, unscaled [cells, taps, channels in, channels out]."""
        raise NotImplementedError

    @property
    def scales(self) -> tuple[float, float]:
        """Factors of weights and bias."""
        return self._weight_factor, self._bias_scale

    def _visits_each_position(self, kernel: Sequence[int]) -> bool:
        settings = self.settings
        steps = max(*settings.strides, *settings.dilation)
        return settings.padding == "SAME" and steps == 1 and all(n % 2 for n in kernel)

    def _convolve(self, x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        """Convolution with a kernel [x, y(, z), channels in, channels out] for all positions."""
        if self._extra_padding is not None:
            x = functional.pad(x, self._extra_padding)
        return convolve(
            x, kernel, bias, self.settings.strides, self._padding, self.settings.dilation
        )


def check_not_empty(shape: Sequence[int], layer_input: LayerInput) -> None:
    """Raise ModelError if the output of a layer is empty."""
    if min(shape) < 1:
        raise ModelError(
            f"{layer_input.where}: its output is empty, since its input has the shape "
            f"{list(layer_input.shape)}: use padding 'SAME' or a smaller kernel or window."
        )


class PlainConvolution(Convolution):
    """A convolution with a kernel [x, y(, z)]."""

    def __init__(self, settings: ConvSettings, layer_input: LayerInput) -> None:
        kernel = settings.filter_size
        super().__init__(settings, layer_input, kernel)
        self._weight_factor = self._weight_scale(math.prod(kernel) * layer_input.channels)
        self.weight = layer_input.weights((*kernel, layer_input.channels, settings.num_channels))
        self.bias = layer_input.weights((settings.num_channels,))

    @property
    def cells(self) -> list[tuple[int, ...]] | None:
        """All cells of a rectangle."""
        kernel = self.settings.filter_size
        if not self._visits_each_position(kernel):
            return None
        return list(itertools.product(*(range(-(n // 2), n // 2 + 1) for n in kernel[:-1])))

    def cell_weights(self) -> Tensor:
        """As of :class:`Convolution`."""
        return self.weight.flatten(0, -4)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to [B, x, y(, z), channels in]."""
        return self._convolve(x, self.weight * self._weight_factor, self.bias * self._bias_scale)


class HexagonalConvolution(Convolution):
    """A convolution of the main array with a hexagonal kernel, which subclasses define.

    With `zero_out`, the output of cells without a string is the bias alone.

    Raises
    ------
    ModelError
        If `zero_out` is set for a grid whose strings are not known.
    """

    _no_string: Tensor | None

    def __init__(self, settings: ConvSettings, layer_input: LayerInput) -> None:
        size, orientation, length = settings.filter_size
        self._width = kernel_width(size, orientation)
        super().__init__(settings, layer_input, (self._width, self._width, length))
        # The reference counts the cells plus (not times) the length along z, and ignores tips;
        # kept, since imported weights have this scale.
        cells = len(flat_cells(size, 0)) + length
        self._weight_factor = self._weight_scale(cells * layer_input.channels)
        mask = (
            _cells_without_string(self.output_shape[:2], layer_input) if settings.zero_out else None
        )
        self.register_buffer("_no_string", mask, persistent=False)

    @abstractmethod
    def _kernel(self) -> Tensor:
        """The unscaled kernel [a, b, z, channels in, channels out]."""

    @property
    def cells(self) -> list[tuple[int, ...]] | None:
        """Those of the hexagon, with its tips."""
        size, orientation, length = self.settings.filter_size
        if self.settings.zero_out or not self._visits_each_position((length,)):
            return None
        centre = self._width // 2
        return [(a - centre, b - centre) for a, b in kernel_cells(size, orientation)]

    def forward(self, x: Tensor) -> Tensor:
        """Apply to [B, a, b, z, channels in]."""
        bias = self.bias * self._bias_scale
        y = self._convolve(x, self._kernel() * self._weight_factor, bias)
        if self._no_string is None:
            return y
        return torch.where(self._no_string, bias[:, None, None, None], y)


class FixedHexagon(HexagonalConvolution):
    """A hexagonal kernel with a weight for each of its cells [cells, z, channels in, out]."""

    _cells: Tensor

    def __init__(self, settings: ConvSettings, layer_input: LayerInput) -> None:
        super().__init__(settings, layer_input)
        size, orientation, length = settings.filter_size
        cells = flat_cells(size, orientation)
        self.register_buffer("_cells", cells, persistent=False)
        self.weight = layer_input.weights(
            (len(cells), length, layer_input.channels, settings.num_channels)
        )
        self.bias = layer_input.weights((settings.num_channels,))

    def cell_weights(self) -> Tensor:
        """As of :class:`Convolution`."""
        return self.weight

    def _kernel(self) -> Tensor:
        return square_kernel(self.weight, self._cells, self._width)


class RotatedHexagon(HexagonalConvolution):
    """A hexagonal kernel in several rotations, each with separate output channels.

    All share their spatial weights [weights, z] (see :func:`dnn_reco.nn.hexconv.rotations`), which
    are multiplied by weights from channel to channel [rotations, channels in, out].
    """

    _shares: Tensor
    _cells: Tensor

    def __init__(self, settings: ConvSettings, layer_input: LayerInput) -> None:
        super().__init__(settings, layer_input)
        size, orientation, length = settings.filter_size
        count = settings.num_rotations
        shares = rotations(size, orientation, count, settings.legacy_rotation)
        self.register_buffer("_shares", shares.to(layer_input.dtype), persistent=False)
        self.register_buffer("_cells", flat_cells(size, orientation), persistent=False)
        self.spatial = layer_input.weights((shares.shape[-1], length))
        self.in_out = layer_input.weights((count, layer_input.channels, settings.num_filters))
        self.bias = layer_input.weights((settings.num_channels,))

    def cell_weights(self) -> Tensor:
        """As of :class:`Convolution`."""
        return self._kernel().flatten(0, 1).index_select(0, self._cells)

    def _kernel(self) -> Tensor:
        return rotated_kernel(self._shares, self.spatial, self.in_out)


class LocalConvolution(Convolution):
    """A locally connected layer: a separate kernel [inputs, channels out] for each position."""

    def __init__(self, settings: ConvSettings, layer_input: LayerInput) -> None:
        kernel = settings.filter_size
        super().__init__(settings, layer_input, kernel)
        num_inputs = math.prod(kernel) * layer_input.channels
        channels = settings.num_channels
        self._weight_factor = self._weight_scale(num_inputs)
        self.weight = layer_input.weights((math.prod(self.output_shape), num_inputs, channels))
        self.bias = layer_input.weights((*self.output_shape, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Apply to [B, x, y(, z), channels in]."""
        if self._extra_padding is not None:
            x = functional.pad(x, self._extra_padding)
        elif any(self._padding):
            x = functional.pad(x, pad_argument([(width, width) for width in self._padding]))
        axes = enumerate(
            zip(self.settings.filter_size, self.settings.strides, strict=True), start=1
        )
        for axis, (length, stride) in axes:
            x = x.unfold(axis, length, stride)
        # [B, positions …, C, kernel …] -> [B, positions, kernel · C]
        num_axes = len(self.output_shape)
        patches = x.movedim(num_axes + 1, -1).flatten(num_axes + 1).flatten(1, num_axes)
        y = torch.einsum("bpi,pio->bpo", patches, self.weight * self._weight_factor)
        return (y.view(-1, *self.bias.shape) + self.bias * self._bias_scale).movedim(-1, 1)


def make_convolution(settings: ConvSettings, layer_input: LayerInput) -> Convolution:
    """The convolution that the settings describe."""
    if settings.method == "locally_connected":
        return LocalConvolution(settings, layer_input)
    if settings.method == "convolution":
        return PlainConvolution(settings, layer_input)
    return (FixedHexagon if settings.num_rotations == 1 else RotatedHexagon)(settings, layer_input)


def _cells_without_string(shape: Sequence[int], layer_input: LayerInput) -> Tensor:
    """Mask [a, b, 1] of the cells without a string.

    On the full grid they are known. On a smaller square grid of odd size they form a hexagon.
    """
    has_string = torch.zeros(*shape, 1, dtype=torch.bool)
    if tuple(shape) == MAIN_SHAPE[:2]:
        cells = [(int(a), int(b)) for a, b in STRING_CELL]
    elif shape[0] == shape[1] and shape[0] % 2 == 1:
        cells = kernel_cells((shape[0] + 1) // 2, 0)
    else:
        raise ModelError(
            f"{layer_input.where}: hex_zero_out_list needs a grid of {list(MAIN_SHAPE[:2])} "
            f"strings, or an odd square, but the output of this layer has {list(shape)}: switch "
            "it off there."
        )
    for cell in cells:
        has_string[cell] = True
    return ~has_string
