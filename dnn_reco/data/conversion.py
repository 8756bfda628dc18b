"""Source files of another format, of which event files (HDF5) are made first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dnn_reco.errors import ConfigError

MakeEventFile = Callable[[str, Path, Path], Mapping[str, int]]
"""Makes an event file: settings, source, and path of the event file; returns what was left out."""


@dataclass(frozen=True)
class Conversion:
    """How event files are made of files of another format.

    Attributes
    ----------
    endings
        Endings of the names of such files.
    make
        Makes an event file. Raises DataError where the source cannot be used.
    settings
        All that the event files depend on besides their sources, as text.
    others
        Files that they depend on as well.
    problem
        Why no such file can be used; empty: they can.
    """

    endings: tuple[str, ...]
    make: MakeEventFile
    settings: str = ""
    others: tuple[Path, ...] = ()
    problem: str = ""

    def applies_to(self, source: Path) -> bool:
        """Whether an event file must be made of a source.

        Raises
        ------
        ConfigError
            If it must, and cannot.
        """
        if not source.name.endswith(self.endings):
            return False
        if self.problem:
            raise ConfigError(self.problem)
        return True
