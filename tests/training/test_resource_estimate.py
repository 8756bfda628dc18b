"""The arithmetic of `train --estimate`, with numbers computed by hand or by counting."""

from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dnn_reco.amounts import short_time_in_words, size_in_words, time_in_words
from dnn_reco.cluster import parse_memory, parse_time
from dnn_reco.training.measured_estimate import memory_of_training
from dnn_reco.training.resource_estimate import (
    Span,
    checkpoints_kept,
    iterations_within,
    memory_to_ask_for,
    memory_while_building,
    remaining_spans,
    time_to_ask_for,
    training_items,
)
from dnn_reco.training.settings import TrainerSettings
from dnn_reco.training.timing import Block, StepTimings, step_time

PACE = StepTimings(
    step=0.05,
    choosing=0.002,
    waiting=0.01,
    batch_metrics=0.5,
    evaluation=3.0,
    set_events=100,
    checkpoint=0.25,
    checkpoint_bytes=1000,
)


def settings(validation: int = 100, save: int = 500, evaluation: int = 500) -> TrainerSettings:
    return TrainerSettings(
        num_iterations=1000,
        batch_size=32,
        validation_frequency=validation,
        save_frequency=save,
        seed=1,
        shuffle_window=0,
        checkpoints=Path("somewhere"),
        max_to_keep=3,
        log_path=Path("logs"),
        validation_set_frequency=evaluation,
        patience=None,
    )


class ReadsHits:
    def __call__(self, hits: object) -> None: ...


class FillsGrid(ReadsHits):
    def place_on_grid(self, hits: object) -> None: ...
    def read_grid(self, *grids: object) -> None: ...


@pytest.mark.parametrize(
    ("network", "device", "expected"),
    [(ReadsHits, "cpu", 1250.0), (FillsGrid, "cpu", 1000.0), (ReadsHits, "cuda", 1000.0)],
)
def test_batches_of_other_shapes_need_more_memory(
    network: type[ReadsHits], device: str, expected: float
) -> None:
    forward = SimpleNamespace(network=network(), device=torch.device(device))
    assert memory_of_training(1000.0, forward) == expected


@pytest.mark.parametrize("seconds", [20.0, 63.0, 200.0, 999.0])
def test_iterations_within_a_time_by_doing_one_after_the_other(seconds: float) -> None:
    """Metrics in 0, 100 …; an evaluation and two checkpoints after 500, 1000 … and the last."""
    often, rarely = 0.5, 3.0 + 2 * 0.25
    clock, iterations = 0.0, 0
    while True:
        clock += 0.052 + often * (iterations % 100 == 0)
        at_the_end = 0.0 if (iterations + 1) % 500 == 0 else rarely
        clock += rarely - at_the_end
        if clock + at_the_end > seconds:
            break
        iterations += 1
    assert iterations_within(seconds, settings(), PACE) == iterations


def test_at_least_one_iteration_is_done_in_a_time_that_is_too_short() -> None:
    assert iterations_within(0.001, settings(), PACE) == 1


@pytest.mark.parametrize(
    ("done", "left"),
    [
        (0, [(0, 0, 100), (1, 100, 300), (2, 300, 450)]),
        (100, [(1, 100, 300), (2, 300, 450)]),
        (150, [(1, 150, 300), (2, 300, 450)]),
        (450, []),
        (500, []),
    ],
)
def test_what_is_left_of_stages(done: int, left: list[tuple[int, int, int]]) -> None:
    assert remaining_spans([100, 300, 450], done) == [Span(*numbers) for numbers in left]


def test_stages_that_fewer_iterations_cut_short() -> None:
    assert remaining_spans([100, 150, 150], 0) == [Span(0, 0, 100), Span(1, 100, 150)]


def test_a_training_by_hand() -> None:
    items = {i.name: i for i in training_items(Span(0, 0, 1200), settings(), PACE, set_events=200)}
    assert items["iterations"].seconds == pytest.approx(1200 * 0.05)
    assert items["choices of their events"].seconds == pytest.approx(2.4)
    assert items["printed metrics"].count == 12  # before iterations 0, 100, … 1100
    assert items["printed metrics"].seconds == pytest.approx(6.0)
    # after 500, 1000 and 1200; twice the events that were measured, and each may be the best
    assert items["evaluations of the validation set"].count == 3
    assert items["evaluations of the validation set"].seconds == pytest.approx(3 * (6.0 + 0.25))
    assert items["checkpoints"].seconds == pytest.approx(0.75)


@pytest.mark.parametrize("span", [Span(0, 0, 1), Span(1, 7, 21), Span(0, 6, 12), Span(0, 11, 40)])
def test_counts_are_those_of_the_training_loop(span: Span) -> None:
    for validation, save, evaluation in product((1, 3, 7, 50), repeat=3):
        printed = saved = evaluated = 0
        for iteration in range(span.first, span.last):
            done = iteration + 1
            printed += iteration % validation == 0
            evaluated += done % evaluation == 0 or done == span.last
            saved += done % save == 0 or done == span.last
        items = training_items(span, settings(validation, save, evaluation), PACE, 100)
        counts = {item.name: item.count for item in items}
        assert counts["printed metrics"] == printed
        assert counts["evaluations of the validation set"] == evaluated
        assert counts["checkpoints"] == saved


def test_checkpoints_that_are_kept() -> None:
    assert checkpoints_kept(1200, settings(save=500)) == 3  # 500, 1000, 1200
    assert checkpoints_kept(5000, settings(save=500)) == 3
    assert checkpoints_kept(400, settings(save=500)) == 1


def test_an_iteration_is_the_median_and_waiting_counts_all() -> None:
    blocks = [Block(10, 1.0, 0.1, 0.0), Block(10, 2.0, 0.0, 0.8), Block(5, 4.0, 2.0, 0.0)]
    step, waiting = step_time(blocks)
    assert step == pytest.approx(0.12)  # of 0.1, 0.12 and 0.8
    assert waiting == pytest.approx(2.1 / 6.2)


def test_memory_while_the_event_store_is_built() -> None:
    assert memory_while_building(500e6, 200e6, 0) == 500e6
    assert memory_while_building(500e6, 200e6, 3) == pytest.approx(1280e6)


@pytest.mark.parametrize(
    ("used", "text"), [(1e6, "0.5 GB"), (700e6, "1 GB"), (900e6, "1.5 GB"), (10e9, "12.5 GB")]
)
def test_memory_to_ask_for(used: float, text: str) -> None:
    assert memory_to_ask_for(used) == text
    assert 1.3 * used <= parse_memory(text) * 2**20 < 1.3 * used + 512 * 2**20


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (0.001, "10m"),
        (0.2, "20m"),
        (1, "1h20m"),  # 1.3 h
        (1.5, "2h"),
        (10, "13h"),
        (36, "47h"),  # 46.8 h
        (1.52, "2h"),  # 1.98 h
        (1.55, "3h"),  # 2.02 h
        (36.9, "48h"),  # 47.97 h
        (37, "2d12h"),  # 48.1 h
        (48, "3d"),  # 62.4 h
        (100, "5d12h"),  # 130 h
    ],
)
def test_time_to_ask_for(hours: float, text: str) -> None:
    assert time_to_ask_for(3600 * hours) == text
    assert parse_time(text) >= 1.3 * 3600 * hours


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "< 1 s"),
        (0.99, "< 1 s"),
        (1.0, "1 s"),
        (12.4, "12 s"),
        (60, "1 min"),
        (599.4, "9 min 59 s"),
        (599.6, "10 min"),
        (59.7, "1 min"),
        (200, "3 min 20 s"),
        (720, "12 min"),
        (3599, "1 h"),
        (12_000, "3 h 20 min"),
        (86_340, "23 h 59 min"),
        (86_399, "1 d"),
        (86_400, "1 d"),
        (200_000, "2 d 8 h"),
    ],
)
def test_time_in_words(seconds: float, text: str) -> None:
    assert time_in_words(seconds) == text


def test_small_things_in_words() -> None:
    times = (0.00123, 0.0123, 0.123, 1.234)
    assert [short_time_in_words(t) for t in times] == ["1.23 ms", "12.3 ms", "123 ms", "1.23 s"]
    borders = (0.01, 0.1, 1.0)
    assert [short_time_in_words(t) for t in borders] == ["10.0 ms", "100 ms", "1.00 s"]
    sizes = (6e4, 25e6, 99.9e6, 100e6, 999e6, 1e9, 12.34e9)
    assert [size_in_words(s) for s in sizes] == [
        *["0.1 MB", "25.0 MB", "99.9 MB", "100 MB", "999 MB", "1.0 GB", "12.3 GB"]
    ]
