"""The files of a job, and handing them to the batch system."""

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
"""Where the output of the job goes, inside its folder."""


@dataclass(frozen=True)
class Cluster:
    """A batch system.

    Attributes
    ----------
    submit_command
        The program that takes a job.
    files
        The files of a job, that for the program first; each has a template.
    setting
        Matches a line of that file which sets something, and the name of what it sets.
    option_name
        Matches names that may be set.
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
    """Paths and contents of the files of a job, the one for the batch system first.

    Raises
    ------
    ClusterError
        If an option of the job has a strange name, or is set in the files already.
    """
    system = CLUSTERS[cluster]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates" / cluster),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"sh": shlex.quote, "sbatch": _sbatch_quote, "hms": _hours_minutes}
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
                f"--option {name}={options[name]}: '{name}' is no name of a setting of "
                f"{system.submit_command}"
            )
        if names.count(name.lower()) > 1:
            raise ClusterError(
                f"--option {name}={options[name]}: '{name}' is set twice. The file sets it because "
                "another option says so, or because the training must be able to go on (--dry-run "
                "shows the file)"
            )


def _sbatch_quote(text: str) -> str:
    """A text as sbatch reads it after `#SBATCH`: a backslash works inside any quotes."""
    escaped = re.sub(r'(["\\])', r"\\\1", text)
    return f'"{escaped}"'


def _hours_minutes(seconds: int) -> str:
    return f"{seconds // 3600}:{seconds % 3600 // 60:02d}:00"


def write_files(files: Mapping[Path, str]) -> None:
    """Write the files of a job, and make the folder of its log."""
    for path, text in files.items():
        write_atomically(path, text.encode())
        (path.parent / LOG).parent.mkdir(exist_ok=True)
        if text.startswith("#!"):
            path.chmod(0o755)


def submit(cluster: str, folder: Path) -> str:
    """Hand the files in `folder` to the batch system; returns what it says.

    Raises
    ------
    ClusterError
        If it is not there, or does not take the job. The files stay.
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
        said = (result.stderr.strip() or result.stdout.strip()) or "nothing"
        raise ClusterError(
            f"{words[0]} did not take the job (exit code {result.returncode}). It says:\n{said}\n"
            f"The files are in '{folder}'. To try again:\n  {by_hand}"
        )
    return result.stdout.strip()
