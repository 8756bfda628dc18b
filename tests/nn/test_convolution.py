import pytest
import torch
from torch.nn import functional

from dnn_reco.nn.convolution import convolve


@pytest.mark.parametrize(
    ("shape", "lengths"),
    [
        ((4, 5, 6), (3, 3, 3)),
        ((4, 5, 6), (1, 3, 5)),
        ((2, 3, 2), (7, 7, 3)),
        ((6, 1, 4), (5, 1, 1)),
    ],
)
@pytest.mark.parametrize("num_events", [1, 3])
def test_values_and_gradients_are_those_of_a_double_precision_convolution(
    shape, lengths, num_events
):
    torch.manual_seed(1)
    x = torch.randn(num_events, *shape, 2, requires_grad=True)
    kernel = torch.randn(*lengths, 2, 3, requires_grad=True)
    bias = torch.randn(3, requires_grad=True)
    ones, padding = [1] * 3, [length // 2 for length in lengths]
    result = convolve(x, kernel, bias, ones, padding, ones)

    exact = [tensor.detach().double().requires_grad_() for tensor in (x, kernel, bias)]
    expected = functional.conv3d(
        exact[0].movedim(-1, 1), exact[1].permute(4, 3, 0, 1, 2), exact[2], padding=padding
    )
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-4)

    weights = torch.randn_like(result)
    gradients = torch.autograd.grad((result * weights).sum(), (x, kernel, bias))
    exact_gradients = torch.autograd.grad((expected * weights).sum(), exact)
    for gradient, exact_gradient in zip(gradients, exact_gradients, strict=True):
        torch.testing.assert_close(gradient.double(), exact_gradient, rtol=1e-4, atol=1e-3)


def test_single_events_in_inference_are_the_same_as_in_a_batch():
    torch.manual_seed(1)
    x, kernel, bias = torch.randn(2, 10, 10, 60, 4), torch.randn(3, 3, 3, 4, 5), torch.randn(5)
    ones = [1] * 3
    with torch.inference_mode():
        both = convolve(x, kernel, bias, ones, ones, ones)
        for event in range(2):
            alone = convolve(x[event : event + 1], kernel, bias, ones, ones, ones)
            torch.testing.assert_close(alone[0], both[event], rtol=1e-5, atol=1e-4)
