"""What every command does around its work: messages, threads, errors and exit codes."""

import logging
import os
from pathlib import Path

import click
import pytest
import torch

from dnn_reco.cli import session
from dnn_reco.cli.session import leave, limit_threads, run_safely, show_messages
from dnn_reco.errors import ConfigError

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("DEBUG", ["fine", "told", "WARNING: odd", "ERROR: wrong", "CRITICAL: the end"]),
        ("info", ["told", "WARNING: odd", "ERROR: wrong", "CRITICAL: the end"]),
        ("ERROR", ["ERROR: wrong", "CRITICAL: the end"]),
    ],
)
def test_messages_of_the_package(
    level: str, expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """They go to standard error; other libraries tell warnings alone."""
    show_messages(level)
    ours, theirs = logging.getLogger("dnn_reco.some.module"), logging.getLogger("another")
    for number, text in ((10, "fine"), (20, "told"), (30, "odd"), (40, "wrong"), (50, "the end")):
        ours.log(number, "%s", text)
    theirs.info("nobody needs this")
    theirs.warning("careful")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [*expected, "WARNING: careful"]


def test_messages_are_not_printed_twice(capsys: pytest.CaptureFixture[str]) -> None:
    show_messages("INFO")
    show_messages("INFO")
    logging.getLogger("dnn_reco").info("once")
    assert capsys.readouterr().err == "once\n"


def test_threads_of_numerical_libraries() -> None:
    for name in (*THREADS, "GOMP_SPINCOUNT"):
        os.environ.pop(name, None)
    limit_threads(0)
    assert not {*THREADS} & {*os.environ}
    assert os.environ["GOMP_SPINCOUNT"] == "20000"
    os.environ["GOMP_SPINCOUNT"] = "5"
    limit_threads(3)
    assert [os.environ[name] for name in THREADS] == ["3", "3", "3"]
    assert os.environ["GOMP_SPINCOUNT"] == "5"  # the user's own value stays


def test_mistakes_are_one_message_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    errors = (ConfigError("a mistake"), FileNotFoundError(2, "No such file", "there"))
    for error, text in zip(errors, ("a mistake", "[Errno 2] No such file: 'there'"), strict=True):

        @click.command()
        def fail(error: Exception = error) -> None:
            raise error

        with pytest.MonkeyPatch.context() as monkeypatch, pytest.raises(SystemExit) as leaving:
            monkeypatch.setattr("sys.argv", ["dnn-reco"])
            run_safely(fail)
        assert leaving.value.code == 1
        printed = capsys.readouterr()
        assert (printed.out, printed.err) == ("", f"Error: {text}\n")


# as PyTorch 2.9 to 2.13 word them
FULL = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.1 GiB"
IN_NO_ORDER = (
    "max_pool3d_with_indices_backward_cuda does not have a deterministic implementation, but you "
    "set 'torch.use_deterministic_algorithms(True)'. You can turn off determinism just for this "
)


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (torch.OutOfMemoryError(FULL), ["memory of the GPU is full", "batch_size", "20.00 MiB"]),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors"), ["memory of the GPU"]),
        (RuntimeError(IN_NO_ORDER), ["--deterministic is not", "max_pool3d_with_indices_backward"]),
    ],
)
def test_what_a_gpu_cannot_do_is_one_line(
    error: Exception,
    parts: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @click.command()
    def fail() -> None:
        raise error

    monkeypatch.setattr("sys.argv", ["dnn-reco"])
    with pytest.raises(SystemExit) as leaving:
        run_safely(fail)
    assert leaving.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: ")
    assert all(part in line for part in parts)


def test_success_is_exit_code_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["dnn-reco"])
    with pytest.raises(SystemExit) as leaving:
        run_safely(click.Command("nothing", callback=lambda: None))
    assert leaving.value.code == 0


def test_other_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (ZeroDivisionError, RuntimeError):

        def fail(error: type[Exception] = error) -> None:
            raise error

        monkeypatch.setattr("sys.argv", ["dnn-reco"])
        with pytest.raises(error):
            run_safely(click.Command("broken", callback=fail))


@pytest.mark.parametrize("processes", ["1", "2"])
def test_one_of_several_processes_leaves_at_once(
    processes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []
    monkeypatch.setenv("WORLD_SIZE", processes)
    monkeypatch.setattr(session.os, "_exit", left.append)
    if processes == "1":
        with pytest.raises(SystemExit) as leaving:
            leave(3)
        assert leaving.value.code == 3
        assert left == []
    else:
        with pytest.raises(SystemExit):
            leave(3)
        assert left == [3]


def test_the_message_of_a_file_that_is_not_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from dnn_reco.cli import main

    monkeypatch.setattr("sys.argv", ["dnn-reco", "config", "show", str(tmp_path / "a.yaml")])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 1
    assert f"Error: the config file '{tmp_path / 'a.yaml'}' does not exist" in (
        capsys.readouterr().err
    )
