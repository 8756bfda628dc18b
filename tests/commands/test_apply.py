"""`apply`: models on event files, one row per event, resumable per file."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from applied_models import (
    contents,
    flawed_events,
    model_of_run,
    model_with_misc,
    rows,
    write_flawed,
)
from event_files import random_events, write_events
from small_run import SmallRun
from workspace import Result, invoke

import dnn_reco
from dnn_reco import Reconstructor, workers
from dnn_reco.commands import apply as command
from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.hdf5 import InputTables, dom_maps, input_tables, write_event_file
from dnn_reco.data.hdf5.record import RECORD
from dnn_reco.inference import file_application, onnx_backend
from dnn_reco.inference.model_folder import load_model_folder
from dnn_reco.inference.output_file import read_output_record
from dnn_reco.inference.torch_backend import TorchBackend
from dnn_reco.nn import device

SETTINGS = DataSettings(
    num_bins=3,
    relative_time_method="time_range",
    data_format="charge_bins",
    time_bins=(0.0, 500.0, 1000.0, 1500.0),
    pulse_key="InIceDSTPulses",
    dom_exclusions=("BadDomsList",),
    partial_exclusion=True,
)
OTHER = {
    "num_bins": 4,
    "relative_time_method": "wrt_median",
    "data_format": "reduced_summary_statistics_data",
    "time_bins": (0.0, 500.0, 1000.0, 2000.0),
    "is_str_dom_format": True,
    "pulse_key": "SRTInIcePulses",
    "dom_exclusions": ("BadDomsList", "SaturationWindows"),
    "partial_exclusion": False,
}


@pytest.fixture(scope="module")
def models(trained_run: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the models `first`, `second` and `with_settings`."""
    folder = tmp_path_factory.mktemp("models")
    model_of_run(trained_run, folder / "first")
    model_of_run(trained_run, folder / "second", 0.9)
    model_of_run(trained_run, folder / "with_settings", data_settings=SETTINGS)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three event files with events of all kinds."""
    folder = tmp_path_factory.mktemp("data")
    for number in range(3):
        write_flawed(folder / f"events_{number}.hdf5", flawed_events(number))
    return folder


def apply(*arguments: str | Path, inputs: str | Path, output: Path, jobs: int = 1) -> Result:
    line = ["--input", inputs, "--output", output, "--jobs", str(jobs), "--device", "cpu"]
    return invoke("apply", *arguments, *line, "--num_threads", str(jobs))


def done(result: Result) -> Result:
    assert result.exit_code == 0, result.err
    return result


def error(result: Result) -> str:
    assert result.exit_code == 1
    assert "Traceback" not in result.err
    return result.err[result.err.index("Error: ") :]


def test_each_event_has_its_row(models: Path, data: Path, tmp_path: Path) -> None:
    result = done(apply(models / "first", inputs=data / "*.hdf5", output=tmp_path))
    assert sorted(contents(tmp_path)) == [f"events_{number}.hdf5" for number in range(3)]
    reco = Reconstructor(models / "first", "cpu", 1)
    for number in range(3):
        flawed = flawed_events(number)
        table = rows(tmp_path / f"events_{number}.hdf5", "DeepLearningReco_first")
        for name in ("Run", "Event", "SubEvent", "SubEventStream"):
            assert np.array_equal(table[name], flawed.events.ids[name])
        assert table["exists"].all()
        assert np.array_equal(table["status"], flawed.status)
        good = np.flatnonzero(flawed.status == 0)
        direct = reco.predict(flawed.events.hits.select(good)).columns()
        assert list(direct) == list(table.dtype.names)[5:-1]
        for name, values in direct.items():
            np.testing.assert_allclose(table[name][good], values, rtol=1e-4)
            assert np.isnan(np.delete(table[name], good)).all()
        particle = rows(tmp_path / f"events_{number}.hdf5", "DeepLearningReco_first_I3Particle")
        assert np.array_equal(particle["Event"], table["Event"])
    status = np.concatenate([flawed_events(number).status for number in range(3)])
    kinds = ("OK", "NO_INPUT", "NO_HITS", "INVALID_INPUT")
    counts = ", ".join(f"{(status == i).sum()} {kind}" for i, kind in enumerate(kinds))
    assert result.out.startswith("120 events in 3 files (120 in ")
    assert f"  first  {counts}\n" in result.out


def test_models_that_read_alike_share_a_pass(
    models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    original = file_application.read_events
    monkeypatch.setattr(
        file_application, "read_events", lambda *a: read.append(a[0]) or original(*a)
    )
    both = tmp_path / "both"
    done(apply(models / "first", models / "second", inputs=data / "*_0.hdf5", output=both))
    assert read == [data / "events_0.hdf5"]
    for name in ("first", "second"):
        done(apply(models / name, inputs=data / "*_0.hdf5", output=tmp_path / name))
        for table in (f"DeepLearningReco_{name}", f"DeepLearningReco_{name}_I3Particle"):
            alone = rows(tmp_path / name / "events_0.hdf5", table)
            assert alone.tobytes() == rows(both / "events_0.hdf5", table).tobytes()


def test_models_that_read_other_tables(trained_run: SmallRun, models: Path, tmp_path: Path) -> None:
    names = {"data_handler_time_offset_name": "b_global_time_offset"}
    names |= {f"data_handler_bin_{each}_name": f"b_bin_{each}" for each in ("values", "indices")}
    other = model_of_run(trained_run, tmp_path / "other", **names)
    events = random_events(1, 20, num_bins=3)
    tables = InputTables()
    same, swapped = tmp_path / "same.hdf5", tmp_path / "swapped.hdf5"
    values, indices = dom_maps(events.hits)
    maps = {tables.values: values, tables.indices: indices}
    maps |= {"b_bin_values": values, "b_bin_indices": indices}
    offsets = {tables.time_offset: {"value": events.time_offset}}
    offsets["b_global_time_offset"] = {"value": events.time_offset}
    write_event_file(same, events.ids, offsets, maps)
    write_event_file(swapped, events.ids, offsets, maps)
    with h5py.File(swapped, "r+") as file:
        for name in list(file):
            if name.startswith("b_"):
                table = file[name][()]
                table["Event"] += 1
                file[name][...] = table
    done(apply(models / "first", other, inputs=same, output=tmp_path / "reco"))
    one, two = (
        rows(tmp_path / "reco" / "same.hdf5", f"DeepLearningReco_{name}")
        for name in ("first", "other")
    )
    assert one.tobytes() == two.tobytes()
    result = apply(models / "first", other, inputs=swapped, output=tmp_path / "reco")
    assert result.exit_code == 1
    assert (
        "'b_global_time_offset' list different events: apply models that read different"
        in result.err
    )


def run_times(path: Path) -> list[float]:
    table = rows(path, "DeepLearningReco_first")
    assert table.dtype.names[-3:] == ("status", "runtime_prediction", "runtime_preprocess")
    for name in table.dtype.names[-2:]:
        assert (table[name] == table[name][0]).all()
    return [table[name][0] for name in table.dtype.names[-2:]]


def test_run_times(models: Path, data: Path, tmp_path: Path) -> None:
    apply(models / "first", "--measure-time", inputs=data / "*_0.hdf5", output=tmp_path)
    assert all(0 < seconds < 1 for seconds in run_times(tmp_path / "events_0.hdf5"))


# --------------------------------------------------------------------------------------------------
# Going on
# --------------------------------------------------------------------------------------------------
def test_killed_and_resumed_equals_uninterrupted(models: Path, tmp_path: Path) -> None:
    """Byte for byte, also what is left in the folder."""
    data, whole, killed = (tmp_path / name for name in ("data", "whole", "killed"))
    data.mkdir()
    write_flawed(data / "00.hdf5", flawed_events(1, 60))
    for number in range(1, 16):
        os.link(data / "00.hdf5", data / f"{number:02d}.hdf5")
    done(apply(models / "first", inputs=data / "*.hdf5", output=whole))
    words = ["apply", models / "first", "--input", data / "*.hdf5", "--output", killed]
    words += ["--jobs", "1", "--device", "cpu", "--num_threads", "1"]
    process = subprocess.Popen([sys.executable, "-m", "dnn_reco", *map(str, words)])
    while len(list(killed.glob("*.hdf5"))) < 3 and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.wait()
    num_kept = len(list(killed.glob("*.hdf5")))
    assert 3 <= num_kept < 16
    unfinished = killed / ".tmp-15.hdf5-abc_1"  # as of a kill in the middle of writing
    unfinished.mkdir()
    (unfinished / "15.hdf5").write_bytes((whole / "15.hdf5").read_bytes()[:999])
    result = done(invoke(*words))
    assert f"{num_kept} of 16 files already exist" in result.err
    assert result.out.startswith(f"960 events in 16 files, {num_kept} of them already existing (")
    assert contents(killed) == contents(whole)


def test_what_is_complete_is_kept(
    models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = done(apply(models / "first", inputs=data / "*.hdf5", output=tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    monkeypatch.setattr(command, "load_models", None)  # nor are the models loaded
    monkeypatch.setattr(command, "apply_to_file", None)
    monkeypatch.setattr(file_application.load_models, "cache_clear", lambda: None)
    monkeypatch.setattr(command, "load_models", file_application.load_models)
    again = done(apply(models / "first", inputs=data / "*.hdf5", output=tmp_path))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    assert again.out.splitlines()[0] == "120 events in 3 files, 3 of them already existing."
    assert again.out.splitlines()[1:] == first.out.splitlines()[1:]


def changed_input(source: Path, model: Path) -> list[str]:
    write_flawed(source, flawed_events(9))
    return []


def changed_model(source: Path, model: Path) -> list[str]:
    manifest = json.loads((model / "manifest.json").read_text())
    (model / "manifest.json").write_text(json.dumps({**manifest, "origin": "elsewhere"}))
    return []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (changed_input, "the input file has changed since"),
        (changed_model, "the model 'model' has changed since"),
        (lambda *_: ["--batch-size", "7"], "--batch-size was 256, is 7"),
        (lambda *_: ["--measure-time"], "--measure-time was False, is True"),
        (
            lambda *_: ["--ignore-mismatch", "num_bins"],
            "--ignore-mismatch was not given, is num_bins",
        ),
    ],
)
def test_what_was_made_otherwise_is_replaced_only_if_asked(
    trained_run: SmallRun,
    tmp_path: Path,
    change: Callable[[Path, Path], list[str]],
    reason: str,
) -> None:
    model = model_of_run(trained_run, tmp_path / "model")
    source = write_flawed(tmp_path / "a.hdf5", flawed_events(1))
    output = tmp_path / "reco.hdf5"
    done(apply(model, inputs=source, output=output))
    before = output.read_bytes()
    options = change(source, model)
    message = error(apply(model, *options, inputs=source, output=output))
    assert f"'{output}': {reason}" in message
    assert "Replace them with --overwrite" in message
    assert output.read_bytes() == before
    done(apply(model, "--overwrite", *options, inputs=source, output=output))
    assert output.read_bytes() != before
    kept = done(apply(model, "--overwrite", *options, inputs=source, output=output))
    assert "1 of 1 files already exist" in kept.err


def test_other_models_and_files_of_others(models: Path, data: Path, tmp_path: Path) -> None:
    source, output = data / "events_0.hdf5", tmp_path / "reco.hdf5"
    done(apply(models / "first", inputs=source, output=output))
    message = error(apply(models / "second", inputs=source, output=output))
    assert "it holds predictions of 'first', not of 'second'" in message
    write_events(output, random_events(3, 5))
    before = output.read_bytes()
    for more in ([], ["--overwrite"]):
        message = error(apply(models / "first", *more, inputs=source, output=output))
        assert f"'{output}' already exists and is not an output of this command" in message
    assert output.read_bytes() == before


def test_file_without_events(models: Path, tmp_path: Path) -> None:
    source = write_events(tmp_path / "none.hdf5", random_events(0, 0, num_bins=3))
    result = done(apply(models / "first", inputs=source, output=tmp_path / "reco.hdf5"))
    assert result.out == "0 events in 1 file.\n  first  0 OK\n"
    assert len(rows(tmp_path / "reco.hdf5", "DeepLearningReco_first")) == 0


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals(
    models: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    exit_code: int,
) -> None:
    original = command.apply_to_file

    def interrupted(options: object, task: command.FileTask) -> object:
        if task.source.name == "events_1.hdf5":
            task.output.with_name(f".tmp-{task.output.name}-x_1").mkdir()
            os.kill(os.getpid(), number)
        return original(options, task)

    handler = signal.getsignal(number)
    with monkeypatch.context() as patched:
        patched.setattr(command, "apply_to_file", interrupted)
        result = apply(models / "first", inputs=data / "*.hdf5", output=tmp_path / "reco")
    assert signal.getsignal(number) == handler
    assert result.exit_code == exit_code
    assert "Stopped. Finished files are kept; run the same command to resume." in result.err
    assert list(contents(tmp_path / "reco")) == ["events_0.hdf5"]
    assert not list((tmp_path / "reco").glob(".tmp*"))
    done(apply(models / "first", inputs=data / "*.hdf5", output=tmp_path / "reco"))
    assert len(contents(tmp_path / "reco")) == 3


def test_several_processes_and_reading_ahead_for_a_gpu(
    models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    for path in data.iterdir():
        os.link(path, tmp_path / "data" / path.name)
    (tmp_path / "data" / "events_0_broken.hdf5").write_bytes(b"no events")
    results = {}
    for way, jobs in (("alone", 1), ("processes", 2), ("gpu", 2)):
        with monkeypatch.context() as patched:
            patched.setattr(command, "_uses_gpu", lambda settings, way=way: way == "gpu")
            results[way] = apply(
                models / "first", inputs=tmp_path / "data/*", output=tmp_path / way, jobs=jobs
            )
        assert results[way].exit_code == 1
        assert contents(tmp_path / way) == contents(tmp_path / "alone")
        assert len(contents(tmp_path / way)) == 3
        assert results[way].err.count("is skipped: ") == 1


@pytest.mark.parametrize(("worth_processes", "num_processes"), [(50e6, 1), (0.0, 2)])
def test_processes_are_started_where_there_is_work_for_them(
    worth_processes: float,
    num_processes: int,
    models: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = []

    def in_workers(work: Any, items: Any, jobs: int, advice: str) -> Any:
        started.append(jobs)
        return workers.in_workers(work, items, jobs, advice)

    monkeypatch.setattr(command, "_WORTH_PROCESSES", worth_processes)
    monkeypatch.setattr(command, "in_workers", in_workers)
    line = ["--input", data / "*.hdf5", "--output", tmp_path / "reco", "--device", "cpu"]
    done(invoke("apply", models / "first", *line, "--num_threads", "2"))
    assert started == [num_processes]
    assert len(contents(tmp_path / "reco")) == 3


def test_onnx_runtime_gets_its_threads_on_a_machine_with_a_gpu(
    models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    class FakeBackend(TorchBackend):
        """In place of ONNX Runtime, which needs a graph."""

        calibration = None

        def __init__(self, folder: Path, num_threads: int | None = None) -> None:
            super().__init__(load_model_folder(folder, torch.device("cpu")))
            given.append(num_threads)

    monkeypatch.setattr(onnx_backend, "OnnxBackend", FakeBackend)
    monkeypatch.setattr(device, "choose_device", lambda name: torch.device("cuda"))
    line = ["--input", data / "events_0.hdf5", "--output", tmp_path / "reco.hdf5"]
    options = ["--backend", "onnxruntime", "--num-threads", "2"]
    done(invoke("apply", models / "first", *line, *options))
    assert given == [2]


# --------------------------------------------------------------------------------------------------
# What is refused
# --------------------------------------------------------------------------------------------------
def test_damaged_files_are_skipped_and_named(models: Path, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(3):
        os.link(data / f"events_{number}.hdf5", folder / f"events_{number}.hdf5")
    whole = (data / "events_0.hdf5").read_bytes()
    (folder / "cut.hdf5").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.hdf5").touch()
    result = apply(models / "first", inputs=folder / "*.hdf5", output=tmp_path / "reco")
    assert result.exit_code == 1
    for name, reason in (("cut", "is truncated"), ("empty", "is empty (0 bytes)")):
        path = folder / f"{name}.hdf5"
        assert f"'{path}' is skipped: the file {reason}" in result.err
    assert result.out.startswith("120 events in 3 files (")
    assert f"2 files skipped: '{folder / 'cut.hdf5'}', '{folder / 'empty.hdf5'}'" in result.out
    assert sorted(contents(tmp_path / "reco")) == [f"events_{n}.hdf5" for n in range(3)]


def test_misc_data_are_read_from_the_files_or_the_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    model = model_with_misc(tmp_path / "run", tmp_path / "model")
    options = ["--allow-code", "misc_plugins"]
    events = random_events(5, 30, num_bins=3, empty_fraction=0.2)
    source = write_events(tmp_path / "a.hdf5", events)
    done(apply(model, *options, inputs=source, output=tmp_path / "reco.hdf5"))
    reco = Reconstructor(model, "cpu", 1, allow_code=["misc_plugins"])
    energy = events.primary["energy"]
    direct = reco.predict(events.hits, misc=np.stack([energy, np.sign(energy - 1e3)], axis=1))
    table = rows(tmp_path / "reco.hdf5", "DeepLearningReco_model")
    np.testing.assert_allclose(table["EnergyVisible"], direct["EnergyVisible"], rtol=1e-5)
    without = write_events(tmp_path / "without.hdf5", replace(events, primary={}))
    result = apply(model, *options, inputs=without, output=tmp_path / "reco")
    assert result.exit_code == 1
    assert f"'{without}' is skipped: the network of 'model' reads the misc data energy, sign: " in (
        result.err
    )
    assert "with --allow-code misc_plugins" in error(
        apply(model, inputs=source, output=tmp_path / "reco")
    )


@pytest.mark.parametrize("key", OTHER)
def test_wrong_data_settings_are_refused_by_name(
    models: Path, data: Path, tmp_path: Path, key: str
) -> None:
    model, output = models / "with_settings", tmp_path / "reco"
    source = tmp_path / "events_0.hdf5"
    shutil.copyfile(data / source.name, source)
    line = {"inputs": source, "output": output}
    wrong = replace(SETTINGS, **{key: OTHER[key]})
    (tmp_path / "settings.yaml").write_text(wrong.to_json())
    by_file = ["--data-settings", tmp_path / "settings.yaml"]
    message = error(apply(model, *by_file, **line))
    assert "the model 'with_settings' cannot be applied to" in message
    assert re.search(rf"\n  {key} is .* for the model, .* in the data\n", message)
    assert f"--ignore-mismatch {key}" in message
    assert not output.exists()
    # the record of the file comes before the option
    with h5py.File(source, "a") as file:
        file.attrs[RECORD] = wrong.to_json()
    assert f"\n  {key} is " in error(apply(model, **line))
    ignored = done(apply(model, "--ignore-mismatch", key, **line))
    assert f"{key} is " in ignored.err
    record = read_output_record(output / "events_0.hdf5")
    assert record.application.ignore_mismatch == (key,)
    assert [f"{key} is " in warning for warning in record.ignored_mismatches] == [True]
    assert DataSettings.from_json(record.data_settings["with_settings"]) == wrong
    with h5py.File(source, "a") as file:
        file.attrs[RECORD] = SETTINGS.to_json()
    line = {"inputs": source, "output": tmp_path / "fine"}
    message = error(apply(model, *by_file, **line))
    assert f"--data-settings contradicts the settings that '{source}' records:\n  {key} " in message
    done(apply(model, *by_file, "--ignore-mismatch", key, **line))
    (tmp_path / "settings.yaml").write_text(SETTINGS.to_json())
    fine = done(apply(model, *by_file, "--overwrite", **line))
    assert "WARNING" not in fine.err
    assert read_output_record(tmp_path / "fine" / "events_0.hdf5").ignored_mismatches == ()


@pytest.mark.parametrize("option", ["--pulses", "--gcd"])
def test_options_for_frames_alone(models: Path, data: Path, tmp_path: Path, option: str) -> None:
    arguments = (option, data / "events_0.hdf5")  # a file that exists, as --gcd needs one
    message = error(
        apply(models / "first", *arguments, inputs=data / "*.hdf5", output=tmp_path / "reco")
    )
    assert message == f"Error: {option} is for .i3 files, but no file of --input is one\n"
    assert not (tmp_path / "reco").exists()


def test_unknown_data_settings(models: Path, data: Path, tmp_path: Path) -> None:
    line = {"inputs": data / "*.hdf5", "output": tmp_path / "first"}
    result = done(apply(models / "first", **line))
    message = "the model 'first' does not hold the settings of its training data"
    assert result.err.count("WARNING: ") == result.err.count(message) == 1
    line["output"] = tmp_path / "second"
    result = done(apply(models / "with_settings", **line))
    message = "'events_0.hdf5' does not record the settings of its features"
    assert result.err.count("WARNING: ") == result.err.count(message) == 1
    assert "give --data-settings (further files with the same are not listed)" in result.err
    wrong = error(
        apply(models / "first", "--ignore-mismatch", "num_bin", inputs=data / "*", output=tmp_path)
    )
    assert "no data setting 'num_bin' to ignore; the nearest is 'num_bins'" in wrong


def test_inputs_and_outputs_in_one_folder(models: Path, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "more").mkdir(parents=True)
    os.link(data / "events_0.hdf5", folder / "more" / "a.hdf5")
    os.link(data / "events_1.hdf5", folder / "b.hdf5")
    message = error(apply(models / "first", inputs=folder / "*.hdf5", output=folder))
    assert f"would replace the input file '{folder / 'b.hdf5'}': choose another folder" in message
    for times in (1, 2):  # the second time the pattern matches the output of the first
        result = done(apply(models / "first", inputs=folder / "*/*.hdf5", output=folder / "reco"))
        assert ("outputs of this command are not used as input" in result.err) == (times == 2)
        assert result.out.startswith("40 events in 1 file")
    alone = error(apply(models / "first", inputs=folder / "reco/*.hdf5", output=folder / "reco"))
    assert "all files that match --input are predictions of this command" in alone
    parquet = done(
        apply(models / "first", "--format", "parquet", inputs=folder / "*.hdf5", output=folder)
    )
    assert parquet.out.startswith("40 events")
    assert len(pd.read_parquet(folder / "b.parquet")) == 40


@pytest.mark.parametrize("suffix", ["hdf5", "parquet"])
def test_models_whose_tables_have_the_same_name(
    models: Path, data: Path, tmp_path: Path, suffix: str
) -> None:
    other = shutil.copytree(models / "second", tmp_path / "first_I3Particle")
    output = tmp_path / f"reco.{suffix}"
    for pair in ((models / "first", other), (other, models / "first")):
        message = error(apply(*pair, inputs=data / "events_0.hdf5", output=output))
        assert (
            "would both write the table 'DeepLearningReco_first_I3Particle': rename one" in message
        )
        assert not output.exists()


def test_wrong_calls(models: Path, data: Path, tmp_path: Path) -> None:
    first = models / "first"
    message = error(apply(first, inputs=data / "*.hdf5", output=tmp_path / "a.hdf5"))
    assert "is a file, but there are 3 input files: name a folder" in message
    source = data / "events_0.hdf5"
    message = error(apply(first, "--format", "parquet", inputs=source, output=tmp_path / "a.h5"))
    assert "must end in .parquet" in message
    message = error(apply(first, first, inputs=source, output=tmp_path))
    assert "two of the networks would be called 'first': rename one" in message
    message = error(apply(first, inputs=data / "none*.hdf5", output=tmp_path))
    assert "no file matches --input" in message
    message = error(apply(data, inputs=source, output=tmp_path))
    assert f"'{data}' is not a model folder" in message
    message = error(apply(first, inputs=data, output=tmp_path))
    assert f"--input '{data}' names a folder: give a pattern of files, such as" in message
    package = Path(dnn_reco.__file__).parent
    result = apply(first, inputs=source, output=package / "reco")
    assert result.exit_code == 2
    assert "lies in the folder of the package dnn_reco itself" in result.err
    assert not list(tmp_path.iterdir())


def test_help() -> None:
    result = invoke("apply", "--help")
    assert result.exit_code == 0
    assert "dnn-reco apply models/my_model --input 'data/*.hdf5' --out reco" in result.out


def test_a_model_of_the_reference_on_real_files(shared_data: Path, tmp_path: Path) -> None:
    """Imported and applied, it predicts what TensorFlow predicted of the same file."""
    golden = shared_data / "golden" / "network"
    model, source = tmp_path / "imported", shared_data / "real_nugen"
    assert invoke("import", golden / "tf_checkpoint", "-o", model).exit_code == 0
    done(apply(model, inputs=source / "NuMu_*.hdf5", output=tmp_path / "reco"))
    file = tmp_path / "reco" / "NuMu_medium_00000001.hdf5"
    with h5py.File(file) as result, h5py.File(source / file.name) as data:
        table = result["DeepLearningReco_imported"][:]
        particle = result["DeepLearningReco_imported_I3Particle"][:]
        theirs = data["DeepLearningReco_getting_started_model"][:]
        stored = data["DeepLearningReco_getting_started_model_I3Particle"].dtype
        ids = data["dnn_data_inputs9_InIceDSTPulses_global_time_offset"][:]
    expected = np.load(golden / "tf_checkpoint_predict_numu_medium.npz")
    config = dnn_reco.load_config(golden / "tf_checkpoint" / "config_training_0000.yaml")
    names = Reconstructor(model, device="cpu").info.label_names
    for label in config.labels.label_weight_dict:
        column = names.index(label)
        np.testing.assert_allclose(table[label], expected["y_pred"][:, column], rtol=2e-5)
        sigma = table[f"{label}_log_uncertainty"]
        np.testing.assert_allclose(sigma, expected["y_unc"][:, column], rtol=2e-5)
    np.testing.assert_array_equal(particle["energy"], table["EnergyVisible"])
    for key in ("Run", "Event", "SubEvent", "SubEventStream"):
        np.testing.assert_array_equal(table[key], ids[key])
    assert set(theirs.dtype.names) - set(table.dtype.names) == {
        *("runtime_prediction", "runtime_preprocess", "runtime_write")
    }
    assert particle.dtype.names == stored.names


def test_tables_of_another_name(models: Path, tmp_path: Path) -> None:
    events = random_events(3, 20, num_bins=3)
    usual = write_events(tmp_path / "usual.hdf5", events)
    other = write_events(tmp_path / "other.hdf5", events, names=input_tables("mine"))
    result = apply(models / "first", inputs=other, output=tmp_path / "reco")
    assert result.exit_code == 1
    assert "is skipped: the file has no table 'dnn_data_global_time_offset'" in result.err
    line = {"inputs": other, "output": tmp_path / "reco"}
    done(apply(models / "first", "--tables", "mine", **line))
    found = Reconstructor(models / "first", device="cpu", inputs="mine").predict(other)
    expected = Reconstructor(models / "first", device="cpu").predict(usual)
    np.testing.assert_array_equal(found.labels, expected.labels)
    with h5py.File(tmp_path / "reco" / "other.hdf5") as file:
        table = file["DeepLearningReco_first"][:]
    np.testing.assert_array_equal(table["EnergyVisible"], expected["EnergyVisible"])
    assert "made with different settings" in error(apply(models / "first", **line))
