"""Fields of the objects of frames as a table with one row per frame: Parquet, or CSV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dnn_reco.errors import ConfigError, DataError
from dnn_reco.files import temporary_beside
from dnn_reco.i3.columns import fields_of, split_name
from dnn_reco.i3.events import header_of
from dnn_reco.i3.frame import Frame
from dnn_reco.i3.objects import NO_SUB_RUN
from dnn_reco.suggestions import did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".parquet", ".csv")

_ID_TYPES = {"run": "u4", "sub_run": "u4", "event": "u4", "sub_event": "u4", "stream": ""}
_ROWS = 250  # in memory at the same time
_SHOWN = 5

Row = dict[str, Any]


class FieldTable:
    """Rows of frames: columns of the event id, then fields of objects.

    Parameters
    ----------
    names
        Keys of objects, or a key, a dot, and the name of a field or of the first part of several.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._columns: dict[str, dict[str, None]] = {name: {} for name in names}
        self._known_keys: set[str] = set()
        self._problems: dict[str, str] = {}

    def row(self, frame: Frame) -> Row:
        """Values by column; those that the frame lacks are missing.

        Raises
        ------
        DataError
            If an object is not decoded, or its class has no such field.
        """
        self._known_keys |= frame.keys()
        header = header_of(frame)
        values: Row = {name: getattr(header, name, None) for name in _ID_TYPES}
        if values["sub_run"] == NO_SUB_RUN:
            values["sub_run"] = None
        for name, columns in self._columns.items():
            found = self._fields(frame, name)
            values.update(found)
            columns.update(dict.fromkeys(found))
        return values

    def _fields(self, frame: Frame, name: str) -> Row:
        """Fields of a frame that a name chooses, by column."""
        parts = split_name(name, frame)
        if parts is None:
            return {}
        key, wanted = parts
        value = frame[key]
        try:
            fields = fields_of(value)
        except DataError as error:
            raise DataError(f"{frame.source}: '{key}' cannot be a column: {error}") from error
        found = {
            f"{key}.{field}" if field else key: values
            for field, values in fields.items()
            if not wanted or field == wanted or field.startswith(f"{wanted}.")
        }
        if found.keys() & _ID_TYPES.keys():
            raise DataError(f"{frame.source}: '{key}' has the name of a column of the event id")
        if not found and wanted:
            known = f" There are: {', '.join(fields)}" if any(fields) else " It is one value"
            self._problems[name] = (
                f"'{key}' has no field '{wanted}'.{did_you_mean(wanted, fields)}{known}"
            )
            if not isinstance(value, Mapping):  # names in a map may differ between frames
                raise DataError(f"{frame.source}: {self._problems[name]}")
        return found

    def check_found(self) -> None:
        """Check that each name chose a field of some frame.

        Raises
        ------
        DataError
            If one did not.
        """
        for name, columns in self._columns.items():
            if not columns and name in self._problems:
                raise DataError(self._problems[name])
            if not columns and split_name(name, self._known_keys) is None:
                raise DataError(
                    "no frame has an object "
                    f"'{name}'.{did_you_mean(name, sorted(self._known_keys))} 'dnn-reco i3 ls FILE "
                    "--keys' lists them"
                )

    @property
    def order(self) -> list[str]:
        """Columns of the table, in order."""
        found = (column for columns in self._columns.values() for column in columns)
        return list(dict.fromkeys([*_ID_TYPES, *found]))


def write_table(path: Path, frames: Iterable[Frame], names: Sequence[str]) -> tuple[int, int]:
    """Write fields of frame objects, one row per frame; the file appears when it is complete.

    Memory does not grow with the number of frames.

    Parameters
    ----------
    path
        The file; its name ends in .parquet or .csv. CSV holds no lists.
    frames
        The frames.
    names
        See `FieldTable`.

    Returns
    -------
    num_rows, num_columns
        Size of the table.

    Raises
    ------
    ConfigError
        If the package pyarrow is missing.
    DataError
        If an object is not decoded, a field is in no frame, is of different kinds, or is a list
        and the file CSV.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ConfigError(
            "tables need the package pyarrow: pip install 'dnn_reco[parquet]'"
        ) from error
    table = FieldTable(names)
    rows = map(table.row, frames)
    with temporary_beside(path) as folder:
        parts: list[Path] = []
        while block := list(islice(rows, _ROWS)):
            parts.append(folder / f"{len(parts)}.arrow")
            with pa.OSFile(str(parts[-1]), "wb") as file:
                content = _arrow_table(block, table.order)
                with pa.ipc.new_file(file, content.schema) as writer:
                    writer.write_table(content)
        table.check_found()
        schema = _common_schema(parts, table.order)
        num_rows = _join(parts, schema, folder / path.name)
        (folder / path.name).replace(path)
    return num_rows, len(schema)


def _arrow_table(rows: Sequence[Row], columns: Sequence[str]) -> pa.Table:
    import pyarrow as pa

    arrays = {}
    for column in columns:
        values = [row.get(column) for row in rows]
        try:
            arrays[column] = _arrow_array(values, _ID_TYPES.get(column))
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, OverflowError) as error:
            raise DataError(f"'{column}' has values of incompatible types: {error}") from error
    return pa.table(arrays)


def _arrow_array(values: list[Any], id_type: str | None) -> pa.Array:
    """One value, or a list of them, for each row; None is null."""
    import pyarrow as pa

    if id_type:
        return pa.array(values, pa.from_numpy_dtype(id_type))
    if id_type == "":
        return pa.array(values, pa.string())
    present = [value for value in values if value is not None]
    if present and all(isinstance(value, np.ndarray) for value in present):
        lengths = [0 if value is None else len(value) for value in values]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        is_null = np.array([value is None for value in values] + [False])
        content = pa.array(np.concatenate(present))
        return pa.ListArray.from_arrays(pa.array(offsets, mask=is_null), content)
    return pa.array([_plain(value) for value in values])


def _plain(value: Any) -> Any:
    """A value without the surrogates that stand for bytes that are not text."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _common_schema(parts: Sequence[Path], order: Sequence[str]) -> pa.Schema:
    import pyarrow as pa

    try:
        schemas = [pa.ipc.open_file(str(part)).schema for part in parts]
        known = pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"values of different kinds are in one column: {error}") from error
    return pa.schema([known.field(name) for name in order])


def _join(parts: Sequence[Path], schema: pa.Schema, path: Path) -> int:
    """Write the tables of parts into one file; returns its number of rows."""
    import pyarrow.csv
    import pyarrow.parquet

    if path.suffix == ".csv":
        _refuse_lists(schema, path)
        writer = pyarrow.csv.CSVWriter(str(path), schema)
    else:
        writer = pyarrow.parquet.ParquetWriter(path, schema, compression="zstd")
    num_rows = 0
    with writer:
        for part in _tables(parts, schema):
            writer.write_table(part)
            num_rows += len(part)
    return num_rows


def _tables(parts: Sequence[Path], schema: pa.Schema) -> Iterator[pa.Table]:
    import pyarrow as pa

    for part in parts:
        table = pa.ipc.open_file(str(part)).read_all()
        missing = [name for name in schema.names if name not in table.column_names]
        for name in missing:
            table = table.append_column(name, pa.nulls(len(table), schema.field(name).type))
        yield table.select(schema.names).cast(schema)


def _refuse_lists(schema: pa.Schema, path: Path) -> None:
    import pyarrow as pa

    lists = [field.name for field in schema if pa.types.is_list(field.type)]
    if lists:
        more = f" and {len(lists) - _SHOWN} more" if len(lists) > _SHOWN else ""
        raise DataError(
            f"'{path.name}' cannot hold lists, such as {', '.join(lists[:_SHOWN])}{more}: write a "
            ".parquet file, or choose other fields"
        )
