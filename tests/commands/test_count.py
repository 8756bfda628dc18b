"""`count`: the number of events, and what becomes of files that have none."""

import shutil
from pathlib import Path

import h5py
import pytest
from workspace import NUM_TRAINING, NUM_VALIDATION, Workspace, invoke

from dnn_reco.data.simulated_files import tutorial_path

BANNER = "\n===============================\n= Completed Counting Events:  =\n"
BANNER += "===============================\n"
TRAINING = sum(NUM_TRAINING)


def found(test: int, validation: int, training: int, trafo: int) -> str:
    return (
        f"{BANNER}Found {test} events for 'test_data_file'\n"
        f"Found {validation} events for 'validation_data_file'\n"
        f"Found {training} events for 'training_data_file'\n"
        f"Found {trafo} events for 'trafo_data_file'\n"
    )


ALL = found(NUM_VALIDATION, NUM_VALIDATION, TRAINING, TRAINING)


@pytest.mark.parametrize("options", [[], ["-j", "1"], ["--n_jobs", "3"]])
def test_counts_all_four_lists(workspace: Workspace, options: list[str]) -> None:
    result = workspace.run("count", *options)
    assert result.exit_code == 0
    assert result.out == ALL
    assert not (workspace.folder / "data").exists()  # counting leaves nothing behind


def test_each_file_counts_once_and_filters_do_not_count(workspace: Workspace) -> None:
    folder = tutorial_path(workspace.data, 0).parent
    workspace.edit(
        r"^(training_data_file:)\n.*$",
        rf"\1 ['{folder}/*.hdf5', '{folder}/11883_*', '{folder}/*00001.hdf5']",
    )
    workspace.set("filter_less_than", "{LabelsDeepLearning_LengthInDetector: 0.0}")
    assert workspace.run("count").out == ALL


def test_other_settings_do_not_matter(workspace: Workspace) -> None:
    workspace.set("data_handler_label_key", "NotThere")
    workspace.set("data_handler_bin_values_name", "not_there")
    workspace.set("trafo_num_batches", "100000")
    assert workspace.run("count").out == ALL


def test_list_without_files_counts_zero_and_fails(workspace: Workspace) -> None:
    pattern = f"{workspace.data}/nowhere/*.hdf5"
    workspace.edit(r"^(training_data_file:)\n.*$", rf"\1 {pattern}")
    result = workspace.run("count")
    assert result.exit_code == 1
    assert result.out == found(NUM_VALIDATION, NUM_VALIDATION, 0, TRAINING)
    assert f"WARNING: no file matches training_data_file:\n  {pattern}\n" in result.err
    assert result.err.count("WARNING") == 1


def test_list_that_is_not_set(workspace: Workspace) -> None:
    workspace.edit(r"^(training_data_file:)\n.*$", "")
    message = workspace.error("count")
    assert "the key 'training_data_file' is not set" in message


def test_files_that_cannot_be_read_are_listed_the_others_counted(
    workspace: Workspace, tmp_path: Path
) -> None:
    good = tutorial_path(workspace.data, 0)
    folder = tmp_path / "mixed"
    folder.mkdir()
    shutil.copy(good, folder / "good.hdf5")
    (folder / "truncated.hdf5").write_bytes(good.read_bytes()[:20_000])
    (folder / "empty.hdf5").touch()
    (folder / "text.hdf5").write_text("no such job\n")
    (folder / "dangling.hdf5").symlink_to(folder / "nowhere")
    workspace.edit(r"^(training_data_file:)\n.*$", rf"\1 '{folder}/*.hdf5'")
    result = workspace.run("count")
    assert result.exit_code == 1
    assert result.out == found(NUM_VALIDATION, NUM_VALIDATION, NUM_TRAINING[0], TRAINING)
    for name, reason in {
        "truncated": "truncated",
        "empty": "empty",
        "text": "not an HDF5 file",
        "dangling": "no such file",
    }.items():
        (warning,) = [w for w in result.err.split("WARNING: ") if f"/{name}.hdf5" in w]
        assert reason in warning
        assert warning.count(str(folder)) == 1
    assert "good.hdf5" not in result.err


def test_wrong_table_name_lists_the_tables_once(workspace: Workspace) -> None:
    workspace.set("data_handler_time_offset_name", "dnn_data_global_time_ofset")
    result = workspace.run("count")
    assert result.exit_code == 1
    assert result.out == found(0, 0, 0, 0)
    assert result.err.count("WARNING") == 1
    assert "5 files not counted: the file has no table 'dnn_data_global_time_ofset'" in result.err
    assert "data_handler_time_offset_name" in result.err
    for table in ("dnn_data_global_time_offset", "dnn_data_bin_values", "LabelsDeepLearning"):
        assert table in result.err
    assert result.err.count(".hdf5\n") == 5


def test_apply_filters_tells_how_many_pass(workspace: Workspace) -> None:
    workspace.set("filter_less_than", "{LabelsDeepLearning_LengthInDetector: 100.0}")

    def passing(*numbers: int) -> int:
        count = 0
        for number in numbers:
            with h5py.File(tutorial_path(workspace.data, number)) as file:
                count += int((file["LabelsDeepLearning"]["LengthInDetector"] < 100.0).sum())
        return count

    training, validation, test = passing(0, 1, 2), passing(1000), passing(1005)
    assert 0 < training < TRAINING
    result = workspace.run("count", "--apply-filters")
    assert result.exit_code == 0
    assert result.out == (
        f"{BANNER}Found {NUM_VALIDATION} events for 'test_data_file', {test} pass the filters"
        f"\nFound {NUM_VALIDATION} events for 'validation_data_file', {validation} pass the filters"
        f"\nFound {TRAINING} events for 'training_data_file', {training} pass the filters"
        f"\nFound {TRAINING} events for 'trafo_data_file', {training} pass the filters\n"
    )


def test_filters_that_nothing_passes(workspace: Workspace) -> None:
    workspace.set("filter_less_than", "{LabelsDeepLearning_LengthInDetector: -1.0}")
    result = workspace.run("count", "--apply-filters")
    assert result.exit_code == 1
    assert f"Found {TRAINING} events for 'training_data_file', 0 pass the filters" in result.out
    assert f"{TRAINING} rejected by the filter" in result.err
    assert "Traceback" not in result.err


def test_log_level_error_tells_results_only(workspace: Workspace) -> None:
    assert workspace.run("count", "--log_level", "ERROR").err == ""
    assert workspace.run("count", "--log-level", "error").out == ALL


@pytest.mark.parametrize(
    ("options", "jobs"),
    [
        ((), 5),
        (("-j", "8"), 8),
        (("-j", "8", "--num_threads", "2"), 2),
        (("-j", "1", "--num_threads", "2"), 1),
        (("--num_threads", "2"), 2),
        (("-j", "8", "--num_threads", "0"), 8),
    ],
)
def test_number_of_jobs(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], jobs: int
) -> None:
    given: list[int] = []

    def run_count(config: object, num_jobs: int, *_: object) -> int:
        given.append(num_jobs)
        return 0

    monkeypatch.setattr("dnn_reco.run_options.available_cpus", lambda: 5)
    monkeypatch.setattr("dnn_reco.commands.count.run_count", run_count)
    assert invoke("count", workspace.config, *options).exit_code == 0
    assert given == [jobs]
