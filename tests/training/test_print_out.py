"""The table that a training prints."""

from typing import Any

from dnn_reco.training.print_out import TrainingTable
from dnn_reco.training.run_state import RunState


def state(seconds: float) -> RunState:
    return RunState(
        label_weights={},
        learning_rates={"all": 0.0005},
        gradient_norms={},
        events_per_second=1234.5,
        share_waiting=0.0,
        seconds=seconds,
        memory={},
        further={},
    )


def batches(train: float, validation: float) -> dict[str, Any]:
    """Two optimizers, whose losses are added."""
    return {
        "train": {"losses": {"a": train - 1.0, "b": 1.0}},
        "val": {"losses": {"a": validation - 2.0, "b": 2.0}},
    }


def whole_set(loss: float) -> dict[str, Any]:
    return {"validation_set": {"loss": loss, "loss_error": 0.0123}}


def words(line: str) -> list[str]:
    """The cells that are not empty."""
    columns = ((0, 9), (9, 19), (19, 30), (30, 49), (49, 58), (58, 67), (67, None))
    cells = (line[start:stop].strip() for start, stop in columns)
    return [cell for cell in cells if cell]


def test_a_row_for_each_validation() -> None:
    """Every 100 iterations with batches, every 200 of the whole set; 3600 iterations in 1 h."""
    lines: list[str] = []
    table = TrainingTable(0, 3600, 100, lines.append)
    table.add(0, batches(3.0, 3.5), False, state(1.0))
    table.add(100, batches(2.25, 2.5), False, state(100.0))
    table.add(199, whole_set(2.125), True, state(200.0))
    assert len(lines) == 4  # the batches of iteration 200 are due next, and share the row
    table.add(200, batches(-1.0, -2.0), True, state(200.0))
    table.add(3599, whole_set(-12345.6), False, state(3600.0))
    assert words(lines[1]) == [
        *("iteration", "training", "validation", "validation set", "rate", "events/s", "left")
    ]
    assert words(lines[2])[:3] == ["0", "3.0000", "3.5000"]
    assert words(lines[3]) == ["100", "2.2500", "2.5000", "5.00e-04", "1,234", "58 min"]
    assert words(lines[4]) == [
        *("200", "-1.0000", "-2.0000", "2.1250±0.0123 *", "5.00e-04", "1,234", "57 min")
    ]
    assert words(lines[5]) == ["3,600", "-1.235e+04±0.0123", "5.00e-04", "1,234"]
    assert all(len(line) < 80 for line in lines)  # of a small terminal
    starts = {line.index("5.00e-04") for line in lines[2:]}
    assert len(starts) == 1  # aligned


def test_a_validation_set_whose_batches_never_come_is_printed_in_the_end() -> None:
    lines: list[str] = []
    table = TrainingTable(1000, 5000, 100, lines.append)
    table.add(1199, whole_set(2.0), False, state(10.0))
    table.close()
    table.close()
    assert words(lines[2])[:2] == ["1,200", "2.0000±0.0123"]
    assert words(lines[2])[-1] == "3 min 10 s"  # 3800 of them, 200 took 10 s
    assert len(lines) == 3


def test_the_header_comes_again() -> None:
    lines: list[str] = []
    table = TrainingTable(0, 10_000, 1, lines.append)
    for iteration in range(60):
        table.add(iteration, batches(1.0, 1.0), False, state(1.0))
    assert len([line for line in lines if "iteration" in line]) == 3
    assert len(lines) == 60 + 3 + 1
