"""The software in the record of a run."""

import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import dnn_reco
from dnn_reco import provenance
from dnn_reco.provenance import (
    has_records,
    record_text,
    software_record,
    write_config_record,
    write_training_steps,
)


def git(folder: Path, *arguments: str) -> str:
    words = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a package in a repository, not committed yet, which is taken for this one."""
    folder = tmp_path / "repository" / "dnn_reco"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    git(folder.parent, "init", "-q")
    monkeypatch.setattr(provenance, "__file__", str(folder / "provenance.py"))
    return folder


def test_revision_and_what_is_not_committed(package: Path) -> None:
    (package.parent / "notes.txt").write_text("mine")
    git(package, "add", "..")
    git(package, "commit", "-q", "-m", "first")
    record = software_record()
    sha = git(package, "rev-parse", "HEAD")
    assert re.fullmatch("[0-9a-f]{40}", sha)
    assert (record["git_sha"], record["git_short_sha"]) == (sha, sha[:7])
    assert record["git_origin"] == "unknown"
    assert (record["git_uncommited_changes"], record["git_changed_files"]) == (False, [])

    (package.parent / "notes.txt").write_text("changed, but not in the package")
    (package / "new.py").touch()  # git does not know it
    assert software_record()["git_changed_files"] == []
    (package / "__init__.py").write_text("a = 1")
    record = software_record()
    assert record["git_uncommited_changes"] is True
    assert record["git_changed_files"] == ["M dnn_reco/__init__.py"]


def test_an_installed_copy_in_a_repository_of_others(package: Path) -> None:
    (package.parent / "notes.txt").write_text("theirs")
    git(package, "add", "../notes.txt")
    git(package, "commit", "-q", "-m", "first")
    record = software_record()
    assert record["git_sha"] == record["git_short_sha"] == "unknown"
    assert record["git_uncommited_changes"] == "unknown"


def test_without_git(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    record = software_record()
    assert record["git_sha"] == record["git_origin"] == "unknown"
    assert record["git_changed_files"] == []


def test_a_module_is_recorded_as_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/some/folder/dnn_reco/__main__.py", "train", "a.yaml"])
    assert software_record()["command"] == "dnn-reco train a.yaml"


def test_versions_machine_and_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/some/folder/dnn-reco", "train", "a.yaml"])
    record = software_record()
    assert record["dnn_reco_version"] == dnn_reco.__version__
    assert record["python_version"] == platform.python_version()
    assert record["machine"].split() == [platform.system(), platform.release(), platform.machine()]
    assert record["command"] == "dnn-reco train a.yaml"
    packages = record["pip_installed_packages"]
    assert ["numpy", metadata.version("numpy")] in packages
    assert packages == sorted(packages)


def test_text_of_a_record(tmp_path: Path) -> None:
    text = record_text("Some title.", "batch_size: 8\n\n")
    lines = text.splitlines()
    assert lines[:4] == ["# Some title.", "batch_size: 8", "", "# What it ran with."]
    read = YAML(typ="safe", pure=True).load(text)
    assert read["batch_size"] == 8
    assert read["dnn_reco_version"] == dnn_reco.__version__
    assert not has_records(tmp_path / "run" / "model")
    write_config_record(tmp_path / "run", 7, text)
    assert (tmp_path / "run" / "config_training_0007.yaml").read_text() == text
    assert not has_records(tmp_path / "run" / "model")
    write_training_steps(tmp_path / "run", [100, 250])
    assert (tmp_path / "run" / "training_steps.yaml").read_text() == "0: 100\n1: 250\n"
    assert has_records(tmp_path / "run" / "model")


@pytest.mark.parametrize(
    ("origin", "recorded"),
    [
        ("https://user:token@example.org/dnn_reco.git", "https://example.org/dnn_reco.git"),
        ("https://example.org/dnn_reco.git", "https://example.org/dnn_reco.git"),
        ("git@example.org:dnn_reco.git", "git@example.org:dnn_reco.git"),
    ],
)
def test_origin_is_recorded_without_passwords(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: str, recorded: str
) -> None:
    package = tmp_path / "dnn_reco"
    package.mkdir()
    (package / "__init__.py").touch()
    for command in (
        ["init", "-q"],
        ["remote", "add", "origin", origin],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "first"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
    record = software_record()
    assert record["git_origin"] == recorded
    assert record["git_uncommited_changes"] is False
