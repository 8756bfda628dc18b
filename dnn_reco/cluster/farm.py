"""A farm: a function for thousands of items, in jobs of a cluster or processes of this machine.

The engine is parsl (https://parsl-project.org). It starts jobs, each with a worker process that
takes one item after the other; jobs that are lost are replaced. Each side speaks to the other
through an encrypted connection (CurveZMQ) that only holders of a key accept: the keys are made for
one run, in a folder that only the user can read.

What travels: the name of a function of the list :data:`dnn_reco.cluster.farm_worker.WORK`, and its
arguments and result as JSON (names of files, settings, counts). No data: all machines read and
write the same file system. Between its own processes, parsl wraps these texts in pickles;
objects of ours are never pickled.

What is done is known by the files that are finished, not by the farm: it keeps no state. Give it
the items that are missing, and a stopped run resumes.
"""

from __future__ import annotations

import logging
import queue
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from dnn_reco.amounts import counted
from dnn_reco.cluster.farm_engine import Engine, remove_secrets, require_parsl, running_engine
from dnn_reco.cluster.farm_settings import FarmSettings
from dnn_reco.cluster.farm_worker import KILLED, read_reply, task_message
from dnn_reco.errors import ClusterError

_log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Done(Generic[Item, Result]):
    """An item that the farm is done with.

    Attributes
    ----------
    item
        The item.
    result
        What the function returned; None where it failed.
    error
        Why it failed in the last attempt; empty: it did not.
    """

    item: Item
    result: Result | None
    error: str = ""


def on_farm(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    settings: FarmSettings,
    folder: Path,
) -> Generator[Done[Item, Result]]:
    """Results of a function for all items, in the order in which they come.

    An item that fails (an exception, a worker that is killed, a job that is lost) is tried again,
    and does not stop the others. Ctrl-C, or closing the generator, cancels all jobs.

    Parameters
    ----------
    work
        A function of :data:`dnn_reco.cluster.farm_worker.WORK`, or a `partial` of one with its
        first arguments.
    items
        Its last argument, for each call.
    settings
        Where to compute, and what each job asks for.
    folder
        Folder of the results, on a file system that all machines share: the files of the jobs are
        in a folder there, unless `settings` names another. It is removed at the end, unless an item
        failed.

    Raises
    ------
    ConfigError
        If parsl is not installed.
    ClusterError
        If jobs cannot be started, or end as soon as they start.
    """
    require_parsl()
    if not items:
        return
    num_jobs = min(settings.jobs, len(items))
    where = "on this machine" if settings.on_this_machine else f"of {settings.cluster}"
    _log.info("%s in %s %s.", counted(len(items), "item"), counted(num_jobs, "job"), where)
    with (
        _folder_of_run(settings.folder or folder) as run_folder,
        running_engine(settings, num_jobs, run_folder.path) as engine,
    ):
        for done in _results(work, items, engine, settings.retries):
            run_folder.keep |= bool(done.error)
            yield done


def _results(
    work: Callable[[Item], Result], items: Sequence[Item], engine: Engine, retries: int
) -> Generator[Done[Item, Result]]:
    attempts = [0] * len(items)
    finished: queue.SimpleQueue[tuple[int, Future[Any]]] = queue.SimpleQueue()

    def submit(index: int) -> None:
        attempts[index] += 1
        future = engine.submit(task_message(work, items[index]))
        future.add_done_callback(lambda future: finished.put((index, future)))

    for index in range(len(items)):
        submit(index)
    left = len(items)
    while left:
        try:
            index, future = finished.get(timeout=1)
        except queue.Empty:
            engine.check()
            continue
        done = _done(items[index], future, partial(read_reply, work))
        if future.exception() is None:
            engine.reply_came()
        engine.check()
        if done.error and attempts[index] <= retries:
            _log.debug("%s is retried: %s", done.item, done.error)
            submit(index)
            continue
        left -= 1
        yield done


def _done(item: Item, future: Future[Any], read: Callable[[object], Result]) -> Done[Item, Result]:
    try:
        return Done(item, read(future.result()))
    except Exception as error:
        kind = type(error).__name__
        if kind in _LOST:
            return Done(item, None, _LOST[kind])
        return Done(item, None, str(error) or kind)


# Exceptions of parsl, by name: it is imported only where a farm runs.
_LOST = {
    "WorkerLost": KILLED,
    "ManagerLost": "the job was lost: it was removed, ran out of time or memory, or its machine "
    "failed",
}


@dataclass
class _RunFolder:
    path: Path
    keep: bool = False


@contextmanager
def _folder_of_run(parent: Path) -> Iterator[_RunFolder]:
    """A folder for the files of the jobs; it is kept, without keys, where something failed."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(prefix=".farm-", dir=parent.resolve()))
    except OSError as error:
        raise ClusterError(f"the files of the jobs cannot be written: {error}") from error
    folder = _RunFolder(path)
    try:
        yield folder
    except (KeyboardInterrupt, GeneratorExit):
        folder.keep = False
        raise
    except BaseException:
        folder.keep = True
        raise
    finally:
        if folder.keep:
            remove_secrets(path)
            _log.warning("The output of the jobs is kept in '%s'.", path)
        else:
            shutil.rmtree(path, ignore_errors=True)
