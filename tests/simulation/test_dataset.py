"""Data sets of simulated events: files, layouts, going on, and what is in them."""

import re
from fnmatch import fnmatch
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result

from dnn_reco.cli import cli
from dnn_reco.config import load_config
from dnn_reco.data.features import dom_features
from dnn_reco.data.hdf5 import InputTables, read_events
from dnn_reco.data.pulses import Pulses
from dnn_reco.data.simulated_files import RECORD
from dnn_reco.detector.geometry import dom_index, dom_positions
from dnn_reco.errors import ConfigError, DataError, DnnRecoError
from dnn_reco.simulation import dataset
from dnn_reco.simulation.dataset import PlannedFile, plan_files, write_file
from dnn_reco.simulation.settings import SimulationSettings, claim_folder, load_settings

PRESETS = sorted((Path(__file__).parents[2] / "configs/simulation").glob("*.yaml"))
BRIGHT = SimulationSettings(energy=(1e4, 1e5), margin=0, events_per_file=8)


def simulate(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["simulate", "-j", "1", *map(str, arguments)])


def tables(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {name: table[:] for name, table in file.items() if isinstance(table, h5py.Dataset)}


class TestPlan:
    def test_flat(self, tmp_path: Path) -> None:
        files = plan_files(tmp_path, 25, 10, "flat")
        assert [file.num_events for file in files] == [10, 10, 5]
        assert [file.number for file in files] == [0, 1, 2]
        assert {file.path.parent for file in files} == {tmp_path}

    @pytest.mark.parametrize(
        ("events", "per_file", "training", "validation"),
        [(40_000, 100, 396, 2), (1000, 500, 1, 1), (7, 500, 1, 1), (100_000, 100, 990, 5)],
    )
    def test_tutorial(
        self, tmp_path: Path, events: int, per_file: int, training: int, validation: int
    ) -> None:
        files = plan_files(tmp_path, events, per_file, "tutorial")
        folders = [file.path.parent.name for file in files]
        assert sum(file.num_events for file in files) == events
        assert folders.count("00000-00999") == training
        assert folders.count("01000-01999") == 2 * validation
        assert all(1 <= file.num_events <= per_file for file in files)
        assert len({file.number for file in files}) == len(files)
        assert all((file.number >= 1000) == ("01000" in str(file.path)) for file in files)

    @pytest.mark.parametrize(
        ("events", "files", "sizes"),
        [(10, 6, [2, 2, 2, 2, 1, 1]), (10, 4, [3, 3, 3, 1]), (10, 10, [1] * 10), (10, 1, [10])],
    )
    def test_number_of_files(
        self, tmp_path: Path, events: int, files: int, sizes: list[int]
    ) -> None:
        per_file = -(-events // files)
        planned = plan_files(tmp_path, events, per_file, "flat", num_files=files)
        assert [file.num_events for file in planned] == sizes

    def test_number_of_files_of_the_tutorial(self, tmp_path: Path) -> None:
        few = [(events, files) for events in range(3, 31) for files in range(3, events + 1)]
        for events, files in [*few, (401, 400), (1001, 1000), (3000, 401), (2000, 1005)]:
            per_file = -(-events // files)
            planned = plan_files(tmp_path, events, per_file, "tutorial", num_files=files)
            assert len(planned) == len({file.path for file in planned}) == files
            assert sum(file.num_events for file in planned) == events
            assert min(file.num_events for file in planned) >= 1

    def test_tutorial_files_are_those_of_its_config(self, tmp_path: Path) -> None:
        config = Path(__file__).parents[2] / "configs/tutorial/getting_started.yaml"
        text = config.read_text(encoding="utf-8").replace("{insert_DNN_HOME}", str(tmp_path))
        (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
        files = load_config([tmp_path / "config.yaml"]).data_files
        numbers: dict[str, list[int]] = {"training": [], "validation": [], "test": []}
        for file in plan_files(tmp_path / "training_data", 100_000, 100, "tutorial"):
            for part, found in numbers.items():
                if any(fnmatch(str(file.path), p) for p in getattr(files, f"{part}_data_file")):
                    found.append(file.number)
        assert numbers["training"] == list(range(990))
        assert numbers["validation"] == [1000, 1001, 1002, 1003, 1004]
        assert numbers["test"] == [1005, 1006, 1007, 1008, 1009]

    def test_a_larger_data_set_has_the_files_of_the_smaller_one(self, tmp_path: Path) -> None:
        small = {f.path: f for f in plan_files(tmp_path, 3000, 10, "tutorial")}
        large = {f.path: f for f in plan_files(tmp_path, 9000, 10, "tutorial")}
        assert all(large[path] == file for path, file in small.items())

    def test_the_fewest_events_for_the_tutorial(self, tmp_path: Path) -> None:
        assert [file.num_events for file in plan_files(tmp_path, 3, 10, "tutorial")] == [1, 1, 1]
        with pytest.raises(ConfigError, match="needs at least three events"):
            plan_files(tmp_path, 2, 10, "tutorial")

    def test_too_many_files_for_the_tutorial(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"at least 20 events to a file"):
            plan_files(tmp_path, 20_000, 10, "tutorial")


class TestFiles:
    def test_same_seed_same_events_and_each_file_its_own(self, tmp_path: Path) -> None:
        files = [
            PlannedFile(tmp_path / f"{i}.hdf5", number, 8) for i, number in enumerate([3, 3, 4])
        ]
        for file in files:
            write_file(BRIGHT, file)
        first, again, other = (tables(file.path) for file in files)
        for name in first:
            np.testing.assert_array_equal(first[name], again[name])
        assert not np.array_equal(
            first["LabelsDeepLearning"]["PrimaryEnergy"],
            other["LabelsDeepLearning"]["PrimaryEnergy"],
        )

    def test_a_short_file_begins_like_a_long_one(self, tmp_path: Path) -> None:
        short, long = PlannedFile(tmp_path / "a", 1, 3), PlannedFile(tmp_path / "b", 1, 8)
        write_file(BRIGHT, short)
        write_file(BRIGHT, long)
        name = "LabelsDeepLearning"
        np.testing.assert_array_equal(tables(short.path)[name], tables(long.path)[name][:3])

    def test_pulses_give_the_features(self, tmp_path: Path) -> None:
        parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
        settings = load_settings(None, {"energy": (1e4, 1e5), "margin": 0, "keep_pulses": True})
        write_file(settings, PlannedFile(tmp_path / "events.hdf5", 0, 8))
        table = parquet.read_table(tmp_path / "events.parquet")
        rows = {name: table[name].to_numpy() for name in table.column_names}
        pulses = Pulses(
            8,
            rows["event"],
            dom_index(rows["string"], rows["om"]),
            rows["time"],
            rows["charge"].astype(np.float64),
            rows["flags"],
        )
        expected = dom_features(pulses)
        found = read_events(tmp_path / "events.hdf5", InputTables(), 9)
        np.testing.assert_array_equal(found.hits.offsets, expected.hits.offsets)
        np.testing.assert_array_equal(found.hits.dom, expected.hits.dom)
        np.testing.assert_allclose(
            found.hits.features, expected.hits.features, rtol=1e-5, atol=1e-3
        )
        np.testing.assert_array_equal(found.time_offset, expected.time_offset)

    def test_labels_fit_the_light(self, tmp_path: Path) -> None:
        """Light lies around the vertex and after its time, more of it at higher energies."""
        settings = load_settings(None, {"flavor": "nue", "energy": (1e4, 1e6), "margin": 0})
        file = PlannedFile(tmp_path / "events.hdf5", 0, 40)
        write_file(settings, file)
        events = read_events(file.path, InputTables(), 9)
        labels = tables(file.path)["LabelsDeepLearning"]
        charge = np.add.reduceat(events.hits.features[:, 0], events.hits.offsets[:-1])
        correlation = np.corrcoef(np.log(labels["EnergyVisible"]), np.log(charge))[0, 1]
        assert correlation > 0.6
        brightest = [
            events.hits.dom[start + np.argmax(events.hits.features[start:stop, 0])]
            for start, stop in zip(events.hits.offsets[:-1], events.hits.offsets[1:], strict=True)
        ]
        vertex = np.stack([labels["VertexX"], labels["VertexY"], labels["VertexZ"]], axis=1)
        distance = np.linalg.norm(dom_positions()[brightest] - vertex, axis=1)
        assert np.median(distance) < 60
        first = np.minimum.reduceat(events.hits.features[:, 4], events.hits.offsets[:-1])
        first += events.time_offset
        assert np.median(first - labels["VertexTime"]) < 500

    @pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
    def test_presets(self, preset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dataset, "_BLOCK", 20)
        settings = load_settings(preset, {})
        write_file(settings, PlannedFile(tmp_path / "events.hdf5", 0, 3))
        labels = tables(tmp_path / "events.hdf5")["LabelsDeepLearning"]
        low, high = settings.energy
        assert ((labels["PrimaryEnergy"] >= low) & (labels["PrimaryEnergy"] <= high)).all()
        command = preset.read_text(encoding="utf-8").splitlines()[0]
        assert command.startswith(f"# dnn-reco simulate configs/simulation/{preset.name} ")

    def test_nothing_triggers(self, tmp_path: Path) -> None:
        dark = SimulationSettings(flavor="nue", energy=(1, 2), margin=300)
        with pytest.raises(DataError, match=r"none of \d+ events in a row triggered"):
            write_file(dark, PlannedFile(tmp_path / "events.hdf5", 0, 5))
        assert list(tmp_path.iterdir()) == []


class TestCommand:
    ARGUMENTS = ("--energy", "1e4", "1e5", "--files", "3", "--events", "9")

    def test_tutorial_layout_and_going_on(self, tmp_path: Path) -> None:
        arguments = (*self.ARGUMENTS, "--out", tmp_path, "--layout", "tutorial")
        result = simulate(*arguments)
        assert result.exit_code == 0, result.output
        files = sorted(tmp_path.glob("datasets/11883/*/*/*/*/*.hdf5"))
        assert [file.parent.name for file in files] == ["00000-00999"] + ["01000-01999"] * 2
        assert re.search(r"9 events in 3 files", result.output)
        assert "already exist" not in result.output

        before = {file: (file.stat().st_mtime_ns, tables(file)) for file in files}
        files[0].unlink()
        again = simulate(*arguments)
        assert again.exit_code == 0
        assert "2 of 3 files already exist." in again.output
        assert re.search(r"9 events in 3 files in '.*' \(3 in \d+ s, \d+ events/s\)", again.output)
        finished = simulate(*arguments)
        assert "3 of 3 files already exist." in finished.output
        assert f"9 events in 3 files in '{tmp_path}'.\n" in finished.output
        for file, (modified, content) in before.items():
            for name, table in tables(file).items():
                np.testing.assert_array_equal(table, content[name])
            assert (file.stat().st_mtime_ns == modified) == (file != files[0])

    def test_as_many_files_as_are_asked_for(self, tmp_path: Path) -> None:
        arguments = ("--energy", "1e4", "1e5", "--out", tmp_path, "--events", "5")
        assert "5 events in 4 files" in simulate(*arguments, "--files", "4").output
        assert len(list(tmp_path.glob("*.hdf5"))) == 4
        assert "4 of 4 files already exist." in simulate(*arguments, "--files", "4").output
        for others in (("--files", "6"), ("--files", "2", "--layout", "tutorial")):
            refused = simulate(*arguments, *others)
            assert isinstance(refused.exception, ConfigError)
            assert re.search("among 6 files|at least three files", str(refused.exception))

    def test_more_events_replace_the_file_that_was_short(self, tmp_path: Path) -> None:
        arguments = ("--energy", "1e4", "1e5", "--out", tmp_path)
        settings = load_settings(None, {"energy": (1e4, 1e5)})
        claim_folder(tmp_path, settings)
        assert simulate(*arguments, "--events", "3").exit_code == 0
        assert simulate(*arguments, "--events", "5").exit_code == 0
        (file,) = tmp_path.glob("*.hdf5")
        assert len(tables(file)["LabelsDeepLearning"]) == 5

    @pytest.mark.parametrize("options", [(), ("--layout", "tutorial"), ("--format", "i3")])
    def test_fewer_events_leave_the_finished_files_alone(
        self, tmp_path: Path, options: tuple[str, ...]
    ) -> None:
        preset, out = tmp_path / "preset.yaml", tmp_path / "out"
        preset.write_text("{energy: [1.e4, 1.e5], events_per_file: 2}")
        arguments = (preset, "--out", out, *options)
        assert simulate(*arguments, "--events", "10").exit_code == 0
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        assert len(before) == 6  # with the record
        for events in ("9", "5", "3"):
            error = simulate(*arguments, "--events", events).exception
            assert isinstance(error, DataError)
            found = re.findall(
                r"'(\S+)' (?:is none of the \d files|has 2 events, not 1)", str(error)
            )
            assert found and {Path(path) for path in found} <= before.keys()
            assert f"the folder would hold more than {events} events: " in str(error)
            assert "at least as many --events as before, give another folder, or" in str(error)
            assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
        assert simulate(*arguments, "--events", "11").exit_code == 0
        assert all(path.read_bytes() == content for path, content in before.items())

    @pytest.mark.parametrize("content", ["", "[1]", "[" * 100_000])
    def test_a_damaged_record_is_an_error(self, tmp_path: Path, content: str) -> None:
        (tmp_path / RECORD).write_text(content)
        with pytest.raises(DataError, match=rf"{RECORD}' cannot be read .*another folder"):
            claim_folder(tmp_path, load_settings(None, {}))

    def test_workers_write_the_same(self, tmp_path: Path) -> None:
        assert simulate(*self.ARGUMENTS, "--out", tmp_path / "one").exit_code == 0
        assert simulate(*self.ARGUMENTS, "--out", tmp_path / "two", "-j", "2").exit_code == 0
        for file in (tmp_path / "one").glob("*.hdf5"):
            other = tables(tmp_path / "two" / file.name)
            for name, table in tables(file).items():
                np.testing.assert_array_equal(table, other[name])

    def test_other_settings_in_the_same_folder(self, tmp_path: Path) -> None:
        assert simulate(*self.ARGUMENTS, "--out", tmp_path).exit_code == 0
        error = simulate(*self.ARGUMENTS, "--out", tmp_path, "--seed", "2").exception
        assert isinstance(error, DataError)
        assert re.search(r"different settings: seed is 1 in the folder, 2 now", str(error))

    def test_a_record_that_cannot_be_read(self, tmp_path: Path) -> None:
        for content in ("{", "[1]"):
            (tmp_path / "simulation.json").write_text(content)
            with pytest.raises(
                DataError, match=r"simulation.json' cannot be read .*another folder"
            ):
                claim_folder(tmp_path, BRIGHT)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("flavour: nue", r":1: there is no setting 'flavour'; the nearest is 'flavor'"),
            ("flavor: nux", r"'flavor' is 'nux'.*'nutau'"),
            ("\nenergy: 5", r":2: 'energy' is 5"),
            ("energy: [10, 1]", r"two ascending numbers"),
            ("time_bins: [a]", r":1: 'time_bins.0' is 'a'"),
            ("[1, 2]", r"must hold lines of 'key: value'"),
            ("events_per_file: 0", r"events_per_file is 0: give at least 1"),
            ("seed: -1", r"the seed is -1: give a number from 0 to 9223372036854775807"),
            (f"seed: {2**63}", r"the seed is 9223372036854775808: give a number"),
        ],
    )
    def test_mistakes_in_a_preset(self, text: str, message: str, tmp_path: Path) -> None:
        preset = tmp_path / "preset.yaml"
        preset.write_text(text)
        error = simulate(preset, "--out", tmp_path / "out").exception
        assert isinstance(error, DnnRecoError)
        assert re.search(message, str(error))
        assert not (tmp_path / "out").exists()

    def test_unknown_format_is_told_before_anything_is_simulated(self, tmp_path: Path) -> None:
        error = simulate("--out", tmp_path / "out", "--format", "nine").exception
        assert isinstance(error, ConfigError)
        assert "unknown data format 'nine'" in str(error)
        assert not (tmp_path / "out").exists()
