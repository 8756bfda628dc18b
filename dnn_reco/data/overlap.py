"""Files that are both trained on and held out."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from dnn_reco.errors import DataError

_log = logging.getLogger(__name__)

_MOST_NAMED = 5  # files in a message


def refuse_overlap(seen: Sequence[Path], held_out: Sequence[Path], allow_overlap: bool) -> None:
    """Check that no file is both trained on and held out; where that is allowed, warn.

    Raises
    ------
    DataError
        Naming such files.
    """
    overlap = resolved_paths(held_out) & resolved_paths(seen)
    if not overlap:
        return
    listed = f"{quoted_paths(overlap)} {'is' if len(overlap) == 1 else 'are'}"
    if not allow_overlap:
        raise DataError(
            f"{listed} both in training_data_file and held out for the comparison: a network that "
            "has seen an event seems better than it is. Give other files with --test-data, or take "
            "it with --allow-overlap"
        )
    _log.warning("%s both trained on and held out.", listed)


def resolved_paths(files: Sequence[Path]) -> set[Path]:
    """Absolute paths without links, so that two names of one file are equal."""
    return {path.resolve() for path in files}


def quoted_paths(files: Collection[Path]) -> str:
    """A list of files for a message: the first of them, and how many more there are."""
    names = [f"'{path}'" for path in sorted(files)]
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
