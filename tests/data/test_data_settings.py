"""Data settings: the record in event files, the comparison of model and data, features."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from event_files import event_ids, random_events, write_events
from hypothesis import given
from hypothesis import strategies as st

from dnn_reco.data.data_settings import SETTINGS, DataSettings, check_data_settings, features_of
from dnn_reco.data.data_settings_file import load_data_settings
from dnn_reco.data.features import dom_features
from dnn_reco.data.file_events import InputTables
from dnn_reco.data.hdf5 import (
    list_tables,
    read_events,
    read_record,
    write_event_file,
    write_input_tables,
)
from dnn_reco.data.hdf5.record import RECORD
from dnn_reco.data.pulses import Pulses
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.simulation.dataset import PlannedFile, write_file
from dnn_reco.simulation.settings import SimulationSettings

TUTORIAL = Path(__file__).parents[2] / "configs/tutorial/create_training_data.yaml"
TABLES = InputTables()
NINE = DataSettings(9, "time_range", "pulse_summmary_clipped")
EXCLUSIONS = ("SaturationWindows", "BadDomsList")
MODEL = DataSettings(
    10,
    "cascade_vertex",
    "charge_bins",
    time_bins=(-math.inf, *range(9), math.inf),
    pulse_key="Pulses",
    allowed_pulse_keys=("Pulses", "CleanPulses"),
    dom_exclusions=EXCLUSIONS,
    partial_exclusion=True,
    allowed_cascade_keys=("MCCascade", "Monopod"),
)


# --------------------------------------------------------------------------------------------------
# JSON and records
# --------------------------------------------------------------------------------------------------
def _optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


_names = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1)
_lists = _optional(st.lists(_names, max_size=4).map(tuple))
_edges = st.sets(st.floats(allow_nan=False), min_size=2).map(sorted).map(tuple)
_settings = st.builds(
    DataSettings,
    num_bins=st.integers(1, 10_000),
    relative_time_method=_optional(_names),
    data_format=_names,
    time_bins=_optional(_edges),
    time_quantiles=_optional(st.lists(st.floats(0, 1), max_size=4).map(tuple)),
    autoencoder_settings=_optional(_names),
    autoencoder_name=_optional(_names),
    output_key=_names,
    is_str_dom_format=st.booleans(),
    pulse_key=_optional(_names),
    allowed_pulse_keys=_lists,
    dom_exclusions=_lists,
    partial_exclusion=_optional(st.booleans()),
    cascade_key=_optional(_names),
    allowed_cascade_keys=_lists,
)


@given(_settings)
def test_json_keeps_all_settings(settings: DataSettings) -> None:
    text = settings.to_json()
    assert DataSettings.from_json(text) == settings
    assert text.isascii()
    json.loads(text, parse_constant=pytest.fail)  # no NaN or Infinity, which other readers refuse
    assert check_data_settings(settings, settings, "file") == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "it is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[1]", r"is \[1\] .list.; allowed: a mapping"),
        (NINE.to_json().replace("9", "0"), "'num_bins' is 0"),
        (NINE.to_json().replace("num_bins", "bins"), "unknown setting 'bins'"),
        ('{"num_bins": 9}', "'relative_time_method' is missing"),
        (json.dumps(NINE.to_dict() | {"time_bins": [0, math.nan]}), "'time_bins' is"),
    ],
)
def test_damaged_json(text: str, words: str) -> None:
    with pytest.raises(DataError, match=f"^place.*{words}"):
        DataSettings.from_json(text, "place")


def test_record_is_written_and_read_and_disturbs_no_reader(tmp_path: Path) -> None:
    events = random_events(1, 3)
    with_record, without = tmp_path / "with.hdf5", tmp_path / "without.hdf5"
    arguments = (events.ids, events.time_offset, events.hits)
    write_input_tables(with_record, *arguments, data_settings=MODEL)
    write_input_tables(without, *arguments)
    assert read_record(with_record) == MODEL
    assert read_record(without) is None
    assert list_tables(with_record) == list_tables(without)
    found, expected = (read_events(path, TABLES, 9) for path in (with_record, without))
    np.testing.assert_array_equal(found.hits.features, expected.hits.features)
    np.testing.assert_array_equal(found.ids, expected.ids)


def test_real_files_have_no_record(numu_file: Path) -> None:
    assert read_record(numu_file) is None


def test_pytables_reads_the_record(tmp_path: Path) -> None:
    tables = pytest.importorskip("tables")
    write_event_file(tmp_path / "file.hdf5", event_ids(1), {}, data_settings=[MODEL])
    with tables.open_file(tmp_path / "file.hdf5") as file:
        assert DataSettings.from_json(file.root._v_attrs[RECORD]) == MODEL


def test_record_survives_when_its_file_is_written_again(tmp_path: Path) -> None:
    """As an attribute copied by h5py, which stores text of variable length."""
    first, second = tmp_path / "first.hdf5", tmp_path / "second.hdf5"
    write_event_file(first, event_ids(1), {}, data_settings=[MODEL])
    with h5py.File(first) as one, h5py.File(second, "w") as other:
        other.attrs[RECORD] = one.attrs[RECORD]
    assert read_record(second) == MODEL
    write_event_file(second, event_ids(1), {}, data_settings=[read_record(first)])
    assert read_record(second) == MODEL


@pytest.mark.parametrize(
    "content",
    [
        "no JSON",
        "{}",
        "[" * 50_000,
        b"\xff\xfe",
        7,
        ["{}"],
        np.zeros(10),
        NINE.to_json() + " " * 60_000,
        h5py.Empty("S10"),
        NINE.to_json()[:40],
    ],
    ids=lambda content: str(content)[:20],
)
def test_damaged_record(tmp_path: Path, content: Any) -> None:
    path = write_events(tmp_path / "file.hdf5", random_events(1, 2))
    with h5py.File(path, "r+") as file:
        file.attrs[RECORD] = content
    with pytest.raises(DataError, match=r"'.*file\.hdf5' is damaged|the record .*file\.hdf5'"):
        read_record(path)
    assert len(read_events(path, TABLES, 9).ids) == 2


def test_no_file_to_read_a_record_from(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        read_record(tmp_path / "none.hdf5")


def test_record_that_is_too_long_is_refused_before_a_file_is_written(tmp_path: Path) -> None:
    long = replace(NINE, time_bins=tuple(i + 0.123456 for i in range(9000)))
    with pytest.raises(DataError, match="can hold 60,000"):
        write_event_file(tmp_path / "file.hdf5", event_ids(1), {}, data_settings=[long])
    assert list(tmp_path.iterdir()) == []


def test_simulated_files_fit_the_tutorial(tmp_path: Path) -> None:
    settings = SimulationSettings(energy=(1e4, 1e5), margin=0)
    file = PlannedFile(tmp_path / "events.hdf5", 0, 2)
    write_file(settings, file)
    record = read_record(file.path)
    assert record == settings.data_settings == replace(NINE, cascade_key=None)
    model = load_data_settings(TUTORIAL, TABLES)
    assert check_data_settings(model, record, str(file.path)) == ()
    assert check_data_settings(record, model, str(file.path)) == ()


@pytest.mark.parametrize(
    ("data_format", "setting", "values", "num_bins"),
    [
        ("charge_bins_and_times", "time_bins", (-math.inf, 0.0, math.inf), 4),
        ("charge_weighted_time_quantiles", "time_quantiles", (0.1, 0.5), 3),
        ("reduced_summary_statistics_data", "time_bins", None, 3),
    ],
)
def test_other_formats_of_the_simulation(
    data_format: str, setting: str, values: Any, num_bins: int
) -> None:
    simulation: dict[str, Any] = {"data_format": data_format, setting: values}
    made = SimulationSettings(**simulation).data_settings
    assert (made.num_bins, made.data_format) == (num_bins, data_format)
    assert getattr(made, setting) == values
    nine = load_data_settings(TUTORIAL, TABLES)
    with pytest.raises(DataError, match="num_bins is 9 for the model"):
        check_data_settings(nine, made, "file")


# --------------------------------------------------------------------------------------------------
# The check
# --------------------------------------------------------------------------------------------------
OTHERS = {
    "num_bins": (MODEL, 177),
    "relative_time_method": (MODEL, "time_range"),
    "data_format": (MODEL, "charge_bins_and_times"),
    "time_bins": (MODEL, (0.0, 1.0)),
    "time_quantiles": (
        DataSettings(3, None, "charge_weighted_time_quantiles", time_quantiles=(0.1, 0.5)),
        (0.1, 0.9),
    ),
    "autoencoder_settings": (
        DataSettings(3, "wf_quantile", "autoencoder", autoencoder_settings="homogenous_2_2"),
        "inhomogenous_2_2",
    ),
    "autoencoder_name": (
        DataSettings(3, "wf_quantile", "autoencoder", autoencoder_name="wf_1"),
        "wf_100",
    ),
    "is_str_dom_format": (MODEL, True),
    "pulse_key": (MODEL, "OtherPulses"),
    "dom_exclusions": (MODEL, ("BadDomsList",)),
    "partial_exclusion": (MODEL, False),
    "cascade_key": (MODEL, "Other"),
}


@pytest.mark.parametrize("key", OTHERS)
def test_each_wrong_setting_is_refused_by_its_name(key: str) -> None:
    model, value = OTHERS[key]
    data = replace(model, **{key: value})
    with pytest.raises(DataError) as error:
        check_data_settings(model, data, "events.hdf5")
    lines = str(error.value).splitlines()
    assert lines[0].startswith("'events.hdf5' was made with different settings")
    (line,) = lines[1:-1]
    assert line.startswith(f"  {key} is ")
    for settings in (model, data):
        shown = getattr(settings, key)
        assert repr(list(shown) if isinstance(shown, tuple) else shown) in line
    assert lines[-1].endswith(f"add --ignore-mismatch {key}")

    (warning,) = check_data_settings(model, data, "events.hdf5", [key, "num_bins"])
    assert line.strip() in warning
    assert "'events.hdf5'" in warning


def test_all_mismatches_are_named_at_once() -> None:
    data = replace(MODEL, num_bins=3, pulse_key="Other", time_bins=None)
    with pytest.raises(DataError, match="--ignore-mismatch num_bins --ignore-mismatch time_bins"):
        check_data_settings(MODEL, data, "file", ["pulse_key"])
    ignored = ("num_bins", "pulse_key", "time_bins")
    assert len(check_data_settings(MODEL, data, "file", ignored)) == 3


QUANTILES = OTHERS["time_quantiles"][0]
REDUCED = DataSettings(3, None, "reduced_summary_statistics_data")


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (MODEL, {"pulse_key": "CleanPulses"}),
        (MODEL, {"pulse_key": None}),
        (MODEL, {"cascade_key": "Monopod"}),
        (MODEL, {"cascade_key": None}),
        (MODEL, {"output_key": "other"}),
        (MODEL, {"time_quantiles": (0.5,)}),
        (MODEL, {"autoencoder_name": "wf_1", "autoencoder_settings": "other"}),
        (MODEL, {"dom_exclusions": EXCLUSIONS[::-1]}),
        (MODEL, {"dom_exclusions": None, "partial_exclusion": None}),
        (MODEL, {"allowed_pulse_keys": None, "allowed_cascade_keys": None}),
        (MODEL, {"relative_time_method": "Cascade_Vertex"}),
        (replace(MODEL, pulse_key=None, allowed_pulse_keys=None), {"pulse_key": "Any"}),
        (replace(MODEL, dom_exclusions=None), {"dom_exclusions": EXCLUSIONS}),
        (replace(MODEL, dom_exclusions=()), {"partial_exclusion": False}),
        (NINE, {"time_bins": (0.0, 1.0)}),
        (NINE, {"cascade_key": "Other"}),
        (QUANTILES, {"relative_time_method": "null"}),
        (REDUCED, {"relative_time_method": "cascade_vertex", "cascade_key": "Other"}),
    ],
)
def test_differences_without_effect(model: DataSettings, changes: dict[str, Any]) -> None:
    assert check_data_settings(model, replace(model, **changes), "file") == ()


@pytest.mark.parametrize(
    ("model", "changes", "key"),
    [
        (replace(MODEL, dom_exclusions=()), {"dom_exclusions": EXCLUSIONS}, "dom_exclusions"),
        (MODEL, {"dom_exclusions": ()}, "dom_exclusions"),
        (replace(MODEL, pulse_key=None), {"pulse_key": "Other"}, "pulse_key"),
        (DataSettings(3, "time_range", "mine"), {"cascade_key": "Other"}, "cascade_key"),
        (DataSettings(3, "time_range", "mine"), {"time_bins": (0.0, 1.0)}, "time_bins"),
        (
            replace(MODEL, relative_time_method="cascade_vertex_random_uniform_minus_plus_1_2"),
            {"cascade_key": "Other"},
            "cascade_key",
        ),
    ],
)
def test_differences_with_effect(model: DataSettings, changes: dict[str, Any], key: str) -> None:
    with pytest.raises(DataError, match=f"  {key} is"):
        check_data_settings(model, replace(model, **changes), "file")


def test_unknown_setting_to_ignore() -> None:
    with pytest.raises(ConfigError, match=r"no data setting 'pulsekey' .* nearest is 'pulse_key'"):
        check_data_settings(MODEL, MODEL, "file", ["pulsekey"])
    assert check_data_settings(MODEL, MODEL, "file", SETTINGS) == ()


# --------------------------------------------------------------------------------------------------
# Features
# --------------------------------------------------------------------------------------------------
PULSES = Pulses(
    2,
    np.array([0, 0, 1]),
    np.array([5, 5, 7]),
    np.array([9000.0, 9100.0, 9050.0]),
    np.array([1.0, 2.0, 0.5]),
    np.ones(3, dtype=np.uint8),
)


def test_features_as_the_settings_ask() -> None:
    found, expected = features_of(PULSES, NINE), dom_features(PULSES)
    np.testing.assert_array_equal(found.hits.features, expected.hits.features)
    np.testing.assert_array_equal(found.time_offset, expected.time_offset)

    edges = (-math.inf, 50.0, math.inf)
    bins = DataSettings(2, "cascade_vertex", "charge_bins", time_bins=edges)
    vertex = np.array([[0.0, 0.0, 0.0, 9000.0]] * 2)
    made = features_of(PULSES, bins, vertex)
    assert made.hits.features.tolist() == [[1.0, 2.0], [0.0, 0.5]]
    wide = features_of(PULSES, replace(bins, num_bins=4), vertex)
    assert wide.hits.features.tolist() == [[1.0, 2.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.0]]
    assert wide.sparse


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (DataSettings(3, None, "autoencoder"), "'autoencoder' cannot be .* network of its encoder"),
        (DataSettings(3, None, "mc_tree_input_data"), "'mc_tree_input_data' cannot be computed"),
        (DataSettings(3, None, "nine"), "unknown data format 'nine'"),
        (DataSettings(9, "cascade_vertex", "pulse_summmary_clipped"), "needs the vertices"),
        (DataSettings(3, None, "charge_bins"), "needs 'time_bins'"),
        (replace(NINE, num_bins=8), "num_bins is 8, but the format .* has 9 features"),
    ],
)
def test_features_that_cannot_be_computed(settings: DataSettings, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        features_of(PULSES, settings)


def test_settings_need_no_torch() -> None:
    code = "import sys, dnn_reco.data.data_settings_file; print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert result.stdout == "False\n"
