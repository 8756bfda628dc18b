"""Operations in float64 that ONNX Runtime lacks, against NumPy, SciPy and PyTorch itself."""

import numpy as np
import torch
from scipy.special import erf
from torch import Tensor, nn
from torch.nn import functional

from dnn_reco.inference.onnx_decompositions import with_known_operations

MISSING = ("acos", "atan", "atan2", "asinh", "sinh", "cosh", "tan", "gelu", "conv2d", "conv3d")


class Functions(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        return (
            *(x.acos(), y.atan(), torch.atan2(y, x), y.asinh()),
            *(x.sinh(), x.cosh(), x.tan(), functional.gelu(x)),
        )


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.plane = nn.Conv2d(2, 3, (3, 2), stride=(1, 2), padding=(2, 1), dtype=torch.float64)
        self.space = nn.Conv3d(2, 3, (2, 3, 1), dilation=(1, 2, 1), dtype=torch.float64)

    def forward(self, plane: Tensor, space: Tensor) -> tuple[Tensor, Tensor]:
        return self.plane(plane), self.space(space)


def computed(module: nn.Module, *inputs: Tensor) -> tuple[Tensor, ...]:
    """What the program of known operations gives."""
    program = with_known_operations(torch.export.export(module, inputs))
    in_float64 = {
        str(node.target)
        for node in program.graph.nodes
        if getattr(node.meta.get("val"), "dtype", None) == torch.float64
    }
    assert not in_float64 & {f"aten.{name}.default" for name in MISSING}
    with torch.no_grad():
        return program.module()(*inputs)


def test_functions_have_the_digits_of_float64() -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate([[-0.999, 0.0, 0.999], rng.uniform(-1, 1, 197)])
    y = rng.choice([-1, 1], 200) * 10 ** rng.uniform(-3, 3, 200)  # far from the unit circle
    found = computed(Functions(), torch.from_numpy(x), torch.from_numpy(y))
    expected = (
        *(np.arccos(x), np.arctan(y), np.arctan2(y, x), np.arcsinh(y)),
        *(np.sinh(x), np.cosh(x), np.tan(x)),
    )
    for ours, theirs in zip(found[:-1], expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-12, atol=1e-14)
    gelu = x * (1 + erf(x / np.sqrt(2))) / 2
    np.testing.assert_allclose(found[-1].numpy(), gelu, rtol=1e-6, atol=1e-7)


def test_convolutions() -> None:
    torch.manual_seed(1)
    module = Convolutions()
    inputs = torch.randn(2, 2, 7, 6).double(), torch.randn(2, 2, 5, 6, 4).double()
    found = computed(module, *inputs)
    for ours, theirs in zip(found, module(*inputs), strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-12, atol=1e-12)


def test_float32_stays_as_it_is() -> None:
    program = torch.export.export(Functions(), (torch.rand(3), torch.rand(3)))
    assert with_known_operations(program) is program
