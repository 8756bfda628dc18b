"""A short run of the fuzzer; it is run for long by hand."""

import subprocess
import sys
from pathlib import Path

FUZZER = Path(__file__).parent / "fuzz_i3.py"


def test_damaged_files_are_read_or_refused() -> None:
    """Never another error, a long time or more than 3 GB."""
    command = [sys.executable, str(FUZZER), "--cases", "2000", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert ", 0 crashed, 0 slow" in done.stdout
