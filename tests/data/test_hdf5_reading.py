"""Reading hits: against the reference's numbers, a slow reader written here, and broken files."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from event_files import Events, event_ids, random_events, write_events
from fuzz_hdf5 import count_outcomes, read_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dnn_reco.data.file_events import FileEvents
from dnn_reco.data.hdf5 import (
    InputTables,
    count_events,
    list_tables,
    read_columns,
    read_events,
    read_table,
)
from dnn_reco.data.hdf5.detect import detect_input_tables
from dnn_reco.data.hdf5.inflate import inflate
from dnn_reco.detector.grid import DOM_CELL, NUM_CELLS, deepcore, main_array
from dnn_reco.errors import ConfigError, DataError

TABLES = InputTables()


def tables_named(prefix: str) -> InputTables:
    return InputTables(
        f"{prefix}_bin_values", f"{prefix}_bin_indices", f"{prefix}_global_time_offset"
    )


FORMATS = {
    "inputs9": (tables_named("dnn_data_inputs9_InIceDSTPulses"), 9),
    "inputs3": (tables_named("dnn_data_inputs3_InIceDSTPulses"), 3),
    "charge_bins": (tables_named("dnn_data__charge_bins"), 10),
}


def dense(events: FileEvents) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Main array [n, 10, 10, 60, F] and DeepCore [n, 8, 60, F]."""
    cells = np.zeros((len(events.ids), NUM_CELLS, events.hits.features.shape[1]), np.float32)
    event = np.repeat(np.arange(len(events.ids)), np.diff(events.hits.offsets))
    cells[event, DOM_CELL[events.hits.dom]] = events.hits.features
    return main_array(cells), deepcore(cells)


def slow_read(
    path: Path, tables: InputTables, num_bins: int, num_events: int, init: float = 0.0
) -> list[dict[int, NDArray[np.float64]]]:
    """For each event: DOM index -> its bins. One row at a time, joined by the event ids."""
    columns = ("Run", "Event", "SubEvent", "SubEventStream")
    with h5py.File(path, "r") as file:
        wanted = [tuple(row[list(columns)]) for row in file[tables.time_offset][:num_events]]
        events: dict[Any, dict[int, NDArray[np.float64]]] = {ids: {} for ids in wanted}
        values, indices = file[tables.values][()], file[tables.indices][()]
        near = np.isin(values["Event"], [ids[1] for ids in wanted])
        for value, index in zip(values[near], indices[near], strict=True):
            doms = events.get(tuple(value[list(columns)]))
            if doms is None or not (1 <= value["string"] <= 86 and 1 <= value["om"] <= 60):
                continue
            dom = 60 * (int(value["string"]) - 1) + int(value["om"]) - 1
            doms.setdefault(dom, np.full(num_bins, init))[index["item"]] = value["item"]
    return [events[ids] for ids in wanted]


def assert_same_as_slow(events: FileEvents, slow: list[dict[int, NDArray[np.float64]]]) -> None:
    for number, doms in enumerate(slow):
        part = slice(events.hits.offsets[number], events.hits.offsets[number + 1])
        assert events.hits.dom[part].tolist() == sorted(doms)
        expected = np.array([doms[dom] for dom in sorted(doms)]).reshape(len(doms), -1)
        if len(doms):
            np.testing.assert_array_equal(
                events.hits.features[part], expected.astype(events.hits.features.dtype)
            )


def assert_same_events(one: FileEvents, other: FileEvents | Events) -> None:
    for name in ("ids", "time_offset"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for name in ("offsets", "dom", "features"):
        np.testing.assert_array_equal(
            getattr(one.hits, name), getattr(other.hits, name), err_msg=name
        )


def edit(path: Path, name: str, change: Callable[[NDArray[Any]], NDArray[Any] | None]) -> None:
    """Replace the rows of a table by what `change` makes of them."""
    with h5py.File(path, "r+") as file:
        rows = file[name][()]
        changed = change(rows)
        rows = rows if changed is None else changed
        del file[name]
        file.create_dataset(
            name, data=rows, chunks=(100,), compression="gzip", shuffle=True, maxshape=(None,)
        )


def drop_index(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["__I3Index__"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.hdf5"


# --------------------------------------------------------------------------------------------------
# Real events
# --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["inputs9", "inputs3"])
def test_dense_inputs_equal_the_reference(name: str, golden_network: Path, numu_file: Path) -> None:
    golden = np.load(golden_network / f"data_numu_medium_{name}.npz")
    events = read_events(numu_file, *FORMATS[name])
    x_ic78, x_deepcore = dense(events)
    np.testing.assert_array_equal(x_ic78, golden["x_ic78"])
    np.testing.assert_array_equal(x_deepcore, golden["x_deepcore"])
    np.testing.assert_array_equal(events.time_offset, golden["time_offset"])
    for column, ids in zip(events.ids.dtype.names, golden["event_ids"].T, strict=True):
        np.testing.assert_array_equal(events.ids[column], ids)
    assert events.exists.all()
    assert not events.skipped


def test_sparse_inputs_equal_the_reference(golden_network: Path, numu_file: Path) -> None:
    golden = np.load(golden_network / "data_numu_medium_charge_bins.npz")
    parts = dense(read_events(numu_file, *FORMATS["charge_bins"]))
    for part, name in zip(parts, ("ic78", "deepcore"), strict=True):
        expected = np.zeros(golden[f"{name}_shape"], np.float32)
        expected[tuple(golden[f"{name}_idx"].T)] = golden[f"{name}_val"]
        np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize("name", list(FORMATS))
@pytest.mark.parametrize("file", ["NuMu_low_00000002", "NuTau_low_00000002"])
def test_real_files_equal_slow_reader(name: str, file: str, shared_data: Path) -> None:
    source = shared_data / "real_nugen" / f"{file}.hdf5"
    tables, num_bins = FORMATS[name]
    events = read_events(source, tables, num_bins, init_values=-1.0, dtype=np.float64)
    slow = slow_read(source, tables, num_bins, len(events.ids), init=-1.0)
    assert_same_as_slow(events, slow)


def test_large_file_equals_slow_reader(shared_data: Path) -> None:
    source = shared_data / "ppc" / "hdf5" / "PPC_run11_0003.hdf5"
    events = read_events(source, TABLES, 9, threads=2)
    assert_same_as_slow(events, slow_read(source, TABLES, 9, num_events=20))
    assert len(events.ids) == 1000
    # Every row is in one hit: none is lost, whatever event it belongs to.
    assert 9 * len(events.hits.dom) == len(read_table(source, TABLES.values))


# --------------------------------------------------------------------------------------------------
# What was written is read
# --------------------------------------------------------------------------------------------------
@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    num_events=st.integers(0, 12),
    num_bins=st.integers(1, 12),
    mean_hits=st.floats(1, 200),
    sparse=st.booleans(),
    has_index=st.booleans(),
    zeros=st.floats(0, 1),
    threads=st.integers(1, 2),
)
def test_random_events_survive(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    num_events: int,
    num_bins: int,
    mean_hits: float,
    sparse: bool,
    has_index: bool,
    zeros: float,
    threads: int,
) -> None:
    events = random_events(seed, num_events, num_bins, mean_hits, empty_fraction=0.2)
    rng = np.random.default_rng(seed)
    events.features[rng.random(events.features.shape) < zeros] = 0.0
    events.features[:, 0] = 1.0  # a hit without any filled bin is not in a sparse table
    events.ids["SubEventStream"] = rng.integers(0, 4, num_events)
    events.ids["Run"] = rng.integers(0, 2**32, num_events)
    path = write_events(tmp_path_factory.mktemp("random") / "e.hdf5", events, sparse=sparse)
    if not has_index:
        drop_index(path)
    read = read_events(path, TABLES, num_bins, threads=threads)
    assert_same_events(read, events)
    assert read.hits.dom.dtype == np.uint16
    assert read.hits.features.dtype == np.float32
    assert count_events(path, TABLES.time_offset) == num_events


def test_bins_that_are_not_listed_keep_their_initial_value(path: Path) -> None:
    events = random_events(1, 5, num_bins=4)
    events.features[::2, 2] = 0.0
    write_events(path, events, sparse=True)
    read = read_events(path, TABLES, 5, init_values=[9.0, 8.0, 7.0, 6.0, 5.0])
    np.testing.assert_array_equal(read.hits.features[::2, 2], 7.0)
    np.testing.assert_array_equal(read.hits.features[1::2, :4], events.features[1::2])
    np.testing.assert_array_equal(read.hits.features[:, 4], 5.0)


def test_initial_values_of_the_wrong_length(path: Path) -> None:
    write_events(path, random_events(1, 2, num_bins=4))
    with pytest.raises(ConfigError, match=r"DOM_init_values.*4 bins.*\[3\]"):
        read_events(path, TABLES, 4, init_values=[1.0, 2.0, 3.0])


def test_float64_and_values_that_are_not_finite_are_kept(path: Path) -> None:
    events = random_events(1, 3, num_bins=3)
    events.features[0] = np.nan, np.inf, 1e30
    write_events(path, events)
    edit(path, TABLES.values, lambda rows: rows["item"].__setitem__(3, 1e300))
    read = read_events(path, TABLES, 3, dtype=np.float64)
    assert read.hits.features.dtype == np.float64
    np.testing.assert_array_equal(read.hits.features[0], events.features[0])
    assert read.hits.features[1, 0] == 1e300
    assert read_events(path, TABLES, 3).hits.features[1, 0] == np.inf


@pytest.mark.parametrize("has_index", [True, False])
def test_four_columns_identify_an_event(path: Path, has_index: bool) -> None:
    events = random_events(3, 4, num_bins=2)
    for column in ("Run", "Event", "SubEvent", "SubEventStream"):
        events.ids[column] = 0
    events.ids[["Run", "Event", "SubEvent", "SubEventStream"]] = np.array(
        [(1, 7, 0, 3), (1, 7, 1, 3), (1, 7, 0, 1), (2, 7, 0, 3)], dtype=events.ids.dtype
    )
    write_events(path, events)
    if not has_index:
        drop_index(path)
    assert_same_events(read_events(path, TABLES, 2), events)


STORAGE: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "chunked only": {"chunks": (77,)},
    "deflate only": {"chunks": (77,), "compression": "gzip"},
    "lzf": {"chunks": (77,), "compression": "lzf", "shuffle": True},
    "checksum": {"chunks": (77,), "compression": "gzip", "shuffle": True, "fletcher32": True},
    "shuffle and deflate": {"chunks": (77,), "compression": "gzip", "shuffle": True},
    "one chunk": {
        "chunks": (100_000,),
        "compression": "gzip",
        "shuffle": True,
        "maxshape": (None,),
    },
}


@pytest.mark.parametrize("storage", list(STORAGE))
@pytest.mark.parametrize("sparse", [True, False])
def test_every_storage_layout_reads_the_same(path: Path, storage: str, sparse: bool) -> None:
    events = random_events(5, 30, num_bins=3)
    write_events(path, events, sparse=sparse)
    with h5py.File(path, "r+") as file:
        for name in (TABLES.values, TABLES.indices):
            rows = file[name][()]
            del file[name]
            file.create_dataset(name, data=rows, **STORAGE[storage])
        del file["__I3Index__"]
    assert_same_events(read_events(path, TABLES, 3, threads=2), events)


def test_byte_order_of_other_machines(path: Path) -> None:
    events = random_events(5, 10, num_bins=3)
    write_events(path, events)
    edit(path, TABLES.values, lambda rows: rows.astype(rows.dtype.newbyteorder(">")))
    assert_same_events(read_events(path, TABLES, 3), events)


def test_chunk_that_was_stored_without_its_filters(path: Path) -> None:
    """HDF5 leaves a filter out where it would make a chunk larger."""
    events = random_events(5, 60, num_bins=9, mean_hits=60)
    write_events(path, events)
    with h5py.File(path, "r+") as file:
        table = file[TABLES.values]
        chunk = np.zeros(table.chunks[0], dtype=table.dtype)
        chunk[:] = table[: len(chunk)]
        table.id.write_direct_chunk((0,), chunk.tobytes(), filter_mask=0b11)
    assert_same_events(read_events(path, TABLES, 9), events)


def test_large_numbers_in_the_columns(path: Path) -> None:
    events = random_events(5, 3, num_bins=2, mean_hits=5)
    write_events(path, events)

    def change(rows: NDArray[Any]) -> None:
        rows["string"][:2] = -65536 * 255 + 1  # all bytes but the lowest are set, too
        rows["om"][2:4] = 2**31 + 1

    for name in (TABLES.values, TABLES.indices):
        edit(path, name, change)
    read = read_events(path, TABLES, 2)
    assert read.skipped == {"rows of unknown DOMs": 4}
    np.testing.assert_array_equal(read.hits.features, events.features[2:])


# --------------------------------------------------------------------------------------------------
# Rows that do not belong
# --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("sparse", [True, False])
def test_rows_of_other_doms_are_skipped_and_counted(path: Path, sparse: bool) -> None:
    events = random_events(2, 4, num_bins=3, mean_hits=6)
    write_events(path, events, sparse=sparse)

    def change(rows: NDArray[Any]) -> None:
        rows["om"][0:3] = 61
        rows["om"][3:6] = 64
        rows["om"][6:9] = 65
        rows["string"][9:12] = 87
        rows["exists"][12:15] = 0

    for name in (TABLES.values, TABLES.indices):
        edit(path, name, change)
    read = read_events(path, TABLES, 3)
    assert read.skipped == {
        "rows of surface tanks": 6,
        "rows of unknown DOMs": 6,
        "rows without object": 3,
    }
    np.testing.assert_array_equal(read.hits.features, events.features[5:])
    np.testing.assert_array_equal(read.hits.dom, events.dom[5:])
    assert read.hits.offsets[-1] == len(events.dom) - 5


@pytest.mark.parametrize("sparse", [True, False])
def test_rows_of_events_without_time_offset_are_skipped(path: Path, sparse: bool) -> None:
    events = random_events(2, 5, num_bins=3)
    write_events(path, events, sparse=sparse)
    edit(path, TABLES.time_offset, lambda rows: np.delete(rows, 2))
    read = read_events(path, TABLES, 3)
    first, last = events.offsets[2:4]
    assert read.skipped == {"rows of events not in the time-offset table": 3 * (last - first)}
    np.testing.assert_array_equal(read.ids, np.delete(events.ids, 2))
    np.testing.assert_array_equal(read.hits.dom, np.delete(events.dom, np.s_[first:last]))
    np.testing.assert_array_equal(
        read.hits.features, np.delete(events.features, np.s_[first:last], axis=0)
    )


def test_rows_follow_the_order_of_the_time_offset_table(path: Path) -> None:
    events = random_events(2, 5, num_bins=3, empty_fraction=0.2)
    write_events(path, events)
    edit(path, TABLES.time_offset, lambda rows: rows[::-1])
    read = read_events(path, TABLES, 3)
    np.testing.assert_array_equal(read.ids, events.ids[::-1])
    for number in range(5):
        ours = slice(*read.hits.offsets[number : number + 2])
        theirs = slice(*events.offsets[4 - number : 6 - number])
        np.testing.assert_array_equal(read.hits.dom[ours], events.dom[theirs])
        np.testing.assert_array_equal(read.hits.features[ours], events.features[theirs])


def test_negative_bins_are_skipped_and_counted(path: Path) -> None:
    events = random_events(2, 4, num_bins=3)
    write_events(path, events)
    edit(path, TABLES.indices, lambda rows: rows["item"].__setitem__(1, -1))
    read = read_events(path, TABLES, 3, init_values=-7.0)
    assert read.skipped == {"rows of negative bins": 1}
    expected = events.features.copy()
    expected[0, 1] = -7.0
    np.testing.assert_array_equal(read.hits.features, expected)


@pytest.mark.parametrize("sparse", [True, False])
def test_too_few_bins_in_the_config(path: Path, sparse: bool) -> None:
    write_events(path, random_events(2, 4, num_bins=5), sparse=sparse)
    with pytest.raises(DataError, match=r"bin 4.*data_handler_num_bins is 3.*at least 5"):
        read_events(path, TABLES, 3)


@pytest.mark.parametrize("sparse", [True, False])
def test_more_bins_in_the_config_than_any_dom_lists(
    path: Path, sparse: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """So do tables of another data format; few DOMs may have the same bins filled by chance."""
    for num_events, warns in ((1, False), (40, True)):
        caplog.clear()
        write_events(path, random_events(2, num_events, num_bins=3), sparse=sparse)
        assert read_events(path, TABLES, 9).hits.num_features == 9
        text = "lists 3 features, but the network reads 9 (data_handler_num_bins)"
        assert (text in caplog.text) == warns
    caplog.clear()
    read_events(path, TABLES, 3)
    assert not caplog.text


def test_two_charge_bins_a_dom_are_not_taken_for_all_bins(path: Path) -> None:
    """Each DOM lists two of ten bins: the list positions 0 and 1 are not the bins."""
    events = random_events(2, 20, num_bins=10)
    events.features[:] = 0.0
    events.features[:, [3, 8]] = 1.5
    write_events(path, events, sparse=True)
    with pytest.raises(DataError, match="at least 9"):
        read_events(path, TABLES, 2)
    assert_same_events(read_events(path, TABLES, 10), events)


def test_bins_listed_in_another_order(path: Path) -> None:
    events = random_events(2, 20, num_bins=3)
    write_events(path, events)
    edit(path, TABLES.indices, lambda rows: rows["item"].__setitem__(np.s_[:], 2 - rows["item"]))
    read = read_events(path, TABLES, 3)
    np.testing.assert_array_equal(read.hits.features, events.features[:, ::-1])


@pytest.mark.parametrize("has_index", [True, False])
def test_dom_listed_twice(path: Path, has_index: bool) -> None:
    """The rows of a DOM are merged, and of a bin that is listed twice the last one counts."""
    events = random_events(2, 2, num_bins=3, mean_hits=4)
    events.offsets[:] = 0, 3, 5
    doubled = Events(
        ids=events.ids,
        time_offset=events.time_offset,
        offsets=events.offsets,
        dom=np.array([700, 20, 700, 20, 5], np.uint16),
        features=np.arange(15, dtype=np.float32).reshape(5, 3) + 1,
    )
    doubled.features[2, 1] = 0.0  # not listed in the sparse table
    for sparse, merged in ((False, [7, 0, 9]), (True, [7, 2, 9])):
        write_events(path, doubled, sparse=sparse)
        if not has_index:
            drop_index(path)
        read = read_events(path, TABLES, 3)
        assert read.hits.offsets.tolist() == [0, 2, 4]
        assert read.hits.dom.tolist() == [20, 700, 5, 20]
        assert read.hits.features.tolist() == [[4, 5, 6], merged, [13, 14, 15], [10, 11, 12]]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dom", [[21, 20], [20, 21], [5159, 5158], [1, 0]])
def test_neighbouring_doms_in_either_order(path: Path, sparse: bool, dom: list[int]) -> None:
    events = random_events(2, 1, num_bins=3, mean_hits=4)
    features = np.arange(6, dtype=np.float32).reshape(2, 3) + 1
    two = replace(
        events,
        offsets=np.array([0, 2]),
        dom=np.array(dom, np.uint16),
        features=features,
    )
    write_events(path, two, sparse=sparse)
    drop_index(path)
    read = read_events(path, TABLES, 3)
    assert read.hits.dom.tolist() == sorted(dom)
    assert read.hits.features.tolist() == features[np.argsort(dom)].tolist()


def test_rows_of_an_event_need_not_be_together(path: Path) -> None:
    events = random_events(4, 6, num_bins=3)
    write_events(path, events)
    shuffled = np.random.default_rng(0).permutation(3 * len(events.dom))
    for name in (TABLES.values, TABLES.indices):
        edit(path, name, lambda rows: rows[shuffled])
    drop_index(path)
    assert_same_events(read_events(path, TABLES, 3), events)


def test_row_without_time_offset_object(path: Path) -> None:
    events = random_events(4, 3, num_bins=3)
    write_events(path, events, exists={TABLES.time_offset: np.array([True, False, True])})
    read = read_events(path, TABLES, 3)
    assert read.exists.tolist() == [True, False, True]
    np.testing.assert_array_equal(read.hits.features, events.features)


# --------------------------------------------------------------------------------------------------
# Index tables that do not fit
# --------------------------------------------------------------------------------------------------
def _shift(rows: NDArray[Any]) -> None:
    rows["start"] += 3
    rows["stop"] += 3


def _overlap(rows: NDArray[Any]) -> None:
    rows["stop"][0] += 3


def _gap(rows: NDArray[Any]) -> None:
    rows["stop"][0] -= 3


def _backwards(rows: NDArray[Any]) -> None:
    rows["start"], rows["stop"] = rows["start"][::-1].copy(), rows["stop"][::-1].copy()


def _other_events(rows: NDArray[Any]) -> None:
    rows["Event"] += 1


def _shorter(rows: NDArray[Any]) -> NDArray[Any]:
    return rows[:-1]


@pytest.mark.parametrize(
    "damage",
    [_shift, _overlap, _gap, _backwards, _other_events, _shorter],
    ids=lambda f: f.__name__,
)
def test_stale_index_is_not_used(path: Path, damage: Callable[[NDArray[Any]], Any]) -> None:
    events = random_events(4, 6, num_bins=3)
    write_events(path, events)
    edit(path, f"__I3Index__/{TABLES.values}", damage)
    assert_same_events(read_events(path, TABLES, 3), events)


def test_an_index_that_fits_is_used_in_silence(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events = random_events(4, 6, num_bins=3)
    write_events(path, events)
    assert_same_events(read_events(path, TABLES, 3), events)
    assert caplog.messages == []


def _move_edge(rows: NDArray[Any]) -> None:
    rows["stop"][1] += 6
    rows["start"][2] += 6


def test_event_ids_win_against_an_index_that_contradicts_them(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An index that covers the table without gap, but gives rows of event 2 to event 1."""
    events = random_events(4, 6, num_bins=3)
    write_events(path, events)
    edit(path, f"__I3Index__/{TABLES.values}", _move_edge)
    assert_same_events(read_events(path, TABLES, 3), events)
    (record,) = caplog.records
    assert str(path) in record.getMessage() and "event ids" in record.getMessage()


def test_rows_in_another_order_than_the_index_says(path: Path) -> None:
    events = random_events(4, 6, num_bins=3)
    write_events(path, events)
    for name in (TABLES.values, TABLES.indices):
        edit(path, name, lambda rows: rows[np.argsort(rows["string"], kind="stable")])
    assert_same_events(read_events(path, TABLES, 3), events)


@pytest.mark.parametrize("column", ["string", "Event"])
def test_full_verification_compares_all_rows_of_the_bins(path: Path, column: str) -> None:
    """Rows between the samples, of an event that is not at one of the sampled borders."""
    events = random_events(4, 1, num_bins=3, mean_hits=4000)
    write_events(path, events)

    def change(rows: NDArray[Any]) -> None:
        rows[column][1200:1206] += 1

    edit(path, TABLES.indices, change)
    read_events(path, TABLES, 3)
    with pytest.raises(DataError, match="row 1200 is"):
        read_events(path, TABLES, 3, verify_all=True)


def test_full_verification_reads_the_bins_of_all_rows(path: Path) -> None:
    events = random_events(4, 1, num_bins=3, mean_hits=4000)
    write_events(path, events)

    def change(rows: NDArray[Any]) -> None:
        rows["item"][1200:1203] = [2, 1, 0]

    edit(path, TABLES.indices, change)
    features = read_events(path, TABLES, 3, verify_all=True).hits.features
    expected = events.features.copy()
    expected[400] = expected[400, ::-1]
    np.testing.assert_array_equal(features, expected)


def test_borders_of_events_are_sampled(path: Path) -> None:
    events = random_events(4, 20, num_bins=3, mean_hits=1500)
    write_events(path, events)
    border = 3 * int(events.offsets[8])  # one of the twelve that are sampled

    def change(rows: NDArray[Any]) -> None:
        rows["Event"][border - 3 : border] += 1

    edit(path, TABLES.indices, change)
    with pytest.raises(DataError, match=f"row {border - 3} is"):
        read_events(path, TABLES, 3)


# --------------------------------------------------------------------------------------------------
# Files and tables that cannot be used
# --------------------------------------------------------------------------------------------------
def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no_such\.hdf5.*no such file"):
        read_events(tmp_path / "no_such.hdf5", TABLES, 3)


def test_empty_file(path: Path) -> None:
    path.touch()
    with pytest.raises(DataError, match=r"empty \(0 bytes\)"):
        count_events(path, TABLES.time_offset)


def test_other_file(path: Path) -> None:
    path.write_text("Run,Event\n1,2\n")
    with pytest.raises(DataError, match="not an HDF5 file"):
        list_tables(path)


@pytest.mark.parametrize("fraction", [0.3, 0.9])
def test_truncated_file(path: Path, fraction: float) -> None:
    write_events(path, random_events(1, 30))
    os.truncate(path, int(fraction * path.stat().st_size))
    with pytest.raises(DataError, match=r"events\.hdf5.*truncated"):
        read_events(path, TABLES, 9)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("storage", ["deflate only", "lzf"])
def test_damaged_data(path: Path, storage: str, threads: int) -> None:
    write_events(path, random_events(1, 30))
    with h5py.File(path, "r+") as file:
        rows = file[TABLES.values][()]
        del file[TABLES.values]
        table = file.create_dataset(TABLES.values, data=rows, **STORAGE[storage])
        position = table.id.get_chunk_info(1)
    with path.open("r+b") as raw:
        raw.seek(position.byte_offset)
        raw.write(b"\xff" * position.size)
    with pytest.raises(DataError, match=r"dnn_data_bin_values.*damaged"):
        read_events(path, TABLES, 9, threads=threads)


def test_more_rows_declared_than_stored(path: Path) -> None:
    write_events(path, random_events(1, 3))
    with h5py.File(path, "r+") as file:
        file[TABLES.time_offset].resize((10**9,))
    with pytest.raises(DataError, match=r"events\.hdf5.*1000000000 rows"):
        count_events(path, TABLES.time_offset)


def test_chunks_that_are_too_large_for_the_file(path: Path) -> None:
    """A chunk of 2 GB, of which the file holds some bytes."""
    rows = np.zeros(1, dtype=[("Run", "u4"), ("value", "f8"), ("padding", "V1000")])
    with h5py.File(path, "w") as file:
        table = file.create_dataset(
            TABLES.time_offset, (1,), rows.dtype, chunks=(2_000_000,), maxshape=(None,),
            compression="gzip",
        )  # fmt: skip
        table.id.write_direct_chunk((0,), b"some bytes")
    with pytest.raises(DataError, match=r"events\.hdf5.*too few"):
        count_events(path, TABLES.time_offset)


def test_any_error_of_h5py_names_the_file(path: Path) -> None:
    """A column name that is not UTF-8, which h5py reports as UnicodeDecodeError."""
    write_events(path, random_events(1, 3))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"pdg_encoding\x00", b"pdg\xffencoding\x00"))
    with pytest.raises(DataError, match=r"events\.hdf5.*damaged"):
        list_tables(path)


def test_damaged_and_lying_files_are_read_right_or_refused() -> None:
    """The short form of `python tests/data/fuzz_hdf5.py`."""
    for kind, number in (("damaged", 40), ("lying", 22)):
        counts = count_outcomes(read_cases(kind, 12, 0, number))
        assert counts.total() == number
        assert [counts[name] for name in ("wrong", "crashed", "slow")] == [0, 0, 0]
        assert counts["clean"] > number // 5 and counts["skipped"] > number // 5


def test_file_that_is_open_elsewhere_in_the_process(path: Path) -> None:
    write_events(path, random_events(1, 3))
    with h5py.File(path):
        assert count_events(path, TABLES.time_offset) == 3


def test_file_without_events(path: Path) -> None:
    write_events(path, random_events(1, 0))
    read = read_events(path, TABLES, 9)
    assert len(read.ids) == len(read.hits.dom) == 0
    assert read.hits.features.shape == (0, 9)
    assert read.hits.offsets.tolist() == [0]
    assert count_events(path, TABLES.time_offset) == 0


@pytest.mark.parametrize("has_index", [True, False])
def test_file_with_empty_events_only(path: Path, has_index: bool) -> None:
    write_events(path, random_events(1, 3, empty_fraction=1.0))
    if not has_index:
        drop_index(path)
    read = read_events(path, TABLES, 9)
    assert read.hits.offsets.tolist() == [0, 0, 0, 0]
    assert read.hits.features.shape == (0, 9)


@pytest.mark.parametrize(
    ("wrong", "setting", "nearest"),
    [
        (InputTables(values="dnn_data_bin_value"), "bin_values", TABLES.values),
        (InputTables(indices="dnn_data_bin_index"), "bin_indices", TABLES.indices),
        (InputTables(time_offset="dnn_data_time_offset"), "time_offset", TABLES.time_offset),
    ],
)
def test_missing_table_names_key_and_alternatives(
    path: Path, wrong: InputTables, setting: str, nearest: str
) -> None:
    write_events(path, random_events(1, 2))
    with pytest.raises(DataError) as error:
        read_events(path, wrong, 9)
    message = str(error.value)
    assert str(path) in message
    assert f"data_handler_{setting}_name" in message
    assert f"Did you mean '{nearest}'?" in message
    assert all(name in message for name in list_tables(path))


def test_table_without_the_right_columns(path: Path) -> None:
    write_events(path, random_events(1, 2))
    with pytest.raises(DataError, match="no column 'string', 'om', 'vector_index', 'item'"):
        read_events(path, InputTables(values="LabelsDeepLearning"), 9)


def test_tables_of_different_length(path: Path) -> None:
    write_events(path, random_events(1, 5))
    edit(path, TABLES.indices, lambda rows: rows[:-9])
    with pytest.raises(DataError, match=r"rows, but 'dnn_data_bin_indices' has .* equal lengths"):
        read_events(path, TABLES, 9)


@pytest.mark.parametrize("sparse", [True, False])
def test_tables_that_do_not_run_in_parallel(path: Path, sparse: bool) -> None:
    events = random_events(1, 5)
    events.features[0, 0] = 0.0
    write_events(path, events, sparse=sparse)
    edit(path, TABLES.indices, lambda rows: np.roll(rows, 9))
    with pytest.raises(DataError, match="are not parallel: row 0 is Event"):
        read_events(path, TABLES, 9)


def test_two_rows_for_one_event(path: Path) -> None:
    events = random_events(1, 5)
    events.ids["Event"][3] = events.ids["Event"][1]
    write_events(path, events)
    assert_same_events(read_events(path, TABLES, 9), events)  # the index table tells them apart
    drop_index(path)
    with pytest.raises(DataError, match=r"several rows for one event.*Run 1, Event 1"):
        read_events(path, TABLES, 9)


def _read_in_new_process(path: Path, prelude: str = "") -> "subprocess.CompletedProcess[str]":
    code = (
        f"import sys; {prelude}\n"
        "from dnn_reco.data.hdf5 import InputTables, read_events\n"
        "print(len(read_events(sys.argv[1], InputTables(), 9).hits.dom))"
    )
    return subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )


def test_compression_of_an_optional_package(path: Path) -> None:
    hdf5plugin = pytest.importorskip("hdf5plugin")
    events = random_events(1, 5)
    write_events(path, events)
    with h5py.File(path, "r+") as file:
        rows = file[TABLES.values][()]
        del file[TABLES.values]
        file.create_dataset(TABLES.values, data=rows, **hdf5plugin.Zstd())
    with_plugin = _read_in_new_process(path)
    assert with_plugin.stdout == f"{len(events.dom)}\n", with_plugin.stderr
    without = _read_in_new_process(path, "sys.modules['hdf5plugin'] = None")
    assert "DataError: table 'dnn_data_bin_values'" in without.stderr
    assert "pip install 'dnn_reco[fastread]'" in without.stderr


def test_importing_the_reader_is_light() -> None:
    code = "import sys, dnn_reco.data.hdf5; print([m for m in sys.modules if m in sys.argv[1:]])"
    heavy = ["torch", "pandas", "tables", "matplotlib", "hdf5plugin"]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("library", ["deflate", "zlib"])
def test_inflate(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import zlib

    if library == "deflate":
        pytest.importorskip("deflate")
    else:
        monkeypatch.setattr("dnn_reco.data.hdf5.inflate.deflate", None)
    data = np.random.default_rng(0).integers(0, 9, 100_000, dtype=np.uint8).tobytes()
    assert bytes(inflate(zlib.compress(data), len(data))) == data
    for missing in (1, 2000):  # a part of the checksum alone, and of the data
        with pytest.raises(DataError, match="damaged"):
            inflate(zlib.compress(data)[:-missing], len(data))
    with pytest.raises(DataError, match="damaged"):
        inflate(zlib.compress(data)[:-4] + b"\0\0\0\0", len(data))  # another checksum
    with pytest.raises(DataError, match="100000 bytes where 100001"):
        inflate(zlib.compress(data), len(data) + 1)
    with pytest.raises(DataError, match=r"hold 10[01] bytes where 100|damaged"):
        inflate(zlib.compress(bytes(10**7)), 100)
    assert bytes(inflate(zlib.compress(b""), 0)) == b""


# --------------------------------------------------------------------------------------------------
# Per-event tables
# --------------------------------------------------------------------------------------------------
def test_columns_in_file_order_and_by_name(path: Path) -> None:
    events = random_events(1, 4)
    write_events(path, events)
    values, names = read_columns(path, "LabelsDeepLearning", None, TABLES.time_offset)
    assert names == list(events.labels)
    assert not values.mask.any()
    np.testing.assert_array_equal(values, np.stack(list(events.labels.values()), axis=1))
    some = ["VertexX", "EnergyVisible"]
    values, names = read_columns(path, "LabelsDeepLearning", some, TABLES.time_offset)
    assert names == some
    np.testing.assert_array_equal(values[:, 0], events.labels["VertexX"])


def test_columns_are_joined_by_event_id(path: Path) -> None:
    events = random_events(1, 6)
    write_events(path, events)
    edit(path, "LabelsDeepLearning", lambda rows: rows[[4, 0, 5, 2]])
    edit(path, "LabelsDeepLearning", lambda rows: rows["exists"].__setitem__(1, 0))
    values, _ = read_columns(path, "LabelsDeepLearning", ["EnergyVisible"], TABLES.time_offset)
    assert values.mask[:, 0].tolist() == [True, True, False, True, False, False]
    np.testing.assert_array_equal(values[[2, 4, 5], 0], events.labels["EnergyVisible"][[2, 4, 5]])
    assert np.isnan(values.data[[0, 1, 3]]).all()


def test_columns_of_a_table_with_two_rows_for_an_event(path: Path) -> None:
    write_events(path, random_events(1, 6))
    edit(path, "LabelsDeepLearning", lambda rows: rows[[0, 1, 2, 3, 3, 5]])
    with pytest.raises(DataError, match=r"LabelsDeepLearning.*several rows.*Run 1, Event 3"):
        read_columns(path, "LabelsDeepLearning", None, TABLES.time_offset)
    with pytest.raises(DataError, match="several rows for one event"):
        read_columns(path, TABLES.values, ["item"], TABLES.time_offset)


def test_equal_ids_are_distinguished_by_their_rows(path: Path) -> None:
    """Merged files may repeat ids: tables that list the same ids row by row still fit."""
    events = random_events(1, 6)
    events.ids["Event"][3] = events.ids["Event"][1]
    write_events(path, events)
    values, _ = read_columns(path, "LabelsDeepLearning", ["VertexX"], TABLES.time_offset)
    np.testing.assert_array_equal(values[:, 0], events.labels["VertexX"])


def test_columns_that_are_not_there(path: Path) -> None:
    write_events(path, random_events(1, 2))
    with pytest.raises(DataError, match=r"no column 'Energy'.*EnergyVisible, PrimaryEnergy"):
        read_columns(path, "LabelsDeepLearning", ["Energy"], TABLES.time_offset)
    with pytest.raises(DataError, match=r"no table 'Labels' \(given by 'data_handler_label_key'\)"):
        read_columns(path, "Labels", None, TABLES.time_offset, "data_handler_label_key")


def test_columns_that_hold_no_numbers(path: Path) -> None:
    rows = np.zeros(2, dtype=[("Run", "u4"), ("vector", "f8", (3,)), ("name", "S4"), ("ok", "?")])
    with h5py.File(path, "w") as file:
        file["Table"] = rows
    for column in ("vector", "name"):
        with pytest.raises(DataError, match=f"column '{column}' of .* does not hold one number a"):
            read_columns(path, "Table", [column], "Table")


def test_input_tables_are_found(path: Path) -> None:
    write_events(path, random_events(1, 2))
    assert detect_input_tables(path) == TABLES
    with h5py.File(path, "r+") as file:
        for name in (TABLES.values, TABLES.indices, TABLES.time_offset):
            file.copy(name, name.replace("dnn_data", "other"))
    with pytest.raises(
        DataError, match=r"several sets .*inputs='dnn_data' or 'other' \(.* --tables\)$"
    ):
        detect_input_tables(path)
    with h5py.File(path, "r+") as file:
        del file[TABLES.values]
    assert detect_input_tables(path) == tables_named("other")
    with h5py.File(path, "r+") as file:
        del file["other_bin_indices"]
    with pytest.raises(DataError, match=r"holds no input tables: names that end in _bin_values, "):
        detect_input_tables(path)


def test_ids_of_all_magnitudes_are_matched(path: Path) -> None:
    events = random_events(1, 4)
    events.ids[:] = event_ids(4)
    events.ids["Run"] = [0, 2**32 - 1, 2**31, 5]
    events.ids["SubEvent"] = [2**32 - 1, 0, 1, 2**31]
    write_events(path, events)
    edit(path, "LabelsDeepLearning", lambda rows: rows[::-1])
    values, _ = read_columns(path, "LabelsDeepLearning", ["VertexX"], TABLES.time_offset)
    np.testing.assert_array_equal(values[:, 0], events.labels["VertexX"])
