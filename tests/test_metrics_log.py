"""metrics.jsonl: complete lines of JSON, none of iterations that will be repeated."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dnn_reco.metrics_log import MetricsLog


def write(path: Path, first: int, iterations: list[int]) -> None:
    metrics = MetricsLog(path, first)
    for iteration in iterations:
        metrics.write(iteration, {"val": {"rmse": np.float64(iteration / 10)}, "label": "Σ"})


def iterations(path: Path) -> list[int]:
    return [json.loads(line)["iteration"] for line in path.read_text("utf-8").splitlines()]


def test_lines_of_iterations_that_are_repeated_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, 0, [0, 5, 9, 10, 15])
    write(path, 10, [10, 12])  # the first ten iterations, 0 … 9, are done
    assert iterations(path) == [0, 5, 9, 10, 12]
    write(path, 0, [3])
    assert iterations(path) == [3]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize(
    "rest",
    [b'{"iteration": 6, "iterat', b"\xc3", b"[]\n", b"7\n", b"\n", b"[" * 200_000 + b"\n"],
    ids=["part", "byte", "list", "number", "empty", "nested"],
)
def test_what_is_not_a_whole_line_is_dropped(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, 0, [0, 5])
    path.write_bytes(path.read_bytes() + rest)
    write(path, 10, [11])
    assert iterations(path) == [0, 5, 11]


def test_a_file_without_anything_to_drop_is_not_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, 0, [0])
    inode = path.stat().st_ino
    write(path, 1, [5])
    assert path.stat().st_ino == inode


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    MetricsLog(path, 0).write(3, {"a": {"b": math.nan, "c": np.float32(np.inf), "d": None}})
    assert json.loads(path.read_text()) == {
        "iteration": 3,
        "iterations_done": 4,
        "a": {"b": None, "c": None, "d": None},
    }


def test_pandas_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, 0, [0, 5])
    table = pd.json_normalize(pd.read_json(path, lines=True).to_dict("records"))
    assert list(table["val.rmse"]) == [0.0, 0.5]
