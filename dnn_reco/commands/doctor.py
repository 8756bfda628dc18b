"""`doctor`: whether this machine and installation are fit for the package, and what to do."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import click

from dnn_reco._version import __version__
from dnn_reco.amounts import counted, size_in_words
from dnn_reco.cgroup import cpu_quota
from dnn_reco.commands.installed import extras, requirements, version_of
from dnn_reco.commands.output import coloured, print_json
from dnn_reco.files import existing_part
from dnn_reco.workers import available_cpus

Status = Literal["ok", "warning", "problem"]

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}
_LOW_SPACE, _LEAST_SPACE = 10e9, 1e9  # bytes
_TORCH_SECONDS = 120.0
# Imports torch in a separate process: a broken one may end it.
_PROBE = """
import json, torch
gpus = []
if torch.cuda.is_available():
    for number in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(number)
        gpus.append([found.name, found.total_memory])
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "gpus": gpus}))
"""
_SLOTS = {"_CONDOR_SLOT": "HTCondor", "SLURM_JOB_ID": "Slurm", "PBS_JOBID": "PBS"}


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes
    ----------
    name
        What was checked.
    status
        How it is.
    text
        What was found.
    advice
        What to do; empty: nothing.
    """

    name: str
    status: Status
    text: str
    advice: str = ""


def run_doctor(data: Path, cache: Path, as_json: bool) -> int:
    """Print what all checks find; the exit code is 1 if there is a problem.

    Parameters
    ----------
    data
        Folder of the event files.
    cache
        Folder of the event store.
    as_json
        Whether to print JSON.
    """
    findings = list(_findings(data, cache))
    problems = sum(finding.status == "problem" for finding in findings)
    if as_json:
        print_json({"ok": not problems, "checks": [asdict(finding) for finding in findings]})
    else:
        warnings = sum(finding.status == "warning" for finding in findings)
        click.echo("\n".join(map(_text, findings)))
        click.echo(f"\n{counted(problems, 'problem')}, {counted(warnings, 'warning')}")
    return 1 if problems else 0


def _text(finding: Finding) -> str:
    status = coloured(f"{finding.status:<7}", _COLOURS[finding.status])
    advice = f"\n{'':25}-> {finding.advice}" if finding.advice else ""
    return f"{status}  {finding.name:<14}  {finding.text}{advice}"


def _findings(data: Path, cache: Path) -> Iterator[Finding]:
    yield check_python()
    yield check_packages()
    yield from check_torch()
    yield check_threads(os.environ)
    yield check_locking(data)
    yield check_disk(cache)
    yield from check_extras()


# --------------------------------------------------------------------------------------------------
# Installation
# --------------------------------------------------------------------------------------------------
def check_python() -> Finding:
    """The package and Python."""
    where = Path(__file__).resolve().parents[1]
    text = f"dnn_reco {__version__} in '{where}', Python {platform.python_version()}"
    return Finding("install", "ok", text)


def check_packages() -> Finding:
    """The packages that are needed in any case."""
    needed = [each for each in requirements() if not each.extra and each.name != "torch"]
    if not needed:
        advice = "pip install --editable . in the folder of pyproject.toml"
        text = "dnn_reco is not installed as a package: its dependencies are not known"
        return Finding("packages", "warning", text, advice)
    wrong = [each for each in needed if not each.is_met]
    if not wrong:
        return Finding("packages", "ok", f"all {len(needed)} are installed, in fitting versions")
    found = ", ".join(
        f"{each.name} {each.installed or 'is missing'} (needed: {each.versions})" for each in wrong
    )
    names = " ".join(f"'{each.name}{each.versions}'" for each in wrong)
    return Finding("packages", "problem", found, f"pip install {names}")


def check_torch(probe: str = _PROBE) -> Iterator[Finding]:
    """PyTorch and the GPUs that it finds."""
    if not version_of("torch"):
        yield Finding(
            "torch",
            "problem",
            "PyTorch is not installed; without it, apply and serve run models with ONNX graphs",
            "pip install torch, in the build for your GPU: https://pytorch.org/get-started",
        )
        return
    found = _torch_record(probe)
    if isinstance(found, str):
        advice = "install it again: pip install --force-reinstall torch"
        text = f"torch {version_of('torch')} cannot be imported: {found}"
        yield Finding("torch", "problem", text, advice)
        return
    build = f"CUDA {found['cuda']}" if found["cuda"] else "CPU only"
    yield Finding("torch", "ok", f"{found['version']} ({build})")
    yield _gpu(found, _has_nvidia_gpu(), os.environ.get("CUDA_VISIBLE_DEVICES"))


def _torch_record(probe: str) -> dict[str, Any] | str:
    """Version and GPUs of torch; the last line of its error if it cannot be imported."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", probe],
            capture_output=True,
            text=True,
            timeout=_TORCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the import takes longer than {_TORCH_SECONDS:g} s"
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else f"the import ends with exit code {done.returncode}"
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return record


def _has_nvidia_gpu() -> bool:
    return Path("/dev/nvidiactl").exists() or Path("/dev/nvidia0").exists()


def _gpu(torch: Mapping[str, Any], has_gpu: bool, visible: str | None) -> Finding:
    """The GPUs that torch finds, and why it may find none."""
    if torch["gpus"]:
        names = ", ".join(f"{name} ({size_in_words(size)})" for name, size in torch["gpus"])
        return Finding("GPU", "ok", names)
    if not has_gpu:
        return Finding("GPU", "ok", "none on this machine: networks run on the CPU")
    if visible is not None and visible.strip() in ("", "-1"):
        text = f"hidden by CUDA_VISIBLE_DEVICES='{visible}'"
        return Finding("GPU", "warning", text, "unset CUDA_VISIBLE_DEVICES to use it")
    if torch["cuda"] is None:
        return Finding(
            "GPU",
            "warning",
            "this machine has an NVIDIA GPU, but torch is a build for CPUs",
            "install a build for CUDA: https://pytorch.org/get-started",
        )
    return Finding(
        "GPU",
        "warning",
        f"this machine has an NVIDIA GPU, but torch (CUDA {torch['cuda']}) cannot use it",
        "compare the CUDA version in the output of nvidia-smi: an older driver needs an older "
        "build of torch",
    )


def check_extras() -> Iterator[Finding]:
    """The optional packages."""
    for extra, needed in extras().items():
        name, missing = f"extra {extra}", [each for each in needed if not each.installed]
        old = [each for each in needed if each.installed and not each.is_met]
        versions = ", ".join(f"{each.name} {each.installed}" for each in needed if each.installed)
        command = f"pip install 'dnn_reco[{extra}]'"
        if old:
            least = ", ".join(f"{each.name} {each.versions}" for each in old)
            yield Finding(name, "warning", f"{versions}: too old, needed: {least}", command)
        elif missing:
            yield Finding(name, "ok", f"not installed ({command})")
        else:
            yield Finding(name, "ok", versions)


# --------------------------------------------------------------------------------------------------
# Machine
# --------------------------------------------------------------------------------------------------
def check_threads(environment: Mapping[str, str]) -> Finding:
    """How many CPUs the commands use, and what limits them."""
    cpus, usable = os.cpu_count() or 1, available_cpus()
    quota = cpu_quota()
    facts = [f"{usable} of {counted(cpus, 'CPU')} used"]
    for variable in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"):
        if variable in environment:
            facts.append(f"{variable}={environment[variable]}")
    if quota is not None:
        facts.append(f"control group: {quota:g} CPUs")
    slot = next((name for variable, name in _SLOTS.items() if variable in environment), None)
    if slot is not None:
        facts.append(f"job of {slot}")
    text = "; ".join(facts)
    if slot is not None and usable == cpus > 1:
        return Finding(
            "threads",
            "warning",
            f"{text}: nothing limits this job to the CPUs that it was given",
            "give their number: --num-threads N, or export OMP_NUM_THREADS=N",
        )
    if slot is None and environment.get("OMP_NUM_THREADS", "").strip() == "1" and cpus > 1:
        return Finding("threads", "warning", text, "unset OMP_NUM_THREADS to use all CPUs")
    return Finding("threads", "ok", text)


def check_locking(folder: Path) -> Finding:
    """Whether HDF5 files can be locked in the folder of the data."""
    name = "data folder"
    if not folder.is_dir():
        return Finding(
            name, "problem", f"'{folder}' is not a folder", "name the folder with --data"
        )
    try:
        import h5py
    except (ImportError, OSError) as error:
        return Finding(name, "problem", f"h5py: {error}", "pip install --force-reinstall h5py")
    if not os.access(folder, os.R_OK | os.X_OK):
        return Finding(name, "problem", f"'{folder}' cannot be read", "ask for read permission")
    if not os.access(folder, os.W_OK):
        return Finding(name, "ok", f"'{folder}' is read-only: file locking is not needed")
    try:
        with tempfile.TemporaryDirectory(prefix=".dnn_reco_doctor_", dir=folder) as temporary:
            path = Path(temporary) / "probe.hdf5"
            with h5py.File(path, "w") as file:
                file["x"] = 1
            with h5py.File(path, "r") as file:
                file["x"][()]
    except OSError as error:
        return Finding(
            name,
            "warning",
            f"HDF5 files in '{folder}' cannot be locked: {error}",
            "export HDF5_USE_FILE_LOCKING=FALSE (dnn_reco itself reads without locks; your own "
            "functions may not)",
        )
    return Finding(name, "ok", f"HDF5 files in '{folder}' can be written, locked and read")


def check_disk(folder: Path) -> Finding:
    """Whether there is space for the event store."""
    name, there = "disk", existing_part(folder)
    if not os.access(there, os.W_OK):
        advice = "choose another folder: --cache-dir, or the key data_cache_dir"
        return Finding(name, "problem", f"'{there}' cannot be written to", advice)
    free = shutil.disk_usage(there).free
    text = f"{size_in_words(free)} are free for the event store in '{folder}'"
    status: Status = "problem" if free < _LEAST_SPACE else "warning"
    if free >= _LOW_SPACE:
        return Finding(name, "ok", text)
    return Finding(name, status, text, "free some, or choose another disk with --cache-dir")
