"""The converter of the accuracy benchmark: features and labels of pulses, and who sees which."""

import importlib.util
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from dnn_reco.config import load_config
from dnn_reco.data.from_config import hits_settings
from dnn_reco.data.hdf5 import InputTables, read_events, read_file, read_table
from dnn_reco.event_sources import check_data_format

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks" / "accuracy"
NUM_EVENTS = 45


@pytest.fixture
def convert(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script as a module, with small blocks."""
    pytest.importorskip("pyarrow", reason="reads parquet files (extra: parquet)")
    spec = importlib.util.spec_from_file_location("convert", FOLDER / "convert.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "convert", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "EVENTS_PER_BLOCK", 20)
    yield module


def write_parquet(folder: Path) -> None:
    """Events with three pulses each, two of them in one DOM: charges 1, 3 and 2 PE."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    event = np.arange(NUM_EVENTS)
    zenith, azimuth = np.linspace(0.1, 3.0, NUM_EVENTS), np.linspace(0.0, 6.2, NUM_EVENTS)
    truth = {
        "run": np.full(NUM_EVENTS, 11, dtype=np.uint32),
        "event": event.astype(np.uint32),
        "EnergyVisible": (100.0 * (event + 1)).astype(np.float32),
        "PrimaryAzimuth": azimuth.astype(np.float32),
        "PrimaryDirectionX": (-np.sin(zenith) * np.cos(azimuth)).astype(np.float32),
        "PrimaryDirectionY": (-np.sin(zenith) * np.sin(azimuth)).astype(np.float32),
        "PrimaryDirectionZ": (-np.cos(zenith)).astype(np.float32),
        "PrimaryZenith": zenith.astype(np.float32),
        "kind": np.zeros(NUM_EVENTS, dtype=np.int8),
        "n_pe": np.zeros(NUM_EVENTS, dtype=np.float32),
    }
    pulses = {
        "event": np.repeat(event, 3).astype(np.uint32),
        "string": np.tile([3, 3, 86], NUM_EVENTS).astype(np.uint8),
        "om": np.tile([7, 7, 60], NUM_EVENTS).astype(np.uint8),
        "time": np.tile([10000, 10200, 10100], NUM_EVENTS).astype(np.uint16),
        "charge": np.tile([1.0, 3.0, 2.0], NUM_EVENTS).astype(np.float32),
        "flag": np.tile([1, 1, 4], NUM_EVENTS).astype(np.uint8),
    }
    pq.write_table(pa.table(truth), folder / "truth_run11.parquet")
    pq.write_table(pa.table(pulses), folder / "pulses_run11.parquet", row_group_size=31)


def test_every_event_once_with_its_features_and_labels(convert: ModuleType, tmp_path: Path) -> None:
    write_parquet(tmp_path)
    convert.convert(tmp_path, tmp_path / "out", 1)
    seen: dict[str, list[int]] = {}
    for path in sorted((tmp_path / "out").glob("*/*.hdf5")):
        events = read_events(path, InputTables(), 9, dtype=np.float64)
        labels = read_table(path, "LabelsDeepLearning")
        numbers = events.ids["Event"].astype(int)
        seen.setdefault(path.parent.name, []).extend(numbers)
        assert (events.ids["Run"] == 11).all()
        assert labels["EnergyVisible"].tolist() == (100.0 * (numbers + 1)).tolist()
        expected = np.linspace(0.1, 3.0, NUM_EVENTS)[numbers]
        assert labels["PrimaryZenith"] == pytest.approx(expected, abs=1e-6)
        expected = np.linspace(0.0, 6.2, NUM_EVENTS)[numbers]
        assert np.cos(labels["PrimaryAzimuth"]) == pytest.approx(np.cos(expected), abs=1e-5)
        assert "kind" not in labels.dtype.names
        assert "n_pe" not in labels.dtype.names
        assert events.hits.dom.tolist() == [2 * 60 + 6, 85 * 60 + 59] * len(numbers)
        # 4 PE in all, 1 of them at 10000 ns, 3 at 10200 ns
        summary = events.hits.features[0::2] + events.time_offset[:, None] * (np.arange(9) > 2)
        mean, spread = 10150.0, np.sqrt(2 * (1 * 150**2 + 3 * 50**2) / 4)
        first = np.array([4.0, 4.0, 1.0, 10000, 10000, 10200, 10200, mean])
        assert summary[:, :8] == pytest.approx(np.tile(first, (len(numbers), 1)))
        assert events.hits.features[0::2, 8] == pytest.approx(spread)
    every = np.arange(NUM_EVENTS)
    assert seen["test"] == every[every % 5 == 0].tolist()
    assert seen["validation"] == every[every % 20 == 1].tolist()
    assert sorted(chain(*seen.values())) == every.tolist()


def test_first_pulses_in_a_second_set_of_tables(
    convert: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(tmp_path)
    arguments = [str(tmp_path), "--out", str(tmp_path / "out"), "--first-pulses", "8", "--jobs=1"]
    monkeypatch.setattr(sys, "argv", ["convert.py", *arguments])
    convert.main()
    configs = [
        load_config([FOLDER / f"{data}.yaml", FOLDER / f"{network}.yaml"])
        for data, network in (
            ("data", "dom_transformer_S"),
            ("data_pulses", "dom_transformer_S_pulses"),
        )
    ]
    paths = list((tmp_path / "out").glob("*/*.hdf5"))
    assert len(paths) == 9
    for path in paths:
        summary, events = (read_file(path, hits_settings(config)) for config in configs)
        assert np.array_equal(summary.hits.features, events.hits.features[:, :9])
        two, one = events.hits.features[0::2, 9:], events.hits.features[1::2, 9:]
        times = two[:, :8] + events.time_offset[:, None]
        assert (times == [10000, 10200] + [10000] * 6).all()
        assert (two[:, 8:] == [1, 3] + [0] * 6).all()
        assert (one[:, :8] + events.time_offset[:, None] == 10100).all()
        assert (one[:, 8:] == [2] + [0] * 7).all()
        for config in configs:
            check_data_format(config, path)


def test_the_same_network_reads_pulses() -> None:
    of_summary, of_pulses = (
        load_config([FOLDER / f"data{suffix}.yaml", FOLDER / f"dom_transformer_S{suffix}.yaml"])
        for suffix in ("", "_pulses")
    )
    for group in ("data_files", "labels", "training", "model"):
        first, second = (getattr(each, group).model_dump() for each in (of_summary, of_pulses))
        differences = {key for key in first if first[key] != second[key]}
        assert differences <= {"model_checkpoint_path"}
    assert not of_pulses.notices


def test_check_finds_what_differs(
    convert: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_parquet(tmp_path)
    convert.convert(tmp_path, tmp_path / "out", 1)
    reference = tmp_path / "hdf5"
    convert.convert(tmp_path, reference, 1)
    for path in reference.glob("*/*.hdf5"):
        path.rename(reference / f"{path.parent.name}_{path.name}")
    assert convert.check(tmp_path / "out", reference)
    (tmp_path / "out" / "validation" / convert.file_name(1)).unlink()
    assert not convert.check(tmp_path / "out", reference)
    assert "1 are missing, 0 differ" in capsys.readouterr().out


def test_the_converted_events_are_those_that_come_as_event_files(
    convert: ModuleType, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shared_data / "ppc"
    if not folder.is_dir():
        pytest.skip(f"no simulated pulses in '{folder}'")
    monkeypatch.setattr(convert, "EVENTS_PER_BLOCK", 1000)
    ids, labels = convert.read_truth(folder)
    block = (5, ids[5000:6000], {name: column[5000:6000] for name, column in labels.items()})
    assert convert.convert_block(folder, tmp_path / "out", convert.data_settings(), block) == 1000
    (tmp_path / "hdf5").mkdir()
    name = "PPC_run11_0005.hdf5"
    (tmp_path / "hdf5" / name).symlink_to(folder / "hdf5" / name)
    assert convert.check(tmp_path / "out", tmp_path / "hdf5")


@pytest.mark.parametrize("network", ["cnn", "cnn_wide"])
def test_the_configs_differ_in_the_network_alone(network: str) -> None:
    config = load_config([FOLDER / "data.yaml", FOLDER / f"{network}.yaml"])
    assert not config.notices
    rate = config.optimizers["adam"].optimizer_settings["learning_rate"]
    assert rate.settings["steps"] == config.training.num_training_iterations
    for path in FOLDER.glob("*.yaml"):
        assert path.name in (FOLDER / "README.md").read_text()
