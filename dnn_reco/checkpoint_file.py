"""Checkpoints: all that training needs to go on exactly where it stopped.

A checkpoint is a folder ``checkpoint-<iterations>`` with ``state.safetensors`` (weights and their
moving average, optimizer state, unfinished gradients, label weights) and ``state.json``
(iterations, training steps, label names, kinds of the optimizers). It is written under a temporary
name, flushed to the disk and renamed: whatever kills the program, the last whole checkpoint stays.

The subfolder ``best`` holds, in the same form, the checkpoint with the smallest loss on the
validation set. (Between two checkpoints there can be two: the last is the best.)
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dnn_reco.errors import ModelError
from dnn_reco.files import temporary_beside
from dnn_reco.nn.interface import Network
from dnn_reco.nn.weights import load_weights
from dnn_reco.training.early_stopping import BestCheckpoint

BEST = "best"  # the subfolder
KEEP_ALL = 10**9  # as `max_to_keep`
_FORMAT = "dnn_reco checkpoint 1"
_NAME = re.compile(r"checkpoint-(\d{8,})")
_ANOTHER_MODEL = (
    "Give this config a unique_name (model_checkpoint_path) of its own, or set "
    "model_restore_model: False to start anew"
)


@dataclass(frozen=True)
class Progress:
    """How far training has come.

    Attributes
    ----------
    iterations
        Number of iterations done, over all training steps.
    training_steps
        Iterations done in each training step (call of the program) so far.
    label_names
        Labels of the network, in order.
    transformation
        Digest of the transformation model that the network was trained with.
    seed
        Seed of the run.
    optimizers
        Kind of each optimizer (:func:`optimizer_kind`) by its name.
    best
        The best evaluation of the validation set so far; None: there is no such set.
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
    """A checkpoint as read: progress and tensors by name."""

    path: Path
    progress: Progress
    tensors: Mapping[str, Tensor]

    def section(self, name: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `name` and a slash, without that."""
        start = f"{name}/"
        return {k[len(start) :]: v for k, v in self.tensors.items() if k.startswith(start)}

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights to predict with: their moving average, if there is one."""
        return self.section("average") or self.section("network")


def save_checkpoint(
    folder: Path, progress: Progress, tensors: Mapping[str, Tensor], max_to_keep: int
) -> Path:
    """Write a checkpoint, then remove the oldest ones but `max_to_keep`.

    Returns the folder of the checkpoint.
    """
    path = folder / f"checkpoint-{progress.iterations:08d}"
    if path not in _checkpoints(folder):
        shutil.rmtree(path, ignore_errors=True)  # what is not whole
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
    """Remove a checkpoint; from the first moment on it does not count as whole any more."""
    (checkpoint / "state.json").unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints in a folder, oldest first."""
    found = [
        path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if _NAME.fullmatch(path.name) and (path / "state.json").is_file()
    ]
    return sorted(found, key=_iterations)


def _iterations(checkpoint: Path) -> int:
    """The number of iterations that stands in the name of a checkpoint."""
    return int(checkpoint.name.rpartition("-")[2])


def latest_path(folder: Path) -> Path | None:
    """Where the newest checkpoint of a folder is, None if there is none."""
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
    """The newest checkpoints of a folder, at most so many, the oldest of them first.

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
            f"the checkpoint '{path}' is damaged ({error}): remove that folder to go on from the "
            "one before it"
        ) from error
    return Checkpoint(path, progress, tensors)


def restore_network(
    network: Network, checkpoint: Checkpoint, label_names: tuple[str, ...], transformation: str
) -> None:
    """Give a network the weights of a checkpoint, to go on training.

    Parameters
    ----------
    network
        The network.
    checkpoint
        The checkpoint.
    label_names
        Labels of the network, in order.
    transformation
        Digest of its transformation model.

    Raises
    ------
    ModelError
        If the checkpoint is of another network, other labels or another transformation model.
    """
    if checkpoint.progress.label_names != label_names:
        old, new = set(checkpoint.progress.label_names), set(label_names)
        raise ModelError(
            f"the checkpoint '{checkpoint.path}' was trained with other labels: it lacks "
            f"{sorted(new - old) or 'none'} and has {sorted(old - new) or 'none'} besides"
            f"{'' if old != new else ' (the order differs)'}. {_ANOTHER_MODEL}"
        )
    if checkpoint.progress.transformation != transformation:
        raise ModelError(
            f"the checkpoint '{checkpoint.path}' was trained with another transformation model "
            "than the one at trafo_model_path, which was made anew since: bring the old file "
            "back, or set model_restore_model: False to start anew"
        )
    try:
        load_weights(network, checkpoint.section("network"))
    except ModelError as error:
        raise ModelError(
            f"the checkpoint '{checkpoint.path}' is of another network: {error}. {_ANOTHER_MODEL}"
        ) from error


def optimizer_kind(optimizer: torch.optim.Optimizer) -> str:
    """Its class and the settings on which depends what it keeps in mind, such as "SGD momentum"."""
    settings = optimizer.param_groups[0]
    switches = [name for name in ("amsgrad", "centered", "momentum") if settings.get(name)]
    return " ".join([type(optimizer).__name__, *switches])


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """State of an optimizer by parameter name and kind, such as ``fc.0.weight/exp_avg``."""
    return {
        f"{name}/{kind}": torch.as_tensor(value)
        for name, parameter in parameters.items()
        for kind, value in optimizer.state.get(parameter, {}).items()
        if value is not None
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
) -> None:
    """Give an optimizer back the state that :func:`optimizer_tensors` took."""
    state = optimizer.state_dict()
    by_parameter: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, kind = key.rsplit("/", 1)
        by_parameter.setdefault(name, {})[kind] = tensor
    numbers = {name: number for number, name in enumerate(parameters)}
    state["state"] |= {
        numbers[name]: kinds for name, kinds in by_parameter.items() if name in numbers
    }
    optimizer.load_state_dict(state)
    for name, parameter in parameters.items():
        kept = optimizer.state.get(parameter, {})
        for kind, tensor in by_parameter.get(name, {}).items():  # PyTorch may have changed the type
            kept[kind] = kept[kind].to(tensor.dtype)
