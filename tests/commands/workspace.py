"""Commands as a user runs them: a folder with data and the tutorial's config, and `invoke`."""

import io
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
from event_files import Events

from dnn_reco.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]
NUM_TRAINING = (40, 50, 38)  # events of each training file: 128, four batches of 32
NUM_VALIDATION = 30


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    exit_code: int
    out: str
    err: str


def invoke(*arguments: str | Path) -> Result:
    """`dnn-reco <arguments>` in this process, which it leaves as it was."""
    out, err = io.StringIO(), io.StringIO()
    with _process_state(), redirect_stdout(out), redirect_stderr(err):
        sys.argv = ["dnn-reco", *map(str, arguments)]
        with pytest.raises(SystemExit) as leaving:
            main()
    return Result(int(leaving.value.code or 0), out.getvalue(), err.getvalue())


@contextmanager
def _process_state() -> Iterator[None]:
    argv, environment = sys.argv, dict(os.environ)
    root, package = logging.getLogger(), logging.getLogger("dnn_reco")
    handlers, level = root.handlers[:], package.level
    try:
        yield
    finally:
        sys.argv = argv
        os.environ.clear()
        os.environ.update(environment)
        root.handlers[:] = handlers
        package.setLevel(level)


def complete(events: Events) -> Events:
    """Events with the further column that the tutorial's config asks for."""
    events.labels["LengthInDetector"] = 0.5 * events.labels["EnergyVisible"]
    return events


class Workspace:
    """A working directory beside `data/`, `logs/` and `checkpoints/`, with a config to edit."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder = folder
        self.directory = folder / "work"
        self.config = folder / "getting_started.yaml"
        self.data = data
        self.trafo_model = (
            folder / "data" / "trafo_models" / "dnn_reco_11883_tutorial_trafo_model.npy"
        )

    def create(self) -> None:
        """The tutorial's config on `data`, with a small network and little data."""
        self.directory.mkdir(parents=True)
        text = (REPOSITORY / "configs" / "tutorial" / "getting_started.yaml").read_text()
        self.config.write_text(text.replace("{insert_DNN_HOME}/training_data", str(self.data)))
        text = re.sub(
            r"num_filters_list: (\[.*\])",
            lambda m: "num_filters_list: " + m[1].replace("10", "2"),
            self.config.read_text(),
        )
        self.config.write_text(text)
        self.set("trafo_num_batches", "4")
        self.set("num_training_iterations", "1")

    def set(self, key: str, value: str) -> None:
        """Change the line of a key."""
        self.edit(rf"^( *){key}:.*$", rf"\g<1>{key}: {value}")

    def edit(self, pattern: str, replacement: str) -> None:
        """Change what a regular expression matches, in one place."""
        text, count = re.subn(pattern, replacement, self.config.read_text(), flags=re.MULTILINE)
        assert count == 1, f"{pattern} matches {count} times"
        self.config.write_text(text)

    def append(self, line: str) -> None:
        """Add a line to the config."""
        self.config.write_text(f"{self.config.read_text()}\n{line}\n")

    def line_of(self, start: str) -> int:
        """Number of the one line of the config that begins so."""
        lines = enumerate(self.config.read_text().splitlines(), 1)
        (number,) = [number for number, line in lines if line.startswith(start)]
        return number

    def run(self, command: str, *options: str | Path) -> Result:
        """Run a command with the config; one thread, because tests run side by side."""
        threads = [] if command.startswith("config") else ["--num_threads", "1"]
        return invoke(*command.split(), self.config, *threads, *options)

    def error(self, command: str, *options: str | Path) -> str:
        """The message of a command that must fail: one, without traceback."""
        result = self.run(command, *options)
        assert result.exit_code == 1, result
        assert result.err.count("Error: ") == 1, result.err
        assert "Traceback" not in result.err
        assert "Successfully" not in result.out
        assert "Step: " not in result.out
        return result.err[result.err.index("Error: ") :]
