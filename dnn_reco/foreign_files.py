"""Files that others may have written, checked before they are read or copied."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dnn_reco.errors import ModelError

# Sizes [bytes] that no file of a model exceeds: texts such as configs, transformation models, and
# weights.
MAX_TEXT_SIZE = 2**24
MAX_TRANSFORMATION_SIZE = 2**30
MAX_WEIGHTS_SIZE = 2**36


def check_foreign_file(path: Path, max_size: int, folder: Path | None = None) -> None:
    """Check that a path is a regular file of bounded size that lies in its folder.

    A link may lead to any file of the user who follows it, a device never ends, and a FIFO waits
    for ever.

    Parameters
    ----------
    path
        The file.
    max_size
        Its largest size in bytes.
    folder
        The folder that must contain it, links resolved. None: the user named the file, wherever it
        lies.

    Raises
    ------
    ModelError
        If it is something else.
    """
    if not path.is_file():
        reason = "is not a regular file" if path.exists() or path.is_symlink() else "is missing"
        raise ModelError(f"'{path}' {reason}")
    if folder is not None and not path.resolve().is_relative_to(folder.resolve()):
        raise ModelError(
            f"'{path}' is a link to '{path.resolve()}', outside of '{folder}', and is not "
            "followed: copy the file there if it belongs to the model"
        )
    size = path.stat().st_size
    if size > max_size:
        raise ModelError(
            f"'{path}' has {size:,} bytes, but such a file has at most {max_size:,}: it does not "
            "belong to a model"
        )


def parse_json(content: str | bytes) -> Any:
    """The value of a JSON text.

    Raises
    ------
    ValueError
        If it is not JSON, or nested too deeply for Python.
    """
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("its brackets are nested too deeply") from error
