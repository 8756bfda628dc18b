"""Runs the code blocks of a page, one after the other, in a folder."""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_configs import complete_config
from pages import REPOSITORY, Block, agree, blocks, commands, fixed_parts

EXAMPLES = REPOSITORY / "docs" / "how-to" / "examples"
# Stands for the working directory in commands and outputs of the pages.
SOME_FOLDER = "/some/folder"
SECONDS = 600
# A config of the workspace, and the same with the part that a page shows.
BASE, PART = "my_network.yaml", "part_of_a_page.yaml"

_SCRIPT = """
source "$PAGE_STATE/variables" && cd "$(cat "$PAGE_STATE/folder")"
trap 'declare -px >"$PAGE_STATE/variables"; pwd >"$PAGE_STATE/folder"' EXIT
set -e -o pipefail
"""


# Programs that the pages call and the tests do not run: all is installed, and there is no cluster.
_STAND_INS = {
    "pip": ":",
    "condor_submit": "echo '1 job(s) submitted to cluster 4711.'",
    "sbatch": "echo 'Submitted batch job 4711'",
}


class PageRun:
    """State between the blocks of a page: shell variables, working directory, Python's names."""

    def __init__(self, home: Path, state: Path) -> None:
        self.home = home
        self.state = state
        self.names: dict[str, object] = {"__name__": "__main__"}
        self.replacements = [(SOME_FOLDER, str(home))]
        self.output = ""
        self.servers: list[subprocess.Popen[bytes]] = []
        (state / "variables").write_text("")
        for program, text in _STAND_INS.items():
            block_file(state / "bin" / program, f"#!/bin/bash\n{text}\n")
            (state / "bin" / program).chmod(0o755)
        (state / "folder").write_text(f"{home}\n")

    @property
    def folder(self) -> Path:
        """The working directory."""
        return Path((self.state / "folder").read_text().rstrip("\n"))

    def run(self, block: Block) -> None:
        """Run, compare or check a block."""
        self.replacements += block.replacements
        needed = block.directive("needs")
        if block.directive("skip") or (needed and not (self.home / needed).exists()):
            return
        if before := block.directive("before"):
            self.bash(before)
        if name := block.directive("example"):
            assert (EXAMPLES / name).read_text() == block.text, f"{block} is not examples/{name}"
            block_file(self.folder / name, block.text)
        elif name := block.directive("file"):
            block_file(self.folder / name, self.replaced(block.text))
        elif instead := block.directive("instead"):
            self.output = self.bash(instead)
        else:
            getattr(self, f"_{block.language}")(block)

    def replaced(self, text: str) -> str:
        for old, new in self.replacements:
            text = text.replace(old, new)
        return text

    def bash(self, text: str, exit_code: int = 0) -> str:
        """Run lines of bash; returns what they print."""
        result = subprocess.run(
            ["timeout", str(SECONDS), "bash", "-c", _SCRIPT + self.replaced(text)],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        printed = result.stdout.replace(str(self.home), SOME_FOLDER)
        assert result.returncode == exit_code, f"exit code {result.returncode}:\n{text}\n{printed}"
        return printed

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "PAGE_STATE": str(self.state),
            "HOME_OF_PAGE": str(self.home),
            "REPOSITORY": str(REPOSITORY),
            "PATH": f"{self.state}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONUNBUFFERED": "1",  # standard output and errors in their order
            "OMP_NUM_THREADS": "1",
        }

    def close(self) -> None:
        """Stop what runs in the background."""
        for server in self.servers:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=60)

    def _bash(self, block: Block) -> None:
        if url := block.directive("background"):
            self._start(block, url)
        else:
            self.output = self.bash(block.text, int(block.directive("exit") or 0))

    def _console(self, block: Block) -> None:
        exit_code = int(block.directive("exit") or 0)
        for command in commands(block.text):
            self.output = self.bash(command.text, exit_code)
            compare(command.output, self.output)

    def _text(self, block: Block) -> None:
        compare(block.text, self.output)

    def _python(self, block: Block) -> None:
        place = "\n" * block.line  # line numbers of tracebacks are those of the page
        code = compile(place + self.replaced(block.text), str(block.page), "exec")
        printed = io.StringIO()
        with pytest.MonkeyPatch.context() as monkeypatch, contextlib.redirect_stdout(printed):
            monkeypatch.chdir(self.folder)
            monkeypatch.syspath_prepend(str(self.folder))
            exec(code, self.names)
        self.output = printed.getvalue().replace(str(self.home), SOME_FOLDER)

    def _yaml(self, block: Block) -> None:
        part, within = self.replaced(block.text), block.directive("within")
        if name := block.directive("into"):
            complete_config(part, within, self.folder / name, self.folder / name)
        else:
            complete_config(part, within, self.folder / BASE, self.folder / PART)
            self.bash(f"dnn-reco config check --network {PART}")

    def _start(self, block: Block, url: str) -> None:
        log = self.state / f"background_{len(self.servers)}.log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                ["bash", "-c", _SCRIPT + self.replaced(block.text)],
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.servers.append(server)
        end = time.monotonic() + SECONDS
        while not _answers(self.replaced(url)):
            assert server.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        self.output = log.read_text().replace(str(self.home), SOME_FOLDER)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def block_file(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def compare(shown: str, actual: str) -> None:
    """Fail if an output is not the one shown; nothing shown is not compared."""
    if shown.strip() and not agree(shown, actual):
        lines = ["the page shows", *fixed_parts(shown), "", "the output is", *fixed_parts(actual)]
        pytest.fail("\n".join([*lines, "", "in full:", re.sub(r"\n+$", "", actual)]))


@contextlib.contextmanager
def running(home: Path, state: Path) -> Iterator[PageRun]:
    """A page that is run in a folder; programs in the background end with it."""
    run = PageRun(home, state)
    try:
        yield run
    finally:
        run.close()


def run_page(page: Path, home: Path, state: Path) -> None:
    """Run all blocks of a page."""
    with running(home, state) as run:
        for block in blocks(page):
            try:
                run.run(block)
            except BaseException as error:
                error.add_note(f"in {block}") if hasattr(error, "add_note") else None
                print(f"FAILED: {block}")
                raise
