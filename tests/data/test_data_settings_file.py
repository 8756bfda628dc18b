"""Reading data settings from YAML files of three forms."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.data_settings_file import load_data_settings, settings_of_segment
from dnn_reco.data.file_events import InputTables
from dnn_reco.data.hdf5 import input_tables
from dnn_reco.errors import ConfigError

TUTORIAL = Path(__file__).parents[2] / "configs/tutorial/create_training_data.yaml"
TABLES = InputTables()
NINE = DataSettings(9, "time_range", "pulse_summmary_clipped")
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
        ([{"ModuleClass": "ic3_data.segments.Other"}], TABLES, "contains no data settings"),
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
    settings = DataSettings(
        10,
        "cascade_vertex",
        "charge_bins",
        time_bins=(-math.inf, *range(9), math.inf),
        pulse_key="Pulses",
        allowed_pulse_keys=("Pulses", "CleanPulses"),
        dom_exclusions=("SaturationWindows", "BadDomsList"),
        partial_exclusion=True,
        cascade_key=None,
    )
    with path.open("w") as stream:
        YAML(typ="safe").dump(settings.to_dict(), stream)
    assert load_data_settings(path, TABLES) == settings
    assert load_data_settings(write(settings.to_json()), TABLES) == settings
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
        ("batch_size: 3", "contains no data settings.*Its first keys: batch_size"),
        ("processing_steps: {a: 1}", ":1: 'processing_steps' is .*; allowed: a list of mappings"),
        ("processing_steps: [{tray_segments: 3}]", ":1: 'tray_segments' is 3 .number.; allowed"),
        ("num_bins: !!python/object/apply:os.system ['exit']", "'relative_time_method' and"),
        ("num_bins: 2001-99-99", "'2001-99-99' is not a valid timestamp"),
        ("num_bins: " + "9" * 5000, "is not a valid int"),
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
# Arguments of a segment
# --------------------------------------------------------------------------------------------------
NEEDED = {
    "NumDataBins": 3,
    "RelativeTimeMethod": "cascade_vertex",
    "DataFormat": "charge_bins",
    "PulseKey": "InIceDSTPulses",
    "TimeBins": ["-inf", 0, 500.0, "inf"],
}


def test_settings_of_a_segment() -> None:
    all_arguments = {
        **NEEDED,
        "TimeQuantiles": None,
        "AutoencoderSettings": None,
        "AutoencoderEncoderName": None,
        "DOMExclusions": ["BrightDOMs"],
        "PartialExclusion": True,
        "CascadeKey": "Other",
        "OutputKey": "bins",
        "Verbose": False,
    }
    expected = DataSettings(
        3,
        "cascade_vertex",
        "charge_bins",
        time_bins=(-math.inf, 0.0, 500.0, math.inf),
        output_key="bins",
        pulse_key="InIceDSTPulses",
        allowed_pulse_keys=("InIceDSTPulses",),
        dom_exclusions=("BrightDOMs",),
        partial_exclusion=True,
        cascade_key="Other",
        allowed_cascade_keys=("Other",),
    )
    assert settings_of_segment(all_arguments, "config.yaml:7") == expected
    few = settings_of_segment(NEEDED, "config.yaml:7")
    assert few.dom_exclusions == () and few.partial_exclusion is None
    assert (few.output_key, few.cascade_key) == ("dnn_data", "MCCascade")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PulseKeys": "X"}, r"unknown setting 'PulseKeys'. Did you mean 'PulseKey'\?"),
        ({"NumDataBins": "3"}, "'NumDataBins' is '3'"),
        ({"TimeBins": [1.0, 0.0]}, "'TimeBins' is .*ascending"),
        ({"PulseKey": None}, "'PulseKey' must be set"),
        ({"DOMExclusions": "BrightDOMs"}, "'PartialExclusion' must be"),
    ],
)
def test_unusable_arguments_of_a_segment(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^config.yaml:7: .*{message}"):
        settings_of_segment({**NEEDED, **changes}, "config.yaml:7")


@pytest.mark.parametrize("name", ["NumDataBins", "RelativeTimeMethod", "DataFormat"])
def test_arguments_that_a_segment_needs(name: str) -> None:
    arguments = {key: value for key, value in NEEDED.items() if key != name}
    with pytest.raises(ConfigError, match=f"config.yaml:7: '{name}' must be set"):
        settings_of_segment(arguments, "config.yaml:7")
