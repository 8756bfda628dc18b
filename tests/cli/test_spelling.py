"""Hyphens in all that is shown; underscores and older names are accepted all the same."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import dnn_reco
from dnn_reco.cli import cli

# What each short option stands for, in every command that has it.
SHORT = {
    "-h": "--help",
    "-V": "--version",
    "-j": "--jobs",
    "-o": "--out",
    "-i": "--input",
    "-s": "--data-settings",
    "-g": "--gcd",
    "-k": "--keys",
    "-q": "--quiet",
}


def names(group: click.Group = cli, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*above, name)
        if isinstance(command, click.Group):
            yield from names(command, (*above, name))


def help_of(command: tuple[str, ...]) -> str:
    result = CliRunner().invoke(cli, [*command, "--help"])
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize("command", [(), *names()], ids=" ".join)
def test_help_shows_hyphens_and_the_same_short_options(command: tuple[str, ...]) -> None:
    text = help_of(command)
    assert not re.findall(r"--[a-z]+[a-z-]*_\w+", text)
    assert not re.findall(r"--(?:n-jobs|output)\b", text)
    for short, long in re.findall(r"^  (-\w)(?:, -\w)*, (?:--\w+, )?(--[\w-]+)", text, re.M):
        assert SHORT[short] == long
    for words in re.findall(r"^  (-\S+(?: \S+)*)", text, re.M):
        if re.search(r"--(jobs|out)(?![\w-])", words):
            assert words.startswith(("-j, --jobs", "-o, --out"))


@pytest.mark.parametrize(
    "words",
    [["--n_jobs", "0"], ["--n-jobs", "0"], ["-j", "0"], ["--num_threads", "-1"]],
)
def test_older_spellings_are_the_same_options(words: list[str]) -> None:
    """Their values are refused, under the shown name; a wrong name would be an unknown option."""
    result = CliRunner().invoke(cli, ["count", "a.yaml", *words])
    assert result.exit_code == 2
    assert re.search(r"Invalid value for ('-j' / '--jobs'|'--num-threads')", result.stderr)


def test_a_misspelt_option_is_answered_with_the_shown_name() -> None:
    result = CliRunner().invoke(cli, ["count", "a.yaml", "--num_thread", "1"])
    assert result.exit_code == 2
    assert re.search("Did you mean '?--num-threads", result.stderr)


def test_the_scripts_of_the_reference_take_its_options(tmp_path: Path) -> None:
    """Each gets as far as reading the config, which is not there."""
    folder = Path(dnn_reco.__file__).parent
    for script, options in {
        "count_number_of_events.py": ["-j", "2", "--log_level", "ERROR", "--num_threads", "1"],
        "create_trafo_model.py": ["--log_level", "INFO", "--num_threads", "1"],
        "train_model.py": ["--log_level", "info", "--num_threads", "1"],
        "export_model.py": ["--output_folder", "out", "--data_settings", __file__, "--no-logs"],
    }.items():
        line = [sys.executable, str(folder / script), "missing.yaml", *options]
        result = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith("Error: the config file 'missing.yaml' does not exist")
