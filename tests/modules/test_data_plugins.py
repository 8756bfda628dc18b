"""The built-in loaders of labels and misc values, and the built-in filters."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from event_files import Events, random_events, write_events

from dnn_reco.data.hdf5 import write_input_tables
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.modules.data.filter.default_filter import dummy_filter, general_filter
from dnn_reco.modules.data.labels.default_labels import simple_label_loader
from dnn_reco.modules.data.misc.default_misc import dummy_misc_loader, general_misc_loader

CONFIG: dict[str, Any] = {
    "data_handler_label_key": "LabelsDeepLearning",
    "data_handler_time_offset_name": "dnn_data_global_time_offset",
    "label_zenith_key": "PrimaryZenith",
    "label_azimuth_key": "PrimaryAzimuth",
    "label_dir_x_key": "PrimaryDirectionX",
    "label_dir_y_key": "PrimaryDirectionY",
    "label_dir_z_key": "PrimaryDirectionZ",
}
REAL_CONFIG = {
    **CONFIG,
    "data_handler_time_offset_name": "dnn_data_inputs9_InIceDSTPulses_global_time_offset",
}


@pytest.fixture
def events() -> Events:
    return random_events(7, 6, num_bins=2, mean_hits=3)


@pytest.fixture
def path(tmp_path: Path, events: Events) -> Path:
    return write_events(tmp_path / "events.hdf5", events)


# --------------------------------------------------------------------------------------------------
# Labels
# --------------------------------------------------------------------------------------------------
def test_labels_equal_the_reference(golden_network: Path, numu_file: Path) -> None:
    golden = np.load(golden_network / "data_numu_medium_inputs9.npz")
    labels, names = simple_label_loader(numu_file, REAL_CONFIG)
    assert names == json.loads((golden_network / "data_meta.json").read_text())["label_names"]
    assert labels.dtype == np.float64
    labels = np.asarray(labels)
    # There the vertex time is relative to the time offset.
    time = names.index("VertexTime")
    relative = labels[:, time] - golden["time_offset"]
    np.testing.assert_allclose(relative, golden["labels"][:, time], rtol=0, atol=1e-3)
    expected = np.delete(golden["labels"], time, axis=1)
    np.testing.assert_array_equal(np.delete(labels, time, axis=1).astype(np.float32), expected)


def test_added_labels_equal_the_reference(golden_network: Path, numu_file: Path) -> None:
    meta = json.loads((golden_network / "data_labelvariants_meta.json").read_text())
    golden = np.load(golden_network / "data_numu_medium_labelvariants.npz")
    config = {**REAL_CONFIG, **meta["settings"]}
    labels, names = simple_label_loader(numu_file, config)
    assert names == meta["label_names"]
    expected = golden["labels_dirvec_relpos_smooth"][:, -6:]
    # Reference: float32; positions are differences of large numbers.
    np.testing.assert_allclose(labels[:, -6:-3], expected[:, :3], rtol=0, atol=1e-6)
    np.testing.assert_allclose(labels[:, -3:], expected[:, 3:], rtol=1e-6, atol=1e-3)
    # In this file the direction of the primary is a label, too.
    direction = [names.index(f"PrimaryDirection{axis}") for axis in "XYZ"]
    np.testing.assert_allclose(labels[:, -6:-3], labels[:, direction], rtol=0, atol=1e-12)


def test_columns_named_in_the_config(path: Path, events: Events) -> None:
    config = {**CONFIG, "label_keys_to_load": ["VertexZ", "Run", "EnergyVisible"]}
    labels, names = simple_label_loader(path, config)
    assert names == ["VertexZ", "EnergyVisible"]
    np.testing.assert_array_equal(labels[:, 0], events.labels["VertexZ"])


def test_no_labels_at_all(path: Path, events: Events) -> None:
    labels, names = simple_label_loader(path, CONFIG, [])
    assert (labels.shape, names) == ((len(events), 0), [])
    labels, names = simple_label_loader(path, {**CONFIG, "label_keys_to_load": ["Run", "Event"]})
    assert (labels.shape, names) == ((len(events), 0), [])


def test_given_label_names_are_kept(path: Path, events: Events) -> None:
    config = {**CONFIG, "label_add_dir_vec": True}
    wanted = ["direction_z", "VertexX"]
    labels, names = simple_label_loader(path, config, wanted)
    assert names == wanted
    np.testing.assert_allclose(labels[:, 0], -np.cos(events.labels["PrimaryZenith"]))
    np.testing.assert_array_equal(labels[:, 1], events.labels["VertexX"])


def test_position_along_a_track(path: Path, events: Events) -> None:
    """At the vertex time, the particle is at the vertex; 1 µs later it is 299.79 m further."""
    event = 2
    time = events.labels["VertexTime"][event] - events.time_offset[event]
    along = np.array([events.labels[f"PrimaryDirection{axis}"][event] for axis in "XYZ"])
    vertex = np.array([events.labels[f"Vertex{axis}"][event] for axis in "XYZ"])
    for delay in (0.0, 1000.0):
        config = {**CONFIG, "label_position_at_rel_time": time + delay}
        labels, names = simple_label_loader(path, config)
        assert names[-3:] == ["rel_pos_x", "rel_pos_y", "rel_pos_z"]
        expected = vertex + along * 0.299792458 * delay
        np.testing.assert_allclose(labels[event, -3:], expected, rtol=0, atol=1e-9)


def test_events_without_labels_are_masked(tmp_path: Path, events: Events) -> None:
    exists = {"LabelsDeepLearning": np.arange(6) != 4}
    path = write_events(tmp_path / "e.hdf5", events, exists=exists)
    config = {**CONFIG, "label_add_dir_vec": True, "label_position_at_rel_time": 0.0}
    labels, _ = simple_label_loader(path, config)
    assert labels.mask[4].all()
    assert not np.delete(labels.mask, 4, axis=0).any()


def test_missing_labels_and_keys(path: Path) -> None:
    with pytest.raises(DataError, match=r"no label 'Energy'.*EnergyVisible, PrimaryEnergy"):
        simple_label_loader(path, {**CONFIG, "label_keys_to_load": ["Energy"]})
    with pytest.raises(DataError, match="no label 'Theta'"):
        simple_label_loader(
            path, {**CONFIG, "label_add_dir_vec": True, "label_zenith_key": "Theta"}
        )
    with pytest.raises(DataError, match=r"no table 'Truth' \(given by 'data_handler_label_key'\)"):
        simple_label_loader(path, {**CONFIG, "data_handler_label_key": "Truth"})
    without = {key: value for key, value in CONFIG.items() if key != "label_zenith_key"}
    with pytest.raises(ConfigError, match="'label_zenith_key'"):
        simple_label_loader(path, {**without, "label_add_dir_vec": True})


# --------------------------------------------------------------------------------------------------
# Misc values
# --------------------------------------------------------------------------------------------------
def test_misc_values_equal_the_reference(golden_network: Path, numu_file: Path) -> None:
    golden = np.load(golden_network / "data_numu_medium_inputs9.npz")
    config = {**REAL_CONFIG, "misc_load_dict": {"LabelsDeepLearning": "LengthInDetector"}}
    values, names = general_misc_loader(numu_file, config)
    assert names == ["LabelsDeepLearning_LengthInDetector"]
    assert values is not None
    np.testing.assert_array_equal(values.astype(np.float32), golden["misc"])


def test_misc_names_are_sorted_or_as_given(path: Path, events: Events) -> None:
    config = {
        **CONFIG,
        "misc_load_dict": {
            "MCPrimary": ["pdg_encoding", "energy"],
            "LabelsDeepLearning": "VertexX",
        },
    }
    values, names = general_misc_loader(path, config)
    assert names == ["LabelsDeepLearning_VertexX", "MCPrimary_energy", "MCPrimary_pdg_encoding"]
    assert values is not None
    np.testing.assert_array_equal(values[:, 1], events.primary["energy"])
    values, names = general_misc_loader(path, config, ["MCPrimary_pdg_encoding"])
    assert names == ["MCPrimary_pdg_encoding"]
    assert values is not None
    np.testing.assert_array_equal(values[:, 0], events.primary["pdg_encoding"])
    with pytest.raises(ConfigError, match=r"does not contain 'MCPrimary_zenith'.*MCPrimary_energy"):
        general_misc_loader(path, config, ["MCPrimary_zenith"])


@pytest.mark.parametrize("load", [{}, None])
def test_nothing_to_load(path: Path, load: dict[str, str] | None) -> None:
    assert general_misc_loader(path, {**CONFIG, "misc_load_dict": load}) == (None, [])
    assert dummy_misc_loader(path, CONFIG) == (None, [])


def test_fill_values_and_missing_columns(path: Path) -> None:
    config = {
        **CONFIG,
        "misc_load_dict": {"MCPrimary": ["energy", "depth"], "Weights": ["gamma"]},
        "misc_fill_values": {"MCPrimary_depth": -5.0, "Weights_gamma": 2.0},
    }
    values, names = general_misc_loader(path, config)
    assert names == ["MCPrimary_depth", "MCPrimary_energy", "Weights_gamma"]
    assert values is not None
    assert (values[:, 0] == -5.0).all()
    assert (values[:, 2] == 2.0).all()
    del config["misc_fill_values"]["MCPrimary_depth"]
    with pytest.raises(DataError, match=r"'depth'.*'MCPrimary'.*energy, pdg_encoding.*_depth'"):
        general_misc_loader(path, config)
    config["misc_fill_values"] = {"MCPrimary_depth": 1.0}
    with pytest.raises(DataError, match=r"no table 'Weights' \(given by 'misc_load_dict'\)"):
        general_misc_loader(path, config)


def test_events_without_object_have_nan(tmp_path: Path, events: Events) -> None:
    path = write_events(tmp_path / "e.hdf5", events, exists={"MCPrimary": np.arange(6) != 3})
    config = {**CONFIG, "misc_load_dict": {"MCPrimary": ["energy"]}}
    values, _ = general_misc_loader(path, config)
    assert values is not None
    assert np.isnan(values[:, 0]).tolist() == [False, False, False, True, False, False]


def test_filter_results_by_part_of_their_name(tmp_path: Path, events: Events) -> None:
    condition_only, passed = [[1, 0]] * 6, [[1, i % 2] for i in range(6)]
    filters = {
        "CascadeFilter_13": np.array(passed, dtype=np.uint8),
        "SDST_CascadeFilter_13": np.array(condition_only, dtype=np.uint8),
        "DeepCoreFilter_13": np.array(condition_only, dtype=np.uint8),
        "DeepCoreFilter_TwoLayerExp_13": np.array(passed, dtype=np.uint8),
    }
    path = tmp_path / "filtered.hdf5"
    write_input_tables(
        path,
        events.ids,
        events.time_offset,
        events.hits,
        tables={"FilterMask": filters},
    )

    def load(column: str) -> list[float]:
        values, names = general_misc_loader(
            path, {**CONFIG, "misc_load_dict": {"FilterMask": [column]}}
        )
        assert names == [f"FilterMask_{column}"]
        assert values is not None
        return values[:, 0].tolist()

    assert load("CascadeFilter") == [0, 1, 0, 1, 0, 1]
    assert load("CascadeFilter_13") == [0, 1, 0, 1, 0, 1]
    assert load("TwoLayer") == [0, 1, 0, 1, 0, 1]
    assert load("DeepCoreFilter") == [0] * 6
    with pytest.raises(DataError, match=r"matches several columns.*CascadeFilter_13, SDST_Cascade"):
        load("Cascade")
    with pytest.raises(DataError, match="MuonFilter"):
        load("MuonFilter")


# --------------------------------------------------------------------------------------------------
# Filters
# --------------------------------------------------------------------------------------------------
MISC_NAMES = ["FilterMask_CascadeFilter", "MCPrimary_energy", "MCPrimary_pdg_encoding"]
MISC = np.array(
    [[1, 10, 14], [1, 99, -14], [0, 50, 12], [0, 10, 14], [1, 50, np.nan], [1, np.nan, 14]]
)


def apply(config: dict[str, Any], function: Any = general_filter, misc: Any = MISC) -> list[bool]:
    data_handler = SimpleNamespace(misc_name_dict={name: i for i, name in enumerate(MISC_NAMES)})
    labels, times = np.zeros((6, 2)), np.zeros((6, 1))
    mask = function(data_handler, "file.hdf5", config, None, None, labels, misc, times)
    assert mask.dtype == bool
    return mask.tolist()


def test_filters_that_keep_everything() -> None:
    assert apply({}, dummy_filter, None) == [True] * 6
    assert apply({}) == [True] * 6
    assert apply({"filter_equal": {}, "filter_less_than": None}, misc=None) == [True] * 6


def test_comparisons_are_strict_and_combined() -> None:
    equal = {"filter_equal": {"FilterMask_CascadeFilter": True}}
    greater = {"filter_greater_than": {"MCPrimary_energy": 10}}
    less = {"filter_less_than": {"MCPrimary_energy": 99}}
    assert apply(equal) == [True, True, False, False, True, True]
    assert apply(greater) == [False, True, True, False, True, False]
    assert apply(less) == [True, False, True, True, True, False]
    assert apply({**equal, **greater, **less}) == [False, False, False, False, True, False]


def test_filter_for_some_primaries_only() -> None:
    config = {
        "filter_equal": {"FilterMask_CascadeFilter": 0},
        "filter_apply_on_pdg_encodings": [14, -14],
    }
    assert apply(config) == [False, False, True, True, True, False]


def test_filter_on_a_value_that_is_not_loaded() -> None:
    with pytest.raises(ConfigError, match=r"'filter_less_than'.*'MCPrimary_zenith'.*MCPrimary_en"):
        apply({"filter_less_than": {"MCPrimary_zenith": 1}})
    with pytest.raises(ConfigError, match=r"'filter_equal' needs .*'MCPrimary_energy'"):
        apply({"filter_equal": {"MCPrimary_energy": 1}}, misc=None)
    with pytest.raises(ConfigError, match="MCPrimary_pdg_encoding"):
        apply({"filter_apply_on_pdg_encodings": [14]}, misc=None)


def test_filter_results_stored_as_booleans(tmp_path: Path, events: Events) -> None:
    """Pairs are stored as booleans by some writers; they compare like numbers."""
    path = write_events(tmp_path / "e.hdf5", events)
    with h5py.File(path, "r+") as file:
        header = file["MCPrimary"][()][["Run", "Event", "SubEvent", "SubEventStream", "exists"]]
        fields = [(name, header.dtype[name]) for name in header.dtype.names]
        rows = np.zeros(6, dtype=[*fields, ("CascadeFilter_12", "?", (2,))])
        for name in header.dtype.names:
            rows[name] = header[name]
        rows["CascadeFilter_12"][:, 1] = [True, False] * 3
        file["QFilterMask"] = rows
    config = {**CONFIG, "misc_load_dict": {"QFilterMask": ["CascadeFilter"]}}
    values, _ = general_misc_loader(path, config)
    assert values is not None
    assert values[:, 0].tolist() == [1, 0, 1, 0, 1, 0]
