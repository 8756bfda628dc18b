"""Progress of long work, on a terminal and in logs."""

import io
import logging

import pytest
from terminal import Terminal

from dnn_reco.progress import Progress, with_progress

pytestmark = pytest.mark.usefixtures("shown_messages")


def lines_of(
    work: Progress,
    clock: list[float],
    steps: int,
    duration: float,
    caplog: pytest.LogCaptureFixture,
) -> list[str]:
    """Lines of the log while all steps are done, each in this time."""
    caplog.clear()
    for _ in range(steps):
        clock[0] += duration
        work.update()
    return caplog.messages


def test_short_work_leaves_no_line_in_a_log(
    clock: list[float], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(100, "Counting", "files") as work:
        assert lines_of(work, clock, 100, 0.29, caplog) == []
    assert capsys.readouterr() == ("", "")


def test_a_line_of_a_log_for_each_tenth_of_long_work(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """100 files of 30 s each: after every tenth one, with the time that is left."""
    with Progress(100, "Counting", "files") as work:
        lines = lines_of(work, clock, 100, 30.0, caplog)
    assert lines[0] == "Counting: 10 of 100 files (10%), 45 min left"
    assert lines[4] == "Counting: 50 of 100 files (50%), 25 min left"
    assert len(lines) == 9  # the end is not worth one


def test_very_long_work_has_a_line_every_ten_minutes(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """What was done before counts for the share, not for the speed."""
    with Progress(1000, "Training", "iterations", initial=500) as work:
        work.remark = "32 events/s"
        lines = lines_of(work, clock, 20, 60.0, caplog)
    assert lines == [
        "Training: 510 of 1,000 iterations (51%), 32 events/s, 8 h 10 min left",
        "Training: 520 of 1,000 iterations (52%), 32 events/s, 8 h left",
    ]


def test_work_of_unknown_length(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with Progress(None, "Reading", "frames") as work:
        assert lines_of(work, clock, 7, 10.0, caplog) == [
            "Reading: 3 frames",
            "Reading: 6 frames",
        ]


def test_a_bar_on_a_terminal_is_removed_in_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    assert list(with_progress(iter("abc"), 3, "Counting", "files")) == ["a", "b", "c"]
    text = terminal.getvalue()
    assert "Counting:   0%" in text
    assert text.rpartition("\r")[2].strip() == ""
    assert caplog.messages == []


@pytest.mark.parametrize("is_terminal", [True, False])
def test_nothing_where_messages_are_not_shown(
    is_terminal: bool, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Terminal() if is_terminal else io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logging.getLogger("dnn_reco").setLevel(logging.WARNING)
    with Progress(10, "Counting", "files") as work:
        assert not work.is_shown
        for _ in range(10):
            clock[0] += 1000
            work.update()
    assert stream.getvalue() == ""
