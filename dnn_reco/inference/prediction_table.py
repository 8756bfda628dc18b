"""Predictions of a network as named NumPy columns, whether or not the truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.event_table import data_frame
from dnn_reco.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class PredictionTable:
    """Labels and uncertainties that a network predicts for n events, in physical units.

    Each label `X` has two columns: `X`, and `X_uncertainty` or, if the network predicts it with
    logarithm, `X_log_uncertainty`.

    Attributes
    ----------
    label_names
        Names of the L labels.
    has_log
        Whether each label [L] is predicted as ln(1 + x).
    labels
        Predicted labels [n, L].
    uncertainty
        Their uncertainties [n, L]; those of ln(1 + x) for labels with logarithm.
    ids
        Event ids [n], structured; None: they are not known.
    """

    label_names: tuple[str, ...]
    has_log: tuple[bool, ...]
    labels: NDArray[np.float64]
    uncertainty: NDArray[np.float64]
    ids: NDArray[np.void] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, column: str) -> NDArray[np.float64]:
        columns = self.columns()
        if column not in columns:
            raise DataError(
                f"the predictions have no column '{column}'. There are: {', '.join(columns)}"
            )
        return columns[column]

    def columns(self, labels: Sequence[str] | None = None) -> dict[str, NDArray[np.float64]]:
        """Columns [n] by name, each label followed by its uncertainty.

        Parameters
        ----------
        labels
            The labels to take, such as those that were trained; None: all.
        """
        columns = {}
        for i, (name, log) in enumerate(zip(self.label_names, self.has_log, strict=True)):
            if labels is None or name in labels:
                columns[name] = self.labels[:, i]
                columns[f"{name}_{'log_' if log else ''}uncertainty"] = self.uncertainty[:, i]
        return columns

    def to_pandas(self) -> pd.DataFrame:
        """Ids, where known, and all columns as a pandas DataFrame, one row per event."""
        ids = {} if self.ids is None else {n: self.ids[n] for n in self.ids.dtype.names or ()}
        return data_frame({**ids, **self.columns()})
