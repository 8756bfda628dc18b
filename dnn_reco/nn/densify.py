"""From hits to the dense input tensors of convolutional networks, on the device.

Only hit DOMs are transformed; every other cell holds the transform of a DOM without a hit, which is
a constant.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.detector.grid import (
    DEEPCORE_SHAPE,
    DOM_CELL,
    MAIN_SHAPE,
    NUM_CELLS,
    NUM_DEEPCORE_CELLS,
    NUM_MAIN_CELLS,
)
from dnn_reco.nn.detector_parts import deepcore_parts, main_part
from dnn_reco.nn.fused_layers import accepts
from dnn_reco.nn.fused_stack import HitInput
from dnn_reco.nn.interface import NetworkSpec
from dnn_reco.nn.kernel_arguments import Part, PlacedHits
from dnn_reco.nn.sharded_batch import keep_mask


class Densify(nn.Module):
    """Transform hits and scatter them to the cells of the detector.

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
    _log_columns: Tensor
    _mean: Tensor
    _scale: Tensor
    _main_background: Tensor
    _deepcore_background: Tensor

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
        constant("_log_columns", np.flatnonzero(log), torch.int64)
        # indexed by DOM, so that one look-up suffices
        constant("_mean", mean[DOM_CELL], dtype)
        constant("_scale", scale[DOM_CELL], dtype)
        main, deepcore = background[:NUM_MAIN_CELLS], background[NUM_MAIN_CELLS:]
        constant("_main_background", main.reshape(*MAIN_SHAPE, -1), dtype)
        constant("_deepcore_background", deepcore.reshape(*DEEPCORE_SHAPE, -1), dtype)

    def can_fill_parts(self, hits: HitBatch) -> bool:
        """Whether inputs of fused layers can be made from these hits: in the order of events."""
        features = hits.features
        if features.requires_grad or not (accepts(features) and accepts(self._main_background)):
            return False
        return hits.is_in_order

    def of_parts(self, hits: HitBatch) -> list[HitInput]:
        """Main array, upper and lower DeepCore as inputs of fused layers."""
        values, cell, keep = self._in_cells(hits)
        of_background = np.empty(0, np.float32) if keep is None else keep.numpy().ravel()
        placed = PlacedHits(hits.first_hits(), cell.numpy(), values.numpy().ravel(), of_background)
        return [HitInput(placed, part) for part in self._parts]

    @functools.cached_property
    def _parts(self) -> list[Part]:
        main, deepcore = self._main_background.numpy(), self._deepcore_background.numpy()
        return [main_part(main), *deepcore_parts(deepcore)]

    def _in_cells(self, hits: HitBatch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Transformed values of hits, their cells, and the dropout mask of all cells, if any."""
        features = hits.features.to(self._main_background.dtype)
        values = self._transformed(features, self._mean[hits.dom], self._scale[hits.dom])
        cell = self._cell[hits.dom]
        if not (self.training and self.keep_prob_dom < 1):
            return values, cell, None
        keep = keep_mask(values.new_empty(hits.num_events, NUM_CELLS), self.keep_prob_dom)
        return values * keep[hits.event, cell, None], cell, keep

    def forward(self, hits: HitBatch) -> tuple[Tensor, Tensor]:
        """Transformed main array [B, 10, 10, 60, F] and DeepCore [B, 8, 60, F]."""
        values, cell, keep = self._in_cells(hits)
        if torch.compiler.is_exporting():
            return self._placed(hits, values)
        # one buffer: first the main arrays of all events, then DeepCore of all events
        B, num_bins = hits.num_events, values.shape[1]
        cells = values.new_empty(B * NUM_CELLS, num_bins)
        main = cells[: B * NUM_MAIN_CELLS].view(B, *MAIN_SHAPE, num_bins)
        deepcore = cells[B * NUM_MAIN_CELLS :].view(B, *DEEPCORE_SHAPE, num_bins)
        if keep is None:
            main.copy_(self._main_background)
            deepcore.copy_(self._deepcore_background)
        else:
            self._place_background(main, keep[:, :NUM_MAIN_CELLS], self._main_background)
            self._place_background(deepcore, keep[:, NUM_MAIN_CELLS:], self._deepcore_background)
        row = torch.where(
            cell < NUM_MAIN_CELLS,
            cell + hits.event * NUM_MAIN_CELLS,
            cell + hits.event * NUM_DEEPCORE_CELLS + (B - 1) * NUM_MAIN_CELLS,
        )
        cells.index_copy_(0, row, values)
        return main, deepcore

    def transform(self, main: Tensor, deepcore: Tensor) -> tuple[Tensor, Tensor]:
        """Transform dense arrays [B, 10, 10, 60, F] and [B, 8, 60, F] with the values of all DOMs.

        Cells without DOM hold the transform of a DOM without a hit, whatever their value.
        """
        cells = torch.cat([main.flatten(1, 3), deepcore.flatten(1, 2)], dim=1)
        doms = cells[:, self._cell].to(self._main_background.dtype)
        values = self._transformed(doms, self._mean, self._scale)
        return self._split(self._background(main.shape[0]).index_copy(1, self._cell, values))

    def _transformed(self, features: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        columns = self._log_columns
        logs = torch.log1p(features.index_select(-1, columns))
        return (features.index_copy(-1, columns, logs) - mean) / scale

    def _placed(self, hits: HitBatch, values: Tensor) -> tuple[Tensor, Tensor]:
        """Hits with transformed values in their cells, without a change in place, for export."""
        cells = self._background(hits.num_events)
        return self._split(cells.index_put((hits.event, self._cell[hits.dom]), values))

    def _background(self, num_events: int) -> Tensor:
        """Cells of events without any hit [B, 6480, F]."""
        backgrounds = (self._main_background, self._deepcore_background)
        return torch.cat([each.flatten(0, -2) for each in backgrounds]).expand(num_events, -1, -1)

    def _split(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Main array and DeepCore of cells [B, 6480, F]."""
        main, deepcore = torch.split(cells, [NUM_MAIN_CELLS, NUM_DEEPCORE_CELLS], dim=1)
        B, _, num_bins = cells.shape
        return main.view(B, *MAIN_SHAPE, num_bins), deepcore.view(B, *DEEPCORE_SHAPE, num_bins)

    @staticmethod
    def _place_background(cells: Tensor, keep: Tensor, background: Tensor) -> None:
        torch.mul(background, keep.view(len(keep), *background.shape[:-1], 1), out=cells)


def _mean_and_scale(spec: NetworkSpec) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    transformation = spec.transformation
    settings = transformation.settings
    if not settings.normalize_dom_data:
        return np.zeros((NUM_CELLS, spec.num_bins)), np.ones((NUM_CELLS, spec.num_bins))
    return transformation.dom_mean, transformation.dom_std + settings.norm_constant


def _log_where(values: NDArray[np.float64], log: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.where(log, np.log1p(np.where(log, values, 0)), values)
