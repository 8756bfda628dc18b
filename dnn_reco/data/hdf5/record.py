"""The record of an event file: the settings that its features were made with.

It is the attribute `dnn_reco_data_settings` of the root group, JSON text of ASCII characters.
Programs that do not know it read the file as before.
"""

from os import PathLike

import h5py

from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.hdf5.tables import open_file
from dnn_reco.errors import DataError

RECORD = "dnn_reco_data_settings"
"""Name of the attribute."""

MOST_BYTES = 60_000
"""Longest record: the layout of the files allows attributes of 64 kB."""


def record_text(settings: DataSettings) -> str:
    """Content of the attribute.

    Raises
    ------
    DataError
        If it is too long.
    """
    text = settings.to_json()
    if len(text) > MOST_BYTES:
        raise DataError(
            f"the data settings take {len(text):,} bytes, but a file can hold {MOST_BYTES:,}: use "
            "fewer time_bins or time_quantiles"
        )
    return text


def read_record(path: str | PathLike[str]) -> DataSettings | None:
    """The settings that a file's features were made with; None if the file has no record.

    Raises
    ------
    DataError
        If the file cannot be read, or its record is damaged.
    """
    place = f"the record '{RECORD}' of '{path}'"
    with open_file(path) as file:
        content = _content(file, place) if RECORD in file.attrs else None
    return None if content is None else DataSettings.from_json(content, place)


def _content(file: h5py.File, place: str) -> str | bytes:
    """The text of the attribute, checked to be text of bounded size."""
    attribute = file.attrs.get_id(RECORD)
    is_text = attribute.get_type().get_class() == h5py.h5t.STRING and attribute.shape == ()
    if is_text and attribute.get_storage_size() <= MOST_BYTES:
        content: str | bytes = file.attrs[RECORD]
        if len(content) <= MOST_BYTES:  # the storage of text of variable length is a reference
            return content
    raise DataError(
        f"{place} is damaged: it is not one text of at most {MOST_BYTES:,} bytes. Write the file "
        "again, or remove the attribute"
    )
