"""`trafo`: the transformation model, its record, and all that can be wrong before it."""

import math
import resource
from pathlib import Path

import h5py
import numpy as np
import pytest
from workspace import NUM_TRAINING, Workspace

from dnn_reco.config import load_config
from dnn_reco.transform import load_transformation

MODEL = "../data/trafo_models/dnn_reco_11883_tutorial_trafo_model.npy"
SAVED = (
    "\n=======================================\n"
    "= Successfully saved trafo model to:  =\n"
    "=======================================\n"
    f"'{MODEL}'\n\n"
)
TRAINING = sum(NUM_TRAINING)


def test_ends_with_the_path_as_it_stands_in_the_config(workspace: Workspace) -> None:
    result = workspace.run("trafo")
    assert result.exit_code == 0
    assert result.out == SAVED
    assert Path(MODEL).is_file()


def test_record_beside_it_is_the_config_used(workspace: Workspace) -> None:
    workspace.run("trafo")
    path = workspace.trafo_model.with_name(f"config_trafo__{workspace.trafo_model.stem}.yaml")
    record, config = load_config([path]), load_config([workspace.config])
    assert record.values() == config.values()
    assert "pip_installed_packages" in path.read_text()


def test_made_again_it_is_left_as_it_is(workspace: Workspace) -> None:
    workspace.run("trafo")
    before = workspace.trafo_model.read_bytes()
    result = workspace.run("trafo")
    assert (result.exit_code, result.out) == (0, SAVED)
    assert workspace.trafo_model.read_bytes() == before


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("trafo_norm_constant", "0.1", "with different settings"),
        ("trafo_num_batches", "2", "fitted to different events"),
    ],
)
def test_another_model_is_replaced_only_when_asked(
    workspace: Workspace, key: str, value: str, reason: str
) -> None:
    workspace.run("trafo")
    before = workspace.trafo_model.read_bytes()
    workspace.set(key, value)
    message = workspace.error("trafo")
    assert f"'{MODEL}' already exists" in message
    assert reason in message
    assert "--overwrite" in message
    assert workspace.trafo_model.read_bytes() == before
    result = workspace.run("trafo", "--overwrite")
    assert (result.exit_code, result.out) == (0, SAVED)
    assert workspace.trafo_model.read_bytes() != before


def test_too_many_batches_tells_how_many_would_work(workspace: Workspace) -> None:
    workspace.set("trafo_num_batches", "100")
    workspace.set("batch_size", "30")
    batches = math.ceil(TRAINING / 30)  # a last partial batch counts
    message = workspace.error("trafo")
    assert "trafo_num_batches is 100" in message
    assert f"the {TRAINING} events" in message
    assert f"set trafo_num_batches to {batches} or less" in message
    assert not workspace.trafo_model.exists()
    workspace.set("trafo_num_batches", str(batches))
    assert workspace.run("trafo").exit_code == 0


def test_only_its_own_list_matters(workspace: Workspace) -> None:
    workspace.edit(r"^(training_data_file:)\n.*$", r"\1 'nowhere/*.hdf5'")
    workspace.edit(r"^(validation_data_file:)\n.*$", "")
    assert workspace.run("trafo").out == SAVED


def test_no_files(workspace: Workspace) -> None:
    workspace.edit(r"^(trafo_data_file:)\n.*$", r"\1 'nowhere/*.hdf5'")
    message = workspace.error("trafo")
    assert "no file matches trafo_data_file:\n  nowhere/*.hdf5\n" in message
    assert f"working directory '{workspace.directory}'" in message


@pytest.mark.parametrize(
    ("key", "table", "near"),
    [
        ("data_handler_bin_values_name", "dnn_data_bin_value", "dnn_data_bin_values"),
        ("data_handler_bin_indices_name", "dnn_data_indices", "dnn_data_bin_indices"),
        ("data_handler_time_offset_name", "dnn_data_offset", "dnn_data_global_time_offset"),
        ("data_handler_label_key", "LabelsDeepLerning", "LabelsDeepLearning"),
    ],
)
def test_wrong_table_name_lists_the_tables(
    workspace: Workspace, key: str, table: str, near: str
) -> None:
    workspace.set(key, table)
    message = workspace.error("trafo")
    assert f"no table '{table}' (given by '{key}')" in message
    assert f"Did you mean '{near}'?" in message
    assert "LabelsDeepLearning, MCPrimary, dnn_data_bin_indices, dnn_data_bin_values" in message


def test_missing_column_lists_the_columns(workspace: Workspace) -> None:
    workspace.set("LabelsDeepLearning", "LengthOfTrack")
    message = workspace.error("trafo")
    assert "misc_load_dict contains the column 'LengthOfTrack'" in message
    assert "LengthInDetector" in message


def test_filter_on_a_value_that_is_not_loaded(workspace: Workspace) -> None:
    workspace.set("filter_equal", "{LabelsDeepLearning_p_starting: 1}")
    message = workspace.error("trafo")
    assert "'filter_equal' needs the misc value 'LabelsDeepLearning_p_starting'" in message
    assert "LabelsDeepLearning_LengthInDetector" in message
    assert "misc_load_dict" in message


def test_misspelt_label_gets_a_warning(workspace: Workspace) -> None:
    workspace.edit(r"^  EnergyVisible: true", "  EnergyVisble: true")
    result = workspace.run("trafo")
    assert result.exit_code == 0
    assert "WARNING: trafo_log_label_bins names 'EnergyVisble'" in result.err
    assert "Did you mean 'EnergyVisible'?" in result.err


def test_folder_that_cannot_be_written(workspace: Workspace) -> None:
    (workspace.folder / "taken").touch()
    workspace.set("trafo_model_path", "../taken/model.npy")
    message = workspace.error("trafo", "--cache_dir", "../store")
    assert "../taken" in message


def test_event_store_goes_where_it_is_told(workspace: Workspace) -> None:
    result = workspace.run("trafo", "--cache-dir", "../my store")
    assert result.exit_code == 0
    assert "'../my store'" in result.err
    assert list((workspace.folder / "my store").iterdir())
    assert not (workspace.folder / "data" / "event_store").exists()


def test_a_full_disk_under_the_event_store(workspace: Workspace) -> None:
    """The system refuses files of more than 10 kB, as a full disk does."""
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        message = workspace.error("trafo", "--cache-dir", "../small")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))
    assert "cannot be written to the event store '../small': File too large" in message
    assert "make room, or choose another folder with --cache-dir" in message
    assert not [path for path in (workspace.folder / "small").rglob("*") if path.is_file()]
    assert workspace.run("trafo", "--cache-dir", "../small").exit_code == 0


def test_files_that_are_listed_several_times_have_that_weight(workspace: Workspace) -> None:
    files = sorted(workspace.data.rglob("00000-00999/*.hdf5"))
    listed = [files[0], files[0], *files]
    workspace.edit(r"^(trafo_data_file:)\n.*$", rf"\1 {[str(file) for file in listed]}")
    num_events = TRAINING + 2 * NUM_TRAINING[0]
    batches = math.ceil(num_events / 32)
    workspace.set("trafo_num_batches", str(batches + 1))
    assert f"the {num_events} events" in workspace.error("trafo")
    workspace.set("trafo_num_batches", str(batches))
    assert workspace.run("trafo").exit_code == 0
    model = load_transformation(workspace.trafo_model)
    name = "PrimaryZenith"
    column = model.settings.label_names.index(name)
    assert not model.settings.log_label_bins[column]
    values = []
    for path in listed:
        with h5py.File(path) as file:
            values.append(file["LabelsDeepLearning"][name])
    assert model.label_mean[column] == pytest.approx(
        np.concatenate(values).mean(), rel=1e-6
    )  # labels are float32
    assert model.label_std[column] == pytest.approx(
        np.concatenate(values).std(), rel=1e-6
    )  # labels are float32


def test_at_most_some_events_of_each_file(workspace: Workspace) -> None:
    workspace.append("data_handler_max_events_per_file: 39\n")
    workspace.set("trafo_num_batches", "10")
    assert f"the {39 + 39 + 38} events" in workspace.error("trafo")
