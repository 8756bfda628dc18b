"""Reconstructions that event files hold, written with the package's own writer."""

import math
from pathlib import Path

import numpy as np
import pytest
from event_files import event_ids
from numpy.typing import NDArray

from dnn_reco.data.hdf5 import read_table, write_event_file
from dnn_reco.data.hdf5.tables import event_ids as ids_of
from dnn_reco.errors import DataError
from dnn_reco.evaluation import metrics
from dnn_reco.evaluation.events_of_files import EventsOfFile, read_column
from dnn_reco.evaluation.stored_reconstructions import (
    TrueLabels,
    list_stored,
    read_stored,
    read_stored_networks,
)
from dnn_reco.nn.interface import LabelKeys

KEYS = LabelKeys(
    zenith="PrimaryZenith",
    azimuth="PrimaryAzimuth",
    dir_x="DirX",
    dir_y="DirY",
    dir_z="DirZ",
    particle={"energy": "EnergyVisible", "time": "VertexTime", "pos_x": "VertexX"},
)
LABELS = ("EnergyVisible", "PrimaryZenith", "PrimaryAzimuth", "DirX", "DirY", "DirZ")
TRUTH = TrueLabels((*LABELS, "VertexTime", "VertexX"), KEYS, ("VertexTime",))


def particle(num_events: int, **columns: object) -> dict[str, NDArray[np.float64]]:
    names = ("x", "y", "z", "time", "zenith", "azimuth", "energy", "length", "fit_status")
    return {
        name: np.broadcast_to(np.asarray(columns.get(name, np.nan), np.float64), num_events)
        for name in names
    }


def write(path: Path, ids: NDArray[np.void], first: float = 0.0) -> EventsOfFile:
    """A network's tables, a line fit that fails for the second event, and the primary."""
    numbers = first + np.arange(len(ids), dtype=np.float64)
    of_network = {
        "EnergyVisible": 100 + numbers,
        "EnergyVisible_log_uncertainty": 0.1 + numbers,
        "VertexTime": 10_000 + numbers,
        "VertexTime_uncertainty": 5 + numbers,
        "runtime_prediction": numbers,
    }
    status = np.where(np.arange(len(ids)) == 1, 50, 0)
    line_fit = particle(len(ids), zenith=1.0, azimuth=numbers / 10, time=9900, fit_status=status)
    tables = {
        "DeepLearningReco_net": of_network,
        "DeepLearningReco_net_I3Particle": particle(len(ids), x=7, energy=1, fit_status=-1),
        "LineFit": line_fit,
        "MCPrimary": particle(len(ids), energy=500, fit_status=-1),
        "Labels": {"EnergyVisible": numbers},
    }
    write_event_file(path, ids, tables)
    return EventsOfFile(path, ids, np.full(len(ids), 9000.0))


@pytest.fixture
def file(tmp_path: Path) -> EventsOfFile:
    return write(tmp_path / "a.hdf5", event_ids(4))


def test_what_a_file_holds(file: EventsOfFile) -> None:
    found = {each.name: (each.labels, each.particle) for each in list_stored(file.path)}
    assert found == {
        "net": ("DeepLearningReco_net", "DeepLearningReco_net_I3Particle"),
        "LineFit": (None, "LineFit"),
    }
    assert [each.name for each in list_stored(file.path, with_truth=True)][-1] == "MCPrimary"


def test_table_of_a_network(file: EventsOfFile) -> None:
    (net,) = read_stored(["net"], [file], TRUTH)
    np.testing.assert_array_equal(net.table["EnergyVisible"], [100, 101, 102, 103])
    np.testing.assert_array_equal(net.table["EnergyVisible_log_uncertainty"], 0.1 + np.arange(4.0))
    np.testing.assert_array_equal(net.table["VertexTime"], 1000 + np.arange(4.0))  # relative
    np.testing.assert_array_equal(net.table["VertexTime_uncertainty"], 5 + np.arange(4.0))
    # the particle adds what the table of labels lacks
    np.testing.assert_array_equal(net.table["VertexX"], np.full(4, 7.0))
    assert set(net.table.label_names) == {"EnergyVisible", "VertexTime", "VertexX"}


def test_particle_of_another_reconstruction(file: EventsOfFile) -> None:
    (fit,) = read_stored(["LineFit"], [file], TRUTH)
    succeeded = [True, False, True, True]
    azimuth = np.arange(4) / 10
    expected = {
        "PrimaryZenith": np.full(4, 1.0),
        "PrimaryAzimuth": azimuth,
        "DirX": -math.sin(1) * np.cos(azimuth),
        "DirY": -math.sin(1) * np.sin(azimuth),
        "DirZ": np.full(4, -math.cos(1)),
        "VertexTime": np.full(4, 900.0),
    }
    assert set(fit.table.label_names) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(fit.table[name], np.where(succeeded, values, np.nan))
        assert np.isnan(fit.table[f"{name}_uncertainty"]).all()


def test_truth_can_be_asked_for(file: EventsOfFile) -> None:
    (primary,) = read_stored(["MCPrimary"], [file], TRUTH)
    np.testing.assert_array_equal(primary.table["EnergyVisible"], np.full(4, 500.0))


def test_events_of_several_files_with_the_same_ids(tmp_path: Path) -> None:
    """Some events of each, in any order; ids are unique only within a file."""
    ids = event_ids(5)
    files = [write(tmp_path / f"{i}.hdf5", ids, 10.0 * i) for i in range(2)]
    chosen = [
        EventsOfFile(file.path, file.ids[numbers], file.time_offset[numbers])
        for file, numbers in zip(files, ([3, 1], [0, 4, 2]), strict=True)
    ]
    (net,) = read_stored(["net"], chosen, TRUTH)
    np.testing.assert_array_equal(net.table["EnergyVisible"], [103, 101, 110, 114, 112])


def test_file_without_the_reconstruction_gives_nan(tmp_path: Path, file: EventsOfFile) -> None:
    other = tmp_path / "other.hdf5"
    ids = event_ids(2)
    write_event_file(other, ids, {"Labels": {"EnergyVisible": np.ones(2)}})
    files = [EventsOfFile(other, ids, np.zeros(2)), file]
    (net,) = read_stored(["net"], files, TRUTH)
    np.testing.assert_array_equal(net.table["EnergyVisible"], [np.nan, np.nan, 100, 101, 102, 103])


def test_rows_without_object_and_missing_rows_are_nan(tmp_path: Path) -> None:
    path, ids = tmp_path / "a.hdf5", event_ids(3)
    columns = {"EnergyVisible": np.array([5.0, 6.0, 7.0]), "EnergyVisible_uncertainty": np.ones(3)}
    exists = {"DeepLearningReco_net": np.array([True, False, True])}
    write_event_file(path, ids, {"DeepLearningReco_net": columns}, exists=exists)
    file = EventsOfFile(path, event_ids(4), np.zeros(4))
    (net,) = read_stored(["net"], [file], TRUTH)
    np.testing.assert_array_equal(net.table["EnergyVisible"], [5, np.nan, 7, np.nan])
    np.testing.assert_array_equal(
        read_column([file], "DeepLearningReco_net", "EnergyVisible"), [5, np.nan, 7, np.nan]
    )


def test_unknown_reconstruction(file: EventsOfFile) -> None:
    with pytest.raises(DataError, match=r"no file holds a reconstruction 'LinFit'.*'LineFit'"):
        read_stored(["LinFit"], [file], TRUTH)


def test_reconstruction_of_other_labels(file: EventsOfFile) -> None:
    truth = TrueLabels(("Inelasticity",), LabelKeys())
    with pytest.raises(DataError, match="'net' has no values of the evaluated labels"):
        read_stored(["net"], [file], truth)


def test_all_networks_that_give_a_label(
    file: EventsOfFile, caplog: pytest.LogCaptureFixture
) -> None:
    table = {"p_starting_300m": np.ones(4), "p_starting_300m_uncertainty": np.ones(4)}
    other = file.path.with_name("b.hdf5")
    write_event_file(other, file.ids, {"DeepLearningReco_classes": table})
    files = [file, EventsOfFile(other, file.ids, file.time_offset)]
    (net,) = read_stored_networks(files, TRUTH)
    assert net.name == "net"
    assert np.isfinite(net.table["EnergyVisible"]).tolist() == [True] * 4 + [False] * 4
    assert "'classes' is skipped" in caplog.text
    classes = TrueLabels(("p_starting_300m",), LabelKeys(pid=("p_starting_300m",)))
    assert [each.name for each in read_stored_networks(files, classes)] == ["classes"]
    with pytest.raises(DataError, match=r"no file holds a table .* \(Inelasticity\)"):
        read_stored_networks(files, TrueLabels(("Inelasticity",), LabelKeys()))


def test_no_events(file: EventsOfFile) -> None:
    none = EventsOfFile(file.path, file.ids[:0], file.time_offset[:0])
    with pytest.raises(DataError, match="for any of the events"):
        read_stored(["net"], [none], TRUTH)


def test_models_of_the_collaboration_on_real_events(numu_file: Path) -> None:
    """The opening angle from their zenith and azimuth is that from their vector."""
    labels = read_table(numu_file, "LabelsDeepLearning")
    offsets = read_table(numu_file, "dnn_data_inputs9_InIceDSTPulses_global_time_offset")["value"]
    names = ("PrimaryDirectionX", "PrimaryDirectionY", "PrimaryDirectionZ")
    keys = LabelKeys("PrimaryZenith", "PrimaryAzimuth", *names)
    truth = TrueLabels(labels.dtype.names, keys)
    file = EventsOfFile(numu_file, ids_of(labels), offsets)
    (model,) = read_stored(["l2_direction_red_summary_stats_fast_01"], [file], truth)
    true = np.stack([labels[name] for name in model.table.label_names], axis=1)
    angles = [
        metrics.opening_angle_degrees(true, model.table.labels, columns)
        for columns in metrics.direction_columns(model.table.label_names, keys)
    ]
    np.testing.assert_allclose(angles[0], angles[1], atol=1e-3)
    assert 5 < np.median(angles[0]) < 40
