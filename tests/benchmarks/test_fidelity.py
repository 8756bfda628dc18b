"""Observables of the comparison of simulated and traced events."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from dnn_reco.data.hits import Hits
from dnn_reco.detector.geometry import dom_index, dom_positions

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "fidelity.py"


@pytest.fixture
def fidelity(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("fidelity", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fidelity", module)
    spec.loader.exec_module(module)
    yield module


def hit(charge: float, times: tuple[float, ...]) -> list[float]:
    """Features of pulses of equal charge, by their definition."""
    pulses, each = np.array(times), charge / len(times)
    early = [each * np.sum(pulses - pulses[0] < limit) for limit in (500, 100)]
    at = [pulses[int(np.ceil(share * len(times))) - 1] for share in (0.2, 0.5)]
    return [charge, *early, pulses[0], *at, pulses[-1], pulses.mean(), pulses.std()]


def test_observables_of_an_event_by_hand(fidelity: ModuleType) -> None:
    """Three DOMs one below the other see light, a fourth one far away has noise, early by 6 µs."""
    string, om = np.array([21, 21, 21, 80]), np.array([30, 31, 32, 5])
    dom = dom_index(string, om)
    features = np.array(
        [
            hit(4.0, (10, 20, 130, 900)),
            hit(8.0, (0, 5, 6, 7, 8, 9, 10, 11)),
            hit(2.0, (100,)),
            hit(0.4, (-6000,)),
        ]
    )
    (event,) = (
        {name: float(values[0]) for name, values in fidelity.observables(hits).items()}
        for hits in [Hits(np.array([0, 4]), dom, features)]
    )
    spacing = dom_positions()[dom[0], 2] - dom_positions()[dom[1], 2]
    straight = spacing * 1.356 / 0.299792458
    expected = {
        "log10 charge [PE]": np.log10(14.4),
        "hit strings / hit DOMs": 0.5,
        "share of DOMs in DeepCore": 0.25,
        "median charge of a DOM [PE]": 3.0,
        "share of DOMs below 0.5 PE": 0.25,
        "share of DOMs with one pulse": 0.5,
        "isolated DOMs": 1.0,
        "share of early DOMs": 0.25,
        "share of late DOMs": 0.0,
        "median length of bright DOMs [ns]": (890 + 11) / 2,
        "share of their charge after 500 ns": 1 / 12,
        "share of their charge after 100 ns": 2 / 12,
        "median delay behind the brightest DOM [ns]": (10 + 100) / 2 - straight,
        "median charge of its neighbourhood [PE]": 3.0,
    }
    for name, value in expected.items():
        assert event[name] == pytest.approx(value, rel=2e-3), name


def test_the_area_of_one_observable(fidelity: ModuleType) -> None:
    first, second = np.array([1.0, 2.0, np.nan]), np.array([0.0, 1.5, 0.5])
    # pairs in which the second is larger: only (1, 1.5); of six
    assert fidelity.area_alone(first, second) == pytest.approx(5 / 6)
