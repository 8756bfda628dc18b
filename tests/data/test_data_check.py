"""Each kind of fault, planted in a small file, is found; a clean file has none."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from event_files import LABEL_TABLE, Events, random_events, write_events
from scipy import stats

from dnn_reco.data.check.between_files import check_between_files
from dnn_reco.data.check.file import CheckSettings, FileCheck, check_file
from dnn_reco.data.check.finding import Finding
from dnn_reco.data.check.labels import rank_correlation
from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.file_events import HitsSettings, InputTables
from dnn_reco.data.hdf5 import write_input_tables

SETTINGS = CheckSettings(
    HitsSettings(InputTables(), 9, (0.0,) * 9, "float32", verify_all=True), LABEL_TABLE
)
VALUES, INDICES, OFFSETS = "dnn_data_bin_values", "dnn_data_bin_indices", InputTables().time_offset
Edit = Callable[[np.ndarray], np.ndarray]


def clean_events(seed: int = 1, num_events: int = 40, run: int = 1) -> Events:
    """Random events whose features can be true, and whose labels do not come from the inputs."""
    events = random_events(seed, num_events, run=run)
    rng = np.random.default_rng(seed)
    charge = np.sort(events.features[:, :3], axis=1)[:, ::-1]
    times = np.sort(events.features[:, 3:8], axis=1)[:, [0, 1, 2, 4, 3]]
    features = np.concatenate([charge, times, events.features[:, 8:]], axis=1)
    labels = {**events.labels, "EnergyVisible": rng.lognormal(5, 2, num_events)}
    labels["PrimaryEnergy"] = labels["EnergyVisible"] * rng.uniform(1, 2, num_events)
    return replace(events, features=features, labels=labels)


def edit(path: Path, table: str, change: Edit) -> Path:
    """Replace a table by another with the same type of rows."""
    with h5py.File(path, "r+") as file:
        rows = change(file[table][()])
        del file[table]
        file.create_dataset(table, data=rows)
    return path


def check(*paths: Path, **settings: object) -> list[Finding]:
    checks = [check_file(replace(SETTINGS, **settings), path) for path in paths]
    return all_findings(checks)


def all_findings(
    checks: list[FileCheck], wanted: DataSettings | None = None, trained: set[str] | None = None
) -> list[Finding]:
    between = check_between_files(checks, LABEL_TABLE, wanted, 9, trained)
    return [finding for check in checks for finding in check.findings] + between


def the_one(findings: list[Finding], text: str) -> Finding:
    """The finding with a text; there must be no other."""
    assert [finding for finding in findings if text not in finding.text] == []
    (finding,) = findings
    assert finding.remedy
    return finding


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_events(tmp_path / "events.hdf5", clean_events())


def test_clean_files_have_no_finding(path: Path, tmp_path: Path) -> None:
    other = write_events(tmp_path / "other.hdf5", clean_events(2, run=2), sparse=True)
    assert check(path, other) == []


# --------------------------------------------------------------------------------------------------
# Rows of tables
# --------------------------------------------------------------------------------------------------
def set_value(column: str, row: int, value: object) -> Edit:
    def change(rows: np.ndarray) -> np.ndarray:
        rows[column][row] = value
        return rows

    return change


@pytest.mark.parametrize(
    ("table", "change", "severity", "text", "example"),
    [
        (LABEL_TABLE, lambda rows: rows[:-2], "warning", "events without a row", "Event 38"),
        (
            LABEL_TABLE,
            lambda rows: np.append(rows, rows[7]),
            "error",
            "several rows for one event",
            "Event 7",
        ),
        (OFFSETS, set_value("exists", 5, 0), "warning", "without time offset", "Event 5"),
        (OFFSETS, set_value("value", 6, np.nan), "warning", "offset is not finite", "Event 6"),
        (LABEL_TABLE, set_value("exists", 4, 0), "warning", "rows without object", "Event 4"),
        ("MCPrimary", set_value("exists", 4, 0), "info", "rows without object", "Event 4"),
        (
            LABEL_TABLE,
            set_value("VertexX", 3, np.inf),
            "warning",
            "'VertexX' is not finite",
            "Event 3",
        ),
    ],
)
def test_rows_of_per_event_tables(
    path: Path, table: str, change: Edit, severity: str, text: str, example: str
) -> None:
    findings = check(edit(path, table, change))
    findings = [f for f in findings if "cannot be joined" not in f.text and f.table == table]
    finding = the_one([f for f in findings if text in f.text], text)
    assert finding.severity == severity
    assert example in finding.example


def test_rows_of_unknown_events(path: Path) -> None:
    edit(path, "MCPrimary", set_value("Event", 8, 999))
    findings = {finding.text: finding for finding in check(path)}
    unknown = findings.pop("rows of events that are not in the time-offset table")
    assert "Event 999" in unknown.example
    missing = findings.pop("events without a row in this table")
    assert "Event 8" in missing.example
    assert not findings


def test_tables_of_unequal_length(path: Path) -> None:
    findings = check(edit(path, INDICES, lambda rows: rows[:-9]))
    assert "must have equal lengths" in the_one(findings, "rows, but").text
    assert findings[0].severity == "error"


def test_rows_of_the_inputs_of_unknown_events(path: Path) -> None:
    for table in (VALUES, INDICES):
        edit(path, table, lambda rows: np.where(rows["Event"] == 5, shifted(rows), rows))
    findings = {finding.text: finding for finding in check(path)}
    finding = findings["rows of events not in the time-offset table"]
    assert (finding.severity, finding.table) == ("warning", VALUES)
    assert "Event 1005" in finding.example
    assert "Event 5," in findings["events without any hit"].example
    stale = [text for text in findings if "does not match the event ids" in text]
    assert len(stale) == 1


def shifted(rows: np.ndarray) -> np.ndarray:
    rows = rows.copy()
    rows["Event"] += 1000
    return rows


def test_bin_indices_are_compared_whole(path: Path) -> None:
    def reverse(rows: np.ndarray) -> np.ndarray:
        rows["item"][9:18] += 1
        return rows

    assert "lists bin 9" in the_one(check(edit(path, INDICES, reverse)), "lists bin").text


# --------------------------------------------------------------------------------------------------
# Inputs
# --------------------------------------------------------------------------------------------------
def event_of_row(path: Path, row: int) -> str:
    with h5py.File(path) as file:
        return f"Event {file[VALUES]['Event'][row]},"


@pytest.mark.parametrize(
    ("column", "row", "value", "severity", "text"),
    [
        ("item", 90, -1.0, "error", "negative charges"),
        ("item", 93, 1e8, "error", "times more than"),
        ("item", 98, -3.0, "error", "negative width"),
        ("item", 100, np.nan, "warning", "not finite"),
        ("item", 99, 0.01, "warning", "contradict"),
    ],
)
def test_values_that_cannot_be(
    path: Path, column: str, row: int, value: float, severity: str, text: str
) -> None:
    edit(path, VALUES, set_value(column, row, value))
    findings = [finding for finding in check(path) if "contradict" not in finding.text]
    if text == "contradict":
        findings = check(path)
    finding = the_one(findings, text)
    assert (finding.severity, finding.count) == (severity, 1)
    assert event_of_row(path, row) in finding.example


@pytest.mark.parametrize(
    ("string", "om", "severity", "text"),
    [(87, 5, "error", "unknown DOMs"), (30, 70, "error", "unknown DOMs"), (30, 62, "info", "tank")],
)
def test_doms_outside_of_the_detector(
    path: Path, string: int, om: int, severity: str, text: str
) -> None:
    def move(rows: np.ndarray) -> np.ndarray:
        rows["string"][18:27], rows["om"][18:27] = string, om
        return rows

    for table in (VALUES, INDICES):
        edit(path, table, move)
    finding = the_one(check(path), text)
    assert (finding.severity, finding.count) == (severity, 9)
    if severity == "error":
        assert f"string {string}, om {om}" in finding.example


def test_events_without_hits(tmp_path: Path) -> None:
    events = random_events(3, 40, empty_fraction=0.2)
    empty = np.flatnonzero(np.diff(events.offsets) == 0)
    events = replace(events, labels=clean_events(3).labels)
    findings = check(write_events(tmp_path / "a.hdf5", events))
    (finding,) = [f for f in findings if f.text == "events without any hit"]
    assert finding.count == len(empty) > 0
    assert f"Event {empty[0]}," in finding.example


# --------------------------------------------------------------------------------------------------
# Labels
# --------------------------------------------------------------------------------------------------
def with_label(path: Path, name: str, values: np.ndarray) -> Path:
    events = clean_events()
    return write_events(path, replace(events, labels={**events.labels, name: values}))


def test_label_that_the_inputs_give_away(path: Path) -> None:
    events = clean_events()
    charge = [events.features[a:b, 0].sum() for a, b in pairwise(events.offsets)]
    findings = check(with_label(path, "Leak", -np.log(charge)))
    assert "'Leak'" in the_one(findings, "total charge").text
    assert findings[0].severity == "warning"


def test_label_that_is_another(path: Path) -> None:
    findings = check(with_label(path, "Copy", clean_events().labels["VertexX"]))
    assert "label 'VertexX' and label 'Copy'" in the_one(findings, "are the same").text
    assert findings[0].severity == "warning"
    findings = check(with_label(path, "p_copy", clean_events().labels["p_starting"]))
    assert the_one(findings, "p_starting and p_copy").severity == "info"


def test_constant_label(path: Path) -> None:
    checks = [check_file(SETTINGS, with_label(path, "Constant", np.full(40, 2.0)))]
    assert the_one(all_findings(checks), "Constant").severity == "info"
    assert the_one(all_findings(checks, trained={"Constant"}), "Constant").severity == "warning"
    assert all_findings(checks, trained={"VertexX"}) == []


def test_few_events_have_no_findings_on_labels(path: Path) -> None:
    events = clean_events(num_events=5)
    write_events(path, replace(events, labels={"a": np.ones(5), "b": np.ones(5)}))
    assert check(path) == []


# --------------------------------------------------------------------------------------------------
# Events that occur twice, files that differ
# --------------------------------------------------------------------------------------------------
def test_same_id_twice_in_a_file(path: Path) -> None:
    events = clean_events()
    events.ids[3] = events.ids[2]
    findings = check(write_events(path, events))
    (finding,) = [f for f in findings if f.text == "several events have the same id"]
    assert (finding.severity, finding.count) == ("error", 2)
    assert "Event 2," in finding.example


def test_same_events_in_two_files(path: Path, tmp_path: Path) -> None:
    copy = write_events(tmp_path / "copy.hdf5", clean_events())
    finding = the_one(check(path, copy), "with the same hits, are in several files")
    assert (finding.severity, finding.count) == ("error", 80)
    assert "copy.hdf5" in finding.example
    other = write_events(tmp_path / "copy.hdf5", clean_events(seed=5))
    assert the_one(check(path, other), "the same id, but different hits").severity == "warning"


def test_same_hits_with_other_ids(path: Path, tmp_path: Path) -> None:
    copy = write_events(tmp_path / "copy.hdf5", clean_events(run=2))
    finding = the_one(check(path, copy), "different ids have the same hits")
    assert (finding.severity, finding.count) == ("warning", 80)
    assert "Run 1, Event" in finding.example and "Run 2, Event" in finding.example


def test_several_sub_events(path: Path) -> None:
    events = clean_events()
    events.ids["Event"][9], events.ids["SubEvent"][9] = events.ids["Event"][8], 1
    finding = the_one(check(write_events(path, events)), "several sub-events")
    assert (finding.severity, finding.count) == ("info", 2)
    assert "Event 8," in finding.example


def test_other_label_columns(path: Path, tmp_path: Path) -> None:
    events = clean_events(2, run=2)
    del events.labels["VertexX"]
    other = write_events(tmp_path / "other.hdf5", events)
    finding = the_one(check(path, other), "missing: VertexX")
    assert (finding.severity, finding.file) == ("error", str(other))


def recorded(path: Path, run: int, method: str, num_bins: int = 9) -> Path:
    events = clean_events(run, run=run)
    record = DataSettings(num_bins, method, "pulse_summmary_clipped")
    write_input_tables(
        path,
        events.ids,
        events.time_offset,
        events.hits,
        tables={LABEL_TABLE: events.labels},
        data_settings=record,
    )
    return path


def test_records_of_data_settings(path: Path, tmp_path: Path) -> None:
    first = recorded(tmp_path / "1.hdf5", 3, "time_range")
    second = recorded(tmp_path / "2.hdf5", 4, "wf_quantile")
    checks = [check_file(SETTINGS, each) for each in (first, second)]
    finding = the_one(all_findings(checks), "relative_time_method is 'time_range'")
    assert (finding.severity, finding.file) == ("error", str(second))
    wanted = DataSettings(9, "wf_quantile", "pulse_summmary_clipped")
    assert the_one(all_findings(checks, wanted), "relative_time").file == str(first)
    assert the_one(check(first, path), "have no record").severity == "info"
    other = recorded(tmp_path / "3.hdf5", 5, "time_range", num_bins=12)
    assert "12 features of a DOM, 9 are read" in check(other)[0].text


@pytest.mark.parametrize("content", [b"", b"no such job\n", None])
def test_files_that_cannot_be_read(path: Path, tmp_path: Path, content: bytes | None) -> None:
    broken = tmp_path / "broken.hdf5"
    broken.write_bytes(path.read_bytes()[:20_000] if content is None else content)
    finding = the_one(check(path, broken), "the file")
    assert (finding.severity, finding.file) == ("error", str(broken))


def test_real_files(shared_data: Path) -> None:
    """What is true of them: two of the labels of muons differ in no event; nothing is wrong."""
    tables = InputTables(
        *(f"dnn_data_inputs9_InIceDSTPulses_{name}" for name in ("bin_values", "bin_indices")),
        "dnn_data_inputs9_InIceDSTPulses_global_time_offset",
    )
    hits = replace(SETTINGS.hits, tables=tables)
    findings = check(*sorted((shared_data / "real_nugen").glob("*.hdf5")), hits=hits)
    assert {finding.severity for finding in findings} == {"info"}
    constant, flags = sorted(findings, key=lambda finding: finding.text, reverse=True)
    assert "p_neutrino" in constant.text and constant.count == 7
    assert "num_muons_at_entry and num_muons_at_entry_above_threshold" in flags.text


def test_rank_correlation() -> None:
    rng = np.random.default_rng(1)
    first = rng.integers(0, 9, 50).astype(float)
    second = first**3 + rng.normal(0, 50, 50)
    expected = stats.spearmanr(first, second).statistic
    assert rank_correlation(first, second) == pytest.approx(expected, abs=1e-12)
    assert rank_correlation(first, -(first**3)) == pytest.approx(-1.0)
    assert rank_correlation(first, np.ones(50)) == 0.0
