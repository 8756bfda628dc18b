"""What travels between this process and the jobs: names of functions, and JSON.

A message to a job holds the dotted name of a function of `WORK` and its arguments as JSON; the
reply is also JSON: the result, or the text of an error. Types are those of the function's
signature, and pydantic checks each value against them. Only functions of `WORK` are called.

The function runs in a child of parsl's worker process: all workers of a job send their replies
through one pipe, and one that were killed while it sends would block the others for good.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache, lru_cache, partial
from importlib import import_module
from typing import Any, get_type_hints

from pydantic import TypeAdapter

from dnn_reco.errors import DnnRecoError
from dnn_reco.workers import worker_pool

_log = logging.getLogger(__name__)

WORK = frozenset(
    {
        "dnn_reco.data.store_in_jobs.build_shard",
        "dnn_reco.data_creation.planned_files.create_planned_file",
        "dnn_reco.inference.file_application.apply_to_file",
    }
)
"""The functions that a job may run."""

KILLED = "the worker process was killed, most likely because memory ran out"
"""Error of an item whose process was killed."""


class FailedInJobError(Exception):
    """An item whose function raised an exception, in a job."""


def task_message(work: Callable[[Any], Any], item: object) -> bytes:
    """The message that lets a job call `work(item)`.

    Parameters
    ----------
    work
        A function of a module, or a `partial` of one with its first arguments.
    item
        Its last argument.
    """
    function, first = _function_of(work)
    types = _types(function)[0]
    arguments = [
        kind.dump_python(value, mode="json")
        for kind, value in zip(types, (*first, item), strict=True)
    ]
    return json.dumps({"function": _name_of(function), "arguments": arguments}).encode()


def run_task(message: bytes, allowed: Collection[str] = WORK) -> str:
    """Do in a job what a message asks for; returns the reply.

    Parameters
    ----------
    message
        See :func:`task_message`.
    allowed
        Dotted names of the functions that may be called.
    """
    try:
        return _child().submit(_reply, message, allowed).result()
    except BrokenProcessPool:
        _child.cache_clear()  # the next task starts another
        return json.dumps({"error": KILLED})


@cache
def _child() -> ProcessPoolExecutor:
    """The process in which this one lets functions run."""
    return worker_pool(1)


def _reply(message: bytes, allowed: Collection[str]) -> str:
    try:
        content = json.loads(message)
        name = content["function"]
        if name not in allowed:
            raise ValueError(f"'{name}' is not a function that jobs may run")
        module, _, attribute = name.rpartition(".")
        function = getattr(import_module(module), attribute)
        types, result = _types(function)
        arguments = [
            kind.validate_json(json.dumps(value))
            for kind, value in zip(types, content["arguments"], strict=True)
        ]
        return json.dumps({"result": result.dump_python(function(*arguments), mode="json")})
    except DnnRecoError as error:
        return json.dumps({"error": str(error)})
    except Exception as error:
        _log.exception("an item failed")  # the traceback stays in the log of the job
        return json.dumps({"error": f"{type(error).__name__}: {error}"})


def read_reply(work: Callable[[Any], Any], reply: object) -> Any:
    """The result that a job sent.

    Raises
    ------
    FailedInJobError
        If the function raised an exception; with its text.
    """
    if not isinstance(reply, str):
        raise FailedInJobError("the job sent no text")
    content = json.loads(reply)
    if "error" in content:
        raise FailedInJobError(str(content["error"]))
    function, _ = _function_of(work)
    return _types(function)[1].validate_json(json.dumps(content["result"]))


def _function_of(work: Callable[[Any], Any]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    return (work.func, work.args) if isinstance(work, partial) else (work, ())


def _name_of(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


@lru_cache(maxsize=16)
def _types(
    function: Callable[..., Any],
) -> tuple[tuple[TypeAdapter[Any], ...], TypeAdapter[Any]]:
    """The types of the arguments of a function, and of its result."""
    hints = get_type_hints(function, include_extras=True)
    result = TypeAdapter(hints.pop("return"))
    return tuple(TypeAdapter(hint) for hint in hints.values()), result
