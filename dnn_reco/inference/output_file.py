"""Files of predictions: HDF5 in the layout of IceCube's table writer, or Parquet.

They hold one row for each event of an input file, in its order, whether or not it was
reconstructed. The same predictions give the same bytes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.hdf5 import MAX_TEXT_BYTES, read_attribute, write_event_file
from dnn_reco.errors import ConfigError, DataError, ModelError
from dnn_reco.files import temporary_beside
from dnn_reco.i3.reader import is_i3
from dnn_reco.i3.record import read_frame_record
from dnn_reco.inference.output_record import RECORD, OutputRecord
from dnn_reco.inference.prediction_table import PredictionTable, Status, table_names

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET_SUFFIX = ".parquet"

_ID_COLUMNS = ("Run", "Event", "SubEvent", "SubEventStream")
_RUNTIMES = ("runtime_prediction", "runtime_preprocess")
_MAX_STREAM = 1000  # no file of the detector has so many sub-event streams
_RESERVED = {*_ID_COLUMNS, *_RUNTIMES, "exists", "status"}

_Columns = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Predictions:
    """What a model predicts for the events of a file.

    Attributes
    ----------
    model
        Name of the model.
    table
        The predictions of n events.
    runtime
        Seconds for an event: of its prediction, and of reading its input; None: not measured.
    """

    model: str
    table: PredictionTable
    runtime: tuple[float, float] | None = None

    @property
    def status(self) -> NDArray[np.int32]:
        """Status of each event [n]."""
        status = self.table.status
        return np.zeros(len(self.table), np.int32) if status is None else status

    def status_counts(self) -> dict[str, int]:
        """Number of events of each status that occurs."""
        counts = np.bincount(self.status, minlength=len(Status)).tolist()
        return {status.name: counts[status] for status in Status if counts[status]}

    def columns(self) -> _Columns:
        """Labels and uncertainties, status, and run times [s]: columns [n]."""
        labels = self.table.columns()
        if taken := _RESERVED & labels.keys():
            raise ModelError(
                f"'{self.model}' has a label '{min(taken)}', the name of another column of its "
                "output: rename the label"
            )
        runtimes = zip(_RUNTIMES, self.runtime or (), strict=False)
        return {
            **labels,
            "status": self.status.astype(np.int32),
            **{name: np.full(len(self.table), seconds) for name, seconds in runtimes},
        }


def writer_of(path: Path) -> Callable[..., None]:
    """The function that writes a file of this name.

    Raises
    ------
    ConfigError
        If a package is missing.
    """
    if path.suffix != PARQUET_SUFFIX:
        return write_hdf5
    if importlib.util.find_spec("pyarrow") is None:
        raise ConfigError(
            "writing Parquet needs the package pyarrow: pip install 'dnn_reco[parquet]'. Or "
            "choose --format hdf5"
        )
    return write_parquet


def write_hdf5(
    path: Path,
    ids: NDArray[np.void],
    predictions: Sequence[Predictions],
    record: OutputRecord | None,
) -> None:
    """Write the tables `DeepLearningReco_<model>` and `…_I3Particle` of each model.

    Parameters
    ----------
    path
        File to write; it appears when it is complete.
    ids
        Ids of the n events.
    predictions
        Predictions of each model for them.
    record
        What they were made with, for the attribute `dnn_reco_predictions`; None: no record, so
        that `dnn-reco apply` does not take the file for one that it wrote.

    Raises
    ------
    DataError
        If the record is too long, or a number of `SubEventStream` cannot have a name.
    """
    tables: dict[str, Mapping[str, NDArray[np.generic]]] = {}
    for each in predictions:
        of_labels, of_particles = table_names(each.model)
        tables |= {of_labels: each.columns(), of_particles: each.table.particle()}
    text = "" if record is None else record.to_json()
    if len(text) > MAX_TEXT_BYTES:
        raise DataError(
            f"the record of '{path}' takes {len(text):,} bytes, but HDF5 can hold "
            f"{MAX_TEXT_BYTES:,}: apply fewer models at once, or choose --format parquet"
        )
    names = {} if record is None else record.streams
    streams = _stream_list(names, int(ids["SubEventStream"].max(initial=-1)))
    write_event_file(path, ids, tables, streams=streams, attributes={RECORD: text} if text else {})


def write_parquet(
    path: Path,
    ids: NDArray[np.void],
    predictions: Sequence[Predictions],
    record: OutputRecord | None,
) -> None:
    """Write one table: event ids, and the columns of each model, those of the particle last.

    With several models, names of their columns begin with `<model>.`. Arguments are those of
    :func:`write_hdf5`; the record is the metadatum `dnn_reco_predictions` of the schema.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: _Columns = {name: np.ascontiguousarray(ids[name]) for name in _ID_COLUMNS}
    for each in predictions:
        prefix = f"{each.model}." if len(predictions) > 1 else ""
        particle = {f"particle_{name}": values for name, values in each.table.particle().items()}
        columns |= {f"{prefix}{name}": v for name, v in {**each.columns(), **particle}.items()}
    metadata = {} if record is None else {RECORD: record.to_json()}
    table = pa.table(columns).replace_schema_metadata(metadata)
    with temporary_beside(path) as folder:
        part = folder / path.name
        pq.write_table(table, part, compression="zstd")
        part.replace(path)


def read_output_record(path: Path) -> OutputRecord:
    """The record of a file of predictions.

    Raises
    ------
    DataError
        If it is none, or is damaged.
    """
    text: str | bytes | None
    if is_i3(path):
        text = read_frame_record(path)
    elif path.suffix == PARQUET_SUFFIX:
        text = _parquet_text(path)
    else:
        text = read_attribute(path, RECORD)
    if text is None:
        raise DataError(f"'{path}' is not a file of predictions: it has no record '{RECORD}'")
    try:
        return OutputRecord.from_json(text)
    except ValueError as error:
        raise DataError(f"the record '{RECORD}' of '{path}' cannot be read: {error}") from error


def _parquet_text(path: Path) -> bytes | None:
    """The record of a Parquet file as text."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DataError(f"'{path}' cannot be read without the package pyarrow") from error
    try:
        schema: pa.Schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"'{path}' is not a Parquet file: {error}") from error
    metadata: Mapping[bytes, bytes] = schema.metadata or {}
    return metadata.get(RECORD.encode())


def _stream_list(names: Mapping[int, str], largest: int) -> list[str]:
    """Names of the streams from number 0 on; numbers without a name are called after it."""
    last = max([largest, *(number for number in names if number <= _MAX_STREAM)])
    return [names.get(number, f"stream_{number}") for number in range(min(last, _MAX_STREAM) + 1)]
