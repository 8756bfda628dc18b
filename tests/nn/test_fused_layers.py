"""Fused layers against PyTorch's own operations in float64, and for any number of threads."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dnn_reco.errors import ModelError
from dnn_reco.nn import conv_layers, fused_layers, threads
from dnn_reco.nn.conv_layers import ConvLayers
from dnn_reco.nn.fused_layers import FusedLayer, LayerWeights, apply_fused
from dnn_reco.nn.settings import parse_conv_settings

pytest.importorskip("numba")

HEXAGON = [(-1, 0), (-1, 1), (0, -1), (0, 0), (0, 1), (1, -1), (1, 0)]


@dataclass(frozen=True)
class Case:
    """A layer: lengths of the axes, channels, cells and taps of the kernel, and what follows it."""

    shape: tuple[int, ...]
    num_inputs: int
    num_outputs: int
    cells: Sequence[tuple[int, ...]]
    taps: int
    elu: bool
    residual: bool
    window: tuple[int, ...]

    @property
    def layer(self) -> FusedLayer:
        return FusedLayer(self.shape, self.cells, self.taps, self.elu, self.residual, self.window)


FIRST = Case((10, 10, 60), 9, 5, HEXAGON, 3, True, True, (1, 1, 2))
CASES = [
    FIRST,
    Case((5, 5, 15), 5, 10, HEXAGON, 3, True, True, (2, 2, 2)),  # incomplete windows
    Case((10, 10, 30), 3, 7, HEXAGON, 1, False, False, (1, 1, 1)),
    Case((4, 6, 9), 2, 2, HEXAGON, 5, True, False, (1, 2, 1)),
    Case((4, 6, 9), 7, 12, HEXAGON, 7, True, True, (3, 2, 4)),
    Case(
        (3, 3, 8), 6, 4, [(a, b) for a in (-2, 0, 2) for b in (-1, 0, 1)], 3, True, True, (1, 1, 3)
    ),
    Case((1, 50), 72, 5, [(0,)], 3, True, True, (1, 2)),
    Case((6, 7), 3, 6, [(-1,), (0,), (1,)], 1, False, True, (2, 1)),
]


@pytest.fixture
def restored_threads() -> Iterator[None]:
    """The number of threads is the same afterwards."""
    number = torch.get_num_threads()
    yield
    threads._number = None
    torch.set_num_threads(number)


def tensors(case: Case, num_events: int = 3, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Input [B, …, C in], kernel, bias and scale of a case."""
    generator = torch.Generator().manual_seed(1)
    shapes = (
        (num_events, *case.shape, case.num_inputs),
        (len(case.cells), case.taps, case.num_inputs, case.num_outputs),
        (case.num_outputs,),
        (case.num_outputs,),
    )
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in shapes
    ]


def plain(case: Case, x: Tensor, kernel: Tensor, bias: Tensor, scale: Tensor) -> Tensor:
    """The layer by PyTorch's convolution, on three axes."""
    shape, cells, window = (
        (1,) * (3 - len(case.shape)) + case.shape,
        [(0,) * (2 - len(cell)) + cell for cell in case.cells],
        (1,) * (3 - len(case.window)) + case.window,
    )
    x = x.movedim(-1, 1).reshape(len(x), case.num_inputs, *shape)
    reach = [max(abs(cell[axis]) for cell in cells) for axis in (0, 1)]
    square = kernel.new_zeros(*(2 * r + 1 for r in reach), *kernel.shape[1:])
    for cell, weights in zip(cells, kernel, strict=True):
        square[cell[0] + reach[0], cell[1] + reach[1]] = weights
    padding = (*reach, case.taps // 2)
    y = functional.conv3d(x, square.permute(4, 3, 0, 1, 2), bias, padding=padding)
    if case.elu:
        y = functional.elu(y)
    if case.residual:
        shared = min(case.num_inputs, case.num_outputs)
        y = y * scale[:, None, None, None]
        y = torch.cat([y[:, :shared] + x[:, :shared], y[:, shared:]], dim=1)
    y = functional.avg_pool3d(y, window, ceil_mode=True, count_include_pad=False)
    return y.flatten(2, 3) if len(case.shape) == 2 and y.shape[2] == 1 else y


def fused(case: Case, x: Tensor, kernel: Tensor, bias: Tensor, scale: Tensor) -> Tensor:
    weights = LayerWeights(kernel, bias, scale if case.residual else None)
    return apply_fused([x], [[(case.layer, weights)]])[0]


def assert_close(result: Tensor, expected: Tensor) -> None:
    """Equal to within the rounding errors of float32."""
    scale = float(expected.detach().abs().max())
    difference = float((result.detach().double() - expected.detach()).abs().max())
    assert result.shape == expected.shape
    assert difference < 3e-6 * scale


@pytest.mark.parametrize("case", CASES, ids=str)
def test_output_and_gradients_are_those_of_plain_operations(case: Case) -> None:
    inputs = tensors(case)
    used = inputs if case.residual else inputs[:3]
    y = plain(case, *inputs)
    gradient = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)
    expected = torch.autograd.grad(y, used, gradient)
    single = [each.detach().float().requires_grad_() for each in inputs]
    z = fused(case, *single)
    assert_close(z, y)
    results = torch.autograd.grad(z, single[: len(used)], gradient.float())
    for result, of_plain in zip(results, expected, strict=True):
        assert_close(result, of_plain)


def test_prediction_without_gradients_is_the_same() -> None:
    inputs = tensors(FIRST, num_events=11, dtype=torch.float32)
    with torch.inference_mode():
        assert torch.equal(fused(FIRST, *inputs), fused(FIRST, *inputs[:3], inputs[3] + 0))
        predicted = fused(FIRST, *inputs)
    assert torch.equal(predicted, fused(FIRST, *inputs).detach())


def test_stack_is_the_layers_one_after_another() -> None:
    second = replace(FIRST, shape=(10, 10, 30), num_inputs=5, num_outputs=4, window=(2, 2, 2))
    x, *first_weights = tensors(FIRST)
    _, *second_weights = tensors(second)
    y = plain(second, plain(FIRST, x, *first_weights).movedim(1, -1), *second_weights)
    expected = torch.autograd.grad(y.square().sum(), [x, *first_weights, *second_weights])
    single = [
        each.detach().float().requires_grad_() for each in (x, *first_weights, *second_weights)
    ]
    layers = [
        (FIRST.layer, LayerWeights(*single[1:4])),
        (second.layer, LayerWeights(*single[4:])),
    ]
    (z,) = apply_fused([single[0]], [layers])
    assert_close(z, y)
    for result, of_plain in zip(
        torch.autograd.grad(z.square().sum(), single), expected, strict=True
    ):
        assert_close(result, of_plain)


@pytest.mark.usefixtures("restored_threads")
def test_results_do_not_depend_on_the_number_of_threads() -> None:
    inputs = tensors(FIRST, num_events=29, dtype=torch.float32)

    def compute(number: int) -> list[Tensor]:
        threads.use_threads(number, in_pieces=True)
        y = fused(FIRST, *inputs)
        return [y, *torch.autograd.grad(y.square().sum(), inputs)]

    single = compute(1)
    for number in (2, 3, 4):
        for result, expected in zip(compute(number), single, strict=True):
            assert torch.equal(result, expected)


def test_input_may_be_a_part_of_a_larger_tensor() -> None:
    x, *weights = tensors(CASES[6], num_events=4, dtype=torch.float32)
    larger = torch.full((4, 1, 70, 72), torch.nan)
    larger[:, :, 13:63] = x.detach()
    part = larger[:, :, 13:63]
    assert torch.equal(fused(CASES[6], part, *weights), fused(CASES[6], x, *weights))


def test_activation_is_as_exact_as_float32_allows() -> None:
    """Relative error of exp(x) - 1 close to 0, in between, and far below."""
    x = -np.concatenate([np.geomspace(1e-12, 1, 4000), np.linspace(1, 120, 4000)])
    values = torch.tensor(x, dtype=torch.float32).reshape(1, 1, -1, 1)
    layer = FusedLayer(values.shape[1:3], [(0,)], 1, elu=True, residual=False, window=(1, 1))
    weights = LayerWeights(torch.ones(1, 1, 1, 1), torch.zeros(1), None)
    result = apply_fused([values], [[(layer, weights)]])[0].double().numpy().ravel()
    expected = np.expm1(values.double().numpy().ravel())
    assert np.abs(result / expected - 1).max() < 3e-7


BLOCKS = {
    "rotated, maximum": {
        "filter_size_list": [[2, 0, 3], [3, 1, 3]],
        "num_filters_list": [2, 1],
        "method_list": "hex_convolution",
        "hex_num_rotations_list": [6, 3],
        "pooling_type_list": ["max", "max_avg"],
        "activation_list": ["elu", ""],
        "use_residual_list": True,
    },
    "normalised, other activations": {
        "filter_size_list": [[3, 3, 3], [1, 3, 1]],
        "num_filters_list": [4, 5],
        "use_batch_normalisation_list": [True, False],
        "activation_list": ["elu", "tanh"],
        "use_residual_list": [False, True],
        "pooling_type_list": ["avg", False],
    },
    "strides, even kernels": {
        "filter_size_list": [[2, 0, 2], [2, 0, 3], [2, 0, 3]],
        "num_filters_list": [4, 5, 3],
        "method_list": "hex_convolution",
        "strides_list": [[1, 1, 1, 1, 1], [1, 1, 1, 2, 1], [1, 1, 1, 1, 1]],
        "pooling_type_list": [False, False, "avg"],
        "pooling_ksize_list": [1, 3, 3, 3, 1],
        "pooling_strides_list": [1, 3, 3, 2, 1],
    },
}


@pytest.mark.parametrize("name", list(BLOCKS))
def test_layers_that_are_fused_in_part_agree_with_plain_ones(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = parse_conv_settings("conv_ic78_settings", BLOCKS[name], 3)
    layers = ConvLayers(
        *("conv_ic78_settings", settings, 3, (8, 7, 12), 1.0),
        *(torch.Generator().manual_seed(1), torch.float32),
    )
    for layer in layers:
        if layer.residual_scale is not None:
            torch.nn.init.constant_(layer.residual_scale, 0.7)
    x = torch.randn(4, 8, 7, 12, 3, generator=torch.Generator().manual_seed(2))
    results = []
    for accepted in (fused_layers.accepts, lambda x: False):
        monkeypatch.setattr(conv_layers, "accepts", accepted)
        layers.zero_grad()
        y = layers(x)
        y.square().sum().backward()
        results.append([y, *(each.grad for each in layers.parameters())])
    for fused_result, plain_result in zip(*results, strict=True):
        torch.testing.assert_close(fused_result, plain_result, rtol=1e-4, atol=2e-4)


def test_dropout_acts_on_fused_layers_in_training_alone() -> None:
    block = {"filter_size_list": [[3, 3, 3]] * 2, "num_filters_list": [4, 4]}
    settings = parse_conv_settings("conv_ic78_settings", {**block, "use_dropout_list": True}, 3)
    layers = ConvLayers(
        *("conv_ic78_settings", settings, 3, (6, 6, 6), 0.5),
        *(torch.Generator().manual_seed(1), torch.float32),
    )
    x = torch.randn(20, 6, 6, 6, 3)
    layers.train()
    assert 0.45 < float((layers(x) == 0).float().mean()) < 0.55
    layers.eval()
    assert not (layers(x) == 0).any()


@pytest.mark.parametrize("fused_step", [False, True])
def test_predictions_are_those_of_the_present_weights(fused_step: bool) -> None:
    """Also after steps of fused optimizers, which do not count as changes of a tensor."""
    block = {"filter_size_list": [[3, 3, 3]], "num_filters_list": [4]}
    settings = parse_conv_settings("conv_ic78_settings", block, 3)
    layers = ConvLayers(
        *("conv_ic78_settings", settings, 3, (6, 6, 6), 1.0),
        *(torch.Generator().manual_seed(1), torch.float32),
    )
    optimizer = torch.optim.Adam(layers.parameters(), lr=0.1, fused=fused_step)
    x = torch.randn(2, 6, 6, 6, 3)
    for _ in range(2):
        layers.train()
        layers(x).square().mean().backward()
        optimizer.step()
        layers.eval()
        expected = layers(x).detach()
        with torch.no_grad():
            assert torch.equal(layers(x), expected)
        for _ in range(2):
            with torch.inference_mode():
                assert torch.equal(layers(x), expected)
    state = {name: torch.zeros_like(value) for name, value in layers.state_dict().items()}
    layers.load_state_dict(state)
    with torch.inference_mode():
        assert not layers(x).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_reach_the_output_of_their_event_alone(value: float) -> None:
    inputs = tensors(FIRST, num_events=3, dtype=torch.float32)
    x = inputs[0].detach().clone()
    expected = fused(FIRST, *inputs).detach()
    x[1, 4, 4, 30, 2] = value
    y = fused(FIRST, x, *inputs[1:])
    assert torch.equal(y[[0, 2]], expected[[0, 2]])
    reached = ~torch.isfinite(plain(FIRST, x, *inputs[1:]))  # with the corners of the square
    assert not (~torch.isfinite(y) & ~reached).any()
    assert not torch.isfinite(y[1, :, 4, 4, 15]).all()
    y.square().sum().backward()
    assert not torch.isfinite(inputs[1].grad).all()


def test_a_network_with_weights_that_are_not_finite_predicts_no_numbers() -> None:
    x, kernel, *others = tensors(FIRST, dtype=torch.float32)
    kernel = kernel.detach().clone()
    kernel[3, 1, 0, 2] = torch.nan
    y = fused(FIRST, x, kernel, *others)
    assert torch.isnan(y[:, 2]).all()
    assert torch.isfinite(y[:, [0, 1, 3, 4]]).all()


@pytest.mark.parametrize("shape", [(6, 6, 7, 3), (5, 6, 6, 3), (6, 6, 6, 4), (6, 6, 6, 2)])
@pytest.mark.parametrize("grad", [True, False])
def test_an_input_of_another_shape_is_refused(shape: tuple[int, ...], grad: bool) -> None:
    block = {"filter_size_list": [[3, 3, 3]], "num_filters_list": [4]}
    settings = parse_conv_settings("conv_ic78_settings", block, 3)
    layers = ConvLayers(
        *("conv_ic78_settings", settings, 3, (6, 6, 6), 1.0),
        *(torch.Generator().manual_seed(1), torch.float32),
    )
    expected = re.escape("needs an input [channels, x, y, z] of [3, 6, 6, 6]")
    with torch.set_grad_enabled(grad), pytest.raises(ModelError, match=expected):
        layers(torch.zeros(2, *shape))


def test_layers_made_in_inference_mode_predict() -> None:
    block = {"filter_size_list": [[3, 3, 3]], "num_filters_list": [4]}
    settings = parse_conv_settings("conv_ic78_settings", block, 3)
    x = torch.randn(2, 6, 6, 6, 3)
    with torch.inference_mode():
        layers = ConvLayers(
            *("conv_ic78_settings", settings, 3, (6, 6, 6), 1.0),
            *(torch.Generator().manual_seed(1), torch.float32),
        )
        assert torch.equal(layers(x), layers(x))


def test_hooks_of_layers_are_called() -> None:
    """They see the output of their layer, and do not change that of the network."""
    block = {"filter_size_list": [[3, 3, 3]] * 3, "num_filters_list": [4, 5, 4]}
    settings = parse_conv_settings("conv_ic78_settings", block, 3)
    layers = ConvLayers(
        *("conv_ic78_settings", settings, 3, (6, 6, 6), 1.0),
        *(torch.Generator().manual_seed(1), torch.float32),
    )
    x = torch.randn(2, 6, 6, 6, 3)
    expected = layers(x)
    seen: list[Tensor] = []
    handle = layers[1].register_forward_hook(lambda layer, inputs, output: seen.append(output))
    assert not layers.is_fused
    assert_close(layers(x), expected.double())
    (output,) = seen
    assert_close(layers[2](output), expected.double())
    handle.remove()
    assert layers.is_fused
    assert torch.equal(layers(x), expected)
    assert len(seen) == 1


@pytest.mark.long
def test_functions_read_from_disk_give_the_same_bits_as_just_compiled(tmp_path: Path) -> None:
    program = (
        "import hashlib, torch\n"
        "from test_fused_layers import FIRST, fused, tensors\n"
        "inputs = tensors(FIRST, num_events=29, dtype=torch.float32)\n"
        "y = fused(FIRST, *inputs)\n"
        "for each in (y, *torch.autograd.grad((1e-3 * y.square()).sum(), inputs)):\n"
        "    print(hashlib.sha256(each.detach().numpy().tobytes()).hexdigest())\n"
    )
    environment = os.environ | {
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parent),
    }
    words = [sys.executable, "-c", program]
    first, second = (
        subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert len(first.split()) == 5
    assert first == second
    assert list(tmp_path.rglob("*.nbc"))
