"""The command line.

This module imports nothing before its functions run, so that Ctrl-C ends even the import of the
commands without a traceback.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from dnn_reco.cli.root import cli

__all__ = ["cli", "main", "run_script"]

_INTERRUPTED = 128 + signal.SIGINT


def main() -> NoReturn:
    """Entry point of `dnn-reco` and of `python -m dnn_reco`."""
    _run(None, {})


def run_script(command: str, **defaults: object) -> NoReturn:
    """Entry point of a script that is one command.

    Parameters
    ----------
    command
        Its name in `dnn-reco`.
    defaults
        Other defaults of its options than those of `dnn-reco`.
    """
    _run(command, defaults)


def _run(command: str | None, defaults: dict[str, object]) -> NoReturn:
    # Python imports for a while: Ctrl-C must not wait for it, nor end in a traceback.
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave_at_once)
    from dnn_reco.cli.root import cli
    from dnn_reco.cli.session import run_safely

    signal.signal(signal.SIGINT, before)
    run_safely(cli if command is None else cli.commands[command], defaults)


def _leave_at_once(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(_INTERRUPTED)


def __getattr__(name: str) -> Any:
    if name != "cli":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from dnn_reco.cli.root import cli

    return cli
