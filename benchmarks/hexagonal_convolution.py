"""Algorithms of the hexagonal convolution: forward, and forward with backward, of whole networks.

    python benchmarks/hexagonal_convolution.py [--device cuda] [--batch 256]

Networks: the tutorial's (5 kernels per layer) and a large one of 20 hexagonal layers with up to 100
kernels. `package` is the algorithm of dnn_reco, fused layers for few kernels on CPUs; it should be
the fastest line of each block.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import torch
from network_cpu import tutorial_kwargs
from torch import Tensor
from torch.nn import functional

from dnn_reco.detector.grid import MAIN_SHAPE
from dnn_reco.nn import conv_layers, fused_layers, kernels
from dnn_reco.nn.conv_layers import ConvLayers
from dnn_reco.nn.memory import keep_freed_memory
from dnn_reco.nn.settings import parse_conv_settings
from dnn_reco.nn.threads import use_threads

Way = Callable[..., Tensor]
"""Arguments x, kernel, bias, strides, padding, dilation, as `dnn_reco.nn.convolution.convolve`."""


def square_kernel_channels_last(
    x: Tensor, kernel: Tensor, bias: Tensor, *steps: Sequence[int]
) -> Tensor:
    """conv3d with zeros in the corners, on tensors with the channels last."""
    weight = kernel.permute(4, 3, 0, 1, 2)
    return functional.conv3d(x.movedim(-1, 1), weight, bias, *steps)


def square_kernel_channels_first(
    x: Tensor, kernel: Tensor, bias: Tensor, *steps: Sequence[int]
) -> Tensor:
    """The same, on contiguous tensors with the channels first."""
    weight = kernel.permute(4, 3, 0, 1, 2).contiguous()
    x = x.movedim(-1, 1).contiguous()
    return functional.conv3d(x, weight, bias, *steps)


def folded_planes(x: Tensor, kernel: Tensor, bias: Tensor, *steps: Sequence[int]) -> Tensor:
    """conv2d over (b, z), the planes of the kernel along a as output channels, added shifted."""
    _, padding, _ = steps
    rows = x.flatten(0, 1).movedim(-1, 1)
    stacked = kernel.permute(0, 4, 3, 1, 2).flatten(0, 1)
    planes = functional.conv2d(rows, stacked, padding=padding[1:]).movedim(1, -1)
    planes = planes.reshape(*x.shape[:-1], len(kernel), len(bias))
    planes = functional.pad(planes, [0, 0] * 4 + [padding[0], padding[0]])
    length = x.shape[1]
    y = sum(planes[:, plane : plane + length, ..., plane, :] for plane in range(len(kernel)))
    return (y + bias).movedim(-1, 1)


def gather_and_multiply(x: Tensor, kernel: Tensor, bias: Tensor, *steps: Sequence[int]) -> Tensor:
    """Gathered neighbours and one matrix product, without the corners of the square."""
    _, padding, _ = steps
    cells = kernel.detach().abs().amax(dim=(2, 3, 4)).nonzero().tolist()
    widths = [width for pad in (0, *reversed(padding)) for width in (pad, pad)]
    padded = functional.pad(x, widths)
    _, lx, ly, lz, _ = x.shape
    patches = [
        padded[:, a : a + lx, b : b + ly, z : z + lz]
        for a, b in cells
        for z in range(kernel.shape[2])
    ]
    weight = torch.cat([kernel[a, b, z] for a, b in cells for z in range(kernel.shape[2])])
    return (torch.cat(patches, dim=-1) @ weight + bias).movedim(-1, 1)


WAYS: dict[str, Way] = {
    "package": kernels.convolve,
    "package, without Numba": kernels.convolve,
    "conv3d, channels last": square_kernel_channels_last,
    "conv3d, channels first": square_kernel_channels_first,
    "conv2d, folded planes": folded_planes,
    "gather and multiply": gather_and_multiply,
}


def large_block() -> dict[str, object]:
    """20 hexagonal layers, from 20 to 100 kernels, pooled four times."""
    channels = [20] * 4 + [40] * 4 + [60] * 4 + [80] * 4 + [100] * 4
    pool_after = {4: [1, 1, 1, 2, 1], 8: [1, 2, 2, 2, 1], 12: [1, 1, 1, 2, 1], 16: [1, 2, 2, 2, 1]}
    windows = [pool_after.get(layer, [1, 1, 1, 1, 1]) for layer in range(1, 21)]
    return {
        "filter_size_list": [[2, 0, 3]] * 20,
        "num_filters_list": channels,
        "method_list": "hex_convolution",
        "pooling_type_list": ["avg" if max(window) > 1 else False for window in windows],
        "pooling_ksize_list": windows,
        "pooling_strides_list": windows,
        "activation_list": "elu",
        "use_residual_list": True,
    }


def seconds(run: Callable[[], object], device: torch.device, duration: float) -> float:
    """Median time of a call."""

    def timed() -> float:
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    timed(), timed()
    times = [timed()]
    while sum(times) < duration:
        times.append(timed())
    return sorted(times)[len(times) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3, help="for each measurement")
    options = parser.parse_args()
    device = torch.device(options.device)
    keep_freed_memory(same_shapes=True)
    use_threads(torch.get_num_threads(), in_pieces=False)
    print(f"torch {torch.__version__}, {device}, batch {options.batch}; events/s")
    blocks = {
        "tutorial, 5 kernels": (tutorial_kwargs(5)["conv_ic78_settings"], 9),
        "20 layers, 20 … 100 kernels": (large_block(), 9),
    }
    for title, (block, channels) in blocks.items():
        print(f"\n{title:28s} {'forward':>10s} {'with backward':>15s}")
        settings = parse_conv_settings("conv_ic78_settings", block, 3)
        generator = torch.Generator().manual_seed(1)
        layers = ConvLayers(
            "conv_ic78_settings", settings, channels, MAIN_SHAPE, 1.0, generator, torch.float32
        ).to(device)
        x = torch.randn(options.batch, *MAIN_SHAPE, channels, device=device)

        def forward(layers: ConvLayers = layers, x: Tensor = x) -> None:
            with torch.no_grad():
                layers(x)

        def with_backward(layers: ConvLayers = layers, x: Tensor = x) -> None:
            layers.zero_grad()
            layers(x).square().mean().backward()

        for name, way in WAYS.items():
            kernels.convolve = way
            conv_layers.accepts = fused_layers.accepts if name == "package" else lambda x: False
            rates = [
                options.batch / seconds(run, device, options.seconds)
                for run in (forward, with_backward)
            ]
            print(f"  {name:26s} {rates[0]:10,.0f} {rates[1]:15,.0f}", flush=True)
        kernels.convolve, conv_layers.accepts = WAYS["package"], fused_layers.accepts


if __name__ == "__main__":
    main()
