"""What a release needs: lower bounds of all dependencies, and one version everywhere."""

import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement
from ruamel.yaml import YAML

from dnn_reco import __version__

REPOSITORY = Path(__file__).resolve().parents[1]


def test_every_dependency_has_a_lowest_version() -> None:
    script = REPOSITORY / "tools/lowest_requirements.py"
    result = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True
    ).stdout
    lowest = {requirement.name: requirement for requirement in map(Requirement, result.split())}
    assert str(lowest["torch"].specifier) == "==2.9"
    assert {"h5py", "onnx", "plotly", "tritonclient"} <= lowest.keys()


def test_the_citation_has_the_version_of_the_package() -> None:
    citation = YAML(typ="safe", pure=True).load(REPOSITORY / "CITATION.cff")
    assert citation["version"] == __version__
    assert __version__ in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
