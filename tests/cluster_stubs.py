"""Stand-ins for the programs of a cluster, which record their calls."""

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

# Records its folder and words, one per line, then a line of dashes.
_NOTE = """#!/bin/bash
printf '%s\\n' "${0##*/}" "$PWD" "$@" ---- >>"$STUB_FOLDER/calls"
"""

# Waits for SIGTERM, and then exits with SAVED_CODE; or exits at once with END_CODE.
_TRAINING = (
    _NOTE
    + """
trap 'echo "caught SIGTERM"; exit "$SAVED_CODE"' TERM
[ -n "$SAVED_CODE" ] || trap - TERM
echo started
[ -z "$END_CODE" ] || exit "$END_CODE"
while true; do sleep 0.02; done
"""
)


class Stubs:
    """A folder of stand-ins, and the environment in which they are found."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        for name in ("sbatch", "condor_submit", "scontrol"):
            self.write(name, _NOTE + "echo 'Submitted batch job 4711'\n")
        self.write("dnn-reco", _TRAINING)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.folder}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "STUB_FOLDER": str(self.folder)}

    def calls(self, name: str) -> list[list[str]]:
        """Folder and words of each call of a program."""
        path = self.folder / "calls"
        texts = path.read_text().split("----\n")[:-1] if path.exists() else []
        calls = [text.splitlines() for text in texts]
        return [call[1:] for call in calls if call[0] == name]


def start(script: Path, stubs: Stubs, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Run a job script as a batch system does: in a new session, its output appended."""
    with (script.parent / "logs" / "train.log").open("ab") as log:
        return subprocess.Popen(
            [script],
            cwd=script.parent,
            env={**stubs.environment, "SLURM_JOB_ID": "4711", **variables},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_for(text: str, script: Path, process: subprocess.Popen[bytes], seconds: float = 60) -> str:
    """The output of a job script, once `text` is in it."""
    log = script.parent / "logs" / "train.log"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if text in log.read_text():
            return log.read_text()
        assert process.poll() is None, log.read_text()
        time.sleep(0.01)
    raise AssertionError(f"'{text}' did not come:\n{log.read_text()}")
