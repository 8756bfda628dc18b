"""The machine, the versions of the software on it, and how fast it computes and copies."""

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "numpy", "numba", "h5py")
COPIED_BYTES = 2**28


def seconds_of_repeats(run: Callable[[], object], seconds: float) -> list[float]:
    """Durations of as many calls as fit into `seconds`, 5 at least."""
    times: list[float] = []
    while len(times) < 5 or sum(times) < seconds:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def median_seconds(run: Callable[[], object], seconds: float) -> float:
    return statistics.median(seconds_of_repeats(run, seconds))


def matrix_rate(seconds: float = 1.0) -> float:
    """GFLOP/s of the product of two matrices of 2048² in float32, on all threads."""
    a = np.ones((2048, 2048), np.float32)
    return 2 * 2048**3 / median_seconds(lambda: a @ a, seconds) / 1e9


def copy_rate(seconds: float = 1.0) -> float:
    """GB/s that one thread copies from one array of 256 MiB to another."""
    source, target = np.ones(COPIED_BYTES, np.uint8), np.zeros(COPIED_BYTES, np.uint8)
    return COPIED_BYTES / median_seconds(lambda: np.copyto(target, source), seconds) / 1e9


def machine() -> dict[str, str | int]:
    """What decides whether figures of two runs may stand in one table."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": cpu_model(), "cpus": os.cpu_count() or 1, "memory_gb": round(memory / 1e9)}


def cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Python and the packages that compute, and the commit of this repository."""
    words = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        commit = done.stdout.strip() or "unknown"
    except FileNotFoundError:
        commit = "unknown"
    of_packages = {name: version(name) for name in PACKAGES}
    return {"commit": commit, "python": platform.python_version(), **of_packages}
