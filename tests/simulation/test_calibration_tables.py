"""The tables of the calibration, of light that was placed by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dnn_reco.detector.geometry import dom_index, dom_positions, string_and_om
from dnn_reco.simulation.calibration import tables
from dnn_reco.simulation.calibration.reference import distance_from_line, distance_from_point
from dnn_reco.simulation.calibration.resimulate import Light
from dnn_reco.simulation.calibration.tables import TableEntry, compare, standard_doms
from dnn_reco.simulation.detector import high_efficiency_doms

NUM = 24  # showers, and as many tracks
QUANTILES = ("5%", "25%", "50%", "75%", "95%")
# Hit i of a DOM: the first after 20 + i ns with a charge of 1, a second after 100 + i ns with 3.
FIRST = [21, 25, 31, 37, 42]  # where the sum of i + 1 reaches 5, 25 … % of 24
# 5, 25 … % of the charge, 96 in all: of the first hits the 5th and the 24th, then the 8th …
ALL = [24, 43, 107, 115, 122]

DOM = int(dom_index(np.array([36]), np.array([40]))[0])
BESIDE = dom_positions()[DOM] + np.array([0.0, 40.0, 0.0])
DEPTH = 50 * int(BESIDE[2] // 50)  # the lower edge of the slice that holds the showers
ANGLES = ("[-1,-1/3)", "[-1/3,1/3)", "[1/3,1]")


def hits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Event, DOM, delay and charge; the later hits come first."""
    event = np.tile(np.arange(NUM), 2)
    delay = np.concatenate([100.0 + np.arange(NUM), 20.0 + np.arange(NUM)])
    return event, np.full(2 * NUM, DOM), delay, np.repeat([3.0, 1.0], NUM)


def truth(start: np.ndarray, **columns: float) -> pd.DataFrame:
    """Equal events, straight down."""
    x, y, z = start
    common = {"kind": 0, "int_x": x, "int_y": y, "int_z": z, "int_t": 500.0}
    common |= {"PrimaryDirectionX": 0.0, "PrimaryDirectionY": 0.0, "PrimaryDirectionZ": -1.0}
    common |= {"E_entry": 2000.0, "E_exit": 1.0, "LengthInDetector": 400.0}
    common |= {"VertexX": x, "VertexY": y, "VertexZ": z, "EnergyVisible": 2000.0}
    return pd.DataFrame([{**common, **columns}] * NUM)


def charges(value: float) -> dict[str, Any]:
    return {angle: {"q": value} for angle in ANGLES}


def times(value: float) -> dict[str, Any]:
    """References of the quantiles; one of 10 ns, which is too short to be compared."""
    return {name: [value, 10.0, value, value, value] for name in ("first_hit", "charge_weighted")}


REFERENCE = {
    "depth": [
        {"z_low": low, "z_high": low + 50, "Q50": 4.0, "trigger_efficiency": efficiency}
        for low, efficiency in ((DEPTH, 0.91), (DEPTH - 10, 0.9), (DEPTH + 50, 1.0))
    ],
    "hit_doms": [
        {
            "log10E_low": low,
            "log10E_high": low + 1,
            "n_window": [1.0, 5.0, 9.0],
            "n_noise_same_window_mean": 3.0,
        }
        for low in (2.5, 3.0, 4.5)
    ],
    "distance": {
        name: [{"d_low": low, "d_high": low + 20, **charges(low + 1.0)} for low in (0, 30, 250)]
        for name in ("all", "deep -450<z<-150", "dust -150<z<0", "upper 0<z<450")
    },
    "times": [{"d_low": 30, "d_high": 50, **dict.fromkeys(("all", *ANGLES), times(50.0))}],
    "muon": [
        {
            "d_low": 30,
            "d_high": 50,
            "bins": [{"q_per_DOM": 7.0}, {"q_per_DOM": 8.0}],
            **times(60.0),
        }
    ],
    "muon_bins": [{"E_low_TeV": 1, "E_high_TeV": 3}, {"E_low_TeV": 3, "E_high_TeV": 10}],
}


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[TableEntry]:
    """All entries of showers 40 m beside a DOM, and of tracks that pass it as near."""
    start = BESIDE + np.array([0.0, 0.0, 200.0])
    pd.concat([truth(BESIDE), truth(start, kind=3)]).to_parquet(tmp_path / "truth_run11.parquet")
    (tmp_path / "CALIBRATION.json").write_text(json.dumps(REFERENCE))
    event, dom, delay, charge = hits()

    def showers_again(events: pd.DataFrame, rng: np.random.Generator) -> Light:
        assert len(events) == NUM and (events["kind"] == 0).all()
        _, flight = distance_from_point(np.tile(BESIDE, (len(dom), 1)), dom)
        return Light(event, dom, 500.0 + flight + delay, charge)

    def tracks_again(events: pd.DataFrame, rng: np.random.Generator) -> Light:
        assert len(events) == NUM and (events["kind"] == 3).all()
        place, down = np.tile(start, (len(dom), 1)), np.tile([0.0, 0.0, -1.0], (len(dom), 1))
        _, _, cherenkov = distance_from_line(place, down, dom)
        return Light(event, dom, 500.0 + cherenkov + delay, charge)

    monkeypatch.setattr(tables, "showers_again", showers_again)
    monkeypatch.setattr(tables, "tracks_again", tracks_again)
    return compare(tmp_path, 100, 100)


def of(entries: list[TableEntry], table: str) -> dict[tuple[str, float], tuple[float, float]]:
    found = {(e.column, e.row): (e.reference, e.model) for e in entries if e.table == table}
    assert len(found) == sum(entry.table == table for entry in entries)
    return found


def test_charge_and_hit_doms_of_showers(entries: list[TableEntry]) -> None:
    """4 PE of 2 TeV in one DOM; one slice of depths triggers too rarely, another holds none."""
    assert of(entries, "showers: charge per TeV") == {("median", DEPTH + 25.0): (4.0, 2.0)}
    assert of(entries, "showers: hit DOMs") == {("median", 3.5): (2.0, 1.0)}


def test_charge_by_distance_and_angle(entries: list[TableEntry]) -> None:
    """96 PE in one DOM beside 24 showers of 2 TeV, shared by all standard DOMs as near."""
    offset = dom_positions() - BESIDE
    distance = np.linalg.norm(offset, axis=1)
    cosine = -offset[:, 2] / np.maximum(distance, 1e-9)
    beside = standard_doms() & (distance >= 30) & (distance < 50) & (abs(cosine) < 1 / 3)
    assert beside[DOM]
    for name in ("all", "deep -450<z<-150"):
        found = of(entries, f"showers: charge per DOM and TeV, {name}")
        assert set(found) == {(angle, 40.0) for angle in ANGLES}
        assert found["[-1/3,1/3)", 40.0] == (31.0, pytest.approx(96 / (48 * beside.sum())))
        assert found["[1/3,1]", 40.0] == found["[-1,-1/3)", 40.0] == (31.0, 0.0)
    found = of(entries, "showers: charge per DOM and TeV, dust -150<z<0")
    assert found["[-1/3,1/3)", 40.0] == (31.0, 0.0)


def test_times_of_showers(entries: list[TableEntry]) -> None:
    for name, expected in (("first hit", FIRST), ("charge weighted", ALL)):
        found = of(entries, f"showers: residual time, {name}")
        assert found == {
            (f"{angle} {quantile}", 40.0): (50.0, pytest.approx(time))
            for angle in ("all", "[-1/3,1/3)")
            for quantile, time in zip(QUANTILES, expected, strict=True)
            if quantile != "25%"
        }


def test_tracks(entries: list[TableEntry]) -> None:
    """The track is 400 m long, and its DOMs those beside it: not above or below its ends."""
    along = 200 - (dom_positions() - BESIDE)[:, 2]
    distance = np.hypot(*(dom_positions() - BESIDE)[:, :2].T)
    beside = standard_doms() & (distance >= 30) & (distance < 50) & (along > 0) & (along < 400)
    assert beside[DOM]
    assert of(entries, "tracks: charge per DOM") == {
        ("1-3 TeV", 40.0): (7.0, pytest.approx(96 / (NUM * beside.sum()))),
        ("3-10 TeV", 40.0): (8.0, 0.0),
    }
    for name, expected in (("first hit", FIRST), ("charge weighted", ALL)):
        assert of(entries, f"tracks: residual time, {name}") == {
            (f"all {quantile}", 40.0): (60.0, pytest.approx(time))
            for quantile, time in zip(QUANTILES, expected, strict=True)
            if quantile != "25%"
        }


def test_which_events_are_compared() -> None:
    showers = [  # changed columns, and whether it is compared
        ({}, True),
        ({"kind": 1}, True),
        ({"kind": 2}, False),
        ({"int_x": 400.0, "int_y": 0.0}, False),
        ({"int_x": 282.0, "int_y": 282.0}, True),  # 398.8 m from the axis
        ({"int_z": 550.0}, False),
        ({"int_z": -549.0}, True),
        ({"EnergyVisible": 999.0}, False),
        ({"EnergyVisible": 1000.0}, True),
        ({"EnergyVisible": 1e5}, False),
    ]
    tracks = [
        ({}, True),
        ({"kind": 2}, False),
        ({"E_exit": 0.0}, False),
        ({"LengthInDetector": 300.0}, False),
        ({"LengthInDetector": 301.0}, True),
        ({"E_entry": 299.0}, False),
        ({"E_entry": 300.0}, True),
        ({"E_entry": 1e5}, False),
    ]
    for kind, rows, chosen in ((0, showers, tables._is_shower), (3, tracks, tables._is_track)):
        table = pd.concat([truth(BESIDE, **{"kind": kind, **changes})[:1] for changes, _ in rows])
        assert chosen(table).tolist() == [expected for _, expected in rows]


def test_standard_doms() -> None:
    string, _ = string_and_om(np.arange(5160))
    expected = (string <= 78) & ~high_efficiency_doms()
    assert standard_doms().tolist() == expected.tolist()
    assert expected.sum() > 4500


def test_hits_of_some_events_are_renumbered() -> None:
    event = np.array([0, 2, 2, 5])
    light = Light(event, event + 10, event + 0.5, event + 100.0)
    some = light.of(np.array([5, 2, 7]))
    assert some.event.tolist() == [1, 1, 0]
    assert some.dom.tolist() == [12, 12, 15]
    assert some.time.tolist() == [2.5, 2.5, 5.5]
    assert some.charge.tolist() == [102.0, 102.0, 105.0]
