"""Installed packages and their versions, read without importing them."""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging import requirements as standard
from packaging.specifiers import SpecifierSet

_NOT_FOR_USERS = ("dev", "docs")


@dataclass(frozen=True)
class Requirement:
    """A package that this one needs.

    Attributes
    ----------
    name
        Its name.
    versions
        The versions that fit, such as ">=1.26"; empty: any.
    extra
        The extra that needs it; empty: the package itself.
    """

    name: str
    versions: str = ""
    extra: str = ""

    @property
    def installed(self) -> str:
        """The installed version; empty: it is not installed."""
        return version_of(self.name)

    @property
    def is_met(self) -> bool:
        """Whether it is installed, in a version that fits."""
        fitting = SpecifierSet(self.versions)
        return bool(self.installed) and fitting.contains(self.installed, prereleases=True)


def requirements() -> list[Requirement]:
    """All that the installed package declares; none if it is used without being installed."""
    try:
        declared = metadata.metadata("dnn_reco").get_all("Provides-Extra") or []
        lines = [standard.Requirement(line) for line in metadata.requires("dnn_reco") or []]
    except metadata.PackageNotFoundError:
        return []
    of_users = ["", *(extra for extra in declared if extra not in _NOT_FOR_USERS)]
    return [
        Requirement(line.name, str(line.specifier), extra)
        for extra in of_users
        for line in lines
        if _is_for(line, extra)
    ]


def _is_for(line: standard.Requirement, extra: str) -> bool:
    """Whether a package is needed by an extra, and not already without it."""
    if line.marker is None:
        return not extra
    without = line.marker.evaluate({"extra": ""})
    return without if not extra else not without and line.marker.evaluate({"extra": extra})


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
