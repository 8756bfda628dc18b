"""Installed packages and their versions, read without importing them."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

_REQUIREMENT = re.compile(
    r"([\w.-]+)(?:\[[^]]*\])?(?:>=([\d.]+))?[^;]*(?:;.*extra == ['\"](\w+)['\"])?"
)
_NOT_FOR_USERS = ("dev", "docs")


@dataclass(frozen=True)
class Requirement:
    """A package that this one needs.

    Attributes
    ----------
    name
        Its name.
    least
        Its lowest version; empty: any.
    extra
        The extra that needs it; empty: the package itself.
    """

    name: str
    least: str = ""
    extra: str = ""

    @property
    def installed(self) -> str:
        """The installed version; empty: it is not installed."""
        return version_of(self.name)

    @property
    def is_met(self) -> bool:
        """Whether it is installed, in this version or a later one."""
        return bool(self.installed) and _numbers(self.installed) >= _numbers(self.least)


def requirements() -> list[Requirement]:
    """All that the installed package declares; none if it is used without being installed."""
    try:
        lines = metadata.requires("dnn_reco") or []
    except metadata.PackageNotFoundError:
        return []
    return list(_parsed(lines))


def _parsed(lines: list[str]) -> Iterator[Requirement]:
    for line in lines:
        match = _REQUIREMENT.match(line)
        if match is not None and match[3] not in _NOT_FOR_USERS:
            yield Requirement(match[1], match[2] or "", match[3] or "")


def extras() -> dict[str, list[Requirement]]:
    """The packages of each extra."""
    found: dict[str, list[Requirement]] = {}
    for requirement in requirements():
        if requirement.extra:
            found.setdefault(requirement.extra, []).append(requirement)
    return found


def version_of(name: str) -> str:
    """The installed version of a package; empty: it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def cuda_of_torch() -> str | None:
    """Version of CUDA that the installed torch was built for; None: it computes on CPUs only."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        tree = ast.parse(Path(spec.origin).with_name("version.py").read_text())
    except (OSError, SyntaxError):
        return None
    for statement in tree.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            value = statement.value
            if statement.target.id == "cuda" and isinstance(value, ast.Constant):
                return None if value.value is None else str(value.value)
    return None


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()
