"""Worker processes: what Ctrl-C does to them."""

import signal

from dnn_reco.workers import in_workers


def is_deaf_to_ctrl_c(number: int) -> bool:
    """Whether this process has blocked the signal: since it was started, that is for a worker."""
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_ctrl_c_is_for_the_main_process_from_the_start_of_a_worker() -> None:
    """A worker that is still importing would end in a traceback."""
    assert list(in_workers(is_deaf_to_ctrl_c, range(3), 2, "")) == [True, True, True]
    assert not is_deaf_to_ctrl_c(0)
