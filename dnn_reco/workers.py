"""Worker processes: mapping a function over items, and the number of CPUs."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from dnn_reco.cgroup import CGROUP_ROOT, PROCESS_GROUPS, cpu_quota
from dnn_reco.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")


# Slurm sets the second for a job. HTCondor sets the first (among others) for a slot: manual,
# "Environment and services for a running job".
_CPU_VARIABLES = ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK")


def world_size() -> int:
    """Number of processes that train together: WORLD_SIZE, set by `torchrun` or `--processes`."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def available_cpus(cgroup_root: Path = CGROUP_ROOT, process_groups: Path = PROCESS_GROUPS) -> int:
    """Number of CPUs that this process may use, at least 1.

    The minimum of its CPU affinity, the quota of its container or batch slot (rounded up), and the
    environment variables OMP_NUM_THREADS and SLURM_CPUS_PER_TASK.

    Parameters
    ----------
    cgroup_root, process_groups
        See `cpu_quota`.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = cpu_quota(cgroup_root, process_groups)
    variables = [_number_in(name) for name in _CPU_VARIABLES]
    limits = [bound or 1, *variables, None if quota is None else math.ceil(quota)]
    return max(1, min(limit for limit in limits if limit is not None))


def _number_in(variable: str) -> int | None:
    """First number of an environment variable: OMP_NUM_THREADS may list one for each level."""
    word = os.environ.get(variable, "").partition(",")[0].strip()
    return int(word) if word.isdecimal() and int(word) else None


def in_workers(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int, advice: str
) -> Generator[Result]:
    """Results of a function for all items, in their order, computed a few items ahead.

    Ctrl-C, or closing the generator, ends the workers at once.

    Parameters
    ----------
    work
        The function; it and the items are pickled for the worker processes.
    items
        The items.
    workers
        Number of processes; 1: no worker process.
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
    others = set(multiprocessing.active_children())  # of the program that uses this package
    pool = worker_pool(workers)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            with without_ctrl_c():  # processes start when work is submitted
                waiting.append(pool.submit(work, item))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(
            f"a worker process was killed, most likely because memory ran out: {advice}"
        ) from error
    except (KeyboardInterrupt, GeneratorExit):
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()  # what they write is named when it is complete
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of worker processes, which end when this process ends, however it does."""
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads of torch
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker)


@contextmanager
def without_ctrl_c() -> Iterator[None]:
    """Hold back Ctrl-C, which is for the main process: those started inside never get it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare_worker() -> None:
    tqdm.set_lock(threading.RLock())  # the usual one is a semaphore, which outlives a kill
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit when the main process has ended: it may be killed before it stops its workers."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
