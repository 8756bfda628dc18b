"""Data formats that are functions of users."""

from dataclasses import replace
from typing import Any

import numpy as np
import own_data_formats
import pytest

from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.file_events import EVENT_ID
from dnn_reco.data_creation.block_inputs import EventInputs, make_inputs
from dnn_reco.data_creation.frame_inputs import frame_input
from dnn_reco.data_creation.own_format import OMKey, own_format
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.i3.objects import OM_KEY, PULSE, OMKeyMap

SETTINGS = DataSettings(
    3,
    "wf_quantile",
    "own_data_formats.charge_and_time",
    pulse_key="Pulses",
    dom_exclusions=("Doms",),
    partial_exclusion=False,
)


def make_frame() -> dict[str, Any]:
    """Two DOMs with pulses, of which one is excluded, and another excluded DOM."""
    items = [(100.0, 1.0, 1.0, 0), (150.0, 2.0, 1.0, 0), (90.0, 3.0, 1.0, 0)]
    keys = np.array([(1, 2, 0), (80, 60, 0)], OM_KEY)
    pulses = OMKeyMap(keys, np.array([2, 1]), np.array(items, PULSE))
    doms = np.array([(80, 60, 0), (2, 1, 0), (2, 62, 0)], OM_KEY)
    return {"Pulses": pulses, "Doms": doms}


def make(settings: DataSettings, frames: list[dict[str, Any]]) -> EventInputs:
    own = own_format(settings.data_format, allow_code=True)
    read = [frame_input(frame, settings, keep_frame=True) for frame in frames]
    return make_inputs(read, settings, np.zeros(len(frames), EVENT_ID), own=own)


def test_features_and_excluded_bins() -> None:
    own_data_formats.calls.clear()
    frames = [{}, make_frame()]
    made = make(SETTINGS, frames)
    called = own_data_formats.calls
    assert [call["om_key"] for call in called] == [(1, 2, 0), (2, 1, 0), (80, 60, 0)]
    assert isinstance(called[0]["om_key"], OMKey) and called[0]["om_key"].om == 2
    assert [call["offsets"] for call in called] == [(0.0, 100.0), (0.0, 0.0), (0.0, 0.0)]
    assert all(call["settings"] == (3, ["Doms"], False) for call in called)
    assert all(call["frame"] is frames[1] for call in called)
    assert made.features.hits.offsets.tolist() == [0, 0, 1]
    assert made.features.hits.dom.tolist() == [1] and made.features.sparse
    assert made.features.hits.features.tolist() == [[3.0, 0.0, 100.0]]
    assert made.exclusions.offsets.tolist() == [0, 0, 2]
    assert made.exclusions.dom.tolist() == [60, 79 * 60 + 59]
    assert made.exclusions.item.tolist() == [-1, -1]
    assert made.exists.tolist() == [False, True] and made.num_excluded.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("two_lists", "must return three lists: .* but returned a tuple"),
        ("no_lists", "but returned a NoneType"),
        ("more_values_than_indices", r"the first two of one length, .* float64 \(2,\), int64 \(1,"),
        ("index_out_of_range", r"bin_indices from 0 to 2 \(num_bins is 3\), but returned \[3\]"),
        ("exclusion_out_of_range", r"bin_exclusions from -1 to 2 .* but returned \[-2\]"),
        ("index_that_is_not_whole", "whole numbers in the last two"),
        ("words", "one of them holds no numbers"),
        ("fails", r"failed for OMKey\(string=1, om=2, pmt=0\): KeyError: 'Absent' \(line \d+ of"),
    ],
)
def test_mistakes_of_functions(name: str, message: str) -> None:
    dotted = f"own_data_formats.{name}"
    with pytest.raises(DataError, match=rf"^{dotted} \(data_format\) .*{message}"):
        make(replace(SETTINGS, data_format=dotted), [make_frame()])


@pytest.mark.parametrize(
    ("name", "allow_code", "message"),
    [
        ("own_data_formats.charge_and_time", False, "is Python code, .* --allow-code"),
        ("own_data_formats.charge_and_tme", True, "the nearest name there is 'charge_and_time'"),
        ("no_such_module.f", True, "no module 'no_such_module' can be imported"),
        ("own_data_formats.too_few_arguments", True, "is called as .*, but its signature is"),
        ("own_data_formats.calls", True, "is a list, not a function"),
        ("autoencoder", True, "'autoencoder' cannot be made: it needs the network of its encoder"),
        ("pulse_summary_clipped", True, r"Did you mean 'pulse_summmary_clipped'\?"),
    ],
)
def test_formats_that_cannot_be_used(name: str, allow_code: bool, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        own_format(name, allow_code)


@pytest.mark.parametrize(
    "name", ["charge_bins", "mc_tree_input_data", "cascade_classification_data"]
)
def test_formats_of_the_package(name: str) -> None:
    assert own_format(name, allow_code=False) is None
