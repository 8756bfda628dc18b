"""The progress bar of a training: what it shows on a terminal."""

import io
import logging
from collections.abc import Iterator

import pytest

from dnn_reco import progress
from dnn_reco.training.progress_bar import ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def messages() -> Iterator[None]:
    """Messages of the level INFO are shown, as by the commands."""
    package = logging.getLogger("dnn_reco")
    level = package.level
    package.setLevel(logging.INFO)
    yield
    package.setLevel(level)


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_events_of_this_call_and_the_share_of_waiting(
    seconds: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of iterations 1000 to 3000: 500 done, in batches of 32, in 4 s."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    bar = ProgressBar(1000, 3000, 32)
    seconds[0] = 104.0
    assert bar.seconds == 4.0
    bar.update(1500, 1.0)
    bar._progress._bar.refresh()
    text = terminal.getvalue().rpartition("\r")[2]
    assert text.startswith("Training:  50%")
    assert "| 1500/3000 [" in text
    assert "iterations/s" not in text  # to fit on a terminal of 80 columns
    assert text.rstrip().endswith(", 4,000 events/s, 25.0% waiting]")
    bar.update(1500, 1.0, "new weights")
    bar._progress._bar.refresh()
    assert "25.0% waiting, new weights]" in terminal.getvalue()
    bar.close()
    assert terminal.getvalue().rpartition("\r")[2].strip() == ""  # nothing is left on the line


def test_no_bar_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = io.StringIO()
    monkeypatch.setattr("sys.stderr", error)
    bar = ProgressBar(0, 10, 32)
    bar.update(5, 0.0)
    bar.print("Step: 5")
    bar.close()
    assert error.getvalue() == ""
    assert capsys.readouterr().out == "Step: 5\n"
