"""Functions for tests of the farm, and what a job calls to run them."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from dnn_reco.cluster.farm_worker import run_task
from dnn_reco.errors import DataError


@dataclass(frozen=True)
class Place:
    """Where the results of the tests go, and where attempts are counted."""

    folder: Path

    def attempts(self, item: str) -> int:
        path = self.folder / f"{item}.attempts"
        return len(path.read_text().splitlines()) if path.exists() else 0


def work(place: Place, item: str) -> tuple[str, int]:
    """The item in capitals and the attempt; its name determines how it fails before."""
    with (place.folder / f"{item}.attempts").open("a") as file:
        file.write(f"{os.getpid()}\n")
    attempt = place.attempts(item)
    if item.startswith("bad"):
        raise DataError(f"'{item}' cannot be read")
    if item.startswith("bug"):
        raise ZeroDivisionError("a bug")
    if item.startswith("twice") and attempt < 3:
        raise DataError("not yet")
    if item.startswith("killed") or (item.startswith("once") and attempt < 2):
        os.kill(os.getpid(), signal.SIGKILL)
    if item.startswith("slow"):
        time.sleep(60)
    if item.startswith("lost") and attempt < 2:
        os.killpg(0, signal.SIGKILL)  # the whole job, as a batch system does
    if item.startswith("large"):
        return "x" * 30_000_000, attempt
    (place.folder / f"{item}.out").write_text(item.upper())
    return item.upper(), attempt


def run_test_task(message: bytes) -> str:
    """As `run_task`, for the function of this file."""
    return run_task(message, {f"{__name__}.work"})
