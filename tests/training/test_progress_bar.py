"""The progress bar of a training: what it shows on a terminal."""

import io

import pytest
from terminal import Terminal

from dnn_reco.training.progress_bar import ProgressBar

pytestmark = pytest.mark.usefixtures("shown_messages")


def test_events_of_this_call_and_the_share_of_waiting(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of iterations 1000 to 3000: 500 done, in batches of 32, in 4 s."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    bar = ProgressBar(1000, 3000, 32)
    clock[0] = 1004.0
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
