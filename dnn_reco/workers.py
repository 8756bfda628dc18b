"""Doing the same to many items in worker processes."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

from dnn_reco.cgroup import CGROUP_ROOT, OWN_GROUPS, cpu_quota
from dnn_reco.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")


# Slurm sets the second for a job. HTCondor sets the first (among others) for a slot: manual,
# "Environment and services for a running job".
_CPU_VARIABLES = ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK")


def world_size() -> int:
    """How many processes train together, as `torchrun` or `train --processes` tells each."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def available_cpus(cgroup_root: Path = CGROUP_ROOT, own_groups: Path = OWN_GROUPS) -> int:
    """Number of CPUs that this process may use, at least 1.

    The smallest of: the CPUs that it is bound to; the quota of its container or batch slot, rounded
    up; and what the environment variables OMP_NUM_THREADS and SLURM_CPUS_PER_TASK say.

    Parameters
    ----------
    cgroup_root, own_groups
        Where to find the quota: see `cpu_quota`.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = cpu_quota(cgroup_root, own_groups)
    told = [_number_in(name) for name in _CPU_VARIABLES]
    limits = [bound or 1, *told, None if quota is None else math.ceil(quota)]
    return max(1, min(limit for limit in limits if limit is not None))


def _number_in(variable: str) -> int | None:
    """First number of an environment variable: OMP_NUM_THREADS may list one for each level."""
    word = os.environ.get(variable, "").partition(",")[0].strip()
    return int(word) if word.isdecimal() and int(word) else None


def in_workers(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int, advice: str
) -> Generator[Result]:
    """Results of all items, in their order; a few items ahead of what is asked for.

    Parameters
    ----------
    work
        What is done to each item; it and the items travel to other processes.
    items
        The items.
    workers
        Number of processes; with one the work is done here.
    advice
        What to do if a worker is killed, for the message.

    Raises
    ------
    DataError
        If a worker process is killed.
    """
    if workers <= 1:
        yield from map(work, items)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads of torch
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(
            f"a worker process was killed, most likely for want of memory: {advice}"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Leave when the main process is gone: it may be killed without having ended its workers."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
