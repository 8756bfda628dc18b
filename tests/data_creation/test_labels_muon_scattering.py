"""The labels of muons with one large loss, of events worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from mc_trees import ANYWHERE, BREMS, Node, node, primary_of, track_of, tree_of

from dnn_reco.data_creation.labels.muon_scattering import (
    COLUMNS,
    ScatteringCuts,
    muon_scattering_labels,
)
from dnn_reco.data_creation.labels.truth import MCTruth
from dnn_reco.detector.hull import label_hull

C = 0.299792458
TOP, BOTTOM = 505.72, -510.18
ZERO = dict.fromkeys(COLUMNS, 0.0)


def loss(energy: float, z: float, pdg: int = BREMS) -> Node:
    """A loss of a muon that starts at 1000 m at the time 50 ns."""
    return node(pdg, energy, z, time=50 + (1000 - z) / C)


def truth_of(*losses: Node, **muon: float) -> MCTruth:
    """A muon of 50 TeV from 1000 m, 48 TeV at 800 m, 8 TeV at -800 m."""
    muon = {"time": 50.0, "length": 3000.0, **muon}
    tree = tree_of(node(13, 5e4, 1000.0, *losses, **muon))
    return MCTruth(tree, primary_of(tree), track_of(tree, 0, (800.0, 4.8e4), (-800.0, 8e3)))


def test_muon_with_a_large_loss() -> None:
    truth = truth_of(loss(2e4, 600.0), loss(400.0, 90.0), loss(1.2e4, 20.0), loss(3e4, 10.0, 13))
    evenly = (4.8e4 - 8e3 - 3.24e4) / 1600
    entry = 4.8e4 - 2e4 - (800 - TOP) * evenly
    labels = muon_scattering_labels(truth, label_hull(), ScatteringCuts(loss=0.4))
    assert tuple(labels) == COLUMNS
    assert labels == pytest.approx(
        {
            **ZERO,
            "length": TOP - BOTTOM,
            "length_before": TOP - 20,
            "length_after": 20 - BOTTOM,
            "muon_energy": 5e4,
            "muon_entry_energy": entry,
            "muon_entry_time": 50 + (1000 - TOP) / C,
            "muon_entry_z": TOP,
            "muon_exit_energy": 8e3 + (800 + BOTTOM) * evenly,
            "muon_exit_time": 50 + (1000 - BOTTOM) / C,
            "muon_exit_z": BOTTOM,
            "muon_loss_energy": 1.2e4,
            "muon_loss_time": 50 + 980 / C,
            "muon_loss_z": 20,
            "rel_muon_loss_energy": 1.2e4 / entry,
            "p_scattering_candidate": 1,
        }
    )


@pytest.mark.parametrize(
    "cut",
    [
        {"length": 1015.91},
        {"length_before": 485.73},
        {"length_after": 530.19},
        {"entry_energy": 2.8e4},
        {"loss": 0.5},
    ],
)
def test_each_cut_rejects(cut: dict[str, float]) -> None:
    truth = truth_of(loss(2e4, 600.0), loss(1.2e4, 20.0))
    cuts = ScatteringCuts(1015.89, 485.71, 530.17, 2.6e4, 0.4)
    hull = label_hull()
    assert muon_scattering_labels(truth, hull, cuts)["p_scattering_candidate"] == 1
    labels = muon_scattering_labels(truth, hull, replace(cuts, **cut))
    assert labels["p_scattering_candidate"] == 0


def test_muon_without_loss_that_stops() -> None:
    tree = tree_of(node(13, 5e4, 1000.0, loss(1e4, 900.0), length=1200.0, time=50.0))
    labels = muon_scattering_labels(MCTruth(tree, primary_of(tree)), label_hull(), ScatteringCuts())
    assert labels["length"] == pytest.approx(TOP + 200)
    assert labels["muon_exit_z"] == pytest.approx(-200)
    assert np.isnan([labels[f"muon_loss_{name}"] for name in ("energy", "time", "z")]).all()
    assert labels["length_before"] == labels["length_after"] == labels["rel_muon_loss_energy"] == 0


def test_muon_that_misses_and_no_muon() -> None:
    hull, cuts = label_hull(), ScatteringCuts()
    labels = muon_scattering_labels(truth_of(x=900.0), hull, cuts)
    assert labels == {**ZERO, "muon_energy": 5e4}
    for tree in (
        tree_of(),
        tree_of(node(14, 9.0, 0.0)),
        tree_of(node(14, 9.0, 0.0, node(15, 9.0, 0.0))),
        tree_of(node(2212, 9.0, 0.0, location=ANYWHERE)),
    ):
        truth = MCTruth(tree, primary_of(tree) if len(tree) else None)
        assert muon_scattering_labels(truth, hull, cuts) == ZERO


def test_leading_muon_of_an_air_shower() -> None:
    muons = [
        node(13, energy, TOP + 10, loss(1.0, 0.0), x=x, length=200.0)
        for x, energy in ((0.0, 100.0), (40.0, 900.0), (700.0, 5e3))
    ]
    tree = tree_of(node(2212, 1e6, 3000.0, *muons, location=ANYWHERE))
    tracks = np.concatenate([track_of(tree, number) for number in (1, 3, 5)])
    truth = MCTruth(tree, primary_of(tree), tracks)
    labels = muon_scattering_labels(truth, label_hull(), ScatteringCuts())
    assert labels["muon_entry_x"] == 40
    assert labels["muon_energy"] == 900
