"""Finding files, writing them atomically, and their digest."""

import glob
import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dnn_reco.errors import DataError

TEMPORARY = ".tmp-"
"""Beginning of the names of what is not complete."""


def find_files(patterns: Sequence[str], key: str) -> list[Path]:
    """Files that match the glob patterns of a config key, each once, in sorted order.

    Raises
    ------
    DataError
        If there is no such file.
    """
    return list(count_files(patterns, key))


def count_files(patterns: Sequence[str], key: str) -> dict[Path, int]:
    """Files that match the glob patterns of a config key, and by how many patterns each is listed.

    A pattern that is given several times counts several times.

    Raises
    ------
    DataError
        If there is no such file.
    """
    times = Counter(name for pattern in patterns for name in _matches(pattern))
    names = {os.path.abspath(name): name for name in sorted(times)}  # noqa: PTH100
    by_path: Counter[str] = Counter()
    for name, count in times.items():
        by_path[os.path.abspath(name)] += count  # noqa: PTH100
    files = {Path(name): by_path[path] for path, name in names.items()}
    if not files:
        listed = "".join(f"\n  {pattern}" for pattern in patterns)
        raise DataError(
            f"no file matches {key}:{listed or ' (the list is empty)'}\n"
            f"Relative paths start from the working directory '{Path.cwd()}'."
        )
    return {file: files[file] for file in sorted(files)}


def _matches(pattern: str) -> list[str]:
    """Names that match; an existing name with brackets matches itself."""
    return [pattern] if os.path.exists(pattern) else glob.glob(pattern)  # noqa: PTH110, PTH207


_PACKAGE_FOLDER = Path(__file__).resolve().parent


def is_in_package(path: str | Path) -> bool:
    """Whether a path lies in the folder of this package, where nothing may be written."""
    return Path(path).resolve().is_relative_to(_PACKAGE_FOLDER)


def file_size(path: Path, missing: int = 0) -> int:
    """Bytes of a file; `missing` if it does not exist."""
    try:
        return path.stat().st_size
    except OSError:
        return missing


def existing_part(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    while not path.exists():
        path = path.parent
    return path


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """A temporary folder next to `path`, always removed on exit.

    Files written there and then renamed to `path` appear atomically, also after a crash.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{TEMPORARY}{path.name}-") as folder:
        yield Path(folder)


def replace_folder(path: Path, new: Path) -> None:
    """Put a folder in the place of another one, if there is one.

    That one is moved beside the new folder, and back if this fails or is interrupted.
    """
    replaced = new.with_name(f"{new.name}.replaced")
    try:
        if path.exists():
            path.rename(replaced)
        new.rename(path)
    except BaseException:
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        raise


def keep_others(folder: Path, new: Path, replaced: Collection[str]) -> None:
    """Put what a folder holds into the one that will replace it, besides what is replaced.

    Files become hard links where the file system has them, so that large ones cost nothing.

    Parameters
    ----------
    folder, new
        Both folders.
    replaced
        Paths of files and folders in `folder` that are left out.
    """

    def left_out(parent: str, names: list[str]) -> list[str]:
        place = Path(parent).relative_to(folder)
        return [name for name in names if (place / name).as_posix() in replaced]

    shutil.copytree(
        folder, new, symlinks=True, ignore=left_out, copy_function=_link, dirs_exist_ok=True
    )


def _link(source: str, target: str) -> None:
    """A hard link; a copy where there can be none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


OTHER_FOLDER = "choose another --out"
"""What helps where a command cannot write its outputs."""


@contextmanager
def writing(what: str, path: Path, remedy: str) -> Iterator[None]:
    """Turn a failure to write to a path, such as on a full disk, into a DataError.

    Parameters
    ----------
    what
        What is written.
    path
        The file or folder.
    remedy
        What to do.
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"{what} cannot be written to '{path}' ({error}): {remedy}") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path`: a reader sees the old file or the new one, never a part."""
    with temporary_beside(path) as folder:
        part = folder / path.name
        try:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            error.filename = str(path)  # it is not named where the disk is full
            raise
        part.replace(path)


def file_digest(path: Path) -> str:
    """SHA-256 of the content of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
