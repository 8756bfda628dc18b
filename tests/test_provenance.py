"""The software in the record of a run."""

import subprocess
from pathlib import Path

import pytest

from dnn_reco import provenance
from dnn_reco.provenance import software_record


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
