"""Worker processes: what Ctrl-C does to them."""

import multiprocessing
import signal
import time

from dnn_reco.workers import in_workers


def is_deaf_to_ctrl_c(number: int) -> bool:
    """Whether this process has blocked the signal: since it was started, that is for a worker."""
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_ctrl_c_is_for_the_main_process_from_the_start_of_a_worker() -> None:
    """A worker that is still importing would end in a traceback."""
    assert list(in_workers(is_deaf_to_ctrl_c, range(3), 2, "")) == [True, True, True]
    assert not is_deaf_to_ctrl_c(0)


def first_at_once(number: int) -> int:
    time.sleep(600 * number)
    return number


def test_workers_end_when_their_results_are_no_longer_wanted() -> None:
    before = multiprocessing.active_children()
    results = in_workers(first_at_once, range(3), 2, "")
    assert next(results) == 0
    started = time.perf_counter()
    results.close()
    assert time.perf_counter() - started < 60
    assert multiprocessing.active_children() == before
