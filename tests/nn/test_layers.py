"""Layers against the golden activations and against slow, obvious versions."""

import itertools
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dnn_reco.errors import ModelError
from dnn_reco.nn.conv_layers import ConvLayers
from dnn_reco.nn.fc_layers import FCLayers
from dnn_reco.nn.pooling import Pooling
from dnn_reco.nn.settings import PoolingSettings, parse_conv_settings, parse_fc_settings


def build(options, channels, shape, seed=1):
    parsed = parse_conv_settings("test_settings", options, len(shape))
    generator = torch.Generator().manual_seed(seed)
    return ConvLayers("test", parsed, channels, shape, 1.0, generator, torch.float64).eval()


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
    x = np.random.default_rng(1).normal(size=(3, 5, 4, 7, 2)) - 3
    settings = PoolingSettings(kind, window, strides, "SAME")
    pooling = Pooling(settings, x.shape[1:4], torch.float64)
    result = pooling(torch.tensor(x))
    assert tuple(result.shape) == (3, *pooling.output_shape, 2)
    for event, channel in itertools.product(range(3), range(2)):
        expected = slow_pool(x[event, ..., channel], window, strides, kind)
        np.testing.assert_allclose(result[event, ..., channel], expected)


@pytest.mark.parametrize(("window", "strides"), [((3, 2), (1, 2)), ((2, 2), (2, 2))])
def test_valid_average_pooling_in_two_dimensions(window, strides):
    """Without padding each output is the mean over a whole window."""
    x = np.random.default_rng(4).normal(size=(2, 7, 6, 3))
    pooling = Pooling(PoolingSettings("avg", window, strides, "VALID"), (7, 6), torch.float64)
    result = pooling(torch.tensor(x)).numpy()
    assert result.shape[1:3] == tuple(
        (n - k) // s + 1 for n, k, s in zip((7, 6), window, strides, strict=True)
    )
    for i, j in itertools.product(*map(range, result.shape[1:3])):
        a, b = i * strides[0], j * strides[1]
        mean = x[:, a : a + window[0], b : b + window[1]].mean(axis=(1, 2))
        np.testing.assert_allclose(result[:, i, j], mean)


@pytest.mark.parametrize("events", [1, 3])
def test_same_pooling_of_any_number_of_events(events):
    pooling = Pooling(PoolingSettings("avg", (2, 2), (2, 2), "SAME"), (3, 3), torch.float32)
    assert torch.equal(pooling(torch.ones(events, 3, 3, 1)), torch.ones(events, 2, 2, 1))
    unpadded = Pooling(PoolingSettings("avg", (2, 2), (2, 2), "SAME"), (4, 4), torch.float32)
    assert torch.equal(unpadded(torch.ones(events, 4, 4, 1)), torch.ones(events, 2, 2, 1))


def slow_convolution(x, taps, num_inputs, bias, shape, strides, dilation, padding):
    """Convolution [x, y, z, channel] tap by tap, cell by cell.

    `taps` maps offset to matrix [in, out], or to one for each place; so does the bias.
    """
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
    result = np.zeros((*out, bias.shape[-1]))
    for place in itertools.product(*map(range, out)):
        for offset, matrix in taps.items():
            source = tuple(
                p * s - w + o * d
                for p, w, o, (_, _, s, d) in zip(place, before, offset, axes, strict=True)
            )
            if all(0 <= i < n for i, n in zip(source, shape, strict=True)):
                result[place] += x[source] @ (matrix[place] if matrix.ndim > 2 else matrix)
    return (result / math.sqrt(num_inputs) + bias) / math.sqrt(2)


def neighbours(steps, orientation):
    """Cells (a, b) of a hexagonal kernel, found step by step; tips as NETWORK.md lists them."""
    reached = {(0, 0)}
    for _ in range(steps):
        moves = [(0, 1), (1, 0), (1, -1), (0, -1), (-1, 0), (-1, 1)]
        reached |= {(a + da, b + db) for a, b in reached for da, db in moves}
    if orientation == 0:
        return sorted((a + steps, b + steps) for a, b in reached)
    s, o = steps + 1, orientation
    tips = [(2 * s - o, 0), (s - o, o), (0, s + o), (o, 2 * s), (s + o, 2 * s - o), (2 * s, s - o)]
    return sorted({(a + s, b + s) for a, b in reached} | set(tips))


@given(data=st.data())
@settings(max_examples=60)
def test_convolutions_of_all_kinds_equal_a_slow_loop(data):
    """Random sizes, strides, dilations and paddings, over all methods."""
    method = data.draw(st.sampled_from(["convolution", "hex_convolution", "locally_connected"]))
    padding = data.draw(st.sampled_from(["SAME", "VALID"]))
    shape = data.draw(st.tuples(st.integers(5, 7), st.integers(5, 7), st.integers(3, 6)))
    strides = data.draw(st.tuples(*[st.integers(1, 3)] * 3))
    dilation = (1, 1, 1)
    if method == "hex_convolution":
        size = data.draw(st.integers(1, 2))
        orientation = data.draw(st.integers(0, size - 1))
        length = data.draw(st.integers(1, 3))
        filter_size = [size, orientation, length]
    else:
        filter_size = data.draw(st.lists(st.integers(1, 3), min_size=3, max_size=3))
    if method != "locally_connected" and max(strides) == 1:
        dilation = data.draw(st.tuples(st.just(1), st.just(1), st.integers(1, 2)))
    assume(padding == "SAME" or (filter_size[2] - 1) * dilation[2] < shape[2])
    options = {
        "filter_size_list": [filter_size],
        "num_filters_list": [3],
        "method_list": method,
        "strides_list": [1, *strides, 1],
        "dilation_rate_list": list(dilation),
        "padding_list": padding,
        "activation_list": "",
    }
    layers = build(options, 2, shape)
    convolution = layers[0].convolution
    weight = convolution.weight.detach().numpy()
    bias = convolution.bias.detach().numpy()
    if method == "hex_convolution":
        cells = neighbours(size - 1, orientation)
        taps = {(*cell, z): weight[i, z] for i, cell in enumerate(cells) for z in range(length)}
        num_inputs = ({1: 1, 2: 7}[size] + length) * 2
    else:
        offsets = list(itertools.product(*map(range, filter_size)))
        num_inputs = len(offsets) * 2
        if method == "convolution":
            taps = {offset: weight[offset] for offset in offsets}
        else:
            # [positions, offset, channel in, channel out]
            by_position = weight.reshape(*bias.shape[:-1], len(offsets), 2, 3)
            taps = {offset: by_position[..., i, :, :] for i, offset in enumerate(offsets)}
    x = np.random.default_rng(1).normal(size=(*shape, 2))
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
        product = x[:, :, ::2] @ layer.convolution.weight[0, 0, 0]
        y = ((product / math.sqrt(channels) + layer.convolution.bias) / math.sqrt(2)).tanh()
        expected = layer.residual_scale * y
        shared = min(channels, filters)
        expected[..., :shared] += x[:, :, ::2, :, :shared]
    torch.testing.assert_close(result, expected)


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
    weight = layer.convolution.weight.detach()
    assert weight.abs().max() <= 2
    # standard deviation of the truncated distribution: sqrt(1 - 4 φ(2) / (2 Φ(2) - 1))
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
        ({"repair_std_deviation_list": [True, "no"]}, ["layer 2 of 2", "'no'"]),
        ({"hex_num_rotations_list": [1, 0]}, ["layer 2 of 2", "0"]),
        ({"hex_azimuth_list": 0.5}, ["layer 1 of 2", "0.5"]),
        (
            {"filter_size_list": [[2, 0, 3], [3, 3, 3]]},
            ["layer 2 of 2", "[3, 3, 3]", "smaller than"],
        ),
        ({"method_list": "local_trafo"}, ["layer 1 of 2", "'local_trafo'", "locally_connected"]),
        (
            {
                "method_list": "locally_connected",
                "filter_size_list": [[2, 2, 3]] * 2,
                "dilation_rate_list": [1, 1, 2],
            },
            ["layer 1 of 2", "dilation"],
        ),
        ({"activation_list": "eluu"}, ["Did you mean 'elu'"]),
        ({"padding_list": "REFLECT"}, ["'REFLECT'", "SAME"]),
        ({"pooling_type_list": ["avg"]}, ["1 entries", "2 layers"]),
        ({"pooling_type_list": "median"}, ["'median'", "max_avg"]),
        ({"filter_size_list": [[2, 0, 3]]}, ["1 entries", "2 layers"]),
        ({"filter_size_list": [[2, 0], [2, 0]]}, ["layer 1 of 2", "3 whole numbers"]),
        ({"num_filters_list": [3, 0]}, ["layer 2 of 2", "0"]),
        ({"strides_list": [2, 1, 1, 1, 1]}, ["begin and end with 1"]),
        ({"strides_list": 2}, ["layer 1 of 2", "5 whole numbers"]),
        ({"use_residual_list": "yes"}, ["'yes'"]),
        ({"num_filters_list": 3}, ["num_filters_list is 3", "a list, one size per layer"]),
        ({"num_filters_list": []}, ["num_filters_list is []", "a list, one size per layer"]),
        (
            {"filter_size_list": [[2, 2, 3]] * 2},
            ["layer 1 of 2", "[2, 2, 3]", "smaller than"],
        ),
        ({"filter_size_list": [[2, 1, 0]] * 2}, ["layer 1 of 2", "[2, 1, 0]", "at least 1"]),
        ({"method_list": "convolution", "filter_size_list": [[1, 0, 3]] * 2}, ["[1, 0, 3]"]),
        ({"pooling_typ_list": "avg"}, ["'pooling_typ_list'", "Did you mean 'pooling_type_list'"]),
    ],
)
def test_unsupported_options_name_block_option_and_layer(changes, parts):
    options = {**BASE, "method_list": "hex_convolution", **changes}
    with pytest.raises(ModelError) as error:
        parse_conv_settings("conv_ic78_settings", options, 3)
    for part in ["conv_ic78_settings", *parts]:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("max_out", "parts"),
    [
        ([7, None], ["layer 1 of 2", "64 nodes", "groups of 7"]),
        ([None, 3], ["layer 2 of 2", "one node for each label"]),
        ([True, None], ["layer 1 of 2", "True"]),
    ],
)
def test_maxout_groups_that_do_not_divide_the_nodes(max_out, parts):
    options = {"fc_sizes": [64, -1], "max_out_size_list": max_out}
    with pytest.raises(ModelError) as error:
        parse_fc_settings("fc_settings", options, 3)
    for part in ["fc_settings", "max_out_size_list", *parts]:
        assert part in str(error.value)


def test_input_that_cannot_be_added_to_the_output():
    options = {
        "num_filters_list": [3],
        "filter_size_list": [[1, 3]],
        "padding_list": "VALID",
        "use_residual_list": True,
    }
    with pytest.raises(ModelError, match=r"layer 1 of 1.*use_residual_list"):
        build(options, 2, (1, 8))
    build({**options, "filter_size_list": [[1, 1]]}, 2, (1, 8))  # nothing is cut off here


def test_valid_kernel_larger_than_its_input():
    options = {"num_filters_list": [3], "filter_size_list": [[1, 9]], "padding_list": "VALID"}
    with pytest.raises(ModelError, match="layer 1 of 1: its output is empty"):
        build(options, 2, (1, 8))


def test_hexagonal_kernels_need_three_axes():
    options = {**BASE, "method_list": "hex_convolution"}
    with pytest.raises(ModelError, match=r"needs the main array .*this input has 2.*'convolution'"):
        parse_conv_settings("conv_upper_deepcore_settings", options, 2)


@pytest.mark.parametrize(
    ("changes", "written"),
    [
        ({"num_filters_list": ["3"]}, "'num_filters_list' is '3' (text)"),
        ({"num_filters_list": [3.0]}, "'num_filters_list' is 3.0 (number)"),
        ({"filter_size_list": [[1.0, 3]]}, "'filter_size_list' is (1.0, 3)"),
        ({"strides_list": [1, 1, 2.0, 1]}, "'strides_list' is (1, 2.0)"),
        ({"dilation_rate_list": [1, "2"]}, "'dilation_rate_list' is (1, '2')"),
        (
            {"pooling_type_list": "avg", "pooling_ksize_list": [1, 1.0, 2, 1]},
            "'pooling_ksize_list' is (1.0, 2)",
        ),
        ({"repair_std_deviation_list": 2}, "'repair_std_deviation_list' is 2"),
    ],
)
def test_sizes_are_whole_numbers_and_nothing_is_converted(changes, written):
    options = {"num_filters_list": [3], "filter_size_list": [[1, 3]], **changes}
    with pytest.raises(ModelError, match=re.escape(f"a, layer 1 of 1: {written}")):
        parse_conv_settings("a", options, 2)


@pytest.mark.parametrize(
    ("changes", "written"),
    [
        ({"fc_sizes": ["8", -1]}, "'fc_sizes' is '8' (text)"),
        ({"fc_sizes": [8.0, -1]}, "'fc_sizes' is 8.0 (number)"),
        ({"fc_sizes": [True, -1]}, "'fc_sizes' is True"),
        ({"max_out_size_list": ["2", None]}, "'max_out_size_list' is '2' (text)"),
        ({"activation_list": 5}, "'activation_list' is 5 (number)"),
    ],
)
def test_nodes_are_whole_numbers_and_nothing_is_converted(changes, written):
    with pytest.raises(ModelError, match=re.escape(f"a, layer 1 of 2: {written}")):
        parse_fc_settings("a", {"fc_sizes": [8, -1], **changes}, 3)
