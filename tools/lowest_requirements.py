"""Print the lowest version of each dependency that pyproject.toml allows, as constraints for pip.

Example:
  python tools/lowest_requirements.py > lowest.txt
  pip install --constraint lowest.txt --editable '.[dev,i3,onnx,pandas,parquet]'
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import tomllib  # Python 3.11 or newer

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[^\]]*\])?>=([\w.]+)")


def lowest_requirements(pyproject: Path = PYPROJECT) -> Iterator[str]:
    """Dependencies and extras as `name==version`; all must have a lower bound."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    for requirement in sorted(
        {*project["dependencies"], *(line for group in extras for line in group)}
    ):
        found = REQUIREMENT.fullmatch(requirement)
        if found is None:
            sys.exit(f"no lower bound of the form 'name>=version': {requirement}")
        yield "{}=={}".format(*found.groups())


if __name__ == "__main__":
    print("\n".join(lowest_requirements()))
