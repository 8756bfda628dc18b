"""Convolutions of tensors with the channel axis last."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# With more output channels in all planes of a kernel, the three-dimensional convolution is faster.
_MAX_STACKED_CHANNELS = 16
# Below this many values PyTorch's own convolution of single events is at least as fast.
_MIN_ONEDNN_SIZE = 10_000


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
        Output [B, channels out, x, y(, z)], not a view, so that it may be overwritten in place.
    """
    lengths = kernel.shape[:-2]
    keeps_shape = all(2 * p + 1 == n for p, n in zip(padding, lengths, strict=True))
    one_step = max(*strides, *dilation) == 1
    if len(lengths) == 3 and keeps_shape and one_step and _on_cpu(x):
        if len(x) > 1 or torch.is_grad_enabled():
            y: Tensor = _Convolution3D.apply(x, kernel, bias)  # type: ignore[no-untyped-call]
            return y
        if x.numel() > _MIN_ONEDNN_SIZE:
            return _onednn(x.movedim(-1, 1), _channels_first(kernel), bias)
    convolution = functional.conv3d if len(lengths) == 3 else functional.conv2d
    return convolution(x.movedim(-1, 1), _channels_first(kernel), bias, strides, padding, dilation)


def _on_cpu(x: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()  # the compiler chooses its own algorithm
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    )


class _Convolution3D(torch.autograd.Function):
    """Convolution on CPUs that keeps the shape, as a two-dimensional one over the last two axes.

    The planes of the kernel along the first axis are stacked as output channels, which are then
    added, each shifted by its position. oneDNN pads the output channels of each convolution to a
    multiple of 8 or 16; with few channels, this takes half of the time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, kernel)
        if len(kernel) * len(bias) > _MAX_STACKED_CHANNELS:
            return _onednn(x.movedim(-1, 1), _channels_first(kernel), bias)
        stacked = _onednn(_rows(x), _stacked(kernel), None).movedim(1, -1)
        planes = stacked.reshape(*x.shape[:-1], len(kernel), len(bias))
        # allocated in its final shape: autograd does not allow a view to be overwritten later
        y = torch.empty_like(planes[..., 0, :].movedim(-1, 1), memory_format=torch.channels_last_3d)
        sums = y.movedim(1, -1)
        torch.add(planes[..., len(kernel) // 2, :], bias, out=sums)
        for plane, here, there in _shifts(len(kernel), x.shape[1]):
            sums[:, here] += planes[:, there, ..., plane, :]
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, kernel = ctx.saved_tensors
        gradient = gradients[0].movedim(1, -1)
        planes = gradient.new_zeros(*gradient.shape[:-1], len(kernel), gradient.shape[-1])
        planes[..., len(kernel) // 2, :] = gradient
        for plane, here, there in _shifts(len(kernel), x.shape[1]):
            planes[:, there, ..., plane, :] = gradient[:, here]
        ones, zeros, padding = [1, 1], [0, 0], [length // 2 for length in kernel.shape[1:3]]
        mask = (ctx.needs_input_grad[0], True, False)
        x_gradient, kernel_gradient, _ = torch.ops.aten.convolution_backward(
            *(_rows(planes.flatten(-2)), _rows(x), _stacked(kernel), None),
            *(ones, padding, ones, False, zeros, 1, mask),
        )
        if x_gradient is not None:
            x_gradient = x_gradient.movedim(1, -1).reshape(x.shape)
        kernel_gradient = kernel_gradient.unflatten(0, (len(kernel), -1)).permute(0, 3, 4, 2, 1)
        return x_gradient, kernel_gradient, gradient.sum(dim=(0, 1, 2, 3))


def _shifts(num_planes: int, length: int) -> list[tuple[int, slice, slice]]:
    """For each plane except the central one: the outputs it contributes to, and their inputs."""
    return [
        (
            plane,
            slice(max(0, -shift), length - max(0, shift)),
            slice(max(0, shift), length - max(0, -shift)),
        )
        for plane in range(num_planes)
        if (shift := plane - num_planes // 2) != 0 and abs(shift) < length
    ]


def _rows(x: Tensor) -> Tensor:
    """[B, x, y, z, C] as [B · x, C, y, z], channels last in memory."""
    return x.flatten(0, 1).movedim(-1, 1)


def _stacked(kernel: Tensor) -> Tensor:
    """Kernel [x, y, z, C in, C out] as [x · C out, C in, y, z]."""
    return kernel.permute(0, 4, 3, 1, 2).flatten(0, 1)


def _channels_first(kernel: Tensor) -> Tensor:
    """Kernel [x, y(, z), C in, C out] as [C out, C in, x, y(, z)]."""
    return kernel.permute(-1, -2, *range(kernel.dim() - 2))


def _onednn(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """Convolution [B, C out, …] that keeps the shape; PyTorch has a slower one for B = 1."""
    ones, padding = [1] * (x.dim() - 2), [length // 2 for length in kernel.shape[2:]]
    return torch.mkldnn_convolution(x, kernel, bias, padding, ones, ones, 1)
