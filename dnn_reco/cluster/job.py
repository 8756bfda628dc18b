"""The description of a job: its command, working directory and resources."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dnn_reco.errors import ClusterError

SAVED = 85
"""Exit code of a command that has saved its state and must be restarted (ERESTART on Linux)."""

_MEGABYTES = {"MB": 1, "GB": 1024, "TB": 1024**2}
_SHORTEST = 600  # seconds; a job is asked to save two minutes before its time limit


@dataclass(frozen=True)
class Resources:
    """Requested resources of a job.

    Attributes
    ----------
    cpus, gpus
        Their numbers.
    memory
        Memory [MB of 2²⁰ bytes, as batch systems count].
    seconds
        Time limit of one run; None: the limit of the cluster.
    """

    cpus: int
    gpus: int
    memory: int
    seconds: int | None


@dataclass(frozen=True)
class Job:
    """A job that can be stopped and restarted.

    Attributes
    ----------
    name
        Its name in the batch system.
    command
        Words of the command line. On SIGTERM the command saves its state and exits with `SAVED`; it
        resumes when it is restarted.
    directory
        Working directory.
    folder
        Folder of the files of the job.
    setup
        Lines of bash that make the command available.
    resources
        Requested resources.
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
        check_lines([*texts, *self.options, *self.options.values()])


def check_lines(texts: Iterable[str]) -> None:
    """Check that each text stays one line in the files of a job.

    Raises
    ------
    ClusterError
        If one would not.
    """
    for text in texts:
        # a backslash at the end of a line would join it with the next one
        if not text.isprintable() or text.endswith("\\"):
            raise ClusterError(
                f"{text!r} cannot be used in the files of a job: line breaks, control "
                "characters and a backslash at the end would change how they are read"
            )


def setup_lines(given: str, option: str) -> tuple[str, ...]:
    """Lines of bash that prepare the environment of a job.

    Parameters
    ----------
    given
        A file of bash, or a whole line.
    option
        The option that gives it, for the message.

    Raises
    ------
    ClusterError
        If it is a single word, and there is no such file.
    """
    if Path(given).is_file():
        return (f"source {shlex.quote(str(Path(given).absolute()))}",)
    if len(given.split()) < 2:
        raise ClusterError(
            f"{option} '{given}': there is no such file. Give a Bash script, or a whole line, "
            "such as 'source /some/folder/env/bin/activate'"
        )
    return (given,)


def read_options(options: Sequence[str], option: str) -> dict[str, str]:
    """Settings of a batch system, given as `KEY=VALUE`.

    Raises
    ------
    ClusterError
        If one is not of this form, or given twice; it names `option`.
    """
    read: dict[str, str] = {}
    for text in options:
        key, equals, value = text.partition("=")
        key, value = key.strip(), value.strip()
        if not equals or not value or key in read:
            fault = f"'{key}' is given twice" if key in read else "write KEY=VALUE"
            raise ClusterError(f"{option} '{text}': {fault}")
        read[key] = value
    return read


def parse_memory(text: str, option: str = "--memory") -> int:
    """Memory [MB] from a text such as `8 GB`; `option` is named in the message.

    Raises
    ------
    ClusterError
        If the text is not an amount of memory.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) *([MGT])B?", text.strip(), re.IGNORECASE)
    megabytes = round(float(match[1]) * _MEGABYTES[match[2].upper() + "B"]) if match else 0
    if not megabytes:
        raise ClusterError(
            f"{option} '{text}' is not an amount of memory: write '8 GB' or '500 MB'"
        )
    return megabytes


def parse_time(text: str, option: str = "--time") -> int:
    """Seconds from a text such as `24h`, `90m`, `1d12h`; `option` is named in the message.

    Raises
    ------
    ClusterError
        If the text is not a time, or too short for a job.
    """
    match = re.fullmatch(r"(?:(\d+)d)? *(?:(\d+)h)? *(?:(\d+)m)?", text.strip(), re.IGNORECASE)
    days, hours, minutes = (int(number or 0) for number in match.groups()) if match else (0, 0, 0)
    seconds = 60 * (minutes + 60 * (hours + 24 * days))
    if not seconds:
        raise ClusterError(f"{option} '{text}' is not a time: write '24h', '90m' or '1d12h'")
    if seconds < _SHORTEST:
        raise ClusterError(
            f"{option} {text} is too short: a job that is stopped every few minutes makes no "
            f"progress. Request {_SHORTEST // 60}m or more"
        )
    return seconds
