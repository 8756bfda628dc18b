"""Convolutions of tensors with the channel axis last."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# Below this many values PyTorch's own convolution of single events is at least as fast.
_MIN_DIRECT_SIZE = 10_000


def convolve(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor,
    strides: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Convolution (cross-correlation) over two or three axes.

    Parameters
    ----------
    x
        Input [B, x, y(, z), channels in].
    kernel
        Weights [x, y(, z), channels in, channels out].
    bias
        Added to each output [channels out].
    strides, padding, dilation
        One number for each axis; padding on both sides.

    Returns
    -------
    Tensor
        Output [B, channels out, x, y(, z)], no view, so that it may be overwritten at no cost.
    """
    lengths = kernel.shape[:-2]
    x = x.movedim(-1, 1)
    kernel = kernel.permute(-1, -2, *range(len(lengths)))
    keeps_shape = all(2 * p + 1 == n for p, n in zip(padding, lengths, strict=True))
    one_step = max(*strides, *dilation) == 1
    if len(lengths) == 3 and keeps_shape and one_step and _on_cpu(x):
        if torch.is_grad_enabled():
            y: Tensor = _Convolution3D.apply(x, kernel, bias)  # type: ignore[no-untyped-call]
            return y
        if len(x) == 1 and x.numel() > _MIN_DIRECT_SIZE:
            # PyTorch passes single events by oneDNN, which is several times faster
            return torch.mkldnn_convolution(x, kernel, bias, padding, strides, dilation, 1)
    convolution = functional.conv3d if len(lengths) == 3 else functional.conv2d
    return convolution(x, kernel, bias, strides, padding, dilation)


def _on_cpu(x: Tensor) -> bool:
    return (
        x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    )


class _Convolution3D(torch.autograd.Function):
    """`conv3d` on CPUs that keeps the shape, with a faster gradient of its kernel.

    The gradient of each plane of the kernel is that of a convolution over the last two axes, for
    which oneDNN needs about two thirds of the time of its three-dimensional one.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, kernel)
        return functional.conv3d(x, kernel, bias, padding=_same(kernel))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, kernel = ctx.saved_tensors
        (gradient,) = gradients
        x_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient, _, _ = _convolution_backward(gradient, x, kernel, (True, False, False))
        planes = [_plane_gradient(gradient, x, kernel, plane) for plane in range(kernel.shape[2])]
        return x_gradient, torch.stack(planes, dim=2), gradient.sum(dim=(0, 2, 3, 4))


def _plane_gradient(gradient: Tensor, x: Tensor, kernel: Tensor, plane: int) -> Tensor:
    """Gradient of kernel[:, :, plane], which connects output i to input i + shift along x."""
    shift = plane - kernel.shape[2] // 2
    if abs(shift) >= x.shape[2]:
        return torch.zeros_like(kernel[:, :, plane])
    if shift != 0:
        gradient = functional.pad(gradient, [0, 0, 0, 0, shift, -shift])
    _, result, _ = _convolution_backward(
        _rows(gradient), _rows(x), kernel[:, :, plane], (False, True, False)
    )
    return result


def _rows(x: Tensor) -> Tensor:
    """[B, C, x, y, z] as [B · x, C, y, z], channels last in memory."""
    return x.movedim(1, -1).flatten(0, 1).movedim(-1, 1)


def _convolution_backward(
    gradient: Tensor, x: Tensor, kernel: Tensor, mask: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of input, kernel and bias, as the mask asks, of a convolution of equal shape."""
    ones = [1] * (x.dim() - 2)
    zeros = [0] * (x.dim() - 2)
    results: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        gradient, x, kernel, None, ones, _same(kernel), ones, False, zeros, 1, mask
    )
    return results


def _same(kernel: Tensor) -> list[int]:
    return [length // 2 for length in kernel.shape[2:]]
