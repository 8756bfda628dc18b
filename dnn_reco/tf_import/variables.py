"""The weights of the TensorFlow version: their names, order and shapes, and ours.

A network of the newer generation is described by the same config in both versions, and each of its
variables has a key ``branch/layer/kind``, such as ``ic78/0/biases``. A checkpoint
identifies variables only by position:

1. label weights (where `label_update_weights` is on), then the scale of the Tukey loss (where
   `label_scale_tukey` is on);
2. trainable variables by branch (upper, lower, ic78, fc, then fc_unc) and layer; within a layer
   biases, plain kernel, slope of the activation, batch norm (beta, scale), kernels of other kinds,
   residual scale;
3. statistics of the batch norm (mean, variance) by branch (ic78, lower, upper, fc, fc_unc) and
   layer.

A checkpoint also holds the names that the variables had in their program. Many are equal, but
names and shapes together distinguish the variables of different layers and kinds, except residual
scales and statistics of equal shape.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from dnn_reco.errors import ModelError

# Each branch, in the order of its trainable variables: its part of variable names there, and the
# axes of a plain kernel. Hexagonal kernels of a 3D branch have four (the cells are one axis),
# locally connected ones always three.
_BRANCHES = {
    "upper": ("upper_deepcore", 4),
    "lower": ("lower_deepcore", 4),
    "ic78": ("ic78", 5),
    "fc": ("fc", 2),
    "fc_unc": ("fc_unc", 2),
}
_STATISTICS_ORDER = ("ic78", "lower", "upper", "fc", "fc_unc")
_HEXAGON_AXES, _LOCAL_AXES = 4, 3

# Parts of our layers that are one variable there.
_KINDS = {
    "bias": "biases",
    "act.slope_weight": "act_slope_weight",
    "bn.beta": "bn_beta",
    "bn.scale": "bn_scale",
    "residual_scale": "residual_scale",
    "bn.pop_mean": "bn_pop_mean",
    "bn.pop_var": "bn_pop_var",
}
_STATISTICS = ("bn_pop_mean", "bn_pop_var")
_SPECIAL_KERNELS = ("hexcell_", "rotvar_", "local_kernel_")
_KERNEL_PARTS = ("weight", "spatial", "in_out", "bias")
_OUR_PARTS = {*_KERNEL_PARTS, *_KINDS}
_PARTS = {kind: part for part, kind in _KINDS.items()} | {
    "weights": "weight",
    "local_kernel_0": "weight",
}

OTHER_CONFIG = "Is it the config of this training (--config)?"

Shapes = Mapping[str, tuple[int, ...]]
Layer = tuple[str, int]


@dataclass(frozen=True)
class ReferenceVariable:
    """A variable of the TensorFlow version.

    Attributes
    ----------
    key
        ``branch/layer/kind``; for the variables of the loss their name alone.
    shape
        Its shape in that version.
    name
        Regular expression for the name that it had in its program.
    """

    key: str
    shape: tuple[int, ...]
    name: str

    def matches_name(self, name: str) -> bool:
        """Whether the variable can have had this name in its program."""
        return re.fullmatch(self.name, name.removesuffix(":0")) is not None


def _layer_variable(layer: Layer, kind: str, shape: tuple[int, ...]) -> ReferenceVariable:
    branch, number = layer
    scope = f".*__{_BRANCHES[branch][0]}_{number:03d}"
    word, _, rest = kind.partition("_")
    names = {
        "biases": f"{scope}_biases" if len(shape) == 1 else "weights",
        "bn": f"BN_{rest}",
        "hexcell": rf"{scope}_hex_conv_kernel_weights_\d+_\d+",
        "rotvar": f"{scope}_hex_conv_kernel(_in_out_channel_weights)?",
        "weights": f"{scope}_weights",
    }
    return ReferenceVariable(f"{branch}/{number}/{kind}", shape, names.get(word, "weights"))


def loss_variables(
    num_labels: int, updates_weights: bool, scales_tukey: bool
) -> list[ReferenceVariable]:
    """The variables of the loss, which come first in a checkpoint."""
    present = {"label_weights": updates_weights, "median_abs_dev": scales_tukey}
    return [ReferenceVariable(key, (num_labels,), key) for key, used in present.items() if used]


def network_variables(shapes: Shapes) -> list[ReferenceVariable]:
    """The variables of a network, in the order of a checkpoint.

    Parameters
    ----------
    shapes
        Shape of each of our parameters, by its name (``ic78.0.bn.scale``).

    Raises
    ------
    ModelError
        If a parameter has no counterpart there.
    """
    layers = layer_shapes(shapes)
    trainable = [v for layer, kinds in layers.items() for v in _trainable(layer, kinds)]
    statistics = [
        _layer_variable(layer, kind, kinds[kind])
        for branch in _STATISTICS_ORDER
        for layer, kinds in layers.items()
        for kind in _STATISTICS
        if layer[0] == branch and kind in kinds
    ]
    return trainable + statistics


def layer_shapes(shapes: Shapes) -> dict[Layer, dict[str, tuple[int, ...]]]:
    """Shapes of the variables of each layer by kind, its kernel first; in order of the layers.

    Parameters
    ----------
    shapes
        Shape of each of our parameters, by its name (``ic78.0.bn.scale``).

    Raises
    ------
    ModelError
        If a parameter has no counterpart there.
    """
    parts = _layers(shapes)
    return {
        layer: _kernels(_BRANCHES[layer[0]][1], of_layer)
        | {kind: of_layer[part] for part, kind in _KINDS.items() if part in of_layer}
        for layer, of_layer in parts.items()
    }


def _layers(shapes: Shapes) -> dict[Layer, dict[str, tuple[int, ...]]]:
    """Shapes of the parts of each layer, by branch and number, in order."""
    layers: dict[Layer, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        match = re.fullmatch(r"(\w+)\.(\d+)\.(?:convolution\.)?(.+)", name)
        if match is None or match[1] not in _BRANCHES or match[3] not in _OUR_PARTS:
            raise ModelError(
                f"the parameter '{name}' of the network has no counterpart in the TensorFlow "
                "version that can be read: networks with it cannot be imported"
            )
        layers.setdefault((match[1], int(match[2])), {})[match[3]] = tuple(shape)
    branches = list(_BRANCHES)
    return dict(sorted(layers.items(), key=lambda item: (branches.index(item[0][0]), item[0][1])))


def _trainable(layer: Layer, kinds: Shapes) -> list[ReferenceVariable]:
    """The trainable variables of a layer, in order."""
    special_kernels = [kind for kind in kinds if kind.startswith(_SPECIAL_KERNELS)]
    order = [
        *("biases", "weights", "act_slope_weight", "bn_beta", "bn_scale"),
        *special_kernels,
        "residual_scale",
    ]
    return [_layer_variable(layer, kind, kinds[kind]) for kind in order if kind in kinds]


def _kernels(plain_axes: int, parts: Shapes) -> dict[str, tuple[int, ...]]:
    """The variables that make up the kernel of a layer."""
    if "spatial" in parts:
        num_places, length = parts["spatial"]
        places = {f"rotvar_{place:02d}": (length,) for place in range(num_places)}
        return places | {f"rotvar_{num_places:02d}": parts["in_out"]}
    shape = parts["weight"]
    if len(shape) == plain_axes:
        return {"weights": shape}
    if len(shape) == _LOCAL_AXES:
        return {"local_kernel_0": shape}
    if len(shape) == _HEXAGON_AXES:
        return {f"hexcell_{cell:02d}": shape[1:] for cell in range(shape[0])}
    raise ModelError(
        f"kernels of shape {list(shape)} have no counterpart in the TensorFlow version"
    )


def check_variables(
    found: Sequence[tuple[str, tuple[int, ...]]], expected: Sequence[ReferenceVariable]
) -> None:
    """Check number, names and shapes of a checkpoint's variables.

    Parameters
    ----------
    found
        Name and shape of each, by position.
    expected
        What they should be.

    Raises
    ------
    ModelError
        If they differ; it names the first that differs, or what is missing.
    """
    for position, ((name, shape), variable) in enumerate(zip(found, expected, strict=False)):
        if shape != variable.shape or not variable.matches_name(name):
            raise ModelError(
                f"its variable {position} is '{name}' of shape {list(shape)}, where the network "
                f"has '{variable.key}' of shape {list(variable.shape)}. {OTHER_CONFIG}"
            )
    missing = [variable.key for variable in expected[len(found) :]]
    if missing and all(key.endswith(("bn_pop_mean", "bn_pop_var")) for key in missing):
        raise ModelError(
            f"it has no means and variances of the batch norm ({missing[0]} and {len(missing) - 1} "
            "more), without which the network cannot be applied"
        )
    if len(found) != len(expected):
        raise ModelError(
            f"it has {len(found)} variables, the network {len(expected)}. {OTHER_CONFIG}"
        )


def our_parameters(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    """Our parameters by name, from variables of the TensorFlow version by key.

    The cells of a hexagonal kernel become one tensor, ordered by the numbers in their keys
    (``hexcell_<a>_<b>``: row by row), and so do the weights of a rotated kernel's places; the last
    of these variables connects the channels.
    """
    ours: dict[str, Tensor] = {}
    several: dict[tuple[str, str, str], list[tuple[tuple[int, ...], Tensor]]] = {}
    for key, array in arrays.items():
        branch, layer, kind = key.split("/")
        tensor = torch.tensor(array)
        word, *numbers = kind.split("_")
        if word in ("hexcell", "rotvar"):
            place = tuple(int(number) for number in numbers)
            several.setdefault((branch, layer, word), []).append((place, tensor))
        else:
            ours[_our_name(branch, layer, _PARTS[kind])] = tensor
    for (branch, layer, word), placed in several.items():
        tensors = [tensor for _, tensor in sorted(placed, key=lambda entry: entry[0])]
        if word == "hexcell":
            ours[_our_name(branch, layer, "weight")] = torch.stack(tensors)
        else:
            ours[_our_name(branch, layer, "spatial")] = torch.stack(tensors[:-1])
            ours[_our_name(branch, layer, "in_out")] = tensors[-1]
    return ours


def _our_name(branch: str, layer: str, part: str) -> str:
    """Name of our parameter; weights of convolutions have a module of their own."""
    is_kernel = part in _KERNEL_PARTS and not branch.startswith("fc")
    return f"{branch}.{layer}.{'convolution.' if is_kernel else ''}{part}"
