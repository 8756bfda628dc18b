"""Trainings on files with frames (.i3) are those on the HDF5 files that create-data makes."""

import importlib.util
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from i3_files import PULSES, events, write
from ruamel.yaml import YAML
from small_run import ON_CPU, SmallRun, make_small_run
from workspace import REPOSITORY, invoke

from dnn_reco import open_events
from dnn_reco.checkpoint_file import load_latest
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.config import Config, load_config
from dnn_reco.data.build import open_events as open_store
from dnn_reco.data.hdf5 import read_record
from dnn_reco.data.overlap import overlap_text
from dnn_reco.data.store_in_jobs import StoreSettings, build_shard
from dnn_reco.data.store_pruning import prune_store
from dnn_reco.data_creation.plan.direct import DirectOptions
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.event_sources import event_store
from dnn_reco.files import find_files
from dnn_reco.i3.reader import read_i3
from dnn_reco.inference.export import DATA_SETTINGS_FILE
from dnn_reco.transform import load_transformation

FILES = {"train_0": (1, 40), "train_1": (2, 30), "validation": (3, 20)}
LISTS = ("training_data_file", "trafo_data_file", "validation_data_file", "test_data_file")
LABELS = ["EnergyVisible", "PrimaryAzimuth", "PrimaryZenith", "p_starting"]
LABELS += [f"PrimaryDirection{axis}" for axis in "XYZ"]
CHANGES = {
    "label_keys_to_load": LABELS,
    "trafo_log_label_bins": {"EnergyVisible": True},
    "data_handler_num_bins": 9,
    "trafo_log_dom_bins": False,
    "trafo_num_batches": 5,
    "num_training_iterations": 4,
    "validation_frequency": 2,
    "save_frequency": 2,
}
ON_THIS = {"i3_data": {"pulses": PULSES}}


@dataclass(frozen=True)
class Data:
    """The same events twice: as files with frames, and as HDF5 files that create-data made."""

    i3: Path
    hdf5: Path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("data")
    made = Data(folder / "i3", folder / "hdf5")
    made.i3.mkdir()
    for name, (seed, number) in FILES.items():
        out = folder / name
        options = ("--events", number, "--seed", seed, "--format", "i3", "-j", 1, "--out", out)
        assert invoke("simulate", *map(str, options)).exit_code == 0
        (file,) = out.glob("*.i3.zst")
        file.rename(made.i3 / f"{name}.i3.zst")
    result = invoke(
        *("create-data", "--input", made.i3 / "*.i3.zst", "--pulses", PULSES),
        *("--out", made.hdf5, "-j", "1"),
    )
    assert result.exit_code == 0, result.err
    return made


def run_on(folder: Path, files: Path, ending: str, **changes: Any) -> SmallRun:
    """A small training on the files of a folder."""
    folder.mkdir(exist_ok=True)
    training = [str(files / f"train_*.{ending}")]
    validation = [str(files / f"validation.{ending}")]
    lists = dict(zip(LISTS, [training, training, validation, validation], strict=True))
    return make_small_run(folder, 1, **(lists | CHANGES | changes))


@pytest.fixture
def run(tmp_path: Path, data: Data) -> SmallRun:
    """A training on copies of the files with frames."""
    shutil.copytree(data.i3, tmp_path / "i3")
    return run_on(tmp_path / "run", tmp_path / "i3", "i3.zst", **ON_THIS)


def content(config: Config, key: str) -> dict[str, np.ndarray]:
    """All that the event store holds of the files of a key."""
    files = find_files(getattr(config.data_files, key), key)
    found = open_store(event_store(config, None), files, 1)
    batch = found.read(np.arange(len(found)))
    assert found.names.labels
    return {
        "labels": batch.labels,
        "misc": batch.misc,
        "ids": batch.ids,
        "time_offset": batch.time_offset,
        "offsets": batch.hits.offsets,
        "dom": batch.hits.dom,
        "features": batch.hits.features,
    }


def tables(path: Path) -> dict[str, bytes]:
    """All tables of an HDF5 file but that of the time that each event took."""
    found: dict[str, bytes] = {}

    def add(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and "runtime" not in name:
            found[name] = str(item.dtype).encode() + item[()].tobytes()

    with h5py.File(path) as file:
        file.visititems(add)
    return found


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def test_a_training_is_the_same_as_on_hdf5(tmp_path: Path, data: Data) -> None:
    misc = {"misc_load_dict": {"I3EventHeader": ["time_start_mjd"], "MCPrimary": ["energy"]}}
    of_i3 = run_on(tmp_path / "i3", data.i3, "i3.zst", **ON_THIS, **misc)
    of_hdf5 = run_on(tmp_path / "hdf5", data.hdf5, "hdf5", **misc)
    states = []
    for each in (of_i3, of_hdf5):
        config = each.config()
        run_trafo(config, ON_CPU, overwrite=False)
        assert run_train(config, ON_CPU) == 0
        states.append(load_latest(each.checkpoints))
    for key in ("training_data_file", "validation_data_file"):
        first, second = content(of_i3.config(), key), content(of_hdf5.config(), key)
        assert len(first["ids"]) > 0 and len(first["dom"]) > 0
        assert first["misc"].shape[1] == 2
        for name, values in first.items():
            assert values.tobytes() == second[name].tobytes(), name
    digests = {
        load_transformation(Path(each.config().trafo.trafo_model_path)).digest
        for each in (of_i3, of_hdf5)
    }
    assert len(digests) == 1
    first_state, second_state = states
    assert first_state.tensors.keys() == second_state.tensors.keys()
    for name, values in first_state.tensors.items():
        np.testing.assert_array_equal(values, second_state.tensors[name])


def test_the_short_form_makes_what_create_data_makes(run: SmallRun, data: Data) -> None:
    config = run.config()
    (source,) = find_files(config.data_files.validation_data_file, "v")
    shard = event_store(config, None).build(source)
    made, expected = tables(shard.event_file), tables(data.hdf5 / "validation.hdf5")
    assert len(made) > 10
    assert made == expected


def test_frames_are_read_once(run: SmallRun, caplog: pytest.LogCaptureFixture) -> None:
    config = run.config()
    expected = content(config, "training_data_file")
    for file in (run.folder.parent / "i3").glob("train_*"):
        status = file.stat()
        file.write_bytes(b"?" * status.st_size)  # same size and time: it counts as the same file
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = content(config, "training_data_file")
    assert again["features"].tobytes() == expected["features"].tobytes()
    other_labels = run.config(label_keys_to_load=["EnergyVisible", "PrimaryEnergy"])
    fewer = content(other_labels, "training_data_file")
    assert fewer["labels"].shape[1] == 2
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_changed_file_is_made_again(run: SmallRun) -> None:
    config = run.config()
    before = content(config, "validation_data_file")
    file = run.folder.parent / "i3" / "validation.i3.zst"
    write(file, list(read_i3(file, mix=False))[:-4])
    after = content(config, "validation_data_file")
    assert len(after["ids"]) == len(before["ids"]) - 2
    store = config.event_store
    old, new = sorted((store / "event-files").iterdir(), key=lambda path: path.stat().st_mtime)
    prune_store(store)
    prune_store(store, now=lambda: time.time() + 7.1 * 86_400)
    assert not old.exists() and new.exists()
    assert len(content(config, "validation_data_file")["ids"]) == len(after["ids"])


def test_other_settings_are_other_shards(run: SmallRun) -> None:
    config = run.config()
    content(config, "validation_data_file")
    other = run.config(i3_data={"pulses": PULSES, "relative_time_method": "wf_quantile"})
    assert not np.array_equal(
        content(config, "validation_data_file")["time_offset"],
        content(other, "validation_data_file")["time_offset"],
    )
    store = config.event_store
    assert len(list((store / "event-files").iterdir())) == 2
    prune_store(store)
    assert not (store / "stale.json").exists()  # both may be used


def test_a_gcd_file_is_part_of_the_key(run: SmallRun, tmp_path: Path) -> None:
    gcd = write(tmp_path / "gcd.i3.gz", [])
    config = run.config(i3_data={"pulses": PULSES, "gcd": str(gcd)})
    content(config, "validation_data_file")
    os.utime(gcd, (1, 1))
    content(config, "validation_data_file")
    store = config.event_store
    assert len(list((store / "event-files").iterdir())) == 2
    prune_store(store)
    assert len(json.loads((store / "stale.json").read_text())) == 3  # hits, records, event file


def test_a_deleted_event_file_is_made_again(run: SmallRun) -> None:
    config = run.config()
    expected = content(config, "validation_data_file")
    shutil.rmtree(config.event_store / "event-files")
    assert content(config, "validation_data_file")["dom"].tobytes() == expected["dom"].tobytes()
    assert only(config.event_store, "event-files/*/events.hdf5").is_file()


def test_formats_are_mixed(run: SmallRun, data: Data) -> None:
    files = [str(run.folder.parent / "i3" / "train_0.i3.zst"), str(data.hdf5 / "train_1.hdf5")]
    mixed = content(run.config(training_data_file=files), "training_data_file")
    alone = content(run.config(), "training_data_file")
    first, second = (sorted(each["labels"].tolist()) for each in (mixed, alone))
    assert first == second
    assert len(list((run.config().event_store / "event-files").iterdir())) == 2


def test_a_damaged_file_is_skipped(run: SmallRun, caplog: pytest.LogCaptureFixture) -> None:
    alone = len(content(run.config(), "training_data_file")["ids"])
    damaged = run.folder.parent / "i3" / "train_1.i3.zst"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    found = content(run.config(), "training_data_file")
    assert 0 < len(found["ids"]) < alone
    (warning,) = [each for each in caplog.messages if each.startswith("Skipped a file")]
    assert f"'{damaged}'" in warning and "damaged after" in warning
    names = [path.name for path in (run.config().event_store / "event-files").iterdir()]
    assert len(names) == 2 and not any(name.startswith(".tmp-") for name in names)


def test_what_is_left_out_is_told(run: SmallRun, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    file = run.folder.parent / "i3" / "validation.i3.zst"
    other = events(run.folder / "other.i3.zst", 3, stream="NullSplit")
    write(file, [*read_i3(file, mix=False), *read_i3(other, mix=False)])
    content(run.config(), "validation_data_file")
    (text,) = [text for text in caplog.messages if text.startswith("Skipped in the input tables")]
    assert "3 P frames (sub-event stream 'NullSplit')" in text
    assert "1 file(s) where no frame has 'BadDomsList' of the exclusions" in text


def test_no_event_of_the_streams(run: SmallRun) -> None:
    config = run.config(i3_data={"pulses": PULSES, "streams": ["Final"]})
    with pytest.raises(DataError) as error:
        content(config, "validation_data_file")
    assert "no P frames of the streams Final, but 20 of sub-event stream 'in_ice'" in str(error)


def test_misspelt_pulses(run: SmallRun) -> None:
    config = run.config(i3_data={"pulses": "InIceDSTPulse"})
    with pytest.raises(DataError, match=r"no event of .* has features: .*'InIceDSTPulses'\?"):
        content(config, "validation_data_file")


def test_errors_name_the_file_with_frames(run: SmallRun) -> None:
    config = run.config(label_keys_to_load=["EnergyOfAnother"])
    with pytest.raises(DataError) as error:
        content(config, "validation_data_file")
    assert str(error.value).startswith(f"'{run.folder.parent / 'i3' / 'validation.i3.zst'}': ")
    assert "of the event file that is made of it" in str(error.value)
    with pytest.raises(DataError, match=r"validation\.i3\.zst.*the event file that is made of it"):
        open_events(run.folder.parent / "i3" / "validation.i3.zst", config)


def test_count(run: SmallRun, data: Data, tmp_path: Path) -> None:
    file = run.folder.parent / "i3" / "validation.i3.zst"
    other = events(run.folder / "other.i3.zst", 3, stream="NullSplit")
    write(file, [*read_i3(file, mix=False), *read_i3(other, mix=False)])
    result = invoke("count", run.config_file)
    assert result.exit_code == 0, result.err
    assert f"Found {FILES['validation'][1]} events for 'validation_data_file'" in result.out
    assert "Found 70 events for 'training_data_file'" in result.out
    assert not run.config().event_store.exists()
    of_hdf5 = run_on(tmp_path / "hdf5", data.hdf5, "hdf5")
    assert invoke("count", of_hdf5.config_file).out == result.out
    passing = invoke("count", run.config_file, "--apply-filters")
    assert passing.exit_code == 0, passing.err
    assert "Found 70 events for 'training_data_file', 70 pass the filters" in passing.out


def test_open_events(run: SmallRun, data: Data) -> None:
    file = run.folder.parent / "i3" / "validation.i3.zst"
    config = run.config()
    of_i3 = open_events(file, config)
    of_hdf5 = open_events(data.hdf5 / "validation.hdf5", config)
    assert of_i3.ids.tobytes() == of_hdf5.ids.tobytes()
    assert of_i3.labels["EnergyVisible"].tobytes() == of_hdf5.labels["EnergyVisible"].tobytes()
    assert of_i3.hits.features.tobytes() == of_hdf5.hits.features.tobytes()
    assert not config.event_store.exists()
    with pytest.raises(DataError, match="create-data"):
        open_events(file)


def test_export_records_the_settings(run: SmallRun, data: Data) -> None:
    config = run.config()
    run_trafo(config, ON_CPU, overwrite=False)
    assert run_train(config, ON_CPU) == 0
    out = run.folder / "exported"
    result = invoke("export", run.config_file, "--output", out, "--golden-events", "4")
    assert result.exit_code == 0, result.err
    with (out / DATA_SETTINGS_FILE).open() as file:
        written = YAML(typ="safe").load(file)
    record = read_record(data.hdf5 / "validation.hdf5")
    assert record is not None and written == record.to_dict()
    assert not [line for line in result.err.splitlines() if "golden" in line]
    evaluated = invoke(
        *("evaluate", run.config_file, "--out", run.folder / "report"),
        *("--weights", "I3MCWeightDict.PrimaryNeutrinoEnergy"),
    )
    assert evaluated.exit_code == 0, evaluated.err
    calibrated = invoke("calibrate", out, "--allow-overlap")
    assert "at least 200 events, there are 20" in calibrated.err  # it has read them


def test_config_check(run: SmallRun) -> None:
    result = invoke("config", "check", run.config_file)
    assert result.exit_code == 0, result.out
    assert f"i3_data: features pulse_summmary_clipped of {PULSES}; labels " in result.out
    assert "LabelsDeepLearning" in result.out
    assert "'train_0.i3.zst' has all tables" in result.out
    assert not run.config().event_store.exists()


@pytest.mark.parametrize("command", ["count", "trafo", "check", "data"])
def test_a_missing_key(run: SmallRun, command: str) -> None:
    with run.config_file.open() as file:
        values = YAML(typ="safe").load(file)
    del values["i3_data"]
    with run.config_file.open("w") as file:
        YAML(typ="safe", pure=True).dump(values, file)
    words = {
        "count": ["count", run.config_file],
        "trafo": ["trafo", run.config_file],
        "check": ["config", "check", run.config_file],
        "data": ["data", "check", run.config_file],
    }[command]
    result = invoke(*words)
    assert result.exit_code == 1
    text = result.out + result.err
    assert "its key 'i3_data' is not set" in text
    assert "    i3_data:\n      pulses: InIceDSTPulses" in text
    assert "Traceback" not in text


def test_data_check(run: SmallRun) -> None:
    damaged = run.folder.parent / "i3" / "train_1.i3.zst"
    damaged.write_bytes(damaged.read_bytes()[:20_000])
    result = invoke("data", "check", run.config_file)
    assert result.exit_code == 1
    assert "[in train_1.i3.zst]" in result.out
    assert "damaged after" in result.out
    assert "3 files, 60 events" in result.out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "i3_data.pulses is not set"),
        ({"pulses": PULSES, "gcd": "nowhere.i3"}, "there is no file '.*nowhere.i3'"),
        ({"pulses": PULSES, "data_format": "charge_bins"}, "time_bins"),
        ({"pulses": PULSES, "data_format": "total_dom_charge"}, "has 1 feature, but"),
        ({"pulses": PULSES, "data_format": "pulse_sumary"}, "pulse_sum"),
        ({"pulses": PULSES, "data_format": "my.own.format"}, "create-data --allow-code"),
        ({"config": "nowhere.yaml"}, "nowhere.yaml"),
        ({"config": "x.yaml", "pulses": PULSES}, "'pulses' has no effect beside 'config'"),
    ],
)
def test_wrong_settings(run: SmallRun, given: dict[str, Any], message: str) -> None:
    config = run.config(i3_data=given)
    with pytest.raises(ConfigError, match=message):
        content(config, "validation_data_file")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pulse": PULSES}, "unknown key 'pulse' in 'i3_data': did you mean 'pulses'"),
        ({"labels": "x"}, "unknown key 'labels' in 'i3_data'; its keys are config, gcd, pulses"),
        ({"pulses": 3}, "'i3_data.pulses' is 3"),
        ({"pulses": PULSES, "time_bins": "a"}, "time_bins"),
        ("x", "'i3_data' is 'x'"),
    ],
)
def test_wrong_keys(run: SmallRun, given: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run.config(i3_data=given)


def test_placeholders_and_records(run: SmallRun) -> None:
    text = run.config_file.read_text().replace(PULSES, "'{pulse_name}'")
    run.config_file.write_text(f"{text}\npulse_name: {PULSES}\n")
    given = {"pulses": "{pulse_name}", "keys": ["{unique_name}Key"], "time_bins": [0, 1, np.inf]}
    for config in (run.config(), run.config(i3_data=given)):
        found = config.data_handler.i3_data
        assert found is not None and found.pulses == PULSES
        assert not config.unknown_keys
    assert found.keys == ("smallKey",)
    copy = run.folder / "copy.yaml"
    copy.write_text(config.to_yaml())
    assert load_config([copy]).data_handler.i3_data == found


CREATE = """
datasets:
  sim:
    runs_range: [0, 3]
    in_file_pattern: 'nowhere/{run_number:06d}.i3.zst'
    out_file_pattern: 'made_{run_number:06d}'
    GCD
pulses: InIceDSTPulses
data_folder: nowhere
processing_steps:
  - tray_segments:
      - ModuleClass: ic3_labels.labels.modules.MCLabelsCascades
        ModuleKwargs: {PulseMapString: '{pulses}', PrimaryKey: MCPrimary, ExtendBoundary: 0,
                       OutputKey: LabelsDeepLearning}
      - ModuleClass: ic3_data.segments.CreateDNNData
        ModuleKwargs:
          NumDataBins: NUM
          RelativeTimeMethod: time_range
          DataFormat: pulse_summmary_clipped
          PulseKey: '{pulses}'
          DOMExclusions: null
          PartialExclusion: null
          OutputKey: PREFIX
    write_hdf5: true
    write_hdf5_kwargs: {Keys: [I3EventHeader], SubEventStreams: [in_ice]}
"""


@pytest.fixture
def create_data(run: SmallRun) -> Callable[..., dict[str, Any]]:
    def make(gcd: str = "gcd: null", num: str = "9", prefix: str = "dnn_data") -> dict[str, Any]:
        path = run.folder / "create_training_data.yaml"
        text = CREATE.replace("GCD", gcd).replace("NUM", num).replace("PREFIX", prefix)
        path.write_text(text)
        return {"config": str(path)}

    return make


def test_a_config_of_create_data(run: SmallRun, create_data: Callable[..., dict[str, Any]]) -> None:
    short = content(run.config(), "validation_data_file")
    found = content(run.config(i3_data=create_data()), "validation_data_file")
    for name in ("ids", "features", "labels", "time_offset"):
        assert found[name].tobytes() == short[name].tobytes(), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gcd": "gcd: nowhere.i3"}, "name the one of the training data by i3_data.gcd"),
        ({"num": "10"}, "has 10 features, but data_handler_num_bins is 9"),
        ({"prefix": "other"}, "makes the input tables other_…, but data_handler_bin_values_name"),
        ({"prefix": "context-->ic3_processing.outfile"}, "there are no runs here"),
        ({"prefix": "'{run_number}'"}, "no key 'run_number'"),
    ],
)
def test_wrong_configs_of_create_data(
    run: SmallRun,
    create_data: Callable[..., dict[str, Any]],
    change: dict[str, str],
    message: str,
) -> None:
    config = run.config(i3_data=create_data(**change))
    with pytest.raises(ConfigError, match=message):
        content(config, "validation_data_file")


def test_names_of_tables_follow_the_config(run: SmallRun) -> None:
    tables = {
        f"data_handler_{key}_name": f"mine_{key}" for key in ("bin_values", "bin_indices")
    } | {"data_handler_time_offset_name": "mine_global_time_offset"}
    config = run.config(data_handler_label_key="Labels_p60", **tables)
    expected = content(run.config(), "validation_data_file")
    found = content(config, "validation_data_file")
    assert found["features"].tobytes() == expected["features"].tobytes()
    wrong = run.config(data_handler_time_offset_name="elsewhere")
    with pytest.raises(ConfigError, match="dnn_data_global_time_offset"):
        content(wrong, "validation_data_file")


def test_a_store_in_jobs(run: SmallRun) -> None:
    config = run.config()
    store = event_store(config, None)
    settings = StoreSettings.of(store)
    assert settings.open().conversion == store.conversion
    first, second = find_files(config.data_files.training_data_file, "training_data_file")
    names = store.build(first).names
    shard = store.find(second, names)
    assert shard is None
    num_events = build_shard(settings, names, second)
    shard = store.find(second, names)
    assert shard is not None and shard.num_events == num_events


@pytest.mark.skipif(
    importlib.util.find_spec("parsl") is None, reason="parsl is not installed: dnn_reco[farm]"
)
def test_a_farm_makes_the_store(run: SmallRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    result = invoke("trafo", run.config_file, "--cluster", "local", "--cluster-jobs", "1")
    assert result.exit_code == 0, result.err
    assert "1 file built in jobs." in result.err
    assert len(list(run.config().event_store.glob("event-files/*/events.hdf5"))) == 2


def test_estimate(run: SmallRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run_trafo(run.config(), ON_CPU, overwrite=False)
    monkeypatch.setattr("dnn_reco.commands.estimate.SECONDS", 0.5)
    result = invoke("train", run.config_file, "--estimate", "--device", "cpu")
    assert result.exit_code == 0, result.err
    assert "70 in 2 file(s) for training, 20 in 1 file(s) for validation" in result.out


def test_overlap(run: SmallRun) -> None:
    files = find_files(run.config().data_files.training_data_file, "t")
    copy = run.folder / "copy.i3.zst"
    shutil.copy(files[0], copy)
    assert "has the content of" in overlap_text(files, [copy], "validation_data_file")


def test_defaults_are_those_that_the_reference_page_names() -> None:
    from dnn_reco.config.i3_data import I3DataSettings

    options = DirectOptions((), Path(), "x")
    for key, field in I3DataSettings.model_fields.items():
        _, empty, default = (field.description or "").partition("empty: ")
        if not empty or key in ("gcd",):
            continue
        value = getattr(options, key)
        shown = ", ".join(value) if isinstance(value, tuple) else str(value).removesuffix(".0")
        assert default.strip("`.").lower() == shown.lower(), key
