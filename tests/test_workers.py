"""Worker processes: what Ctrl-C does to them, and how far they are ahead."""

import multiprocessing
import signal
import time
from collections.abc import Iterator

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
    results.close()
    assert multiprocessing.active_children() == before


def test_processes_of_the_program_are_not_ended() -> None:
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    other.start()
    before = set(multiprocessing.active_children())
    try:
        results = in_workers(first_at_once, range(3), 2, "")
        assert next(results) == 0
        results.close()
        assert set(multiprocessing.active_children()) == before
        assert other.is_alive()
    finally:
        other.kill()
        other.join()


def negative(number: int) -> int:
    return -number


def test_results_come_in_order_and_only_a_few_items_are_taken_ahead() -> None:
    """The consumer may stop early: what lies far ahead must not be started."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10):
            taken.append(number)
            yield number

    for workers, ahead in ((1, 1), (2, 4)):
        taken.clear()
        results = in_workers(negative, items(), workers, "")
        assert next(results) == 0
        assert len(taken) == ahead
        assert list(results) == [-number for number in range(1, 10)]
