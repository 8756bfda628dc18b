"""The record of a training: configuration, software and machine of each training step.

Next to the checkpoints are ``training_steps.yaml`` (iterations of each training step, that is of
each call of the program) and ``config_training_NNNN.yaml`` (configuration and software of a call).
"""

from __future__ import annotations

import io
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from dnn_reco._version import __version__
from dnn_reco.files import write_atomically

_RECORDS = re.compile(r"training_steps\.yaml|config_training_\d{4,}\.yaml")


def software_record() -> dict[str, Any]:
    """Versions, git revision and machine of this process, as plain values."""
    return {
        "dnn_reco_version": __version__,
        **_git_record(Path(__file__).resolve().parent),
        "python_version": platform.python_version(),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "command": " ".join([_program(Path(sys.argv[0])), *sys.argv[1:]]),
        "pip_installed_packages": [list(pair) for pair in _installed_packages()],
    }


def _program(path: Path) -> str:
    """Name of the program: that of the command for `python -m dnn_reco`."""
    return "dnn-reco" if path.parts[-2:] == ("dnn_reco", "__main__.py") else path.name


@cache
def _installed_packages() -> tuple[tuple[str, str], ...]:
    """Name and version of each installed package, read once: there may be hundreds."""
    return tuple(sorted({(d.name, d.version) for d in metadata.distributions()}))


def _git_record(folder: Path) -> dict[str, Any]:
    """Revision, origin and uncommitted code changes, "unknown" outside of a checkout."""

    def git(*arguments: str) -> str:
        try:
            result = subprocess.run(
                ["git", "-C", str(folder), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return ""
        return result.stdout.strip()

    # an installed copy may be inside an unrelated repository
    sha = git("rev-parse", "HEAD") if git("ls-files", "__init__.py") else ""
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
    return {
        "git_sha": sha or "unknown",
        "git_short_sha": sha[:7] or "unknown",
        "git_origin": _without_password(git("remote", "get-url", "origin")) or "unknown",
        "git_uncommited_changes": bool(changed) if sha else "unknown",
        "git_changed_files": changed.splitlines(),
    }


def _without_password(url: str) -> str:
    """A URL without the user name and password that it may hold: records are shared."""
    return re.sub(r"(?<=://)[^/@]*@", "", url)


def record_text(title: str, config_yaml: str) -> str:
    """A record as YAML: a title, the complete configuration, and the software."""
    text = io.StringIO()
    YAML(typ="safe", pure=True).dump(software_record(), text)
    return f"# {title}\n{config_yaml.rstrip()}\n\n# What it ran with.\n{text.getvalue()}"


def write_config_record(folder: Path, training_step: int, text: str) -> None:
    """Write the record of a training step to ``config_training_NNNN.yaml``."""
    write_atomically(config_record(folder, training_step), text.encode())


def config_record(folder: Path, training_step: int) -> Path:
    """Where the record of a training step is."""
    return folder / f"config_training_{training_step:04d}.yaml"


def write_training_steps(folder: Path, iterations: Sequence[int]) -> None:
    """Write ``training_steps.yaml``: iterations of each training step."""
    content = "".join(f"{step}: {count}\n" for step, count in enumerate(iterations))
    write_atomically(folder / "training_steps.yaml", content.encode())


def has_records(checkpoints: Path) -> bool:
    """Whether there are records of a training beside its folder of checkpoints."""
    return (checkpoints.parent / "training_steps.yaml").exists()


def retire(checkpoints: Path, log_path: Path, log_names: Sequence[str]) -> Path | None:
    """Rename the folders of an old model: checkpoints with records, and logs.

    They are moved to ``<parent>_old_NNNN`` and ``<log_path>_old_NNNN``, with the same first free
    number. A folder of logs that contains the checkpoints may contain more: of it only
    `log_names`, what a training writes there, are moved, to ``<parent>_old_NNNN``.

    Returns the new folder of the checkpoints' parent, None if there was nothing to move.
    """
    parent = checkpoints.parent
    nested = checkpoints.resolve().is_relative_to(log_path.resolve())
    folders = [parent] if nested else [parent, log_path]
    number = 0
    while any(_retired(folder, number).exists() for folder in folders):
        number += 1
    target = _retired(parent, number)
    records = [p for p in parent.glob("*.yaml") if _RECORDS.fullmatch(p.name)]
    logs = [log_path / name for name in log_names] if nested else []
    moves = {path: target / path.name for path in (checkpoints, *records, *logs)}
    if not nested:
        moves[log_path] = _retired(log_path, number)
    moved = False
    for old, new in moves.items():
        if old.exists():  # logs in the folder of the checkpoints are gone with it
            new.parent.mkdir(parents=True, exist_ok=True)
            old.rename(new)
            moved = True
    return target if moved else None


def _retired(folder: Path, number: int) -> Path:
    return folder.with_name(f"{folder.name}_old_{number:04d}")
