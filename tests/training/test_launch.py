"""Waiting for the processes of a training on one machine."""

import signal
import subprocess

import pytest

from dnn_reco.training import launch


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_SECONDS_TO_END", 0.3)
    monkeypatch.setattr(launch, "_SECONDS_BETWEEN_LOOKS", 0.02)


def wait_for(*commands: str) -> tuple[int, list[int | None]]:
    """Exit code of the whole, and of each process."""
    children = [subprocess.Popen(["bash", "-c", command]) for command in commands]
    try:
        return launch._wait_for(children), [child.poll() for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()


@pytest.mark.parametrize(
    ("commands", "code"),
    [
        (["exit 0", "sleep 0.1"], 0),
        (["exit 0", "exit 3"], 3),
        (["exit 3", "sleep 0.1"], 3),
        (["kill -TERM $$", "exit 1"], 128 + signal.SIGTERM),
    ],
)
def test_exit_code_is_that_of_a_process_that_failed(commands: list[str], code: int) -> None:
    found, codes = wait_for(*commands)
    assert found == code
    assert None not in codes


def test_others_do_not_outlive_one_that_failed() -> None:
    """They wait for it in vain; a little time to end by themselves is granted."""
    found, codes = wait_for("exit 3", "exec sleep 60")
    assert codes == [3, -signal.SIGKILL]
    assert found != 0


def test_none_is_left_if_not_all_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class FirstOnly(subprocess.Popen[bytes]):
        def __init__(self, command: object, **options: object) -> None:
            if started:
                raise BlockingIOError("too many processes")
            super().__init__(["sleep", "60"])
            started.append(self)

    monkeypatch.setattr(launch.subprocess, "Popen", FirstOnly)
    with pytest.raises(BlockingIOError):
        launch.run_processes(2, ["train"])
    assert started[0].wait(10) == -signal.SIGKILL


def test_as_long_as_none_fails_all_may_take_their_time() -> None:
    found, codes = wait_for("exit 0", "sleep 0.8")
    assert (found, codes) == (0, [0, 0])
