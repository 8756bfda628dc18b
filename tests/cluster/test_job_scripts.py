"""The job scripts run for real, with stand-ins for the training and for the batch system."""

import os
import re
import signal
from pathlib import Path

import pytest
from cluster_stubs import Stubs, start, wait_for

from dnn_reco.cluster import Job, Resources, job_files, submit, write_files
from dnn_reco.errors import ClusterError


@pytest.fixture
def stubs(tmp_path: Path) -> Stubs:
    return Stubs(tmp_path / "stubs")


def write_script(cluster: str, folder: Path, seconds: int | None = None) -> Path:
    """The script of a job in a folder with special characters in its name."""
    directory = folder / 'it\'s a $HOME of `odd` "names"'
    directory.mkdir()
    job = Job(
        name="test",
        command=("dnn-reco", "train", "a config.yaml"),
        directory=directory,
        folder=directory / "jobs",
        setup=("export WITH_SETUP=yes",),
        resources=Resources(1, 0, 500, seconds),
        options={},
    )
    write_files(job_files(cluster, job))
    return job.folder / "train.sh"


@pytest.mark.parametrize("saved_code", ["85", ""])
def test_slurm_job_that_is_asked_to_stop_is_requeued(
    tmp_path: Path, stubs: Stubs, saved_code: str
) -> None:
    """Also if SIGTERM comes before the training can catch it: its exit code is then 143."""
    script = write_script("slurm", tmp_path)
    process = start(script, stubs, {"SAVED_CODE": saved_code, "END_CODE": ""})
    wait_for("started", script, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == int(saved_code or 143)
    (requeue,) = stubs.calls("scontrol")
    assert requeue[1:] == ["requeue", "Incomplete", "4711"]
    (training,) = stubs.calls("dnn-reco")
    assert training == [str(script.parent.parent), "train", "a config.yaml"]


@pytest.mark.parametrize("code", [0, 1, 3, 137])
def test_other_ends_of_a_slurm_job_are_final(tmp_path: Path, stubs: Stubs, code: int) -> None:
    script = write_script("slurm", tmp_path)
    process = start(script, stubs, {"SAVED_CODE": "85", "END_CODE": str(code)})
    assert process.wait(timeout=60) == code
    assert stubs.calls("scontrol") == []


def test_slurm_job_that_ends_otherwise_when_asked_to_stop(tmp_path: Path, stubs: Stubs) -> None:
    script = write_script("slurm", tmp_path)
    process = start(script, stubs, {"SAVED_CODE": "1", "END_CODE": ""})
    wait_for("started", script, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 1
    assert stubs.calls("scontrol") == []


def test_slurm_job_that_is_asked_to_stop_while_it_is_set_up(tmp_path: Path, stubs: Stubs) -> None:
    script = write_script("slurm", tmp_path)
    slow = "echo setting up; while [ ! -e go ]; do sleep 0.02; done"
    script.write_text(script.read_text().replace("export WITH_SETUP=yes", slow))
    process = start(script, stubs, {"SAVED_CODE": "85", "END_CODE": ""})
    wait_for("setting up", script, process)
    process.send_signal(signal.SIGTERM)
    (script.parent.parent / "go").touch()
    assert process.wait(timeout=60) in (85, 143)
    assert len(stubs.calls("scontrol")) == 1


def test_slurm_job_that_cannot_be_requeued_prints_what_to_do(tmp_path: Path, stubs: Stubs) -> None:
    stubs.write("scontrol", "#!/bin/bash\nexit 1\n")
    script = write_script("slurm", tmp_path)
    process = start(script, stubs, {"SAVED_CODE": "85", "END_CODE": "85"})
    assert process.wait(timeout=60) == 85
    assert "submit it again" in wait_for("could not be requeued", script, process)


@pytest.mark.parametrize("seconds", [None, 3600])
def test_htcondor_sees_the_end_of_the_training(
    tmp_path: Path, stubs: Stubs, seconds: int | None
) -> None:
    script = write_script("htcondor", tmp_path, seconds)
    process = start(script, stubs, {"SAVED_CODE": "85", "END_CODE": ""})
    wait_for("started", script, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 85
    for code in (0, 1, 3):
        process = start(script, stubs, {"SAVED_CODE": "85", "END_CODE": str(code)})
        assert process.wait(timeout=60) == code
    assert (script.parent / "logs" / "train.log").read_text().count("started") == 4  # none is lost
    assert stubs.calls("dnn-reco")[0] == [str(script.parent.parent), "train", "a config.yaml"]


def test_htcondor_job_saves_when_its_time_is_up(tmp_path: Path, stubs: Stubs) -> None:
    script = write_script("htcondor", tmp_path, seconds=1)
    process = start(script, stubs, {"SAVED_CODE": "85", "END_CODE": ""})
    assert process.wait(timeout=60) == 85
    assert "caught SIGTERM" in (script.parent / "logs" / "train.log").read_text()


@pytest.mark.parametrize("cluster", ["htcondor", "slurm"])
def test_working_directory_that_is_gone_ends_the_job(
    tmp_path: Path, stubs: Stubs, cluster: str
) -> None:
    script = write_script(cluster, tmp_path)
    script.write_text(script.read_text().replace("\ncd ", "\ncd /nowhere"))
    process = start(script, stubs, {"SAVED_CODE": "85", "END_CODE": ""})
    assert process.wait(timeout=60) == 1
    assert stubs.calls("dnn-reco") == []


@pytest.mark.parametrize(
    ("cluster", "program", "file"),
    [("htcondor", "condor_submit", "train.sub"), ("slurm", "sbatch", "train.sh")],
)
def test_the_batch_system_is_called_in_the_folder_of_the_job(
    tmp_path: Path,
    stubs: Stubs,
    monkeypatch: pytest.MonkeyPatch,
    cluster: str,
    program: str,
    file: str,
) -> None:
    folder = write_script(cluster, tmp_path).parent
    for key in ("PATH", "STUB_FOLDER"):
        monkeypatch.setenv(key, stubs.environment[key])
    assert submit(cluster, folder) == "Submitted batch job 4711"
    assert stubs.calls(program) == [[str(folder), file]]
    assert (folder / file).is_file()
    assert os.access(folder / "train.sh", os.X_OK)


def test_a_job_that_the_batch_system_refuses(
    tmp_path: Path, stubs: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubs.write("sbatch", "#!/bin/bash\necho 'invalid partition specified' >&2\nexit 7\n")
    folder = write_script("slurm", tmp_path).parent
    monkeypatch.setenv("PATH", stubs.environment["PATH"])
    with pytest.raises(ClusterError) as raised:
        submit("slurm", folder)
    assert "exit code 7" in str(raised.value)
    assert "Its output:\ninvalid partition specified\n" in str(raised.value)
    for script, output in (
        ("echo told\necho '  ' >&2\nexit 1", "told"),
        ("echo told\necho wrong >&2\nexit 1", "wrong"),
        ("exit 1", "(none)"),
    ):
        stubs.write("sbatch", f"#!/bin/bash\n{script}\n")
        with pytest.raises(ClusterError, match=re.escape(f"Its output:\n{output}\nThe files are")):
            submit("slurm", folder)
    assert "invalid partition specified" in str(raised.value)
    assert "&& sbatch train.sh" in str(raised.value)
