"""Labels, misc data and filters: which events a file gives, and with which truth."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import user_functions
from event_files import LABEL_TABLE, Events, random_events, write_events
from make_store import CONFIG, column, make_store, read_all
from numpy.typing import NDArray

from dnn_reco.data import records
from dnn_reco.data.build import open_events
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.hdf5 import InputTables
from dnn_reco.data.hits import Hits
from dnn_reco.detector.geometry import string_and_om
from dnn_reco.detector.grid import DEEPCORE_SHAPE, MAIN_SHAPE
from dnn_reco.errors import ConfigError, DataError

TIME_OFFSET = InputTables().time_offset


def open_one(
    folder: Path,
    events: Events,
    config: Mapping[str, Any] = {},
    exists: dict[str, np.ndarray] | None = None,
    **settings: Any,
) -> EventDataset:
    num_bins = events.features.shape[1]
    source = write_events(folder / "e.hdf5", events, exists=exists)
    store = make_store(folder / "store", {**CONFIG, **config}, num_bins=num_bins, **settings)
    return open_events(store, [source], 1)


def with_label(events: Events, **labels: Any) -> Events:
    return replace(events, labels={**events.labels, **labels})


def dropped(events: EventDataset) -> dict[str, int]:
    (shard,) = events.shards
    return {reason: count for reason, count in shard.dropped.items() if count}


# --------------------------------------------------------------------------------------------------
# Which events
# --------------------------------------------------------------------------------------------------
def test_events_without_object_are_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events = random_events(1, 6)
    exists = {
        TIME_OFFSET: np.array([1, 0, 1, 1, 1, 1], dtype=bool),
        LABEL_TABLE: np.array([1, 0, 0, 1, 1, 1], dtype=bool),
        "MCPrimary": np.array([1, 1, 1, 0, 1, 1], dtype=bool),  # a missing misc value drops none
    }
    with caplog.at_level(logging.INFO):
        read = open_one(tmp_path, events, exists=exists)
    assert read_all(read).ids["Event"].tolist() == [0, 3, 4, 5]
    assert np.isnan(column(read, "MCPrimary_energy")).tolist() == [False, True, False, False]
    assert "Dropped 2 of 6 events: 2 without object (exists = 0)." in caplog.text


def test_fill_values_do_not_bring_back_events_without_object(tmp_path: Path) -> None:
    exists = {LABEL_TABLE: np.array([1, 0, 1], dtype=bool)}
    read = open_one(
        tmp_path,
        random_events(1, 3),
        exists=exists,
        nan_fill_value=1.0,
        label_fill_values=(("VertexX", 0.0),),
    )
    assert read_all(read).ids["Event"].tolist() == [0, 2]


def test_events_that_are_not_finite_are_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events = random_events(1, 8)
    vertex = events.labels["VertexX"].copy()
    vertex[2], vertex[3] = np.nan, -np.inf
    offset = events.time_offset.copy()
    offset[4] = np.nan
    primary = {**events.primary, "energy": np.full(8, np.nan)}
    events = replace(with_label(events, VertexX=vertex), time_offset=offset, primary=primary)
    events.features[events.offsets[0], 3] = np.nan
    events.features[events.offsets[7] - 1, 8] = np.inf  # the last hit of event 6
    with caplog.at_level(logging.INFO):
        read = open_one(tmp_path, events)
    assert read_all(read).ids["Event"].tolist() == [1, 5, 7]
    assert dropped(read) == {
        "without object (exists = 0)": 1,
        "with non-finite inputs": 2,
        "with non-finite labels": 2,
    }
    assert "2 with non-finite inputs, 2 with non-finite labels." in caplog.text


def test_what_is_too_large_for_the_precision_is_not_finite(tmp_path: Path) -> None:
    energy = np.array([1.0, 1e39, 3.0])
    events = with_label(random_events(1, 3), EnergyVisible=energy)
    assert column(open_one(tmp_path, events), "EnergyVisible").tolist() == [1.0, 3.0]
    double = open_one(tmp_path, events, dtype="float64")
    assert column(double, "EnergyVisible").tolist() == energy.tolist()


def test_nan_fill_value_keeps_events(tmp_path: Path) -> None:
    events = random_events(1, 4)
    nan = np.array([1.0, np.nan, np.inf, 2.0])
    events = replace(
        with_label(events, VertexX=nan, VertexTime=events.time_offset + nan),
        primary={**events.primary, "energy": nan},
    )
    read = open_one(tmp_path, events, nan_fill_value=-5.0)
    for name in ("VertexX", "VertexTime", "MCPrimary_energy"):
        assert column(read, name).tolist() == [1.0, -5.0, -5.0, 2.0]


def test_the_built_in_filter_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    events = random_events(1, 40)
    energy, pdg = events.primary["energy"], events.primary["pdg_encoding"]
    cut = float(np.median(energy))
    config = {
        "filter_less_than": {"MCPrimary_energy": cut},
        "filter_apply_on_pdg_encodings": [12, -12],
    }
    kept = (energy < cut) | ~np.isin(pdg, [12, -12])
    with caplog.at_level(logging.INFO):
        read = open_one(tmp_path, events, config)
    assert read_all(read).ids["Event"].tolist() == np.flatnonzero(kept).tolist()
    assert f"Dropped {(~kept).sum()} of 40 events: {(~kept).sum()} rejected" in caplog.text


def test_a_filter_on_what_is_not_loaded_is_an_error_of_the_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"filter_equal.*MCPrimary_type.*MCPrimary_energy"):
        open_one(tmp_path, random_events(1, 4), {"filter_equal": {"MCPrimary_type": 1}})


def test_a_loader_may_assign_to_its_config(tmp_path: Path) -> None:
    """As functions copied from the reference do; the next file sees the config as it was."""
    files = [
        write_events(tmp_path / f"{run}.hdf5", random_events(run, 3, run=run)) for run in range(2)
    ]
    for factor, name in ((2.0, "factor_4_of_2"), (3.0, "factor_6_of_2")):
        config = {**CONFIG, "my_factor": factor, "my_list": [1]}
        misc = "user_functions.assigns_to_config"
        store = make_store(tmp_path / "store", config, num_bins=9, misc_class=misc)
        # the names would differ from file to file, or be those that the store holds already
        assert open_events(store, files, 1).names.misc == (name,)


# --------------------------------------------------------------------------------------------------
# Which truth
# --------------------------------------------------------------------------------------------------
def test_the_order_of_the_steps(tmp_path: Path) -> None:
    """Fill values, smoothing, filter, relative times: the filter sees what is done before it."""
    events = random_events(1, 4)
    score = np.array([1.0, np.nan, 0.0, 0.5])
    time = events.time_offset + np.arange(1.0, 5.0)
    events = replace(
        with_label(events, p_starting=score, VertexTime=time),
        primary={"start_time": time, "energy": score},
    )
    read = open_one(
        tmp_path,
        events,
        {"misc_load_dict": {"MCPrimary": ["start_time", "energy"]}},
        filter_class="user_functions.note_arguments",
        label_fill_values=(("p_starting", 1.0), ("no such label", 3.0)),
        pid_keys=("p_starting", "no such label either"),
        pid_smoothing=0.2,
        relative_time_pattern="time",
    )
    seen = user_functions.seen
    smooth = [0.9, 0.9, 0.1, 0.5]  # y (1 - s) + s / 2, of the filled labels
    at = seen["data_handler"].get_label_index("p_starting")
    np.testing.assert_allclose(seen["labels"][:, at], smooth)
    at = seen["data_handler"].label_name_dict["VertexTime"]
    np.testing.assert_array_equal(seen["labels"][:, at], time)
    assert seen["data_handler"].misc_names == ["MCPrimary_energy", "MCPrimary_start_time"]
    at = seen["data_handler"].get_misc_index("MCPrimary_start_time")
    np.testing.assert_array_equal(seen["misc_data"][:, at], time)
    np.testing.assert_array_equal(seen["misc_data"][:, 0], score)
    np.testing.assert_array_equal(seen["time_range_start"], events.time_offset)

    np.testing.assert_allclose(column(read, "p_starting"), smooth, rtol=1e-7)
    for name in ("VertexTime", "MCPrimary_start_time"):
        assert column(read, name).tolist() == [1.0, 2.0, 3.0, 4.0]


def test_relative_times_by_key_only(tmp_path: Path) -> None:
    events = random_events(1, 4)
    events = with_label(events, time_of_day=events.time_offset)
    read = open_one(tmp_path, events)
    np.testing.assert_array_equal(column(read, "time_of_day"), events.time_offset)
    expected = events.labels["VertexTime"] - events.time_offset
    np.testing.assert_array_equal(column(read, "VertexTime"), expected.astype(np.float32))


# --------------------------------------------------------------------------------------------------
# Users' functions
# --------------------------------------------------------------------------------------------------
def test_a_loader_with_pandas(tmp_path: Path) -> None:
    pytest.importorskip("tables")
    pytest.importorskip("pandas")
    events = random_events(1, 5)
    label_class = "user_functions.pandas_labels"
    read = open_one(tmp_path, events, {"my_prefix": "Primary"}, label_class=label_class)
    assert read.names.labels == tuple(n for n in events.labels if n.startswith("Primary"))
    for name in read.names.labels:
        np.testing.assert_array_equal(column(read, name), events.labels[name].astype(np.float32))


def test_all_three_functions_of_a_user(tmp_path: Path) -> None:
    events = random_events(1, 40)
    energy = events.labels["EnergyVisible"]
    read = open_one(
        tmp_path,
        events,
        misc_class="user_functions.my_misc",
        filter_class="user_functions.energy_filter",
    )
    expected = energy[energy > 200.0].astype(np.float32)
    assert 0 < len(expected) < 40
    np.testing.assert_array_equal(column(read, "EnergyVisible"), expected)
    assert column(read, "seven").tolist() == [7.0] * len(expected)


def test_what_a_loader_keeps_for_itself_stays_as_it_is(tmp_path: Path) -> None:
    before = user_functions.CACHED.copy()
    events = random_events(1, 4)
    read = open_one(
        tmp_path, events, misc_class="user_functions.cached_misc", relative_time_pattern="time"
    )
    np.testing.assert_array_equal(user_functions.CACHED, before)
    expected = before[:, 0] - events.time_offset
    np.testing.assert_array_equal(column(read, "a_time"), expected)


def test_without_misc_values_a_filter_gets_none(tmp_path: Path) -> None:
    open_one(
        tmp_path,
        random_events(1, 4),
        {"misc_load_dict": None},
        filter_class="user_functions.note_arguments",
    )
    assert user_functions.seen["misc_data"] is None


def test_inputs_are_dense_only_when_a_filter_touches_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    dense_cells = records.dense_cells

    def noting(hits: Hits, init_values: NDArray[np.float64]) -> Any:
        made.append(hits.num_events)
        return dense_cells(hits, init_values)

    monkeypatch.setattr(records, "dense_cells", noting)
    open_one(tmp_path, random_events(1, 4), filter_class="user_functions.note_arguments")
    x_ic78, x_deepcore = user_functions.seen["x_ic78"], user_functions.seen["x_deepcore"]
    assert len(x_ic78) == 4
    assert x_ic78.shape == (4, *MAIN_SHAPE, 9)
    assert x_deepcore.shape == (4, *DEEPCORE_SHAPE, 9)
    assert made == []
    assert np.asarray(x_ic78).shape == x_ic78.shape
    assert np.asarray(x_deepcore).shape == x_deepcore.shape
    assert made == [4]  # once for both


def test_dense_inputs_of_a_filter(tmp_path: Path) -> None:
    events = random_events(1, 4, num_bins=3, mean_hits=900.0, empty_fraction=0.3)
    init = np.array([-1.0, 0.0, 5.0], dtype=np.float32)
    open_one(
        tmp_path,
        events,
        filter_class="user_functions.note_arguments",
        init_values=init.tolist(),
    )
    deepcore = np.tile(init, (4, *DEEPCORE_SHAPE, 1))
    event = np.repeat(np.arange(4), np.diff(events.offsets))
    string, om = string_and_om(events.dom)
    for hit in np.flatnonzero(string > 78):
        deepcore[event[hit], string[hit] - 79, om[hit] - 1] = events.features[hit]
    x_ic78, x_deepcore = user_functions.seen["x_ic78"], user_functions.seen["x_deepcore"]
    np.testing.assert_array_equal(x_deepcore, deepcore)
    at_36 = (string == 36) & (event == event[0])
    assert at_36.any()
    for hit in np.flatnonzero(at_36):  # string 36 is the middle: a = b = 0
        assert x_ic78[event[0], 4, 5, om[hit] - 1].tolist() == events.features[hit].tolist()

    # Whatever is done with arrays
    assert (x_deepcore > 2.0).sum() == (deepcore > 2.0).sum()
    assert x_deepcore.dtype == np.float32
    assert x_deepcore.max() == deepcore.max()
    np.testing.assert_array_equal(1.0 - x_deepcore[..., 0], 1.0 - deepcore[..., 0])
    np.testing.assert_array_equal(x_deepcore * x_deepcore, deepcore**2)
    np.testing.assert_array_equal(np.sum(x_deepcore, axis=(1, 2)), deepcore.sum(axis=(1, 2)))
    np.testing.assert_array_equal(np.log(2.0 + x_deepcore), np.log(2.0 + deepcore))
    assert len(x_ic78.reshape(4, -1)) == 4


def test_a_filter_on_the_inputs(tmp_path: Path) -> None:
    events = random_events(1, 30, mean_hits=200.0)
    string, _ = string_and_om(events.dom)
    event = np.repeat(np.arange(30), np.diff(events.offsets))
    charge = np.bincount(event, weights=events.features[:, 0] * (string > 78), minlength=30)
    config = {"my_charge": float(np.median(charge))}
    read = open_one(tmp_path, events, config, filter_class="user_functions.deepcore_filter")
    kept = np.flatnonzero(charge > config["my_charge"])
    assert read_all(read).ids["Event"].tolist() == kept.tolist()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"label_class": "user_functions.one_row_short"},
            r"one_row_short \(data_handler_label_class\).*shape \(3, 1\).*'.*e\.hdf5'.*4 events",
        ),
        ({"label_class": "user_functions.too_many_names"}, r"shape \(4, 1\) with 2 names"),
        ({"label_class": "user_functions.no_names"}, r"no_names.*array of numbers and a list"),
        ({"label_class": "user_functions.words"}, r"array of numbers.*'large'"),
        ({"misc_class": "user_functions.one_row_short"}, r"\(data_handler_misc_class\) returned"),
        (
            {"filter_class": "user_functions.scalar_filter"},
            r"scalar_filter \(data_handler_filter_class\).*shape \(\) for the 4 events",
        ),
        (
            {"filter_class": "user_functions.numbers_filter"},
            r"numbers_filter \(data_handler_filter_class\).*other values than True and False",
        ),
        (
            {"label_class": "user_functions.fails"},
            r"fails \(data_handler_label_class\).*e\.hdf5.*KeyError.*line \d+ of '.*user_fun",
        ),
    ],
)
def test_error_in_a_users_function_is_reported(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        open_one(tmp_path, random_events(1, 4), **settings)


def test_files_with_other_columns_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sources = [
        write_events(tmp_path / f"{name}.hdf5", random_events(i, 4, run=i))
        for i, name in enumerate(("first", "second"))
    ]
    store = make_store(tmp_path / "store", label_class="user_functions.name_of_file")
    events = open_events(store, sources, 1)
    assert set(read_all(events).ids["Run"]) == {0}
    assert "['second']" in caplog.text
    assert "before had ['first']" in caplog.text
