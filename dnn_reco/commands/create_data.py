"""`create-data`: training data from files with IceCube's frames."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import click

from dnn_reco.data_creation.plan import (
    CreationPlan,
    DirectOptions,
    PlannedFile,
    load_plan,
    plan_from_options,
)

_log = logging.getLogger(__name__)

_SHOWN = 20  # of many runs that are skipped


@dataclass(frozen=True)
class CreateDataSettings:
    """What to make, and how.

    Attributes
    ----------
    source
        The config, or the files and options that were given directly.
    out
        Folder of the outputs; None: the one that the config names.
    step
        The only processing step of the config to run; None: all.
    jobs
        Files to make at once; None: as many as there are CPUs.
    num_threads
        CPUs to use.
    allow_code
        Packages whose data formats may be named.
    cluster
        "local", "htcondor" or "slurm": the engine that makes the files; None: processes of this
        machine.
    overwrite
        Whether outputs that are there already are made again.
    dry_run
        Whether to print only what would be made.
    """

    source: Path | DirectOptions
    out: Path | None = None
    step: int | None = None
    jobs: int | None = None
    num_threads: int = 0
    allow_code: tuple[str, ...] = ()
    cluster: str | None = None
    overwrite: bool = False
    dry_run: bool = False


def run_create_data(settings: CreateDataSettings) -> int:
    """Make all files of a plan that are not there yet; returns the exit code."""
    plan = _plan(settings)
    for notice in plan.notices:
        _log.log(getattr(logging, notice.level.upper()), "%s", notice.text)
    if settings.dry_run:
        click.echo(_described(plan, settings.overwrite))
        return 0
    raise NotImplementedError  # TODO: make the files of the plan


def _plan(settings: CreateDataSettings) -> CreationPlan:
    if isinstance(settings.source, DirectOptions):
        return plan_from_options(settings.source)
    return load_plan(settings.source, settings.out, settings.step)


def _described(plan: CreationPlan, overwrite: bool) -> str:
    """A plan as text: segments, files and runs that are skipped."""
    lines = ["Segments:"]
    for segment in plan.steps:
        lines.append(
            f"  {segment.module_class}{' (simulation only)' if segment.only_simulation else ''}"
        )
    lines.append("Files:")
    counts: Counter[str] = Counter()
    for file in plan.files:
        paths = plan.outputs.paths(file.output)
        is_there = not overwrite and all(path.exists() for path in paths)
        counts["there already" if is_there else "to make"] += 1
        lines.append(_line(file, paths, is_there))
    if plan.skipped:
        lines.append("Skipped:")
        shown = plan.skipped[:_SHOWN]
        lines += [f"  {s.dataset}, run {s.run_number}: {s.reason}" for s in shown]
        if len(plan.skipped) > _SHOWN:
            lines.append(f"  … and {len(plan.skipped) - _SHOWN} more")
    numbers = [f"{number} {what}" for what, number in counts.items()]
    lines.append(f"Runs: {', '.join([*numbers, f'{len(plan.skipped)} skipped'])}")
    return "\n".join(lines)


def _line(file: PlannedFile, paths: tuple[Path, ...], is_there: bool) -> str:
    """A file of a plan: its run, outputs and inputs."""
    inputs = ", ".join(str(path) for path in (file.gcd, *file.inputs) if path is not None)
    mark = " (there already)" if is_there else ""
    return (
        f"  {file.dataset}, run {file.run_number}: {', '.join(map(str, paths))}{mark}\n"
        f"    from {inputs}"
    )
