"""What a creation of data consists of: files to make, the segments that run, what is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnn_reco.config.sources import Notice

I3_ENDINGS = ("i3.zst", "i3.gz", "i3.bz2", "i3")
"""Endings of files with frames."""

CREATE_DATA = "ic3_data.segments.CreateDNNData"
"""The segment that makes input features."""


@dataclass(frozen=True)
class Segment:
    """A module that sees each frame, in the words of the config.

    Attributes
    ----------
    module_class
        Its dotted name; one of IceTray's own modules, such as `Delete`, has no dot.
    kwargs
        Its arguments by name.
    where
        File and line, for messages.
    only_simulation
        Whether it is left out for files without simulated particles.
    """

    module_class: str
    kwargs: Mapping[str, Any]
    where: str
    only_simulation: bool = False


@dataclass(frozen=True)
class PlannedFile:
    """The outputs of one run, which have the same path up to their endings.

    Attributes
    ----------
    inputs
        Files with the events, in the order to read them.
    gcd
        File with geometry, calibration and detector status, read first; None: there is none, or it
        is part of the inputs.
    output
        Path of the outputs without ending; see :meth:`Outputs.paths`.
    run_number
        Number of the run.
    dataset
        Name of the data set.
    segments
        What to run, in order; patterns and values of the context are filled in.
    hdf5_keys
        Frame objects to write to the HDF5 file, each once. The names of the features' tables begin
        with the entry of a `CreateDNNData`.
    context
        What `context-->ic3_processing.…` refers to: `infiles`, `n_files` and `outfile`.
    """

    inputs: tuple[Path, ...]
    gcd: Path | None
    output: Path
    run_number: int
    dataset: str
    segments: tuple[Segment, ...]
    hdf5_keys: tuple[str, ...]
    context: Mapping[str, Any]


@dataclass(frozen=True)
class SkippedRun:
    """A run that no files are made of.

    Attributes
    ----------
    dataset, run_number
        The run.
    reason
        Why not.
    """

    dataset: str
    run_number: int
    reason: str


@dataclass(frozen=True)
class Outputs:
    """What is written of each run.

    Attributes
    ----------
    i3, hdf5
        Whether a file with frames, and one with tables, is written.
    i3_ending
        Ending of the file with frames, without dot.
    i3_streams
        Letters of the kinds of frames that it holds.
    sub_event_streams
        P frames of these streams become rows of the tables, in this order of the streams.
    """

    i3: bool
    hdf5: bool
    i3_ending: str
    i3_streams: tuple[str, ...]
    sub_event_streams: tuple[str, ...]

    def paths(self, output: Path) -> tuple[Path, ...]:
        """The files that are written for an `output` without ending: tables first."""
        endings = [*(["hdf5"] if self.hdf5 else []), *([self.i3_ending] if self.i3 else [])]
        return tuple(output.with_name(f"{output.name}.{ending}") for ending in endings)


@dataclass(frozen=True)
class CreationPlan:
    """All that a creation of data does.

    Attributes
    ----------
    files
        The files to make, in the order of the config.
    skipped
        Runs without files.
    steps
        The segments as written, without filled patterns: those of all steps in order.
    outputs
        What is written.
    exclude_corrupted
        Whether inputs that are truncated or damaged are left out, instead of failing the run.
    notices
        Messages about the config.
    """

    files: tuple[PlannedFile, ...]
    skipped: tuple[SkippedRun, ...]
    steps: tuple[Segment, ...]
    outputs: Outputs
    exclude_corrupted: bool = False
    notices: tuple[Notice, ...] = ()
