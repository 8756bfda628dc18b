"""The line fit of the demo finds the direction of hits along a line, whatever noise is added."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest
from event_files import random_events
from numpy.typing import NDArray

from dnn_reco.data.hdf5 import read_table, write_input_tables
from dnn_reco.data.hits import Hits
from dnn_reco.detector.geometry import dom_positions
from dnn_reco.evaluation.stored_reconstructions import list_stored

LIGHT = 0.299792458  # [m/ns]
DIRECTION = np.array([2.0, 1.0, 4.0]) / np.sqrt(21)


@pytest.fixture(scope="module")
def line_fit() -> ModuleType:
    """The script as a module."""
    path = Path(__file__).parents[2] / "tools" / "line_fit.py"
    spec = importlib.util.spec_from_file_location("line_fit", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["line_fit"] = module
    spec.loader.exec_module(module)
    return module


def hits_along_a_line(noise: int) -> Hits:
    """An event: DOMs within 40 m of a line that is passed with the speed of light, and noise."""
    place = dom_positions()
    along = place @ DIRECTION
    distance = np.linalg.norm(place - along[:, None] * DIRECTION, axis=1)
    near = np.flatnonzero(distance < 40)
    rng = np.random.default_rng(3)
    far = rng.choice(np.flatnonzero(distance > 200), noise, replace=False)
    features = np.zeros((len(near) + noise, 9))
    features[:, 0] = 1.0
    features[:, 3] = np.concatenate([along[near] / LIGHT, rng.uniform(-4000, 4000, noise)])
    dom = np.concatenate([near, far])
    order = np.argsort(dom)
    return Hits(np.array([0, len(dom)]), dom[order].astype(np.uint16), features[order])


def angle(velocity: NDArray[np.float64]) -> float:
    """Between the fitted and the true direction [degree]."""
    return float(np.degrees(np.arccos(velocity @ DIRECTION / np.linalg.norm(velocity))))


def test_it_finds_direction_and_speed(line_fit: ModuleType) -> None:
    (velocity,) = line_fit.line_fit(hits_along_a_line(noise=0))
    assert angle(velocity) < 2
    assert np.linalg.norm(velocity) == pytest.approx(LIGHT, rel=0.05)


def test_noise_hardly_changes_it(line_fit: ModuleType) -> None:
    clean, noisy = hits_along_a_line(noise=0), hits_along_a_line(noise=40)
    kept = line_fit.selected(dom_positions()[noisy.dom], noisy.features[:, 3])
    assert set(clean.dom) <= set(noisy.dom[kept])
    assert kept.sum() - len(clean.dom) <= 8  # of 40 hits of noise
    (velocity,) = line_fit.line_fit(noisy)
    assert angle(velocity) < 4


def test_events_without_a_line_have_no_direction(line_fit: ModuleType, tmp_path: Path) -> None:
    events = random_events(5, 12)
    path = tmp_path / "events.hdf5"
    empty = events.hits.select(np.array([], dtype=np.int64))
    hits = Hits(np.array([0, 0]), empty.dom, empty.features)
    write_input_tables(path, events.ids[:1], events.time_offset[:1], hits)
    line_fit.add_table(path)
    (row,) = read_table(path, "LineFit")
    assert row["fit_status"] > 0


def test_evaluate_can_read_it(line_fit: ModuleType, tmp_path: Path) -> None:
    events = random_events(5, 12)
    path = tmp_path / "events.hdf5"
    write_input_tables(path, events.ids, events.time_offset, events.hits)
    for _ in range(2):  # a second call replaces the table of the first
        assert line_fit.add_table(path) == 12
    assert [each.name for each in list_stored(path)] == ["LineFit"]
    rows = read_table(path, "LineFit")
    with h5py.File(path) as file:
        assert (rows["Event"] == file["dnn_data_global_time_offset"]["Event"]).all()
    assert ((rows["zenith"] >= 0) & (rows["zenith"] <= np.pi)).all()
