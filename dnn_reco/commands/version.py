"""`version`: the versions of what matters."""

from __future__ import annotations

import platform
from typing import Any

import click

from dnn_reco._version import __version__
from dnn_reco.commands.installed import cuda_of_torch, extras, version_of
from dnn_reco.commands.output import print_json

_PACKAGES = ("numpy", "h5py")


def versions() -> dict[str, Any]:
    """Versions of this package, Python, the packages that it computes with, and its extras.

    A package that is not installed has None; an extra has all of its packages.
    """
    return {
        "dnn_reco": __version__,
        "python": platform.python_version(),
        "torch": version_of("torch") or None,
        "cuda": cuda_of_torch(),
        **{name: version_of(name) or None for name in _PACKAGES},
        "extras": {
            extra: {each.name: each.installed or None for each in needed}
            for extra, needed in extras().items()
        },
    }


def run_version(as_json: bool) -> None:
    """Print the versions."""
    found = versions()
    if as_json:
        print_json(found)
    else:
        click.echo(version_text(found))


def version_text(found: dict[str, Any]) -> str:
    """The versions as text, one in a line."""
    cuda = found["cuda"]
    build = "" if found["torch"] is None else f" (CUDA {cuda})" if cuda else " (CPU only)"
    rows = [
        ("dnn_reco", found["dnn_reco"]),
        ("python", found["python"]),
        ("torch", f"{found['torch'] or 'not installed'}{build}"),
        *((name, found[name] or "not installed") for name in _PACKAGES),
    ]
    there = [name for name, packages in found["extras"].items() if all(packages.values())]
    missing = [name for name in found["extras"] if name not in there]
    rows.append(("extras", ", ".join(there) or "none"))
    if missing:
        rows.append(("", f"not installed: {', '.join(missing)}"))
    return "\n".join(f"{name:<9} {text}" for name, text in rows)
