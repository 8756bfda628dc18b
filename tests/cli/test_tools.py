"""`version`, `doctor` and `completion`, run as a user does."""

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import dnn_reco
from dnn_reco.cli import cli
from dnn_reco.commands import doctor, installed
from dnn_reco.commands.doctor import check_threads, check_torch

ROOT = Path(dnn_reco.__file__).parents[1]


def invoke(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, [*map(str, words)])


def command(
    *words: str, path: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`dnn-reco` in a separate process, with further modules before all others."""
    folders = [str(each) for each in (path, ROOT) if each is not None]
    return subprocess.run(
        [sys.executable, "-m", "dnn_reco", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders), **environment},
    )


def fake_module(folder: Path, name: str, code: str) -> Path:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(code)
    return folder


def test_version() -> None:
    found = json.loads(invoke("version", "--json").stdout)
    assert found["dnn_reco"] == dnn_reco.__version__
    assert found["python"] == platform.python_version()
    for name in ("torch", "numpy", "h5py"):
        assert found[name] == metadata.version(name)
    assert set(found["extras"]["i3"]) == {"google-crc32c", "zstandard"}
    text = invoke("version").stdout
    assert text.splitlines()[0] == f"dnn_reco  {dnn_reco.__version__}"
    assert f"torch     {metadata.version('torch')} (" in text
    assert invoke("--version").stdout == invoke("-V").stdout == text


def test_cuda_of_torch_is_read_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "version.py").write_text(
        "from typing import Optional\n__version__ = '9.9'\ncuda: Optional[str] = '12.8'\n"
    )
    spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(installed.importlib.util, "find_spec", lambda name: spec)
    assert installed.cuda_of_torch() == "12.8"


def test_doctor_of_a_machine_that_is_fit(tmp_path: Path) -> None:
    result = command("doctor", "--data", str(tmp_path), "--cache-dir", str(tmp_path), "--json")
    assert result.returncode == 0, result.stderr
    found = {each["name"]: each for each in json.loads(result.stdout)["checks"]}
    assert {"install", "packages", "torch", "GPU", "threads", "data folder", "disk"} <= set(found)
    assert found["torch"]["status"] == "ok"
    assert metadata.version("torch") in found["torch"]["text"]
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_a_broken_torch_is_a_finding(tmp_path: Path) -> None:
    fake = fake_module(tmp_path, "torch", "raise OSError('libcudart.so.12: cannot open')")
    result = command("doctor", path=fake)
    assert result.returncode == 1
    assert "problem  torch" in result.stdout
    assert "cannot be imported: OSError: libcudart.so.12: cannot open" in result.stdout
    assert "-> install it again" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr


def test_a_torch_that_kills_its_process_is_a_finding() -> None:
    (finding,) = check_torch("import os; os.kill(os.getpid(), 11)")
    assert (finding.status, finding.name) == ("problem", "torch")
    assert "exit code -11" in finding.text


def test_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version_of", lambda name: "")
    (finding,) = check_torch()
    assert finding.status == "problem"
    assert finding.advice.startswith("pip install torch")


@pytest.mark.parametrize(
    ("torch", "has_gpu", "visible", "status", "text"),
    [
        ({"gpus": [["H100", 80e9]], "cuda": "12.8"}, True, None, "ok", "H100 (80.0 GB)"),
        ({"gpus": [], "cuda": None}, False, None, "ok", "none on this machine"),
        ({"gpus": [], "cuda": None}, True, None, "warning", "a build for CPUs"),
        ({"gpus": [], "cuda": "13.0"}, True, None, "warning", "torch (CUDA 13.0) cannot use it"),
        ({"gpus": [], "cuda": "13.0"}, True, "", "warning", "hidden by CUDA_VISIBLE_DEVICES"),
    ],
)
def test_gpus(
    torch: Mapping[str, object], has_gpu: bool, visible: str | None, status: str, text: str
) -> None:
    finding = doctor._gpu(torch, has_gpu, visible)
    assert finding.status == status
    assert text in finding.text


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(doctor, "available_cpus", lambda: 64)
    monkeypatch.setattr(doctor, "cpu_quota", lambda: None)
    assert check_threads({}).status == "ok"
    in_slot = check_threads({"_CONDOR_SLOT": "slot1_1"})
    assert in_slot.status == "warning"
    assert "job of HTCondor: nothing limits this job" in in_slot.text
    monkeypatch.setattr(doctor, "available_cpus", lambda: 4)
    limited = check_threads({"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "4"})
    assert (limited.status, limited.text.split(";")[0]) == ("ok", "4 of 64 CPUs used")


def test_folders_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_locking(tmp_path / "none").status == "problem"
    usage = type("Usage", (), {"free": 2e9})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage)
    low = doctor.check_disk(tmp_path)
    assert (low.status, "2.0 GB are free" in low.text) == ("warning", True)
    usage.free = 1e6
    assert doctor.check_disk(tmp_path).status == "problem"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_and_how_to_install_it(shell: str) -> None:
    text = invoke("completion", shell).stdout
    assert f"# dnn-reco completion {shell} > ~/" in text
    assert f"_DNN_RECO_COMPLETE={shell}_complete" in text


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("train --num", ["plain,--num-threads"]),
        ("config example tutorial/getting_started_", ["plain,tutorial/getting_started_v2"]),
    ],
)
def test_what_is_completed(words: str, completed: list[str]) -> None:
    script = "import sys; sys.argv[0] = 'dnn-reco'; from dnn_reco.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "_DNN_RECO_COMPLETE": "bash_complete",
            "COMP_WORDS": f"dnn-reco {words}",
            "COMP_CWORD": str(len(words.split())),
        },
    )
    assert result.stdout.split() == completed


# --------------------------------------------------------------------------------------------------
# Before a command runs
# --------------------------------------------------------------------------------------------------
def test_missing_torch_is_one_message(tmp_path: Path) -> None:
    code = "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')"
    fake = fake_module(tmp_path, "torch", code)
    config = tmp_path / "a.yaml"
    config.write_text("unique_name: a\n")
    for words in (["train", str(config)], ["calibrate", str(tmp_path)]):
        result = command(*words, path=fake)
        assert result.returncode == 1
        assert result.stderr.startswith("Error: this command needs the Python package PyTorch")
        assert result.stderr.count("\n") == 1
        assert result.stdout == ""


@pytest.mark.parametrize("start", [["-m", "dnn_reco"], [f"{ROOT}/dnn_reco/train_model.py"]])
def test_ctrl_c_while_python_imports(start: list[str], tmp_path: Path) -> None:
    code = "import time; print('importing', flush=True); time.sleep(60)"
    fake = fake_module(tmp_path, "click", code)
    process = subprocess.Popen(
        [sys.executable, *start, "count", "a.yaml"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(fake), str(ROOT)])},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "")


def test_ctrl_c_while_a_command_imports(tmp_path: Path) -> None:
    code = "import time; print('importing', flush=True); time.sleep(60)"
    fake = fake_module(tmp_path, "torch", code)
    config = tmp_path / "a.yaml"
    config.write_text("unique_name: a\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "dnn_reco", "train", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(fake), str(ROOT)])},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "Interrupted.\n")
