"""One training at a time in a model folder: a lock file beside the checkpoints.

The lock names host and process. One of a process that is gone on this host is stale. A process on
another host cannot be seen, so each training renews its lock (the time of modification): one that
is not renewed for a while is stale, such as that of a job that a batch system killed.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from dnn_reco.errors import TrainingError
from dnn_reco.foreign_files import parse_json

_SECONDS_BETWEEN_RENEWALS = 10.0
_SECONDS_UNTIL_STALE = 60.0
_SECONDS_SURELY_STALE = 3600.0  # whatever the clocks of two machines show
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LockOwner:
    """The process that a lock belongs to.

    Attributes
    ----------
    host
        Name of the machine.
    process
        Process number there.
    started
        When that process started (Linux: in ticks since the machine did), as its number may be used
        again; empty where that is unknown.
    """

    host: str
    process: int
    started: str

    @classmethod
    def this_process(cls) -> LockOwner:
        """The owner of locks that this process takes."""
        return cls(socket.gethostname(), os.getpid(), _start_of(os.getpid()))

    @classmethod
    def read(cls, path: Path) -> LockOwner | None:
        """The owner of a lock file; None if it does not name one, or is gone."""
        try:
            content = parse_json(path.read_text(encoding="utf-8"))
            return cls(str(content["host"]), int(content["process"]), str(content["started"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine."""
        return self.host == socket.gethostname()

    @property
    def has_ended(self) -> bool:
        """Whether a process of this machine is gone."""
        try:
            os.kill(self.process, 0)
        except PermissionError:
            pass  # it is there, and of another user
        except (ProcessLookupError, OverflowError):
            return True
        return self.started != _start_of(self.process)


@contextmanager
def training_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder of checkpoints, ``<folder>.lock``.

    Raises
    ------
    TrainingError
        If another training holds it.
    """
    path = folder.with_name(f"{folder.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    _take(path)
    ended = threading.Event()
    renewal = threading.Thread(target=_renew, args=(path, ended), daemon=True)
    renewal.start()
    try:
        yield
    finally:
        ended.set()
        renewal.join()
        if LockOwner.read(path) == LockOwner.this_process():
            path.unlink(missing_ok=True)


def _take(path: Path) -> None:
    content = json.dumps(asdict(LockOwner.this_process()))
    while True:
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(content)
        except FileExistsError:
            _remove_if_stale(path)
        else:
            return


def _remove_if_stale(path: Path) -> None:
    """Remove the lock of a training that has ended.

    Raises
    ------
    TrainingError
        If it has not.
    """
    owner = LockOwner.read(path)
    if owner is not None and owner.is_here:
        is_stale = owner.has_ended
    else:
        is_stale = not _is_renewed(path, owner)
    if not is_stale:
        name = "another process" if owner is None else f"process {owner.process} on '{owner.host}'"
        raise TrainingError(
            f"{name} is already training in this model folder: wait until it has ended, or give "
            f"this config its own unique_name (model_checkpoint_path). (The lock file is '{path}'.)"
        )
    if LockOwner.read(path) == owner:  # else another training has just replaced it
        path.unlink(missing_ok=True)
        _log.info("The stale lock '%s' of a training that has ended was removed.", path)


def _is_renewed(path: Path, owner: LockOwner | None) -> bool:
    """Whether the lock of a process that cannot be seen from here is still renewed."""
    before = _renewed_at(path)
    if time.time() - before > _SECONDS_SURELY_STALE:
        return False
    host = "another host" if owner is None else f"'{owner.host}'"
    _log.info(
        "The lock '%s' is of a process on %s: waiting up to %.0f s to see whether it runs.",
        path,
        host,
        _SECONDS_UNTIL_STALE,
    )
    deadline = time.monotonic() + _SECONDS_UNTIL_STALE
    while time.monotonic() < deadline:
        time.sleep(_SECONDS_BETWEEN_RENEWALS / 10)
        if (now := _renewed_at(path)) != before:
            return now > 0
    return False


def _renewed_at(path: Path) -> float:
    """Time of modification, 0 if the file is gone."""
    try:
        with path.open("rb") as file:  # opened, as network file systems then ask the server
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return 0.0


def _renew(path: Path, ended: threading.Event) -> None:
    while not ended.wait(_SECONDS_BETWEEN_RENEWALS):
        # taken as stale while this process was suspended
        if LockOwner.read(path) not in (None, LockOwner.this_process()):
            _log.warning(
                "Another process has taken over the lock '%s': this training was suspended for too "
                "long. Stop one of the two.",
                path,
            )
            return
        try:
            os.utime(path)
        except OSError:  # whoever removes it means to
            return


def _start_of(process: int) -> str:
    """When a process of this machine started; empty where that is unknown."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]  # field 22 (proc(5)); the name may hold blanks
