"""Modules of labels by name, and the particles that they read from frames."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mc_trees import ANYWHERE, node, primary_of, track_of, tree_of

from dnn_reco.data_creation.labels.cascade_labels import cascade_labels
from dnn_reco.data_creation.labels.modules import label_module
from dnn_reco.data_creation.labels.truth import mc_truth, weighted_primary
from dnn_reco.detector.hull import Sphere, label_hull
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.i3.reader import read_i3

PATH = "ic3_labels.labels.modules.modules."
MUON = node(13, 900.0, 480.0, length=500.0)
NEUTRINO = node(14, 1000.0, 1e6, node(14, 900.0, 700.0, MUON), location=ANYWHERE)
PROTON = node(2212, 500.0, 1e6, node(13, 9.0, 400.0), location=ANYWHERE)


def frame_of(*roots: Any, **more: Any) -> dict[str, Any]:
    tree = tree_of(*roots)
    return {"I3MCTree": tree, "I3MCWeightDict": {"InteractionType": 1.0}, **more}


def module(name: str, **settings: Any) -> Any:
    return label_module(PATH + name, settings, "processing_steps.0.tray_segments.1")


def test_several_tables_with_other_boundaries() -> None:
    frame = frame_of(NEUTRINO)
    frame["MCPrimary"] = primary_of(frame["I3MCTree"])
    for extend, starting in ((0, 1), (-60.0, 0)):
        labels = module(
            "MCLabelsCascades",
            PulseMapString=None,
            PrimaryKey="MCPrimary",
            ExtendBoundary=extend,
            OutputKey="LabelsDeepLearning_x",
            RunOnDAQFrames=True,
        )
        assert labels.run_on_daq_frames
        (key, values), *more = labels.outputs(frame).items()
        assert (key, more, values["p_starting"]) == ("LabelsDeepLearning_x", [], starting)
        assert labels.columns() == {key: tuple(values)}


def test_volume_by_name() -> None:
    frame = frame_of(NEUTRINO)
    values = module("MCLabelsCascades", ConvexHull="sphere_r300").outputs(frame)
    expected = cascade_labels(mc_truth(frame), Sphere(300.0))
    assert values == {"LabelsDeepLearning": expected}
    assert expected != cascade_labels(mc_truth(frame), label_hull())


def test_other_modules() -> None:
    frame = frame_of(NEUTRINO)
    cascade = module("MCLabelsCascadeParameters", OutputKey="LabelsMCCascade")
    outputs = cascade.outputs(frame)
    assert list(outputs) == ["LabelsMCCascade", "MCCascade"]
    assert outputs["MCCascade"].energy == outputs["LabelsMCCascade"]["cascade_energy"] == 900
    scattering = module("MCLabelsMuonScattering", MinLength=0, OutputKey="LabelsMuonScattering")
    for each in (cascade, scattering):
        columns = {key: tuple(v) for key, v in each.outputs(frame).items() if key != "MCCascade"}
        assert each.columns() == columns
    primary = label_module("add_weighted_primary", None, "x")
    assert primary.outputs(frame) == {"MCPrimary": primary_of(frame["I3MCTree"])}
    assert primary.outputs({**frame, "MCPrimary": 1}) == {}
    assert primary.outputs(frame_of()) == primary.columns() == {}


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("MCLabelsCascade", {}, "Did you mean 'MCLabelsCascades'"),
        ("MCLabelsCascades", {"ExtendBoundry": 0}, "Did you mean 'ExtendBoundary'"),
        ("MCLabelsCascadeParameters", {"ExtendBoundary": 0}, "unknown setting 'ExtendBoundary'"),
        ("MCLabelsCascades", {"ExtendBoundary": "far"}, "'ExtendBoundary' is 'far'"),
        ("MCLabelsCascades", {"ConvexHull": "icecube_hul"}, "Did you mean 'icecube_hull'"),
        ("MCLabelsCascades", {"RunOnDAQFrames": 1}, "allowed: true or false"),
        ("MCLabelsMuonScattering", {"MinLength": -1.0}, "'MinLength' is -1.0"),
    ],
)
def test_wrong_settings(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=r"processing_steps.0.tray_segments.1") as error:
        module(name, **settings)
    assert message in str(error.value)


def test_truth_of_a_frame() -> None:
    frame = frame_of(PROTON, NEUTRINO)
    frame["MMCTrackList"] = track_of(frame["I3MCTree"], 1)
    frame["Other"] = primary_of(frame["I3MCTree"], 3)
    truth = mc_truth(frame, "Other")
    assert (truth.primary, truth.tree) == (frame["Other"], frame["I3MCTree"])
    assert truth.tracks is frame["MMCTrackList"]
    assert truth.weights == {"InteractionType": 1.0}
    assert mc_truth(frame).primary == primary_of(truth.tree, 2)  # the only neutrino
    assert mc_truth({"I3MCTree": tree_of()}, "Other").primary is None


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({}, "lacks 'I3MCTree'"),
        ({"I3MCTree_preMuonProp": tree_of(PROTON)}, "has no lengths of muons"),
        ({"I3MCTree": {}}, "'I3MCTree' is of type dict, not MCTree"),
        ({"I3MCTree": tree_of(PROTON)}, "lacks 'Other', the primary that PrimaryKey names"),
        ({"I3MCTree": tree_of(PROTON), "Other": {}}, "'Other' is of type dict, not Particle"),
    ],
)
def test_frames_that_cannot_be_used(frame: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        mc_truth(frame, "Other")


def test_weighted_primary_of_corsika() -> None:
    tree = tree_of(PROTON, node(2212, 2000.0, 1e6), node(2212, np.nan, 1e6))
    for weights, number in (
        ({"PrimaryEnergy": 1900.0}, 2),
        ({"PrimarySpectralIndex": -2.0, "Weight": 2000.0**2}, 2),
        ({"PrimarySpectralIndex": -2.0, "Weight": 400.0**2}, 0),
        ({}, 0),
    ):
        frame = {"I3MCTree": tree, "CorsikaWeightMap": weights}
        assert weighted_primary(frame) == primary_of(tree, number)


def test_weighted_primary_prefers_the_tree_before_propagation() -> None:
    before, after = tree_of(PROTON), tree_of(NEUTRINO)
    frame = {"I3MCTree_preMuonProp": before, "I3MCTree": after}
    assert weighted_primary(frame) == primary_of(before)
    assert weighted_primary(frame, "I3MCTree") == primary_of(after)
    assert weighted_primary({**frame, "I3MCTree_preMuonProp": tree_of()}) == primary_of(after)


def test_weighted_primary_is_not_known() -> None:
    for roots in ((PROTON, PROTON), (NEUTRINO, NEUTRINO)):
        with pytest.raises(DataError, match=r"the tree has 2 primaries.*set PrimaryKey"):
            weighted_primary(frame_of(*roots))
    with pytest.raises(DataError, match="do not determine which one"):
        weighted_primary({"I3MCTree": tree_of(PROTON, NEUTRINO)})
    with pytest.raises(DataError, match="lacks 'I3MCTree_preMuonProp' and 'I3MCTree'"):
        weighted_primary({})


@pytest.mark.parametrize(
    ("file", "primary", "starting"),
    [
        ("wBDT_wDNN_L345_IC86-2016_NuMu-021220-009993", "MCPrimary1", [0, 0, 0, 0, 0]),
        ("oscNext_genie_level7_v02", "MCInIcePrimary", [1, 1, 1, 1, 1]),
        ("upgrade_genie_step4_140028_000998", "MCPrimary", [1, 1, 1, 1, 1]),
    ],
)
def test_frames_of_real_files(
    shared_data: Path, file: str, primary: str, starting: list[int]
) -> None:
    modules = [
        module("MCLabelsCascades", PrimaryKey=primary, OutputKey="a"),
        module("MCLabelsCascadeParameters", PrimaryKey=primary, OutputKey="b"),
        module("MCLabelsMuonScattering", PrimaryKey=primary, OutputKey="c"),
    ]
    rows = []
    for frame in read_i3(shared_data / "i3" / f"{file}_first_5_frames.i3.gz"):
        if frame.stop == "P":
            outputs = {k: v for each in modules for k, v in each.outputs(frame).items()}
            rows.append({**outputs["a"], **outputs["b"], **outputs["c"]})
    assert [row["p_starting"] for row in rows] == starting
    for row in rows:
        assert row["p_starting"] + row["p_entering"] + row["p_outside_cascade"] == 1
        assert row["p_starting_cc_mu"] == row["p_starting"]  # these files have only these events
        assert row["EnergyVisible"] == row["cascade_energy"] > 0
        assert row["EnergyVisible"] < row["PrimaryEnergy"]
        finite = {name for name, value in row.items() if np.isfinite(value)}
        assert {name for name in row if not name.startswith("muon_loss")} <= finite
