"""Signals that ask a training to stop: from people, and from batch systems."""

import os
import signal
from collections.abc import Iterator

import pytest

from dnn_reco.training.signals import stop_on_signals


class EndedAtOnceError(Exception):
    pass


@pytest.fixture(autouse=True)
def ends_at_once() -> Iterator[None]:
    """Before training begins, SIGTERM ends the program: here by an exception."""

    def end(number: int, frame: object) -> None:
        raise EndedAtOnceError

    before = signal.signal(signal.SIGTERM, end)
    yield
    signal.signal(signal.SIGTERM, before)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def test_a_repeated_sigterm_leaves_time_to_save() -> None:
    with stop_on_signals() as asked_to_stop:
        assert asked_to_stop() is None
        for _ in range(3):
            send(signal.SIGTERM)
        assert asked_to_stop() is signal.SIGTERM
    with pytest.raises(EndedAtOnceError):  # as before
        send(signal.SIGTERM)


def test_sigterm_may_be_repeated_at_any_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch system and job script send it microseconds apart: also while the first is handled."""
    set_handler, is_repeating = signal.signal, False

    def set_handler_and_repeat(number: signal.Signals, handler: object) -> object:
        nonlocal is_repeating
        before = set_handler(number, handler)  # type: ignore[arg-type]
        if not is_repeating:
            is_repeating = True
            send(signal.SIGTERM)
            is_repeating = False
        return before

    with stop_on_signals() as asked_to_stop:
        monkeypatch.setattr(signal, "signal", set_handler_and_repeat)
        send(signal.SIGTERM)
        monkeypatch.undo()
        assert asked_to_stop() is signal.SIGTERM


def test_ctrl_c_twice_stops_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), stop_on_signals() as asked_to_stop:
        send(signal.SIGINT)
        assert asked_to_stop() is signal.SIGINT
        send(signal.SIGINT)


def test_another_signal_stops_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), stop_on_signals():
        send(signal.SIGTERM)
        send(signal.SIGINT)
    with pytest.raises(EndedAtOnceError), stop_on_signals():
        send(signal.SIGINT)
        send(signal.SIGTERM)


def test_sighup_is_a_request_to_save_as_sigterm_is() -> None:
    """A terminal that closes sends one, a shut-down both."""
    for first, second in ((signal.SIGHUP, signal.SIGTERM), (signal.SIGTERM, signal.SIGHUP)):
        with stop_on_signals() as asked_to_stop:
            send(first)
            send(second)
            assert asked_to_stop() is first
    with pytest.raises(KeyboardInterrupt), stop_on_signals():
        send(signal.SIGHUP)
        send(signal.SIGINT)


def test_nohup_keeps_its_effect() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as asked_to_stop:
            send(signal.SIGHUP)
            assert asked_to_stop() is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
