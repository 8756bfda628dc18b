"""Order, names and shapes of the reference's variables, and what becomes of them."""

import json
from pathlib import Path
from typing import Any

import network_golden
import numpy as np
import pytest
import torch

from dnn_reco.errors import ModelError
from dnn_reco.tf_import.variables import (
    ReferenceVariable,
    check_variables,
    loss_variables,
    network_variables,
    our_parameters,
)

MODELS = ["base", "base_strong", "dirnorm", "mixed", "tilted10"]


def variables_of(folder: Path, name: str) -> tuple[list[ReferenceVariable], dict[str, Any]]:
    """The variables derived from the shapes of our parameters, and what the reference says.

    The parameters are in an order of their own.
    """
    weights = dict(np.load(folder / f"model_{name}_weights.npz"))
    ours = network_golden.parameters(dict(sorted(weights.items(), reverse=True)))
    variables = network_variables({key: tuple(tensor.shape) for key, tensor in ours.items()})
    return variables, json.loads((folder / f"model_{name}_meta.json").read_text())


def with_counted_cells(keys: list[str]) -> list[str]:
    """Keys of hexagonal kernels by count within their layer instead of by cell."""
    counts: dict[str, int] = {}
    result = []
    for key in keys:
        layer, _, kind = key.rpartition("/")
        if kind.startswith("hexcell_"):
            counts[layer] = counts.get(layer, -1) + 1
            key = f"{layer}/hexcell_{counts[layer]:02d}"
        result.append(key)
    return result


@pytest.mark.parametrize("name", MODELS)
def test_order_of_trainable_variables(golden_network: Path, name: str) -> None:
    variables, meta = variables_of(golden_network, name)
    order = meta["vars_pred_order"] + meta["vars_unc_order"]
    trainable = [variable.key for variable in variables if "bn_pop" not in variable.key]
    assert trainable == with_counted_cells(order)
    assert [variable.key for variable in variables[: len(order)]] == trainable


@pytest.mark.parametrize("name", MODELS)
def test_shapes_and_names(golden_network: Path, name: str) -> None:
    variables, meta = variables_of(golden_network, name)
    listed = [variable for variable in meta["variables"] if "/" in variable["key"]]
    keys = with_counted_cells([variable["key"] for variable in listed])
    known = dict(zip(keys, listed, strict=True))
    assert {variable.key for variable in variables} == set(known)
    for variable in variables:
        assert list(variable.shape) == known[variable.key]["shape"]
        assert variable.matches_name(known[variable.key]["tf_name"])


def test_names_distinguish_layers_and_kinds() -> None:
    shapes = {
        "ic78.2.convolution.bias": (5,),
        "ic78.2.convolution.weight": (7, 3, 5, 5),
        "ic78.2.residual_scale": (5,),
    }
    bias, first_cell, *_, scale = network_variables(shapes)
    assert bias.matches_name("GeneralIC86CNN__ic78_002_biases")
    assert not bias.matches_name("GeneralIC86CNN__ic78_003_biases")
    assert not bias.matches_name("GeneralIC86CNN__fc_002_biases")
    assert not bias.matches_name("weights")
    assert not scale.matches_name("GeneralIC86CNN__ic78_002_biases")
    assert not first_cell.matches_name("weights")


def test_variables_of_the_loss() -> None:
    assert [v.key for v in loss_variables(3, True, False)] == ["label_weights"]
    assert [v.key for v in loss_variables(3, True, True)] == ["label_weights", "median_abs_dev"]
    assert loss_variables(3, False, False) == []
    assert loss_variables(3, True, False)[0].shape == (3,)


def test_statistics_of_batch_norm_come_last() -> None:
    parts = {"bias": (4,), "weight": (1, 3, 2, 4), "bn.scale": (1, 9, 4), "bn.beta": (1, 9, 4)}
    parts |= {"bn.pop_var": (1, 9, 4), "bn.pop_mean": (1, 9, 4)}
    shapes = {f"{where}.{part}": s for where in ("upper.0", "lower.0") for part, s in parts.items()}
    assert [variable.key for variable in network_variables(shapes)] == [
        *("upper/0/biases", "upper/0/weights", "upper/0/bn_beta", "upper/0/bn_scale"),
        *("lower/0/biases", "lower/0/weights", "lower/0/bn_beta", "lower/0/bn_scale"),
        *("lower/0/bn_pop_mean", "lower/0/bn_pop_var"),
        *("upper/0/bn_pop_mean", "upper/0/bn_pop_var"),
    ]


def test_layers_come_by_number() -> None:
    shapes = {f"fc.{number}.bias": (1,) for number in range(12)}
    shapes |= {f"fc.{number}.weight": (1, 1) for number in range(12)}
    keys = [variable.key for variable in network_variables(dict(sorted(shapes.items())))]
    assert keys[::2] == [f"fc/{number}/biases" for number in range(12)]


def test_kernels_of_many_variables_become_one() -> None:
    arrays = {
        f"ic78/0/hexcell_{a}_{b}": np.full((2, 1, 1), 10 * a + b)
        for a, b in [(10, 0), (0, 1), (0, 10), (2, 0), (0, 2)]
    }
    arrays |= {f"ic78/1/rotvar_{place:02d}": np.full(3, place) for place in range(11)}
    arrays["ic78/1/rotvar_11"] = np.zeros((6, 4, 5))
    ours = our_parameters(arrays)
    assert ours["ic78.0.convolution.weight"].shape == (5, 2, 1, 1)
    assert ours["ic78.0.convolution.weight"][:, 0, 0, 0].tolist() == [1, 2, 10, 20, 100]
    assert ours["ic78.1.convolution.spatial"][:, 0].tolist() == list(range(11))
    assert torch.equal(ours["ic78.1.convolution.in_out"], torch.zeros(6, 4, 5, dtype=torch.float64))


@pytest.mark.parametrize("name", ["ic78.0.act.other_weight", "attention.0.weight", "temperature"])
def test_parameters_without_counterpart_are_named(name: str) -> None:
    with pytest.raises(ModelError, match=f"'{name}' of the network has no counterpart"):
        network_variables({name: (1,)})


def test_missing_statistics_of_batch_norm_are_reported() -> None:
    parts = {"bias": (4,), "weight": (3, 4), "bn.scale": (4,), "bn.beta": (4,)}
    parts |= {"bn.pop_mean": (4,), "bn.pop_var": (4,)}
    expected = network_variables({f"fc.0.{part}": shape for part, shape in parts.items()})
    names = ["M__fc_000_biases", "M__fc_000_weights", "BN_beta", "BN_scale"]
    found = [(name, v.shape) for name, v in zip(names, expected, strict=False)]
    statistics = [("BN_pop_mean", (4,)), ("BN_pop_var", (4,))]
    check_variables(found + statistics, expected)
    with pytest.raises(ModelError, match=r"has no means and variances .*fc/0/bn_pop_mean and 1"):
        check_variables(found, expected)
    with pytest.raises(ModelError, match="it has 3 variables, the network 6"):
        check_variables(found[:3], expected)
    with pytest.raises(ModelError, match="it has 7 variables, the network 6"):
        check_variables([*found, *statistics, ("BN_pop_var", (4,))], expected)
    with pytest.raises(ModelError, match=r"variable 4 is 'BN_pop_var' .* 'fc/0/bn_pop_mean'"):
        check_variables(found + statistics[::-1], expected)


def test_kernels_of_a_strange_shape_are_refused() -> None:
    shapes = {"fc.0.weight": (1,) * 7, "fc.0.bias": (1,)}
    with pytest.raises(ModelError, match=r"kernels of shape \[1, 1, 1, 1, 1, 1, 1\] have no count"):
        network_variables(shapes)
