"""Preview of an incomplete event store."""

from pathlib import Path

import pytest
from event_files import random_events, write_events
from make_store import make_store

from dnn_reco.data.build import open_events
from dnn_reco.data.sampling import FileSampling
from dnn_reco.data.store import shard_size
from dnn_reco.data.store_preview import StoredAmount, choose_sample, extrapolate, preview_store

NUM_FILES, EVENTS = 30, 20


def write_files(folder: Path) -> list[Path]:
    return [
        write_events(folder / f"{i:02d}.hdf5", random_events(i, EVENTS, run=i))
        for i in range(NUM_FILES)
    ]


def test_a_sample_tells_of_the_whole(tmp_path: Path) -> None:
    files = write_files(tmp_path)
    store = make_store(tmp_path / "store")
    look = preview_store(store, files, num_jobs=1)
    assert 1 < look.built.files < NUM_FILES / 2
    assert look.built.events == len(look.events) == look.built.files * EVENTS
    assert look.to_build.files == NUM_FILES - look.built.files
    assert look.to_build.seconds > 0
    assert look.workers == 0

    whole = open_events(store, files, num_jobs=1)
    size = sum(shard_size(shard) for shard in whole.shards)
    assert look.whole.files == NUM_FILES
    assert look.whole.events == pytest.approx(len(whole), rel=0.2)
    assert look.whole.size == pytest.approx(size, rel=0.2)

    look = preview_store(store, files, num_jobs=1)
    assert look.built == look.whole == StoredAmount(NUM_FILES, len(whole), size)
    assert len(look.events) == NUM_FILES * EVENTS


def test_looking_again_goes_on_with_what_is_there(tmp_path: Path) -> None:
    files = write_files(tmp_path)
    store = make_store(tmp_path / "store")
    open_events(store, files[:12], num_jobs=1)
    look = preview_store(store, files, num_jobs=1)
    assert 12 < look.built.files < NUM_FILES
    assert {shard.source for shard in look.events.shards} > set(files[:12])


def test_events_in_an_epoch(tmp_path: Path) -> None:
    """Half of the files are visited twice, with at most 15 events each time."""
    files = write_files(tmp_path)
    store = make_store(tmp_path / "store")
    assert preview_store(store, files, num_jobs=1).events_in_epoch == pytest.approx(600, rel=0.2)
    twice = FileSampling(dict.fromkeys(files[::2], 2), max_events=15)
    look = preview_store(store, files, 1, twice)
    assert look.to_build.files > 0
    assert look.events_in_epoch == 45 * 15
    whole = open_events(store, files, num_jobs=1, sampling=twice)
    look = preview_store(store, files, 1, twice)
    for events in (whole, look.events):
        assert events.order(seed=1, stream="training").num_events == look.events_in_epoch == 45 * 15


def test_files_that_cannot_be_used_hold_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = write_files(tmp_path)
    for file in files[1::2]:
        file.write_bytes(b"x" * file.stat().st_size)
    look = preview_store(make_store(tmp_path / "store"), files, num_jobs=1)
    assert look.whole.events == pytest.approx(NUM_FILES / 2 * EVENTS, rel=0.4)
    assert "Skipped a file" in caplog.text


def test_one_file_is_built_and_needs_no_estimate(tmp_path: Path) -> None:
    file = write_events(tmp_path / "only.hdf5", random_events(1, EVENTS))
    look = preview_store(make_store(tmp_path / "store"), [file], num_jobs=1)
    assert look.built.events == EVENTS
    assert look.to_build == StoredAmount(0, 0, 0)


def test_a_sample_is_from_all_parts_and_not_too_large() -> None:
    paths = [Path(str(i)) for i in range(100)]
    names = [int(path.name) for path in choose_sample(paths, [1] * 100)]
    assert len(names) == 8
    assert names == sorted(names)
    assert names[0] < 13
    assert names[-1] > 75
    assert choose_sample(paths, [10**12] * 100) == [paths[0]]
    assert len(choose_sample(paths, [70_000_000] * 100)) == 2
    assert choose_sample(paths[:3], [1] * 3) == paths[:3]
    assert choose_sample([], []) == []


def test_extrapolation_by_hand() -> None:
    sample = StoredAmount(files=2, events=100, size=5000, seconds=3.0)
    assert extrapolate(sample, 10.0, 25, workers=4) == StoredAmount(25, 1000, 50_000, 7.5)
