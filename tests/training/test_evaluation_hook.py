"""Evaluation functions at validation."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import functions_of_a_user
import numpy as np
import pytest
import torch
from small_run import ON_CPU, SmallRun, make_small_run
from torch import Tensor

from dnn_reco.checkpoint_file import load_latest
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.data.hit_batch import HitBatch, TensorBatch
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.modules.evaluation.default_evaluation import eval_direction
from dnn_reco.modules.evaluation.interface import EvaluationBatch, EvaluationContext
from dnn_reco.nn.interface import LabelKeys, Prediction

EVALUATION = "dnn_reco.modules.evaluation.default_evaluation.eval_direction"
NAMES = ("energy", "zenith", "azimuth", "x", "y", "z")
KEYS = LabelKeys(zenith="zenith", azimuth="azimuth", dir_x="x", dir_y="y", dir_z="z")


def labels(zenith: np.ndarray, along: np.ndarray, azimuth: np.ndarray, length: float) -> Tensor:
    """Labels of events: zenith and azimuth, and a vector of another zenith angle `along`."""
    vector = (
        -np.sin(along) * np.cos(azimuth),
        -np.sin(along) * np.sin(azimuth),
        -np.cos(along),
    )
    columns = [0 * azimuth, zenith, azimuth, *(length * axis for axis in vector)]
    return torch.tensor(np.stack(columns, axis=1), dtype=torch.float32)


@dataclass(frozen=True)
class OneBatch:
    batch: TensorBatch
    prediction: Prediction


def predicted(zenith: list[float], azimuth: list[float], off: list[float]) -> EvaluationBatch:
    """Events whose predicted zenith is off by so many degrees, and the vector by twice as many."""
    n = len(off)
    theta, phi, delta = np.array(zenith), np.array(azimuth), np.radians(off)
    nothing = torch.zeros(0, dtype=torch.int64)
    hits = HitBatch(n, nothing, nothing, torch.zeros(0, 3))
    batch = TensorBatch(hits, labels(theta, theta, phi, 1.0), torch.zeros(n, 0))
    unused = torch.zeros(n, len(NAMES))
    said = labels(theta + delta, theta + 2 * delta, phi, 0.3)
    return OneBatch(batch, Prediction(unused, unused, said, unused, unused))


def evaluate(keys: LabelKeys = KEYS) -> tuple[list[str], dict[tuple[str, str], float]]:
    """Lines and scalars of eval_direction for made-up batches."""
    lines: list[str] = []
    scalars: dict[tuple[str, str], float] = {}

    def add_scalar(batch: str, tag: str, value: float) -> None:
        scalars[batch, tag] = value

    train = predicted([0.1, 0.9, 1.0], [0.0, 2.0, 6.0], [10.0, 20.0, 90.0])
    val = predicted([0.3, 0.4], [3.0, 4.0], [1.0, 4.0])
    context = EvaluationContext(7, NAMES, (), keys, {}, lines.append, add_scalar)
    eval_direction(train, val, context)
    return lines, scalars


def test_opening_angles_of_both_kinds_of_labels() -> None:
    """Off by 10, 20, 90 and by 1, 4 degrees: along a meridian that is the angle itself."""
    lines, scalars = evaluate()
    assert lines == [
        "\t[Train]      Opening Angle: mean 40.0, median 20.0",
        "\t[Validation] Opening Angle: mean 2.5, median 2.5",
        "\t[Train]      Opening Angle: mean 80.0, median 40.0 [Over Direction Vector]",
        "\t[Validation] Opening Angle: mean 5.0, median 5.0 [Over Direction Vector]",
    ]
    assert scalars == {
        ("train", "opening_angle_mean"): pytest.approx(40, abs=1e-4),
        ("train", "opening_angle_median"): pytest.approx(20, abs=1e-4),
        ("val", "opening_angle_mean"): pytest.approx(2.5, abs=1e-4),
        ("val", "opening_angle_median"): pytest.approx(2.5, abs=1e-4),
        ("train", "opening_angle_mean_vector"): pytest.approx(80, abs=1e-4),
        ("train", "opening_angle_median_vector"): pytest.approx(40, abs=1e-4),
        ("val", "opening_angle_mean_vector"): pytest.approx(5, abs=1e-4),
        ("val", "opening_angle_median_vector"): pytest.approx(5, abs=1e-4),
    }


def test_one_kind_of_labels_is_enough() -> None:
    lines, _ = evaluate(LabelKeys(zenith="zenith", azimuth="azimuth", dir_x="no", dir_y="y"))
    assert len(lines) == 2
    assert not any("Vector" in line for line in lines)
    lines, _ = evaluate(LabelKeys(dir_x="x", dir_y="y", dir_z="z"))
    assert len(lines) == 2
    assert all("Vector" in line for line in lines)
    with pytest.raises(ConfigError, match=r"label_zenith_key.*label_dir_x_key.*energy, zenith"):
        evaluate(LabelKeys(zenith="zenith"))


@pytest.fixture
def run(tmp_path: Path) -> SmallRun:
    run = make_small_run(tmp_path, num_training_iterations=12, validation_frequency=5, my_own_key=3)
    run_trafo(run.config(), ON_CPU, overwrite=False)
    return run


def train(run: SmallRun, **overrides: Any) -> dict[str, Tensor]:
    assert run_train(run.config(**overrides), ON_CPU) == 0
    checkpoint = load_latest(run.checkpoints)
    assert checkpoint is not None
    return dict(checkpoint.tensors)


def test_an_evaluation_sees_all_labels_and_changes_nothing(
    run: SmallRun, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = train(run)
    functions_of_a_user.seen.clear()
    evaluated = train(
        run,
        evaluation_class="functions_of_a_user.note_evaluation",
        model_restore_model=False,
    )
    for name, tensor in plain.items():
        assert torch.equal(tensor, evaluated[name]), name
    lines = capsys.readouterr().out.splitlines()
    told = [(line, lines[i - 1]) for i, line in enumerate(lines) if line.startswith("evaluated")]
    assert [line for line, _ in told] == [f"evaluated iteration {i}" for i in (0, 5, 10)]
    assert all("PrimaryAzimuth, mean" in before for _, before in told)
    _, val, context = functions_of_a_user.seen["evaluations"][-1]
    assert context.config["my_own_key"] == 3
    untrained = context.label_names.index("PrimaryEnergy")  # of weight 0
    assert val.batch.labels[:, untrained].min() > 0
    assert len(val.prediction.labels[:, untrained].unique()) > 1
    assert not val.prediction.labels.requires_grad


def test_opening_angles_in_printed_metrics_and_tensorboard(
    run: SmallRun, capsys: pytest.CaptureFixture[str]
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(run, evaluation_class=EVALUATION)
    out = capsys.readouterr().out
    pattern = r"\t\[Validation\] Opening Angle: mean ([\d.]+), median [\d.]+\n"
    printed = [float(angle) for angle in re.findall(pattern, out)]
    assert len(printed) == 3
    assert all(0 < angle < 180 for angle in printed)
    log = EventAccumulator(str(run.logs / "val"))
    log.Reload()
    scalars = log.Scalars("opening_angle_mean")
    assert [scalar.step for scalar in scalars] == [0, 5, 10]
    assert [scalar.value for scalar in scalars] == pytest.approx(printed, abs=0.051)
    assert len(log.Scalars("opening_angle_median_vector")) == 3


def test_an_evaluation_that_fails_is_told(run: SmallRun) -> None:
    with pytest.raises(
        DataError, match=r"broken_evaluation \(evaluation_class\) failed in iteration 0: ValueError"
    ):
        train(run, evaluation_class="functions_of_a_user.broken_evaluation")
