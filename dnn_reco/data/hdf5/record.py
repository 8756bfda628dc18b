"""The record of an event file: the settings that its features were made with.

It is the attribute `dnn_reco_data_settings` of the root group, JSON text of ASCII characters; in a
file with several sets of input tables, one attribute `dnn_reco_data_settings.<prefix>` for each.
Other programs read the file as before.
"""

from collections.abc import Sequence
from os import PathLike

from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.file_events import InputTables
from dnn_reco.data.hdf5.attributes import MAX_TEXT_BYTES, read_attribute
from dnn_reco.data.hdf5.detect import VALUES_ENDING
from dnn_reco.errors import DataError

RECORD = "dnn_reco_data_settings"
"""Name of the attribute."""


def record_attributes(settings: Sequence[DataSettings]) -> dict[str, str]:
    """Names and contents of the attributes, for the settings of each set of input tables.

    Raises
    ------
    DataError
        If it is too long.
    """
    if len(settings) == 1:
        return {RECORD: _text(settings[0])}
    return {_name(each.output_key): _text(each) for each in settings}


def _name(prefix: str) -> str:
    return f"{RECORD}.{prefix}"


def _text(settings: DataSettings) -> str:
    text = settings.to_json()
    if len(text) > MAX_TEXT_BYTES:
        raise DataError(
            f"the data settings take {len(text):,} bytes, but a file can hold {MAX_TEXT_BYTES:,}: "
            "use fewer time_bins or time_quantiles"
        )
    return text


def read_record(
    path: str | PathLike[str], tables: InputTables | None = None
) -> DataSettings | None:
    """The settings that a file's features were made with; None if the file has no record.

    Parameters
    ----------
    path
        The file.
    tables
        The input tables that are read, which count where a file has several sets of them.

    Raises
    ------
    DataError
        If the file cannot be read, or its record is damaged.
    """
    names = [RECORD]
    if tables is not None:
        names.append(_name(tables.values.removesuffix(VALUES_ENDING)))
    for name in names:
        content = read_attribute(path, name)
        if content is not None:
            return DataSettings.from_json(content, f"the record '{name}' of '{path}'")
    return None
