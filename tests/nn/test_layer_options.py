"""Batch normalisation, max-out, activations with weights, rotations and cells without a string."""

import math

import numpy as np
import pytest
import torch

from dnn_reco.detector.grid import STRING_CELL
from dnn_reco.errors import ModelError
from dnn_reco.nn.activations import ACTIVATIONS, make_activation
from dnn_reco.nn.batch_norm import BatchNorm
from dnn_reco.nn.conv_layers import ConvLayers
from dnn_reco.nn.fc_layers import FCLayers
from dnn_reco.nn.settings import parse_conv_settings, parse_fc_settings


def conv_layers(options, channels, shape):
    parsed = parse_conv_settings("conv_ic78_settings", options, len(shape))
    generator = torch.Generator().manual_seed(1)
    return ConvLayers("conv_ic78_settings", parsed, channels, shape, 1.0, generator, torch.float64)


def fc_layers(options, num_inputs, num_outputs):
    parsed = parse_fc_settings("fc_settings", options, num_outputs)
    generator = torch.Generator().manual_seed(1)
    return FCLayers(parsed, num_inputs, 1.0, generator, torch.float64)


HEXAGON = {"method_list": "hex_convolution", "num_filters_list": [2], "activation_list": "tanh"}


@pytest.mark.parametrize(("size", "orientation"), [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2), (4, 0)])
def test_rotating_the_input_by_60_degrees_rotates_the_output(size, orientation):
    """With equal weights from channel to channel, rotation r + 1 gives the rotated output of r."""
    options = {
        **HEXAGON,
        "filter_size_list": [[size, orientation, 2]],
        "hex_num_rotations_list": [6],
        "hex_zero_out_list": [True],
    }
    width, radius = 9, 4
    layers = conv_layers(options, 3, (width, width, 4))
    in_out = layers[0].convolution.in_out
    cells = [
        (a, b)
        for a in range(-radius, radius + 1)
        for b in range(-radius, radius + 1)
        if abs(a + b) <= radius
    ]
    x, rotated = torch.zeros(2, 1, width, width, 4, 3, dtype=torch.float64)
    for a, b in cells:
        x[0, a + radius, b + radius] = torch.randn(4, 3, dtype=torch.float64)
        # (a, b) -> (a + b, -a) is a rotation by 60 degrees
        rotated[0, a + b + radius, -a + radius] = x[0, a + radius, b + radius]
    with torch.no_grad():
        in_out.copy_(in_out[:1].expand_as(in_out))
        layers[0].convolution.bias.fill_(0.3)
        y, y_rotated = (layers(each)[0].unflatten(-1, (6, 2)).numpy() for each in (x, rotated))
    for a, b in cells:
        before = y[a + radius, b + radius]
        after = y_rotated[a + b + radius, -a + radius]
        np.testing.assert_allclose(np.roll(after, -1, axis=1), before, atol=1e-12)
        assert np.abs(before).max() > 0


def test_cells_without_a_string_get_the_bias_alone():
    options = {**HEXAGON, "filter_size_list": [[2, 0, 3]], "hex_zero_out_list": True}
    layers = conv_layers(options, 2, (10, 10, 5))
    x = torch.randn(1, 10, 10, 5, 2, dtype=torch.float64)
    with torch.no_grad():
        y = layers(x)[0].numpy()
        plain = conv_layers({**options, "hex_zero_out_list": False}, 2, (10, 10, 5))(x)[0].numpy()
        bias = np.tanh(layers[0].convolution.bias.numpy() / math.sqrt(2))
    has_string = np.zeros((10, 10), dtype=bool)
    has_string[tuple(STRING_CELL.T)] = True
    assert has_string.sum() == 78
    np.testing.assert_allclose(y[has_string], plain[has_string])
    np.testing.assert_allclose(y[~has_string], np.broadcast_to(bias, (22, 5, 2)))


def test_zero_out_needs_a_grid_whose_strings_are_known():
    options = {**HEXAGON, "filter_size_list": [[2, 0, 3]], "hex_zero_out_list": True}
    with pytest.raises(ModelError, match=r"conv_ic78_settings, layer 1 of 1.*\[6, 6\]"):
        conv_layers(options, 2, (6, 6, 5))


def test_batch_normalisation_has_separate_statistics_at_each_position():
    norm = BatchNorm((3, 2), torch.float64)
    with torch.no_grad():
        norm.scale.copy_(torch.rand(3, 2) + 0.5)
        norm.beta.copy_(torch.randn(3, 2))
    x = torch.randn(50, 2, 3, dtype=torch.float64) * 3 + 1  # [B, C, position]
    y = norm.train()(x)
    torch.testing.assert_close(y.mean(dim=0), norm.beta.T)
    torch.testing.assert_close(y.std(dim=0, correction=0), norm.scale.T, rtol=1e-5, atol=0)
    torch.testing.assert_close(norm.pop_mean, 0.01 * x.mean(dim=0).T)
    torch.testing.assert_close(norm.pop_var, 0.99 + 0.01 * x.var(dim=0, correction=0).T)
    expected = (x - norm.pop_mean.T) / (norm.pop_var.T + 1e-6).sqrt() * norm.scale.T + norm.beta.T
    before = norm.pop_mean.clone()
    torch.testing.assert_close(norm.eval()(x), expected)
    assert torch.equal(norm.pop_mean, before)


def test_training_does_not_touch_statistics_in_evaluation_and_keeps_them_in_its_state():
    options = {
        "num_filters_list": [2],
        "filter_size_list": [[1, 3]],
        "use_batch_normalisation_list": True,
    }
    layers = conv_layers(options, 2, (1, 6))
    assert {"0.bn.pop_mean", "0.bn.pop_var"} <= set(layers.state_dict())
    x = torch.randn(8, 1, 6, 2, dtype=torch.float64)
    layers.train()(x)
    state = {name: value.clone() for name, value in layers.state_dict().items()}
    layers.eval()(x)
    assert all(torch.equal(value, state[name]) for name, value in layers.state_dict().items())


@pytest.mark.parametrize(
    ("num_inputs", "added"),
    # equally spaced inputs, as many as there are outputs; zeros where there are fewer inputs
    [(7, [0, 2, 4]), (5, [0, 1, 2]), (3, [0, 1, 2]), (2, [0, 1, None]), (1, [0, None, None])],
)
def test_max_out_is_the_largest_of_each_group(num_inputs, added):
    options = {
        "fc_sizes": [6, -1],
        "max_out_size_list": [2, None],
        "activation_list": "",
        "use_residual_list": [True, False],
    }
    layers = fc_layers(options, num_inputs, 4)
    layer = layers[0]
    x = torch.randn(5, num_inputs, dtype=torch.float64)
    nodes = (x @ layer.weight / math.sqrt(num_inputs) + layer.bias) / math.sqrt(2)
    largest = torch.stack([torch.maximum(nodes[:, j], nodes[:, j + 3]) for j in range(3)], dim=1)
    zeros = torch.zeros(5, dtype=torch.float64)
    shortcut = torch.stack([zeros if i is None else x[:, i] for i in added], dim=1)
    expected = shortcut + layer.residual_scale * largest
    torch.testing.assert_close(layer(x), expected)
    assert layers(x).shape == (5, 4)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("prelu", lambda x, w: x if x >= 0 else x * (w + 1)),
        ("pelu", lambda x, w: x if x >= 0 else (w + 1) * (math.exp(x / (w + 1)) - 1)),
        ("pgaussian", lambda x, w: math.exp(-(((x - w) / (w + 1)) ** 2) / 2) / (w + 1)),
        ("requ", lambda x, _: x * x if x >= 0 else 0),
        ("centeredRelu", lambda x, _: min(max(x, 0), 6) - 3),
        ("negrelu", lambda x, _: -max(x, 0)),
        ("invrelu", lambda x, _: x if x < 0 else 1 / (x + 1e-8)),
        ("leaky", lambda x, _: x if x >= 0 else 0.01 * x),
        ("leaky_relu", lambda x, _: x if x >= 0 else 0.2 * x),
        ("gaussian", lambda x, _: math.exp(-x * x)),
    ],
)
def test_activations_follow_their_formula(name, formula):
    x = [-50.0, -1.5, -0.1, 0.0, 0.3, 2.0, 7.0]
    weight = 0.25
    act = make_activation(
        name, lambda std: torch.nn.Parameter(torch.full((1,), weight, dtype=torch.float64))
    )
    values = torch.tensor(x, dtype=torch.float64)[:, None]
    result = act(values.clone()).flatten().tolist()
    assert result == pytest.approx([formula(each, weight) for each in x])


# Without finite values or slopes everywhere, by their definition.
UNBOUNDED = {"exp", "expm1", "cosh", "sinh", "acos", "acosh", "asin", "atanh", "lgamma"}
UNBOUNDED |= {"log", "log1p", "rsqrt", "sqrt"}


@pytest.mark.parametrize("name", sorted({*ACTIVATIONS, "prelu", "pelu", "pgaussian"} - UNBOUNDED))
def test_activations_have_finite_gradients_far_out(name):
    act = make_activation(
        name,
        lambda std: torch.nn.Parameter(torch.full((1,), 0.1, dtype=torch.float64)),
    )
    x = torch.tensor([-1e3, -1.0, 1e-3, 1.0, 1e3], dtype=torch.float64, requires_grad=True)
    parameters = list(act.parameters()) if isinstance(act, torch.nn.Module) else []
    # in place functions must not overwrite a leaf
    gradients = torch.autograd.grad(act((x * 1)[:, None]).sum(), [x, *parameters])
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_activations_have_separate_weights_at_each_position():
    options = {"num_filters_list": [2], "filter_size_list": [[1, 3]], "activation_list": "prelu"}
    layer = conv_layers(options, 3, (1, 6))[0]
    assert layer.act.slope_weight.shape == (1, 6, 2)
    x = torch.randn(4, 1, 6, 3, dtype=torch.float64)
    before = layer(x)
    with torch.no_grad():
        layer.act.slope_weight[0, 5, 1] += 1
    changed = (layer(x) != before).any(dim=0)
    assert changed.nonzero().tolist() in ([[0, 5, 1]], [])
    assert (before[:, 0, 5, 1] < 0).any() == changed[0, 5, 1]


@pytest.mark.parametrize(("shape", "channels"), [((1, 12), 3), ((4, 4, 6), 3)])
def test_locally_connected_layers_have_separate_kernels_at_each_position(shape, channels):
    options = {
        "num_filters_list": [2],
        "filter_size_list": [[1] * (len(shape) - 1) + [3]],
        "method_list": "locally_connected",
        "activation_list": "",
    }
    layer = conv_layers(options, channels, shape)[0]
    x = torch.randn(2, *shape, channels, dtype=torch.float64)
    before = layer(x)
    with torch.no_grad():
        layer.convolution.weight[0] += 1
    changed = (layer(x) != before).any(dim=-1).any(dim=0)
    assert changed.nonzero().tolist() == [[0] * len(shape)]


@pytest.mark.parametrize("method", ["convolution", "hex_convolution", "locally_connected"])
def test_convolution_without_repaired_standard_deviation(method):
    options = {
        "method_list": method,
        "num_filters_list": [3],
        "filter_size_list": [[1, 0 if method == "hex_convolution" else 1, 1]],
        "activation_list": "",
        "repair_std_deviation_list": False,
    }
    layers = conv_layers(options, 4, (2, 2, 2))
    parameters = dict(layers[0].convolution.named_parameters())
    bias = parameters.pop("bias").detach().numpy()
    (weight,) = parameters.values()
    weight = weight.detach().numpy().reshape(-1, 4, 3)  # one for all positions, or for each
    x = np.random.default_rng(1).normal(size=(5, 2, 2, 2, 4))
    by_position = x.reshape(5, 8, 4)
    wanted = np.einsum("bpi,pio->bpo", by_position, np.broadcast_to(weight, (8, 4, 3)))
    wanted = wanted.reshape(5, 2, 2, 2, 3) + bias
    with torch.no_grad():
        np.testing.assert_allclose(layers(torch.from_numpy(x)).numpy(), wanted, rtol=1e-12)


def test_dense_layer_without_repaired_standard_deviation():
    layers = fc_layers(
        {"fc_sizes": [3], "activation_list": "", "repair_std_deviation_list": [False]}, 4, 3
    )
    x = np.random.default_rng(1).normal(size=(5, 4))
    weight, bias = (each.detach().numpy() for each in (layers[0].weight, layers[0].bias))
    with torch.no_grad():
        np.testing.assert_allclose(layers(torch.from_numpy(x)).numpy(), x @ weight + bias)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        *((name, getattr(np, name)) for name in ("ceil", "expm1", "floor", "log1p", "rint")),
        *((name, getattr(np, name)) for name in ("cosh", "negative", "reciprocal", "sinh")),
        *((name, getattr(np, name)) for name in ("log", "round", "sqrt", "tan")),
        *((f"a{name}", getattr(np, f"arc{name}")) for name in ("cos", "sin", "sinh", "tan")),
        ("atanh", np.arctanh),
        ("erf", np.vectorize(math.erf)),
        ("erfc", np.vectorize(math.erfc)),
        ("lgamma", np.vectorize(math.lgamma)),
        ("log_sigmoid", lambda x: -np.log1p(np.exp(-x))),
        ("rsqrt", lambda x: x**-0.5),
        ("softmax", lambda x: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)),
        ("log_softmax", lambda x: x - np.log(np.exp(x).sum(axis=1, keepdims=True))),
    ],
)
def test_activations_by_the_names_of_tensorflow(name, function):
    x = np.random.default_rng(1).uniform(0.1, 0.9, size=(4, 3, 2))
    activation = make_activation(name, None)
    np.testing.assert_allclose(activation(torch.from_numpy(x)).numpy(), function(x), rtol=1e-12)
