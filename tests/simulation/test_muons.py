"""Muon energy losses against the formulas and a full propagation."""

from pathlib import Path

import numpy as np
import pytest

from dnn_reco.detector.hull import detector_hull
from dnn_reco.simulation.muons import (
    IONISATION,
    RADIATION,
    advance,
    energy_after,
    loss_table,
    mean_range,
    propagate,
    travel,
)


def test_constants_are_those_of_ice() -> None:
    assert pytest.approx(0.24, abs=0.005) == IONISATION
    assert pytest.approx(3.35e-4, abs=0.05e-4) == RADIATION


def test_range_of_continuous_losses() -> None:
    energy = np.array([1e2, 1e3, 1e5])
    for start, reach in zip(energy, mean_range(energy), strict=True):
        left = start  # walked in small steps of dE = (a + b E) dx
        for _ in range(100_000):
            left -= (IONISATION + RADIATION * left) * reach / 100_000
        assert abs(left) < 1e-3 * start
    assert energy_after(energy, mean_range(energy)) == pytest.approx(np.zeros(3), abs=1e-6)
    assert mean_range(np.array([1e3])) == pytest.approx([2.6e3], rel=0.03)


def test_the_mean_energy_falls_as_without_fluctuations() -> None:
    for start in (1e3, 1e5):
        energy = np.full(20_000, start)
        rng = np.random.default_rng(1)
        for _ in range(50):
            energy, _, _ = advance(energy, np.full(20_000, 10.0), rng)
        # Linear in E, so the mean obeys the continuous equation.
        ratio = IONISATION / RADIATION
        expected = (start + ratio) * np.exp(-RADIATION * 500) - ratio
        assert energy.mean() == pytest.approx(expected, rel=0.005)


def test_single_losses_add_up_and_are_above_the_threshold() -> None:
    n, start, step = 400_000, 1e4, 1.0
    _, stochastic, flown = advance(np.full(n, start), np.full(n, step), np.random.default_rng(2))
    assert stochastic[stochastic > 0].min() > 0.5 * (1 - 1e-3)
    assert (flown == step).all()
    # b E dx less what stays below 0.5 GeV, by a sum over the published shapes
    v = np.linspace(0, 1, 2_000_001)[1:]
    spectrum = 0.48 * (4 / 3 * (1 - v) + v**2) + 0.52 * 126 / (1 + v / 0.008) ** 2
    below = spectrum[v < 0.5 / start].sum() / spectrum.sum()
    assert spectrum.sum() / v.size == pytest.approx(1, abs=1e-3)
    assert stochastic.mean() == pytest.approx(RADIATION * start * step * (1 - below), rel=0.1)
    rate = (spectrum / v)[v > 0.5 / start].sum() / v.size
    single = 1 - np.exp(-RADIATION * rate * step)
    assert (stochastic > 0).mean() == pytest.approx(single, rel=0.02)


def test_loss_table_holds_all_losses() -> None:
    table = loss_table()
    assert table.loss_below[-1] == pytest.approx(1, abs=1e-4)
    assert table.rate_above[-1] == 0


@pytest.mark.parametrize("start", [1e2, 1e4, 1e6])
def test_mean_range_with_fluctuations(start: float) -> None:
    energy = np.full(3000, start)
    left, length = travel(energy, np.full(3000, np.inf), np.random.default_rng(3))
    assert (left == 0).all()
    # Fluctuations shorten the mean range, by up to a quarter at a PeV (Lipari and Stanev 1991).
    shortest = {1e2: 0.93, 1e4: 0.80, 1e6: 0.70}[start]
    assert shortest < length.mean() / mean_range(energy[:1])[0] < 1.0


def test_travel_stops_where_told() -> None:
    energy = np.array([1e5, 10.0, 0.0])
    left, flown = travel(energy, np.array([300.0, 300.0, 300.0]), np.random.default_rng(4))
    assert flown[0] == pytest.approx(300)
    assert 0 < left[0] < 1e5
    assert left[1] == 0 and flown[1] == pytest.approx(10 / IONISATION, rel=0.05)
    assert flown[2] == 0


def test_bins_lie_where_the_track_is_looked_at() -> None:
    energy = np.array([1e4, 1e4, 1e4, 30.0])
    enter = np.array([500.0, -100.0, np.nan, -5.0])
    leave = np.array([1003.0, 205.0, np.nan, 400.0])
    tracks = propagate(energy, enter, leave, 10.0, np.random.default_rng(5))
    assert tracks.first.tolist() == [500, 0, 0, 0]
    assert tracks.flown.sum(axis=1)[:3] == pytest.approx([503, 205, 0])
    assert tracks.flown[3].sum() == pytest.approx(tracks.length[3])
    assert (np.diff(tracks.energy[0, :52]) <= 0).all()
    lost = tracks.energy[:, :-1] - tracks.energy[:, 1:]
    seen = tracks.flown > 0
    assert (tracks.stochastic[seen] <= lost[seen] + 1e-9).all()

    assert tracks.energy_at(np.zeros(4)) == pytest.approx(energy)
    assert (tracks.energy_at(tracks.length) == 0).all()
    middle = tracks.energy_at(np.array([705.0, 55.0, 705.0, 55.0]))
    assert middle[0] == pytest.approx(tracks.energy[0, 20:22].mean())
    assert middle[1] == pytest.approx(tracks.energy[1, 5:7].mean())
    assert middle[2] == pytest.approx(energy_after(energy[2:3], np.array([705.0]))[0])
    at_end = tracks.energy_at(np.array([1003.0, 205.0, 0.0, 0.0]))
    assert at_end[:2] == pytest.approx([tracks.energy[0, 51], tracks.energy[1, 21]])
    behind = tracks.energy_at(np.array([1103.0, 305.0, 0.0, 0.0]))
    assert (behind[:2] < at_end[:2] - 10).all()


def test_muons_that_come_nowhere_near() -> None:
    energy, missed = np.array([1e3, 1e4]), np.array([np.nan, np.nan])
    tracks = propagate(energy, missed, missed, 10.0, np.random.default_rng(7))
    assert (tracks.flown == 0).all() and (tracks.length > 1000).all()
    later = tracks.energy_at(np.array([100.0, 100.0]))
    assert later == pytest.approx(energy_after(energy, np.array([100.0, 100.0])))


def test_losses_per_kilometre_as_in_a_full_propagation(shared_data: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = shared_data / "ppc" / "truth_run11.parquet"
    if not path.is_file():
        pytest.skip(f"'{path}' not found")
    columns = parquet.read_table(path)
    table = {name: columns[name].to_numpy() for name in columns.column_names}
    point = np.stack([table[f"int_{axis}"] for axis in "xyz"], axis=1).astype(np.float64)
    along = np.stack([table[f"PrimaryDirection{axis}"] for axis in "XYZ"], axis=1)
    enter, leave = detector_hull().crossing(point, along.astype(np.float64))
    distance = leave - np.maximum(enter, 0)
    muons = (table["kind"] >= 2) & (table["E_entry"] > 0) & (distance > 400)
    for low, high in ((300, 1e3), (1e3, 3e3), (3e3, 1e4), (1e4, 1e5), (1e5, 1e7)):
        chosen = muons & (table["E_entry"] > low) & (table["E_entry"] < high)
        before = np.repeat(table["E_entry"][chosen].astype(np.float64), 3)
        path_length = np.repeat(distance[chosen], 3)
        after, _ = travel(before, path_length, np.random.default_rng(6))
        ours = (before - after) / before / path_length
        theirs = ((table["E_entry"] - table["E_exit"]) / table["E_entry"] / distance)[chosen]
        quantiles = [0.05, 0.25, 0.5, 0.75]
        np.testing.assert_allclose(
            np.quantile(ours, quantiles), np.quantile(theirs, quantiles), rtol=0.15
        )
        assert ours.mean() == pytest.approx(theirs.mean(), rel=0.15)
