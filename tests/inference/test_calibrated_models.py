"""Applying a calibration: what it changes, and calibrations that must not be believed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dnn_reco.errors import ModelError
from dnn_reco.inference.backend import NetworkOutput
from dnn_reco.inference.calibration import (
    Calibration,
    Correction,
    EventFeatures,
    Terms,
    check_calibration,
    num_terms,
    read_calibration,
    tempered,
)
from dnn_reco.inference.cone import vector_concentration
from dnn_reco.inference.manifest import Manifest
from dnn_reco.inference.model_info import LabelInfo, ModelInfo

VECTOR = ("dir_x", "dir_y", "dir_z")
INFO = ModelInfo(
    "a model",
    (
        LabelInfo("energy", "GeV", has_log=True),
        *(LabelInfo(name) for name in VECTOR),
        LabelInfo("p_track", is_class=True),
        LabelInfo("p_other", is_class=True, is_trained=False),
    ),
    9,
    (0.0,) * 9,
    direction=VECTOR,
)
# ln factor = 0.1 + 0.2 w + 0.3 h + p (0.4 + 0.5 w + 0.6 h); w, h from -1 to 1
TERMS = Terms(degree=1, uses_hits=True, uses_classes=True)
CORRECTION = Correction(TERMS, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), (-2.0, 0.0), (0.0, 8.0))


def features(log_width: float, log_hits: float, p: float) -> EventFeatures:
    return EventFeatures(np.array([log_width]), np.array([log_hits]), np.array([[p]]))


@pytest.mark.parametrize(
    ("log_width", "log_hits", "p", "expected"),
    [
        (-1.0, 4.0, 0.0, 0.1),
        (0.0, 4.0, 0.0, 0.3),
        (-1.0, 8.0, 0.0, 0.4),
        (-1.0, 4.0, 1.0, 0.5),
        (-0.5, 6.0, 0.5, 0.1 + 0.1 + 0.15 + 0.5 * (0.4 + 0.25 + 0.3)),
        # beyond the events that it was fitted to: as at the nearest of them
        (5.0, 4.0, 0.0, 0.3),
        (-9.0, -3.0, 0.0, 0.1 - 0.2 - 0.3),
    ],
)
def test_factor(log_width: float, log_hits: float, p: float, expected: float) -> None:
    assert_allclose(CORRECTION.log_factor(features(log_width, log_hits, p)), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (Terms(0), 1),
        (Terms(2), 3),
        (Terms(1, uses_hits=True), 3),
        (Terms(1, uses_classes=True), 8),
        (Terms(2, True, True), 16),
    ],
)
def test_number_of_terms(terms: Terms, expected: int) -> None:
    assert num_terms(terms, num_classes=3) == expected


def output(num_events: int = 5) -> NetworkOutput:
    rng = np.random.default_rng(1)
    labels = rng.uniform(0.1, 0.9, (num_events, 6)).astype(np.float32)
    sigma = rng.uniform(0.1, 0.9, (num_events, 6)).astype(np.float32)
    return NetworkOutput(labels / 2, sigma / 3, labels, sigma)


def test_applied_to_widths_direction_and_classes() -> None:
    before = output()
    constant = Correction(Terms(0), (np.log(2.0),), (-9.0, 9.0), (0.0, 9.0))
    quarter = replace(constant, coefficients=(np.log(0.25),))
    calibration = Calibration({"energy": constant}, quarter, {"p_track": 2.0}, ("p_track",))
    after = calibration.apply(before, np.full(5, 100), INFO)
    assert_allclose(after.uncertainty[:, 0], 2 * before.uncertainty[:, 0], rtol=1e-6)
    # a quarter of the concentration: twice the width of each component
    assert_allclose(after.uncertainty[:, 1:4], 2 * before.uncertainty[:, 1:4], rtol=1e-6)
    p = before.labels[:, 4].astype(np.float64)
    expected = 1 / (1 + np.sqrt((1 - p) / p))  # half the logit
    assert_allclose(after.labels[:, 4], expected, rtol=1e-5)
    unchanged = [0, 1, 2, 3, 5]
    assert_allclose(after.labels[:, unchanged], before.labels[:, unchanged], rtol=0)
    assert_allclose(after.uncertainty[:, 5], before.uncertainty[:, 5], rtol=1e-6)
    assert_allclose(after.uncertainty_trafo, after.uncertainty / 3, rtol=1e-5)
    assert after.labels.dtype == after.uncertainty_trafo.dtype == np.float32


def test_events_without_prediction_stay_without() -> None:
    before = output()
    before.labels[2], before.uncertainty[2] = np.nan, np.nan
    constant = Correction(TERMS, CORRECTION.coefficients, (-2.0, 0.0), (0.0, 8.0))
    calibration = Calibration({"energy": constant}, constant, {"p_track": 2.0}, ("p_track",))
    after = calibration.apply(before, np.array([5, 5, 0, 5, 5]), INFO)
    assert np.isnan(after.uncertainty[2, :5]).all()
    assert np.isfinite(np.delete(after.uncertainty, 2, axis=0)).all()


def test_nothing_is_changed_without_corrections() -> None:
    before = output()
    after = Calibration().apply(before, np.full(5, 10), INFO)
    for name in ("labels", "uncertainty", "labels_trafo", "uncertainty_trafo"):
        assert_allclose(getattr(after, name), getattr(before, name), rtol=1e-7)


def test_concentration_of_components() -> None:
    sigma = np.array([[0.1, 0.2, 0.3], [10.0, 10.0, 10.0], [0.0, 0.0, 0.0], [1e3, 1e3, 1e3]])
    assert_allclose(vector_concentration(sigma), [2 / 0.14, 2 / 300, 1e7, 1e-3])


def test_tempered_keeps_certainty_finite() -> None:
    assert_allclose(tempered(np.array([0.0, 0.5, 1.0]), 1.0), [1e-6, 0.5, 1 - 1e-6])
    assert tempered(np.array([0.9]), 1e3)[0] == pytest.approx(0.5, abs=1e-3)


def stored(folder: Path, calibration: Calibration, **changes: object) -> Manifest:
    content = json.loads(calibration.to_json()) | changes
    (folder / "calibration.json").write_text(json.dumps(content))
    return Manifest("a test", {"calibration.json": "…"}, INFO)


PLAIN = json.loads(Calibration(direction=CORRECTION).to_json())["direction"]
WHOLE = Calibration(
    {"energy": CORRECTION}, CORRECTION, {"p_track": 1.5}, ("p_track",), {"num_events": 300}
)


def test_read_back(tmp_path: Path) -> None:
    assert read_calibration(tmp_path, stored(tmp_path, WHOLE), INFO) == WHOLE


def test_file_that_the_manifest_does_not_list_is_not_applied(tmp_path: Path) -> None:
    stored(tmp_path, WHOLE)
    assert read_calibration(tmp_path, Manifest("a test", {}, INFO), INFO) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "dnn_reco calibration 9"}, "run dnn-reco calibrate again"),
        ({"widths": {"energy": 1.0}}, "is damaged"),
        ({"temperatures": {"p_track": 0.0}}, "a temperature is 0"),
        ({"temperatures": {"p_track": -1.0}}, "a temperature is 0"),
        ({"temperatures": {"p_unknown": 1.0}}, r"does not predict: \['p_unknown'\]"),
        ({"temperatures": {"p_other": 1.0}}, r"does not predict: \['p_other'\]"),
        ({"classes": []}, "6 coefficients instead of 3"),
        (
            {"direction": {**PLAIN, "terms": {"degree": -1}}},
            "the degree of a correction is negative",
        ),
        ({"direction": {**PLAIN, "hits_range": [8.0, 0.0]}}, "in the wrong order"),
        ({"record": {"files": [{"size": 1}]}}, "its record of files"),
        ({"record": {"files": 3}}, "its record of files"),
    ],
)
def test_damaged(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_calibration(tmp_path, stored(tmp_path, WHOLE, **changes), INFO)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"format": NaN}', "null"])
def test_no_json(tmp_path: Path, text: str) -> None:
    manifest = stored(tmp_path, WHOLE)
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(ModelError, match=r"calibration\.json"):
        read_calibration(tmp_path, manifest, INFO)


def test_numbers_that_are_not_finite() -> None:
    broken = replace(CORRECTION, coefficients=(np.inf, 0.0, 0.0, 0.0, 0.0, 0.0))
    with pytest.raises(ModelError, match="not finite"):
        check_calibration(replace(WHOLE, direction=broken), INFO, "here")


def test_direction_of_a_model_that_has_none() -> None:
    with pytest.raises(ModelError, match="predicts no vector"):
        check_calibration(WHOLE, replace(INFO, direction=None), "here")
