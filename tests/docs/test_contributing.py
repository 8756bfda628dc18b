"""The examples of CONTRIBUTING.md, applied to a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"^```python\n# (?:(before|in) (\w+) in )?(\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package and its tests, with what the page adds."""
    folder = tmp_path_factory.mktemp("contributing")
    for name in ("dnn_reco", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "example_configs", "golden")
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    for place, name, path, code in BLOCK.findall(PAGE):
        apply(folder / path, code, place, name)
    return folder


def apply(path: Path, code: str, place: str, name: str) -> None:
    """Write a new file, or insert code before or into the definition of a name."""
    if not place:
        assert not path.exists(), path
        path.write_text(code, encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    [definition] = re.finditer(rf"^{name}\b.*= {{\n", text, re.MULTILINE)
    at = definition.end()
    if place == "before":
        at, code = definition.start(), f"{code}\n\n"
    path.write_text(text[:at] + code + text[at:], encoding="utf-8")


def new_files(folder: str) -> list[str]:
    return [
        path for place, _, path, _ in BLOCK.findall(PAGE) if not place and path.startswith(folder)
    ]


def run(copy: Path, *command: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_all_blocks_are_applied() -> None:
    assert PAGE.count("```python") == len(BLOCK.findall(PAGE)) == 9


def test_tests_of_the_page_pass(copy: Path) -> None:
    run(copy, "pytest", "-q", "-p", "no:cacheprovider", *new_files("tests/"))


def test_code_of_the_page_has_the_style_of_the_package(copy: Path) -> None:
    changed = {path for _, _, path, _ in BLOCK.findall(PAGE)}
    run(copy, "ruff", "check", "--no-cache", *changed)
    run(copy, "ruff", "format", "--no-cache", "--check", *changed)


@pytest.mark.long
def test_types_of_the_page_are_right(copy: Path) -> None:
    run(copy, "mypy", "--cache-dir=/dev/null", "--follow-imports=silent", *new_files("dnn_reco/"))
