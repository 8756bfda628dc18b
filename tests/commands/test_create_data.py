"""`create-data`: event files from files with frames, and a count of what was skipped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import zstandard
from applied_models import contents, rows
from i3_files import PULSES, events, frame, header, om_keys, pulse_map, write
from workspace import Result, invoke

from dnn_reco.data.hdf5 import count_events, read_num_inputs, read_record
from dnn_reco.i3.reader import read_i3

OFFSET = "dnn_data_global_time_offset"

CONFIG = """
datasets:
  sim:
    cycler: {flavor: [a, b]}
    runs_range: [0, 3]
    in_file_pattern: '{folder}/{flavor}_{run_number:06d}.i3.zst'
    out_dir_pattern: '{data_folder}/{flavor}'
    out_file_pattern: 'made_{run_number:06d}'
    folder_pattern: '{folder_num:05d}-{folder_num:05d}'
    folder_offset: 0
    n_jobs_per_folder: 1000
    n_runs_per_merge: 1
    gcd: null
folder: FOLDER
data_folder: OUT
processing_steps:
  - tray_segments:
      - ModuleClass: ic3_data.segments.CreateDNNData
        ModuleKwargs:
          NumDataBins: 9
          RelativeTimeMethod: time_range
          DataFormat: pulse_summmary_clipped
          PulseKey: InIceDSTPulses
          DOMExclusions: null
          PartialExclusion: null
          OutputKey: dnn_data
    write_hdf5: true
    write_hdf5_kwargs: {Keys: [I3EventHeader], SubEventStreams: [InIceSplit]}
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "i3"
    for number in range(3):
        events(folder / f"x_{number}.i3.zst", 5 + number, seed=number, run=number)
    return folder


def create(*arguments: str | Path) -> Result:
    return invoke("create-data", *arguments, "--jobs", "1")


def direct(files: Path, out: Path, *arguments: str | Path) -> Result:
    inputs = ["--input", files / "*.i3.zst", "--out", out, "--exclude", "none"]
    return create(*inputs, "--pulses", PULSES, *arguments)


def done(result: Result) -> Result:
    assert result.exit_code == 0, result.err
    return result


def test_each_input_gives_a_file(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = done(direct(files, out))
    assert sorted(contents(out)) == [f"x_{number}.hdf5" for number in range(3)]
    for number in range(3):
        assert count_events(out / f"x_{number}.hdf5", OFFSET) == 5 + number
    assert "18 events in 3 files (36 frames read in " in result.out
    settings = read_record(out / "x_0.hdf5")
    assert settings is not None
    assert (settings.pulse_key, settings.dom_exclusions) == (PULSES, ())
    assert (settings.data_format, settings.num_bins) == ("pulse_summmary_clipped", 9)


def test_a_second_call_keeps_what_is_there(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done(direct(files, out))
    (out / "x_1.hdf5").unlink()
    before = {path: (out / path).stat().st_mtime_ns for path in ("x_0.hdf5", "x_2.hdf5")}
    result = done(direct(files, out))
    assert {path: (out / path).stat().st_mtime_ns for path in before} == before
    assert "6 events in 1 file " in result.out
    assert "2 runs already existing" in result.out
    done(direct(files, out, "--overwrite"))
    assert (out / "x_0.hdf5").stat().st_mtime_ns > before["x_0.hdf5"]


def test_files_of_other_settings_are_not_kept(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done(direct(files, out))
    result = direct(files, out, "--format", "reduced_summary_statistics_data")
    assert result.exit_code == 1
    assert "x_0.hdf5' already exists, made with different settings" in result.err
    assert "DataFormat is 'pulse_summmary_clipped' in the file, 'reduced_s" in result.err
    done(direct(files, out, "--format", "reduced_summary_statistics_data", "--overwrite"))
    assert read_record(out / "x_0.hdf5").num_bins == 3


def test_a_damaged_file_stops_no_other(files: Path, tmp_path: Path) -> None:
    damaged = files / "x_1.i3.zst"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    out = tmp_path / "out"
    result = direct(files, out)
    assert result.exit_code == 1
    assert sorted(contents(out)) == ["x_0.hdf5", "x_2.hdf5"]
    assert "x_1.i3.zst' is damaged after" in result.err
    assert "1 run failed, see above" in result.out


def test_files_without_events_or_features_are_named(tmp_path: Path) -> None:
    """A file without P frames, one with other pulses only, and one that can be trained on."""
    pulses = pulse_map({(1, 1): [(9000.0, 1.0)]})
    write(tmp_path / "i3" / "noise.i3.zst", [frame("Q")])
    for name, key in (("other", "OtherPulses"), ("good", PULSES)):
        frames = [frame("Q", **{key: pulses}), frame("P", I3EventHeader=header(1))]
        write(tmp_path / "i3" / f"{name}.i3.zst", frames)
    result = done(direct(tmp_path / "i3", tmp_path / "out"))
    assert "2 events in 3 files" in result.out
    assert "1 file without events: 'noise'" in result.out
    assert "1 file without features: 'other'\n  available pulses: OtherPulses" in result.out


def test_what_is_skipped_is_counted(tmp_path: Path) -> None:
    pulses = pulse_map({(1, 1): [(9000.0, 1.0)], (1, 2, 1): [(9001.0, 2.0)]})
    frames = [
        frame("Q", **{PULSES: pulses}),
        frame("P", I3EventHeader=header(1, "NullSplit")),
        frame("P", I3EventHeader=header(1)),
        frame("Q"),
        frame("P", I3EventHeader=header(2)),
    ]
    write(tmp_path / "i3" / "x.i3.zst", frames)
    result = done(direct(tmp_path / "i3", tmp_path / "out"))
    assert "2 events in 1 file (5 frames read" in result.out
    assert "1 P frame skipped: sub-event stream 'NullSplit'" in result.out
    assert f"1 event with empty rows: no 'dnn_data': no '{PULSES}'" in result.out
    assert "1 pulse left out: pulses of photomultipliers other than number 0" in result.out


def test_labels_of_other_settings_are_not_kept(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done(direct(files, out))
    (out / "x_2.hdf5").unlink()
    with h5py.File(out / "x_1.hdf5", "a") as file:
        text = file.attrs["dnn_reco_creation"].decode()
        file.attrs["dnn_reco_creation"] = text.replace('"ExtendBoundary": 0', '"ExtendBoundary": 9')
    result = direct(files, out)
    assert result.exit_code == 1
    assert (
        "x_1.hdf5' already exists, made with different settings: ExtendBoundary is 9" in result.err
    )


def test_outputs_of_inputs_that_have_changed_are_not_kept(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done(direct(files, out))
    events(files / "x_1.i3.zst", 9, seed=9)
    result = direct(files, out)
    assert result.exit_code == 1
    assert "x_1.hdf5' already exists, made with different settings: inputs is" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pulses", "InIceDSTPulse"], "Did you mean 'InIceDSTPulses'?"),
        (["--stream", "InIceSplt"], "No P frame is of the sub-event streams InIceSplt"),
        (["--format", "pulse_summary_clipped"], "Did you mean 'pulse_summmary_clipped'?"),
        (["--format", "autoencoder"], "it needs the network of its encoder"),
    ],
)
def test_misspelt_names(files: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    result = direct(files, tmp_path / "out", *arguments)
    assert result.exit_code == 1
    assert message in result.err


def test_formats_of_functions_beside_the_config(
    config: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "formats_here.py").write_text(
        "def total(dom_charges, rel_dom_times, global_time_offset, local_time_offset, config,\n"
        "          dom_exclusions, partial_exclusion, frame, om_key, *args, **kwargs):\n"
        "    return [dom_charges.sum()], [0], []\n"
    )
    path = config("pulse_summmary_clipped", "formats_here.total")
    done(create(path, "--allow-code", "formats_here"))
    found = rows(tmp_path / "out" / "a" / "00000-00000" / "made_000000.hdf5", "dnn_data_bin_values")
    pulses = [
        each[PULSES] for each in read_i3(tmp_path / "i3" / "a_000000.i3.zst") if each.stop == "P"
    ]
    charges = np.concatenate([each.items["charge"] for each in pulses]).astype(float)
    starts = np.cumsum(np.concatenate([each.counts for each in pulses]))[:-1]
    sums = [part.sum() for part in np.split(charges, starts)]
    np.testing.assert_allclose(found["item"], sums, rtol=1e-12)


def test_outputs_of_a_function_that_has_changed_are_not_kept(
    config: Callable[..., Path], tmp_path: Path
) -> None:
    source = tmp_path / "formats_changed.py"
    source.write_text(
        "def nothing(dom_charges, rel_dom_times, global_time_offset, local_time_offset, config,\n"
        "            dom_exclusions, partial_exclusion, frame, om_key):\n"
        "    return [1.0], [0], []\n"
    )
    path = config("pulse_summmary_clipped", "formats_changed.nothing")
    line = (path, "--allow-code", "formats_changed")
    done(create(*line))
    assert "already exist" in done(create(*line)).err
    source.write_text(source.read_text().replace("1.0", "2.0"))
    result = create(*line)
    assert result.exit_code == 1
    assert "made with different settings: SHA-256 of the source of formats_changed.n" in result.err
    done(create(*line, "--overwrite"))


def test_exclusions_that_no_frame_has_are_a_warning(files: Path, tmp_path: Path) -> None:
    inputs = ["--input", files / "*.zst", "--out", tmp_path / "out", "--pulses", PULSES]
    result = done(create(*inputs))
    assert "no frame has 'BadDomsList' of the exclusions" in result.err
    gcd = write(tmp_path / "gcd.i3.gz", [frame("D", BadDomsList=om_keys([(1, 1)]))])
    result = done(create(*inputs, "--gcd", gcd, "--overwrite"))
    assert "BadDomsList" not in result.err


# --------------------------------------------------------------------------------------------------
# Configs
# --------------------------------------------------------------------------------------------------
@pytest.fixture
def config(tmp_path: Path) -> Callable[[str, str], Path]:
    def write_config(before: str = "", after: str = "") -> Path:
        text = CONFIG.replace("FOLDER", str(tmp_path / "i3")).replace("OUT", str(tmp_path / "out"))
        path = tmp_path / "create.yaml"
        path.write_text(text.replace(before, after) if before else text)
        return path

    for flavor in "ab":
        for number in range(2):
            name = f"{flavor}_{number:06d}.i3.zst"
            events(tmp_path / "i3" / name, 4, seed=number, run=number)
    return write_config


def test_a_config_makes_the_files_of_all_runs(config: Callable[..., Path], tmp_path: Path) -> None:
    result = done(create(config()))
    names = [f"{f}/00000-00000/made_{n:06d}.hdf5" for f in "ab" for n in range(2)]
    assert sorted(contents(tmp_path / "out")) == names
    assert "16 events in 4 files" in result.out
    assert "2 runs without input skipped" in result.out
    assert rows(tmp_path / "out" / names[0], OFFSET)["SubEventStream"].tolist() == [0] * 4


def one_output_for_all_runs(config: Callable[..., Path]) -> Path:
    path = config("{flavor}_{run_number:06d}.i3.zst", "{flavor}_*.i3.zst")
    path.write_text(path.read_text().replace("runs_range: [0, 3]", "runs_range: [0, 1]"))
    return path


def test_files_of_several_runs_can_be_merged(config: Callable[..., Path], tmp_path: Path) -> None:
    result = done(create(one_output_for_all_runs(config)))
    found = sorted(contents(tmp_path / "out"))
    assert len(found) == 2
    for name in found:
        assert rows(tmp_path / "out" / name, OFFSET)["Run"].tolist() == [0] * 4 + [1] * 4
        assert read_num_inputs(tmp_path / "out" / name) == 2
    assert "16 events in 2 files" in result.out


def test_inputs_that_weights_count(config: Callable[..., Path], tmp_path: Path) -> None:
    """Jobs without events count, corrupted files and those of the detector do not."""
    folder = tmp_path / "i3"
    write(folder / "a_000007.i3.zst", [frame("I")])
    write(folder / "a_000008.i3.zst", [frame(stop) for stop in "IGCD"])
    damaged = folder / "a_000001.i3.zst"
    damaged.write_bytes(truncated(damaged.read_bytes()))
    path = one_output_for_all_runs(config)
    path.write_text(f"exclude_corrupted_input_files: true\n{path.read_text()}")
    done(create(path))
    found = [read_num_inputs(tmp_path / "out" / name) for name in contents(tmp_path / "out")]
    assert found == [2, 2]


def truncated(content: bytes) -> bytes:
    return content[:-30]


def with_wrong_checksum(content: bytes) -> bytes:
    """The same frames, of which the last does not have its checksum."""
    frames = bytearray(zstandard.ZstdDecompressor().decompressobj().decompress(content))
    frames[-1] ^= 1
    return zstandard.compress(bytes(frames))


@pytest.mark.parametrize("damage", [truncated, with_wrong_checksum])
def test_corrupted_inputs_are_left_out_if_the_config_says_so(
    config: Callable[..., Path], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    damaged = tmp_path / "i3" / "a_000001.i3.zst"
    damaged.write_bytes(damage(damaged.read_bytes()))
    path = one_output_for_all_runs(config)
    path.write_text(f"exclude_corrupted_input_files: true\n{path.read_text()}")
    result = done(create(path))
    assert "12 events in 2 files" in result.out
    assert "a_000001.i3.zst' is skipped: " in result.err
    assert "1 input skipped, see above" in result.out


def test_frames_are_written_too(config: Callable[..., Path], tmp_path: Path) -> None:
    done(create(config("    write_hdf5: true", "    write_hdf5: true\n    write_i3: true")))
    made = tmp_path / "out" / "a" / "00000-00000" / "made_000000.i3.zst"
    stops = "".join(each.stop for each in read_i3(made))
    assert stops == "QP" * 4


def test_frames_of_other_settings_are_not_kept(config: Callable[..., Path]) -> None:
    frames = "    write_hdf5: false\n    write_i3: true"
    path = config("    write_hdf5: true", frames)
    done(create(path))
    assert "4 runs already existing" in done(create(path)).out
    path.write_text(path.read_text().replace("time_range", "wf_quantile"))
    result = create(path)
    assert result.exit_code == 1
    assert "RelativeTimeMethod is 'time_range' in the file, 'wf_quantile' now" in result.err


def test_one_of_two_outputs_that_was_made_otherwise_is_not_replaced(
    config: Callable[..., Path], tmp_path: Path
) -> None:
    path = config()
    done(create(path))
    before = contents(tmp_path / "out")
    both = path.read_text().replace("write_hdf5: true", "write_hdf5: true\n    write_i3: true")
    path.write_text(both.replace("time_range", "wf_quantile"))
    result = create(path)
    assert result.exit_code == 1
    assert "RelativeTimeMethod is 'time_range' in the file, 'wf_quantile' now" in result.err
    assert contents(tmp_path / "out") == before


def test_labels_that_no_event_has(tmp_path: Path) -> None:
    for number in range(2):
        events(tmp_path / "i3" / f"a_{number:06d}.i3.zst", 4, seed=number, run=number)
    labels = "- ModuleClass: ic3_labels.labels.modules.MCLabelsCascades\n      - ModuleClass: ic3_d"
    text = CONFIG.replace("FOLDER", str(tmp_path / "i3")).replace("OUT", str(tmp_path / "out"))
    path = tmp_path / "create.yaml"
    path.write_text(text.replace("- ModuleClass: ic3_d", labels, 1))
    for _ in range(2):  # its repetition fails as well, though the files are there
        result = create(path)
        assert result.exit_code == 1
        assert "8 events with empty rows: no 'LabelsDeepLearning': the frame lacks" in result.out
        assert "No event has the labels LabelsDeepLearning" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stream", "Other"], "No P frame is of the sub-event streams Other"),
        (["--pulses", "Absent"], "No event has features"),
    ],
)
def test_a_failure_is_one_again(
    files: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    for _ in range(2):
        result = direct(files, tmp_path / "out", *arguments)
        assert result.exit_code == 1
        assert message in result.err


def test_a_late_file_without_events_is_no_failure(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done(direct(files, out))
    write(files / "y.i3.zst", [frame("Q"), frame("P", I3EventHeader=header(1, "NullSplit"))])
    result = done(direct(files, out))
    assert "1 file without events: 'y'" in result.out and "3 runs already existing" in result.out
    assert "No P frame is of the sub-event streams" in result.err
    assert "4 runs already existing" in done(direct(files, out)).out


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("ic3_data.segments.CreateDNNData", "icecube.Thing", "without IceTray"),
        ("NumDataBins: 9", "NumDataBin: 9", "NumDataBins"),
        ("pulse_summmary_clipped", "autoencoder", "autoencoder"),
        ("pulse_summmary_clipped", "my.own.format", "--allow-code"),
        ("{flavor}_{run", "{flavor.x}_{run", "flavor.x"),
    ],
)
def test_wrong_configs(
    config: Callable[..., Path], before: str, after: str, message: str, tmp_path: Path
) -> None:
    result = create(config(before, after))
    assert result.exit_code == 1
    assert message in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "out").exists()


# --------------------------------------------------------------------------------------------------
# Interruptions, and jobs
# --------------------------------------------------------------------------------------------------
def test_ctrl_c_keeps_finished_files(tmp_path: Path) -> None:
    for number in range(30):
        events(tmp_path / "i3" / f"x_{number:02d}.i3.zst", 150, seed=number)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "dnn_reco", "create-data", "--input"]
    command += [f"{tmp_path}/i3/*.zst", "--pulses", PULSES, "--exclude", "none", "--out", str(out)]
    process = subprocess.Popen(
        [*command, "--jobs", "2"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list(out.glob("x_*.hdf5")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert "run the same command to resume" in err
    number = len(list(out.glob("x_*.hdf5")))
    assert 0 < number < 30
    assert not [path for path in out.iterdir() if path.name.startswith(".tmp")]
    result = done(direct(tmp_path / "i3", out))
    assert f"{number} runs already existing" in result.out or number == 1
    assert len(list(out.glob("x_*.hdf5"))) == 30


def test_jobs_of_a_farm_make_the_same_files(files: Path, tmp_path: Path) -> None:
    pytest.importorskip("parsl", reason="the farm needs parsl")
    done(direct(files, tmp_path / "here"))
    inputs = ["--input", files / "*.zst", "--pulses", PULSES, "--exclude", "none"]
    farm = ["--cluster", "local", "--cluster-jobs", "2", "--out", tmp_path / "farm"]
    result = done(invoke("create-data", *inputs, *farm))
    assert "18 events in 3 files" in result.out
    for number in range(3):
        for table in ("dnn_data_bin_values", OFFSET):
            here, there = (tmp_path / name / f"x_{number}.hdf5" for name in ("here", "farm"))
            assert np.array_equal(rows(here, table), rows(there, table))
