"""Opening a data set: finding files, workers, and files that cannot be used."""

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
from event_files import random_events, write_events
from make_store import CONFIG, assert_same, make_store, read_all

from dnn_reco.data import build
from dnn_reco.data.build import open_events
from dnn_reco.data.sampling import FileSampling
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.files import count_files, find_files


def write_many(tmp_path: Path, count: int) -> list[Path]:
    return [
        write_events(tmp_path / f"{i:02d}.hdf5", random_events(i, 3 + i, run=i))
        for i in range(count)
    ]


# --------------------------------------------------------------------------------------------------
# Files
# --------------------------------------------------------------------------------------------------
def test_files_are_found_once_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.hdf5", "a.hdf5", "c d.hdf5", "e.txt"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    patterns = [f"{tmp_path}/*.hdf5", "a.hdf5", "./b*", f"{tmp_path}/../{tmp_path.name}/c d.hdf5"]
    found = find_files(patterns, "training_data_file")
    assert sorted(file.name for file in found) == ["a.hdf5", "b.hdf5", "c d.hdf5"]
    assert find_files(["*.hdf5"], "x") == [Path("a.hdf5"), Path("b.hdf5"), Path("c d.hdf5")]


def test_a_name_with_brackets_matches_itself(tmp_path: Path) -> None:
    file = tmp_path / "run [1].hdf5"
    file.touch()
    assert find_files([str(file)], "x") == [file]


def test_no_match_names_the_patterns(tmp_path: Path) -> None:
    patterns = [str(tmp_path / "*.hdf5"), "nowhere/*.h5"]
    with pytest.raises(DataError) as error:
        find_files(patterns, "validation_data_file")
    assert "no file matches validation_data_file" in str(error.value)
    assert all(pattern in str(error.value) for pattern in patterns)
    assert str(Path.cwd()) in str(error.value)


# --------------------------------------------------------------------------------------------------
# Files that cannot be used
# --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("place", [0, 2, 4])
def test_unusable_files_among_good_ones_are_left_out(
    tmp_path: Path, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    sources = write_many(tmp_path, 5)
    good = [source for source in sources if source != sources[place]]
    expected = open_events(make_store(tmp_path / "expected"), good, 1)
    sources[place].write_bytes(sources[place].read_bytes()[:5000])
    gone = tmp_path / "09.hdf5"
    gone.symlink_to(tmp_path / "nowhere")
    events = open_events(make_store(tmp_path / "store"), [*sources, gone], 1)
    assert_same(events, expected)
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert f"'{sources[place]}' is truncated" in warnings[0]
    assert f"'{gone}'" in warnings[1]


def test_only_unusable_files(tmp_path: Path) -> None:
    sources = [tmp_path / name for name in ("a.hdf5", "b.hdf5")]
    sources[0].write_text("words")
    sources[1].touch()
    with pytest.raises(DataError) as error:
        open_events(make_store(tmp_path / "store"), sources, 1)
    assert "none of the first 2 data files can be used" in str(error.value)
    assert f"'{sources[0]}' is not an HDF5 file" in str(error.value)
    assert f"'{sources[1]}' is empty" in str(error.value)


def test_a_wrong_table_name_is_reported_once(tmp_path: Path) -> None:
    sources = write_many(tmp_path, 5)
    config = {**CONFIG, "data_handler_label_key": "LabelsDeepLerning"}
    with pytest.raises(DataError) as error:
        open_events(make_store(tmp_path / "store", config), sources, 1)
    message = str(error.value)
    assert message.count("no table 'LabelsDeepLerning' (given by 'data_handler_label_key')") == 1
    assert "Did you mean 'LabelsDeepLearning'?" in message
    assert "dnn_data_bin_values" in message
    assert "The next 2 of the 5 files cannot be used either" in message


def test_a_setting_that_is_missing_is_not_blamed_on_the_files(tmp_path: Path) -> None:
    sources = write_many(tmp_path, 5)
    config = {**CONFIG, "filter_equal": {"MCPrimary_type": 1}}
    with pytest.raises(ConfigError, match="filter_equal"):
        open_events(make_store(tmp_path / "store", config), sources, 1)


def test_dropped_events_and_skipped_rows_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In each of two files: an event without a label, one below a cut, rows of surface tanks."""
    sources = []
    for number in (0, 1):
        events = random_events(number, 4, run=number)
        events.labels["EnergyVisible"][1] = np.nan
        events.primary["energy"][:] = [5.0, 5.0, 0.5, 5.0]
        sources.append(write_events(tmp_path / f"{number}.hdf5", events))
        with h5py.File(sources[-1], "r+") as file:
            for name in ("dnn_data_bin_values", "dnn_data_bin_indices"):
                rows = file[name][()]
                rows["om"][:9] = 61
                file[name][...] = rows
    config = {**CONFIG, "filter_greater_than": {"MCPrimary_energy": 1}}
    with caplog.at_level(logging.INFO):
        open_events(make_store(tmp_path / "store", config), sources, 1)
    (dropped,) = [text for text in caplog.messages if text.startswith("Dropped")]
    start, _, reasons = dropped.partition(": ")
    assert start == "Dropped 4 of 8 events"
    assert sorted(reason.split()[0] for reason in reasons.split(", ")) == ["2", "2"]
    skipped = [text for text in caplog.messages if text.startswith("Skipped")]
    assert skipped == ["Skipped in the input tables: 18 rows of surface tanks."]


def test_no_event_is_left(tmp_path: Path) -> None:
    sources = write_many(tmp_path, 2)
    config = {**CONFIG, "filter_greater_than": {"MCPrimary_energy": 1e9}}
    with pytest.raises(DataError, match=r"left of 2 files \(the first: .*7 rejected.*filter_"):
        open_events(make_store(tmp_path / "store", config), sources, 1)


# --------------------------------------------------------------------------------------------------
# How much is built, and by whom
# --------------------------------------------------------------------------------------------------
def test_size_and_free_space_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sources = write_many(tmp_path, 3)
    with caplog.at_level(logging.INFO):
        open_events(make_store(tmp_path / "store"), sources, 1)
    assert f"Building the event store '{tmp_path / 'store'}'" in caplog.text
    assert "GB are free" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        open_events(make_store(tmp_path / "store"), sources, 1)
    assert not caplog.records


def test_expected_size_follows_from_the_first_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two files of 1000 times the size of the first need 2000 times the space of its events."""
    sources = write_many(tmp_path, 3)
    first = make_store(tmp_path / "store").build(sources[0])
    num_bytes = sum(file.stat().st_size for file in first.hits_folder.iterdir())
    num_bytes += first.records_file.stat().st_size
    for source in sources[1:]:
        with source.open("r+b") as file:
            file.truncate(1000 * sources[0].stat().st_size)  # what is added takes no space
    with caplog.at_level(logging.INFO):
        open_events(make_store(tmp_path / "store"), sources, 1)
    assert 2000 * num_bytes > 1e6
    assert f"from 2 files: up to {2000 * num_bytes / 1e6:.1f} MB, " in caplog.text
    (free,) = re.findall(r"([\d,.]+) GB are free", caplog.text)
    assert float(free.replace(",", "")) * 1e9 == pytest.approx(
        shutil.disk_usage(tmp_path).free, rel=0.2, abs=2e8
    )


@pytest.fixture
def always_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_WORTH_WORKERS", 0.0)
    monkeypatch.setattr(build, "available_cpus", lambda: 2)


@pytest.mark.usefixtures("always_workers")
def test_workers_build_the_same_store(tmp_path: Path) -> None:
    sources = write_many(tmp_path, 6)
    sources[3].write_text("words")
    alone = open_events(make_store(tmp_path / "alone"), sources, 1)
    together = open_events(make_store(tmp_path / "together"), sources, 2)
    assert_same(alone, together)
    # Everything is there: neither opening again builds anything.
    assert_same(open_events(make_store(tmp_path / "together"), sources, 1), alone)


@pytest.mark.usefixtures("always_workers")
def test_enough_takes_the_first_files_that_hold_so_many(tmp_path: Path) -> None:
    sources = write_many(tmp_path, 12)  # 3, 4, 5, 6 … events
    for jobs in (1, 2):
        store = make_store(tmp_path / f"store{jobs}")
        events = open_events(store, sources, jobs, enough=13)
        assert events.events_per_shard.tolist() == [3, 4, 5, 6]
        built = [source for source in sources if store.find(source, events.names)]
        assert 4 <= len(built) + 1 < 12  # the rest was not built
    whole = open_events(make_store(tmp_path / "store1"), sources, 1)
    assert len(whole) == sum(range(3, 15))
    again = open_events(make_store(tmp_path / "store1"), sources, 1, enough=13)
    assert_same(again, events)
    np.testing.assert_array_equal(read_all(whole).ids[:18], read_all(again).ids)


@pytest.mark.usefixtures("always_workers")
def test_a_worker_that_is_killed(tmp_path: Path) -> None:
    sources = write_many(tmp_path, 4)
    store = make_store(tmp_path / "store", label_class="user_functions.killed_in_worker")
    before = workers_of_this_process()
    with pytest.raises(DataError, match=r"worker process.*was killed.*fewer num_jobs"):
        open_events(store, sources, 2)
    assert workers_of_this_process() == before


def workers_of_this_process() -> list[psutil.Process]:
    return [process for process in psutil.Process().children() if is_worker(process)]


def is_worker(process: psutil.Process) -> bool:
    return process.is_running() and "spawn_main" in " ".join(process.cmdline())


MAIN = """
import sys
from pathlib import Path
from make_store import CONFIG, make_store
from dnn_reco.data import build
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    build._WORTH_WORKERS = 0.0
    build.available_cpus = lambda: 2
    store = make_store(
        folder / "store",
        {**CONFIG, "my_folder": str(folder / "workers")},
        label_class="user_functions.hangs_in_worker",
    )
    build.open_events(store, sorted(folder.glob("*.hdf5")), 2)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_the_main_process(tmp_path: Path, how: signal.Signals) -> None:
    write_many(tmp_path, 4)
    (tmp_path / "workers").mkdir()
    script = tmp_path / "main.py"
    script.write_text(MAIN)
    path = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    main = subprocess.Popen(
        [sys.executable, script, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
    )
    try:
        wait_until(lambda: len(list((tmp_path / "workers").iterdir())) == 2)
    finally:
        main.send_signal(how)
        main.wait()
    workers = [int(file.name) for file in (tmp_path / "workers").iterdir()]
    wait_until(lambda: not any(is_alive(worker) for worker in workers))


def wait_until(condition: object, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_files_are_drawn_as_often_as_they_are_listed(tmp_path: Path) -> None:
    files = [
        write_events(tmp_path / f"{name}.hdf5", random_events(seed, 6 + seed, run=seed))
        for seed, name in enumerate("abc", start=1)
    ]
    listed = [str(files[1]), str(tmp_path / "*.hdf5"), f"{tmp_path}/../{tmp_path.name}/b.hdf5"]
    visits = count_files(listed, "training_data_file")
    assert list(visits.values()) == [1, 3, 1]
    store = make_store(tmp_path / "store")
    events = open_events(store, list(visits), 1, sampling=FileSampling(visits, 7))
    order = events.order(1, "training")
    runs = events.read(order.batch(0, order.num_events)).ids["Run"]
    assert np.bincount(runs).tolist() == [0, 7, 3 * 7, 7]


def test_enough_events_counts_those_of_an_epoch(tmp_path: Path) -> None:
    files = [
        write_events(tmp_path / f"{name}.hdf5", random_events(1, 10, run=run))
        for run, name in enumerate("abc", start=1)
    ]
    store = make_store(tmp_path / "store")
    for sampling, expected in ((FileSampling({files[0]: 2}), 1), (FileSampling({}, 6), 3)):
        events = open_events(store, files, 1, enough=15, sampling=sampling)
        assert len(events.shards) == expected
