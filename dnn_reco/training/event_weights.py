"""Weights of events in the loss (`event_weight_class`), computed as batches are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnn_reco.config import call_plugin, check_signature
from dnn_reco.data.event_dataset import EventBatch
from dnn_reco.data.records import ColumnNames
from dnn_reco.errors import DataError
from dnn_reco.modules.data.event_weights.interface import (
    EventColumns,
    label_columns,
    misc_columns,
)

_KEY = "event_weight_class"


@dataclass(frozen=True)
class EventWeights:
    """Gives each event its weight.

    This happens on the CPU, in the thread that reads batches: weights can be checked there without
    waiting for a GPU.

    Attributes
    ----------
    function
        The function that `event_weight_class` names.
    name
        Its dotted name.
    config
        What it sees of the configuration.
    columns
        Names of labels and misc values.
    """

    function: Callable[[EventColumns, EventColumns, Mapping[str, Any]], Tensor]
    name: str
    config: Mapping[str, Any]
    columns: ColumnNames

    def __post_init__(self) -> None:
        check_signature(self.function, self.name, _KEY)

    def __call__(self, events: EventBatch) -> Tensor:
        """Weights of B events [B, 1], in the type of their labels.

        Raises
        ------
        ConfigError
            If a setting, label or misc value that the function needs is missing.
        DataError
            If the function fails, or its weights cannot be used.
        """
        labels = torch.from_numpy(events.labels)
        truth = label_columns(labels, self.columns.labels)
        misc = misc_columns(torch.from_numpy(events.misc), self.columns.misc)
        weights = call_plugin(
            self.function, self.name, _KEY, "for a batch", truth, misc, self.config
        )
        if not isinstance(weights, Tensor) or weights.shape != (len(labels), 1):
            returned = f"{type(weights).__name__} of shape {list(getattr(weights, 'shape', []))}"
            raise DataError(
                f"{self.name} ({_KEY}) must return a tensor of shape [{len(labels)}, 1] for "
                f"{len(labels)} events, but returned a {returned}"
            )
        weights = weights.detach().to("cpu", labels.dtype)
        self._check(weights.numpy()[:, 0], events.ids)
        return weights

    def _check(self, weights: NDArray[np.floating], ids: NDArray[np.void]) -> None:
        """Raise an error unless all weights are finite and >= 0, and not all are 0."""
        for is_bad, what in (
            (~np.isfinite(weights), "not a finite number"),
            (weights < 0, "negative"),
        ):
            if is_bad.any():
                first = int(np.flatnonzero(is_bad)[0])
                event = ", ".join(f"{name} {ids[name][first]}" for name in ids.dtype.names or ())
                raise DataError(
                    f"{self.name} ({_KEY}) gives {is_bad.sum()} of {len(weights)} events of a "
                    f"batch a weight that is {what}; the first is {weights[first]} for {event}. "
                    "Check the misc values that it uses (misc_load_dict, misc_fill_values), or "
                    "remove such events with a filter"
                )
        if not weights.any():
            raise DataError(
                f"{self.name} ({_KEY}) gives all {len(weights)} events of a batch the weight 0, "
                "so nothing can be learned from them. Check the misc values that it uses, remove "
                "events of weight 0 with a filter, or raise batch_size"
            )
