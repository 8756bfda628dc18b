"""The farm: all that can be done is done, whatever happens to items, workers and jobs."""

import importlib
import importlib.util
import json
import logging
import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from farm_functions import Place, work
from farm_stubs import FarmStubs, processes_in, sbatch_options

import dnn_reco
from dnn_reco.cluster import farm_engine
from dnn_reco.cluster.farm import on_farm
from dnn_reco.cluster.farm_settings import FarmSettings
from dnn_reco.cluster.farm_worker import WORK, _types, read_reply, run_task, task_message
from dnn_reco.data.data_settings import DataSettings
from dnn_reco.errors import ClusterError, ConfigError
from dnn_reco.inference.file_application import ApplyOptions, ModelLoading, apply_to_file
from dnn_reco.inference.output_plan import FileTask
from dnn_reco.inference.output_record import Application, AppliedModel

needs_parsl = pytest.mark.skipif(
    importlib.util.find_spec("parsl") is None, reason="parsl is not installed: dnn_reco[farm]"
)
LOCAL = FarmSettings("local", jobs=2)


@pytest.fixture(autouse=True)
def in_tests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Jobs find the function of the tests, and signs of life come often."""
    repository = Path(dnn_reco.__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{repository}:{repository / 'tests'}")
    monkeypatch.setattr(farm_engine, "TASK_FUNCTION", "farm_functions.run_test_task")
    monkeypatch.setattr(farm_engine, "_HEARTBEAT", dict.fromkeys(farm_engine._HEARTBEAT, (1, 6)))
    monkeypatch.setattr(farm_engine, "_NEW_JOBS", dict.fromkeys(farm_engine._NEW_JOBS, 0.3))
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "results").mkdir()
    return Place(tmp_path / "results")


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FarmStubs:
    stubs = FarmStubs(tmp_path / "stubs")
    monkeypatch.setenv("PATH", f"{stubs.folder}:{os.environ['PATH']}")
    if importlib.util.find_spec("parsl"):
        from parsl.providers import CondorProvider, SlurmProvider

        for provider in (CondorProvider, SlurmProvider):
            monkeypatch.setattr(provider, "status_polling_interval", 0.3)
    return stubs


def run(place: Place, items: list[str], settings: FarmSettings) -> dict[str, Any]:
    """Result of each item, or the text of its error."""
    with closing(on_farm(partial(work, place), items, settings, place.folder)) as results:
        return {done.item: done.error or done.result for done in results}


def assert_closed_to_others(place: Place) -> None:
    """Only on this machine, and only with a key of this run, one can talk to the farm."""
    import psutil
    import zmq

    (folder,) = kept_folders(place)
    assert folder.stat().st_mode & 0o077 == 0
    processes = [psutil.Process(), *map(psutil.Process, processes_in(Path.cwd()))]
    assert len(processes) >= 4  # this one, the interchange, two workers
    connections = [each for process in processes for each in process.net_connections()]
    listening = [each.laddr for each in connections if each.status == psutil.CONN_LISTEN]
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        for address in listening:
            socket.connect(f"tcp://127.0.0.1:{address.port}")
        socket.send(pickle.dumps({"type": "connection_probe"}), zmq.NOBLOCK)
        assert socket.poll(300) == 0


def kept_folders(place: Place) -> list[Path]:
    return list(place.folder.glob(".farm-*"))


def assert_nothing_runs(place: Place, threads: set[threading.Thread]) -> None:
    assert set(threading.enumerate()) == threads
    deadline = time.monotonic() + 30  # jobs that were cancelled may take a moment to end
    while processes_in(Path.cwd()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_in(Path.cwd()) == []
    assert list(Path.cwd().iterdir()) == []  # such as runinfo/


@needs_parsl
def test_what_fails_does_not_stop_the_rest(
    place: Place, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    threads = set(threading.enumerate())
    items = ["a", "bad", "twice", "once", "killed", "bug", "b"]
    with caplog.at_level(logging.DEBUG):
        results = run(place, items, LOCAL)
    assert results == {
        "a": ("A", 1),
        "b": ("B", 1),
        "twice": ("TWICE", 3),
        "once": ("ONCE", 2),
        "bad": "'bad' cannot be read",
        "bug": "ZeroDivisionError: a bug",
        "killed": "the worker process was killed, most likely because memory ran out",
    }
    attempts = {item: place.attempts(item) for item in items}
    assert attempts == {"a": 1, "b": 1, "twice": 3, "once": 2, "bad": 3, "bug": 3, "killed": 3}
    assert_nothing_runs(place, threads)
    (kept,) = kept_folders(place)
    assert f"The output of the jobs is kept in '{kept}'." in caplog.text
    assert (kept / "parsl.log").stat().st_size > 0
    assert not [record for record in caplog.records if record.name.startswith("parsl")]
    assert list(kept.rglob("*secret*")) == []
    (errors,) = kept.glob("submit_scripts/*.err")
    assert "ZeroDivisionError" in errors.read_text()  # with its traceback
    assert capfd.readouterr().out == ""


@needs_parsl
def test_an_item_that_is_killed_while_the_last_reply_is_on_its_way(place: Place) -> None:
    items = [f"{kind}{number}" for number in range(4) for kind in ("large", "once")]
    results = run(place, items, LOCAL)
    assert {item: attempt for item, (_, attempt) in results.items()} == {
        item: 1 if item.startswith("large") else 2 for item in items
    }


@needs_parsl
def test_ctrl_c_ends_all_processes_and_the_next_run_does_the_rest(place: Place) -> None:
    threads = set(threading.enumerate())
    items = ["a", "slow", "b", "c"]
    stopped = []
    with pytest.raises(KeyboardInterrupt):
        for done in on_farm(partial(work, place), items, LOCAL, place.folder):
            stopped.append(done.item)
            if len(stopped) == 3:
                assert_closed_to_others(place)
                threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    assert sorted(stopped) == ["a", "b", "c"]
    assert_nothing_runs(place, threads)
    assert kept_folders(place) == []
    (place.folder / "slow.attempts").unlink(missing_ok=True)  # it may not have begun
    missing = [item for item in [*items, "d"] if not (place.folder / f"{item}.out").exists()]
    assert missing == ["slow", "d"]
    results = on_farm(partial(work, place), missing, LOCAL, place.folder)
    assert next(results).item == "d"
    results.close()
    assert_nothing_runs(place, threads)
    assert kept_folders(place) == []


_KILLED_PROGRAM = """
import os, signal, sys
from functools import partial
from pathlib import Path
from farm_functions import Place, work
from dnn_reco.cluster import farm_engine
from dnn_reco.cluster.farm import on_farm
from dnn_reco.cluster.farm_settings import FarmSettings

farm_engine.TASK_FUNCTION = "farm_functions.run_test_task"
farm_engine._HEARTBEAT = {"local": (1, 3)}
place = Place(Path(sys.argv[1]))
for done in on_farm(partial(work, place), ["a"], FarmSettings("local", 1), place.folder):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@needs_parsl
def test_a_program_that_is_killed_leaves_no_process(place: Place) -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED_PROGRAM, str(place.folder)], check=False)
    assert killed.returncode == -signal.SIGKILL
    end = time.monotonic() + 30
    while processes_in(Path.cwd()):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert (place.folder / "a.out").exists()


@pytest.fixture
def settings_of(stubs: FarmStubs) -> dict[str, FarmSettings]:
    common: dict[str, Any] = {"jobs": 1, "memory": 1500, "seconds": 5400}
    return {
        "htcondor": FarmSettings(
            "htcondor", **common, options={"requirements": "(OpSysMajorVer == 9)", "+Short": "1"}
        ),
        "slurm": FarmSettings(
            "slurm", **common, options={"partition": "short", "comment": 'a "b"'}
        ),
    }


@needs_parsl
@pytest.mark.parametrize("cluster", ["htcondor", "slurm"])
def test_batch_systems(
    place: Place, stubs: FarmStubs, settings_of: dict[str, FarmSettings], cluster: str
) -> None:
    threads = set(threading.enumerate())
    results = run(place, ["a", "lost", "bad", "b"], replace(settings_of[cluster], retries=1))
    assert results == {
        "a": ("A", 1),
        "b": ("B", 1),
        "lost": ("LOST", 2),
        "bad": "'bad' cannot be read",
    }
    submitted = stubs.submitted()
    assert len(submitted) == 2  # another job takes the place of the lost one
    if cluster == "slurm":
        assert set(sbatch_options(submitted[0])) >= {
            "--mem=1500M",
            "--cpus-per-task=1",
            "--time=90",
            "--partition=short",
            '--comment=a "b"',
        }
        cancelled = {number for words in stubs.calls("scancel") for number in words}
    else:
        lines = submitted[0].splitlines()
        assert {"request_memory = 1500 MB", "RequestCpus = 1", "+Short = 1"} <= set(lines)
        assert "requirements = (OpSysMajorVer == 9)" in lines
        cancelled = {word.partition(".")[0] for words in stubs.calls("condor_rm") for word in words}
        assert cancelled >= set(map(str, range(1, len(submitted) + 1)))  # also those that ended
    assert cancelled
    assert stubs.running() == []
    assert_nothing_runs(place, threads)


@needs_parsl
def test_jobs_that_end_at_once_are_reported(
    place: Place, settings_of: dict[str, FarmSettings], stubs: FarmStubs
) -> None:
    threads = set(threading.enumerate())
    broken = replace(settings_of["slurm"], setup=("echo no such environment >&2; exit 3",))
    with pytest.raises(ClusterError, match="no such environment"):
        run(place, ["a", "b"], broken)
    (stubs.folder / "reject").write_text("invalid partition")
    with pytest.raises(ClusterError, match="invalid partition"):
        run(place, ["a", "b"], settings_of["htcondor"])
    assert stubs.running() == []
    assert_nothing_runs(place, threads)
    assert len(kept_folders(place)) == 2


def test_without_parsl(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farm_engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'dnn_reco\[farm\]'"):
        run(place, ["a"], LOCAL)


def test_nothing_to_do_starts_nothing(place: Place) -> None:
    if importlib.util.find_spec("parsl"):
        assert run(place, [], LOCAL) == {}
    assert list(place.folder.iterdir()) == []


@needs_parsl
def test_folder_with_blanks(place: Place, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="--cluster-folder"):
        run(place, ["a"], replace(LOCAL, folder=tmp_path / "with blanks"))


def test_only_listed_functions_are_called(tmp_path: Path) -> None:
    message = task_message(partial(work, Place(tmp_path)), "a")
    assert "is not a function that jobs may run" in run_task(message)
    system = b'{"function": "os.system", "arguments": ["touch hacked"]}'
    assert "'os.system' is not a function" in run_task(system)
    assert list(tmp_path.iterdir()) == [tmp_path / "cwd"]


def test_messages_are_text_and_their_types_are_checked(place: Place) -> None:
    name = "farm_functions.work"
    message = task_message(partial(work, place), "a")
    assert message.decode() == (
        f'{{"function": "{name}", "arguments": [{{"folder": "{place.folder}"}}, "a"]}}'
    )
    reply = run_task(message, {name})
    assert reply == '{"result": ["A", 1]}'
    assert read_reply(partial(work, place), reply) == ("A", 1)
    wrong = f'{{"function": "{name}", "arguments": [{{"folder": 3}}, "a"]}}'
    assert "ValidationError" in run_task(wrong.encode(), {name})
    assert "error" in run_task(b"not JSON", {name})
    assert "error" in run_task(b'["a list"]', {name})


@pytest.mark.parametrize("name", sorted(WORK))
def test_functions_of_jobs_exist_and_have_types(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    types, result = _types(getattr(importlib.import_module(module), attribute))
    for each in (*types, result):
        assert each.json_schema()


def test_settings_arrive_as_they_were_sent() -> None:
    made = DataSettings(
        num_bins=3,
        relative_time_method="time_range",
        data_format="charge_bins",
        time_bins=(-math.inf, 0.0, 0.1, math.inf),
        pulse_key="InIceDSTPulses",
        dom_exclusions=("BadDomsList",),
        partial_exclusion=True,
    )
    models = (AppliedModel("first", "0" * 64), AppliedModel("second", "1" * 64))
    options = ApplyOptions(
        ModelLoading((Path("a b"), Path("c")), "cpu", 1, "auto", 256, ("mine",), None, False),
        Application(models, 256, "auto", False, {"first": made.to_json()}, ("pulse_key",)),
        (made, None),
    )
    task = FileTask(Path("in/x.hdf5"), Path("out/ä.hdf5"))
    message = json.loads(task_message(partial(apply_to_file, options), task))
    types, _ = _types(apply_to_file)
    assert [
        kind.validate_json(json.dumps(value))
        for kind, value in zip(types, message["arguments"], strict=True)
    ] == [options, task]
    assert hash(options.loading) == hash(
        types[0].validate_json(json.dumps(message["arguments"][0])).loading
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cluster": "slurm", "options": {"mem": "1G"}}, "use --cluster-memory"),
        ({"cluster": "htcondor", "options": {"Request_Cpus": "1"}}, "use --cluster-cpus"),
        ({"cluster": "htcondor", "options": {"queue": "5"}}, "is set by dnn_reco"),
        ({"cluster": "slurm", "options": {"my partition": "x"}}, "not a valid name"),
        ({"setup": ("a\nb",)}, "line breaks"),
        ({"address": "login.cluster"}, "not an IP address"),
        ({"options": {"comment": "x\n#SBATCH --uid=0"}}, "line breaks"),
    ],
)
def test_wrong_settings(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        FarmSettings(**{"cluster": "local", "jobs": 1, **change})


def test_missing_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="no program 'condor_submit'"):
        FarmSettings("htcondor", jobs=1)


@pytest.fixture(autouse=True)
def no_waiting_for_slow_items() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < 55  # a slow item takes 60 s
