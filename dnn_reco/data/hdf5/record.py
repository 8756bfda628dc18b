"""The record of an event file: the settings that its features were made with.

It is the attribute `dnn_reco_data_settings` of the root group, JSON text of ASCII characters.
Programs that do not know it read the file as before.
"""

from os import PathLike

from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.hdf5.attributes import MAX_TEXT_BYTES, read_attribute
from dnn_reco.errors import DataError

RECORD = "dnn_reco_data_settings"
"""Name of the attribute."""


def record_text(settings: DataSettings) -> str:
    """Content of the attribute.

    Raises
    ------
    DataError
        If it is too long.
    """
    text = settings.to_json()
    if len(text) > MAX_TEXT_BYTES:
        raise DataError(
            f"the data settings take {len(text):,} bytes, but a file can hold {MAX_TEXT_BYTES:,}: "
            "use fewer time_bins or time_quantiles"
        )
    return text


def read_record(path: str | PathLike[str]) -> DataSettings | None:
    """The settings that a file's features were made with; None if the file has no record.

    Raises
    ------
    DataError
        If the file cannot be read, or its record is damaged.
    """
    content = read_attribute(path, RECORD)
    place = f"the record '{RECORD}' of '{path}'"
    return None if content is None else DataSettings.from_json(content, place)
