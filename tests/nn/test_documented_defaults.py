"""Defaults of layers and networks are those that the guides list."""

import json
import re
from pathlib import Path
from typing import Any

from dnn_reco.modules.models.dom_transformer import DomTransformerSettings
from dnn_reco.modules.models.general_IC86_cnn import CNNSettings
from dnn_reco.nn.augmentation import Augmentation
from dnn_reco.nn.settings import parse_conv_settings, parse_fc_settings

DOCS = Path(__file__).resolve().parents[2] / "docs"
WORDS = {"none": None, "": None, "needed": "needed"}


def documented(page: str, first: str) -> dict[str, Any]:
    """Defaults of the table whose first setting has this name; a default stands for all its names.

    Several defaults of one name are those of sizes S, M and L.
    """
    text = (DOCS / page).read_text(encoding="utf-8")
    table = text[text.index(f"| `{first}` |") :].split("\n\n")[0]
    found = {}
    for row in table.splitlines():
        names, default, _ = (cell.strip() for cell in row.strip("|").split("|", 2))
        default = default.strip("`")
        value: Any = WORDS.get(default, default)
        if isinstance(value, str) and re.fullmatch(r"true|false|\d+|\{\}", value):
            value = json.loads(value)
        found |= dict.fromkeys(re.findall("`([^`]+)`", names), value)
    return found


def test_convolutions() -> None:
    expected = documented("reference/layers.md", "method_list")
    needed = {name for name, value in expected.items() if value == "needed"}
    assert needed == {"filter_size_list", "num_filters_list"}
    options = {"filter_size_list": [[1, 3]], "num_filters_list": [5], "pooling_type_list": "avg"}
    (layer,) = parse_conv_settings("a", options, 2)
    assert layer.pooling is not None
    one = (expected["strides_list"],) * 2
    two = (expected["pooling_ksize_list"],) * 2
    assert (layer.strides, layer.dilation) == (one, (expected["dilation_rate_list"],) * 2)
    assert (layer.pooling.window, layer.pooling.strides) == (two, two)
    found = {
        "method_list": layer.method,
        "padding_list": layer.padding,
        "hex_num_rotations_list": layer.num_rotations,
        "hex_zero_out_list": layer.zero_out,
        "use_batch_normalisation_list": layer.use_batch_norm,
        "activation_list": layer.activation,
        "use_residual_list": layer.use_residual,
        "use_dropout_list": layer.use_dropout,
        "repair_std_deviation_list": layer.repair_std_deviation,
        "legacy_rotation": layer.legacy_rotation,
        "pooling_padding_list": layer.pooling.padding,
    }
    assert found == {name: expected[name] for name in found}
    del options["pooling_type_list"]
    assert expected["pooling_type_list"] is False
    (layer,) = parse_conv_settings("a", options, 2)
    assert layer.pooling is None


def test_dense_layers() -> None:
    expected = documented("reference/layers.md", "fc_sizes")
    assert expected["fc_sizes"] == "needed"
    (layer,) = parse_fc_settings("a", {"fc_sizes": [-1]}, 3)
    assert layer.max_out_size == expected["max_out_size_list"]
    assert layer.use_dropout == expected["use_dropout_list"]
    above = documented("reference/layers.md", "method_list")
    assert layer.activation == above["activation_list"]
    assert layer.use_residual == above["use_residual_list"]
    assert layer.use_batch_norm == above["use_batch_normalisation_list"]
    assert layer.repair_std_deviation == above["repair_std_deviation_list"]


def test_the_transformer() -> None:
    expected = documented("how-to/dom_transformer.md", "size")
    settings = DomTransformerSettings()
    sizes = ("width", "num_layers", "num_heads", "hidden", "max_tokens")
    for name in sizes:
        assert getattr(settings, name) is None  # those of the size
    shape = [settings.shape.width, settings.shape.num_layers, settings.shape.num_heads]
    assert expected["width"].startswith(f"{', '.join(map(str, shape))}, {settings.shape.hidden} ·")
    assert expected["max_tokens"].startswith(f"{settings.shape.max_tokens} ·")
    others = set(expected) - {*sizes, "random_seed", "dtype"}
    for name in others:
        assert getattr(settings, name) == expected[name], name
    assert (settings.random_seed, settings.dtype) == (42, "float32")


def test_the_network_of_convolutions() -> None:
    """As the description of its settings tells them; without a key, nothing special is done."""
    blocks = ("conv_upper_deepcore", "conv_lower_deepcore", "conv_ic78", "fc", "fc_unc")
    settings = CNNSettings.from_kwargs({f"{block}_settings": {} for block in blocks})
    expected = {
        "min_uncertainty_values": (1e-6,),
        "max_uncertainty_values": None,
        "uncertainty_activation": "elu",
        "add_prediction_to_unc_input": False,
        "detach_uncertainty_input": False,
        "enforce_direction_norm": True,
        "legacy_direction_norm": False,
        "dir_z_independent": False,
        "limit_dir_vec": None,
        **dict.fromkeys(("keep_prob_dom", "keep_prob_conv", "keep_prob_flat", "keep_prob_fc"), 1),
        "random_seed": 42,
        "is_training": True,
        "dtype": "float32",
    }
    assert {name: getattr(settings, name) for name in expected} == expected


def test_augmentation_is_off() -> None:
    numbers = ("drop_doms", "noise_hits", "jitter_times", "scale_charges", "vary_charges")
    assert vars(Augmentation()) == {**dict.fromkeys(numbers, 0), "rotate_events": None}
