"""Writing event files: the layout of the original ones, and other readers of such files."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from event_files import event_ids, random_events, write_events

from dnn_reco.data.hdf5 import (
    DomMap,
    InputTables,
    list_tables,
    read_columns,
    read_events,
    read_table,
    write_event_file,
    write_input_tables,
)
from dnn_reco.errors import DataError

TABLES = InputTables()
REAL = InputTables(
    *(
        f"dnn_data_inputs9_InIceDSTPulses_{end}"
        for end in ("bin_values", "bin_indices", "global_time_offset")
    )
)
COPIED = ("LabelsDeepLearning", "MCCascade", "I3EventHeader")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.hdf5"


@pytest.fixture
def copy(path: Path, numu_file: Path) -> Path:
    """The inputs and some tables of a real file, read and written again."""
    events = read_events(numu_file, REAL, 9, dtype=np.float64)
    write_input_tables(
        path,
        events.ids,
        events.time_offset,
        events.hits,
        names=REAL,
        tables={name: read_table(numu_file, name) for name in COPIED},
    )
    return path


def test_copy_of_a_real_file_has_its_layout(copy: Path, numu_file: Path) -> None:
    names = (*COPIED, REAL.values, REAL.indices, REAL.time_offset)
    with h5py.File(numu_file, locking=False) as original, h5py.File(copy) as ours:
        assert set(list_tables(copy)) == set(names)
        for name in (*names, *(f"__I3Index__/{name}" for name in names)):
            one, other = original[name], ours[name]
            np.testing.assert_array_equal(one[()], other[()])
            # The types in the file: names, offsets, row size, names of the sub-event streams.
            assert one.id.get_type() == other.id.get_type()
            assert one.dtype.itemsize == other.dtype.itemsize
            for setting in ("chunks", "maxshape", "compression", "compression_opts", "shuffle"):
                assert getattr(one, setting) == getattr(other, setting)
            assert set(one.attrs) == set(other.attrs)
            for attribute, text in one.attrs.items():
                info, our_info = one.attrs.get_id(attribute), other.attrs.get_id(attribute)
                if not attribute.endswith(("_DOC", "_UNIT")):
                    assert info.get_type() == our_info.get_type()
                    assert text == other.attrs[attribute]
                elif int(attribute.split("_")[1]) < 5 or "dnn_data" in name or "Index" in name:
                    assert text == other.attrs[attribute]  # all but those of labels


def test_pandas_reads_what_we_read(copy: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    with pandas.HDFStore(copy, "r") as store:
        for name in (*COPIED, REAL.values, f"__I3Index__/{REAL.values}"):
            with h5py.File(copy) as file:
                rows = file[name][()]
            frame = store[name]
            assert list(frame.columns) == list(rows.dtype.names)
            for column in frame.columns:
                np.testing.assert_array_equal(frame[column], rows[column])
    frame = pandas.read_hdf(copy, REAL.time_offset)
    values, _ = read_columns(copy, REAL.time_offset, ["value"], REAL.time_offset)
    np.testing.assert_array_equal(frame["value"], values[:, 0])


def test_pytables_reads_rows_and_stream_names(copy: Path, numu_file: Path) -> None:
    tables = pytest.importorskip("tables")
    with tables.open_file(copy) as ours, tables.open_file(numu_file) as original:
        one, other = original.root[REAL.values], ours.root[REAL.values]
        assert one.description._v_offsets == other.description._v_offsets
        np.testing.assert_array_equal(one[:], other[:])
        streams = other.get_enum("SubEventStream")
        assert streams["topological_split"] == 3
        assert ours.root._v_attrs["PYTABLES_FORMAT_VERSION"] == "2.1"


def test_tables_without_object(path: Path) -> None:
    events = random_events(1, 3)
    exists = {"LabelsDeepLearning": np.array([True, False, True])}
    write_events(path, events, exists=exists)
    rows = read_table(path, "LabelsDeepLearning")
    assert rows["exists"].tolist() == [1, 0, 1]
    assert rows["EnergyVisible"][1] == 0.0
    values, _ = read_columns(path, "LabelsDeepLearning", ["VertexX"], TABLES.time_offset)
    assert values.mask[:, 0].tolist() == [False, True, False]
    with h5py.File(path) as file:
        index = file["__I3Index__/LabelsDeepLearning"][()]
    assert index["exists"].tolist() == [1, 0, 1]
    assert index["stop"].tolist() == [1, 2, 3]


def test_sparse_lists_only_what_is_not_zero(path: Path) -> None:
    events = random_events(1, 2, num_bins=4, mean_hits=3)
    events.features[0] = 0.0, 5.0, 0.0, 7.0
    events.features[1] = 0.0
    write_events(path, events, sparse=True)
    values, indices = read_table(path, TABLES.values), read_table(path, TABLES.indices)
    assert values["item"][:2].tolist() == [5.0, 7.0]
    assert indices["item"][:2].tolist() == [1, 3]
    assert values["vector_index"][:2].tolist() == [0, 1]
    assert len(values) == np.count_nonzero(events.features)
    read = read_events(path, TABLES, 4)
    np.testing.assert_array_equal(read.hits.dom, np.delete(events.dom, 1))


def test_exclusion_maps_and_columns_of_pairs(path: Path) -> None:
    """A map of bin exclusions, and filter results: (condition, prescale) in one column."""
    ids = event_ids(2)
    exclusions = DomMap(
        offsets=np.array([0, 1, 3]),
        dom=np.array([0, 4799, 4799]),
        vector_index=np.array([0, 0, 1]),
        item=np.array([-1, 3, 4], dtype=np.int32),
    )
    passed = np.array([[1, 0], [1, 1]], dtype=np.uint8)
    write_event_file(
        path,
        ids,
        tables={"FilterMask": {"CascadeFilter_13": passed}},
        maps={"dnn_data_bin_exclusions": exclusions},
    )
    rows = read_table(path, "dnn_data_bin_exclusions")
    assert rows["string"].tolist() == [1, 80, 80]
    assert rows["om"].tolist() == [1, 60, 60]
    assert rows["item"].tolist() == [-1, 3, 4]
    assert rows["Event"].tolist() == [0, 1, 1]
    np.testing.assert_array_equal(read_table(path, "FilterMask")["CascadeFilter_13"], passed)


def test_tables_longer_than_one_block(path: Path) -> None:
    events = random_events(1, 40, num_bins=9, mean_hits=400)
    write_events(path, events)
    read = read_events(path, TABLES, 9)
    assert len(read_table(path, TABLES.values)) > 64 * 1456
    np.testing.assert_array_equal(read.hits.features, events.features)


def test_failed_write_leaves_the_old_file(path: Path) -> None:
    write_events(path, random_events(1, 3))
    before = path.read_bytes()
    wrong: dict[str, Any] = {"LabelsDeepLearning": {"Energy": np.zeros(2)}}
    with pytest.raises(DataError, match=r"column 'Energy' .* has 2 rows for 3 events"):
        write_event_file(path, event_ids(3), wrong)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_what_cannot_be_written(path: Path) -> None:
    empty = np.zeros(0, dtype=np.int64)
    dom_map = DomMap(np.array([0, 0]), empty, empty, empty)
    with pytest.raises(DataError, match="map 'bins': 2 offsets that end at 0 do not fit 3 events"):
        write_event_file(path, event_ids(3), {}, {"bins": dom_map})
    with pytest.raises(DataError, match="SubEventStream goes from 3 to 3"):
        write_event_file(path, event_ids(3), {}, streams=["in_ice"])
    assert not path.exists()
