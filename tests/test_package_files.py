"""What packaging needs: lower bounds of all dependencies, and data files that are listed."""

import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parents[1]


def test_every_dependency_has_a_lowest_version() -> None:
    script = REPOSITORY / "tools/lowest_requirements.py"
    result = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True
    ).stdout
    lowest = {requirement.name: requirement for requirement in map(Requirement, result.split())}
    assert str(lowest["torch"].specifier) == "==2.9"
    assert {"h5py", "onnx", "plotly", "tritonclient"} <= lowest.keys()
