"""How a network computes: with how many digits, and whether it is compiled."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.nn.interface import Network, Prediction

Predictor: TypeAlias = Callable[[HitBatch], Prediction]


@runtime_checkable
class GridNetwork(Protocol):
    """A network that places hits on a grid first: what follows has the same shape in each batch."""

    def __call__(self, hits: HitBatch) -> Prediction:
        """Predict labels and uncertainties of a batch of events."""

    def place_on_grid(self, hits: HitBatch) -> tuple[Tensor, ...]:
        """Inputs of all cells."""

    def read_grid(self, *grids: Tensor) -> Prediction:
        """Predict from what :meth:`place_on_grid` gives."""


def predictor(network: Network, in_bfloat16: bool = False, compiled: bool = False) -> Predictor:
    """The network as it shall compute in training; its weights and its mode stay its own.

    Parameters
    ----------
    network
        The network, on its device.
    in_bfloat16
        Multiply matrices and convolve with numbers of 8 binary digits (bfloat16), while weights and
        what is added up keep theirs.
    compiled
        Let `torch.compile` translate all that follows the grid, where gradients are wanted; on GPUs
        it is recorded and played as a whole (CUDA graphs).
    """
    predict = _compiled(network) if compiled and isinstance(network, GridNetwork) else network
    return _in_bfloat16(predict) if in_bfloat16 else predict


def autocast_disabled(device: torch.device) -> AbstractContextManager[object]:
    """While this lasts, bfloat16 is not used: for last layers, whose digits are those of labels."""
    return torch.autocast(device.type, enabled=False)


def allow_tf32(allowed: bool) -> None:
    """Whether GPUs may multiply matrices of float32 with 11 binary digits, which is faster."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def _in_bfloat16(predict: Predictor) -> Predictor:
    def predict_in_bfloat16(hits: HitBatch) -> Prediction:
        with torch.autocast(hits.features.device.type, torch.bfloat16):
            return predict(hits)

    return predict_in_bfloat16


def _compiled(network: GridNetwork) -> Predictor:
    read_grid = torch.compile(network.read_grid, mode="reduce-overhead", dynamic=False)

    def predict(hits: HitBatch) -> Prediction:
        if not torch.is_grad_enabled():  # validation: batches of all sizes, each a translation
            return network(hits)
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        said = read_grid(*network.place_on_grid(hits))
        # what a CUDA graph gives is written over when it is played again
        return Prediction(*(getattr(said, field.name).clone() for field in fields(said)))

    return predict
