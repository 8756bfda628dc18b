"""Events read from the store by number are the events of the files."""

import errno
import os
import resource
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from event_files import Events, random_events, write_events
from make_store import assert_holds, assert_is_event, make_store, read_all

from dnn_reco.data import event_dataset
from dnn_reco.data.build import open_events
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.errors import DataError


def several(count: int) -> list[Events]:
    return [random_events(i, 5 + 3 * i, empty_fraction=0.2, run=i) for i in range(count)]


def write_all(folder: Path, files: list[Events]) -> list[Path]:
    return [write_events(folder / f"{i:03d}.hdf5", events) for i, events in enumerate(files)]


def open_all(folder: Path, files: list[Events]) -> EventDataset:
    return open_events(make_store(folder / "store"), write_all(folder, files), 1)


def num_open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_events_equal_those_of_the_files(tmp_path: Path) -> None:
    files = several(3)
    events = open_all(tmp_path, files)
    assert_holds(events, files)
    assert events.events_per_shard.tolist() == [5, 8, 11]
    assert events.names.labels == tuple(files[0].labels)
    assert events.names.misc == ("MCPrimary_energy", "MCPrimary_pdg_encoding")


def test_any_order_and_repetition(tmp_path: Path) -> None:
    files = several(3)
    events = open_all(tmp_path, files)
    places = [(file, i) for file, source in enumerate(files) for i in range(len(source))]
    numbers = np.random.default_rng(1).integers(0, len(events), 200)
    read = events.read(numbers)
    for position, number in enumerate(numbers):
        file, i = places[number]
        assert_is_event(read, position, files[file], i)


def test_a_part_of_events_equals_what_is_read_by_itself(tmp_path: Path) -> None:
    events = open_all(tmp_path, several(3))
    numbers = np.random.default_rng(2).permutation(len(events))
    whole = events.read(numbers)
    for start, stop in ((0, 24), (0, 3), (5, 17), (23, 24), (7, 7)):
        part, alone = whole.part(start, stop), events.read(numbers[start:stop])
        for one, other in ((part, alone), (part.hits, alone.hits)):
            for name in {field.name for field in fields(one)} - {"hits"}:
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_no_event_asked_for(tmp_path: Path) -> None:
    read = open_all(tmp_path, several(1)).read(np.array([], dtype=np.int64))
    assert read.labels.shape == (0, 12)
    assert read.hits.features.shape == (0, 9)
    assert read.hits.offsets.tolist() == [0]


def test_events_without_any_hits(tmp_path: Path) -> None:
    files = [random_events(1, 6, empty_fraction=1.0), random_events(2, 3)]
    events = open_all(tmp_path, files)
    assert_holds(events, files)
    assert len(events.read(np.arange(6)).hits.dom) == 0


def test_files_without_events_are_passed_over(tmp_path: Path) -> None:
    files = [random_events(1, 4), random_events(2, 0), random_events(3, 2)]
    assert_holds(open_all(tmp_path, files), files)


def test_without_misc_values(tmp_path: Path) -> None:
    source = write_events(tmp_path / "e.hdf5", random_events(1, 4))
    misc_class = "dnn_reco.modules.data.misc.default_misc.dummy_misc_loader"
    events = open_events(make_store(tmp_path / "store", misc_class=misc_class), [source], 1)
    assert read_all(events).misc.shape == (4, 0)


def test_float64_keeps_every_digit(tmp_path: Path) -> None:
    events = random_events(1, 20)
    features = events.features * (1.0 + 1e-15 * np.arange(9))
    labels = {**events.labels, "VertexTime": events.time_offset + 1e-9 * np.arange(20)}
    events = replace(events, features=features, labels=labels)  # type: ignore[arg-type]
    source = write_events(tmp_path / "e.hdf5", events)
    store = make_store(tmp_path / "store", dtype="float64")
    assert_holds(open_events(store, [source], 1), [events], "float64")


def test_time_labels_are_subtracted_in_float64(tmp_path: Path) -> None:
    """At 2e7 ns, float32 knows times only to 2 ns."""
    events = random_events(1, 50)
    offset = 2e7 + 10.0 * np.arange(50)
    labels = {**events.labels, "VertexTime": offset + 0.125}
    source = write_events(tmp_path / "e.hdf5", replace(events, time_offset=offset, labels=labels))
    read = read_all(open_events(make_store(tmp_path / "store"), [source], 1))
    assert (read.labels[:, list(labels).index("VertexTime")] == 0.125).all()


def test_many_files_through_few_open_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = several(8)
    events = open_all(tmp_path, files)
    monkeypatch.setattr(event_dataset, "_MAX_OPEN_FILES", 4)
    events = EventDataset(make_store(tmp_path / "store"), events.shards)
    before = num_open_files()
    assert_holds(events, files)
    order = np.random.default_rng(0).permutation(len(events))
    np.testing.assert_array_equal(events.read(order).ids, read_all(events).ids[order])
    assert before < num_open_files() <= before + 4


def test_a_set_takes_a_part_of_the_allowed_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 4096))
    assert 3 <= event_dataset.max_open_files() <= 1024 // 3
    monkeypatch.setattr("resource.getrlimit", lambda _: (1, 4096))
    assert event_dataset.max_open_files() == 1
    monkeypatch.setattr("resource.getrlimit", lambda _: (10**9, 10**9))
    most = event_dataset.max_open_files()
    monkeypatch.setattr("resource.getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert event_dataset.max_open_files() == most
    assert 1024 // 3 <= most < 10**5


def test_files_are_closed(tmp_path: Path) -> None:
    files = several(3)
    events = open_all(tmp_path, files)
    before = num_open_files()
    read_all(events)
    assert num_open_files() == before + 9
    events.close()
    assert num_open_files() == before
    assert_holds(events, files)  # reading opens them again
    del events
    assert num_open_files() == before


@pytest.mark.parametrize("number", [-1, 24])
def test_numbers_that_no_event_has(tmp_path: Path, number: int) -> None:
    events = open_all(tmp_path, several(3))
    with pytest.raises(IndexError, match="0 … 23"):
        events.read(np.array([3, number]))


@pytest.mark.parametrize("part", ["dom", "features", "records"])
def test_a_shortened_file(tmp_path: Path, part: str) -> None:
    events = open_all(tmp_path, several(1))
    shard = events.shards[0]
    path = shard.records_file if part == "records" else shard.hits_folder / f"{part}.bin"
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(DataError, match=rf"{shard.source}.*{path.name}.*Run the command again"):
        read_all(events)


def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = open_all(tmp_path, several(1))

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", fail)
    path = events.shards[0].records_file
    with pytest.raises(DataError, match=f"'{path}' of the event store cannot be read: Input/out"):
        read_all(events)


def test_a_store_that_was_deleted_while_in_use(tmp_path: Path) -> None:
    events = open_all(tmp_path, several(1))
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(DataError, match=r"000\.hdf5.*Run the command again to rebuild"):
        read_all(events)


def test_a_set_of_no_events_is_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    with pytest.raises(DataError, match="no events are left after the filters"):
        EventDataset(store, [])
