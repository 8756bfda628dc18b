"""The lock of a model folder: two trainings in it at a time are refused, stale locks are not."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_run import ON_CPU, SmallRun, run_of

from dnn_reco.commands.train import run_train
from dnn_reco.errors import TrainingError
from dnn_reco.training import lock
from dnn_reco.training.lock import training_lock

HOLD = """
import sys, time
from pathlib import Path
from dnn_reco.training.lock import training_lock
with training_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run" / "model"


def hold(folder: Path) -> subprocess.Popen[bytes]:
    """Another process that holds the lock of a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


@pytest.fixture
def holder(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with hold(folder) as process:
        yield process
        process.kill()


def lock_file(folder: Path) -> Path:
    return folder.with_name("model.lock")


def write_lock(folder: Path, **owner: object) -> None:
    folder.parent.mkdir(exist_ok=True)
    lock_file(folder).write_text(json.dumps(owner))


def test_a_second_training_is_refused_until_the_first_is_gone(
    folder: Path, holder: subprocess.Popen[bytes]
) -> None:
    for _ in range(2):
        message = (
            rf"^process {holder.pid} on '{socket.gethostname()}' is already training in .*lock'"
        )
        with pytest.raises(TrainingError, match=message), training_lock(folder):
            pass
    holder.kill()
    holder.wait()
    assert lock_file(folder).exists(), "the test needs the lock of a process that was killed"
    with training_lock(folder):
        assert json.loads(lock_file(folder).read_text())["process"] == os.getpid()
    assert not lock_file(folder).exists()


def test_a_training_changes_nothing_in_a_folder_that_another_one_uses(
    trained_run: SmallRun, tmp_path: Path
) -> None:
    run = run_of(trained_run, tmp_path)
    assert run_train(run.config(num_training_iterations=1), ON_CPU) == 0
    assert not run.checkpoints.with_name("model.lock").exists()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    with hold(run.checkpoints) as process:
        for restore in (True, False):
            config = run.config(num_training_iterations=2, model_restore_model=restore)
            with pytest.raises(TrainingError, match="is already training in this model folder"):
                run_train(config, ON_CPU)
        process.kill()
    run.checkpoints.with_name("model.lock").unlink()
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}


def test_another_process_with_the_number_of_one_that_has_ended(folder: Path) -> None:
    write_lock(folder, host=socket.gethostname(), process=os.getpid(), started="1")
    with training_lock(folder):
        pass


@pytest.mark.parametrize("content", ['{"host": "elsewhere", "process": 7, "started": "1"}', ""])
def test_a_lock_of_another_host_counts_as_long_as_it_is_renewed(
    folder: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_SECONDS_BETWEEN_RENEWALS", 0.05)
    monkeypatch.setattr(lock, "_SECONDS_UNTIL_STALE", 0.3)
    folder.parent.mkdir(exist_ok=True)
    lock_file(folder).write_text(content)
    alive = threading.Timer(0.1, os.utime, [lock_file(folder)])
    alive.start()
    owner = "process 7 on 'elsewhere'" if content else "another process"
    with pytest.raises(TrainingError, match=f"^{owner} is already training"), training_lock(folder):
        pass
    alive.join()
    with training_lock(folder):
        taken = lock_file(folder).stat().st_mtime_ns
        time.sleep(0.15)
        assert lock_file(folder).stat().st_mtime_ns > taken  # it is renewed itself


def test_a_lock_that_another_training_has_taken_over_is_left_to_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a training was suspended for so long that its lock seemed stale."""
    monkeypatch.setattr(lock, "_SECONDS_BETWEEN_RENEWALS", 0.05)
    with training_lock(folder):
        write_lock(folder, host="elsewhere", process=7, started="1")
        os.utime(lock_file(folder), (1, 1))
        time.sleep(0.3)
        assert lock_file(folder).stat().st_mtime == 1
    assert json.loads(lock_file(folder).read_text())["host"] == "elsewhere"
    assert "has taken over the lock" in caplog.text


def test_an_old_lock_of_another_host_is_stale_at_once(folder: Path) -> None:
    write_lock(folder, host="elsewhere", process=7, started="1")
    os.utime(lock_file(folder), (0, time.time() - 2 * 3600))
    with training_lock(folder):
        pass


def test_a_lock_of_another_user_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system forbids signals to processes of others, which are there all the same."""

    def kill(process: int, number: int) -> None:
        raise PermissionError

    started = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()[19]
    write_lock(folder, host=socket.gethostname(), process=os.getpid(), started=started)
    monkeypatch.setattr(lock.os, "kill", kill)
    message = f"^process {os.getpid()} on '{socket.gethostname()}' is already training"
    with pytest.raises(TrainingError, match=message), training_lock(folder):
        pass


@pytest.mark.parametrize("process", [2**22 + 1, 2**70])
def test_a_process_that_cannot_be_is_gone(folder: Path, process: int) -> None:
    write_lock(folder, host=socket.gethostname(), process=process, started="1")
    with training_lock(folder):
        assert json.loads(lock_file(folder).read_text())["process"] == os.getpid()
