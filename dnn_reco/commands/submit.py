"""`submit train`: submit a training to the batch system of a cluster."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from dnn_reco.cluster import (
    LOG,
    SAVED,
    Job,
    Resources,
    job_files,
    read_options,
    setup_lines,
    submit,
    write_files,
)
from dnn_reco.config import TRAINING_KEYS, Config
from dnn_reco.errors import ConfigError
from dnn_reco.files import find_files
from dnn_reco.transform import load_transformation


def run_submit(
    stages: Sequence[Config],
    cluster: str,
    out: Path | None,
    resources: Resources,
    env_setup: str | None,
    options: Sequence[str],
    train_options: Sequence[str],
    dry_run: bool,
) -> None:
    """Write the files of a job that trains, and submit it to the cluster.

    Parameters
    ----------
    stages
        What to train: the config of each stage. They are checked first.
    cluster
        A key of `CLUSTERS`.
    out
        Folder of the files; by default beside that of the checkpoints.
    resources
        What the job needs.
    env_setup
        A file or a line of bash that brings `dnn-reco`; by default the present Python is used.
    options
        Further settings of the batch system, `KEY=VALUE`.
    train_options
        Further options of `train`.
    dry_run
        Print the files and do nothing.
    """
    for config in stages:
        _check_config(config)
    config = stages[0]
    folder = (out or Path(config.model.model_checkpoint_path).parent / "jobs").absolute()
    program, setup = _environment(env_setup)
    saving = ("--checkpoint-exit-code", str(SAVED))
    sharing = ("--processes", str(resources.gpus)) if resources.gpus > 1 else ()
    job = Job(
        name="dnn_reco_" + re.sub(r"[^\w.-]", "_", config.name, flags=re.ASCII),
        command=(*program, "train", *map(str, config.paths), *saving, *sharing, *train_options),
        directory=Path.cwd(),
        folder=Path(os.path.normpath(folder)),
        setup=setup,
        resources=resources,
        options=read_options(options, "--option"),
    )
    files = job_files(cluster, job)
    if dry_run:
        for path, text in files.items():
            click.echo(f"# ---- {path}\n{text}")
        return
    write_files(files)
    reply = submit(cluster, job.folder)
    click.echo(f"{reply}\nThe output of the training goes to '{job.folder / LOG}'.")


def _check_config(config: Config) -> None:
    """Find now what would end the job at once, or make it start again each time it is queued."""
    config.require(*TRAINING_KEYS)
    for key, needed in (
        ("model_save_model", config.model.model_save_model),
        ("model_restore_model", config.model.model_restore_model),
    ):
        if not needed:
            raise ConfigError(
                f"{key} is False, so a job that is stopped and requeued would lose its training: "
                "set it to True. For a new model choose another unique_name, or move the "
                "old folder of checkpoints away"
            )
    for key in ("training_data_file", "validation_data_file"):
        find_files(getattr(config.data_files, key), key)
    load_transformation(Path(config.trafo.trafo_model_path))


def _environment(env_setup: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Words that start the program, and the lines of bash before."""
    if env_setup is None:
        path = os.environ.get("PYTHONPATH")
        setup = (f"export PYTHONPATH={shlex.quote(path)}",) if path else ()
        return (sys.executable, "-m", "dnn_reco"), setup
    return ("dnn-reco",), setup_lines(env_setup, "--env-setup")
