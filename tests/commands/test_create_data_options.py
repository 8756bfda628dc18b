"""`create-data`: its options, and what --dry-run prints."""

from pathlib import Path

import pytest
from workspace import invoke

from dnn_reco.commands import create_data as command
from dnn_reco.commands.create_data import CreateDataSettings
from dnn_reco.data_creation.plan import DirectOptions

CONFIG = """\
in_file_pattern: 'in/{run_number:03d}.i3.zst'
out_file_pattern: 'events_{run_number:03d}'
datasets: {neutrinos: {runs_range: [0, 3]}}
job_template: none.sh
processing_steps:
  - tray_segments: [{ModuleClass: ic3_processing.labels.add_weighted_primary}]
"""


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for name in ("in/000.i3.zst", "in/002.i3.zst", "in/GCD.i3.gz"):
        Path(name).touch()
    Path("create.yaml").write_text(CONFIG)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[CreateDataSettings]:
    """The settings that the command line hands on."""
    settings: list[CreateDataSettings] = []
    monkeypatch.setattr(command, "run_create_data", lambda each: settings.append(each) or 0)
    return settings


def test_dry_run_lists_files_and_skipped_runs() -> None:
    Path("out").mkdir()
    Path("out/events_002.hdf5").touch()
    result = invoke("create-data", "create.yaml", "--out", "out", "--dry-run")
    assert result.exit_code == 0
    assert result.out == (
        "Segments:\n"
        "  ic3_processing.labels.add_weighted_primary\n"
        "Files:\n"
        "  neutrinos, run 0: out/events_000.hdf5\n"
        "    from in/000.i3.zst\n"
        "  neutrinos, run 2: out/events_002.hdf5 (already made)\n"
        "    from in/002.i3.zst\n"
        "Skipped:\n"
        "  neutrinos, run 1: no file matches 'in/001.i3.zst'\n"
        "Runs: 1 to make, 1 already made, 1 skipped\n"
    )
    assert "create.yaml: without effect, as they" in result.err
    assert result.err.rstrip().endswith("job_template")
    again = invoke("create-data", "create.yaml", "--out", "out", "--dry-run", "--overwrite")
    assert "Runs: 2 to make, 1 skipped\n" in again.out


def test_dry_run_of_files_given_directly() -> None:
    options = ("--gcd", "in/GCD.i3.gz", "--pulses", "InIceDSTPulses", "--out", "out", "--dry-run")
    result = invoke("create-data", "--input", "in/*.i3.*", *options)
    assert result.exit_code == 0
    assert "MCLabelsCascades (simulation only)\n" in result.out
    assert "out/002.hdf5\n    from in/GCD.i3.gz, in/002.i3.zst\n" in result.out
    assert result.out.endswith("Runs: 2 to make, 0 skipped\n")


def test_all_options_arrive(given: list[CreateDataSettings]) -> None:
    further = "--step 0 -j 3 --allow-code mine --allow-code yours --overwrite"
    result = invoke("create-data", "create.yaml", "-o", "out", *further.split())
    assert result.exit_code == 0
    assert given[0].num_threads >= 1
    assert given == [
        CreateDataSettings(
            Path("create.yaml"),
            Path("out"),
            step=0,
            jobs=3,
            num_threads=given[0].num_threads,
            allow_code=("mine", "yours"),
            overwrite=True,
        )
    ]


def test_all_direct_options_arrive(given: list[CreateDataSettings]) -> None:
    line = (
        "-i a -i b -g in/GCD.i3.gz --pulses P --format mine.f --relative-time-method none "
        "--time-bins=-inf,0,2.5 --time-quantiles 0.2,1 --num-bins 4 --cascade-key C --exclude X "
        "--exclude Y --whole-exclusion --stream S --stream T --out out"
    )
    assert invoke("create-data", *line.split()).exit_code == 0
    assert given[0].source == DirectOptions(
        ("a", "b"),
        Path("out"),
        "P",
        gcd=Path("in/GCD.i3.gz"),
        data_format="mine.f",
        relative_time_method="none",
        time_bins=(float("-inf"), 0.0, 2.5),
        time_quantiles=(0.2, 1.0),
        num_bins=4,
        cascade_key="C",
        exclusions=("X", "Y"),
        partial_exclusion=False,
        streams=("S", "T"),
    )
    short = ("-i", "a", "--pulses", "P", "--out", "out", "--exclude", "none")
    assert invoke("create-data", *short).exit_code == 0
    assert given[1].source == DirectOptions(("a",), Path("out"), "P", exclusions=())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "give either CONFIG, or --input with --pulses and --out"),
        ("--input x", "--input needs --pulses"),
        ("--input x --pulses y", "--input needs --out"),
        ("--input x --pulses y --out z --step 1", "--step needs CONFIG"),
        ("create.yaml --pulses y", "--pulses cannot be combined with CONFIG"),
        ("create.yaml --time-bins 1,2", "--time-bins cannot be combined with CONFIG"),
        ("create.yaml --format y", "--format cannot be combined with CONFIG"),
        ("--input x --pulses y --out z --exclude none --exclude a", "--exclude none cannot be"),
        ("--input x --pulses y --out z --time-bins 1;2", "'1;2' is not a list of numbers"),
        ("none.yaml", "'none.yaml' does not exist"),
        ("create.yaml --cluster pbs", "'pbs' is not one of"),
    ],
)
def test_wrong_usage(line: str, message: str) -> None:
    result = invoke("create-data", *line.split())
    assert result.exit_code == 2
    assert message in result.err


def test_mistakes_end_in_one_message() -> None:
    result = invoke("create-data", "create.yaml", "--dry-run")
    assert result.exit_code == 1
    assert result.err.startswith("Error: 'create.yaml': no folder for the outputs is given")
    package = Path(command.__file__).parent
    assert invoke("create-data", "create.yaml", "--out", package).exit_code == 2
    Path("create.yaml").write_text(f"{CONFIG}data_folder: '{package}'\n")
    result = invoke("create-data", "create.yaml", "--dry-run")
    assert result.exit_code == 1
    assert "lies inside the package dnn_reco" in result.err
