"""What an event file holds besides its rows: texts attached to it, names of sub-event streams."""

import re
from os import PathLike

import h5py

from dnn_reco.data.hdf5.tables import (
    SUB_EVENT_STREAMS,
    find_table,
    open_file,
    require_columns,
)
from dnn_reco.errors import DataError

MAX_TEXT_BYTES = 60_000
"""Longest text: the layout of the files allows attributes of 64 kB."""

NUM_INPUTS = "dnn_reco_num_inputs"
"""Name of the text that is the number of files that the events of a file come from."""


def read_attribute(path: str | PathLike[str], name: str) -> str | None:
    """A text that is attached to a file; None if there is none of this name.

    Raises
    ------
    DataError
        If the file cannot be read, or the attribute is not text of bounded size.
    """
    with open_file(path) as file:
        if name not in file.attrs:
            return None
        attribute = file.attrs.get_id(name)
        is_text = attribute.get_type().get_class() == h5py.h5t.STRING and attribute.shape == ()
        content = file.attrs[name] if is_text and attribute.get_storage_size() <= 2**16 else None
    if isinstance(content, bytes):
        content = content.decode(errors="replace")
    if content is None or len(content) > MAX_TEXT_BYTES:
        raise DataError(
            f"'{path}' is damaged: its attribute '{name}' is not one text of at most "
            f"{MAX_TEXT_BYTES:,} bytes. Write the file again, or remove the attribute"
        )
    return str(content)


def read_num_inputs(path: str | PathLike[str]) -> int | None:
    """How many files an event file is made of; None: it does not record it.

    Raises
    ------
    DataError
        If the file cannot be read, or it is no such number.
    """
    text = read_attribute(path, NUM_INPUTS)
    if text is None:
        return None
    if not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise DataError(
            f"'{path}' is damaged: its attribute '{NUM_INPUTS}' is not a number of files. Write "
            "the file again, or remove the attribute"
        )
    return int(text)


def read_stream_names(path: str | PathLike[str], table: str) -> dict[int, str]:
    """Name of each number of `SubEventStream` in a table; the usual ones where it names none.

    Raises
    ------
    DataError
        If the file cannot be read, or there is no such table.
    """
    with open_file(path) as file:
        source = find_table(file, table)
        require_columns(source, ["SubEventStream"])
        numbers = h5py.check_enum_dtype(source.dtype["SubEventStream"])
    if not numbers:
        return dict(enumerate(SUB_EVENT_STREAMS))
    return {int(number): name for name, number in sorted(numbers.items())}
