"""The table `LabelsMCCascade` and the particle `MCCascade`, of events worked out by hand."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from mc_trees import ANYWHERE, BREMS, HADRONS, node, primary_of, track_of, tree_of

from dnn_reco.data_creation.labels.cascade_labels import cascade_labels
from dnn_reco.data_creation.labels.cascade_parameters import COLUMNS, cascade_parameters
from dnn_reco.data_creation.labels.truth import MCTruth
from dnn_reco.detector.hull import label_hull

HADRONIC_400 = 400 * (1 - 0.69025877 * (400 / 0.18791678) ** -0.16267529)
ANGLES = {"zenith": 0.4, "azimuth": 1.2}


def test_interaction_in_the_detector() -> None:
    products = [
        node(14, 9.0, 90.0, length=1e3),
        node(13, 600.0, 90.0, length=800.0, time=5.0),
        node(11, 50.0, 90.0),
        node(HADRONS, 400.0, 90.0),
    ]
    tree = tree_of(node(14, 1059.0, 700.0, *products, **ANGLES))
    truth = MCTruth(tree, primary_of(tree), None, {"InteractionType": 1})
    labels, particle = cascade_parameters(truth, label_hull())
    energy = 600 + 50 + HADRONIC_400
    assert tuple(labels) == COLUMNS
    assert list(labels.values()) == pytest.approx(
        [1.2, energy, 1e3, 0, 0, 0, 90, 0.4, 50 / energy, HADRONIC_400 / energy, 600 / energy]
    )
    assert (particle.pdg, particle.shape, particle.location) == (14, 30, 20)
    assert (particle.energy, particle.length, particle.zenith) == (
        labels["cascade_energy"],
        1e3,
        0.4,
    )
    assert cascade_labels(truth, label_hull())["EnergyVisible"] == particle.energy


def test_muon_from_far_away() -> None:
    muon = node(13, 1000.0, 1500.0, node(BREMS, 0.0, 0.0), length=2500.0, time=100.0)
    tree = tree_of(node(14, 2000.0, 5000.0, muon, node(HADRONS, 1000.0, 1500.0), **ANGLES))
    truth = MCTruth(tree, primary_of(tree), track_of(tree, 1, (800.0, 900.0), (-800.0, 300.0)))
    labels, particle = cascade_parameters(truth, label_hull())
    top, bottom = 505.72, -510.18
    time, energy = 100 + (1500 - top) / 0.299792458, 900 - 600 * (800 - top) / 1600
    assert list(labels.values()) == pytest.approx(
        [0, energy, top - bottom, time, 0, 0, top, 0, 0, 0, 1]
    )
    assert (particle.pdg, particle.shape) == (0, 0)
    assert particle.z == pytest.approx(top)


def test_shower_and_tau_far_away() -> None:
    for lepton in (11, 15):
        tree = tree_of(node(16, 2000.0, 5000.0, node(lepton, 1000.0, 1500.0, length=2.0)))
        labels, particle = cascade_parameters(MCTruth(tree, primary_of(tree)), label_hull())
        assert labels["cascade_z"] == particle.z == 1500
        assert labels["cascade_energy"] == 1000


def test_without_neutrino_or_energy() -> None:
    for tree in (tree_of(), tree_of(node(13, 9.0, 0.0)), tree_of(node(14, 9.0, 0.0))):
        truth = MCTruth(tree, primary_of(tree) if len(tree) else None)
        labels, particle = cascade_parameters(truth, label_hull())
        assert tuple(labels) == COLUMNS
        assert np.isnan(list(labels.values())).all()
        assert np.isnan(particle.energy)
    tree = tree_of(node(14, 9.0, 0.0, node(13, 9.0, 0.0, location=ANYWHERE)))
    labels, _ = cascade_parameters(MCTruth(tree, primary_of(tree)), label_hull())
    assert labels["cascade_energy"] == 0
    assert np.isnan(labels["energy_fraction_track"])


def test_columns_are_those_of_real_files(shared_data: Path) -> None:
    for file in sorted((shared_data / "real_nugen").glob("*.hdf5")):
        with h5py.File(file, locking=False) as hdf5:
            assert hdf5["LabelsMCCascade"].dtype.names[5:] == COLUMNS
