"""Energy of muons along the track, against values worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
from mc_trees import BREMS, node, primary_of, track_of, tree_of

from dnn_reco.data_creation.labels.muon_energy import energy_at
from dnn_reco.data_creation.labels.particles import positions
from dnn_reco.data_creation.labels.truth import MCTruth, mc_truth
from dnn_reco.i3.reader import read_i3


def muon_truth(listed: bool = True, **muon: float) -> MCTruth:
    """A muon down from z = 1000 m: 900 GeV in at 800 m, 300 GeV out at -800 m, ends at -1000 m.

    In the volume it loses 100 GeV at 400 m and 180 GeV at -400 m; the rest, 320 GeV, evenly along
    1600 m. Newer simulations store the muon after each loss as well.
    """
    muon = {"length": 2000.0, **muon}
    losses = [node(BREMS, 100.0, 400.0), node(13, 800.0, 400.0), node(BREMS, 180.0, -400.0)]
    tree = tree_of(node(13, 1000.0, 1000.0, *losses, **muon))
    track = track_of(tree, 0, enter=(800.0, 900.0), leave=(-800.0, 300.0))
    return MCTruth(tree, primary_of(tree), track if listed else None)


@pytest.mark.parametrize(
    ("distance", "energy"),
    [
        (-1.0, 1000.0),
        (0.0, 1000.0),
        (100.0, 950.0),  # evenly to the volume
        (200.0, 900.0),
        (400.0, 900.0 - 200 * 0.2),
        (600.0, 900.0 - 400 * 0.2),  # just before the first loss
        (600.1, 900.0 - 400.1 * 0.2 - 100),
        (1000.0, 900.0 - 800 * 0.2 - 100),
        (1799.9, 900.0 - 1599.9 * 0.2 - 280),
        (1900.0, 150.0),
        (2000.0, 0.0),
        (5000.0, 0.0),
    ],
)
def test_between_recorded_energies(distance: float, energy: float) -> None:
    truth = muon_truth()
    assert energy_at(truth, truth.tree.particles[:1], distance) == pytest.approx(energy)


def test_losses_count_in_the_volume_wherever_they_are() -> None:
    """40 GeV before the entry and 60 GeV behind the exit, as if between them: 200 GeV of 600."""
    truth = muon_truth()
    losses = [node(BREMS, 40.0, 900.0), node(BREMS, 100.0, 400.0), node(BREMS, 60.0, -900.0)]
    tree = tree_of(node(13, 1000.0, 1000.0, *losses, length=2000.0))
    truth = MCTruth(tree, None, truth.tracks)
    for distance, energy in (
        (99.0, 1000 - 99 * 100 / 200),
        (150.0, 1000 - 150 * 100 / 200),
        (200.0, 900.0),  # where it enters
        (200.1, 900 - 40 - 0.1 * 400 / 1600),
        (700.0, 900 - 140 - 500 * 400 / 1600),
        (1799.9, 900 - 140 - 1599.9 * 400 / 1600),
        (1800.0, 900 - 140 - 1600 * 400 / 1600),
        (1850.0, 300 - 50 * 300 / 200),
        (1950.0, 300 - 150 * 300 / 200),
    ):
        assert energy_at(truth, tree.particles[:1], distance) == pytest.approx(energy)


def test_what_a_muon_makes_at_its_end_counts_in_the_volume() -> None:
    """It stops inside and decays, slightly behind its end: its products count as a loss."""
    losses = [node(BREMS, 40.0, -50.0), node(11, 0.06, -200.001)]
    tree = tree_of(node(13, 100.0, 0.0, *losses, length=200.0))
    truth = MCTruth(tree, primary_of(tree), track_of(tree, 0, leave=(-200.0, -3.0)))
    muon = tree.particles[:1]
    assert energy_at(truth, muon, 199.0) == pytest.approx(60 - 59.94 * 199 / 200)


def test_starts_and_stops_inside() -> None:
    tree = tree_of(node(13, 100.0, 0.0, node(BREMS, 40.0, -50.0), length=200.0))
    truth = MCTruth(tree, primary_of(tree), track_of(tree, 0, leave=(-200.0, -3.0)))
    muon = tree.particles[:1]
    assert energy_at(truth, muon, 40.0) == pytest.approx(100 - 40 * 60 / 200)
    assert energy_at(truth, muon, 100.0) == pytest.approx(100 - 40 - 100 * 60 / 200)


def test_losses_above_the_recorded_energy_give_no_energy() -> None:
    tree = tree_of(node(13, 100.0, 0.0, node(BREMS, 140.0, -50.0), length=200.0))
    truth = MCTruth(tree, primary_of(tree), track_of(tree, 0))
    assert np.isnan(energy_at(truth, tree.particles[:1], 60.0))


@pytest.mark.parametrize(
    ("energy", "length", "distance", "expected"),
    [
        (1000.0, 2000.0, 59.9, 1000.0),
        (1000.0, 2000.0, 60.0, np.nan),
        (1000.0, 100.0, 101.0, 0.0),
        (19.0, 2000.0, 61.0, 0.0),
        (1000.0, np.nan, 101.0, np.nan),
    ],
)
def test_muon_that_was_not_recorded(
    energy: float, length: float, distance: float, expected: float
) -> None:
    tree = tree_of(node(13, energy, 0.0, length=length))
    muon = tree.particles[:1]
    other = tree_of(node(14, 1.0, 0.0), node(13, energy, 0.0, length=length))
    not_listed = track_of(other, 1)
    for tracks in (None, not_listed):
        result = energy_at(MCTruth(tree, primary_of(tree), tracks), muon, distance)
        np.testing.assert_equal(result, expected)


def test_muon_that_made_nothing_is_as_one_that_was_not_recorded() -> None:
    truth = muon_truth()
    for tree in (tree_of(node(13, 1000.0, 1000.0, length=2000.0)), tree_of()):
        alone = MCTruth(tree, None, truth.tracks)
        for distance, energy in ((50.0, 1000.0), (1000.0, np.nan), (2001.0, 0.0)):
            result = energy_at(alone, truth.tree.particles[:1], distance)
            np.testing.assert_equal(result, energy)


def test_muon_that_made_only_itself() -> None:
    """Without losses, energy is lost evenly: 600 GeV along 1600 m."""
    truth = muon_truth()
    tree = tree_of(node(13, 1000.0, 1000.0, node(13, 800.0, 400.0), length=2000.0))
    alone = MCTruth(tree, None, truth.tracks)
    assert energy_at(alone, truth.tree.particles[:1], 1000.0) == pytest.approx(600)


def test_muon_of_another_muon_has_the_entry_of_that_one() -> None:
    """As in the reference: its track is listed with entry and exit of the muon that made it.

    They are 500 m and 1100 m from its start, far behind its end: it gains 860 GeV along 500 m.
    """
    made = node(13, 40.0, 300.0, node(BREMS, 10.0, 280.0), length=80.0)
    tree = tree_of(node(13, 1000.0, 5000.0, made, length=6000.0))
    truth = MCTruth(tree, primary_of(tree), track_of(tree, 1, (800.0, 900.0), (-800.0, 300.0)))
    assert energy_at(truth, tree.particles[1:2], 40.0) == pytest.approx(40 + 40 * 860 / 500)
    assert energy_at(truth, tree.particles[1:2], 80.0) == 0


def test_the_last_entry_of_a_muon_counts() -> None:
    truth = muon_truth()
    assert truth.tracks is not None
    twice = np.concatenate([truth.tracks, truth.tracks])
    twice["ei"][1] = 800.0
    truth = MCTruth(truth.tree, None, twice)
    assert energy_at(truth, truth.tree.particles[:1], 200.0) == pytest.approx(800)


def test_real_muons_in_the_middle_of_the_detector(shared_data: Path) -> None:
    file = "wBDT_wDNN_L345_IC86-2016_NuMu-021220-009993_first_5_frames.i3.gz"
    frames = [frame for frame in read_i3(shared_data / "i3" / file) if frame.stop == "P"]
    ratios = []
    for frame in frames:
        truth = mc_truth(frame, "MCPrimary1")
        assert truth.tracks is not None
        track = truth.tracks[:1]  # the others are made by it
        muon = track["particle"]
        middle = np.stack([track[f"{axis}c"] for axis in "xyz"], axis=-1)
        distance = np.linalg.norm(middle - positions(muon), axis=1).item()
        ratios.append(energy_at(truth, muon, distance) / track["ec"].item())
    assert len(ratios) == 5
    np.testing.assert_allclose(ratios, 1, atol=1e-4)
    assert np.ptp(ratios) > 0


def test_ids_need_not_be_unique() -> None:
    truth = muon_truth()
    tree = tree_of(node(14, 1.0, 0.0), node(13, 1000.0, 1000.0, node(BREMS, 500.0, 400.0)))
    tree.particles["minor_id"] = 0
    tree.particles["length"][1] = 2000.0
    assert truth.tracks is not None
    result = energy_at(MCTruth(tree, None, truth.tracks), tree.particles[1:2], 1000.0)
    assert result == pytest.approx(900 - 500 - 800 * (900 - 300 - 500) / 1600)


def test_an_entry_with_another_id_belongs_to_the_equal_particle() -> None:
    truth = muon_truth()
    assert truth.tracks is not None
    tracks = truth.tracks.copy()
    tracks["particle"]["minor_id"] += 1000
    found = energy_at(MCTruth(truth.tree, None, tracks), truth.tree.particles[:1], 400.0)
    assert found == pytest.approx(900.0 - 200 * 0.2)
