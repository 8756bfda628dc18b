"""Parsl's interchange, the process that hands tasks to the jobs; it ends when its parent does.

Parsl's own program continues when the parent is killed, and the jobs with it.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
import time
from pathlib import Path


def main(log: Path) -> None:
    """Run the interchange; what it prints goes to a file."""
    with log.open("ab") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    threading.Thread(target=_end_without, args=(os.getppid(),), daemon=True).start()
    runpy.run_module("parsl.executors.high_throughput.interchange", run_name="__main__")


def _end_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
