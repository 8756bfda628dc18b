"""Exit codes after Ctrl-C: 0 where the state is saved and the same command goes on, else 130."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dnn_reco.cli.root import cli
from dnn_reco.commands import count, simulate


def interrupted(*arguments: object) -> None:
    raise KeyboardInterrupt


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments])


def test_without_anything_saved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(count, "run_count", interrupted)
    config = tmp_path / "config.yaml"
    config.write_text("unique_name: a\n")
    result = invoke("count", config)
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.endswith("Interrupted.\n")


def test_finished_files_of_a_simulation_are_saved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(simulate, "_write_all", interrupted)
    result = invoke("simulate", "--events", "10", "--out", tmp_path / "out", "-j", "1")
    assert result.exit_code == 0
    assert "Finished files are kept; the same command goes on from there" in result.stderr
