"""`apply`, `trafo`, `count` and `train` with `--cluster local`: the same as without."""

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from applied_models import contents, flawed_events, model_of_run, write_flawed
from small_run import SmallRun
from workspace import NUM_TRAINING, REPOSITORY, Workspace, invoke

from dnn_reco.config import load_config
from dnn_reco.data.store_in_jobs import StoreSettings, build_shard, missing_shards
from dnn_reco.errors import ConfigError
from dnn_reco.event_sources import event_store
from dnn_reco.files import find_files

needs_parsl = pytest.mark.skipif(
    importlib.util.find_spec("parsl") is None, reason="parsl is not installed: dnn_reco[farm]"
)
LOCAL = ("--cluster", "local", "--cluster-jobs", "1")


@pytest.fixture(autouse=True)
def jobs_find_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))


@needs_parsl
def test_apply_writes_the_same_files(trained_run: SmallRun, tmp_path: Path) -> None:
    model = model_of_run(trained_run, tmp_path / "model")
    data = tmp_path / "data"
    data.mkdir()
    for number in range(2):
        write_flawed(data / f"events_{number}.hdf5", flawed_events(number))
    (data / "broken.hdf5").write_bytes(b"not HDF5")
    line = ["apply", model, "--input", data / "*.hdf5", "--device", "cpu"]
    here = invoke(*line, "--output", tmp_path / "here", "--num_threads", "1")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "events_1.hdf5").write_bytes(
        (tmp_path / "here" / "events_1.hdf5").read_bytes()
    )
    jobs = invoke(*line, "--output", tmp_path / "jobs", *LOCAL)
    assert (here.exit_code, jobs.exit_code) == (1, 1)  # of the broken file
    assert "1 of 3 files are there already." in jobs.err
    assert "2 item(s) are shared among 1 job(s) on this machine." in jobs.err
    assert "broken.hdf5' is skipped" in jobs.err
    assert contents(tmp_path / "jobs") == contents(tmp_path / "here")
    assert jobs.out.splitlines()[1:] == here.out.splitlines()[1:]
    assert sorted(path.name for path in (tmp_path / "jobs").iterdir()) == [
        "events_0.hdf5",
        "events_1.hdf5",
    ]


@needs_parsl
def test_the_event_store_is_built_in_jobs(workspace: Workspace, tmp_path: Path) -> None:
    shutil.copytree(workspace.data, tmp_path / "copy")
    workspace.config.write_text(
        workspace.config.read_text().replace(str(workspace.data), str(tmp_path / "copy"))
    )
    config = load_config([workspace.config])
    files = find_files(config.data_files.trafo_data_file, "trafo_data_file")
    files[1].write_bytes(b"not HDF5")
    workspace.set("trafo_num_batches", "2")
    result = workspace.run("trafo", *LOCAL)
    assert result.exit_code == 0, result.err
    assert "1 file built in jobs, 1 failed" in result.err
    assert f"'{files[1]}'" in result.err  # the command gives the reason
    store = event_store(config, None)
    made_in_jobs = store.find(files[2], store.find(files[0]).names)  # type: ignore[union-attr]
    assert made_in_jobs is not None
    assert made_in_jobs.num_events == NUM_TRAINING[2]
    again = workspace.run("trafo", *LOCAL)
    assert "1 item(s) are shared" in again.err


def test_a_store_in_another_process_is_the_same(workspace: Workspace) -> None:
    workspace.append("a_key_of_a_user: {1: [2, inf], two: 2020-01-02}")
    config = load_config([workspace.config])
    store = event_store(config, None)
    settings = StoreSettings.of(store)
    opened = settings.open()
    assert dict(opened.config) == dict(store.config)
    assert (opened.hits, opened.records, opened.read) == (store.hits, store.records, store.read)
    files = find_files(config.data_files.trafo_data_file, "trafo_data_file")
    missing = missing_shards(store, files)
    assert missing.sources == tuple(files[1:])
    assert build_shard(settings, missing.names, files[1]) == NUM_TRAINING[1]
    assert missing_shards(store, files).sources == tuple(files[2:])


def test_a_reader_that_jobs_cannot_call(workspace: Workspace) -> None:
    store = event_store(load_config([workspace.config]), None)
    store = replace(store, read=lambda path, settings: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(ConfigError, match="jobs cannot call"):
        StoreSettings.of(store)


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("trafo", ["--cluster-jobs", "3"], "--cluster-jobs has no effect without --cluster"),
        ("trafo", ["--cluster", "local", "--cluster-time", "2h"], "--cluster htcondor or slurm"),
        ("count", LOCAL, "--apply-filters"),
        ("train", [*LOCAL, "--estimate"], "leave out --estimate"),
        ("trafo", ["--cluster", "slurm", "--cluster-memory", "8"], "--cluster-memory '8'"),
        ("trafo", ["--cluster", "slurm", "--cluster-setup", "x.sh"], "--cluster-setup 'x.sh'"),
        ("trafo", ["--cluster", "slurm", "--cluster-option", "x"], "--cluster-option 'x'"),
    ],
)
@needs_parsl
def test_wrong_options(
    workspace: Workspace, command: str, options: list[str], message: str
) -> None:
    result = workspace.run(command, *options)
    assert result.exit_code in (1, 2)
    assert message in result.err
    assert "Traceback" not in result.err


def test_without_parsl(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "parsl" else find(name)
    )
    assert "pip install 'dnn_reco[farm]'" in workspace.error("trafo", *LOCAL)
