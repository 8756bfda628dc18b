"""The files of a job, and their submission to the batch system."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dnn_reco.cluster.job import SAVED, Job
from dnn_reco.errors import ClusterError
from dnn_reco.files import write_atomically

LOG = Path("logs") / "train.log"
"""File of the output of the job, relative to its folder."""


@dataclass(frozen=True)
class Cluster:
    """A batch system.

    Attributes
    ----------
    submit_command
        The program that submits a job.
    files
        The files of a job, the one to submit first; each has a template.
    setting
        Matches a setting in that file, with its name as group.
    option_name
        Matches allowed names of settings.
    """

    submit_command: str
    files: tuple[str, ...]
    setting: re.Pattern[str]
    option_name: re.Pattern[str]


CLUSTERS = {
    "htcondor": Cluster(
        "condor_submit",
        ("train.sub", "train.sh"),
        re.compile(r"^([\w+.]+) *=", re.MULTILINE),
        re.compile(r"\+?[A-Za-z_][\w.]*"),
    ),
    "slurm": Cluster(
        "sbatch",
        ("train.sh",),
        re.compile(r"^#SBATCH --([\w-]+)", re.MULTILINE),
        re.compile(r"[a-z][a-z-]*"),
    ),
}


def job_files(cluster: str, job: Job) -> dict[Path, str]:
    """Paths and contents of the files of a job, the one to submit first.

    Raises
    ------
    ClusterError
        If an option of the job has an invalid name, or is already set in the files.
    """
    system = CLUSTERS[cluster]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates" / cluster),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"sh": shlex.quote, "sbatch": sbatch_quote, "hms": _hours_minutes}
    values = {"job": job, "command": shlex.join(job.command), "saved": SAVED, "log": LOG}
    files = {
        job.folder / name: environment.get_template(name).render(values) for name in system.files
    }
    _check_options(system, job.options, next(iter(files.values())))
    return files


def _check_options(system: Cluster, options: Mapping[str, str], text: str) -> None:
    names = [name.lower() for name in system.setting.findall(text)]
    for name in options:
        if not system.option_name.fullmatch(name):
            raise ClusterError(
                f"--option {name}={options[name]}: '{name}' is not a valid name of a setting of "
                f"{system.submit_command}"
            )
        if names.count(name.lower()) > 1:
            raise ClusterError(
                f"--option {name}={options[name]}: '{name}' is set twice. The file sets it because "
                "of another option, or because the training must be able to resume (--dry-run "
                "prints the file)"
            )


def sbatch_quote(text: str) -> str:
    """Quote a text for an `#SBATCH` line, where a backslash escapes inside any quotes."""
    escaped = re.sub(r'(["\\])', r"\\\1", text)
    return f'"{escaped}"'


def _hours_minutes(seconds: int) -> str:
    return f"{seconds // 3600}:{seconds % 3600 // 60:02d}:00"


def write_files(files: Mapping[Path, str]) -> None:
    """Write the files of a job, and create the folder of its log."""
    for path, text in files.items():
        write_atomically(path, text.encode())
        (path.parent / LOG).parent.mkdir(exist_ok=True)
        if text.startswith("#!"):
            path.chmod(0o755)


def submit(cluster: str, folder: Path) -> str:
    """Submit the files in `folder` to the batch system; returns its output.

    Raises
    ------
    ClusterError
        If its program is not installed, or rejects the job. The files remain.
    """
    system = CLUSTERS[cluster]
    words = [system.submit_command, system.files[0]]
    by_hand = f"cd {shlex.quote(str(folder))} && {shlex.join(words)}"
    if shutil.which(words[0]) is None:
        raise ClusterError(
            f"there is no program '{words[0]}' on this machine, so the job is not submitted. Its "
            f"files are in '{folder}'. On a machine of the cluster, run:\n  {by_hand}"
        )
    result = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        output = (result.stderr.strip() or result.stdout.strip()) or "(none)"
        raise ClusterError(
            f"{words[0]} rejected the job (exit code {result.returncode}). Its output:\n{output}\n"
            f"The files are in '{folder}'. To try again:\n  {by_hand}"
        )
    return result.stdout.strip()
