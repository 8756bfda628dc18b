"""Checkpoints: the complete state of a training, from which it resumes exactly.

A checkpoint is a folder ``checkpoint-<iterations>`` with ``state.safetensors`` (weights and their
exponential moving average, optimizer state, accumulated gradients, label weights) and
``state.json`` (iterations, training steps, label names, kinds of the optimizers). It is written
under a temporary name, flushed to the disk and renamed: the last complete checkpoint remains,
whatever kills the program.

The subfolder ``best`` contains, in the same format, the checkpoint with the smallest loss on the
validation set. (It can temporarily contain two: the last one is the best.)
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dnn_reco.errors import ModelError
from dnn_reco.files import temporary_beside

BEST = "best"  # the subfolder
KEEP_ALL = 10**9  # as `max_to_keep`
_FORMAT = "dnn_reco checkpoint 2"
_NAME = re.compile(r"checkpoint-(\d{8,})")


@dataclass(frozen=True)
class BestCheckpoint:
    """The smallest loss on the validation set, for early stopping; saved in checkpoints.

    Attributes
    ----------
    measure
        Digest of the definition of the loss: only losses with the same digest are comparable.
    loss
        The smallest loss; None if there was no finite one yet.
    iterations
        Number of iterations done at the smallest loss.
    evaluations_since
        Number of evaluations since then, without improvement.
    """

    measure: str
    loss: float | None = None
    iterations: int = 0
    evaluations_since: int = 0

    def updated(self, loss: float, iterations: int) -> BestCheckpoint:
        """The best after one more evaluation; a loss that is not finite is never better."""
        if math.isfinite(loss) and (self.loss is None or loss < self.loss):
            return BestCheckpoint(self.measure, loss, iterations)
        return replace(self, evaluations_since=self.evaluations_since + 1)

    @classmethod
    def read(cls, description: Mapping[str, Any] | None) -> BestCheckpoint | None:
        """From the result of `dataclasses.asdict`; None for older checkpoints without it."""
        if description is None:
            return None
        loss = description["loss"]
        return cls(
            measure=str(description["measure"]),
            loss=None if loss is None else float(loss),
            iterations=int(description["iterations"]),
            evaluations_since=int(description["evaluations_since"]),
        )


@dataclass(frozen=True)
class Progress:
    """The progress of a training.

    Attributes
    ----------
    iterations
        Number of iterations done, over all training steps.
    training_steps
        Iterations done in each training step (call of the program) so far.
    label_names
        Labels of the network, in order.
    transformation
        Digest of the transformation model of the network.
    seed
        Seed of the run.
    optimizers
        Kind of each optimizer (:func:`optimizer_kind`) by its name.
    best
        The best evaluation of the validation set so far; None: there is no validation set.
    """

    iterations: int
    training_steps: tuple[int, ...]
    label_names: tuple[str, ...]
    transformation: str
    seed: int
    optimizers: Mapping[str, str] = field(default_factory=dict)
    best: BestCheckpoint | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: progress, and tensors by name."""

    path: Path
    progress: Progress
    tensors: Mapping[str, Tensor]

    def section(self, name: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `name` and a slash, without this prefix."""
        prefix = f"{name}/"
        return {
            key.removeprefix(prefix): tensor
            for key, tensor in self.tensors.items()
            if key.startswith(prefix)
        }

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights for predictions: their exponential moving average, if there is one."""
        return self.section("ema") or self.section("network")


def save_checkpoint(
    folder: Path, progress: Progress, tensors: Mapping[str, Tensor], max_to_keep: int
) -> Path:
    """Write a checkpoint, then remove the oldest ones except the newest `max_to_keep`.

    Returns the folder of the checkpoint.
    """
    path = folder / f"checkpoint-{progress.iterations:08d}"
    if path not in _checkpoints(folder):
        shutil.rmtree(path, ignore_errors=True)  # an incomplete checkpoint
        with temporary_beside(path) as temporary:
            part = temporary / path.name
            part.mkdir()
            on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            save_file(on_cpu, part / "state.safetensors", metadata={"format": _FORMAT})
            description = {"format": _FORMAT, **asdict(progress)}
            (part / "state.json").write_text(json.dumps(description, indent=1))
            for written in (*part.iterdir(), part):
                _flush(written)
            part.rename(path)
        _flush(folder)
    for rest in folder.glob(".tmp-checkpoint-*"):  # of programs that were killed here
        shutil.rmtree(rest, ignore_errors=True)
    for old in _checkpoints(folder)[:-max_to_keep]:
        _remove(old)
    return path


def remove_checkpoints(folder: Path, unwanted: Callable[[int], bool]) -> None:
    """Remove the checkpoints of a folder whose number of iterations is unwanted."""
    for path in _checkpoints(folder):
        if unwanted(_iterations(path)):
            _remove(path)


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint; the first step already marks it as incomplete."""
    (checkpoint / "state.json").unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints in a folder, oldest first."""
    found = [
        path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if _NAME.fullmatch(path.name) and (path / "state.json").is_file()
    ]
    return sorted(found, key=_iterations)


def _iterations(checkpoint: Path) -> int:
    """The number of iterations in the name of a checkpoint."""
    return int(checkpoint.name.rpartition("-")[2])


def latest_path(folder: Path) -> Path | None:
    """Path of the newest checkpoint of a folder, None if there is none."""
    return next(reversed(_checkpoints(folder)), None)


def latest_iterations(folder: Path) -> int:
    """The number of iterations of the newest checkpoint of a folder, 0 if there is none."""
    path = latest_path(folder)
    return 0 if path is None else _iterations(path)


def load_latest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint of a folder, None if there is none.

    Raises
    ------
    ModelError
        If it is damaged.
    """
    return next(iter(load_newest(folder, 1)), None)


def load_newest(folder: Path, count: int) -> list[Checkpoint]:
    """The newest `count` checkpoints of a folder (or fewer), the oldest of them first.

    Raises
    ------
    ModelError
        If one is damaged.
    """
    return [_load(path) for path in _checkpoints(folder)[-count:]]


def _load(path: Path) -> Checkpoint:
    try:
        description = json.loads((path / "state.json").read_text())
        if description.pop("format", None) != _FORMAT:
            raise ModelError(f"'{path}' is not a checkpoint of this version of the package")
        progress = Progress(
            iterations=int(description["iterations"]),
            training_steps=tuple(int(n) for n in description["training_steps"]),
            label_names=tuple(str(n) for n in description["label_names"]),
            transformation=str(description["transformation"]),
            seed=int(description["seed"]),
            optimizers={str(k): str(v) for k, v in description.get("optimizers", {}).items()},
            best=BestCheckpoint.read(description.get("best")),
        )
        tensors = load_file(path / "state.safetensors")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise ModelError(
            f"the checkpoint '{path}' is damaged ({error}): remove that folder to resume from the "
            "one before it"
        ) from error
    return Checkpoint(path, progress, tensors)
