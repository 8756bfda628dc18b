"""Memory of a process that runs networks: settings of the allocator, and its usage."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path

import torch

# Parameters of glibc's mallopt
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_DEFAULT_MMAP_MAX = 65536
# Blocks [bytes] that are returned at once where shapes vary: those of a transformer of size M, and
# few of size S, in batches of their configs.
_LARGE_BLOCK = 6 * 2**20
# Kernels to keep. Those of a network whose batches have the same shapes (47 for that of the
# tutorial) must not evict each other: without a cache its steps take a fifth longer.
_KERNELS_OF_SAME_SHAPES, _KERNELS_OF_ANY_SHAPES = 128, 64


def keep_freed_memory(same_shapes: bool) -> None:
    """Keep freed memory for the next step instead of returning it to the system.

    Each step allocates the same large tensors again. The C library on Linux returns blocks of
    their size at once, and the system clears each page again: a seventh of a training step on two
    cores. No effect with other C libraries.

    Where the shapes of batches vary, large blocks are returned nevertheless: the next step needs
    larger or smaller ones, and freed memory between others would not fit (benchmarks/RESULTS.md).

    Parameters
    ----------
    same_shapes
        Whether all batches have the same shapes.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0 if same_shapes else _DEFAULT_MMAP_MAX)
        mallopt(_MMAP_THRESHOLD, _LARGE_BLOCK)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def bound_kernel_cache(same_shapes: bool) -> None:
    """Keep fewer of the kernels that oneDNN compiles on CPUs, one for each shape of its arguments.

    Each batch of a network that reads hits has shapes of its own. By default the kernels of the
    last 1024 are kept, scattered over the memory between the tensors of their steps, so that freed
    memory cannot be used for larger ones: the process grows for thousands of steps
    (benchmarks/RESULTS.md). Call it before the first operation of a network: oneDNN reads the
    environment variable once. If the user has set that, it stays.

    Parameters
    ----------
    same_shapes
        Whether all batches have the same shapes.
    """
    capacity = _KERNELS_OF_SAME_SHAPES if same_shapes else _KERNELS_OF_ANY_SHAPES
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(capacity))


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
