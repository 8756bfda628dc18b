"""Files of predictions: layout, bytes, and other readers."""

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tables
from event_files import event_ids, random_events, write_events
from hypothesis import given
from hypothesis import strategies as st

import dnn_reco
from dnn_reco.cli.apply import apply_command
from dnn_reco.data.hdf5 import read_columns, read_stream_names
from dnn_reco.errors import ConfigError, DataError, ModelError
from dnn_reco.inference.output_file import (
    Predictions,
    read_output_record,
    write_hdf5,
    write_parquet,
    writer_of,
)
from dnn_reco.inference.output_plan import output_names, plan_outputs, remove_leftovers
from dnn_reco.inference.output_record import (
    Application,
    AppliedModel,
    OutputRecord,
    SourceFile,
    option_of,
)
from dnn_reco.inference.prediction_table import PredictionTable, Status

N = 12
IDS = event_ids(N)
REAL = "DeepLearningReco_getting_started_model"


def predictions(model: str = "a", runtime: tuple[float, float] | None = None) -> Predictions:
    rng = np.random.default_rng(3)
    labels, uncertainty = rng.random((2, N, 2))
    status = np.full(N, Status.OK, dtype=np.int32)
    status[[0, 5]] = Status.NO_HITS
    labels[[0, 5]] = np.nan
    uncertainty[[0, 5]] = np.nan
    names, has_log = ("EnergyVisible", "PrimaryEnergy"), (True, True)
    particle = {"energy": "EnergyVisible"}
    table = PredictionTable(names, has_log, labels, uncertainty, IDS, status, particle)
    return Predictions(model, table, runtime)


RECORD = OutputRecord(
    SourceFile("events.hdf5", 12345, 1_700_000_000_123_456_789),
    Application((AppliedModel("a", "12ab"),), 256, "auto", False, {"a": "{}"}, ("num_bins",)),
    N,
    {"a": {"OK": 10, "NO_HITS": 2}},
    {"a": '{"num_bins": 9}'},
    ("'a': num_bins differs µ",),
    dict(enumerate(("in_ice", "InIceSplit", "Final", "topological_split"))),
    {"dnn_reco": "1"},
)


def test_layout_is_that_of_the_reference(tmp_path: Path, numu_file: Path) -> None:
    path = tmp_path / "reco.hdf5"
    model = REAL.removeprefix("DeepLearningReco_")
    write_hdf5(path, IDS, [predictions(model, (0.1, 0.2))], RECORD)
    with h5py.File(numu_file, locking=False) as original, h5py.File(path) as ours:
        names = list(original[REAL].dtype.names)
        names[names.index("runtime_prediction") : -1] = [
            "status",
            "runtime_prediction",
            "runtime_preprocess",
        ]
        assert list(ours[REAL].dtype.names) == names[:-1]
        particle = f"{REAL}_I3Particle"
        assert original[particle].dtype == ours[particle].dtype
        for name in (REAL, particle):
            for column in ours[name].dtype.names:
                if column != "status":
                    assert ours[name].dtype[column] == original[name].dtype[column]
            assert ours[f"__I3Index__/{name}"].dtype == original[f"__I3Index__/{name}"].dtype
        assert ours[REAL].dtype["status"] == np.int32
        assert set(ours) == {REAL, particle, "__I3Index__"}


@pytest.mark.parametrize("name", ["reco.hdf5", "reco.parquet"])
def test_same_predictions_same_bytes(tmp_path: Path, name: str) -> None:
    write = writer_of(tmp_path / name)
    both = [predictions("a", (0.5, 0.25)), predictions("b")]
    write(tmp_path / "one" / name, IDS, both, RECORD)
    write(tmp_path / "two" / name, IDS, both, RECORD)
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert read_output_record(tmp_path / "one" / name) == RECORD


def test_pytables_and_pandas(tmp_path: Path) -> None:
    path = tmp_path / "reco.hdf5"
    each = predictions(runtime=(0.5, 0.25))
    write_hdf5(path, IDS, [each], RECORD)
    with tables.open_file(path) as file:
        read = file.root.DeepLearningReco_a[:]
        assert file.root.DeepLearningReco_a.get_enum("SubEventStream")(3) == "topological_split"
    frame = pd.read_hdf(path, "DeepLearningReco_a")
    for name, values in each.columns().items():
        np.testing.assert_array_equal(read[name], values)
        np.testing.assert_array_equal(frame[name], values)
    particle = pd.read_hdf(path, "DeepLearningReco_a_I3Particle")
    np.testing.assert_array_equal(particle["energy"], each.table["EnergyVisible"])
    np.testing.assert_array_equal(particle["Event"], IDS["Event"])


def test_read_back_by_us(tmp_path: Path) -> None:
    """Alone, and copied to the event file as misc data."""
    events = replace(random_events(0, N, num_bins=3), ids=IDS)
    write_events(tmp_path / "events.hdf5", events)
    path = tmp_path / "reco.hdf5"
    each = predictions()
    write_hdf5(path, IDS, [each], RECORD)
    table = "DeepLearningReco_a"
    values, names = read_columns(path, table, None, table)
    assert names == list(each.columns())
    np.testing.assert_array_equal(values.data[:, 0], each.table["EnergyVisible"])
    with h5py.File(path) as source, h5py.File(tmp_path / "events.hdf5", "r+") as target:
        source.copy(table, target)
    misc = {table: ["EnergyVisible", "status"]}
    read = dnn_reco.open_events(tmp_path / "events.hdf5", misc=misc)
    column = read.misc[f"{table}_EnergyVisible"]
    np.testing.assert_array_equal(column, each.table["EnergyVisible"])
    np.testing.assert_array_equal(read.misc[f"{table}_status"], each.status)


def test_parquet(tmp_path: Path) -> None:
    one, two = predictions(), predictions("b", (0.5, 0.25))
    write_parquet(tmp_path / "one.parquet", IDS, [one], RECORD)
    frame = pd.read_parquet(tmp_path / "one.parquet")
    ids = ["Run", "Event", "SubEvent", "SubEventStream"]
    particle = [f"particle_{name}" for name in one.table.particle()]
    assert list(frame) == [*ids, *one.columns(), *particle]
    np.testing.assert_array_equal(frame["EnergyVisible"], one.table["EnergyVisible"])
    np.testing.assert_array_equal(frame["particle_energy"], one.table["EnergyVisible"])
    assert [str(frame[name].dtype) for name in ids] == ["uint32"] * 3 + ["int32"]
    write_parquet(tmp_path / "two.parquet", IDS, [one, two], RECORD)
    names = pq.read_schema(tmp_path / "two.parquet").names
    expected = [f"{each.model}.{name}" for each in (one, two) for name in each.columns()]
    assert [name for name in names[4:] if "particle" not in name] == expected


@pytest.mark.parametrize("name", ["reco.hdf5", "reco.parquet"])
def test_file_without_events(tmp_path: Path, name: str) -> None:
    each = predictions()
    none = replace(each.table, labels=np.zeros((0, 2)), uncertainty=np.zeros((0, 2)))
    none = replace(none, ids=IDS[:0], status=np.zeros(0, np.int32))
    path = tmp_path / name
    writer_of(path)(path, IDS[:0], [Predictions("a", none)], RECORD)
    assert read_output_record(path) == RECORD
    assert Predictions("a", none).status_counts() == {}


def test_names_of_streams(tmp_path: Path, numu_file: Path) -> None:
    path = tmp_path / "reco.hdf5"
    assert read_stream_names(numu_file, REAL)[3] == "topological_split"
    ids = IDS.copy()
    ids["SubEventStream"][:3] = (0, 1, 5)
    write_hdf5(path, ids, [predictions()], replace(RECORD, streams={0: "one", 3: "two"}))
    names = {0: "one", 1: "stream_1", 2: "stream_2", 3: "two", 4: "stream_4", 5: "stream_5"}
    assert read_stream_names(path, "DeepLearningReco_a") == names
    ids["SubEventStream"][0] = -2
    with pytest.raises(DataError, match="SubEventStream goes from -2"):
        write_hdf5(path, ids, [predictions()], RECORD)


def test_records(tmp_path: Path) -> None:
    assert OutputRecord.from_json(RECORD.to_json()) == RECORD
    # by which later versions know how to read it
    assert json.loads(RECORD.to_json())["format"] == "dnn_reco predictions 1"
    for text, message in (
        ("{", "Expecting"),
        ("[]", "has another version"),
        ('{"format": "dnn_reco predictions 9"}', "has another version"),
        (RECORD.to_json().replace(" 12345,", ' "many",'), "it is damaged"),
    ):
        with pytest.raises(ValueError, match=message):
            OutputRecord.from_json(text)
    write_events(tmp_path / "events.hdf5", random_events(0, 3))
    (tmp_path / "no.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a file of predictions"):
        read_output_record(tmp_path / "events.hdf5")
    with pytest.raises(DataError, match="not a Parquet file"):
        read_output_record(tmp_path / "no.parquet")
    long = replace(RECORD, ignored_mismatches=("x" * 70_000,))
    with pytest.raises(DataError, match="HDF5 can hold 60,000: apply fewer models"):
        write_hdf5(tmp_path / "long.hdf5", IDS, [predictions()], long)


def test_labels_called_as_another_column() -> None:
    table = replace(predictions().table, label_names=("status", "PrimaryEnergy"))
    with pytest.raises(ModelError, match="'a' has a label 'status', the name of another column"):
        Predictions("a", table).columns()


def test_differences_are_named_as_the_options() -> None:
    options = {name for param in apply_command.params for name in param.opts}
    of_record = {option_of(field.name) for field in fields(Application) if field.name != "models"}
    assert of_record <= options
    now = replace(RECORD.application, inputs="dnn_data")
    (difference,) = RECORD.differences(RECORD.source, now)
    assert difference == "--tables was not given, is dnn_data"


# --------------------------------------------------------------------------------------------------
# Names
# --------------------------------------------------------------------------------------------------
def names_of(*sources: str) -> list[str]:
    return [str(name) for name in output_names([Path(s) for s in sources], ".hdf5")]


def test_names_of_outputs() -> None:
    assert names_of("/data/a.h5") == ["a.hdf5"]
    assert names_of("/data/a.h5", "/data/x/b.i3.zst") == ["a.hdf5", "b.hdf5"]
    same = ["/data/x/a.hdf5", "/data/y/z/a.hdf5", "/data/y/c.hdf5"]
    assert names_of(*same) == ["x/a.hdf5", "y/z/a.hdf5", "y/c.hdf5"]
    assert names_of("/data/a.h5", "/data/a.hdf5") == ["a.h5.hdf5", "a.hdf5.hdf5"]
    assert names_of("data/a.v1.hdf5", "../data/b.hdf5") == ["a.v1.hdf5", "b.hdf5"]


_WORD = st.text("ab.", min_size=1, max_size=4).filter(lambda word: word.strip("."))
_PATHS = st.lists(_WORD, min_size=1, max_size=3).map(lambda parts: Path("/", *parts))


@given(st.sets(_PATHS, min_size=1, max_size=6), st.sampled_from([".hdf5", ".parquet"]))
def test_names_of_outputs_differ(sources: set[Path], suffix: str) -> None:
    names = output_names(sorted(sources), suffix)
    assert len(set(names)) == len(sources)
    for source, name in zip(sorted(sources), names, strict=True):
        assert name.name.endswith(suffix) and not name.is_absolute() and ".." not in name.parts
        assert name.name.startswith(source.name.split(".")[0])


def test_where_outputs_go(tmp_path: Path) -> None:
    one, two = tmp_path / "a.hdf5", tmp_path / "b.hdf5"
    assert plan_outputs([one], tmp_path / "x.h5", None)[0].output == tmp_path / "x.h5"
    assert plan_outputs([one], tmp_path / "x", "parquet")[0].output == tmp_path / "x" / "a.parquet"
    (tmp_path / "folder.h5").mkdir()
    tasks = plan_outputs([one, two], tmp_path / "folder.h5", None)
    assert tasks[1].output == tmp_path / "folder.h5" / "b.hdf5"
    (tmp_path / "there.txt").touch()
    with pytest.raises(ConfigError, match=r"must end in \.hdf5 or \.h5 or \.hdf or \.parquet"):
        plan_outputs([one], tmp_path / "there.txt", None)
    one.touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for output in (one, tmp_path, tmp_path / "link"):
        with pytest.raises(ConfigError, match="would replace the input file"):
            plan_outputs([one], output, None)


def test_leftovers_of_killed_calls(tmp_path: Path) -> None:
    for name in (".tmp-a.hdf5-x_1", ".tmp-b.hdf5-x_1", ".tmp-a.hdf5-b.hdf5-x_1", "a.hdf5-x"):
        (tmp_path / name).mkdir()
    remove_leftovers([tmp_path / "a.hdf5", tmp_path / "none" / "b.hdf5"])
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".tmp-a.hdf5-b.hdf5-x_1", ".tmp-b.hdf5-x_1", "a.hdf5-x"]
    shutil.rmtree(tmp_path / "a.hdf5-x")
