"""The event store: golden events, what makes it build again, and what may go wrong."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from event_files import random_events, write_events
from make_store import CONFIG, assert_holds, assert_same, column, make_store, read_all

from dnn_reco.data.build import open_events
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.hdf5 import InputTables
from dnn_reco.data.store import shard_name
from dnn_reco.data.store_pruning import prune_store
from dnn_reco.detector.grid import DOM_CELL, NUM_CELLS, deepcore, main_array
from dnn_reco.errors import DataError

FORMATS = {
    "inputs9": ("dnn_data_inputs9_InIceDSTPulses", 9),
    "inputs3": ("dnn_data_inputs3_InIceDSTPulses", 3),
    "charge_bins": ("dnn_data__charge_bins", 10),
}


# --------------------------------------------------------------------------------------------------
# Real events
# --------------------------------------------------------------------------------------------------
def open_golden(
    tmp_path: Path, numu_file: Path, name: str, config: Mapping[str, Any] = {}, **records: Any
) -> EventDataset:
    prefix, num_bins = FORMATS[name]
    tables = InputTables(
        f"{prefix}_bin_values", f"{prefix}_bin_indices", f"{prefix}_global_time_offset"
    )
    config = {
        "data_handler_label_key": "LabelsDeepLearning",
        "data_handler_time_offset_name": tables.time_offset,
        "misc_load_dict": {"LabelsDeepLearning": ["LengthInDetector"]},
        **config,
    }
    records = {"relative_time_keys": (), "relative_time_pattern": "time", **records}
    store = make_store(tmp_path / "store", config, tables=tables, num_bins=num_bins, **records)
    return open_events(store, [numu_file], 1)


def golden_inputs(golden: Mapping[str, np.ndarray], part: str) -> np.ndarray:
    if f"x_{part}" in golden:
        return golden[f"x_{part}"]
    dense = np.zeros(golden[f"{part}_shape"], np.float32)
    dense[tuple(golden[f"{part}_idx"].T)] = golden[f"{part}_val"]
    return dense


@pytest.mark.parametrize("name", list(FORMATS))
def test_real_events_equal_the_reference(
    tmp_path: Path, numu_file: Path, golden_network: Path, name: str
) -> None:
    golden = np.load(golden_network / f"data_numu_medium_{name}.npz")
    names = json.loads((golden_network / "data_meta.json").read_text())
    events = open_golden(tmp_path, numu_file, name)
    assert events.names.labels == tuple(names["label_names"])
    assert events.names.misc == tuple(names["misc_names"])

    read = read_all(events)
    np.testing.assert_array_equal(read.time_offset, golden["time_offset"])
    ids = np.stack([read.ids[field] for field in read.ids.dtype.names or ()], axis=1)
    np.testing.assert_array_equal(ids, golden["event_ids"])
    cells = np.zeros((len(events), NUM_CELLS, read.hits.features.shape[1]), np.float32)
    event = np.repeat(np.arange(len(events)), np.diff(read.hits.offsets))
    cells[event, DOM_CELL[read.hits.dom]] = read.hits.features
    np.testing.assert_array_equal(main_array(cells), golden_inputs(golden, "ic78"))
    np.testing.assert_array_equal(deepcore(cells), golden_inputs(golden, "deepcore"))
    np.testing.assert_array_equal(read.misc, golden["misc"])
    is_time = np.array([label == "VertexTime" for label in events.names.labels])
    np.testing.assert_array_equal(read.labels[:, ~is_time], golden["labels"][:, ~is_time])
    np.testing.assert_allclose(
        read.labels[:, is_time], golden["labels"][:, is_time], rtol=0, atol=1e-3
    )


def test_label_variants_equal_the_reference(
    tmp_path: Path, numu_file: Path, golden_network: Path
) -> None:
    golden = np.load(golden_network / "data_numu_medium_labelvariants.npz")
    labels = golden["labels_dirvec_relpos_smooth"]
    names = json.loads((golden_network / "data_labelvariants_meta.json").read_text())
    events = open_golden(
        tmp_path,
        numu_file,
        "inputs9",
        {
            "label_add_dir_vec": True,
            "label_position_at_rel_time": 500.0,
            "label_zenith_key": "PrimaryZenith",
            "label_azimuth_key": "PrimaryAzimuth",
            **{f"label_dir_{axis}_key": f"PrimaryDirection{axis.upper()}" for axis in "xyz"},
        },
        pid_keys=tuple(name for name in names["label_names"] if name.startswith("p_")),
        pid_smoothing=0.1,
    )
    assert events.names.labels == tuple(names["label_names"])
    read = read_all(events).labels
    smooth = np.array([name.startswith("p_") for name in names["label_names"]])
    np.testing.assert_allclose(read[:, smooth], labels[:, smooth], atol=1e-7)
    np.testing.assert_allclose(read[:, ~smooth], labels[:, ~smooth], rtol=1e-6, atol=1e-3)


# --------------------------------------------------------------------------------------------------
# What is built again, and what is not
# --------------------------------------------------------------------------------------------------
def make_unreadable(source: Path) -> None:
    """Spoil the content of a file, but not what can be seen of it from outside."""
    status = source.stat()
    source.write_bytes(bytes(status.st_size))
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_events(tmp_path / "e.hdf5", random_events(1, 30))


def test_the_second_opening_reads_no_source(tmp_path: Path, source: Path) -> None:
    other = write_events(tmp_path / "f.hdf5", random_events(2, 10))
    sources = [source, other]
    first = open_events(make_store(tmp_path / "store"), sources, 1)
    for file in sources:
        make_unreadable(file)
    again = open_events(make_store(tmp_path / "store"), sources, 1)
    assert_same(first, again)


def test_settings_that_nothing_depends_on_build_nothing(tmp_path: Path, source: Path) -> None:
    first = open_events(make_store(tmp_path / "store"), [source], 1)
    make_unreadable(source)
    config = {**CONFIG, "trafo_log_label_bins": True, "batch_size": 7}
    assert_same(first, open_events(make_store(tmp_path / "store", config), [source], 1))


def test_another_time_of_change_or_size_builds_anew(tmp_path: Path) -> None:
    files = [random_events(seed, 10) for seed in (1, 2, 3)]
    source = write_events(tmp_path / "e.hdf5", files[0])
    before = source.stat()
    assert_holds(open_events(make_store(tmp_path / "store"), [source], 1), files[:1])
    write_events(source, files[1])
    later = before.st_mtime_ns + 1
    os.utime(source, ns=(later, later))
    assert_holds(open_events(make_store(tmp_path / "store"), [source], 1), [files[1]])
    write_events(source, random_events(3, 11))
    os.utime(source, ns=(later, later))
    assert_holds(open_events(make_store(tmp_path / "store"), [source], 1), [random_events(3, 11)])


def hits_folders(tmp_path: Path) -> dict[Path, int]:
    folders = (tmp_path / "store").glob("hits-*/*")
    return {folder: folder.stat().st_ino for folder in folders}


def test_another_cut_makes_other_records_of_the_same_hits(tmp_path: Path, source: Path) -> None:
    energies = random_events(1, 30).primary["energy"]

    def open_cut(cut: float) -> EventDataset:
        config = {**CONFIG, "filter_greater_than": {"MCPrimary_energy": cut}}
        return open_events(make_store(tmp_path / "store", config), [source], 1)

    low, middle = np.quantile(energies, [0.2, 0.5])
    loose = open_cut(low)
    hits = hits_folders(tmp_path)
    tight = open_cut(middle)
    assert hits_folders(tmp_path) == hits
    for events, cut in ((loose, low), (tight, middle)):
        kept = energies[energies > cut].astype(np.float32)
        np.testing.assert_array_equal(column(events, "MCPrimary_energy"), kept)
    # Both stay: whoever uses the one is not disturbed by the other, and going back is free.
    make_unreadable(source)
    assert_same(open_cut(low), loose)
    assert_same(open_cut(middle), tight)


def test_another_label_table_gives_other_records(tmp_path: Path, source: Path) -> None:
    open_events(make_store(tmp_path / "store"), [source], 1)
    config = {**CONFIG, "data_handler_label_key": "MCPrimary"}
    events = open_events(make_store(tmp_path / "store", config), [source], 1)
    assert events.names.labels == ("energy", "pdg_encoding")


@pytest.mark.parametrize(
    "settings", [{"dtype": "float64"}, {"init_values": [1.0] * 9}, {"num_bins": 10}]
)
def test_other_settings_of_the_hits_decode_anew(
    tmp_path: Path, source: Path, settings: dict[str, Any]
) -> None:
    open_events(make_store(tmp_path / "store"), [source], 1)
    open_events(make_store(tmp_path / "store", **settings), [source], 1)
    assert len(hits_folders(tmp_path)) == 2


def test_keys_that_a_users_function_reads_are_tracked(tmp_path: Path, source: Path) -> None:
    energies = random_events(1, 30).labels["EnergyVisible"]
    for factor in (2.0, 3.0, 2.0):
        store = make_store(
            tmp_path / "store",
            {**CONFIG, "my_factor": factor},
            label_class="user_functions.my_labels",
        )
        events = open_events(store, [source], 1)
        expected = (factor * energies).astype(np.float32)
        np.testing.assert_array_equal(column(events, "my_energy"), expected)


def test_a_key_that_is_set_for_the_first_time_is_noticed(tmp_path: Path, source: Path) -> None:
    assert len(open_events(make_store(tmp_path / "store"), [source], 1).names.labels) == 12
    config = {**CONFIG, "label_keys_to_load": ["VertexX"]}
    events = open_events(make_store(tmp_path / "store", config), [source], 1)
    assert events.names.labels == ("VertexX",)


def test_the_source_of_a_users_function_is_tracked(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "my_filters.py"
    monkeypatch.syspath_prepend(tmp_path)
    counts, hits = [], []
    for keep in ("< 5", "> 5"):
        module.write_text(
            "import numpy as np\n"
            f"def first(data, path, config, x, y, labels, *args):\n"
            f"    return np.arange(len(labels)) {keep}\n"
        )
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        monkeypatch.delitem(sys.modules, "my_filters", raising=False)
        store = make_store(tmp_path / "store", filter_class="my_filters.first")
        counts.append(len(open_events(store, [source], 1)))
        hits.append(hits_folders(tmp_path))
    assert counts == [5, 24]
    assert hits[0] == hits[1]


def test_relative_and_absolute_paths_are_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my data [v2]"
    folder.mkdir()
    events = random_events(1, 5)
    source = write_events(folder / "event file.hdf5", events)
    monkeypatch.chdir(folder)
    relative = make_store(Path("../event store"))
    assert_holds(open_events(relative, [Path("event file.hdf5")], 1), [events])
    make_unreadable(source)
    monkeypatch.chdir("/")
    absolute = make_store(tmp_path / "event store")
    assert_holds(open_events(absolute, [source], 1), [events])


def test_a_long_file_name(tmp_path: Path) -> None:
    events = random_events(1, 5)
    source = write_events(tmp_path / f"{'x' * 220}.hdf5", events)
    assert_holds(open_events(make_store(tmp_path / "store"), [source], 1), [events])


def test_a_store_may_be_moved(tmp_path: Path, source: Path) -> None:
    first = open_events(make_store(tmp_path / "store"), [source], 1)
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    make_unreadable(source)
    assert_same(first, open_events(make_store(tmp_path / "copy"), [source], 1))


# --------------------------------------------------------------------------------------------------
# Interruptions, damage, and several processes
# --------------------------------------------------------------------------------------------------
def test_what_an_interruption_leaves_is_not_used(tmp_path: Path, source: Path) -> None:
    whole = open_events(make_store(tmp_path / "whole"), [source], 1)
    shard = whole.shards[0]
    half = tmp_path / "store" / shard.hits_folder.relative_to(tmp_path / "whole")
    for left_behind in (half, half.parent / f".tmp-{half.name}-abc" / half.name):
        left_behind.mkdir(parents=True)
        (left_behind / "dom.bin").write_bytes(b"\0\0")
    records = tmp_path / "store" / shard.records_file.relative_to(tmp_path / "whole")
    records.parent.mkdir(parents=True)
    records.write_bytes(b"\0\0")
    assert_same(open_events(make_store(tmp_path / "store"), [source], 1), whole)


DAMAGED_JSON = ["", '{"names": {"la', "[]", "{}", "[1]", '{"config_read": 1}', "[" * 100_000]


@pytest.mark.parametrize("content", DAMAGED_JSON)
def test_a_damaged_description_is_made_anew(tmp_path: Path, source: Path, content: str) -> None:
    events = open_events(make_store(tmp_path / "store"), [source], 1)
    events.shards[0].records_file.with_suffix(".json").write_text(content)
    assert_same(open_events(make_store(tmp_path / "store"), [source], 1), events)


@pytest.mark.parametrize("part", ["dom.bin", "features.bin", "events.npy", "shard.json"])
def test_damaged_hits_are_built_again_when_records_are_made(
    tmp_path: Path, source: Path, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    events = open_events(make_store(tmp_path / "store"), [source], 1)
    folder = events.shards[0].hits_folder
    os.truncate(folder / part, (folder / part).stat().st_size // 2)
    smoothing = {"pid_keys": ("p_starting",), "pid_smoothing": 0.1}
    again = open_events(make_store(tmp_path / "store", **smoothing), [source], 1)
    assert f"damaged in '{folder}'" in caplog.text
    elsewhere = open_events(make_store(tmp_path / "other", **smoothing), [source], 1)
    assert_same(again, elsewhere)


@pytest.mark.parametrize("part", ["dom.bin", "features.bin", "records"])
def test_changed_content_is_an_error_and_then_built_again(
    tmp_path: Path, source: Path, part: str
) -> None:
    """One bit of the last event is flipped; the size stays."""
    events = open_events(make_store(tmp_path / "store"), [source], 1)
    before = read_all(events)
    shard = events.shards[0]
    path = shard.records_file if part == "records" else shard.hits_folder / part
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    changed = open_events(make_store(tmp_path / "store"), [source], 1)
    with pytest.raises(DataError, match=rf"'{source}'.*Run the command again"):
        read_all(changed)
    after = read_all(open_events(make_store(tmp_path / "store"), [source], 1))
    np.testing.assert_array_equal(after.hits.features, before.hits.features)
    np.testing.assert_array_equal(after.labels, before.labels)


@pytest.mark.parametrize("part", ["dom.bin", "features.bin", "records"])
def test_a_part_of_wrong_size_is_built_again(tmp_path: Path, source: Path, part: str) -> None:
    events = open_events(make_store(tmp_path / "store"), [source], 1)
    before = read_all(events)
    shard = events.shards[0]
    os.truncate(shard.records_file if part == "records" else shard.hits_folder / part, 3)
    after = read_all(open_events(make_store(tmp_path / "store"), [source], 1))
    np.testing.assert_array_equal(after.hits.features, before.hits.features)
    np.testing.assert_array_equal(after.labels, before.labels)


@pytest.mark.parametrize("content", DAMAGED_JSON)
def test_damaged_descriptions_of_hits_are_built_again(
    tmp_path: Path, source: Path, content: str
) -> None:
    """Looking for what is stale reads them, too."""
    before = open_events(make_store(tmp_path / "store"), [source], 1)
    shard = before.shards[0]
    (shard.hits_folder / "shard.json").write_text(content)
    (tmp_path / "store" / "stale.json").write_text(content)
    shard.records_file.with_suffix(".json").unlink()
    assert_same(open_events(make_store(tmp_path / "store"), [source], 1), before)


def test_stale_folders_are_announced_and_removed_a_week_later(
    tmp_path: Path, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    folder = tmp_path / "store"
    store = make_store(folder)
    old = open_events(store, [source], 1).shards[0]
    killed = old.hits_folder.parent / ".tmp-killed"
    killed.mkdir()
    os.utime(killed, (0, 0))
    busy = old.hits_folder.parent / ".tmp-busy"
    busy.mkdir()
    write_events(source, random_events(3, 4))  # the shard of the former content is stale
    new = open_events(store, [source], 1).shards[0]
    assert "3 folders" in caplog.text and old.hits_folder.exists() and killed.exists()
    prune_store(folder, now=lambda: time.time() + 6.9 * 86_400)
    assert old.hits_folder.exists()
    prune_store(folder, now=lambda: time.time() + 7.1 * 86_400)
    assert not old.hits_folder.exists() and not killed.exists()
    assert not old.records_file.exists()
    assert new.hits_folder.exists() and new.records_file.exists() and busy.exists()


def test_shards_of_earlier_versions_are_stale(tmp_path: Path, source: Path) -> None:
    shard = open_events(make_store(tmp_path / "store"), [source], 1).shards[0]
    (shard.hits_folder / "shard.json").write_text('{"source": "f.hdf5", "skipped": {}}')
    prune_store(tmp_path / "store")
    assert shard.hits_folder.parent.name in (tmp_path / "store" / "stale.json").read_text()


BUILD = """
import sys
from pathlib import Path
from make_store import make_store
from dnn_reco.data.build import open_events
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    open_events(make_store(folder / "store"), sorted(folder.glob("*.hdf5")), 1)
"""


def start_builder(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process that builds the store as soon as it is told to."""
    path = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def write_many(tmp_path: Path, count: int) -> list[Path]:
    return [
        write_events(tmp_path / f"{i:02d}.hdf5", random_events(i, 4, run=i)) for i in range(count)
    ]


def test_processes_that_build_one_store_at_once(tmp_path: Path) -> None:
    sources = write_many(tmp_path, 20)
    builders = [start_builder(tmp_path) for _ in range(2)]
    for builder in builders:
        go(builder)
    for builder in builders:
        _, errors = builder.communicate(timeout=60)
        assert builder.returncode == 0, errors
    alone = open_events(make_store(tmp_path / "alone"), sources, 1)
    for source in sources:
        make_unreadable(source)
    assert_same(open_events(make_store(tmp_path / "store"), sources, 1), alone)
    assert not list((tmp_path / "store").rglob(".tmp-*"))


def test_a_killed_build_goes_on(tmp_path: Path) -> None:
    sources = write_many(tmp_path, 20)
    builder = start_builder(tmp_path)
    go(builder)
    while len(list((tmp_path / "store").glob("hits-*/*/shard.json"))) < 4:
        assert builder.poll() is None
        time.sleep(0.001)
    builder.send_signal(signal.SIGKILL)
    builder.communicate()
    alone = open_events(make_store(tmp_path / "alone"), sources, 1)
    assert_same(open_events(make_store(tmp_path / "store"), sources, 1), alone)


def test_a_file_where_the_store_should_be(tmp_path: Path, source: Path) -> None:
    (tmp_path / "store").touch()
    with pytest.raises(DataError, match=r"Not a directory.*GB are free.*--cache-dir"):
        open_events(make_store(tmp_path / "store"), [source], 1)


def test_a_full_disk_ends_the_build(tmp_path: Path) -> None:
    """Nothing must go on with only the files that still fitted."""
    small = write_events(tmp_path / "a.hdf5", random_events(1, 2))
    large = write_events(tmp_path / "b.hdf5", random_events(2, 400))
    code = """
import resource, sys
from pathlib import Path
from make_store import make_store
from dnn_reco.data.build import open_events
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
folder = Path(sys.argv[1])
open_events(make_store(folder / "store"), [folder / "a.hdf5", folder / "b.hdf5"], 1)
"""
    path = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    last_line = result.stderr.splitlines()[-1]
    store = tmp_path / "store"
    assert f"StoreError: '{large}' cannot be written to the event store '{store}': " in last_line
    assert re.search(r"File too large \(\S+ GB are free\): make room, or .*--cache-dir", last_line)
    shards = [path.parent.name for path in store.glob("hits-*/*/*")]
    assert len(shards) == 4
    assert set(shards) == {shard_name(small)}
    assert not list(store.rglob(".tmp-*"))
    assert len(open_events(make_store(tmp_path / "store"), [small, large], 1)) == 402
