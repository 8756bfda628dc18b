"""What training tells: the table of the validation set, TensorBoard, and all of it together."""

import json
import resource
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import mannwhitneyu
from small_run import ON_CPU, SmallRun, make_small_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dnn_reco import load_model, open_events, predict
from dnn_reco.checkpoint_file import BestCheckpoint
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.errors import TrainingError
from dnn_reco.evaluation import plots
from dnn_reco.evaluation.metrics import ValueWithError
from dnn_reco.evaluation.plots import LabelPoints
from dnn_reco.training import logging
from dnn_reco.training.logging import (
    TrainingLog,
    batch_section,
    format_set,
    set_scalars,
    set_section,
)
from dnn_reco.training.metrics import BatchMetrics
from dnn_reco.training.tensorboard import TensorBoard
from dnn_reco.training.validation_set import ValidationMetrics


@pytest.fixture(scope="module")
def blank_figures() -> None:
    """Here figures are drawn."""


def measured(*pairs: tuple[float, float]) -> ValueWithError:
    values, errors = zip(*pairs, strict=True)
    return ValueWithError(np.array(values), np.array(errors))


SCORES = ValidationMetrics(
    num_events=1000,
    loss=ValueWithError(np.array(0.44213), np.array(0.0212)),
    losses={},
    label_names=("EnergyVisible", "x"),
    columns=(3, 1),
    label_loss=measured((0, 0), (0, 0)),
    rmse=measured((0.7203, 0.012), (12.5, 1.25)),
    width_68=measured((0.7011, 0.0204), (9.25, 1)),
    bias=measured((-0.0123, 0.0231), (0.5, 0.25)),
    pull=measured((0.881, 0.0204), (1, 0)),
    pull_68=measured((0.85, 0.0333), (np.nan, np.nan)),
    opening_angles={},
    true=np.zeros((0, 2)),
    predicted=np.zeros((0, 2)),
)


def test_the_table_of_the_validation_set() -> None:
    scores = replace(
        SCORES,
        opening_angles={
            "_vector": (ValueWithError(*np.array([12.345, 0.5])), ValueWithError(*np.ones(2)))
        },
    )
    assert format_set(500, scores, BestCheckpoint("", 0.44213, 500)).splitlines() == [
        "Validation set after 500 iterations: 1000 events, loss 0.4421 ± 0.0212 (best so far)",
        "  label                 RMSE  68 % width         bias        pull   68 % pull",
        "  EnergyVisible  0.720±0.012 0.701±0.020 -0.012±0.023 0.881±0.020 0.850±0.033",
        "  x             12.500±1.250 9.250±1.000  0.500±0.250       1.000         nan",
        "  opening angle by direction vector: mean 12.35° ± 0.50°, median 1.00° ± 1.00°",
    ]
    small = replace(SCORES, rmse=measured((0.7203, 0.0004), (12.5, 1.25)))
    assert "0.720±<0.001" in format_set(500, small, BestCheckpoint("", 0.44213, 500))
    later = format_set(700, SCORES, BestCheckpoint("", 0.44213, 500, 1))
    assert "(best: 0.4421 after 500 iterations)" in later
    assert len(later.splitlines()) == 4


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """Trained for 12 iterations, in two calls."""
    run = make_small_run(
        tmp_path_factory.mktemp("run"),
        validation_frequency=5,
        save_frequency=6,
        validation_set_frequency=4,
        label_weight_dict={"EnergyVisible": 1.0, "PrimaryZenith": 0.5, "PrimaryAzimuth": 0.2},
    )
    run_trafo(run.config(), ON_CPU, overwrite=False)
    for iterations in (8, 12):
        config = run.config(num_training_iterations=iterations)
        assert run_train(config, ON_CPU) == 0
    return run


def read(run: SmallRun, folder: str) -> EventAccumulator:
    return EventAccumulator(str(run.logs / folder), size_guidance={"images": 0}).Reload()


def test_tensorboard_shows_the_validation_set_beside_the_batches(run: SmallRun) -> None:
    log = read(run, "validation_set")
    lines = [json.loads(line) for line in (run.logs / "metrics.jsonl").read_text().splitlines()]
    found = {
        line["iteration"]: line["validation_set"] for line in lines if "validation_set" in line
    }
    assert list(found) == [3, 7, 11]
    for tag in ("rmse", "width_68", "bias", "pull", "pull_68", "label_loss"):
        for name in ("EnergyVisible", "PrimaryZenith", "PrimaryAzimuth"):
            points = {point.step: point.value for point in log.Scalars(f"{tag}/{name}")}
            expected = {step: line["labels"][name][tag] for step, line in found.items()}
            assert points == pytest.approx(expected, rel=1e-6)
    for tag, key in (
        ("configured_loss_total", "loss"),
        ("opening_angle_mean", "opening_angle_mean"),
        ("opening_angle_median", "opening_angle_median"),
    ):
        points = {point.step: point.value for point in log.Scalars(tag)}
        assert points == pytest.approx({step: line[key] for step, line in found.items()}, rel=1e-6)
    assert not [tag for tag in log.Tags()["scalars"] if "VertexX" in tag]


def test_figures_are_drawn_at_the_start_and_at_the_end_of_a_call(run: SmallRun) -> None:
    images = read(run, "validation_set").Images("reconstructed_against_true")
    assert [image.step for image in images] == [3, 7, 11]
    assert all(image.encoded_image_string.startswith(b"\x89PNG") for image in images)
    # three panels of 3.7 by 3.0 inches in a row, at 100 dots per inch
    assert {(image.width, image.height) for image in images} == {(1110, 300)}


def waiting(line: dict[str, Any]) -> float:
    share: float = line["machine"]["share_of_time_waiting_for_data"]
    return share


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is told by Linux alone")
def test_tensorboard_shows_how_the_run_stands(run: SmallRun) -> None:
    log = read(run, "train")
    lines = [json.loads(line) for line in (run.logs / "metrics.jsonl").read_text().splitlines()]
    shown = {}
    for tag, of_line in (
        ("events_per_second", lambda line: line["machine"]["events_per_second"]),
        ("share_of_time_waiting_for_data", waiting),
        ("learning_rate/adam", lambda line: 0.01),
        ("gradient_norm/adam", lambda line: line["gradient_norms"]["adam"]),
        ("label_weight/PrimaryZenith", lambda line: line["label_weights"]["PrimaryZenith"]),
        ("memory_mb/process", lambda line: line["machine"]["memory_mb"]["process"]),
    ):
        points = log.Scalars(tag)
        assert [point.step for point in points] == [0, 3, 5, 7, 10, 11]
        shown[tag] = [point.value for point in points]
        assert shown[tag] == pytest.approx([of_line(line) for line in lines], rel=1e-6)
    in_call = [1, 4, 6, 8, 3, 4]  # the second call begins with iteration 8
    seconds = [line["machine"]["seconds"] for line in lines]
    rates = [8 * count / time for count, time in zip(in_call, seconds, strict=True)]
    assert shown["events_per_second"] == pytest.approx(rates, rel=1e-6)
    assert seconds[:4] == sorted(seconds[:4])
    assert all(0 <= share < 1 for share in shown["share_of_time_waiting_for_data"])
    assert len(set(shown["gradient_norm/adam"])) == 6  # of the last batch each time
    assert all(norm > 0 for norm in shown["gradient_norm/adam"])
    # updated in iterations 0, 5 and 10, never below the weight of the config
    weights = np.array([list(line["label_weights"].values()) for line in lines])
    assert list(lines[0]["label_weights"]) == ["EnergyVisible", "PrimaryAzimuth", "PrimaryZenith"]
    assert (weights >= [1.0, 0.2, 0.5]).all()
    np.testing.assert_array_equal(weights[::2], weights[1::2])
    assert (weights[0] != weights[2]).any()
    assert (weights[2] != weights[4]).any()
    assert all(50 < memory < 10_000 for memory in shown["memory_mb/process"])
    assert [point.step for point in log.Scalars("label_loss/EnergyVisible")] == [0, 5, 10]


def test_metrics_of_the_batches_are_those_of_tensorboard(run: SmallRun) -> None:
    lines = [json.loads(line) for line in (run.logs / "metrics.jsonl").read_text().splitlines()]
    assert [line["iterations_done"] for line in lines] == [1, 4, 6, 8, 11, 12]
    for folder in ("train", "val"):
        log = read(run, folder)
        found = {line["iteration"]: line[folder] for line in lines if folder in line}
        assert list(found) == [0, 5, 10]
        for tag in ("rmse", "pull", "bias", "label_loss"):
            points = {point.step: point.value for point in log.Scalars(f"{tag}/PrimaryAzimuth")}
            expected = {step: of["labels"]["PrimaryAzimuth"][tag] for step, of in found.items()}
            assert points == pytest.approx(expected, rel=1e-6)
        points = {point.step: point.value for point in log.Scalars("loss/adam")}
        assert points == pytest.approx({i: of["losses"]["adam"] for i, of in found.items()})
    for line in lines:
        assert line["learning_rates"] == {"adam": 0.01}
        assert set(line["label_weights"]) == {"EnergyVisible", "PrimaryZenith", "PrimaryAzimuth"}
        assert line["gradient_norms"]["adam"] > 0
        assert line["machine"]["events_per_second"] > 0
        assert 0 <= line["machine"]["share_of_time_waiting_for_data"] < 1


def batch(predicted: list[float]) -> BatchMetrics:
    column, one = np.array(predicted)[:, None], np.ones(1)
    return BatchMetrics({"adam": (1.0, 2.0)}, one, one, one, one, column, column, column, one)


def test_predictions_of_a_training_that_diverges_have_histograms(tmp_path: Path) -> None:
    """PyTorch fails with "The histogram is empty" where all values are beyond 1e20."""
    log = TensorBoard(tmp_path, 0)
    log.write(0, ["E"], np.ones(1, dtype=bool), {"train": batch([-3e30, 2e25, np.inf, 1e37])})
    log.close()
    read = EventAccumulator(str(tmp_path / "train")).Reload()
    (point,) = read.Histograms("E/predicted")
    assert point.histogram_value.num == 3


def test_a_full_disk_is_one_error_and_no_traceback_of_a_thread(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Any file of more than 10 kB fails to be written, as on a full disk."""
    hook, before = threading.excepthook, resource.getrlimit(resource.RLIMIT_FSIZE)
    log = TensorBoard(tmp_path, 0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(TrainingError, match=rf"^the logs in '{tmp_path}' cannot be written"):
            for iteration in range(1000):
                log.add_scalar("train", "x", 1.0, iteration)
                log.flush()
        with suppress(TrainingError):
            log.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert capfd.readouterr().err == ""
    assert threading.excepthook is hook


def test_the_figure_shows_the_labels_of_the_largest_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six of the seven trained labels, the heaviest first, at most once a minute and at the end."""
    drawn: list[tuple[list[tuple[str, bool]], str]] = []

    def draw(labels: Sequence[LabelPoints], title: str) -> Figure:
        drawn.append(([(label.name, label.log) for label in labels], title))
        for label in labels:
            assert label.true.tolist() == [float(label.name[1])] * 2
            assert label.predicted.tolist() == [-float(label.name[1])] * 2
        return Figure(figsize=(1, 1))

    now = [1000.0]
    monkeypatch.setattr(plots, "reconstructed_against_true", draw)
    monkeypatch.setattr(logging.time, "monotonic", lambda: now[0])
    columns = (1, 2, 3, 4, 5, 6, 8)  # of ten labels
    pairs = measured(*[(1.0, 0.1)] * 7)
    values = np.tile(np.array(columns, dtype=float), (2, 1))
    metrics = replace(
        SCORES,
        num_events=2,
        label_names=tuple(f"l{column}" for column in columns),
        columns=columns,
        true=values,
        predicted=-values,
        **dict.fromkeys(("label_loss", "rmse", "width_68", "bias", "pull", "pull_68"), pairs),
    )
    weights = [9.0, 0.5, 3.0, 0.1, 2.0, 0.2, 1.0, 9.0, 0.3, 9.0]
    has_log = [column in (2, 6) for column in range(10)]
    log = TrainingLog(tmp_path, 0, 100, 32, write_metrics=False)
    for iteration, seconds in ((9, 0.0), (19, 59.0), (29, 2.0), (39, 30.0), (99, 1.0)):
        now[0] += seconds
        log.write_set(iteration, metrics, BestCheckpoint(""), False, weights, has_log)
    log.bar.close()
    log.tensorboard.close()
    order = [("l2", True), ("l4", False), ("l6", True), ("l1", False), ("l8", False), ("l5", False)]
    assert drawn == [
        (order, f"2 validation events after {iterations} iterations")
        for iterations in (10, 30, 100)
    ]


def test_sections_of_metrics() -> None:
    """What `metrics.jsonl` holds of a batch and of the validation set, with all errors."""
    loss = ValueWithError(np.array(0.5), np.array(0.25))
    scores = replace(
        SCORES, losses={"adam": loss}, opening_angles={"": (loss, loss), "_vector": (loss, loss)}
    )
    section = set_section(scores)
    assert (section["num_events"], section["loss"], section["loss_error"]) == (
        1000,
        0.44213,
        0.0212,
    )
    assert (section["losses"], section["losses_error"]) == ({"adam": 0.5}, {"adam": 0.25})
    for suffix in ("", "_vector"):
        for kind in ("mean", "median"):
            assert section[f"opening_angle_{kind}{suffix}"] == 0.5
            assert section[f"opening_angle_{kind}{suffix}_error"] == 0.25
    label = section["labels"]["x"]
    assert (label["rmse"], label["rmse_error"]) == (12.5, 1.25)
    assert (label["bias"], label["bias_error"]) == (0.5, 0.25)
    assert len(section) == 6 + 8

    two = np.arange(2.0)
    metrics = BatchMetrics({"adam": (1.0, 2.0)}, two, two, two, two, two, two, two, two)
    section = batch_section(metrics, ["a", "b"], np.array([False, True]))
    assert section["losses"] == {"adam": 1.0}
    assert section["losses_with_penalties"] == {"adam": 2.0}
    keys = ("rmse", "pull", "bias", "label_loss", "mean")
    assert section["labels"] == {"b": dict.fromkeys(keys, 1.0)}


def test_classes_have_the_area_under_their_roc_curve_and_no_pulls() -> None:
    """Probabilities of ten events; three of the 24 pairs of a track and a cascade are swapped."""
    auc = ValueWithError(np.array(21 / 24), np.array(0.1))
    scores = replace(SCORES, label_names=("EnergyVisible", "p_is_track"), auc={"p_is_track": auc})
    label = set_section(scores)["labels"]["p_is_track"]
    assert (label["auc"], label["auc_error"]) == (0.875, 0.1)
    assert not {"pull", "pull_68", "width_68"} & set(label)
    assert label["rmse"] == 12.5
    assert "auc" not in set_section(scores)["labels"]["EnergyVisible"]
    scalars = set_scalars(scores)
    assert scalars["auc/p_is_track"] == 0.875
    assert "pull/p_is_track" not in scalars
    assert "pull/EnergyVisible" in scalars
    text = format_set(500, scores, BestCheckpoint("", 0.44213, 500)).splitlines()
    assert text[3].split() == ["class", "AUC", "RMSE", "bias"]
    assert text[4].split()[:2] == ["p_is_track", "0.875±0.100"]


def test_batches_of_classes_have_no_pulls(tmp_path: Path) -> None:
    two, rows = np.arange(2.0), np.ones((3, 2))
    metrics = BatchMetrics({"adam": (1.0, 2.0)}, two, two, two, two, rows, rows, rows, two)
    names, trained = ["a", "p_b"], np.array([True, True])
    labels = batch_section(metrics, names, trained, ("p_b",))["labels"]
    assert ("pull" in labels["a"], "pull" in labels["p_b"]) == (True, False)
    log = TensorBoard(tmp_path, 0)
    log.write(0, names, trained, {"train": metrics}, ("p_b",))
    log.close()
    written = EventAccumulator(str(tmp_path / "train")).Reload().Tags()
    assert {"pull/a", "rmse/p_b"} <= set(written["scalars"])
    assert "pull/p_b" not in written["scalars"]
    assert {"a/uncertainty", "p_b/predicted"} <= set(written["histograms"])
    assert "p_b/uncertainty" not in written["histograms"]


def test_the_auc_of_a_class_is_that_of_its_predictions(tmp_path: Path) -> None:
    """Against the Mann-Whitney statistic of SciPy."""
    run = make_small_run(
        tmp_path,
        num_training_iterations=4,
        validation_set_frequency=4,
        label_weight_dict={"EnergyVisible": 1.0, "p_starting": 1.0},
    )
    run_trafo(run.config(), ON_CPU, overwrite=False)
    assert run_train(run.config(), ON_CPU) == 0
    lines = (run.logs / "metrics.jsonl").read_text().splitlines()
    found = json.loads(lines[-1])["validation_set"]["labels"]["p_starting"]
    events = open_events(run.folder / "validation.hdf5", run.config())
    probability = predict(load_model(run.config_file), events.hits)["p_starting"]
    is_class = events.labels["p_starting"] > 0.5
    statistic = mannwhitneyu(probability[is_class], probability[~is_class]).statistic
    pairs = is_class.sum() * (~is_class).sum()
    assert found["auc"] == pytest.approx(statistic / pairs, abs=1e-6)
    assert 0 < found["auc_error"] < 0.5
    scalars = EventAccumulator(str(run.logs / "validation_set")).Reload().Tags()["scalars"]
    assert "auc/p_starting" in scalars
