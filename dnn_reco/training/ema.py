"""Exponential moving average of the weights: smoother than the weights that training ends with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from dnn_reco.checkpoint_file import Checkpoint
from dnn_reco.nn.interface import Network

_COUNT = "ema_iterations"


class ExponentialMovingAverage:
    """Mean of the weights of all iterations so far, those of n iterations ago counting decayⁿ.

    After iteration t (1, 2, …) the share of its weights in the mean is (1 - d) / (1 - dᵗ): nothing
    is left of the random weights at the start (the correction of Adam: Kingma & Ba,
    arXiv:1412.6980, section 3). The running statistics of batch normalisation are averaged alike,
    since they belong to the weights; what is not a floating-point number is taken as it is.

    Parameters
    ----------
    network
        The network, on its device.
    decay
        d, between 0 and 1: the mean reaches back some 1 / (1 - d) iterations.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self._decay = decay
        self._count = 0
        self._weights = network.state_dict()
        self._means = {name: weight.clone() for name, weight in self._weights.items()}
        self._smooth = [name for name, w in self._weights.items() if w.is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after an iteration."""
        self._count += 1
        share = (1 - self._decay) / (1 - self._decay**self._count)
        means, weights = (
            [of[name] for name in self._smooth] for of in (self._means, self._weights)
        )
        torch._foreach_lerp_(means, weights, share)
        for name in self._weights.keys() - self._smooth:
            self._means[name].copy_(self._weights[name])

    @contextmanager
    def in_network(self) -> Iterator[None]:
        """Inside, the network has the mean weights; afterwards its own, to the last bit."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        kept = {name: weight.clone() for name, weight in self._weights.items()}
        for name, weight in self._weights.items():
            weight.copy_(self._means[name])
        self._means = kept

    def state(self) -> dict[str, Tensor]:
        """All of it, by name in a checkpoint."""
        means = {f"ema/{name}": mean for name, mean in self._means.items()}
        return {**means, _COUNT: torch.tensor(self._count)}

    @torch.no_grad()
    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over the mean from a checkpoint; without one it starts again."""
        means = checkpoint.section("ema")
        self._count = int(checkpoint.tensors[_COUNT]) if means else 0
        for name, mean in self._means.items():
            mean.copy_(means.get(name, self._weights[name]))
