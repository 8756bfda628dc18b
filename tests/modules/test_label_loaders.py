"""Label loaders for scattering muons, event selections and biased simulation."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from event_files import event_ids
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dnn_reco.config import load_config
from dnn_reco.data.hdf5 import write_event_file
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.modules.data.labels.biased_selection_labels import biased_muongun
from dnn_reco.modules.data.labels.event_selection_labels import (
    astroness,
    starting_cascades,
    upgoing_tracks,
)
from dnn_reco.modules.data.labels.muon_scattering_labels import muon_scattering

EVENTS = "dnn_data_global_time_offset"
CONFIG: dict[str, Any] = {
    "data_handler_label_key": "LabelsDeepLearning",
    "data_handler_time_offset_name": EVENTS,
}
NEUTRINOS = (12, -12, 14, -14, 16, -16)


@dataclass
class Tables:
    """Per-event tables of a file: table -> column -> values of n events."""

    tables: dict[str, dict[str, Any]]
    exists: dict[str, NDArray[np.bool_]] = field(default_factory=dict)

    def write(self, path: Path) -> Path:
        columns = next(iter(self.tables.values()))
        n = len(next(iter(columns.values())))
        tables = {EVENTS: {"value": np.full(n, 9000.0)}, **self.tables}
        write_event_file(path, event_ids(n), tables, exists=self.exists)
        return path


def simulated(seed: int = 3, n: int = 400) -> Tables:
    """Random events of all kinds, with the tables that the loaders read."""
    rng = np.random.default_rng(seed)

    def flag(probability: float = 0.5) -> NDArray[np.float64]:
        return (rng.random(n) < probability).astype(np.float64)

    labels = {
        "Length": rng.choice([0.0, 25.0, 40.0, 50.0, 99.0, 300.0], n),
        "LengthInDetector": rng.uniform(0, 300, n),
        "PrimaryZenith": rng.uniform(0, math.pi, n),
        "p_starting": flag(),
        "p_starting_300m": flag(),
    }
    pdg = rng.choice([*NEUTRINOS, 13.0, -13.0, 2212.0], n).astype(np.float64)
    around = {f"LabelsDeepLearning_{name}": {"p_starting": flag()} for name in ("m60", "p60")}
    return Tables({"LabelsDeepLearning": labels, "MCPrimary": {"pdg_encoding": pdg}, **around})


# --------------------------------------------------------------------------------------------------
# muon_scattering
# --------------------------------------------------------------------------------------------------
def test_scattering_labels_of_real_events(numu_file: Path) -> None:
    """Numbers straight from the file."""
    config = {
        "data_handler_label_key": "LabelsDeepLearning",
        "data_handler_time_offset_name": "dnn_data_inputs9_InIceDSTPulses_global_time_offset",
        "labels_muon_scattering_defs": {
            "p_long": {"LengthInDetector": 500.0},
            "p_long_and_bright": {"LengthInDetector": 300.0, "EnergyVisible": 2000.0},
        },
    }
    labels, names = muon_scattering(numu_file, config)
    with h5py.File(numu_file, "r", locking=False) as file:
        table = file["LabelsDeepLearning"][()]
    ids = ("Run", "Event", "SubEvent", "SubEventStream", "exists")
    columns = [name for name in table.dtype.names if name not in ids]
    assert names == sorted([*columns, "p_long", "p_long_and_bright"])
    length, energy = table["LengthInDetector"], table["EnergyVisible"]
    expected = [float(a >= 300 and b >= 2000) for a, b in zip(length, energy, strict=True)]
    assert 0 < sum(expected) < len(expected)
    assert labels[:, names.index("p_long_and_bright")].tolist() == expected
    assert labels[:, names.index("p_long")].tolist() == [float(a >= 500) for a in length]
    np.testing.assert_array_equal(labels[:, names.index("EnergyVisible")], energy)


def test_a_cut_is_inclusive_and_definitions_build_on_each_other(tmp_path: Path) -> None:
    path = Tables({"LabelsDeepLearning": {"a": [1.0, 2.0, 3.0], "b": [5.0, 1.0, 1.0]}}).write(
        tmp_path / "e.hdf5"
    )
    definitions = {"p_a": {"a": 2}, "p_b": {"p_a": 1, "b": 1}, "p_none": {"a": 4}, "p_all": {}}
    config = {**CONFIG, "labels_muon_scattering_defs": definitions}
    labels, names = muon_scattering(path, config)
    assert names == ["a", "b", "p_a", "p_all", "p_b", "p_none"]
    assert labels[:, 2:].tolist() == [[0, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 0]]
    labels, names = muon_scattering(path, config, ["p_b", "a"])
    assert names == ["p_b", "a"]
    assert labels.tolist() == [[0, 1], [1, 2], [1, 3]]


def test_scattering_labels_of_events_without_labels_are_masked(tmp_path: Path) -> None:
    tables = Tables({"LabelsDeepLearning": {"a": [1.0, 2.0]}})
    tables.exists = {"LabelsDeepLearning": np.array([True, False])}
    config = {**CONFIG, "labels_muon_scattering_defs": {"p_a": {"a": 0}}}
    labels, _ = muon_scattering(tables.write(tmp_path / "e.hdf5"), config)
    assert labels.mask.tolist() == [[False, False], [True, True]]


def test_a_definition_with_an_unknown_label(tmp_path: Path) -> None:
    path = Tables({"LabelsDeepLearning": {"a": [1.0]}}).write(tmp_path / "e.hdf5")
    config = {**CONFIG, "labels_muon_scattering_defs": {"p_b": {"b": 1}}}
    with pytest.raises(
        DataError, match=r"no label 'b' in .*labels_muon_scattering_defs.*available: a"
    ):
        muon_scattering(path, config)


# --------------------------------------------------------------------------------------------------
# astroness
# --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("astro", "conventional"),
    [
        ("weight_E250", "weight_conv"),
        ("weights_mese_flux", "weights_honda2006_gaisserH4a_elbert_conv_NNFlux"),
    ],
)
def test_astroness_is_the_share_of_the_astrophysical_flux(
    tmp_path: Path, astro: str, conventional: str
) -> None:
    tables = Tables(
        {
            "MCPrimary": {"pdg_encoding": [14.0, -12.0, 13.0, 16.0]},
            "weights_mese": {astro: [3.0, 0.0, 7.0, 0.0], conventional: [1.0, 2.0, 1.0, 0.0]},
        }
    )
    labels, names = astroness(tables.write(tmp_path / "e.hdf5"), CONFIG)
    assert names == ["astroness"]
    np.testing.assert_array_equal(np.asarray(labels)[:, 0], [0.75, 0.0, 0.0, np.nan])
    assert not np.ma.getmaskarray(labels).any()


def test_muons_need_no_flux_of_neutrinos(tmp_path: Path) -> None:
    path = Tables({"MCPrimary": {"pdg_encoding": [13.0, 2212.0]}}).write(tmp_path / "e.hdf5")
    labels, _ = astroness(path, CONFIG)
    assert labels.tolist() == [[0.0], [0.0]]


def test_neutrinos_need_it(tmp_path: Path) -> None:
    tables = {"MCPrimary": {"pdg_encoding": [13.0, 14.0]}, "weights_mese": {"weight_conv": [1, 1]}}
    path = Tables(tables).write(tmp_path / "e.hdf5")
    with pytest.raises(DataError, match=r"weights_mese.*weight_E250 and weight_conv or weights_"):
        astroness(path, CONFIG)


def test_astroness_of_events_without_primary_or_weights_is_masked(tmp_path: Path) -> None:
    tables = Tables(
        {
            "MCPrimary": {"pdg_encoding": [14.0, 14.0, 13.0]},
            "weights_mese": {"weight_E250": [1.0] * 3, "weight_conv": [1.0] * 3},
        },
        {
            "MCPrimary": np.array([False, True, True]),
            "weights_mese": np.array([True, False, False]),
        },
    )
    labels, _ = astroness(tables.write(tmp_path / "e.hdf5"), CONFIG)
    assert labels.mask[:, 0].tolist() == [True, True, False]  # a muon needs no weights
    assert labels[2, 0] == 0


def test_astroness_is_the_only_label(tmp_path: Path) -> None:
    path = Tables({"MCPrimary": {"pdg_encoding": [13.0]}}).write(tmp_path / "e.hdf5")
    with pytest.raises(DataError, match=r"no label .energy. in .*; available: astroness"):
        astroness(path, CONFIG, ["energy"])


# --------------------------------------------------------------------------------------------------
# starting_cascades
# --------------------------------------------------------------------------------------------------
def test_starting_cascades_event_by_event(tmp_path: Path) -> None:
    simulation = simulated()
    labels, names = starting_cascades(simulation.write(tmp_path / "e.hdf5"), CONFIG)
    assert names == [
        f"p_starting_cascade_L{length}_D{distance}"
        for length in (25, 50, 100)
        for distance in ("m60", "0", "60", "300", "inf")
    ]
    tables = simulation.tables
    truth = tables["LabelsDeepLearning"]
    starts = {
        "m60": tables["LabelsDeepLearning_m60"]["p_starting"],
        "0": truth["p_starting"],
        "60": tables["LabelsDeepLearning_p60"]["p_starting"],
        "300": truth["p_starting_300m"],
    }
    for event, pdg in enumerate(tables["MCPrimary"]["pdg_encoding"]):
        for column, name in enumerate(names):
            length, distance = name.removeprefix("p_starting_cascade_L").split("_D")
            expected = (
                pdg in NEUTRINOS
                and truth["Length"][event] <= float(length)
                and (distance == "inf" or starts[distance][event] == 1)
            )
            assert labels[event, column] == expected, (event, name)


def test_lengths_and_distances_of_the_config(tmp_path: Path) -> None:
    """Only the tables of these distances are read, whatever their order in the config."""
    tables = Tables(
        {
            "LabelsDeepLearning": {"Length": [10.0, 40.0], "p_starting": [1.0, 0.0]},
            "LabelsDeepLearning_p150": {"p_starting": [0.0, 1.0]},
            "MCPrimary": {"pdg_encoding": [14.0, 14.0]},
        }
    )
    config = {
        **CONFIG,
        "labels_starting_cascades_lengths": [12.5, 60.0],
        "labels_starting_cascades_distances": [math.inf, 150.0, 0.0],
    }
    path = tables.write(tmp_path / "e.hdf5")
    labels, names = starting_cascades(path, config)
    start = "p_starting_cascade_"
    assert names == [f"{start}L{a}_D{b}" for a in ("12.5", "60") for b in ("0", "150", "inf")]
    assert labels.tolist() == [[1, 0, 1, 1, 0, 1], [0, 0, 0, 0, 1, 1]]
    labels, _ = starting_cascades(path, config, [f"{start}L60_Dinf", f"{start}L12.5_D0"])
    assert labels.tolist() == [[1, 1], [1, 0]]


def test_distances_as_yaml_writes_them(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "labels_starting_cascades_lengths: [50]\nlabels_starting_cascades_distances: [-60., .inf]\n"
    )
    path = simulated().write(tmp_path / "e.hdf5")
    view = load_config([tmp_path / "c.yaml"]).plugin_view()
    _, names = starting_cascades(path, view)
    assert names == ["p_starting_cascade_L50_Dm60", "p_starting_cascade_L50_Dinf"]


def test_wrong_distances(tmp_path: Path) -> None:
    path = Tables(
        {"LabelsDeepLearning": {"Length": [1.0]}, "MCPrimary": {"pdg_encoding": [14.0]}}
    ).write(tmp_path / "e.hdf5")
    with pytest.raises(ConfigError, match=r"distances contains 100.*-60, 0, 60, 150, 300, inf"):
        starting_cascades(path, {**CONFIG, "labels_starting_cascades_distances": [0.0, 100.0]})
    with pytest.raises(DataError, match="no table 'LabelsDeepLearning_m60'"):
        starting_cascades(path, CONFIG)


# --------------------------------------------------------------------------------------------------
# upgoing_tracks
# --------------------------------------------------------------------------------------------------
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_upgoing_tracks_event_by_event(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    simulation = simulated(seed, 50)
    path = simulation.write(tmp_path_factory.mktemp("events") / "e.hdf5")
    labels, names = upgoing_tracks(path, CONFIG)
    assert names == ["is_upgoing_track", "is_neutrino_selection", "is_numu", "is_neutrino"]
    truth = simulation.tables["LabelsDeepLearning"]
    for event, pdg in enumerate(simulation.tables["MCPrimary"]["pdg_encoding"]):
        is_upgoing = (
            pdg in (14, -14)
            and truth["PrimaryZenith"][event] > 85 * math.pi / 180
            and truth["LengthInDetector"][event] > 100
        )
        is_selected = is_upgoing or truth["p_starting_300m"][event] == 1
        expected = [is_upgoing, is_selected, pdg in (14, -14), pdg in NEUTRINOS]
        assert labels[event].tolist() == expected


def test_borders_of_upgoing_tracks(tmp_path: Path) -> None:
    """Longer than 100 m, and above 85 degrees: an event on the border is not selected."""
    horizon = np.deg2rad(85.0)
    table = {
        "PrimaryZenith": [2.0, 2.0, horizon, np.nextafter(horizon, 4.0), 2.0],
        "LengthInDetector": [100.0, np.nextafter(100.0, 200.0), 200.0, 200.0, 200.0],
        "p_starting_300m": np.zeros(5),
    }
    primary = {"pdg_encoding": np.full(5, 14.0)}
    path = Tables({"LabelsDeepLearning": table, "MCPrimary": primary}).write(tmp_path / "e.hdf5")
    labels, _ = upgoing_tracks(path, CONFIG, ["is_upgoing_track"])
    assert labels[:, 0].tolist() == [0, 1, 0, 1, 1]


def test_events_are_matched_by_their_ids(tmp_path: Path) -> None:
    """Tables in another order, and a primary that is missing."""
    simulation = simulated(n=40)
    path = simulation.write(tmp_path / "e.hdf5")
    expected, _ = upgoing_tracks(path, CONFIG)
    with h5py.File(path, "r+") as file:
        file["MCPrimary"][...] = file["MCPrimary"][()][::-1]
        rows = file["LabelsDeepLearning"][()]
        rows["exists"][7] = 0
        file["LabelsDeepLearning"][...] = rows
    labels, _ = upgoing_tracks(path, CONFIG)
    assert labels.mask[:, 0].tolist() == [event == 7 for event in range(40)]
    assert labels[np.arange(40) != 7].tolist() == expected[np.arange(40) != 7].tolist()


def test_upgoing_tracks_need_a_label_table(tmp_path: Path) -> None:
    path = Tables({"MCPrimary": {"pdg_encoding": [14.0]}}).write(tmp_path / "e.hdf5")
    with pytest.raises(ConfigError, match="the label loader needs the key 'data_handler_label_key"):
        upgoing_tracks(path, {"data_handler_time_offset_name": EVENTS})


# --------------------------------------------------------------------------------------------------
# biased_muongun
# --------------------------------------------------------------------------------------------------
def filtered() -> Tables:
    model = "DeepLearningReco_event_selection_"
    pairs = {
        "CascadeFilter_13": [[1, 0], [1, 1], [0, 0]],
        "SDST_CascadeFilter_13": [[1, 1], [1, 1], [1, 1]],
        "MuonFilter_13": [[1, 1], [0, 0], [1, 0]],
    }
    return Tables(
        {
            "FilterMask": {name: np.array(pair, dtype=np.uint8) for name, pair in pairs.items()},
            "CscdL3": {"value": [1.0, 0.0, 1.0]},
            "CscdL3_Cont_Tag": {"value": [1.0, 1.0, 0.0]},
            f"{model}cscdl3_300m_01": {"p_starting_300m": [0.9, 0.8, 0.1]},
            f"{model}dnn_cscd_l3a_starting_events_03": {"p_starting_300m": [0.2, 0.6, 0.5]},
            "DeepLearningReco_mine": {"energy": [1.0, 20.0, 300.0], "p_a": [0.1, 0.2, 0.3]},
        }
    )


def test_biased_muongun_by_default(tmp_path: Path) -> None:
    labels, names = biased_muongun(filtered().write(tmp_path / "e.hdf5"), CONFIG)
    expected = {
        "p_passed_CascadeFilter": [0, 1, 0],
        "p_passed_MuonFilter": [1, 0, 0],
        "p_passed_cscdl3": [1, 0, 1],
        "p_passed_cscdl3_cont": [1, 0, 0],
        "event_selection_cscdl3_300m_01_p_starting_300m": [0.9, 0.8, 0.1],
        "p_passed_event_selection_cscdl3_300m_01_p_starting_300m": [1, 0, 0],
        "event_selection_dnn_cscd_l3a_starting_events_03_p_starting_300m": [0.2, 0.6, 0.5],
        "p_passed_event_selection_dnn_cscd_l3a_starting_events_03_p_starting_300m": [0, 1, 0],
    }
    assert names == sorted(expected)
    for name, column in zip(names, labels.T.tolist(), strict=True):
        assert column == expected[name], name


def test_biased_muongun_with_settings(tmp_path: Path) -> None:
    config = {
        **CONFIG,
        "labels_biased_selection_filter_keys": [],
        "labels_biased_selection_dnn_label_names": {
            "DeepLearningReco_mine": [["energy", 10.0], ["p_a", 0.25]]
        },
    }
    path = filtered().write(tmp_path / "e.hdf5")
    labels, names = biased_muongun(path, config, ["p_passed_mine_energy", "mine_p_a"])
    assert names == ["p_passed_mine_energy", "mine_p_a"]
    assert labels.tolist() == [[0, 0.1], [1, 0.2], [1, 0.3]]
    _, names = biased_muongun(path, config)
    assert names == [
        "mine_energy",
        "mine_p_a",
        "p_passed_cscdl3",
        "p_passed_cscdl3_cont",
        "p_passed_mine_energy",
        "p_passed_mine_p_a",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels_biased_selection_filter_keys": ["HESE"]}, r"'HESE', but table 'FilterMask'"),
        ({"labels_biased_selection_filter_keys": ["Cascade"]}, r"_filter_keys matches several"),
        (
            {"labels_biased_selection_dnn_label_names": {"DeepLearningReco_m": [["a", 1.0]]}},
            r"no table 'DeepLearningReco_m' \(given by 'labels_biased_selection_dnn_label_names'\)",
        ),
        (
            {"labels_biased_selection_dnn_label_names": {"DeepLearningReco_mine": [["a", 1.0]]}},
            "no column 'a'",
        ),
    ],
)
def test_biased_muongun_with_missing_tables_or_columns(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = filtered().write(tmp_path / "e.hdf5")
    with pytest.raises(DataError, match=message):
        biased_muongun(path, {**CONFIG, **change})


def test_a_filter_table_without_rows_masks_all_events(tmp_path: Path) -> None:
    path = filtered().write(tmp_path / "e.hdf5")
    with h5py.File(path, "r+") as file:
        no_rows = file["FilterMask"][:0]
        del file["FilterMask"]
        file["FilterMask"] = no_rows
    labels, names = biased_muongun(path, CONFIG)
    for name in ("p_passed_CascadeFilter", "p_passed_MuonFilter"):
        assert labels[:, names.index(name)].tolist() == [None, None, None]
    assert labels[:, names.index("p_passed_cscdl3")].tolist() == [1.0, 0.0, 1.0]


def test_events_without_filter_results_are_masked(tmp_path: Path) -> None:
    tables = filtered()
    tables.exists = {"FilterMask": np.array([True, False, True])}
    labels, names = biased_muongun(tables.write(tmp_path / "e.hdf5"), CONFIG)
    assert labels.mask.any(axis=1).tolist() == [False, True, False]
    assert labels[:, names.index("p_passed_CascadeFilter")].tolist() == [0.0, None, 0.0]
