"""The `*_settings` blocks of a config, as typed settings of each layer.

A block holds lists with one entry a layer; the number of layers is the length of
`num_filters_list` (convolutions) or `fc_sizes` (dense layers), further entries of other lists are
not used. A single value stands for all layers; where an entry is itself a list (strides, pooling
windows, dilation), one flat list of the full length stands for all layers. `filter_size_list`
always needs one entry a layer. Strides and pooling windows count the event axis first and the
channel axis last, both 1: [1, x, y, z, 1].
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dnn_reco.errors import ModelError
from dnn_reco.nn.activations import check_activation

_METHODS = ("convolution", "hex_convolution", "locally_connected")
_PADDINGS = ("SAME", "VALID")
_POOLINGS = ("avg", "max", "max_avg")

# Options of the config whose other values are not supported, with the one value that is. The
# reference lists take `None` for "none", too.
_FIXED_OPTIONS: dict[str, Any] = {
    "repair_std_deviation_list": True,
    "weights_list": None,
    "biases_list": None,
}
_FIXED_CONV_OPTIONS: dict[str, Any] = {**_FIXED_OPTIONS, "trafo_list": None}
_FIXED_HEX_OPTIONS: dict[str, Any] = {"hex_azimuth_list": None}


@dataclass(frozen=True)
class PoolingSettings:
    """Pooling after a convolution; window and strides along the spatial axes."""

    kind: str
    window: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str


@dataclass(frozen=True)
class ConvSettings:
    """One convolutional layer; sizes along the spatial axes.

    For `hex_convolution`, `filter_size` is (size s, orientation o, length along z), see
    :mod:`dnn_reco.nn.hexconv`; with `num_rotations` above 1 the kernels are rotated by as many
    angles, each with `num_filters` output channels. `zero_out` sets cells without a string to 0.
    """

    method: str
    filter_size: tuple[int, ...]
    num_filters: int
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str
    activation: str
    pooling: PoolingSettings | None
    use_batch_norm: bool
    use_residual: bool
    use_dropout: bool
    num_rotations: int
    zero_out: bool
    legacy_rotation: bool

    @property
    def num_channels(self) -> int:
        """Number of output channels."""
        return self.num_filters * self.num_rotations


@dataclass(frozen=True)
class FCSettings:
    """One dense layer.

    With `max_out_size` m the outputs are the maxima of groups of m of the `size` nodes: nodes
    j, j + size / m, j + 2 size / m, … make up output j.
    """

    size: int
    activation: str
    use_batch_norm: bool
    use_residual: bool
    use_dropout: bool
    max_out_size: int | None

    @property
    def num_outputs(self) -> int:
        """Number of outputs."""
        return self.size // (self.max_out_size or 1)


class _Block:
    """A settings block, read option by option, layer by layer."""

    def __init__(self, name: str, options: Mapping[str, Any], num_layers: int) -> None:
        self.name = name
        self.options = options
        self.num_layers = num_layers
        self._read: set[str] = set()

    def where(self, option: str, layer: int) -> str:
        return f"{self.name}.{option}, layer {layer + 1} of {self.num_layers}"

    def values(self, option: str, default: Any, entry_length: int | None = None) -> list[Any]:
        """The option's value for each layer.

        Parameters
        ----------
        entry_length
            Length of one layer's value where that is itself a list.
        """
        self._read.add(option)
        value = self.options.get(option, default)
        if value is None and entry_length is not None:
            value = default
        if not _is_list(value):
            return [value] * self.num_layers
        flat = not any(_is_list(entry) for entry in value)
        if entry_length is not None and flat and len(value) == entry_length:
            return [value] * self.num_layers
        if len(value) < self.num_layers:
            raise ModelError(
                f"{self.name}.{option} has {len(value)} entries, but there are {self.num_layers} "
                f"layers: give one entry a layer, or one value for all layers."
            )
        return list(value[: self.num_layers])

    def flags(self, option: str) -> list[bool]:
        """The option's value for each layer, true or false; false if the option is absent."""
        values = self.values(option, False)
        for layer, value in enumerate(values):
            if value not in (True, False, None):
                raise ModelError(f"{self.where(option, layer)}: {value!r} is not true or false.")
        return [bool(value) for value in values]

    def choices(self, option: str, default: str, allowed: Sequence[str]) -> list[str]:
        """The option's value for each layer, one of the allowed names."""
        values = self.values(option, default)
        for layer, value in enumerate(values):
            if value not in allowed:
                raise ModelError(
                    f"{self.where(option, layer)}: {value!r} is not supported. "
                    f"Use one of: {', '.join(allowed)}."
                )
        return values

    def activations(self) -> list[str]:
        """Name of the activation function of each layer."""
        names = self.values("activation_list", "elu")
        return [
            check_activation(name, self.where("activation_list", layer))
            for layer, name in enumerate(names)
        ]

    def counts(self, option: str) -> list[int | None]:
        """The option's value for each layer, a whole number of at least 1; None where absent."""
        values = self.values(option, None)
        for layer, value in enumerate(values):
            if value is not None and not _is_whole(value, minimum=1):
                raise ModelError(
                    f"{self.where(option, layer)}: {value!r} is not a whole number of at least 1."
                )
        return values

    def lengths(self, option: str, default: list[int], num_dims: int) -> list[tuple[int, ...]]:
        """The option's value for each layer: `num_dims` whole numbers, at least 1."""
        values = self.values(option, default, entry_length=num_dims)
        return [
            _whole_numbers(value, num_dims, self.where(option, layer))
            for layer, value in enumerate(values)
        ]

    def spatial_lengths(self, option: str, default: list[int]) -> list[tuple[int, ...]]:
        """As `lengths`, for [1, x, y, …, 1]: without the event axis and the channel axis."""
        values = self.lengths(option, default, len(default))
        for layer, value in enumerate(values):
            if value[0] != 1 or value[-1] != 1:
                raise ModelError(
                    f"{self.where(option, layer)}: {list(value)} must begin and end with 1 "
                    f"(event axis and channel axis)."
                )
        return [value[1:-1] for value in values]

    def refuse_unsupported(self, fixed: Mapping[str, Any], layers: Sequence[int]) -> None:
        """Raise if an option that cannot be chosen is set to anything but its default."""
        for option, only in fixed.items():
            values = self.values(option, only)
            for layer in layers:
                if values[layer] is not None and values[layer] != only:
                    raise ModelError(
                        f"{self.where(option, layer)}: {values[layer]!r} is not supported, "
                        f"only {only!r} is."
                    )

    def refuse_unknown(self) -> None:
        """Raise if the block holds an option that nobody read."""
        for option in self.options:
            if option not in self._read:
                close = difflib.get_close_matches(str(option), self._read, n=1)
                hint = f"Did you mean '{close[0]}'?" if close else f"Known: {sorted(self._read)}."
                raise ModelError(f"{self.name}: unknown option '{option}'. {hint}")


def parse_conv_settings(
    name: str, options: Mapping[str, Any], num_dims: int
) -> tuple[ConvSettings, ...]:
    """Read a block of convolutional layers.

    Parameters
    ----------
    name
        Name of the block, for error messages.
    options
        The block as written in the config.
    num_dims
        Number of spatial axes of the input.

    Raises
    ------
    ModelError
        If an option is unknown, has a wrong value, or is not supported.
    """
    num_filters = _layer_sizes(name, options, "num_filters_list")
    block = _Block(name, options, len(num_filters))
    block.values("num_filters_list", None)
    ones, windows = [1] * (num_dims + 2), [1, *[2] * num_dims, 1]
    methods = block.choices("method_list", "convolution", _METHODS)
    strides = block.spatial_lengths("strides_list", ones)
    dilations = block.lengths("dilation_rate_list", [1] * num_dims, num_dims)
    paddings = block.choices("padding_list", "SAME", _PADDINGS)
    activations = block.activations()
    residuals = block.flags("use_residual_list")
    dropouts = block.flags("use_dropout_list")
    norms = block.flags("use_batch_normalisation_list")
    pooling = _pooling_settings(block, windows)
    filters = _filter_sizes(block, methods, num_dims)
    rotations = block.counts("hex_num_rotations_list")
    zero_outs = block.flags("hex_zero_out_list")
    legacy = block.flags("legacy_rotation")
    is_hex = [method == "hex_convolution" for method in methods]
    block.refuse_unsupported(_FIXED_CONV_OPTIONS, range(block.num_layers))
    block.refuse_unsupported(_FIXED_HEX_OPTIONS, [i for i, value in enumerate(is_hex) if value])
    block.refuse_unknown()
    for layer, method in enumerate(methods):
        if method == "locally_connected" and max(dilations[layer]) > 1:
            raise ModelError(
                f"{block.where('dilation_rate_list', layer)}: 'locally_connected' layers have no "
                f"dilation: set it to 1."
            )
    return tuple(
        ConvSettings(
            method=methods[i],
            filter_size=filters[i],
            num_filters=num_filters[i],
            strides=strides[i],
            dilation=dilations[i],
            padding=paddings[i],
            activation=activations[i],
            pooling=pooling[i],
            use_batch_norm=norms[i],
            use_residual=residuals[i],
            use_dropout=dropouts[i],
            num_rotations=(rotations[i] or 1) if is_hex[i] else 1,
            zero_out=zero_outs[i] and is_hex[i],
            legacy_rotation=legacy[i],
        )
        for i in range(block.num_layers)
    )


def parse_fc_settings(
    name: str, options: Mapping[str, Any], num_outputs: int
) -> tuple[FCSettings, ...]:
    """Read a block of dense layers; the last one always gets `num_outputs` nodes.

    Raises
    ------
    ModelError
        If an option is unknown, has a wrong value, or is not supported.
    """
    sizes = _layer_sizes(name, options, "fc_sizes", last=num_outputs)
    block = _Block(name, options, len(sizes))
    block.values("fc_sizes", None)
    activations = block.activations()
    norms = block.flags("use_batch_normalisation_list")
    residuals = block.flags("use_residual_list")
    dropouts = block.flags("use_dropout_list")
    max_outs = block.counts("max_out_size_list")
    block.refuse_unsupported(_FIXED_OPTIONS, range(block.num_layers))
    block.refuse_unknown()
    for layer, (size, max_out) in enumerate(zip(sizes, max_outs, strict=True)):
        where = block.where("max_out_size_list", layer)
        if max_out is not None and size % max_out != 0:
            raise ModelError(
                f"{where}: the {size} nodes cannot be divided into groups of {max_out}: choose a "
                f"divisor of {size}."
            )
        if max_out not in (None, 1) and layer == len(sizes) - 1:
            raise ModelError(
                f"{where}: the last layer has one node for each label; set it to null there."
            )
    return tuple(
        FCSettings(sizes[i], activations[i], norms[i], residuals[i], dropouts[i], max_outs[i])
        for i in range(block.num_layers)
    )


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_whole(value: object, minimum: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= minimum


def _whole_numbers(value: object, length: int, where: str, minimum: int = 1) -> tuple[int, ...]:
    if (
        isinstance(value, Sequence)
        and len(value) == length
        and all(_is_whole(entry, minimum) for entry in value)
    ):
        return tuple(value)
    raise ModelError(
        f"{where}: {value!r} is not a list of {length} whole numbers of at least {minimum}."
    )


def _layer_sizes(
    name: str, options: Mapping[str, Any], option: str, last: int | None = None
) -> list[int]:
    sizes = options.get(option)
    if not _is_list(sizes) or not sizes:
        raise ModelError(f"{name}.{option}: {sizes!r} is not a list with one size for each layer.")
    sizes = list(sizes) if last is None else [*sizes[:-1], last]
    for layer, size in enumerate(sizes):
        if not _is_whole(size, minimum=1):
            raise ModelError(
                f"{name}.{option}, layer {layer + 1} of {len(sizes)}: {size!r} is not a whole "
                f"number of at least 1."
            )
    return sizes


def _filter_sizes(block: _Block, methods: list[str], num_dims: int) -> list[tuple[int, ...]]:
    option = "filter_size_list"
    values = block.values(option, None)
    sizes = []
    for layer, (method, value) in enumerate(zip(methods, values, strict=True)):
        where = block.where(option, layer)
        if method != "hex_convolution":
            sizes.append(_whole_numbers(value, num_dims, where))
            continue
        if num_dims != 3:
            raise ModelError(
                f"{block.where('method_list', layer)}: 'hex_convolution' needs the main array "
                f"(three axes), this input has {num_dims}. Use 'convolution'."
            )
        size = _whole_numbers(value, num_dims, where, minimum=0)
        if size[0] < 1 or size[2] < 1:
            raise ModelError(f"{where}: size and z length of {list(size)} must be at least 1.")
        if size[1] >= size[0]:
            raise ModelError(
                f"{where}: the orientation (second entry of {list(size)}) must be less than the "
                f"size (first entry)."
            )
        sizes.append(size)
    return sizes


def _pooling_settings(block: _Block, default: list[int]) -> list[PoolingSettings | None]:
    kinds = block.values("pooling_type_list", None)
    windows = block.spatial_lengths("pooling_ksize_list", default)
    strides = block.spatial_lengths("pooling_strides_list", default)
    paddings = block.choices("pooling_padding_list", "SAME", _PADDINGS)
    settings: list[PoolingSettings | None] = []
    for layer, kind in enumerate(kinds):
        if kind in (None, False):
            settings.append(None)
        elif kind in _POOLINGS:
            settings.append(PoolingSettings(kind, windows[layer], strides[layer], paddings[layer]))
        else:
            raise ModelError(
                f"{block.where('pooling_type_list', layer)}: {kind!r} is not supported. "
                f"Use one of: {', '.join(_POOLINGS)}, or false."
            )
    return settings
