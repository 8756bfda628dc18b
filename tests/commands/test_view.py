"""`dnn-reco view`: which event is drawn with which reconstruction, and what is refused."""

import json
import re
from pathlib import Path

import h5py
import i3_frames as made
import numpy as np
import pytest
from applied_models import TIME_OFFSET, model_of_run
from click.testing import CliRunner
from event_files import random_events, write_events
from small_run import ON_CPU, SmallRun, make_small_run

from dnn_reco import Reconstructor
from dnn_reco.cli import cli
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.data.hdf5 import write_event_file
from dnn_reco.data_creation.event_to_view import event_of
from dnn_reco.display.label_table import number_text
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.i3.writer import write_i3

STORED = "DeepLearningReco_other"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    run = make_small_run(
        tmp_path_factory.mktemp("view"), num_training_iterations=1, trafo_num_batches=2
    )
    run_trafo(run.config(), ON_CPU, overwrite=False)
    assert run_train(run.config(), ON_CPU) == 0
    return run


@pytest.fixture(scope="module")
def model(run: SmallRun) -> Path:
    return model_of_run(run, run.folder / "model")


@pytest.fixture
def here(run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_events(tmp_path / "events.hdf5", random_events(5, 8, num_bins=3, run=7))
    return tmp_path


def view(*words: object) -> str:
    """The output of a command line; raises what it raises."""
    result = CliRunner().invoke(cli, ["view", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def summary(page: Path) -> str:
    found = re.search(r"<p>(\d+ hit DOMs?, [\d,.]+ PE)", page.read_text(encoding="utf-8"))
    assert found
    return found[1]


def expected_summary(event: int) -> str:
    hits = random_events(5, 8, num_bins=3, run=7).hits.part(event, event + 1)
    doms = "DOM" if len(hits.dom) == 1 else "DOMs"
    return f"{len(hits.dom)} hit {doms}, {hits.features[:, 0].sum():,.1f} PE"


def test_picture_by_default(here: Path) -> None:
    assert view("events.hdf5") == "Wrote 'event.png'.\n"
    assert (here / "event.png").read_bytes().startswith(b"\x89PNG")
    view("events.hdf5", "--out", "other.svg")
    assert "<svg" in (here / "other.svg").read_text()


@pytest.mark.parametrize(("event", "number"), [("first", 0), ("0", 0), ("7", 7), ("7:3", 3)])
def test_which_event(here: Path, event: str, number: int) -> None:
    pytest.importorskip("plotly", reason="plotly is not installed (extra display)")
    assert view("events.hdf5", "--html", "--event", event) == "Wrote 'event.html'.\n"
    assert summary(here / "event.html") == expected_summary(number)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ("8", "no event 8: the file has 8 events, counted from 0"),
        ("7:99", "no event of the 8 events of the file has the id 7:99"),
        ("last", "--event 'last' is not an event"),
        ("-1", "--event '-1' is not an event"),
        ("1:2:3:4", "'1:2:3:4' is not an event"),
    ],
)
def test_wrong_events(here: Path, event: str, message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message) as caught:
        view("events.hdf5", "--event", event)
    assert "\n" not in str(caught.value)


def test_several_events_of_an_id(here: Path) -> None:
    events = random_events(5, 4, num_bins=3)
    events.ids["Event"] = 5
    events.ids["SubEvent"] = np.arange(4)
    write_events(here / "split.hdf5", events)
    with pytest.raises(DataError, match=r"4 events have the id 1:5: .* --event 0"):
        view("split.hdf5", "--event", "1:5")
    pytest.importorskip("plotly", reason="plotly is not installed (extra display)")
    view("split.hdf5", "--event", "1:5:2", "--html")
    charges = events.features[events.offsets[2] : events.offsets[3], 0]
    assert summary(here / "event.html").endswith(f" {charges.sum():,.1f} PE")


def test_model_with_the_network(here: Path, model: Path) -> None:
    pytest.importorskip("plotly", reason="plotly is not installed (extra display)")
    words = ("events.hdf5", "--event", 2, "--model", model, "--device", "cpu", "--network")
    assert view(*words, "--out", "a.png", "--html", "a.html") == (
        "Wrote 'a.html'.\nWrote 'a.png'.\nWrote 'a_network.png'.\n"
    )
    text = (here / "a.html").read_text(encoding="utf-8")
    assert text.count('<img alt="Layers of the main array') == 1
    value = Reconstructor(model, device="cpu").predict("events.hdf5")["EnergyVisible"][2]
    row = re.search(r"<td>EnergyVisible</td><td>([^<]*)</td><td>([^<]*)</td>", text)
    assert row and row[2].startswith(f"{number_text(value)} ")
    truth = random_events(5, 8, num_bins=3, run=7).labels["EnergyVisible"][2]
    assert row[1] == number_text(truth)


def test_stored_predictions(here: Path) -> None:
    pytest.importorskip("plotly", reason="plotly is not installed (extra display)")
    ids = random_events(5, 8, num_bins=3, run=7).ids
    energy = {"EnergyVisible": np.arange(8.0), "EnergyVisible_uncertainty": np.full(8, 0.5)}
    particle = dict.fromkeys(("y", "z", "time", "zenith", "azimuth", "energy"), np.zeros(8))
    particle |= {"x": np.full(8, 12.5), "fit_status": np.zeros(8, np.int32)}
    tables = {STORED: energy, f"{STORED}_I3Particle": particle}
    write_event_file(here / "stored.hdf5", ids, tables)
    with h5py.File("stored.hdf5") as stored, h5py.File("events.hdf5", "a") as events:
        for name in tables:
            stored.copy(name, events)
    view("events.hdf5", "--event", 3, "--model", STORED, "--html")
    text = (here / "event.html").read_text(encoding="utf-8")
    assert "<td>3 ± 0.5</td>" in text
    assert "<td>12.5</td>" in text
    for name in ("nothing", "LabelsDeepLearning", "dnn_data_global_time_offset"):
        with pytest.raises(ConfigError, match=rf"'{name}' is neither.*: {STORED}$"):
            view("events.hdf5", "--model", name)
    view("events.hdf5", "--event", 3, "--model", f"{STORED}_I3Particle", "--html")
    assert "<td>12.5</td>" in (here / "event.html").read_text(encoding="utf-8")
    with pytest.raises(ConfigError, match="--network needs a model folder"):
        view("events.hdf5", "--model", STORED, "--network")


def test_events_without_input_count(here: Path, model: Path) -> None:
    pytest.importorskip("plotly", reason="plotly is not installed (extra display)")
    events = random_events(5, 8, num_bins=3, run=7)
    write_events(here / "gone.hdf5", events, exists={TIME_OFFSET: np.arange(8) % 3 != 1})
    for words in ((), ("--model", model, "--device", "cpu")):
        for event in ("2", "7:2"):
            view("gone.hdf5", "--event", event, "--html", *words)
            assert summary(here / "event.html") == expected_summary(2)
            assert "gone.hdf5, event 2 (7:2)" in (here / "event.html").read_text(encoding="utf-8")
    value = Reconstructor(model, device="cpu").predict("gone.hdf5")["EnergyVisible"][2]
    assert f"{number_text(value)} " in (here / "event.html").read_text(encoding="utf-8")
    message = "event 4 of 'gone.hdf5' has no input; the first that has is event 0"
    for event in ("4", "7:4"):
        with pytest.raises(DataError, match=message):
            view("gone.hdf5", "--event", event)


def test_pictures_that_cannot_be_written(here: Path) -> None:
    (here / "file").touch()
    with pytest.raises(DataError, match=r"pictures cannot be written to 'file/a\.png' .*--out or"):
        view("events.hdf5", "--out", "file/a.png")


@pytest.fixture
def frames(here: Path) -> Path:
    """Two events with three pulses in two DOMs, 6 PE in all, and four in `I3SuperDST`, 10 PE."""
    write_i3(here / "events.i3.gz", made.frames_of_events(2))
    return Path("events.i3.gz")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "2 hit DOMs, 6.0 PE"),
        (("--pulses", "I3SuperDST"), "3 hit DOMs, 10.0 PE"),
        (("--event", "7:1"), "2 hit DOMs, 6.0 PE"),
    ],
)
def test_frames(frames: Path, words: tuple[str, ...], expected: str) -> None:
    pytest.importorskip("plotly", reason="plotly is not installed (extra display)")
    view(frames, "--html", *words)
    assert summary(Path("event.html")) == expected
    text = Path("event.html").read_text(encoding="utf-8")
    assert re.search(r"<td>energy</td><td>1,000</td>", text)
    assert re.search(r"<td>x</td><td>1</td>", text)


def test_frames_without_truth(frames: Path) -> None:
    frame = made.p_frame(4)
    frame.delete("MCPrimary")
    frame.put("InIceDSTPulses", made.PULSES)
    write_i3("data.i3", [frame])
    view("data.i3")
    assert Path("event.png").read_bytes().startswith(b"\x89PNG")
    frame.put("I3MCTree", made.mc_tree())
    assert event_of(frame).labels["energy"].tolist() == [1000]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--event", "2"), "'events.i3.gz': there is no event 2: there are 2 P frames"),
        (("--pulses", "InIce"), "has no object 'InIce'.* these pulses: I3SuperDST, InIce"),
        (("--pulses", "Number"), "has no pulses in 'Number'. It has these pulses: I3S"),
        (("--tables", "dnn_data"), "--tables is for HDF5 files, but 'events.i3.gz' is an .i3 file"),
        (("--model", "models/my_model"), "--model is for HDF5 files"),
        (("--ignore-mismatch", "pulse_key"), "--ignore-mismatch is for HDF5 files"),
        (("--ignore-mismatch", "pulsekey"), "no data setting 'pulsekey' .* is 'pulse_key'"),
    ],
)
def test_wrong_choices_for_frames(frames: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        view(frames, *words)


def test_frames_of_unusual_pulses(frames: Path) -> None:
    frame = made.p_frame(4)
    frame.delete("InIceDSTPulses")
    frame.put("MyPulses", made.PULSES)
    write_i3("data.i3", [frame])
    with pytest.raises(DataError, match=r"none of the usual pulses .* these pulses: MyPulses"):
        view("data.i3")
    with pytest.raises(ConfigError, match=r"--pulses is for \.i3 files, which 'events"):
        view("events.hdf5", "--pulses", "MyPulses")
    with pytest.raises(ConfigError, match="no data setting 'pulses' to ignore"):
        view("events.hdf5", "--ignore-mismatch", "pulses")
    with pytest.raises(ConfigError, match="--ignore-mismatch needs a model folder"):
        view("events.hdf5", "--ignore-mismatch", "pulse_key")


def test_real_frames(shared_data: Path, here: Path) -> None:
    """Hit DOMs and charge are those of an independent reader and its features."""
    pytest.importorskip("plotly", reason="plotly is not installed (extra display)")
    inputs = json.loads((shared_data / "golden/i3/dnn_inputs.json").read_text(encoding="utf-8"))
    paths = [(shared_data / "i3" / each["file"], each) for each in inputs[:4]]
    for path, expected in paths:
        if not path.is_file():
            pytest.skip(f"'{path}' is not there")
        event = f"{expected['run']}:{expected['event']}"
        view(path, "--event", event, "--pulses", expected["key"], "--html")
        charge = f"{expected['sum9'][0]:,.1f}"
        assert summary(here / "event.html") == f"{expected['n_doms9']} hit DOMs, {charge} PE"


def test_missing_file(here: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.hdf5"):
        view("missing.hdf5")
