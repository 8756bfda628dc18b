"""The table `LabelsDeepLearning`, of events worked out by hand, and its invariants."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mc_trees import ANYWHERE, BREMS, HADRONS, Node, node, primary_of, track_of, tree_of

from dnn_reco.data_creation.labels.cascade_labels import COLUMNS, cascade_labels
from dnn_reco.data_creation.labels.truth import MCTruth
from dnn_reco.detector.hull import detector_hull, label_hull
from dnn_reco.errors import DataError
from dnn_reco.i3.objects import MMC_TRACK

# The label hull reaches from -510.18 m to 505.72 m, the detector hull from -500 m to 500 m.
TOP, BOTTOM = 505.72, -510.18
C = 0.299792458
VERTEX = ("VertexX", "VertexY", "VertexZ", "VertexTime", "EnergyVisible", "Length")
HADRONIC_400 = 400 * (1 - 0.69025877 * (400 / 0.18791678) ** -0.16267529)


def labels_of(
    *roots: Node,
    tracks: dict[int, dict[str, Any]] | None = None,
    interaction: float | None = None,
    extend: float = 0.0,
) -> dict[str, float]:
    """Labels of a tree whose first particle is the primary; tracks by number in the tree."""
    tree = tree_of(*roots)
    listed = None
    if tracks is not None:
        each = [track_of(tree, number, **ends) for number, ends in tracks.items()]
        listed = np.concatenate([np.zeros(0, MMC_TRACK), *each])
    weights = {} if interaction is None else {"InteractionType": interaction}
    truth = MCTruth(tree, primary_of(tree) if len(tree) else None, listed, weights)
    return cascade_labels(truth, label_hull(), extend)


def flags(labels: dict[str, float]) -> set[str]:
    return {name for name, value in labels.items() if name.startswith("p_") and value}


def test_charged_current_of_a_muon_neutrino_in_the_detector() -> None:
    labels = labels_of(
        node(
            14,
            1000.0,
            1e6,
            node(
                14,
                1000.0,
                700.0,
                node(13, 600.0, 100.0, node(BREMS, 50.0, 0.0), length=800.0, time=7.0),
                node(HADRONS, 400.0, 100.0, length=5.0),
            ),
            location=ANYWHERE,
        ),
        tracks={2: {}},
        interaction=1,
    )
    assert flags(labels) == {
        *("p_neutrino", "p_starting", "p_starting_300m", "p_starting_cc", "p_starting_cc_mu"),
        "p_is_track",
    }
    assert labels["EnergyVisible"] == pytest.approx(600 + HADRONIC_400)
    assert labels["TotalDepositedEnergy"] == pytest.approx(50 + HADRONIC_400)
    assert [labels[name] for name in ("VertexX", "VertexY", "VertexZ", "VertexTime")] == [
        *(0.0, 0.0, 100.0, 7.0)
    ]
    assert labels["Length"] == pytest.approx(800)
    assert labels["LengthInDetector"] == pytest.approx(100 - BOTTOM)
    assert labels["PrimaryEnergy"] == 1000
    assert [labels[f"PrimaryDirection{axis}"] for axis in "XYZ"] == pytest.approx([0, 0, -1])
    assert labels["num_coincident_events"] == 1
    assert labels["num_muons_at_entry"] == labels["leading_energy_rel_entry"] == 0


def test_neutral_current() -> None:
    shower = node(HADRONS, 400.0, 100.0, length=5.0)
    nu = node(14, 600.0, 100.0, length=1e6, location=ANYWHERE)
    labels = labels_of(node(14, 1000.0, 700.0, shower, nu), tracks={}, interaction=2)
    assert flags(labels) == {"p_neutrino", "p_starting", "p_starting_300m", "p_starting_nc"}
    assert labels["EnergyVisible"] == pytest.approx(HADRONIC_400)


def test_glashow_resonance_and_unknown_interactions() -> None:
    event = node(-12, 6.3e6, 0.0, node(HADRONS, 6.3e6, 0.0))
    glashow = labels_of(event, tracks={}, interaction=3)
    assert flags(glashow) == {"p_neutrino", "p_starting", "p_starting_300m", "p_starting_glashow"}
    other = labels_of(event, tracks={}, interaction=0)
    assert flags(other) == {"p_neutrino", "p_starting", "p_starting_300m"}
    with pytest.raises(DataError, match="'I3MCWeightDict' lacks InteractionType"):
        labels_of(event, tracks={})


@pytest.mark.parametrize(
    ("products", "expected"),
    [
        ([node(13, 30.0, 40.0, length=120.0)], "muon_decay"),
        ([node(HADRONS, 30.0, 40.0), node(16, 20.0, 40.0)], "double_bang"),
    ],
)
def test_charged_current_of_a_tau_neutrino(products: list[Node], expected: str) -> None:
    tau = node(15, 600.0, 100.0, *products, length=60.0)
    event = node(16, 1000.0, 700.0, tau, node(HADRONS, 400.0, 100.0))
    labels = labels_of(event, tracks={}, interaction=1)
    assert flags(labels) == {
        *("p_neutrino", "p_starting", "p_starting_300m", "p_starting_cc", "p_starting_cc_tau"),
        f"p_starting_cc_tau_{expected}",
    }
    assert labels["EnergyVisible"] == pytest.approx(600 + HADRONIC_400)  # all of the tau
    assert labels["Length"] == pytest.approx(180 if expected == "muon_decay" else 60)


def test_tau_is_missing() -> None:
    with pytest.raises(DataError, match="made 0 taus, not 1"):
        labels_of(node(16, 9.0, 0.0, node(HADRONS, 9.0, 0.0)), tracks={}, interaction=1)


@pytest.mark.parametrize(("length", "stops"), [(2500.0, False), (1200.0, True)])
def test_muon_from_outside(length: float, stops: bool) -> None:
    # 900 GeV at 800 m; evenly to 300 GeV at -800 m, or to nothing at 300 m.
    muon = node(13, 1000.0, 1500.0, node(BREMS, 0.0, 0.0), length=length, time=100.0)
    end = {} if stops else {"leave": (-800.0, 300.0)}
    labels = labels_of(
        node(14, 2000.0, 5000.0, muon, node(HADRONS, 1000.0, 1500.0)),
        tracks={1: {"enter": (800.0, 900.0), **end}},
        interaction=1,
    )
    expected = {"p_neutrino", "p_entering", "p_entering_muon_single", "p_is_track"}
    assert flags(labels) == expected | ({"p_entering_muon_single_stopping"} if stops else set())
    share = (800 - TOP) / (500 if stops else 1600)
    energy = 900 - share * (900 if stops else 600)
    assert [labels[name] for name in VERTEX] == pytest.approx(
        [0, 0, TOP, 100 + (1500 - TOP) / C, energy, length]
    )
    inside = TOP - 300 if stops else TOP - BOTTOM
    assert labels["LengthInDetector"] == pytest.approx(inside)
    assert labels["num_muons_at_entry"] == labels["num_muons_at_entry_above_threshold"] == 1
    assert labels["leading_energy_rel_entry"] == 1
    assert labels["TotalDepositedEnergy"] == 0


def test_muon_that_misses_the_volume() -> None:
    muon = node(13, 1000.0, 900.0, node(BREMS, 0.0, 0.0), x=700.0, length=3000.0)
    labels = labels_of(node(14, 2000.0, 5000.0, muon), tracks={1: {"enter": (800.0, 900.0)}})
    assert flags(labels) == {"p_neutrino", "p_entering", "p_entering_muon_single", "p_is_track"}
    energy = 900 * (1 - 800 / 2900)  # from 800 m to its end at -2100 m
    assert [labels[name] for name in VERTEX] == pytest.approx([700, 0, 0, 900 / C, energy, 3000])
    assert labels["LengthInDetector"] == labels["num_muons_at_entry"] == 0


def test_tau_from_outside_has_all_its_energy() -> None:
    tau = node(-15, 5e6, 1500.0, length=1100.0)
    labels = labels_of(node(-16, 6e6, 5e3, tau), tracks={})
    assert flags(labels) == {"p_neutrino", "p_entering"}
    assert [labels[name] for name in VERTEX] == pytest.approx(
        [0, 0, TOP, (1500 - TOP) / C, 5e6, 1100]
    )
    assert labels["LengthInDetector"] == pytest.approx(TOP - 400)


def test_shower_outside() -> None:
    electron = node(11, 300.0, 700.0, length=3.0)
    labels = labels_of(node(12, 700.0, 5e3, electron, node(HADRONS, 400.0, 700.0)), tracks={})
    assert flags(labels) == {"p_neutrino", "p_outside_cascade", "p_starting_300m"}
    assert [labels[name] for name in VERTEX] == pytest.approx([0, 0, 700, 0, 300 + HADRONIC_400, 3])
    assert labels["TotalDepositedEnergy"] == pytest.approx(300 + HADRONIC_400)
    assert labels["LengthInDetector"] == 0


def test_boundary_moves() -> None:
    event = node(12, 700.0, 5e3, node(11, 700.0, 450.0))
    for extend, starting in ((0.0, 1), (-49.0, 1), (-51.0, 0), (150.0, 1)):
        labels = labels_of(event, tracks={}, interaction=1, extend=extend)
        assert labels["p_starting"] == 1 - labels["p_outside_cascade"] == starting


def test_neutrino_that_makes_nothing() -> None:
    labels = labels_of(node(12, 700.0, 5e3), tracks={})
    assert flags(labels) == {"p_neutrino", "p_outside_cascade"}
    assert np.isnan([labels[name] for name in VERTEX]).all()


@pytest.mark.parametrize("root", [True, False])
def test_single_muon(root: bool) -> None:
    muon = node(13, 500.0, 1000.0, node(BREMS, 0.0, 0.0), length=3000.0)
    track = {"enter": (800.0, 400.0), "leave": (-800.0, 100.0)}
    event = node(0, np.nan, 1000.0, muon, location=ANYWHERE) if root else muon
    labels = labels_of(event, tracks={1 if root else 0: track})
    assert flags(labels) == {"p_entering", "p_entering_muon_single", "p_is_track"}
    energy = 400 - 300 * (800 - TOP) / 1600
    assert [labels[name] for name in VERTEX] == pytest.approx(
        [0, 0, TOP, (1000 - TOP) / C, energy, 3000]
    )
    assert labels["PrimaryEnergy"] == 500
    assert labels["num_muons_at_entry"] == 1


def test_unknown_primary_that_is_no_single_muon() -> None:
    with pytest.raises(DataError, match="no particle code and 2 daughters"):
        labels_of(node(0, np.nan, 0.0, node(13, 1.0, 0.0), node(13, 1.0, 0.0)), tracks={})


def bundle_of(*energies: float, length: float = 3000.0) -> dict[str, float]:
    """Muons of an air shower with these energies where they enter, 0.1 GeV/m, and one outside."""
    muons = [
        node(13, energy + 100, 1000.0, node(BREMS, 0.0, 0.0), x=10.0 * i, length=length)
        for i, energy in enumerate(energies)
    ]
    tracks = {
        1 + 2 * i: {
            "enter": (TOP + 50, energy + 5),
            **({"leave": (TOP - 50, energy - 5)} if length > 3e3 - 1 else {}),
        }
        for i, energy in enumerate(energies)
    }
    far = node(13, 1e5, 1000.0, node(BREMS, 0.0, 0.0), x=900.0, length=3000.0)
    tracks[1 + 2 * len(energies)] = {"enter": (800.0, 9e4)}
    return labels_of(node(2212, 1e6, 3000.0, *muons, far, location=ANYWHERE), tracks=tracks)


def test_muons_of_an_air_shower() -> None:
    labels = bundle_of(30.0, 110.0, 10.0)
    assert flags(labels) == {"p_entering", "p_entering_muon_bundle", "p_is_track"}
    assert [labels[name] for name in VERTEX] == pytest.approx(
        [10, 0, TOP, (1000 - TOP) / C, 150, 3000]
    )
    assert labels["LengthInDetector"] == pytest.approx(TOP - BOTTOM)
    assert labels["num_muons_at_entry"] == 3
    assert labels["num_muons_at_entry_above_threshold"] == 2
    assert labels["leading_energy_rel_entry"] == pytest.approx(110 / 150)


def test_one_muon_of_an_air_shower() -> None:
    assert "p_entering_muon_single" in flags(bundle_of(110.0, 10.0))  # above the threshold
    assert flags(bundle_of(10.0)) == {"p_entering", "p_entering_muon_single", "p_is_track"}
    stopping = bundle_of(110.0, length=1000.0)
    assert "p_entering_muon_single_stopping" in flags(stopping)


def test_air_shower_without_muon_in_the_volume() -> None:
    labels = bundle_of()
    assert flags(labels) == {"p_entering", "p_entering_muon_single", "p_is_track"}
    assert labels["VertexX"] == 900
    assert labels["EnergyVisible"] == labels["LengthInDetector"] == 0
    nothing = labels_of(node(2212, 1e6, 3000.0, location=ANYWHERE), tracks={})
    assert flags(nothing) == {"p_entering"}
    assert np.isnan(nothing["VertexX"])
    assert nothing["EnergyVisible"] == 0


def test_only_noise() -> None:
    for labels in (labels_of(), labels_of(tracks={})):
        assert flags(labels) == set()
        assert labels["num_coincident_events"] == labels["TotalDepositedEnergy"] == 0
        assert np.isnan([labels[name] for name in (*VERTEX, "PrimaryEnergy")]).all()


def test_without_list_of_tracks_muons_of_the_tree_stand_for_it() -> None:
    again = node(13, 9.0, 60.0, length=30.0)  # the same muon after a loss
    low = node(14, 20.0, 0.0, node(13, 15.0, 80.0, again, length=70.0), node(2212, 5.0, 80.0))
    labels = labels_of(low, interaction=1)
    assert flags(labels) >= {"p_starting_cc_mu", "p_is_track"}
    assert labels["num_muons_at_entry"] == 0
    close = node(14, 200.0, 0.0, node(13, 150.0, TOP + 40, length=700.0))
    assert labels_of(close, interaction=1)["num_muons_at_entry"] == 1
    assert labels_of(close, interaction=1)["EnergyVisible"] == 150


def test_number_of_coincident_events() -> None:
    shower = node(2212, 1e4, 3000.0, node(13, 300.0, 1000.0), location=ANYWHERE)
    labels = labels_of(node(12, 9.0, 0.0, node(11, 9.0, 0.0)), shower, tracks={}, interaction=1)
    assert labels["num_coincident_events"] == 2


@st.composite
def neutrino_events(draw: st.DrawFn) -> tuple[Node, int]:
    flavor = draw(st.sampled_from([12, 14, 16]))
    sign = draw(st.sampled_from([1, -1]))
    kind = draw(st.sampled_from([1, 2, 3]))
    place = {axis: draw(st.floats(-1200, 1200)) for axis in "xyz"}
    angles = {"zenith": draw(st.floats(0, np.pi)), "azimuth": draw(st.floats(0, 2 * np.pi))}
    more = {**angles, "x": place["x"], "y": place["y"]}
    lepton = flavor - 1 if kind == 1 else flavor
    length = draw(st.floats(0.1, 3000))
    daughters = [
        node(sign * lepton, draw(st.floats(1, 1e6)), place["z"], length=length, **more),
        node(HADRONS, draw(st.floats(1, 1e6)), place["z"], length=3.0, **more),
    ]
    return node(sign * flavor, 2e6, 5e3, *daughters, **angles), kind


@given(neutrino_events(), st.sampled_from([-60.0, 0.0, 60.0, 150.0]))
def test_invariants(event: tuple[Node, int], extend: float) -> None:
    labels = labels_of(event[0], tracks={1: {}}, interaction=event[1], extend=extend)
    assert tuple(labels) == COLUMNS
    assert all(type(value) is float for value in labels.values())
    assert labels["p_starting"] + labels["p_entering"] + labels["p_outside_cascade"] == 1
    kinds = ("cc", "nc", "glashow")
    assert sum(labels[f"p_starting_{kind}"] for kind in kinds) == labels["p_starting"]
    flavors = [labels[f"p_starting_cc_{flavor}"] for flavor in ("e", "mu", "tau")]
    assert sum(flavors) == labels["p_starting_cc"]
    decays = [labels[f"p_starting_cc_tau_{kind}"] for kind in ("muon_decay", "double_bang")]
    assert sum(decays) == labels["p_starting_cc_tau"]
    zenith, azimuth = labels["PrimaryZenith"], labels["PrimaryAzimuth"]
    assert [labels[f"PrimaryDirection{axis}"] for axis in "XYZ"] == pytest.approx(
        [-np.sin(zenith) * np.cos(azimuth), -np.sin(zenith) * np.sin(azimuth), -np.cos(zenith)]
    )
    assert 0 <= labels["LengthInDetector"] <= labels["Length"] + 1e-6
    if labels["p_is_track"]:
        assert labels["Length"] > 30
    vertex = np.array([[labels[f"Vertex{axis}"] for axis in "XYZ"]])
    if labels["p_starting"]:
        assert detector_hull().extended(extend + 1e-6).contains(vertex)[0]
    if labels["LengthInDetector"] > 1e-3 and labels["p_entering"]:
        assert label_hull().extended(1e-6).contains(vertex)[0]


def test_columns_are_those_of_real_files(shared_data: Path) -> None:
    files = sorted((shared_data / "real_nugen").glob("*.hdf5"))
    assert files
    for file in files:
        with h5py.File(file, locking=False) as hdf5:
            assert hdf5["LabelsDeepLearning"].dtype.names[5:] == COLUMNS
