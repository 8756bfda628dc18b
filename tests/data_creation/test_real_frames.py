"""Features of real frames: the numbers that an independent reader and its features gave."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.file_events import EVENT_ID
from dnn_reco.data_creation.block_inputs import EventInputs, make_inputs
from dnn_reco.data_creation.frame_inputs import OTHER_MODULES, OTHER_PMTS, frame_input
from dnn_reco.i3.frame import Frame
from dnn_reco.i3.reader import read_i3

EDGES = (-np.inf, *np.arange(0.0, 3501.0, 500.0), np.inf)


@cache
def events_of(path: Path) -> dict[int, Frame]:
    """P frames by the number of their event."""
    frames = [frame for frame in read_i3(path) if frame.stop == "P"]
    return {frame["I3EventHeader"].event: frame for frame in frames}


@pytest.fixture
def golden(shared_data: Path) -> list[tuple[Frame, dict[str, Any]]]:
    """Frames that are there, with the numbers expected of them."""
    expected = json.loads((shared_data / "golden/i3/dnn_inputs.json").read_text(encoding="utf-8"))
    found = [(shared_data / "i3" / each["file"], each) for each in expected]
    return [(events_of(path)[each["event"]], each) for path, each in found if path.is_file()]


def made(
    frame: Frame, expected: dict[str, Any], num_bins: int, name: str, **more: Any
) -> EventInputs:
    settings = DataSettings(num_bins, "time_range", name, pulse_key=expected["key"], **more)
    return make_inputs([frame_input(frame, settings)], settings, np.zeros(1, EVENT_ID))


def features_at(inputs: EventInputs, key: str) -> np.ndarray:
    string, om, _ = map(int, key.split(","))
    hits = inputs.features.hits
    return hits.features[hits.dom == 60 * (string - 1) + om - 1][0]


def test_clipped_summary(golden: list[tuple[Frame, dict[str, Any]]]) -> None:
    assert len(golden) >= 7
    for frame, expected in golden:
        inputs = made(frame, expected, 9, "pulse_summmary_clipped")
        assert inputs.features.time_offset[0] == expected["time_range_offset"]
        features = inputs.features.hits.features
        assert len(features) == expected["n_doms9"]
        np.testing.assert_allclose(features.sum(axis=0), expected["sum9"], rtol=1e-9)
        for key, values in expected["sample9"].items():
            np.testing.assert_allclose(features_at(inputs, key), values, rtol=1e-9, atol=1e-9)


def test_reduced_summary(golden: list[tuple[Frame, dict[str, Any]]]) -> None:
    for frame, expected in golden:
        inputs = made(frame, expected, 3, "reduced_summary_statistics_data")
        offset = expected["mean_time_offset"]
        assert inputs.features.time_offset[0] == pytest.approx(offset, rel=1e-12)
        features = inputs.features.hits.features
        assert len(features) == expected["n_doms3"]
        np.testing.assert_allclose(features.sum(axis=0), expected["sum3"], rtol=1e-9, atol=1e-6)
        for key, values in expected["sample3"].items():
            np.testing.assert_allclose(features_at(inputs, key), values, rtol=1e-9, atol=1e-6)


def test_charge_bins(golden: list[tuple[Frame, dict[str, Any]]]) -> None:
    for frame, expected in golden:
        inputs = made(frame, expected, 9, "charge_bins", time_bins=EDGES)
        totals = inputs.features.hits.features.sum(axis=0)
        np.testing.assert_allclose(totals, expected["charge_bins_totals"], rtol=1e-9)
        for key, contents in expected["sample_bins"].items():
            row = features_at(inputs, key)
            assert {str(i): row[i] for i in np.flatnonzero(row)} == pytest.approx(contents)


def test_modules_of_another_detector_are_counted(shared_data: Path) -> None:
    """Upgrade: no pulse of its modules is taken for one of IceCube."""
    name = "upgrade_genie_step4_140028_000998_first_5_frames"
    path = shared_data / "i3" / f"{name}.i3.gz"
    settings = DataSettings(9, "time_range", "pulse_summmary_clipped", pulse_key="SplitInIcePulses")
    num_other = num_read = 0
    for frame in events_of(path).values():
        found = frame_input(frame, settings)
        rows = frame["SplitInIcePulses"].to_numpy()
        others = int(np.count_nonzero(rows["string"] > 86))
        assert found.left_out.get(OTHER_MODULES, 0) == others
        assert OTHER_PMTS not in found.left_out
        assert len(found.pulses.time) == len(rows) - others
        num_other, num_read = num_other + others, num_read + len(rows)
    assert num_read == 625 and 0 < num_other < num_read


def test_excluded_windows_and_doms(shared_data: Path) -> None:
    """Event 8 of the neutrino file lists two DOMs with errata, and bright DOMs."""
    name = "wBDT_wDNN_L345_IC86-2016_NuMu-021220-009993_first_5_frames.i3.gz"
    frame = events_of(shared_data / "i3" / name)[8]
    keys = ("BrightDOMs", "CalibrationErrata", "SaturationWindows", "BadDomsList")
    settings = DataSettings(
        9,
        "time_range",
        "charge_bins",
        time_bins=EDGES,
        pulse_key="InIceDSTPulses",
        dom_exclusions=keys,
        partial_exclusion=False,
    )
    found = make_inputs([frame_input(frame, settings)], settings, np.zeros(1, EVENT_ID))
    excluded = set(found.exclusions.dom.tolist())
    assert {60 * 67 + 21, 60 * 67 + 22} <= excluded
    assert set(found.exclusions.item.tolist()) == {-1}
    assert not excluded & set(found.features.hits.dom.tolist())
    rows = frame["InIceDSTPulses"].to_numpy()
    dom = 60 * (rows["string"].astype(int) - 1) + rows["om"].astype(int) - 1
    assert found.num_excluded[0] == np.isin(dom, list(excluded)).sum()
