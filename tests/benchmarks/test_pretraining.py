"""The grid of simulated and traced events: which files and iterations each cell has."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from event_files import random_events, write_events

from dnn_reco.config import load_stages
from dnn_reco.training.optimizers import learning_rate_schedule
from dnn_reco.utils.learning_rate import rate_at

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "pretraining.py"


@pytest.fixture
def pretraining(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("pretraining", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pretraining", module)
    spec.loader.exec_module(module)
    yield module


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for folder, number in (("simulated", 4), ("traced/train", 3)):
        (tmp_path / folder).mkdir(parents=True)
        for run in range(number):
            events = random_events(run, 20, num_bins=9, run=run)
            write_events(tmp_path / folder / f"{run}.hdf5", events)
    return tmp_path


def test_as_many_files_as_come_closest(pretraining: ModuleType, files: Path) -> None:
    paths = sorted((files / "simulated").glob("*.hdf5"))
    for wanted, number in ((1, 1), (29, 1), (31, 2), (60, 3), (1000, 4)):
        chosen, total = pretraining.files_with(paths, wanted)
        assert (chosen, total) == (paths[:number], 20 * number)


def test_cells_of_equal_length(pretraining: ModuleType, files: Path) -> None:
    options = pretraining.parsed(
        [
            *(f"{files}/simulated/*.hdf5", f"{files}/traced", "--out", f"{files}/out"),
            *("--simulated-events", "0", "40", "--traced-events", "20", "25", "60"),
        ]
    )
    cells = pretraining.grid(options)
    found = [(cell.num_simulated, cell.num_traced) for cell in cells]
    assert found == [(0, 20), (0, 60), (40, 20), (40, 60)]
    for cell in cells:
        stages = load_stages([pretraining.write_config(cell, options, 90)])
        assert [len(stage.data_files.training_data_file) for stage in stages] == (
            [2, cell.num_traced // 20] if cell.num_simulated else [cell.num_traced // 20]
        )
        ends = [stage.training.num_training_iterations for stage in stages]
        assert ends == ([60, 90] if cell.num_simulated else [90])
        likelihood = stages[-1].optimizers["likelihood"]
        expected = (6e-3, 2e-4, 1.5e-3, 1e-5) if cell.num_simulated else (6e-3, None, None, 1e-5)
        for optimizer in (likelihood, likelihood.other_optimizers["muon"]):
            schedule = learning_rate_schedule("key", optimizer.optimizer_settings)
            rates = [rate_at("key", schedule, step) for step in (1, 60, 62, 90)]
            for rate, value in zip(rates, expected, strict=True):
                assert value is None or rate == pytest.approx(value, rel=0.02)
