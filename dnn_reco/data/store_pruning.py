"""Removing what no config can use any more from an event store, some time after it was announced.

These are temporary folders that a killed program left, shards made by an earlier version, shards of
files that have changed since, and records and event files of shards that are gone. A training may
still read them: so they are only announced at first, and removed when the store is extended a week
later.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dnn_reco.amounts import counted
from dnn_reco.data.store import EVENT_FILES, STORE_VERSION, shard_name
from dnn_reco.errors import DataError
from dnn_reco.files import TEMPORARY, file_size, write_atomically
from dnn_reco.foreign_files import parse_json

_DAY = 86_400.0
_GRACE = 7 * _DAY
_ANNOUNCED = "stale.json"

_log = logging.getLogger(__name__)


def prune_store(store: Path, now: Callable[[], float] = time.time) -> None:
    """Announce what is stale in a store, and remove what was announced a week ago.

    Parameters
    ----------
    store
        Folder of the store.
    now
        Returns the time [s since 1970].
    """
    if not store.is_dir():
        return
    seconds = now()
    stale = {str(folder.relative_to(store)) for folder in _stale_folders(store, seconds)}
    before = _announced(store / _ANNOUNCED)
    due = [name for name in sorted(stale) if seconds - before.get(name, seconds) >= _GRACE]
    new = sorted(stale - before.keys())
    try:
        if due:
            size = sum(_size(store / name) for name in due)
            _log.info(
                f"Event store: {counted(len(due), 'stale folder')} ({size / 1e6:,.0f} MB) removed."
            )
        for name in due:
            shutil.rmtree(store / name, ignore_errors=True)
        if new:
            size = sum(_size(store / name) for name in new)
            _log.info(
                f"Event store '{store}': {counted(len(new), 'folder')} ({size / 1e6:,.0f} MB) "
                "remain from killed programs, earlier versions or changed files. "
                f"'{store / _ANNOUNCED}' lists them. They are removed after 7 days, or delete "
                "them now."
            )
        content = {name: before.get(name, seconds) for name in sorted(stale - set(due))}
        if content != before:
            write_atomically(store / _ANNOUNCED, json.dumps(content, indent=1).encode())
    except OSError:
        _log.debug("The event store '%s' cannot be pruned.", store, exc_info=True)


def _announced(file: Path) -> dict[str, float]:
    """Stale folders that were announced, with the time [s since 1970]."""
    try:
        content: Any = parse_json(file.read_bytes())
        return {str(name): float(seconds) for name, seconds in content.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _stale_folders(store: Path, now: float) -> Iterator[Path]:
    for folder in store.glob(f"*/{TEMPORARY}*"):
        yield from _old(folder, now)
    for folder in store.glob(f"records-*/*/{TEMPORARY}*"):
        yield from _old(folder, now)
    shards = {shard for shard in store.glob("hits-*/*") if not shard.name.startswith(".")}
    of_no_use = {shard for shard in shards if _is_of_no_use(shard)}
    yield from of_no_use
    in_use = {shard.name for shard in shards - of_no_use}
    for pattern in ("records-*/*", f"{EVENT_FILES}/*"):
        for folder in store.glob(pattern):
            if folder.name not in in_use and not folder.name.startswith("."):
                yield folder


def _old(folder: Path, now: float) -> Iterator[Path]:
    """The folder, if nothing was written to it for a day."""
    try:
        times = [path.stat().st_mtime for path in (folder, *folder.rglob("*"))]
    except OSError:
        return  # it has just been removed
    if now - max(times) > _DAY:
        yield folder


def _is_of_no_use(shard: Path) -> bool:
    """Whether a shard has another version, or of a file that has changed since.

    A missing file may come back, as that of a disk that is not mounted.
    """
    try:
        description: Any = parse_json((shard / "shard.json").read_bytes())
        if description.get("version") != STORE_VERSION:
            return True
        others = [Path(path) for path in description.get("others", ())]
        name = shard_name(Path(description["source"]), others, description.get("settings", ""))
        return name != shard.name
    except (OSError, ValueError, AttributeError, KeyError, TypeError, DataError):
        return False


def _size(folder: Path) -> int:
    return sum(file_size(path) for path in folder.rglob("*"))
