"""What a job is: a command, where it runs, and what it needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dnn_reco.errors import ClusterError

SAVED = 85
"""Exit code of a command that has saved and wants to go on (ERESTART on Linux)."""

_MEGABYTES = {"MB": 1, "GB": 1024, "TB": 1024**2}
_SHORTEST = 600  # seconds; a job is told to save two minutes before its time is up


@dataclass(frozen=True)
class Resources:
    """What a job needs.

    Attributes
    ----------
    cpus, gpus
        Their numbers.
    memory
        Memory [MB, of 2²⁰ bytes as batch systems count].
    seconds
        Longest time in one go; None: whatever the cluster allows.
    """

    cpus: int
    gpus: int
    memory: int
    seconds: int | None


@dataclass(frozen=True)
class Job:
    """A job that can be stopped and started again.

    Attributes
    ----------
    name
        What the batch system calls it.
    command
        Words of the command line. The command saves on SIGTERM, leaves with `SAVED` then, and goes
        on when it is started again.
    directory
        Where it runs.
    folder
        Where the files of the job lie.
    setup
        Lines of bash that make the command available.
    resources
        What it needs.
    options
        Further settings of the batch system, by their names there.
    """

    name: str
    command: tuple[str, ...]
    directory: Path
    folder: Path
    setup: tuple[str, ...]
    resources: Resources
    options: Mapping[str, str]

    def __post_init__(self) -> None:
        texts = [*self.command, str(self.directory), str(self.folder), *self.setup]
        for text in [*texts, *self.options, *self.options.values()]:
            # a backslash at the end of a line would join it with the next one
            if not text.isprintable() or text.endswith("\\"):
                raise ClusterError(
                    f"{text!r} cannot stand in the files of a job: line breaks, control characters "
                    "and a backslash at the end would change their meaning"
                )


def parse_memory(text: str) -> int:
    """Memory [MB] of a text such as `8 GB`.

    Raises
    ------
    ClusterError
        If it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) *([MGT])B?", text.strip(), re.IGNORECASE)
    megabytes = round(float(match[1]) * _MEGABYTES[match[2].upper() + "B"]) if match else 0
    if not megabytes:
        raise ClusterError(f"--memory '{text}' is no amount of memory: write '8 GB' or '500 MB'")
    return megabytes


def parse_time(text: str) -> int:
    """Seconds of a text such as `24h`, `90m`, `1d12h`.

    Raises
    ------
    ClusterError
        If it is none, or too short for a job.
    """
    match = re.fullmatch(r"(?:(\d+)d)? *(?:(\d+)h)? *(?:(\d+)m)?", text.strip(), re.IGNORECASE)
    days, hours, minutes = (int(number or 0) for number in match.groups()) if match else (0, 0, 0)
    seconds = 60 * (minutes + 60 * (hours + 24 * days))
    if not seconds:
        raise ClusterError(f"--time '{text}' is no time: write '24h', '90m' or '1d12h'")
    if seconds < _SHORTEST:
        raise ClusterError(
            f"--time {text} is too short: a training that is stopped every few minutes does not "
            f"come forward. Ask for {_SHORTEST // 60}m or more"
        )
    return seconds
