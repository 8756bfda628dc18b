"""The benchmark of everything: its tables, results of several runs, and a run of one part."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
SCRIPT = FOLDER / "bench.py"
MACHINE = {"cpu": "A CPU", "cpus": 2, "memory_gb": 16}
EVENTS = "One file of 2,000 real events"
OF_REFERENCE = {
    "step": {"unit": "events/s", "median": 400.0},
    "train": {"unit": "s", "median": 240.0},
    "read, peak memory": {"unit": "MiB", "median": 1907.3486328125},  # 2 GB
}


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    import bench_report

    return bench_report


def results(rows: dict[str, Any]) -> dict[str, Any]:
    return {
        "machine": MACHINE,
        "date": "2026-01-02T03:04:05+00:00",
        "versions": {"torch": "2.9"},
        "events": EVENTS,
        "rows": rows,
    }


def rows_of(report: ModuleType, case: str, **found: Any) -> dict[str, Any]:
    return dict(report.rows_of_case(case, found, report.reference_figures(OF_REFERENCE)))


def test_a_row_has_quantiles_and_the_reference(report: ModuleType) -> None:
    values = {"read": [10.0, 30.0, 20.0], "read, peak memory": [0.25]}
    rows = rows_of(report, "read_zlib", values=values)
    assert rows["read"] == {
        "unit": "events/s",
        "median": 20.0,
        "low": 12.0,
        "high": 28.0,
        "values": [10.0, 30.0, 20.0],
        "goal": "≥ 20 ×",
        "reference": None,
        "ratio": None,
    }
    memory = rows["read, peak memory"]
    assert memory["reference"] == pytest.approx(2.0)
    assert memory["ratio"] == pytest.approx(8.0)


def test_summary(report: ModuleType) -> None:
    rates = {"step": [1200.0], "step, beside 1": [339.0], "step, beside 2": [99.5]}
    rows = rows_of(report, "step", values=rates)
    rows |= rows_of(report, "machine", values={"matrix product": [186.2], "copy": [20.04]})
    rows |= rows_of(report, "train", failed="no memory")
    rows |= rows_of(report, "read_deflate", skipped="not installed")
    rows |= rows_of(report, "config_check", values={"config check": [0.5]})
    dash = "–"
    assert report.summary(results(rows)).splitlines() == [
        "`make bench`, 2026-01-02: A CPU, 2 CPUs, 16 GB of memory (matrix product of 2048² in "
        "float32 on two threads: 186",
        "GFLOP/s; copy: 20.0 GB/s); torch 2.9. One file of 2,000 real events; tutorial's network "
        "with 5 kernels a layer (22,935",
        "weights, 35 labels), 9 features. Medians; all values, with their spread, are in "
        "`benchmarks/results.json`. The reference",
        "is the TensorFlow version (`benchmarks/reference.py`).",
        "",
        "| what | reference | this package | ratio | goal |",
        "|---|---|---|---|---|",
        f"| start of `train` to the end of its first step | {dash} | failed | {dash} | < 3.3 |",
        "| `train` of 120 iterations of 32 events, whole command | 240 s | failed | "
        f"{dash} | < 9.5 |",
        f"| the same, training loop alone | {dash} | failed | {dash} | ≥ 830 |",
        "| training step in memory, batch 32: alone / beside one / two programs "
        f"| 400 / {dash} / {dash} events/s | 1,200 / 339 / 99.5 events/s | 3.00 / {dash} / {dash} "
        f"| ≥ 1,180 ✓ / ≥ 340 / {dash} |",
        "| peak memory of training: this network / transformer S / M "
        f"| {dash} | failed / {dash} / {dash} | {dash} | < 0.6 / < 1 / < 2 |",
        f"| `config check` | {dash} | 0.50 s | {dash} | < 1 ✓ |",
    ]


def test_goals_of_ratios_need_the_reference(report: ModuleType) -> None:
    found = {"values": {"read": [2500.0], "read, peak memory": [0.3]}}
    slow = report.rows_of_case("read_zlib", found, {"read": 126.0})
    fast = report.rows_of_case("read_zlib", found, {"read": 125.0})
    alone = report.rows_of_case("read_zlib", found, {})
    lines = [report.summary(results(rows)).splitlines() for rows in (slow, fast, alone)]
    goals = [
        next(line for line in each if line.startswith("| reading")).split("|")[-2] for each in lines
    ]
    assert goals == [" ≥ 20 × ", " ≥ 20 × ✓ ", " ≥ 20 × "]


def test_the_summary_replaces_the_one_before(report: ModuleType) -> None:
    page = "# Title\n<!-- bench:begin -->\nold\n<!-- bench:end -->\n## Others\n"
    new = report.with_summary(page, r"new \1")
    assert new == page.replace("old", r"new \1")
    with pytest.raises(SystemExit, match="missing"):
        report.with_summary("# Title\n", "new")
    report.with_summary((FOLDER / "RESULTS.md").read_text(encoding="utf-8"), "new")


def test_results_of_other_machines_are_not_kept(report: ModuleType) -> None:
    rows = rows_of(report, "count", values={"count": [0.3]})
    old = results({**rows, "no longer measured": {}})
    assert report.kept_rows(old, MACHINE, EVENTS) == rows
    assert report.kept_rows(old, {**MACHINE, "cpus": 4}, EVENTS) == {}
    assert report.kept_rows(old, MACHINE, "One file of 700 random events") == {}
    assert report.kept_rows({}, MACHINE, EVENTS) == {}


def test_each_case_is_in_one_part_and_measures_something(report: ModuleType) -> None:
    from bench_cases import CASES
    from bench_table import PARTS, QUANTITIES

    assert sorted(case for cases in PARTS.values() for case in cases) == sorted(CASES)
    assert {quantity.case for quantity in QUANTITIES.values()} == set(CASES)


def run_bench(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: os.environ[key] for key in os.environ if key != "DNN_RECO_TEST_DATA"}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environment,
    )


def test_help_lists_the_parts(tmp_path: Path, report: ModuleType) -> None:
    from bench_table import PARTS

    done = run_bench("--help", folder=tmp_path)
    assert done.returncode == 0
    listed = done.stdout.split("Parts:")[1].split("\n\n")[0].replace("\n", " ")
    assert all(
        f" {part} (" in listed or f" {part}," in listed or f" {part} and" in listed
        for part in PARTS
    )


def test_a_quick_part(tmp_path: Path) -> None:
    """It adds its rows to those that were measured before."""
    file = tmp_path / "results.json"
    words = ["--quick", "--seconds=0.01", f"--json={file}", "--parts"]
    assert run_bench(*words, "i3", folder=tmp_path).returncode == 0
    before = json.loads(file.read_text())["rows"]
    assert list(before) == ["i3 to features"]
    assert "skipped" in before["i3 to features"]

    page = FOLDER / "RESULTS.md"
    page_before = page.read_text(encoding="utf-8")
    done = run_bench(*words, "machine", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text())["rows"]
    assert rows["i3 to features"] == before["i3 to features"]
    assert rows["matrix product"]["median"] > 0
    assert rows["copy"]["unit"] == "GB/s"
    assert "matrix product" in done.stdout
    assert page.read_text(encoding="utf-8") == page_before


def test_a_part_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    words = ["--quick", "--seconds=0.01", f"--json={file}", "--i3=/no/such/file.i3"]
    done = run_bench(*words, "--parts", "i3", "machine", folder=tmp_path)
    assert done.returncode == 1
    rows = json.loads(file.read_text())["rows"]
    assert "/no/such/file.i3" in rows["i3 to features"]["failed"]
    assert rows["copy"]["median"] > 0
    assert "failed" in done.stdout
