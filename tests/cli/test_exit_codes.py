"""Exit codes after Ctrl-C: 0 where the state is saved and the same command goes on, else 130."""

import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dnn_reco.cli.root import cli
from dnn_reco.commands import count, simulate
from dnn_reco.commands.stop import stop_signals_interrupt


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


def test_of_a_command_that_is_a_script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(count, "run_count", interrupted)
    config = tmp_path / "config.yaml"
    config.write_text("unique_name: a\n")
    result = CliRunner().invoke(cli.commands["count"], [str(config)])
    assert (result.exit_code, result.stdout) == (130, "")


def test_sigterm_in_work_whose_finished_part_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stopped(*arguments: object) -> None:
        with stop_signals_interrupt():
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(count, "run_count", stopped)
    config = tmp_path / "config.yaml"
    config.write_text("unique_name: a\n")
    assert invoke("count", config).exit_code == 143


def test_finished_files_of_a_simulation_are_saved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(simulate, "_write_all", interrupted)
    result = invoke("simulate", "--events", "10", "--out", tmp_path / "out", "-j", "1")
    assert result.exit_code == 0
    assert "Finished files are kept; run the same command to resume" in result.stderr
