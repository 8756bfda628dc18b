"""The files of a job: requested resources, and quoting of all texts."""

import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnn_reco.cluster import CLUSTERS, Job, Resources, job_files, parse_memory, parse_time
from dnn_reco.errors import ClusterError

JOB = Job(
    name="dnn_reco_small",
    command=("dnn-reco", "train", "small.yaml"),
    directory=Path("/work"),
    folder=Path("/jobs"),
    setup=(),
    resources=Resources(cpus=3, gpus=1, memory=8192, seconds=86400 + 1800),
    options={},
)


def text_of(cluster: str, name: str, job: Job = JOB) -> str:
    return job_files(cluster, job)[job.folder / name]


def sbatch_options(text: str) -> list[str]:
    """A text as sbatch parses it: its quoting is that of shlex's POSIX mode."""
    lines = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    return [option for line in lines for option in shlex.split(line)[1:]]


def condor_settings(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines[-1] == "queue"
    return dict(line.split(" = ", 1) for line in lines[:-1])


def test_slurm_gets_the_requested_resources() -> None:
    text = text_of("slurm", "train.sh", replace(JOB, options={"partition": "gpu"}))
    assert text.startswith("#!/bin/bash\n")
    assert set(sbatch_options(text)) >= {
        "--cpus-per-task=3",
        "--gres=gpu:1",
        "--mem=8192M",
        "--time=24:30:00",
        "--partition=gpu",
        "--requeue",
        "--open-mode=append",
        "--signal=B:TERM@120",
    }


def test_htcondor_gets_the_requested_resources() -> None:
    options = {"+WantGPULab": "true", "requirements": "(OpSysMajorVer == 9)"}
    settings = condor_settings(text_of("htcondor", "train.sub", replace(JOB, options=options)))
    assert (
        settings.items()
        >= {
            "executable": "train.sh",
            "request_cpus": "3",
            "request_gpus": "1",
            "request_memory": "8192 MB",
            "kill_sig": "SIGTERM",
            "+WantGPULab": "true",
            "requirements": "(OpSysMajorVer == 9)",
        }.items()
    )


def test_without_gpu_and_time_none_is_requested() -> None:
    job = replace(JOB, resources=Resources(cpus=1, gpus=0, memory=512, seconds=None))
    assert "gpu" not in text_of("slurm", "train.sh", job)
    assert "--time" not in text_of("slurm", "train.sh", job)
    assert "gpu" not in text_of("htcondor", "train.sub", job)
    assert "timeout" not in text_of("htcondor", "train.sh", job)


@pytest.mark.parametrize(
    ("exit_code", "signal", "leaves"),
    [
        (0, None, True),
        (1, None, True),
        (137, None, True),
        (85, None, False),
        (143, None, False),
        (None, 15, False),
        (None, 9, True),
        (None, 11, True),
    ],
)
def test_which_jobs_leave_the_queue_of_htcondor(
    exit_code: int | None, signal: int | None, leaves: bool
) -> None:
    expression = condor_settings(text_of("htcondor", "train.sub"))["on_exit_remove"]
    python = expression.replace("&&", "and").replace("||", "or")
    python = re.sub(r"!(?!=)", "not ", python)
    # HTCondor keeps files of an earlier run: here of one that had saved, and of one stopped.
    for earlier_code, earlier_signal in ((85, 15), (0, 9)):
        attributes = {
            "ExitBySignal": signal is not None,
            "ExitCode": earlier_code if exit_code is None else exit_code,
            "ExitSignal": earlier_signal if signal is None else signal,
        }
        assert eval(python, {}, attributes) is leaves


@pytest.mark.parametrize("cluster", CLUSTERS)
@given(
    word=st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="\\")),
    blank=st.sampled_from(["", " ", "'", '"', "$HOME", "`id`", "$(id)", "#", ";", "*", "{{", "%j"]),
)
def test_any_name_reaches_the_command_unchanged(cluster: str, word: str, blank: str) -> None:
    name = f"x{blank}{word}{blank}x"
    job = replace(JOB, command=("printf", "%s", name), directory=Path("/"), setup=("exec 1>&3",))
    script = text_of(
        cluster, "train.sh", replace(job, folder=Path("/jobs") / name.replace("/", ""))
    )
    # the log of the job is not writable here: the output of the command goes to stream 3
    script = re.sub(r"^exec >>.*$", "", script, flags=re.MULTILINE)
    result = subprocess.run(
        ["bash", "-c", f"{{ {script}\n}} 3>&1"], capture_output=True, check=True
    )
    assert result.stdout.decode() == name


@given(st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" "), min_size=1))
def test_sbatch_reads_the_value_of_an_option_unchanged(value: str) -> None:
    if value.endswith("\\"):
        value += "."
    text = text_of("slurm", "train.sh", replace(JOB, options={"comment": value}))
    assert f"--comment={value}" in sbatch_options(text)


@pytest.mark.parametrize(
    "change",
    [
        {"command": ("dnn-reco", "train", "a\nb.yaml")},
        {"directory": Path("/a\nb")},
        {"folder": Path("/a\rb")},
        {"setup": ("true\nfalse",)},
        {"options": {"comment": "x\n#SBATCH --uid=0"}},
        {"options": {"comment": "x \\"}},
    ],
)
def test_line_breaks_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ClusterError, match="cannot be used in the files of a job"):
        replace(JOB, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cluster", "name", "message"),
    [
        ("slurm", "cpus-per-task", "set twice"),
        ("slurm", "signal", "set twice"),
        ("slurm", "my partition", "not a valid name of a setting of sbatch"),
        ("slurm", "-p", "not a valid name of a setting of sbatch"),
        ("htcondor", "Request_CPUs", "set twice"),
        ("htcondor", "on_exit_remove", "set twice"),
        ("htcondor", "my rank", "not a valid name of a setting of condor_submit"),
    ],
)
def test_invalid_options(cluster: str, name: str, message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        job_files(cluster, replace(JOB, options={name: "1"}))


@pytest.mark.parametrize(
    ("text", "megabytes"),
    [("8 GB", 8192), ("8gb", 8192), ("500 MB", 500), ("1.5G", 1536), ("2 TB", 2097152)],
)
def test_amounts_of_memory(text: str, megabytes: int) -> None:
    assert parse_memory(text) == megabytes


@pytest.mark.parametrize("text", ["", "8", "GB", "8 kB", "-1 GB", "0 GB", "8 GB or more"])
def test_invalid_amounts_of_memory(text: str) -> None:
    with pytest.raises(ClusterError, match="write '8 GB'"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("24h", 86400), ("90m", 5400), ("1d12h", 129600), ("2D", 172800), ("1h 30m", 5400)],
)
def test_times(text: str, seconds: int) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "24", "0h", "1.5h", "h", "12h1d", "24:00:00", "5m"])
def test_invalid_times(text: str) -> None:
    with pytest.raises(ClusterError, match="--time"):
        parse_time(text)
