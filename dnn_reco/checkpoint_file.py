"""Checkpoints: the complete state of a training, from which it resumes exactly.

A checkpoint is a folder ``checkpoint-<iterations>`` with ``state.safetensors`` (weights and their
exponential moving average, optimizer state, accumulated gradients, label weights) and
``state.json`` (iterations, training steps, label names, kinds of the optimizers, and SHA-256
digests of all this and of the tensors, which are verified on loading). It is written under a
temporary name, flushed to the disk and renamed: the last complete checkpoint remains, whatever
kills the program.

The subfolder ``best`` contains, in the same format, the checkpoint with the smallest loss on the
validation set. (It can temporarily contain two: the last one is the best.)
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dnn_reco.errors import ModelError, TrainingError
from dnn_reco.files import TEMPORARY, file_digest, temporary_beside
from dnn_reco.foreign_files import parse_json

_log = logging.getLogger(__name__)

BEST = "best"  # the subfolder
KEEP_ALL = 10**9  # as `max_to_keep`
_FORMAT = "dnn_reco checkpoint 2"
_NAME = re.compile(r"checkpoint-(\d{8,})")
_TENSORS, _STATE = "state.safetensors", "state.json"


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
        Number of evaluations since then, or since the stage began, without improvement.
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
    code
        Digest of the source file of each loss and network of the user, by dotted name.
    best
        The best evaluation of the validation set so far; None: there is no validation set.
    initial_weights
        SHA-256 of the file of weights that the training began with; empty: random ones.
    """

    iterations: int
    training_steps: tuple[int, ...]
    label_names: tuple[str, ...]
    transformation: str
    seed: int
    optimizers: Mapping[str, str] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    best: BestCheckpoint | None = None
    initial_weights: str = ""


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

    Raises
    ------
    TrainingError
        If it cannot be written, for example because the disk is full; earlier ones are kept.
    """
    path = folder / f"checkpoint-{progress.iterations:08d}"
    if path not in _checkpoints(folder):
        try:
            _write(path, progress, tensors)
        except (OSError, SafetensorError) as error:
            raise TrainingError(
                f"the checkpoint '{path}' cannot be written ({error}). Those before it are kept; "
                "once it can be written, run the same command to resume from the last one"
            ) from error
    for rest in folder.glob(f"{TEMPORARY}checkpoint-*"):  # of programs that were killed here
        shutil.rmtree(rest, ignore_errors=True)
    for old in _checkpoints(folder)[:-max_to_keep]:
        _remove(old)
    return path


def _write(path: Path, progress: Progress, tensors: Mapping[str, Tensor]) -> None:
    shutil.rmtree(path, ignore_errors=True)  # an incomplete checkpoint
    with temporary_beside(path) as temporary:
        part = temporary / path.name
        part.mkdir()
        on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(on_cpu, part / _TENSORS, metadata={"format": _FORMAT})
        description = {"format": _FORMAT, **asdict(progress)}
        digests = {_TENSORS: file_digest(part / _TENSORS), _STATE: _state_digest(description)}
        (part / _STATE).write_text(json.dumps({**description, "sha256": digests}, indent=1))
        for written in (*part.iterdir(), part):
            _flush(written)
        part.rename(path)
    _flush(path.parent)


def _state_digest(description: Mapping[str, Any]) -> str:
    """Digest of `state.json` without its digests."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def remove_checkpoints(folder: Path, unwanted: Callable[[int], bool]) -> None:
    """Remove the checkpoints of a folder whose number of iterations is unwanted."""
    for path in _checkpoints(folder):
        if unwanted(_iterations(path)):
            _remove(path)


def set_aside_later(folder: Path, iterations: int) -> None:
    """Rename the checkpoints of more iterations than the one that a training resumes from.

    They are damaged (:func:`load_latest`), and would pass for the newest. They become
    ``damaged-checkpoint-<iterations>``.
    """
    for path in _checkpoints(folder):
        if _iterations(path) > iterations:
            target = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(target, ignore_errors=True)
            path.rename(target)


def has_best(folder: Path) -> bool:
    """Whether there is a best checkpoint beside those of a folder."""
    return bool(_checkpoints(folder / BEST))


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint; the first step already marks it as incomplete."""
    (checkpoint / _STATE).unlink(missing_ok=True)
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
        if _NAME.fullmatch(path.name) and (path / _STATE).is_file()
    ]
    return sorted(found, key=_iterations)


def _iterations(checkpoint: Path) -> int:
    """The number of iterations in the name of a checkpoint."""
    return int(checkpoint.name.rpartition("-")[2])


def latest_path(folder: Path) -> Path | None:
    """Path of the newest checkpoint of a folder, None if there is none."""
    return next(reversed(_checkpoints(folder)), None)


def latest_iterations(folder: Path) -> int:
    """Iterations of the newest checkpoint of a folder that is not damaged, 0 if there is none."""
    for path in reversed(_checkpoints(folder)):
        try:
            return _load(path).progress.iterations
        except ModelError:
            continue
    return 0


def load_latest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint of a folder, None if there is none.

    A damaged one is skipped with a warning.

    Raises
    ------
    ModelError
        If all are damaged.
    """
    return next(_newest_first(folder), None)


def load_named(folder: Path, name: str) -> Checkpoint:
    """A checkpoint of a folder by name: `latest`, `best`, or its number of iterations.

    Raises
    ------
    ModelError
        If there is no such checkpoint, or it is damaged.
    """
    if name == "latest":
        checkpoint = load_latest(folder)
    elif name == BEST:
        checkpoint = load_latest(folder / BEST)
    else:
        paths = [path for path in _checkpoints(folder) if str(_iterations(path)) == name]
        checkpoint = _load(paths[0]) if paths else None
    if checkpoint is not None:
        return checkpoint
    there = [str(_iterations(path)) for path in _checkpoints(folder)]
    best = [BEST] if has_best(folder) else []
    if not there and not best:
        raise ModelError(f"there is no checkpoint in '{folder}': train the network first")
    raise ModelError(
        f"there is no checkpoint '{name}' in '{folder}'. Available: {', '.join([*there, *best])}"
    )


def load_newest(folder: Path, count: int) -> list[Checkpoint]:
    """The newest `count` checkpoints of a folder (or fewer), the oldest of them first.

    Damaged ones are skipped with a warning.

    Raises
    ------
    ModelError
        If all are damaged.
    """
    return list(islice(_newest_first(folder), count))[::-1]


def _newest_first(folder: Path) -> Iterator[Checkpoint]:
    """The checkpoints that are not damaged; warns about each other one on the way."""
    paths = _checkpoints(folder)
    num_whole = 0
    for path in reversed(paths):
        try:
            checkpoint = _load(path)
        except ModelError as error:
            if path == paths[0] and not num_whole:
                raise ModelError(
                    f"{error}, and there is no earlier one: restore a copy of it, or set "
                    "model_restore_model: False to train from the start"
                ) from error
            _log.warning("%s: the previous checkpoint is used.", error)
            continue
        num_whole += 1
        yield checkpoint


def _load(path: Path) -> Checkpoint:
    """Load and verify a checkpoint.

    Raises
    ------
    ModelError
        If it is damaged; the sentence continues.
    """
    try:
        progress = _verified_progress(path)
        tensors = load_file(path / _TENSORS)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,  # of the digest of what could still be parsed
        SafetensorError,
    ) as error:
        reason = f"{error!r}" if isinstance(error, KeyError) else error
        raise ModelError(f"the checkpoint '{path}' is damaged ({reason})") from error
    return Checkpoint(path, progress, tensors)


def _verified_progress(path: Path) -> Progress:
    """What `state.json` holds, after verification of the digests and of the number of iterations.

    Checkpoints of earlier versions have no digests.
    """
    description = parse_json((path / _STATE).read_text())
    digests = description.pop("sha256", None)
    if digests is not None and digests[_STATE] != _state_digest(description):
        raise ValueError(f"the digest of '{_STATE}' differs from the one recorded there")
    if digests is not None and digests[_TENSORS] != file_digest(path / _TENSORS):
        raise ValueError(f"the digest of '{_TENSORS}' differs from the one in '{_STATE}'")
    if (found := description.pop("format", None)) != _FORMAT:
        raise ValueError(f"its format is {found!r}, this version of the package reads '{_FORMAT}'")
    if unknown := description.keys() - {each.name for each in fields(Progress)}:
        raise ValueError(f"'{_STATE}' has unknown keys: {', '.join(sorted(unknown))}")
    progress = Progress(
        iterations=int(description["iterations"]),
        training_steps=tuple(int(n) for n in description["training_steps"]),
        label_names=tuple(str(n) for n in description["label_names"]),
        transformation=str(description["transformation"]),
        seed=int(description["seed"]),
        optimizers={str(k): str(v) for k, v in description.get("optimizers", {}).items()},
        code={str(k): str(v) for k, v in description.get("code", {}).items()},
        best=BestCheckpoint.read(description.get("best")),
        initial_weights=str(description.get("initial_weights", "")),
    )
    if progress.iterations != _iterations(path):
        raise ValueError(f"it holds the state after {progress.iterations} iterations")
    return progress
