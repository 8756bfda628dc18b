"""Colours: on terminals alone, and not where NO_COLOR is set."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

import dnn_reco

ROOT = Path(dnn_reco.__file__).parents[1]


def on_terminal(*words: str, **environment: str) -> str:
    """What `dnn-reco` writes to a terminal, standard output and errors together."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "dnn_reco", *words],
        stdin=side,
        stdout=side,
        stderr=side,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    os.close(side)
    text = b""
    while True:
        try:
            part = os.read(main, 1024)
        except OSError:  # the program has ended
            break
        if not part:
            break
        text += part
    os.close(main)
    process.wait(timeout=30)
    return text.decode()


@pytest.fixture(autouse=True)
def colours_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_on_a_terminal() -> None:
    assert on_terminal("count", "missing.yaml").startswith("\x1b[31mError:\x1b[0m the config file")
    assert "\x1b" not in on_terminal("count", "missing.yaml", NO_COLOR="1")


def test_in_a_pipe() -> None:
    line = [sys.executable, "-m", "dnn_reco", "count", "missing.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(line, capture_output=True, check=False, env=environment)
    assert result.stderr.startswith(b"Error: the config file")


def test_progress_on_a_terminal_leaves_nothing_behind(tmp_path: Path) -> None:
    """A bar is drawn, and wiped out; with --quiet there is none."""
    words = ["simulate", "--events", "2", "--files", "1", "-j", "1", "--out"]
    text = on_terminal(*words, str(tmp_path / "a"))
    assert "Simulating:" in text
    shown = [line.rpartition("\r")[2].strip() for line in text.replace("\r\n", "\n").split("\n")]
    assert [line for line in shown if line][-1].startswith("2 events in 1 file in")
    assert on_terminal(*words, str(tmp_path / "b"), "--quiet") == ""
