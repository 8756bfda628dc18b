"""Predictions of a network as named NumPy columns, whether or not the truth is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.event_table import data_frame
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.inference.particle import particle_columns
from dnn_reco.nn.density_layout import PredictedShapes

if TYPE_CHECKING:
    import pandas as pd

TABLE_PREFIX, PARTICLE_SUFFIX = "DeepLearningReco_", "_I3Particle"
"""Begin the name of a model's tables in event files, and end that of its particles."""
UNCERTAINTY = {False: "_uncertainty", True: "_log_uncertainty"}
"""Ends the name of the column of an uncertainty, by whether the label has a logarithm."""


def table_names(model: str) -> tuple[str, str]:
    """Names of the table of a model's predictions in event files, and of that of its particles."""
    name = f"{TABLE_PREFIX}{model}"
    return name, f"{name}{PARTICLE_SUFFIX}"


def check_table_names(models: Sequence[str]) -> None:
    """Check that each table belongs to one model: `a_I3Particle` has one of the tables of `a`.

    Raises
    ------
    ConfigError
        Naming two models of the same name, or with a table in common.
    """
    if twice := [name for name, times in Counter(models).items() if times > 1]:
        raise ConfigError(f"two of the networks would be called '{twice[0]}': rename one of them")
    model_of: dict[str, str] = {}
    for model in models:
        for table in table_names(model):
            if table in model_of:
                raise ConfigError(
                    f"the models '{model_of[table]}' and '{model}' would both write the table "
                    f"'{table}': rename one of them"
                )
            model_of[table] = model


class Status(IntEnum):
    """Whether an event was reconstructed, and if not, why.

    Without valid input all predictions of an event are NaN.
    """

    OK = 0
    NO_INPUT = 1
    """The file holds no input for the event, such as no time offset or no pulse map."""
    NO_HITS = 2
    """No DOM was hit."""
    INVALID_INPUT = 3
    """An input feature or the time offset is not finite."""
    INVALID_PREDICTION = 4
    """A value that the network predicted is not finite."""


REASONS = {
    Status.NO_INPUT: "no input",
    Status.NO_HITS: "no hit DOM",
    Status.INVALID_INPUT: "input not finite",
    Status.INVALID_PREDICTION: "prediction not finite",
}
"""Why an event was not reconstructed, for messages and tables."""


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
    status
        Status of each event [n], as in :class:`Status`; None: all are predicted, whatever comes
        out.
    particle_labels
        Label by property of the reconstructed particle.
    shapes
        Shapes of the densities that the network predicts; None: the default ones.
    """

    label_names: tuple[str, ...]
    has_log: tuple[bool, ...]
    labels: NDArray[np.float64]
    uncertainty: NDArray[np.float64]
    ids: NDArray[np.void] | None = None
    status: NDArray[np.int32] | None = None
    particle_labels: Mapping[str, str] = field(default_factory=dict)
    shapes: PredictedShapes | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, column: str) -> NDArray[np.float64]:
        columns = self.columns()
        if column not in columns:
            raise DataError(
                f"the predictions have no column '{column}'. Available: {', '.join(columns)}"
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
                columns[name + UNCERTAINTY[log]] = self.uncertainty[:, i]
        return columns

    def select(self, labels: Sequence[str]) -> PredictionTable:
        """The same table with some of the labels only, in its order."""
        kept = [i for i, name in enumerate(self.label_names) if name in labels]
        return replace(
            self,
            label_names=tuple(self.label_names[i] for i in kept),
            has_log=tuple(self.has_log[i] for i in kept),
            labels=self.labels[:, kept],
            uncertainty=self.uncertainty[:, kept],
        )

    def rows(self, events: NDArray[np.integer]) -> PredictionTable:
        """The same table with some of the events only, by their numbers."""
        return replace(
            self,
            labels=self.labels[events],
            uncertainty=self.uncertainty[events],
            ids=None if self.ids is None else self.ids[events],
            status=None if self.status is None else self.status[events],
            shapes=None if self.shapes is None else self.shapes.rows(events),
        )

    @classmethod
    def joined(cls, tables: Sequence[PredictionTable]) -> PredictionTable:
        """The events of several tables of one model, one after the other."""
        first = tables[0]
        ids = [each.ids for each in tables if each.ids is not None]
        status = [each.status for each in tables if each.status is not None]
        shapes = [each.shapes.values for each in tables if each.shapes is not None]
        return replace(
            first,
            labels=np.concatenate([each.labels for each in tables]),
            uncertainty=np.concatenate([each.uncertainty for each in tables]),
            ids=np.concatenate(ids) if ids else None,
            status=np.concatenate(status) if status else None,
            shapes=first.shapes and replace(first.shapes, values=np.concatenate(shapes)),
        )

    def particle(self) -> dict[str, NDArray[np.generic]]:
        """The reconstructed particle: columns [n] as in IceCube's tables, NaN where unknown.

        x, y, z [m], time [ns], zenith and azimuth [rad] of where it comes from, energy [GeV],
        speed [m/ns], length [m], and codes that are not set.
        """
        labels = {name: self.labels[:, i] for i, name in enumerate(self.label_names)}
        return particle_columns(labels, self.particle_labels, len(self))

    def to_pandas(self) -> pd.DataFrame:
        """Ids and status, where known, and all columns as a DataFrame, one row per event."""
        ids = {} if self.ids is None else {n: self.ids[n] for n in self.ids.dtype.names or ()}
        status = {} if self.status is None else {"status": self.status}
        return data_frame({**ids, **status, **self.columns()})
