"""The `*_settings` blocks of a config, as typed settings of each layer.

A block holds lists with one entry per layer; the number of layers is the length of
`num_filters_list` (convolutions) or `fc_sizes` (dense layers), further entries of other lists are
not used. A single value applies to all layers; where an entry is itself a list (strides, pooling
windows, dilation), one flat list of the full length applies to all layers. `filter_size_list`
always needs one entry per layer. Strides and pooling windows include the event axis first and the
channel axis last, both 1: [1, x, y, z, 1].
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeGuard, TypeVar

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from dnn_reco.config.typed_settings import STRICT, check_names, setting_fields, typed_settings
from dnn_reco.config.value_types import (
    Allowed,
    LooseFlag,
    PositiveWholeNumber,
    WholeNumber,
)
from dnn_reco.errors import ModelError
from dnn_reco.nn.activations import ActivationName

_HEX = "hex_convolution"
# Options of which only one value is supported; None always means "not set".
_FIXED: dict[str, Any] = {
    "weights_list": None,
    "biases_list": None,
}
_FIXED_CONV: dict[str, Any] = {**_FIXED, "trafo_list": None}
_FIXED_HEX: dict[str, Any] = {**_FIXED_CONV, "hex_azimuth_list": None}
_WITH_ENDS = ("strides_list", "pooling_ksize_list", "pooling_strides_list")
_ALONG_AXES = ("filter_size_list", "dilation_rate_list", *_WITH_ENDS)

T = TypeVar("T")
Padding = Literal["SAME", "VALID"]
_PER_AXIS = Allowed("whole numbers of at least 1, one for each axis")
Sizes = Annotated[tuple[PositiveWholeNumber, ...], _PER_AXIS]


@dataclass(frozen=True, config=STRICT)
class PoolingSettings:
    """Pooling after a convolution; window and strides along the spatial axes."""

    kind: Annotated[
        Literal["avg", "max", "max_avg", False] | None,
        Allowed("avg, max, max_avg or false"),
        Field(alias="pooling_type_list"),
    ]
    window: Annotated[Sizes, Field(alias="pooling_ksize_list")]
    strides: Annotated[Sizes, Field(alias="pooling_strides_list")]
    padding: Annotated[Padding, Field(alias="pooling_padding_list")] = "SAME"


@dataclass(frozen=True, config=STRICT)
class ConvSettings:
    """One convolutional layer; sizes along the spatial axes.

    For `hex_convolution`, `filter_size` is (size s, orientation o, length along z), see
    :mod:`dnn_reco.nn.hexconv`; with `num_rotations` above 1 the kernels are rotated by as many
    angles, each with `num_filters` output channels. `zero_out` sets cells without a string to 0.
    With `repair_std_deviation` the result is scaled to a standard deviation of about 1.
    """

    num_filters: Annotated[PositiveWholeNumber, Field(alias="num_filters_list")]
    filter_size: Annotated[tuple[WholeNumber, ...], _PER_AXIS, Field(alias="filter_size_list")]
    strides: Annotated[Sizes, Field(alias="strides_list")]
    dilation: Annotated[Sizes, Field(alias="dilation_rate_list")]
    pooling: PoolingSettings | None
    method: Annotated[
        Literal["convolution", "hex_convolution", "locally_connected"], Field(alias="method_list")
    ] = "convolution"
    padding: Annotated[Padding, Field(alias="padding_list")] = "SAME"
    activation: Annotated[ActivationName, Field(alias="activation_list")] = "elu"
    use_batch_norm: Annotated[LooseFlag, Field(alias="use_batch_normalisation_list")] = False
    use_residual: Annotated[LooseFlag, Field(alias="use_residual_list")] = False
    use_dropout: Annotated[LooseFlag, Field(alias="use_dropout_list")] = False
    num_rotations: Annotated[
        PositiveWholeNumber,
        BeforeValidator(lambda number: 1 if number is None else number),
        Field(alias="hex_num_rotations_list"),
    ] = 1
    zero_out: Annotated[LooseFlag, Field(alias="hex_zero_out_list")] = False
    repair_std_deviation: Annotated[LooseFlag, Field(alias="repair_std_deviation_list")] = True
    legacy_rotation: LooseFlag = False

    def __post_init__(self) -> None:
        if self.method == _HEX:
            size, orientation, length = self.filter_size
            if not (orientation < size and length):
                raise ValueError(
                    f"'filter_size_list' is {list(self.filter_size)}, meaning size, orientation "
                    "and z length: size and length must be at least 1, the orientation must be "
                    "smaller than the size"
                )
        elif not all(self.filter_size):
            raise ValueError(
                f"'filter_size_list' is {list(self.filter_size)}; allowed: {_PER_AXIS.text}"
            )
        if self.method == "locally_connected" and max(self.dilation) > 1:
            raise ValueError(
                "'locally_connected' layers have no dilation: set 'dilation_rate_list' to 1"
            )

    @property
    def num_channels(self) -> int:
        """Number of output channels."""
        return self.num_filters * (self.num_rotations if self.method == _HEX else 1)


@dataclass(frozen=True, config=STRICT)
class FCSettings:
    """One dense layer.

    With `max_out_size` m the outputs are the maxima of groups of m of the `size` nodes: nodes
    j, j + size / m, j + 2 size / m, … make up output j. With `repair_std_deviation` the result is
    scaled to a standard deviation of about 1.
    """

    size: Annotated[PositiveWholeNumber, Field(alias="fc_sizes")]
    activation: Annotated[ActivationName, Field(alias="activation_list")] = "elu"
    use_batch_norm: Annotated[LooseFlag, Field(alias="use_batch_normalisation_list")] = False
    use_residual: Annotated[LooseFlag, Field(alias="use_residual_list")] = False
    use_dropout: Annotated[LooseFlag, Field(alias="use_dropout_list")] = False
    max_out_size: Annotated[PositiveWholeNumber | None, Field(alias="max_out_size_list")] = None
    repair_std_deviation: Annotated[LooseFlag, Field(alias="repair_std_deviation_list")] = True

    def __post_init__(self) -> None:
        if self.size % (self.max_out_size or 1):
            raise ValueError(
                f"'max_out_size_list' is {self.max_out_size}, but the {self.size} nodes cannot be "
                f"divided into groups of {self.max_out_size}: choose a divisor of {self.size}"
            )

    @property
    def num_outputs(self) -> int:
        """Number of outputs."""
        return self.size // (self.max_out_size or 1)


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
    ones, twos = [1] * num_dims, [2] * num_dims
    defaults = {
        "strides_list": [1, *ones, 1],
        "dilation_rate_list": ones,
        "pooling_type_list": None,
        "pooling_ksize_list": [1, *twos, 1],
        "pooling_strides_list": [1, *twos, 1],
    }
    known = {**setting_fields(ConvSettings), **setting_fields(PoolingSettings), **_FIXED_HEX}
    check_names(options, [each for each in known if each != "pooling"], name, ModelError)
    return tuple(
        _conv_layer(key, values, num_dims)
        for key, values in _layer_values(name, options, "num_filters_list", defaults)
    )


def _conv_layer(key: str, values: Mapping[str, Any], num_dims: int) -> ConvSettings:
    is_hex = values.get("method_list") == _HEX
    if is_hex and num_dims != 3:
        raise ModelError(
            f"{key}: 'hex_convolution' needs the main array (three axes), this input has "
            f"{num_dims}. Use 'convolution' in 'method_list'."
        )
    _refuse_unsupported(key, values, _FIXED_HEX if is_hex else _FIXED_CONV)
    sizes = {option: _along_axes(key, option, values, num_dims) for option in _ALONG_AXES}
    values = {**values, **sizes}
    pooling = _typed(PoolingSettings, values, key)
    return _typed(ConvSettings, {**values, "pooling": pooling if pooling.kind else None}, key)


def parse_fc_settings(
    name: str, options: Mapping[str, Any], num_outputs: int
) -> tuple[FCSettings, ...]:
    """Read a block of dense layers; the last one always has `num_outputs` nodes.

    Raises
    ------
    ModelError
        If an option is unknown, has a wrong value, or is not supported.
    """
    check_names(options, [*setting_fields(FCSettings), *_FIXED], name, ModelError)
    layers = []
    for key, values in _layer_values(name, options, "fc_sizes", {}, last=num_outputs):
        _refuse_unsupported(key, values, _FIXED)
        layers.append(_typed(FCSettings, values, key))
    if layers[-1].num_outputs != num_outputs:
        raise ModelError(
            f"{key}: 'max_out_size_list' is {layers[-1].max_out_size}, but the last layer has one "
            "node for each label: set it to null there"
        )
    return tuple(layers)


def _layer_values(
    name: str,
    options: Mapping[str, Any],
    size_option: str,
    defaults: Mapping[str, list[int] | None],
    last: int | None = None,
) -> list[tuple[str, dict[str, Any]]]:
    """Name (for messages) and options of each layer of a block.

    Parameters
    ----------
    size_option
        The option that has one entry per layer.
    defaults
        Values of options that are absent; a list is as long as one layer's value of the option.
    last
        Replaces the size of the last layer.
    """
    sizes = options.get(size_option)
    if not _is_list(sizes) or not sizes:
        raise ModelError(f"{name}.{size_option} is {sizes!r}; allowed: a list, one size per layer")
    sizes = list(sizes) if last is None else [*sizes[:-1], last]
    given = {o: value for o, value in options.items() if value is not None or o not in defaults}
    per_option = {
        option: _per_layer(f"{name}.{option}", value, len(sizes), len(defaults.get(option) or ()))
        for option, value in {**defaults, **given, size_option: sizes}.items()
    }
    return [
        (
            f"{name}, layer {layer + 1} of {len(sizes)}",
            {option: values[layer] for option, values in per_option.items()},
        )
        for layer in range(len(sizes))
    ]


def _per_layer(key: str, value: Any, num_layers: int, entry_length: int) -> list[Any]:
    """The value of an option for each layer; `entry_length` > 0 if that is itself a list."""
    if not _is_list(value):
        return [value] * num_layers
    flat = not any(_is_list(entry) for entry in value)
    if flat and entry_length == len(value) > 0:
        return [value] * num_layers
    if len(value) < num_layers:
        raise ModelError(
            f"{key} has {len(value)} entries, but there are {num_layers} layers: give one entry "
            "per layer, or one value for all layers."
        )
    return list(value[:num_layers])


def _along_axes(key: str, option: str, values: Mapping[str, Any], num_dims: int) -> tuple[Any, ...]:
    """Entries of the spatial axes; `_WITH_ENDS` also have the event and the channel axis."""
    value, ends = values.get(option), option in _WITH_ENDS
    length = num_dims + 2 if ends else num_dims
    if not _is_list(value) or len(value) != length:
        raise ModelError(
            f"{key}: '{option}' is {value!r}; allowed: a list of {length} whole numbers"
        )
    if ends and not value[0] == value[-1] == 1:
        raise ModelError(
            f"{key}: '{option}' is {list(value)}: it must begin and end with 1 (event axis and "
            "channel axis)"
        )
    return tuple(value[1:-1] if ends else value)


def _refuse_unsupported(key: str, values: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    """Raise if an option of which only one value is supported has another one."""
    for option, only in fixed.items():
        value = values.get(option)
        if value is not None and value != only:
            raise ModelError(f"{key}: '{option}' is {value!r}; only {only!r} is supported")


def _typed(kind: type[T], values: Mapping[str, Any], key: str) -> T:
    """Settings of one class from the options of a layer, which are more than those of the class."""
    names = setting_fields(kind)
    given = {name: value for name, value in values.items() if name in names}
    return typed_settings(kind, given, key, ModelError)


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str)
