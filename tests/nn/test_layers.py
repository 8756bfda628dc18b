"""Layers against the golden activations and against slow, obvious versions."""

import itertools
import math

import network_golden
import numpy as np
import pytest
import torch

from dnn_reco.errors import ModelError
from dnn_reco.nn.layers import ConvLayers, FCLayers
from dnn_reco.nn.pooling import Pooling
from dnn_reco.nn.settings import PoolingSettings, parse_conv_settings, parse_fc_settings


def build(options, channels, shape, seed=1):
    settings = parse_conv_settings("test_settings", options, len(shape))
    generator = torch.Generator().manual_seed(seed)
    return ConvLayers("test", settings, channels, shape, 1.0, generator, torch.float64).eval()


def slow_pool(x, window, strides, kind):
    """SAME pooling of one event and channel [x, y, z], window by window."""
    lengths = [math.ceil(n / s) for n, s in zip(x.shape, strides, strict=True)]
    result = np.empty(lengths)
    for place in itertools.product(*map(range, lengths)):
        slices = []
        for n, k, s, out, i in zip(x.shape, window, strides, lengths, place, strict=True):
            before = max((out - 1) * s + k - n, 0) // 2
            start = i * s - before
            slices.append(slice(max(start, 0), start + k))
        cells = x[tuple(slices)]
        mean, top = cells.mean(), cells.max()
        result[place] = {"avg": mean, "max": top, "max_avg": (mean + top) / 2}[kind]
    return result


@pytest.mark.parametrize("kind", ["avg", "max", "max_avg"])
@pytest.mark.parametrize(
    ("window", "strides"), [((2, 2, 2), (2, 2, 2)), ((3, 2, 4), (1, 2, 3)), ((1, 1, 2), (1, 1, 1))]
)
def test_same_pooling(kind, window, strides):
    x = np.random.default_rng(1).normal(size=(5, 4, 7)) - 3
    settings = PoolingSettings(kind, window, strides, "SAME")
    pooling = Pooling(settings, x.shape, torch.float64)
    result = pooling(torch.tensor(x)[None, ..., None])[0, ..., 0]
    np.testing.assert_allclose(result, slow_pool(x, window, strides, kind))
    assert tuple(result.shape) == pooling.output_shape


def slow_convolution(x, taps, num_inputs, bias, shape, strides, dilation, padding):
    """Convolution [x, y, z, channel] tap by tap, cell by cell; `taps` maps offset to matrix."""
    kernel = [1 + max(offset[i] for offset in taps) for i in range(3)]
    axes = list(zip(x.shape, kernel, strides, dilation, strict=False))
    if padding == "SAME":
        out = [math.ceil(n / s) for n, _, s, _ in axes]
        before = [
            max((o - 1) * s + (k - 1) * d + 1 - n, 0) // 2
            for o, (n, k, s, d) in zip(out, axes, strict=True)
        ]
    else:
        out = [(n - (k - 1) * d - 1) // s + 1 for n, k, s, d in axes]
        before = [0, 0, 0]
    result = np.zeros((*out, len(bias)))
    for place in itertools.product(*map(range, out)):
        for offset, matrix in taps.items():
            source = tuple(
                p * s - w + o * d
                for p, w, o, (_, _, s, d) in zip(place, before, offset, axes, strict=True)
            )
            if all(0 <= i < n for i, n in zip(source, shape, strict=True)):
                result[place] += x[source] @ matrix
    return (result / math.sqrt(num_inputs) + bias) / math.sqrt(2)


@pytest.mark.parametrize(
    ("strides", "dilation", "padding"),
    [
        ((1, 1, 1), (1, 1, 1), "SAME"),
        ((2, 2, 3), (1, 1, 1), "SAME"),
        ((1, 1, 1), (1, 1, 2), "SAME"),
        ((1, 2, 1), (1, 1, 2), "VALID"),
    ],
)
@pytest.mark.parametrize("method", ["convolution", "hex_convolution"])
def test_convolution(method, strides, dilation, padding):
    shape = (4, 5, 6)
    options = {
        "filter_size_list": [[2, 3, 2] if method == "convolution" else [2, 0, 2]],
        "num_filters_list": [3],
        "method_list": method,
        "strides_list": [1, *strides, 1],
        "dilation_rate_list": list(dilation),
        "padding_list": padding,
        "activation_list": "",
    }
    layers = build(options, 2, shape)
    weight = layers[0].weight.detach().numpy()
    if method == "convolution":
        taps = {o: weight[o] for o in itertools.product(range(2), range(3), range(2))}
        num_inputs = 2 * 3 * 2 * 2
    else:
        cells = [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]
        taps = {(*cell, z): weight[i, z] for i, cell in enumerate(cells) for z in range(2)}
        num_inputs = (7 + 2) * 2
    x = np.random.default_rng(1).normal(size=(*shape, 2))
    bias = layers[0].bias.detach().numpy()
    expected = slow_convolution(x, taps, num_inputs, bias, shape, strides, dilation, padding)
    with torch.inference_mode():
        result = layers(torch.tensor(x)[None])[0]
    np.testing.assert_allclose(result, expected, rtol=1e-10, atol=1e-10)
    assert layers.num_outputs == expected.size


@pytest.mark.parametrize(("channels", "filters"), [(2, 4), (4, 2), (3, 3)])
def test_residual_adds_the_first_channels_of_the_input(channels, filters):
    options = {
        "filter_size_list": [[1, 1, 1]],
        "num_filters_list": [filters],
        "strides_list": [1, 1, 2, 1, 1],
        "activation_list": "tanh",
        "use_residual_list": True,
    }
    layers = build(options, channels, (2, 4, 3))
    layer = layers[0]
    torch.nn.init.normal_(layer.residual_scale)
    x = torch.randn(1, 2, 4, 3, channels, dtype=torch.float64)
    with torch.inference_mode():
        result = layers(x)
        product = x[:, :, ::2] @ layer.weight[0, 0, 0]
        y = ((product / math.sqrt(channels) + layer.bias) / math.sqrt(2)).tanh()
        expected = layer.residual_scale * y
        shared = min(channels, filters)
        expected[..., :shared] += x[:, :, ::2, :, :shared]
    torch.testing.assert_close(result, expected)


def golden_layer(golden_network, name, branch, layer):
    """One layer of a golden network and its input and output activations, channels last."""
    options = network_golden.model_kwargs(golden_network, name)[f"conv_{branch}_settings"]
    short = {"upper_deepcore": "upper", "ic78": "ic78"}[branch]
    outputs = np.load(golden_network / f"model_{name}_outputs.npz")
    weights = np.load(golden_network / f"model_{name}_weights.npz")
    prefix = f"{short}/{layer}/"
    arrays = {f"x/0/{k.removeprefix(prefix)}": weights[k] for k in weights if k.startswith(prefix)}
    parameters = network_golden.our_parameters(arrays)
    single = {
        key: [value[layer]] if isinstance(value, list) and len(value) > layer else value
        for key, value in options.items()
    }
    x = torch.tensor(outputs[f"act/{short}/{layer - 1}"])
    layers = build(single, x.shape[-1], tuple(x.shape[1:-1])).float()
    layers.load_state_dict({k.removeprefix("x."): v for k, v in parameters.items()})
    with torch.inference_mode():
        return layers(x).numpy(), outputs[f"act/{short}/{layer}"]


@pytest.mark.parametrize(
    ("name", "branch", "layer", "what"),
    [
        ("mixed", "upper_deepcore", 1, "even kernel, stride 2"),
        ("mixed", "ic78", 2, "hexagon of size 3, average pooling"),
        ("tilted10", "ic78", 1, "hexagon of size 4, dilation, maximum pooling"),
        ("tilted10", "ic78", 2, "plain convolution in 3D, stride 2, overlapping average pooling"),
    ],
)
def test_layer_options_equal_golden_activations(golden_network, name, branch, layer, what):
    result, expected = golden_layer(golden_network, name, branch, layer)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5, err_msg=what)


@pytest.mark.parametrize(("num_inputs", "size"), [(6, 4), (3, 5)])
def test_dense_layer(num_inputs, size):
    options = {"fc_sizes": [-1], "activation_list": "relu", "use_residual_list": [True]}
    generator = torch.Generator().manual_seed(1)
    settings = parse_fc_settings("fc_settings", options, size)
    layers = FCLayers(settings, num_inputs, 1.0, generator, torch.float64)
    layer = layers[0]
    x = torch.randn(7, num_inputs, dtype=torch.float64)
    y = ((x @ layer.weight / math.sqrt(num_inputs) + layer.bias) / math.sqrt(2)).relu()
    expected = layer.residual_scale * y
    shared = min(num_inputs, size)
    expected[:, :shared] += x[:, :shared]
    torch.testing.assert_close(layers(x), expected)


def test_initial_weights_are_normal_cut_at_two_sigma():
    options = {"num_filters_list": [50], "filter_size_list": [[9, 9]], "use_residual_list": True}
    layer = build(options, 50, (12, 12))[0]
    weight = layer.weight.detach()
    assert weight.abs().max() <= 2
    # standard deviation of the cut distribution: sqrt(1 - 4 φ(2) / (2 Φ(2) - 1))
    assert weight.std().item() == pytest.approx(0.8796, abs=0.005)
    assert weight.mean().item() == pytest.approx(0, abs=0.01)
    scale = layer.residual_scale.detach()
    assert 0 < scale.abs().max() <= 0.002


def test_lists_of_an_old_config_may_be_longer_than_the_number_of_layers():
    options = {
        "num_filters_list": [3, 3],
        "filter_size_list": [[1, 3]] * 5,
        "activation_list": ["elu", "relu", "tanh"],
        "strides_list": [[1, 1, 2, 1]] * 3,
    }
    settings = parse_conv_settings("old_settings", options, 2)
    assert [layer.strides for layer in settings] == [(1, 2), (1, 2)]


def test_flat_list_of_the_full_length_is_one_stride_for_all_layers():
    options = {
        "num_filters_list": [3, 3, 3, 3],
        "filter_size_list": [[1, 3]] * 4,
        "pooling_type_list": "avg",
        "pooling_strides_list": [1, 1, 2, 1],
        "pooling_ksize_list": [1, 1, 2, 1],
    }
    settings = parse_conv_settings("old_settings", options, 2)
    assert [layer.pooling.window for layer in settings] == [(1, 2)] * 4


BASE = {"num_filters_list": [3, 3], "filter_size_list": [[2, 0, 3], [2, 0, 3]]}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"use_batch_normalisation_list": [False, True]}, ["layer 2 of 2", "True"]),
        ({"hex_num_rotations_list": [1, 6]}, ["layer 2 of 2", "6"]),
        ({"hex_zero_out_list": True}, ["layer 1 of 2", "True"]),
        ({"filter_size_list": [[2, 0, 3], [3, 1, 3]]}, ["layer 2 of 2", "[3, 1, 3]"]),
        ({"method_list": "locally_connected"}, ["layer 1 of 2", "'locally_connected'"]),
        ({"activation_list": ["elu", "prelu"]}, ["layer 2 of 2", "'prelu'"]),
        ({"activation_list": "eluu"}, ["Did you mean 'elu'"]),
        ({"padding_list": "REFLECT"}, ["'REFLECT'", "SAME"]),
        ({"padding_list": "VALID", "use_residual_list": True}, ["use_residual_list"]),
        ({"pooling_type_list": ["avg"]}, ["1 entries", "2 layers"]),
        ({"pooling_type_list": "median"}, ["'median'", "max_avg"]),
        ({"filter_size_list": [[2, 0, 3]]}, ["1 entries", "2 layers"]),
        ({"filter_size_list": [[2, 0], [2, 0]]}, ["layer 1 of 2", "3 whole numbers"]),
        ({"num_filters_list": [3, 0]}, ["layer 2 of 2", "0"]),
        ({"strides_list": [2, 1, 1, 1, 1]}, ["begin and end with 1"]),
        ({"strides_list": 2}, ["layer 1 of 2", "5 whole numbers"]),
        ({"use_residual_list": "yes"}, ["'yes'"]),
        ({"pooling_typ_list": "avg"}, ["'pooling_typ_list'", "Did you mean 'pooling_type_list'"]),
    ],
)
def test_what_cannot_be_done_is_an_error_with_block_option_and_layer(changes, parts):
    options = {**BASE, "method_list": "hex_convolution", **changes}
    with pytest.raises(ModelError) as error:
        parse_conv_settings("conv_ic78_settings", options, 3)
    for part in ["conv_ic78_settings", *parts]:
        assert part in str(error.value)


def test_max_out_is_not_supported_yet():
    options = {"fc_sizes": [64, -1], "max_out_size_list": [8, None]}
    with pytest.raises(ModelError, match=r"fc_settings.max_out_size_list, layer 1 of 2: 8"):
        parse_fc_settings("fc_settings", options, 3)


def test_valid_kernel_larger_than_its_input():
    options = {"num_filters_list": [3], "filter_size_list": [[1, 9]], "padding_list": "VALID"}
    with pytest.raises(ModelError, match="layer 1 of 1: nothing is left"):
        build(options, 2, (1, 8))
