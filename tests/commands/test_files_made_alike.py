"""Files of a training whose features were made with other settings than those of its first one."""

from dataclasses import replace
from pathlib import Path

import h5py
import pytest
from small_run import SmallRun, make_small_run
from tiny_network import tiny
from workspace import Result, invoke

from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.hdf5.record import RECORD

SETTINGS = DataSettings(3, "time_range", "pulse_summmary_clipped", pulse_key="A")
OTHERS = replace(SETTINGS, relative_time_method="wf_quantile")
TRAINING = ("train_0", "train_1")
DIFFERENCE = "  relative_time_method is 'time_range' there, 'wf_quantile' here\n"


@pytest.fixture
def run(tmp_path: Path) -> SmallRun:
    """A run whose first training file has no record, as those of IceCube's tools."""
    files = [str(tmp_path / f"{name}.hdf5") for name in ("old", *TRAINING)]
    run = make_small_run(
        tmp_path,
        30,
        **tiny(),
        training_data_file=files,
        trafo_data_file=files,
        trafo_num_batches=8,
        num_training_iterations=2,
    )
    (tmp_path / "more").mkdir()
    make_small_run(tmp_path / "more", 30)
    for name, new in (("train_0", "old"), ("train_1", "test")):
        (tmp_path / "more" / f"{name}.hdf5").rename(tmp_path / f"{new}.hdf5")
    record(run, SETTINGS, *TRAINING, "validation")
    return run


def record(run: SmallRun, settings: DataSettings, *names: str) -> None:
    for name in names:
        with h5py.File(run.folder / f"{name}.hdf5", "a") as file:
            file.attrs[RECORD] = settings.to_json()


def call(command: str, run: SmallRun, *options: str | Path) -> Result:
    return invoke(*command.split(), run.config_file, *options)


def expect_refused(result: Result, name: str) -> None:
    assert result.exit_code == 1
    output = result.out + result.err
    assert f"{name}.hdf5' was made with different settings than '" in output
    assert f"train_0.hdf5':\n{DIFFERENCE}" in output


def trained(run: SmallRun) -> SmallRun:
    for command in ("trafo", "train"):
        result = call(command, run, "--num_threads", "1")
        assert result.exit_code == 0, result.err
    return run


def test_files_of_a_training(run: SmallRun) -> None:
    record(run, OTHERS, "train_1")
    expect_refused(call("config check", run), "train_1")
    expect_refused(call("trafo", run, "--num_threads", "1"), "train_1")
    record(run, SETTINGS, "train_1")
    trained(run)
    record(run, OTHERS, "train_1")
    expect_refused(call("train", run, "--device", "cpu"), "train_1")
    expect_refused(call("export", run, "-o", run.folder / "model"), "train_1")


def test_validation_files(run: SmallRun) -> None:
    assert call("trafo", run, "--num_threads", "1").exit_code == 0
    record(run, OTHERS, "validation")
    expect_refused(call("config check", run), "validation")
    for _ in range(2):  # in the second call the files are in the event store
        expect_refused(call("train", run, "--device", "cpu"), "validation")


def test_other_pulses_are_a_warning(run: SmallRun) -> None:
    record(run, replace(SETTINGS, pulse_key="B"), "train_1")
    assert call("trafo", run, "--num_threads", "1").exit_code == 0
    results = [call(command, run) for command in ("config check", "train --device cpu")]
    results.append(call("export --no-logs", run, "-o", run.folder / "model"))
    for result in results:
        assert result.exit_code == 0, result.err
        assert "pulse_key is 'A' there, 'B' here; this difference is" in result.out + result.err


def test_held_out_files_of_a_config(run: SmallRun) -> None:
    trained(run)
    record(run, OTHERS, "test")
    out = ("--out", run.folder / "out", "--device", "cpu")
    command = ("evaluate", run.config_file, "--test-data", run.folder / "test.hdf5", *out)
    result = invoke(*command)
    assert result.exit_code == 1
    assert "test.hdf5' was made with different settings than the training data of th" in result.err
    assert "relative_time_method is 'time_range' for the model, 'wf_quantile' in the" in result.err
    ignoring = invoke(*command, "--ignore-mismatch", "relative_time_method")
    assert ignoring.exit_code == 0, ignoring.err
