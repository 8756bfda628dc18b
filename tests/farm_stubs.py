"""Stand-ins for HTCondor and Slurm: each job is a local process in a separate session.

As on a cluster, a job gets none of the environment of the program that submitted it. `calls`
records the words of each call; in `jobs/N` are the process number and the submit file of each job.
"""

import json
import os
import shlex
import sys
from pathlib import Path

_PROGRAM = r"""
import json, os, shlex, signal, subprocess, sys, time
from pathlib import Path

root = Path(__file__).resolve().parent
jobs = root / "jobs"
name, words = Path(sys.argv[0]).name, sys.argv[1:]
with (root / "calls").open("a") as file:
    file.write(json.dumps([name, *words]) + "\n")

def start(command, cwd, output, error, submitted):
    number = 1 + len(list(jobs.iterdir()))
    (jobs / str(number)).mkdir()
    (jobs / str(number) / "submitted").write_text(submitted)
    process = subprocess.Popen(
        command, cwd=cwd, stdin=subprocess.DEVNULL, start_new_session=True,
        stdout=open(output, "wb"), stderr=open(error, "wb"),
        env={"PATH": "/usr/bin:/bin", "HOME": "/"},
    )
    (jobs / str(number) / "pid").write_text(str(process.pid))
    return number

def alive(number):
    pid = (jobs / number / "pid").read_text()
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"

def remove(number):
    (jobs / number / "removed").touch()
    try:
        os.killpg(int((jobs / number / "pid").read_text()), signal.SIGKILL)
    except ProcessLookupError:
        pass

if (root / "reject").exists() and name in ("condor_submit", "sbatch"):
    sys.exit("ERROR: " + (root / "reject").read_text())
if name == "condor_submit":
    text = Path(words[0]).read_text()
    lines = [line.split("=", 1) for line in text.splitlines() if "=" in line]
    values = {key.strip().lower(): value.strip() for key, value in lines}
    scratch = root / f"scratch-{time.time_ns()}"
    scratch.mkdir()
    script = scratch / values["arguments"]
    (source,) = values["transfer_input_files"].split(",")
    script.write_bytes(Path(source).read_bytes())
    number = start(
        [values["executable"], script.name], scratch, values["output"], values["error"], text
    )
    print(f"Submitting job(s).\n1 job(s) submitted to cluster {number}.")
elif name == "condor_q":
    for word in words[: words.index("-af:jr")]:
        number = word.partition(".")[0]
        if not (jobs / number / "removed").exists():
            print(word, 2 if alive(number) else 4)
elif name == "condor_rm":
    for word in words:
        if not word.startswith("-"):
            remove(word.partition(".")[0])
elif name == "sbatch":
    text = Path(words[0]).read_text()
    given = [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("#SBATCH")]
    values = dict(option.removeprefix("--").split("=", 1) for (option,) in given)
    number = start(["bash", words[0]], os.getcwd(), values["output"], values["error"], text)
    print(f"Submitted batch job {number}")
elif name == "squeue":
    (listed,) = [words[i + 1] for i, word in enumerate(words) if word == "--job"]
    running = [number for number in listed.split(",") if alive(number)]
    if not running and "," not in listed:
        sys.exit("slurm_load_jobs error: Invalid job id specified")
    for number in running:
        print(number, "R")
elif name == "scancel":
    for number in words:
        remove(number)
elif name == "sacct":
    sys.exit("Slurm accounting storage is disabled")
"""

PROGRAMS = ("condor_submit", "condor_q", "condor_rm", "sbatch", "squeue", "scancel", "sacct")


class FarmStubs:
    """The stand-ins in a folder, which must be in the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "jobs").mkdir(parents=True)
        for name in PROGRAMS:
            (folder / name).write_text(f"#!{sys.executable} -IS\n{_PROGRAM}")
            (folder / name).chmod(0o755)

    def calls(self, name: str) -> list[list[str]]:
        """Words of each call of a program."""
        lines = (self.folder / "calls").read_text().splitlines()
        return [call[1:] for call in map(json.loads, lines) if call[0] == name]

    def submitted(self) -> list[str]:
        """The submit file of each job, the first one first."""
        jobs = sorted((self.folder / "jobs").iterdir(), key=lambda job: int(job.name))
        return [(job / "submitted").read_text() for job in jobs]

    def running(self) -> list[int]:
        """Process numbers of jobs that run."""
        numbers = [int((job / "pid").read_text()) for job in (self.folder / "jobs").iterdir()]
        return [number for number in numbers if _runs(number)]


def _runs(number: int) -> bool:
    try:
        stat = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def sbatch_options(text: str) -> list[str]:
    """The options in a job script."""
    lines = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    return [option for line in lines for option in shlex.split(line)[1:]]


def processes_in(folder: Path) -> list[int]:
    """Numbers of other processes whose working directory is a folder."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and int(process.name) != os.getpid():
            try:
                here = (process / "cwd").samefile(folder)
            except OSError:
                continue
            if here and _runs(int(process.name)):
                found.append(int(process.name))
    return found
