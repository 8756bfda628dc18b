"""The predictions of an evaluation as files."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from dnn_reco.evaluation.reconstruction import Evaluation, Reconstruction, TrueEvents
from dnn_reco.files import OTHER_FOLDER, writing
from dnn_reco.inference.output_file import Predictions, write_hdf5, write_parquet
from dnn_reco.inference.prediction_table import PredictionTable

_log = logging.getLogger(__name__)

_NAME = "predictions"


def write_predictions(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write what all reconstructions give as HDF5, and as Parquet where pyarrow is installed.

    One row for each held-out event, in the layout of ``dnn-reco apply``; times are absolute.
    Returns the paths.

    Raises
    ------
    DataError
        If they cannot be written, such as on a full disk.
    """
    events = evaluation.events
    predictions = [
        Predictions(each.name, _absolute(each, events)) for each in evaluation.reconstructions
    ]
    paths = [folder / f"{_NAME}.hdf5"]
    with writing("the predictions", folder, OTHER_FOLDER):
        write_hdf5(paths[0], events.ids, predictions, None)
        if importlib.util.find_spec("pyarrow") is None:
            _log.info(
                "The predictions are not written as Parquet: pip install 'dnn_reco[parquet]'."
            )
        else:
            paths.append(folder / f"{_NAME}.parquet")
            write_parquet(paths[1], events.ids, predictions, None)
    return paths


def _absolute(reconstruction: Reconstruction, events: TrueEvents) -> PredictionTable:
    """The table of a reconstruction with absolute times, NaN where the offset is not known."""
    table = reconstruction.table
    relative = np.isin(table.label_names, reconstruction.relative_times)
    offset = np.full(len(events), np.nan) if events.time_offset is None else events.time_offset
    labels = np.where(relative, table.labels + offset[:, None], table.labels)
    return replace(table, labels=labels)
