"""Which file of predictions belongs to which event file."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dnn_reco.data.hdf5 import HDF5_SUFFIXES
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.files import TEMPORARY
from dnn_reco.i3.reader import COMPRESSED, I3_SUFFIXES, is_i3
from dnn_reco.inference.output_file import PARQUET_SUFFIX, read_output_record

SUFFIX_OF_FORMAT = {"hdf5": HDF5_SUFFIXES[0], "parquet": PARQUET_SUFFIX, "i3": ".i3.zst"}


@dataclass(frozen=True)
class FileTask:
    """An event file, and the file of its predictions.

    Attributes
    ----------
    source, output
        Both.
    also
        Further files of its predictions, for a file with frames.
    """

    source: Path
    output: Path
    also: tuple[Path, ...] = ()

    @property
    def outputs(self) -> tuple[Path, ...]:
        """All files of predictions."""
        return (self.output, *self.also)


def plan_outputs(sources: Sequence[Path], output: Path, file_format: str | None) -> list[FileTask]:
    """The output of each input file.

    Parameters
    ----------
    sources
        Different event files.
    output
        A file, by its suffix or because it is there, or a folder.
    file_format
        "hdf5", "parquet" or "i3"; None: by the suffix of the file; in a folder "i3" for files with
        frames, else "hdf5".

    Raises
    ------
    ConfigError
        If a file is given for several event files or does not have the suffix of the format, or
        if an output would replace an input.
    """
    if _is_file(output):
        tasks = [FileTask(source, output) for source in sources]
        _check_file(output, len(sources), file_format)
    else:
        usual = "i3" if all(is_i3(source) for source in sources) else "hdf5"
        names = output_names(sources, SUFFIX_OF_FORMAT[file_format or usual])
        tasks = [FileTask(s, output / name) for s, name in zip(sources, names, strict=True)]
    inputs = {source.resolve() for source in sources}
    for task in tasks:
        if is_i3(task.output) and not is_i3(task.source):
            raise ConfigError(
                f"'{task.source}' has no frames, so its predictions cannot be written to "
                f"'{task.output}': choose --format hdf5 or parquet"
            )
        if task.output.resolve() in inputs:
            raise ConfigError(
                f"the predictions of '{task.source}' would replace the input file '{task.output}': "
                "choose another folder as --out"
            )
    return tasks


def _is_file(output: Path) -> bool:
    known = (*HDF5_SUFFIXES, PARQUET_SUFFIX)
    is_known = output.suffix in known or is_i3(output)
    return not output.is_dir() and (is_known or output.is_file())


def _check_file(output: Path, num_sources: int, file_format: str | None) -> None:
    if num_sources > 1:
        raise ConfigError(
            f"--out '{output}' is a file, but there are {num_sources} input files: name a folder"
        )
    allowed = {"hdf5": HDF5_SUFFIXES, "parquet": (PARQUET_SUFFIX,), "i3": I3_SUFFIXES}
    endings = (
        allowed[file_format] if file_format else [e for each in allowed.values() for e in each]
    )
    if not output.name.endswith(tuple(endings)):
        raise ConfigError(f"--out '{output}' must end in {' or '.join(endings)}")


def output_names(sources: Sequence[Path], suffix: str) -> list[Path]:
    """Relative paths for the outputs of different files, all different.

    They are the names of the files with another suffix. If two files would have the same, all
    keep their path below the folder that they have in common; if that is not sufficient, their
    suffix, too.
    """
    absolute = [Path(os.path.abspath(source)) for source in sources]  # noqa: PTH100 (links stay)
    common = Path(os.path.commonpath([path.parent for path in absolute]))
    below = [path.relative_to(common) for path in absolute]
    ways: list[Callable[[Path], Path]] = [
        lambda path: Path(f"{_stem(path)}{suffix}"),
        lambda path: path.with_name(f"{_stem(path)}{suffix}"),
        lambda path: path.with_name(f"{path.name}{suffix}"),
    ]
    for way in ways:
        names = [way(path) for path in below]
        if max(Counter(names).values()) == 1:
            break
    return names


def _stem(path: Path) -> str:
    """Name of a file without suffix, and without that of its compression."""
    return Path(path.stem).stem if path.suffix in COMPRESSED else path.stem


def without_earlier_outputs(
    sources: Sequence[Path], outputs: Sequence[Path]
) -> tuple[list[Path], list[Path]]:
    """Input files, and those among them that are outputs of earlier calls.

    Patterns of input files may match them; only files at or below one of `outputs` are opened.
    """
    places = [output.resolve() for output in outputs]
    earlier = [
        source
        for source in sources
        if any(map(source.resolve().is_relative_to, places)) and _is_output(source)
    ]
    return [source for source in sources if source not in earlier], earlier


def _is_output(path: Path) -> bool:
    try:
        read_output_record(path)
    except DataError:
        return False
    return True


def remove_leftovers(outputs: Iterable[Path]) -> None:
    """Remove what calls that were killed left of these outputs: their temporary folders."""
    names: dict[Path, set[str]] = {}
    for output in outputs:
        names.setdefault(output.parent, set()).add(output.name)
    for folder, of_outputs in names.items():
        if not folder.is_dir():
            continue
        for entry in folder.iterdir():
            name = entry.name.removeprefix(TEMPORARY).rpartition("-")[0]
            if entry.name.startswith(TEMPORARY) and name in of_outputs:
                shutil.rmtree(entry, ignore_errors=True)
