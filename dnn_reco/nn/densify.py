"""From hits to the dense tensors that convolutional networks see, on the device.

The data transformation touches only the hit DOMs; every other cell holds the transform of an
untouched DOM, which is a constant.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dnn_reco.detector.grid import (
    DEEPCORE_SHAPE,
    DOM_CELL,
    MAIN_SHAPE,
    NUM_CELLS,
    NUM_MAIN_CELLS,
)
from dnn_reco.nn.interface import Hits, NetworkSpec


class Densify(nn.Module):
    """Transform hits and spread them over all cells of the detector.

    Parameters
    ----------
    spec
        Transformation model and initial values of DOMs.
    keep_prob_dom
        Probability that a DOM is kept, in training: a dropped DOM is 0 after the transformation,
        all others are divided by this probability.
    dtype
        Type of the output.
    """

    _cell: Tensor
    _log: Tensor
    _mean: Tensor
    _scale: Tensor
    _background: Tensor

    def __init__(self, spec: NetworkSpec, keep_prob_dom: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.keep_prob_dom = keep_prob_dom
        settings = spec.transformation.settings
        log = np.array(settings.log_dom_bins, dtype=bool)
        mean, scale = _mean_and_scale(spec)
        background = _log_where(np.broadcast_to(spec.dom_init_values, mean.shape), log)
        background = (background - mean) / scale

        def constant(name: str, values: NDArray[np.generic], dtype: torch.dtype) -> None:
            self.register_buffer(name, torch.tensor(values, dtype=dtype), persistent=False)

        constant("_cell", DOM_CELL, torch.int64)
        constant("_log", log, torch.bool)
        # by DOM, so that one look-up finds them
        constant("_mean", mean[DOM_CELL], dtype)
        constant("_scale", scale[DOM_CELL], dtype)
        constant("_background", background, dtype)

    def forward(self, hits: Hits) -> tuple[Tensor, Tensor]:
        """Transformed main array [B, 10, 10, 60, F] and DeepCore [B, 8, 60, F]."""
        features = hits.features.to(self._background.dtype)
        # log1p of a column without log flag may not be a number: take it of 0 there
        logs = torch.log1p(torch.where(self._log, features, 0))
        values = torch.where(self._log, logs, features)
        values = (values - self._mean[hits.dom]) / self._scale[hits.dom]
        cells = self._background.repeat(hits.num_events, 1)
        cells.index_copy_(0, hits.event * NUM_CELLS + self._cell[hits.dom], values)
        cells = self._drop_doms(cells.view(hits.num_events, NUM_CELLS, -1))
        main = cells[:, :NUM_MAIN_CELLS].view(hits.num_events, *MAIN_SHAPE, -1)
        deepcore = cells[:, NUM_MAIN_CELLS:].view(hits.num_events, *DEEPCORE_SHAPE, -1)
        return main, deepcore

    def _drop_doms(self, cells: Tensor) -> Tensor:
        if not self.training or self.keep_prob_dom == 1:
            return cells
        kept = functional.dropout(cells.new_ones(*cells.shape[:2], 1), 1 - self.keep_prob_dom)
        return cells.mul_(kept)


def _mean_and_scale(spec: NetworkSpec) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    transformation = spec.transformation
    settings = transformation.settings
    if not settings.normalize_dom_data:
        return np.zeros((NUM_CELLS, spec.num_bins)), np.ones((NUM_CELLS, spec.num_bins))
    return transformation.dom_mean, transformation.dom_std + settings.norm_constant


def _log_where(values: NDArray[np.float64], log: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.where(log, np.log1p(np.where(log, values, 0)), values)
