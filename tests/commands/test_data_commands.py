"""`data check` and `compare-data` as a user runs them."""

import json
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from event_files import random_events, write_events
from workspace import NUM_TRAINING, NUM_VALIDATION, Workspace, invoke

from dnn_reco.data.hdf5 import InputTables, write_input_tables


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    result = invoke("simulate", "--events", "60", "--out", folder, "-j", "1", "--files", "2")
    assert result.exit_code == 0, result.err
    return folder


# --------------------------------------------------------------------------------------------------
# data check
# --------------------------------------------------------------------------------------------------
def test_simulated_files_have_no_fault(simulated: Path) -> None:
    result = invoke("data", "check", f"{simulated}/*.hdf5", "-j", "1", "--json")
    assert result.exit_code == 0
    findings = json.loads(result.out)
    assert findings["events"] == 60
    # only what is true of a small simulation: labels that do not vary
    assert {each["severity"] for each in findings["findings"]} == {"info"}
    assert all("the same for all events" in each["text"] for each in findings["findings"])


def test_config_gives_files_and_labels(workspace: Workspace) -> None:
    result = invoke("data", "check", workspace.config, "-j", "1")
    num_events = sum(NUM_TRAINING) + 2 * NUM_VALIDATION
    assert f"5 files, {num_events} events" in result.out
    # `EnergyVisible` of these files is computed from the charge, `LengthInDetector` from it
    assert "determine label 'EnergyVisible'" in result.out
    assert result.exit_code == 0


def test_error_sets_the_exit_code(workspace: Workspace, tmp_path: Path) -> None:
    broken = tmp_path / "broken.hdf5"
    broken.write_bytes(b"no events")
    result = invoke("data", "check", workspace.config, broken)
    assert result.exit_code == 1
    assert "error " in result.out and "broken.hdf5" in result.out
    result = invoke("data", "check", broken)
    assert result.exit_code == 1
    assert "no file can be read" in result.err and "Traceback" not in result.err


def test_findings_of_many_files_are_put_together(tmp_path: Path) -> None:
    for number in range(5):
        path = write_events(tmp_path / f"{number}.hdf5", random_events(number, 4, run=number))
        with h5py.File(path, "r+") as file:
            rows = file["MCPrimary"][()]
            del file["MCPrimary"]
            file.create_dataset("MCPrimary", data=rows[1:])
    result = invoke("data", "check", f"{tmp_path}/*.hdf5", "-j", "1")
    (line,) = [line for line in result.out.splitlines() if "without a row" in line]
    assert line.startswith("warning  MCPrimary: ")
    assert "[5; in 0.hdf5, 1.hdf5, 2.hdf5 and 2 more; e.g. Run 0, Event 0" in line


def test_tables_must_be_known(workspace: Workspace, tmp_path: Path) -> None:
    path = write_two_sets(tmp_path / "two.hdf5")
    result = invoke("data", "check", path)
    assert result.exit_code == 1
    assert "several sets of input tables" in result.err and "--tables" in result.err
    assert invoke("data", "check", path, "--tables", "other").exit_code == 0
    result = invoke("data", "check", workspace.config, "--tables", "other")
    assert result.exit_code == 1
    assert "for files without a config" in result.err


def write_two_sets(path: Path) -> Path:
    events = random_events(1, 8)
    other = InputTables("other_bin_values", "other_bin_indices", "other_global_time_offset")
    write_input_tables(path, events.ids, events.time_offset, events.hits, names=other)
    extra = path.with_suffix(".extra")
    write_input_tables(extra, events.ids, events.time_offset, events.hits)
    with h5py.File(path, "r+") as file, h5py.File(extra) as source:
        for name in source:
            if name.startswith("dnn_data"):
                source.copy(name, file)
    extra.unlink()
    return path


# --------------------------------------------------------------------------------------------------
# compare-data
# --------------------------------------------------------------------------------------------------
def write_set(folder: Path, seed: int, **changes: object) -> str:
    folder.mkdir()
    for number in range(2):
        events = random_events(seed + number, 30, run=seed + number)
        write_events(folder / f"{number}.hdf5", events, **changes)
    return f"{folder}/*.hdf5"


def test_two_sets_of_files(tmp_path: Path) -> None:
    first, second = write_set(tmp_path / "a", 10), write_set(tmp_path / "b", 20)
    out = tmp_path / "out"
    result = invoke("compare-data", first, second, "--out", out, "--events", "40")
    assert result.exit_code == 0, result.err
    assert f"A: 40 events of {first}" in result.out
    inputs, labels = result.out.split("\nLabels")
    assert "total charge [PE]" in inputs and "EnergyVisible" in labels
    assert (out / "data_comparison.html").is_file()
    numbers = json.loads((out / "data_comparison.json").read_text())
    ks = [each["ks"] for each in numbers["inputs"]]
    assert ks == sorted(ks, reverse=True) and 0 < ks[-1] < ks[0] < 1


def test_events_are_drawn_evenly_from_many_small_files(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.mkdir()
    for number in range(20):
        events = random_events(number, 3, run=number)
        events.labels["EnergyVisible"][:] = number
        write_events(first / f"{number:02d}.hdf5", events)
    second = write_events(tmp_path / "second.hdf5", random_events(30, 30, run=30))
    out = tmp_path / "out"
    options = ("--events", "15", "--out", out)
    result = invoke("compare-data", f"{first}/*.hdf5", second, *options)
    assert result.exit_code == 0, result.err
    assert "A: 15 events of" in result.out
    numbers = json.loads((out / "data_comparison.json").read_text())
    (energy,) = [each for each in numbers["labels"] if each["name"] == "EnergyVisible"]
    # one event of three files each, then none; of the first 15 files it would be 7
    assert energy["mean"][0] == pytest.approx(9)


def test_measured_data_have_no_labels(workspace: Workspace, tmp_path: Path) -> None:
    data = tmp_path / "data.hdf5"
    events = random_events(3, 30)
    write_input_tables(data, events.ids, events.time_offset, events.hits)
    simulation = min(workspace.data.rglob("*.hdf5"))
    for options in ([], ["--config", str(workspace.config)]):
        result = invoke("compare-data", simulation, data, "--out", tmp_path / "out", *options)
        assert result.exit_code == 0, result.err
        assert "\nLabels" not in result.out and "EnergyVisible" not in result.out
    assert "has no table 'LabelsDeepLearning': only its inputs are compared" in result.err


def test_weights(tmp_path: Path) -> None:
    first = write_set(tmp_path / "a", 10)
    data = tmp_path / "b.hdf5"
    events = random_events(3, 30)
    write_input_tables(data, events.ids, events.time_offset, events.hits)
    options = ("--out", tmp_path / "out", "--weights", "MCPrimary.energy")
    result = invoke("compare-data", first, data, *options)
    assert result.exit_code == 0, result.err
    assert "no table 'MCPrimary': its events have equal weights" in result.err
    charges = [
        events.features[a:b, 0].sum()
        for events in (random_events(10, 30), random_events(11, 30))
        for a, b in pairwise(events.offsets)
    ]
    energies = np.concatenate([random_events(seed, 30).primary["energy"] for seed in (10, 11)])
    numbers = json.loads((tmp_path / "out" / "data_comparison.json").read_text())
    (charge,) = [q for q in numbers["inputs"] if q["name"] == "total charge [PE]"]
    assert charge["mean"][0] == pytest.approx(np.average(charges, weights=energies), rel=1e-5)
    result = invoke("compare-data", first, data, "--weights", "MCPrimary.pdg_encoding")
    assert result.exit_code == 1
    assert "negative or not finite" in result.err
    result = invoke("compare-data", first, data, "--weights", "MCPrimar.energy")
    assert result.exit_code == 1
    assert "neither A nor B has such a table. Did you mean 'MCPrimary'?" in result.err
    for path in (tmp_path / "a").iterdir():
        with h5py.File(path, "r+") as file:
            rows = file["MCPrimary"][()]
            rows["energy"] = 0
            file["MCPrimary"][...] = rows
    result = invoke("compare-data", first, data, "--weights", "MCPrimary.energy")
    assert result.exit_code == 1
    assert f"the weights of all 60 events of '{first}' that were drawn are 0" in result.err


@pytest.mark.parametrize("number", [0, 1])
def test_weights_are_in_all_files_of_a_set_or_in_none(tmp_path: Path, number: int) -> None:
    first, second = write_set(tmp_path / "a", 10), write_set(tmp_path / "b", 20)
    without = tmp_path / "a" / f"{number}.hdf5"
    with h5py.File(without, "r+") as file:
        del file["MCPrimary"]
    out = tmp_path / "out"
    result = invoke("compare-data", first, second, "--weights", "MCPrimary.energy", "--out", out)
    assert result.exit_code == 1
    assert f"'{without}' has no table 'MCPrimary', which --weights needs" in result.err
    assert "1 of 2 lack it" in result.err
    assert not out.exists()


def test_a_file_belongs_to_one_of_the_sets(tmp_path: Path) -> None:
    first = write_set(tmp_path / "a", 10)
    copy = tmp_path / "copy.hdf5"
    copy.write_bytes((tmp_path / "a" / "1.hdf5").read_bytes())
    for second, named in ((tmp_path / "a" / "0.hdf5",) * 2, (copy, copy)):
        result = invoke("compare-data", first, second, "--out", tmp_path / "out")
        assert result.exit_code == 1
        assert f"'{named}' belongs to A and to B" in result.err
    assert not (tmp_path / "out").exists()


def test_folders_are_no_event_files(tmp_path: Path) -> None:
    for words in (["data", "check", tmp_path], ["compare-data", tmp_path, __file__]):
        result = invoke(*words)
        assert result.exit_code == 1
        assert f"'{tmp_path}' is a folder: name the files in it" in result.err


def test_what_is_not_checked_is_printed(tmp_path: Path) -> None:
    events, no_events = random_events(1, 30, run=1), random_events(1, 0)
    bare, empty = tmp_path / "bare.hdf5", tmp_path / "empty.hdf5"
    write_input_tables(bare, events.ids, events.time_offset, events.hits)
    write_events(empty, no_events)
    result = invoke("data", "check", bare, "-j", "1")
    assert "info     there is no table 'LabelsDeepLearning' of labels\n" in result.out
    assert " 1 info\n" in result.out  # and no other, such as of labels
    labelled = write_events(tmp_path / "labelled.hdf5", random_events(2, 30, run=2))
    result = invoke("data", "check", bare, labelled, "-j", "1")
    assert "no table 'LabelsDeepLearning' of labels [in bare.hdf5]" in result.out
    assert result.exit_code == 1
    result = invoke("data", "check", labelled, empty, "-j", "1")
    assert "warning  the file holds no event [in empty.hdf5]" in result.out


def test_tables_are_not_chosen_beside_a_config(workspace: Workspace, tmp_path: Path) -> None:
    first, second = write_set(tmp_path / "a", 10), write_set(tmp_path / "b", 20)
    options = ("--config", workspace.config, "--tables", "nonsense", "--out", tmp_path / "out")
    result = invoke("compare-data", first, second, *options)
    assert result.exit_code == 1
    assert "--tables is for files without a config: name the tables in the config" in result.err
    assert not (tmp_path / "out").exists()


def test_tables_with_other_numbers_of_features(tmp_path: Path) -> None:
    first = write_set(tmp_path / "a", 10)
    other = write_events(tmp_path / "b.hdf5", random_events(1, 5, num_bins=3))
    result = invoke("compare-data", first, other, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "dnn_data (9 features)" in result.err and "dnn_data (3 features)" in result.err
    both = write_two_sets(tmp_path / "two.hdf5")
    result = invoke("compare-data", first, both, "--out", tmp_path / "out")
    assert "--tables" in result.err
    options = ("--tables", "dnn_data", "--tables", "other", "--out", tmp_path / "out")
    assert invoke("compare-data", first, both, *options).exit_code == 0


def test_no_files(tmp_path: Path) -> None:
    result = invoke("compare-data", f"{tmp_path}/*.hdf5", f"{tmp_path}/*.hdf5")
    assert result.exit_code == 1
    assert "no file matches A" in result.err


@pytest.mark.parametrize("weights", ["weight", ".weight", "MCPrimary."])
def test_weights_name_a_table_and_a_column(weights: str) -> None:
    result = invoke("compare-data", "a*", "b*", "--weights", weights)
    assert result.exit_code == 2
    assert "is not TABLE.COLUMN" in result.err
