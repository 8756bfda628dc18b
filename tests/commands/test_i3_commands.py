"""`dnn-reco i3`: what is listed, shown and exported of made-up and of real files."""

import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import i3_frames as made
import numpy as np
import pytest
from workspace import invoke

from dnn_reco.i3.frame import Frame
from dnn_reco.i3.writer import write_i3

REAL = (
    "oscNext_genie_level7_v02_first_5_frames",
    "oscNext_noise_level7_v02_first_5_frames",
    "upgrade_genie_step4_140028_000998_first_5_frames",
    "wBDT_wDNN_L345_IC86-2016_NuMu-021220-009993_first_5_frames",
)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two I frames, and Q and P of three events."""
    monkeypatch.chdir(tmp_path)
    write_i3(tmp_path / "events.i3.gz", made.frames_of_events(3))
    return Path("events.i3.gz")


@pytest.fixture(params=REAL)
def real(request: pytest.FixtureRequest, shared_data: Path) -> tuple[Path, dict[str, Any]]:
    """A real file, and what an independent reader found in it."""
    path = shared_data / "i3" / f"{request.param}.i3.gz"
    if not path.is_file():
        pytest.skip(f"'{path}' is not there")
    text = (shared_data / "golden" / "i3" / f"{request.param}.json").read_text(encoding="utf-8")
    return path, json.loads(text)


def output(*words: str | Path) -> str:
    result = invoke("i3", *words)
    assert result.exit_code == 0, result.err
    return result.out


def error(*words: str | Path) -> str:
    """The message of a command that fails, which is one line."""
    result = invoke("i3", *words)
    assert result.exit_code == 1
    assert "Traceback" not in result.err
    [line] = result.err.splitlines()
    return line


def damaged(file: Path) -> Path:
    """The file, not compressed, with one wrong byte in the fourth frame."""
    write_i3("plain.i3", made.frames_of_events(3))
    content = bytearray(Path("plain.i3").read_bytes())
    position = content.index(b"MCPrimary", [m.start() for m in re.finditer(rb"\[i3\]", content)][3])
    content[position] ^= 1
    Path("plain.i3").write_bytes(content)
    return Path("plain.i3")


# --------------------------------------------------------------------------------------------------
# ls
# --------------------------------------------------------------------------------------------------
def test_list_of_frames(file: Path) -> None:
    lines = output("ls", file).splitlines()
    rows = [line.split() for line in lines[1:-1]]
    assert rows[0][:3] == ["0-1", "I", "2"]
    assert rows[1][:4] == ["2", "Q", "7:0:0", "4"]
    assert rows[2][:5] == ["3", "P", "7:0:0", "InIceSplit", "8"]
    assert len(rows) == 7
    assert lines[-1].startswith("8 frames: 2 I, 3 Q, 3 P; objects of ")
    assert "checksums are correct" in output("ls", file, "--verify")


def test_long_lists_are_cut(file: Path) -> None:
    write_i3("long.i3", made.frames_of_events(30))
    lines = output("ls", "long.i3").splitlines()
    assert lines[41] == "… 21 more frames: --all lists them"
    assert len(output("ls", "long.i3", "--all").splitlines()) == 63


def test_list_of_the_objects_of_a_frame(file: Path) -> None:
    lines = output("ls", file, "--frame", "3").splitlines()
    assert lines[0] == "Frame 3, stop P: 8 objects"
    classes = {line.split()[0]: line.split()[1] for line in lines[2:]}
    assert classes["InIceDSTPulses"] == "I3RecoPulseSeriesMapMask"
    assert classes["Names"] == "I3MapStringDouble"
    assert "has no frame 8, but 8 frames" in error("ls", file, "--frame", "8")


def test_list_of_keys(file: Path) -> None:
    lines = output("ls", file, "--keys").splitlines()
    assert re.split(" {2,}", lines[0]) == ["key", "class", "in I", "in Q", "in P", "mean bytes"]
    rows = {line.split()[0]: line.split()[1:-1] for line in lines[1:-2]}
    assert rows["I3EventHeader"] == ["I3EventHeader", "3", "3"]
    assert rows["OnlyFirst"] == ["I3VectorDouble", "1"]
    assert lines[-2:] == [
        "… 2 keys that only I frames have: --all lists them",
        "13 keys in 8 frames: 2 I, 3 Q, 3 P",
    ]
    assert "Tray1" in output("ls", file, "--keys", "--all")


def test_damaged_files(file: Path) -> None:
    assert "8 frames" in output("ls", damaged(file))
    result = invoke("i3", "ls", "plain.i3", file, "--verify")
    assert result.exit_code == 1
    assert "'plain.i3' is damaged after 3 complete frames: the checksum" in result.err
    assert result.out.count("8 frames") == 1  # the other file is listed all the same
    whole = re.findall(r"^ +([\d-]+)  [IQP] ", result.out.split("events.i3.gz")[0], re.MULTILINE)
    assert whole == ["0-1", "2"]
    assert "3 frames: 2 I, 1 Q; objects" in result.out
    result = invoke("i3", "ls", "plain.i3", "--verify", "--recover")
    assert result.exit_code == 0
    assert "7 frames: 2 I, 3 Q, 2 P" in result.out
    assert result.err.startswith("WARNING: 'plain.i3' is damaged after 3 complete frames")


def test_frames_of_real_files(real: tuple[Path, dict[str, Any]]) -> None:
    path, golden = real
    lines = output("ls", path, "--all", "--verify").splitlines()
    stops: list[str] = []
    for line in lines[1:-1]:
        frames, stop = line.split()[:2]
        first, _, last = frames.partition("-")
        stops += [stop] * (int(last or first) - int(first) + 1)
    assert "".join(stops) == golden["stops"]
    counts = Counter(golden["stops"])
    listed = ", ".join(f"{number} {stop}" for stop, number in counts.items())
    assert lines[-1].startswith(f"{golden['n_frames']} frames: {listed}; ")
    events = [line.split() for line in lines if re.match(r" *\d+  P ", line)]
    for row, event in zip(events, golden["events"], strict=True):
        header = event["header"]
        assert row[2] == f"{header['run']}:{header['event']}:{header['subevent']}"
        assert row[3] == header["stream"]
    keys = output("ls", path, "--keys", "--all").splitlines()[-1]
    assert keys.endswith(f"in {golden['n_frames']} frames: {listed}")


# --------------------------------------------------------------------------------------------------
# show
# --------------------------------------------------------------------------------------------------
def test_overview_of_an_event(file: Path) -> None:
    text = output("show", file)
    assert text.startswith(
        "frame 3 of 'events.i3.gz', stop P, event 7:0:0 InIceSplit, 2020-01-01 01:"
    )
    own, inherited = text.split("From earlier frames:")
    assert re.search(r"InIceDSTPulses +I3RecoPulseSeriesMapMask +3 pulses of 2 PMTs, 6\.00 PE", own)
    assert re.search(r"Text +I3String +a \\x1b\[31m\\ntext", own)
    assert re.search(r"I3SuperDST +I3RecoPulseSeriesMap +4 pulses", inherited)
    assert "I3EventHeader" not in inherited


@pytest.mark.parametrize(
    ("event", "number"), [("first", 0), ("0", 0), ("2", 2), ("7:1", 1), ("7:1:0", 1)]
)
def test_which_event(file: Path, event: str, number: int) -> None:
    shown = output("show", file, "--event", event, "--key", "Number")
    assert shown == f"Number: I3Int, 29 bytes\n{number}\n"


def test_several_objects(file: Path) -> None:
    text = output("show", file, "-k", "InIceDSTPulses,I3MCTree", "-k", "Number", "--rows", "2")
    pulses, tree, number = text.split("\n\n")
    assert pulses.splitlines()[1] == "mask of 'I3SuperDST': 3 of 4 pulses of 3 of its PMTs"
    assert pulses.splitlines()[-1] == tree.splitlines()[-1].replace("2", "1") == "… 1 more"
    assert number == "Number: I3Int, 29 bytes\n0\n"
    assert output("show", file, "InIceDSTPulses", "I3MCTree", "-k", "Number", "--rows", "2") == text
    assert "more" not in output("show", file, "-k", "I3MCTree", "--all")


def test_frames_of_other_kinds(file: Path) -> None:
    assert "0000  00 01 02 00" in output("show", file, "--stop", "I", "--key", "Tray0")
    assert "stop Q, event 7:2:0, 2020" in output("show", file, "--stop", "Q", "--event", "2")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--key", "InIceDSTPulse"),
            "' has no object 'InIceDSTPulse'. Did you mean 'InIceD",
        ),
        (("--event", "3"), "'events.i3.gz': there is no event 3: there are 3 P frames"),
        (("--event", "8:1"), "'events.i3.gz': none of the 3 P frames has the event id 8:1"),
        (("--event", "last"), "--event 'last' is not an event"),
        (("--stop", "G"), "'events.i3.gz': there is no G frame, but 2 I, 3 Q, 3 P"),
    ],
)
def test_what_cannot_be_shown(file: Path, words: tuple[str, ...], message: str) -> None:
    assert message in error("show", file, *words)


def test_several_events_of_an_id(file: Path) -> None:
    write_i3("split.i3", [made.p_frame(5, sub_event) for sub_event in range(3)])
    assert "several P frames have the event id 7:5: give" in error(
        "show", "split.i3", "--event", "7:5"
    )
    text = output("show", "split.i3", "--event", "7:5:1")
    assert "event 7:5:1 InIceSplit" in text


def test_objects_that_cannot_be_read_are_named(file: Path) -> None:
    frame = made.p_frame(1)
    frame.put("Pulses", replace(made.MASK, source="Missing"))
    write_i3("broken.i3", [frame])
    shown = output("show", "broken.i3")
    assert re.search(r"Pulses .* cannot be read: .*'Missing', which the frame", shown)
    assert "refer to 'Missing'" in error("show", "broken.i3", "--key", "Pulses")


def test_objects_of_real_files(real: tuple[Path, dict[str, Any]]) -> None:
    path, golden = real
    for number, event in enumerate(golden["events"]):
        text = output("show", path, "--event", str(number))
        for key, pulses in event["pulses"].items():
            line = next(each for each in text.splitlines() if each.split()[:1] == [key])
            found = re.search(r"([\d,]+) pulses? of ([\d,]+) PMTs?", line)
            assert found, line
            numbers = [int(each.replace(",", "")) for each in found.groups()]
            assert numbers == [pulses["n_pulses"], pulses["n_doms_nonempty"]]
            assert pulses["type"] in line


# --------------------------------------------------------------------------------------------------
# export
# --------------------------------------------------------------------------------------------------
def export(file: Path, keys: str, *words: str) -> dict[str, list[Any]]:
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (extra parquet)")
    output("export", file, "--keys", keys, "--out", "out.parquet", *words)
    return dict(pq.read_table("out.parquet").to_pydict())


def test_table_of_fields(file: Path) -> None:
    keys = "I3MCWeightDict.OneWeight,InIceDSTPulses,MCPrimary.major_id,OnlyFirst,Names,FilterMask"
    columns = export(file, f"{keys},Text,I3MCTree.pdg")
    assert list(columns)[:7] == [
        *("run", "sub_run", "event", "sub_event", "stream", "I3MCWeightDict.OneWeight"),
        "InIceDSTPulses.string",
    ]
    assert columns["run"] == [7, 7, 7]
    assert columns["sub_run"] == [None] * 3
    assert columns["event"] == [0, 1, 2]
    assert columns["stream"] == ["InIceSplit"] * 3
    assert columns["I3MCWeightDict.OneWeight"] == [0, 0.5, 1]
    assert columns["InIceDSTPulses.charge"] == [[1, 2, 3]] * 3
    assert columns["MCPrimary.major_id"] == [2**63 + 5] * 3
    assert columns["OnlyFirst"] == [[1.5, 2.5], None, None]
    assert columns["Names.a"] == [1, None, None]
    assert columns["Names.b"] == [None, 2, 2]
    assert columns["FilterMask.Muon_13.prescale_passed"] == [False, True, True]
    assert columns["Text"] == ["a \x1b[31m\ntext"] * 3
    assert columns["I3MCTree.pdg"] == [[14, 13, -2000001001, -2000001006]] * 3
    names = list(columns)
    assert names.index("Names.b") == names.index("Names.a") + 1


def test_table_of_q_frames(file: Path) -> None:
    columns = export(file, "I3MCTree.energy", "--stop", "Q")
    assert columns["stream"] == [""] * 3
    assert columns["I3MCTree.energy"] == [[1000, 800, 5, 200]] * 3


def test_columns_that_appear_late(file: Path) -> None:
    """Rows are put together in blocks; a column may begin, or change its type, later."""
    frames = [made.p_frame(1) for _ in range(1000)]
    last = made.p_frame(2)
    last.put("Late", np.array([1.0]))
    last.put("Number", 1.5)
    write_i3("late.i3", [*frames, last])
    columns = export(Path("late.i3"), "Late,Number")
    assert columns["Late"] == [None] * 1000 + [[1.0]]
    assert columns["Number"] == [1.0] * 1000 + [1.5]


def test_csv_holds_single_values(file: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra parquet)")
    keys = "MCPrimary.energy,Names.a,Number"
    assert output("export", file, "--keys", keys, "--out", "out.csv") == (
        "Wrote 'out.csv': 3 rows, 8 columns.\n"
    )
    lines = Path("out.csv").read_text(encoding="utf-8").splitlines()
    assert lines[1:] == [
        '7,,0,0,"InIceSplit",1000,1,0',
        '7,,1,0,"InIceSplit",1000,,1',
        '7,,2,0,"InIceSplit",1000,,2',
    ]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("MCPrimry", "no frame has an object 'MCPrimry'. Did you mean 'MCPrimary'?"),
        (
            "MCPrimary.enrgy",
            "': 'MCPrimary' has no field 'enrgy'. Did you mean 'energy'?",
        ),
        ("Names.c", "'Names' has no field 'c'."),
        ("Number.x", "'Number' has no field 'x'. It is one value"),
        ("Tray0", "events.i3.gz': 'Tray0' cannot be a column: objects of class I3TrayInfo are not"),
        ("InIceDSTPulses", "'out.csv' cannot hold lists, such as InIceDSTPulses.string"),
    ],
)
def test_what_cannot_be_exported(file: Path, keys: str, message: str) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra parquet)")
    if keys == "Tray0":
        frame = made.p_frame(0)
        frame.put("Tray0", made.UNKNOWN)
        write_i3("events.i3.gz", [*list(made.frames_of_events(1))[:3], frame])
    assert message in error("export", file, "--keys", keys, "--out", "out.csv")
    assert not list(Path().glob("*out.csv*"))


def test_files_without_such_frames(file: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra parquet)")
    write_i3("info.i3", [*made.frames_of_events(0)])
    message = error("export", "info.i3", "--keys", "A", "--out", "out.csv")
    assert message == "Error: there is no P frame, but 2 I: choose --stop"


def test_kinds_that_do_not_go_together(file: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra parquet)")
    one, other = Frame("P"), Frame("P")
    one.put("A", 1.5)
    other.put("A", "text")
    write_i3("mixed.i3", [one, other])
    message = error("export", "mixed.i3", "--keys", "A", "--out", "out.csv")
    assert message.startswith("Error: 'A' has values of incompatible types")


def test_keys_with_names_of_the_event_id(file: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra parquet)")
    frame = made.p_frame(0)
    frame.put("run", 3)
    write_i3("run.i3", [frame])
    message = error("export", "run.i3", "--keys", "run", "--out", "out.csv")
    assert message == "Error: frame 0 of 'run.i3': 'run' has the name of a column of the event id"


def test_pulses_of_real_files(real: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path, golden = real
    if not golden["events"]:
        pytest.skip("the file has no events")
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (extra parquet)")
    keys = sorted(set.intersection(*(set(event["pulses"]) for event in golden["events"])))
    out = tmp_path / "pulses.parquet"
    output("export", path, "--keys", ",".join(keys), "--out", out)
    columns = pq.read_table(out).to_pydict()
    for row, event in enumerate(golden["events"]):
        assert columns["event"][row] == event["header"]["event"]
        for key in keys:
            expected = event["pulses"][key]
            names = ("string", "om", "pmt", "time", "charge", "width", "flags")
            pulses = [columns[f"{key}.{name}"][row] for name in names]
            assert len(pulses[0]) == expected["n_pulses"]
            assert [list(pulse) for pulse in zip(*pulses, strict=True)][:3] == expected["first3"]
            assert sum(pulses[4]) == pytest.approx(expected["sum_charge"], abs=1e-9)


def test_wrong_names(file: Path) -> None:
    for words in (("show", file), ("export", file, "--out", "out.csv")):
        result = invoke("i3", *words, "--keys", "Number,,Text")
        assert result.exit_code == 2
        assert "'Number,,Text' has an empty name" in result.err
    result = invoke("i3", "export", file, "--keys", "Number", "--out", "out.hdf5")
    assert "'out.hdf5' must end in .parquet or .csv" in result.err


# --------------------------------------------------------------------------------------------------
# In the shell
# --------------------------------------------------------------------------------------------------
def test_output_cut_short_by_the_reader_is_no_error(file: Path) -> None:
    write_i3("long.i3", made.frames_of_events(2000))
    line = f"'{sys.executable}' -m dnn_reco i3 ls long.i3 --all | head -n 1"
    result = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert result.stdout.split()[:2] == ["frame", "stop"]
    assert result.stderr == ""


def test_interrupting_leaves_no_part_of_a_table(file: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra parquet)")
    names = ["long.i3"] * 200
    write_i3("long.i3", made.frames_of_events(1500))
    words = ["i3", "export", *names, "--keys", "InIceDSTPulses", "--out", "out.parquet"]
    with subprocess.Popen(
        [sys.executable, "-m", "dnn_reco", *words], stderr=subprocess.PIPE, text=True
    ) as process:
        while not list(Path().glob(".tmp-out.parquet-*/0.arrow")) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert message == "Interrupted.\n"
    assert sorted(path.name for path in Path().iterdir()) == ["events.i3.gz", "long.i3"]
