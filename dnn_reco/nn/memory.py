"""Memory of a process that runs networks: settings of the allocator, and its usage."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path

import torch

# Parameters of glibc's mallopt
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
# More than the kernels of a convolutional network (47 for that of the tutorial), which must not
# evict each other: without a cache its steps take a fifth longer.
_NUM_CACHED_KERNELS = 128


def keep_freed_memory() -> None:
    """Keep freed memory for the next step instead of returning it to the system.

    Each step allocates the same large tensors again. The C library on Linux returns blocks of
    their size at once, and the system clears each page again: a seventh of a training step on two
    cores. No effect with other C libraries.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def bound_kernel_cache() -> None:
    """Keep fewer of the kernels that oneDNN compiles on CPUs, one for each shape of its arguments.

    Each batch of a network that reads hits has shapes of its own. By default the kernels of the
    last 1024 are kept, scattered over the memory between the tensors of their steps, so that freed
    memory cannot be used for larger ones: the process grows for thousands of steps
    (benchmarks/RESULTS.md). Call it before the first operation of a network: oneDNN reads the
    environment variable once. If the user has set that, it stays.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_NUM_CACHED_KERNELS))


def memory_in_use(device: torch.device) -> dict[str, float]:
    """Resident memory of this process (`process`, on Linux only) and GPU memory of tensors (`gpu`).

    Both in MB of 10⁶ bytes.
    """
    memory = {}
    statistics = Path("/proc/self/statm")
    if statistics.exists():
        resident_pages = int(statistics.read_text().split()[1])
        memory["process"] = resident_pages * resource.getpagesize() / 1e6
    if device.type == "cuda":
        memory["gpu"] = torch.cuda.memory_allocated(device) / 1e6
    return memory


def peak_memory(device: torch.device) -> dict[str, float]:
    """Peak of :func:`memory_in_use` so far, on any system."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss may be inherited from the parent process
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        resident = 1024 * int(lines["VmHWM"].split()[0])
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        resident = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = {"process": resident / 1e6}
    if device.type == "cuda":
        memory["gpu"] = torch.cuda.max_memory_allocated(device) / 1e6
    return memory
