"""How a network computes: precision (float32, TF32, bfloat16) and compilation."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.nn.interface import Network, Prediction
from dnn_reco.nn.misc_data import MiscData
from dnn_reco.nn.own_network import call_network, needs_misc


class Predictor(Protocol):
    """A network as training and inference call it."""

    def __call__(self, hits: HitBatch, misc: MiscData | None = None) -> Prediction:
        """Predict a batch of events; only some networks read their misc data."""


@runtime_checkable
class GridNetwork(Protocol):
    """A network that first fills a grid from hits: all that follows has the same static shape."""

    def __call__(self, hits: HitBatch) -> Prediction:
        """Predict labels and uncertainties of a batch of events."""

    def place_on_grid(self, hits: HitBatch) -> tuple[Tensor, ...]:
        """Input tensors of the grid."""

    def read_grid(self, *grids: Tensor) -> Prediction:
        """Predict from the result of :meth:`place_on_grid`."""


def predictor(network: Network, in_bfloat16: bool = False, compiled: bool = False) -> Predictor:
    """The forward pass of a network in training; weights and mode remain those of the network.

    Parameters
    ----------
    network
        The network, on its device.
    in_bfloat16
        Autocast matrix products and convolutions to bfloat16; weights and accumulation stay in
        float32.
    compiled
        Compile all that follows the grid with `torch.compile`, for passes with gradients; on GPUs
        with CUDA graphs.
    """
    predict: Predictor = partial(call_network, network)
    if compiled and isinstance(network, GridNetwork) and not needs_misc(network):
        predict = _compiled(network)
    return _in_bfloat16(predict) if in_bfloat16 else predict


def autocast_disabled(device: torch.device) -> AbstractContextManager[object]:
    """A context without autocast: for last layers, whose precision is that of the labels."""
    return torch.autocast(device.type, enabled=False)


def allow_tf32(allowed: bool) -> None:
    """Set whether GPUs may use TF32 (11 bits of mantissa) for float32 products, which is faster."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


class _FullPrecision:
    """Forbids TF32 while any thread is inside; PyTorch's setting is one for all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_inside = 0
        self._before = False, False

    @contextmanager
    def __call__(self) -> Iterator[None]:
        of_products, of_convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
        with self._lock:
            if self._num_inside == 0:
                self._before = of_products.allow_tf32, of_convolutions.allow_tf32
                allow_tf32(False)
            self._num_inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_inside -= 1
                if self._num_inside == 0:
                    of_products.allow_tf32, of_convolutions.allow_tf32 = self._before


without_tf32 = _FullPrecision()
"""A context in which GPUs multiply float32 in full, whatever PyTorch's default or a training.

By default PyTorch uses TF32 in convolutions, with which predictions differ from those of CPUs in
the fourth digit.
"""


def _in_bfloat16(predict: Predictor) -> Predictor:
    def predict_in_bfloat16(hits: HitBatch, misc: MiscData | None = None) -> Prediction:
        with torch.autocast(hits.features.device.type, torch.bfloat16):
            return predict(hits, misc)

    return predict_in_bfloat16


def _compiled(network: GridNetwork) -> Predictor:
    read_grid = torch.compile(network.read_grid, mode="reduce-overhead", dynamic=False)

    def predict(hits: HitBatch, misc: MiscData | None = None) -> Prediction:
        if not torch.is_grad_enabled():  # validation: each batch size would be compiled
            return call_network(network, hits)
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        prediction = read_grid(*network.place_on_grid(hits))
        # outputs of a CUDA graph are overwritten when it is replayed
        return Prediction(
            *(getattr(prediction, field.name).clone() for field in fields(prediction))
        )

    return predict
