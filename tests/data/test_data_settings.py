"""Data settings: their files, the record in event files, and the comparison of model and data."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from event_files import event_ids, random_events, write_events
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from dnn_reco.data.data_settings import (
    SETTINGS,
    DataSettings,
    check_data_settings,
    features_of,
)
from dnn_reco.data.data_settings_file import load_data_settings
from dnn_reco.data.features import dom_features
from dnn_reco.data.file_events import InputTables
from dnn_reco.data.hdf5 import (
    input_tables,
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

WriteYaml = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> WriteYaml:
    path = tmp_path / "settings.yaml"

    def write_text(text: str) -> Path:
        path.write_text(text, encoding="utf-8")
        return path

    return write_text


def segment(**arguments: Any) -> dict[str, Any]:
    standard = {
        "NumDataBins": 9,
        "RelativeTimeMethod": "time_range",
        "DataFormat": "pulse_summmary_clipped",
    }
    return {
        "ModuleClass": "ic3_data.segments.CreateDNNData",
        "ModuleKwargs": standard | arguments,
    }


def creation(*segments: Any) -> str:
    """A config of data creation with these segments, the first in a step of its own."""
    other = {"ModuleClass": "ic3_labels.labels.modules.MCLabelsCascades", "ModuleKwargs": {}}
    steps = [{"tray_segments": [other, *part]} for part in (segments[:1], segments[1:])]
    return json.dumps({"n_runs_per_merge": 1, "processing_steps": [{"gpus": 0}, *steps]})


OLDER = """\
num_data_bins: 3
relative_time_method: cascade_vertex
pulse_data_format: charge_bins
pulse_time_binning: !!python/tuple [-.inf, 0.0, 100, .inf]
DNN_excluded_doms: [!!python/unicode 'BadDomsList']
DNN_partial_exclusion: true
pulse_map_string: !!python/unicode 'SplitPulses'
DNN_cascade_key: Monopod
datasets:
  nue: {DNN_pulse_key: NuePulses, pulse_map_string: other, DNN_cascade_key: Credo}
  numu: {pulse_map_string: SplitPulses}
  nutau: {runs_range: [0, 1]}
"""


# --------------------------------------------------------------------------------------------------
# Files of settings
# --------------------------------------------------------------------------------------------------
def test_tutorial_file() -> None:
    assert load_data_settings(TUTORIAL, TABLES).to_dict() == {
        "num_bins": 9,
        "relative_time_method": "time_range",
        "data_format": "pulse_summmary_clipped",
        "pulse_key": "InIceDSTPulses",
        "dom_exclusions": ["SaturationWindows", "BadDomsList", "CalibrationErrata"],
        "partial_exclusion": True,
        "time_bins": None,
        "time_quantiles": None,
        "autoencoder_settings": None,
        "autoencoder_name": None,
        "cascade_key": "MCCascade",
        "output_key": "dnn_data",
        "allowed_pulse_keys": ["InIceDSTPulses"],
        "allowed_cascade_keys": ["MCCascade"],
        "is_str_dom_format": False,
    }


def test_each_key_of_the_tutorial_file_has_a_comment() -> None:
    before = ""
    for line in TUTORIAL.read_text(encoding="utf-8").splitlines():
        if ":" in line and not line.lstrip().startswith("#"):
            assert before.lstrip().startswith("#"), line
        before = before if line.strip() == "-" else line


def test_segment_that_writes_the_tables(write: WriteYaml) -> None:
    bins = {"OutputKey": "bins", "DataFormat": "charge_bins", "NumDataBins": 3}
    edges = ["-inf", 0, 1.5e3, "inf"]
    vertex = {"RelativeTimeMethod": "cascade_vertex", "CascadeKey": "Monopod"}
    path = write(creation(segment(), segment(**bins, **vertex, TimeBins=edges)))
    assert load_data_settings(path, TABLES) == replace(
        NINE, dom_exclusions=(), allowed_cascade_keys=("MCCascade",)
    )
    assert load_data_settings(path, input_tables("bins")) == DataSettings(
        3,
        "cascade_vertex",
        "charge_bins",
        time_bins=(-math.inf, 0.0, 1500.0, math.inf),
        output_key="bins",
        dom_exclusions=(),
        cascade_key="Monopod",
        allowed_cascade_keys=("Monopod",),
    )


@pytest.mark.parametrize(
    ("segments", "tables", "words"),
    [
        ([segment(), segment()], TABLES, "2 segments CreateDNNData write the tables"),
        ([segment(OutputKey="nine")], TABLES, "OutputKey 'nine'"),
        ([segment()], replace(TABLES, indices="other"), "no segment writes .* 'other'"),
        ([segment(NumDataBins="nine")], TABLES, ":1: 'NumDataBins' is 'nine' .text.; allowed: a"),
        ([segment(TimeBins=[0, "x"])], TABLES, r"'TimeBins\.1' is 'x' .text.; allowed: ascending"),
        ([segment(TimeBins=[3, 1])], TABLES, r"'TimeBins' is \[3, 1\] .*; allowed: ascending"),
        ([segment(PulseKey=3)], TABLES, "'PulseKey' is 3 .number.; allowed: text"),
        ([segment(PartialExclusion=1)], TABLES, "'PartialExclusion' is 1 .number.; allowed: true"),
        ([segment(DataFormat=None)], TABLES, "'DataFormat' is None .empty.; allowed: text"),
        ([segment() | {"ModuleKwargs": None}], TABLES, "'ModuleKwargs' is None .empty.; allowed"),
        ([{"ModuleClass": "ic3_data.segments.Other"}], TABLES, "holds no data settings"),
    ],
)
def test_segments_that_do_not_fit(
    write: WriteYaml, segments: list[Any], tables: InputTables, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        load_data_settings(write(creation(*segments)), tables)
    assert "settings.yaml" in str(error.value)


def test_older_config_with_tags(write: WriteYaml) -> None:
    assert load_data_settings(write(OLDER), TABLES) == DataSettings(
        3,
        "cascade_vertex",
        "charge_bins",
        time_bins=(-math.inf, 0.0, 100.0, math.inf),
        pulse_key="SplitPulses",
        allowed_pulse_keys=("SplitPulses", "NuePulses"),
        dom_exclusions=("BadDomsList",),
        partial_exclusion=True,
        cascade_key="Monopod",
        allowed_cascade_keys=("Monopod", "Credo"),
    )


def test_older_config_without_keys(write: WriteYaml) -> None:
    text = "num_data_bins: 9\nrelative_time_method:\npulse_data_format: pulse_summmary_clipped\n"
    settings = load_data_settings(write(text), TABLES)
    assert settings == replace(NINE, relative_time_method=None, cascade_key=None)


def test_file_of_settings(write: WriteYaml, tmp_path: Path) -> None:
    path = tmp_path / "config_data_settings.yaml"
    with path.open("w") as stream:
        YAML(typ="safe").dump(MODEL.to_dict(), stream)
    assert load_data_settings(path, TABLES) == MODEL
    assert load_data_settings(write(MODEL.to_json()), TABLES) == MODEL
    short = "num_bins: 9\nrelative_time_method: time_range\ndata_format: pulse_summmary_clipped\n"
    assert load_data_settings(write(short), TABLES) == NINE


LAUGHS = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in pairwise("abcdefghij")
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("num_bins: 9\nnum_bins: 9", ":2: the key 'num_bins' is already defined in line 1: remove"),
        ("num_bins: 9\ndata_fromat: x", ":2: there is no .* 'data_fromat'. Did you mean 'data_for"),
        ("num_bins: 9", "'relative_time_method' and 'data_format' must be set"),
        ("num_data_bins: 9\nrelative_time_method:", "'pulse_data_format' must be set"),
        (OLDER.replace("Monopod", "[7]"), r":8: 'DNN_cascade_key' is \[7\] .list.; allowed: text"),
        (OLDER.replace("NuePulses", "3"), ":10: 'DNN_pulse_key' is 3 .number.; allowed: text"),
        ("num_data_bins: 9\ndatasets: [1]", ":2: 'datasets' is .*; allowed: a mapping"),
        ("batch_size: 3", "holds no data settings.*Its first keys: batch_size"),
        ("processing_steps: {a: 1}", ":1: 'processing_steps' is .*; allowed: a list of mappings"),
        ("processing_steps: [{tray_segments: 3}]", ":1: 'tray_segments' is 3 .number.; allowed"),
        ("num_bins: !!python/object/apply:os.system ['exit']", "'relative_time_method' and"),
        ("num_bins: 2001-99-99", "'2001-99-99' is no valid timestamp"),
        ("num_bins: " + "9" * 5000, "is no valid int"),
        ("num_bins: &a [*a]", "this list refers to itself"),
        ("num_bins: " + "[" * 60 + "]" * 60, "is nested too deeply"),
        ("num_bins: " + "[" * 5000, "is nested too deeply"),
        (LAUGHS, "1.1e.05 values, with all aliases filled in"),
        ("\x00\x01", "is not YAML"),
        ("", "is empty"),
        ("- 3", "holds a list, but must hold lines of 'key: value'"),
        ("a: 1\n" + "#" * 2**20, "at most 1,048,576 bytes"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_one_message_for_other_files(write: WriteYaml, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        load_data_settings(write(text), TABLES)
    assert "settings.yaml" in str(error.value)


def test_one_message_for_what_is_no_text_file(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(bytes(range(256)))
    os.mkfifo(tmp_path / "pipe")
    for name, words in [
        ("missing", "does not exist"),
        ("junk", "cannot be read"),
        ("pipe", "must be a regular file"),
        (".", "must be a regular file"),
    ]:
        with pytest.raises(ConfigError, match=words):
            load_data_settings(tmp_path / name, TABLES)


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
    write_event_file(tmp_path / "file.hdf5", event_ids(1), {}, data_settings=MODEL)
    with tables.open_file(tmp_path / "file.hdf5") as file:
        assert DataSettings.from_json(file.root._v_attrs[RECORD]) == MODEL


def test_record_survives_when_its_file_is_written_again(tmp_path: Path) -> None:
    """As an attribute copied by h5py, which stores text of variable length."""
    first, second = tmp_path / "first.hdf5", tmp_path / "second.hdf5"
    write_event_file(first, event_ids(1), {}, data_settings=MODEL)
    with h5py.File(first) as one, h5py.File(second, "w") as other:
        other.attrs[RECORD] = one.attrs[RECORD]
    assert read_record(second) == MODEL
    write_event_file(second, event_ids(1), {}, data_settings=read_record(first))
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
    with pytest.raises(DataError, match=r"the record 'dnn_reco_data_settings' of '.*file\.hdf5'"):
        read_record(path)
    assert len(read_events(path, TABLES, 9).ids) == 2


def test_no_file_to_read_a_record_from(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        read_record(tmp_path / "none.hdf5")


def test_record_that_is_too_long_is_refused_before_a_file_is_written(tmp_path: Path) -> None:
    long = replace(NINE, time_bins=tuple(i + 0.123456 for i in range(9000)))
    with pytest.raises(DataError, match="can hold 60,000"):
        write_event_file(tmp_path / "file.hdf5", event_ids(1), {}, data_settings=long)
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
    assert lines[0].startswith("'events.hdf5' was made with other settings")
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
            DataSettings(3, "cascade_vertex_random_uniform_minus_plus_1_2", "total_dom_charge"),
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
