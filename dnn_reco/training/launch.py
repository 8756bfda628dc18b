"""Several processes of one training on this machine, as `torchrun` would start them.

In contrast to `torchrun` they have the time to save when they are asked to stop, and the exit code
is theirs: batch systems decide by it whether a job continues.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from dnn_reco.training.signals import stop_signals
from dnn_reco.workers import available_cpus

_SECONDS_BETWEEN_LOOKS = 0.1
_SECONDS_TO_END = 60.0


def run_processes(count: int, arguments: Sequence[str]) -> int:
    """Run `dnn-reco` in several connected processes; returns the exit code.

    SIGINT, SIGTERM and SIGHUP are passed on. If one process fails, the others are stopped.

    Parameters
    ----------
    count
        How many.
    arguments
        The command and its options.

    Returns
    -------
    int
        Exit code of a process that failed; 0 if none did.
    """
    children: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        for child in children:
            child.send_signal(number)

    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(max(1, available_cpus() // count)),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
    }
    before = {number: signal.signal(number, pass_on) for number in stop_signals()}
    try:
        for rank in range(count):
            numbers = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            command = [sys.executable, "-m", "dnn_reco", *arguments]
            children.append(subprocess.Popen(command, env={**environment, **numbers}))
        return _wait_for(children)
    except BaseException:  # such as of too many processes: the others would wait for it
        for child in children:
            child.kill()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(children: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait until all have ended, but not for long once one has failed; returns the exit code."""
    deadline = math.inf
    while any(child.poll() is None for child in children):
        if deadline == math.inf and any(child.returncode for child in children):
            deadline = time.monotonic() + _SECONDS_TO_END
        if time.monotonic() > deadline:
            for child in children:
                child.kill()
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    # negative: killed by a signal, which the others only followed
    code = min((child.returncode for child in children if child.returncode), default=0)
    return code if code >= 0 else 128 - code
