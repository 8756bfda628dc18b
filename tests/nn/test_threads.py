import threading
from collections.abc import Iterator

import pytest
import torch

from dnn_reco.nn import threads
from dnn_reco.nn.device import device_name
from dnn_reco.nn.threads import at_most_threads, num_threads, run_pieces, use_threads


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The numbers of threads are the same afterwards."""
    monkeypatch.setattr(threads, "_number", None)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("number", [1, 2, 5])
def test_each_piece_is_computed_once(number: int) -> None:
    use_threads(number, in_pieces=True)
    for count in (0, 1, 3, 40):
        done: list[int] = []
        run_pieces(done.append, count)
        assert sorted(done) == list(range(count))


def test_pieces_are_computed_at_the_same_time() -> None:
    use_threads(3, in_pieces=True)
    meeting = threading.Barrier(3, timeout=30)
    run_pieces(lambda _: meeting.wait() and None, 3)  # a broken barrier is an exception


@pytest.mark.parametrize("failing", [0, 7])
def test_an_error_in_any_piece_is_raised(failing: int) -> None:
    use_threads(2, in_pieces=True)

    def compute(piece: int) -> None:
        if piece == failing:
            raise ValueError(f"piece {piece}")

    with pytest.raises(ValueError, match=f"piece {failing}"):
        run_pieces(compute, 8)
    run_pieces(lambda _: None, 8)  # the helpers still work


def test_threads_are_those_of_pytorch_or_of_pieces() -> None:
    use_threads(3, in_pieces=True)
    assert (torch.get_num_threads(), num_threads()) == (1, 3)
    assert device_name(torch.device("cpu")) == "CPU, 3 threads"
    use_threads(2, in_pieces=False)
    assert (torch.get_num_threads(), num_threads()) == (2, 2)


@pytest.mark.parametrize(("limit", "expected"), [(None, 4), (0, 4), (2, 2), (9, 4)])
def test_a_limit_holds_inside_of_its_block(limit: int | None, expected: int) -> None:
    use_threads(4, in_pieces=False)
    with at_most_threads(limit):
        assert (torch.get_num_threads(), num_threads()) == (expected, expected)
    assert (torch.get_num_threads(), num_threads()) == (4, 4)
    use_threads(4, in_pieces=True)
    with at_most_threads(limit):
        assert (torch.get_num_threads(), num_threads()) == (1, expected)
    assert num_threads() == 4
