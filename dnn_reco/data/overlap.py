"""Files that are both trained on and held out."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from dnn_reco.config import Config, load_config
from dnn_reco.data.simulated_files import same_simulated_events
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.files import find_files

_log = logging.getLogger(__name__)

_MOST_NAMED = 5  # files in a message
_DIGEST_BYTES = 1_000_000  # of the beginning, and of the end of a file
_HELD_OUT = ("validation_data_file", "test_data_file")


def refuse_overlap_of_lists(stages: Sequence[Config], allow_overlap: bool) -> None:
    """Check that no validation or test file is trained on; where that is allowed, warn.

    Lists without a file are left to the commands that read them.

    Parameters
    ----------
    stages
        The config of each stage of a training.
    allow_overlap
        Whether to warn only.

    Raises
    ------
    DataError
        Naming such files.
    """
    seen = files_seen(stages)
    for key in _HELD_OUT:
        refuse_overlap(seen, files_if_any(stages[-1], key), allow_overlap, key)


def files_seen(stages: Sequence[Config]) -> list[Path]:
    """The files that any stage of a training trains on, each once; none of lists without files."""
    files = (path for config in stages for path in files_if_any(config, "training_data_file"))
    return list(dict.fromkeys(files))


def files_recorded(folder: Path, config: Config) -> list[Path]:
    """The files that the networks of a model folder were trained on, as far as they are here.

    Parameters
    ----------
    folder
        The model folder, with a record of each step of the training, also of its stages.
    config
        Config of the model, that of the last step.
    """
    records = sorted(folder.rglob("config_training_*.yaml"))
    return files_seen([*recorded_configs(records), config])


def recorded_configs(records: Iterable[Path]) -> list[Config]:
    """The configs of the steps of a training; a warning for records that cannot be read."""
    configs = []
    for path in records:
        try:
            configs.append(load_config([path]))
        except ConfigError as error:
            _log.warning(
                "The files that were trained on in the step of '%s' are unknown: %s", path, error
            )
    return configs


def files_if_any(config: Config, key: str) -> list[Path]:
    """The files of a list of the config; none if it is not set or matches no file."""
    patterns = config.values().get(key)
    try:
        return find_files(patterns, key) if patterns else []
    except DataError:
        return []


def refuse_overlap(
    seen: Sequence[Path],
    held_out: Sequence[Path],
    allow_overlap: bool,
    key: str = "the held-out files",
) -> None:
    """Check that no file is both trained on and held out; where that is allowed, warn.

    Parameters
    ----------
    seen
        The files to train on.
    held_out
        The other files.
    allow_overlap
        Whether to warn only.
    key
        What the other files are, for the message.

    Raises
    ------
    DataError
        Naming such files.
    """
    text = overlap_text(seen, held_out, key)
    if text and not allow_overlap:
        raise DataError(
            f"{text}: a network that has seen an event seems better than it is. Give other files "
            "(for the held-out ones also with --test-data), or take these with --allow-overlap"
        )
    if text:
        _log.warning("%s.", text)


def refuse_recorded(
    recorded: Collection[tuple[int, str]], files: Sequence[Path], model: str, allow_overlap: bool
) -> None:
    """Check that no file is one of those that a model was calibrated with; or warn.

    Parameters
    ----------
    recorded
        Size in bytes and :func:`digest_of_ends` of those files.
    files
        The files to judge the model with.
    model
        Its name.
    allow_overlap
        Whether to warn only.

    Raises
    ------
    DataError
        Naming such files.
    """
    sizes = {size for size, _ in recorded}
    same = [
        path
        for path in files
        if path.is_file()
        and path.stat().st_size in sizes
        and (path.stat().st_size, digest_of_ends(path)) in recorded
    ]
    if not same:
        return
    text = (
        f"'{model}' was calibrated with {quoted_paths(same)}: its coverage on them is correct by "
        "construction and no test of the calibration"
    )
    if not allow_overlap:
        raise DataError(f"{text}. Give other files, or take these with --allow-overlap")
    _log.warning("%s.", text)


def overlap_text(seen: Sequence[Path], held_out: Sequence[Path], key: str) -> str:
    """Which of the files to train on are, or hold events, in another list; empty if none."""
    same = same_files(seen, held_out)
    if not same:
        return _simulated_alike(seen, held_out, key)
    copies = {path: other for path, other in same.items() if path.resolve() != other.resolve()}
    listed = f"{quoted_paths(same)} {'is' if len(same) == 1 else 'are'} both in"
    path = next(iter(copies), None)
    copied = f" ('{path}' has the content of '{copies[path]}')" if path is not None else ""
    return f"{listed} training_data_file and in {key}{copied}"


def _simulated_alike(seen: Sequence[Path], held_out: Sequence[Path], key: str) -> str:
    """Which of the files to train on hold simulated events of another list; empty if none does."""
    alike = same_simulated_events(seen, held_out)
    if not alike:
        return ""
    path, other = next(iter(alike.items()))
    return (
        f"{quoted_paths(alike)} of {key} hold{'s' * (len(alike) == 1)} events of "
        f"training_data_file ('{path}' was simulated with the settings and the seed of '{other}': "
        "another --seed gives other events)"
    )


def same_files(first: Sequence[Path], second: Sequence[Path]) -> dict[Path, Path]:
    """Files of the second list that are also in the first, and their counterparts there.

    Two files are the same if they have the same path, links resolved, or the same size and the same
    content of their first and last megabyte.
    """
    by_path = {path.resolve(): path for path in first}
    same = {path: by_path[path.resolve()] for path in second if path.resolve() in by_path}
    others = _by_size(second)
    for size, paths in _by_size(first).items():
        candidates = [path for path in others.get(size, []) if path not in same]
        if candidates:
            by_content = {digest_of_ends(path): path for path in paths}
            found = {path: by_content.get(digest_of_ends(path)) for path in candidates}
            same |= {path: other for path, other in found.items() if other is not None}
    return same


def _by_size(files: Sequence[Path]) -> dict[int, list[Path]]:
    """Files that are there and not empty by their size [bytes]."""
    by_size: dict[int, list[Path]] = {}
    for path in files:
        if path.is_file():  # reading reports links to nowhere
            by_size.setdefault(path.stat().st_size, []).append(path)
    by_size.pop(0, None)
    return by_size


def digest_of_ends(path: Path) -> str:
    """SHA-256 of the first and the last megabyte of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(_DIGEST_BYTES))
        file.seek(max(file.tell(), path.stat().st_size - _DIGEST_BYTES))
        digest.update(file.read())
    return digest.hexdigest()


def resolved_paths(files: Sequence[Path]) -> set[Path]:
    """Absolute paths without links, so that two names of one file are equal."""
    return {path.resolve() for path in files}


def quoted_paths(files: Collection[Path]) -> str:
    """A list of files for a message: the first of them, and how many more there are."""
    names = [f"'{path}'" for path in sorted(files)]
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
