"""Resuming from a checkpoint: which parts fit the network and optimizers of this training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from dnn_reco.checkpoint_file import Checkpoint
from dnn_reco.config import Config, load_config, source_hash
from dnn_reco.data.from_config import with_relative_times
from dnn_reco.errors import ConfigError, ModelError
from dnn_reco.nn.interface import Network
from dnn_reco.nn.weights import load_weights
from dnn_reco.provenance import config_record
from dnn_reco.transform import TransformationModel, settings_differences

_ANOTHER_MODEL = (
    "Give this config its own unique_name (model_checkpoint_path), or set "
    "model_restore_model: False to train from the start"
)


def restore_network(
    network: Network, checkpoint: Checkpoint, label_names: tuple[str, ...], transformation: str
) -> None:
    """Give a network the weights of a checkpoint, to resume training.

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
        If the checkpoint belongs to another network, other labels or another transformation model.
    """
    if checkpoint.progress.label_names != label_names:
        old, new = set(checkpoint.progress.label_names), set(label_names)
        raise ModelError(
            f"the checkpoint '{checkpoint.path}' was trained with different labels: it lacks "
            f"{sorted(new - old) or 'none'} and has {sorted(old - new) or 'none'} more"
            f"{'' if old != new else ' (the order differs)'}. {_ANOTHER_MODEL}"
        )
    if checkpoint.progress.transformation != transformation:
        raise ModelError(
            f"the checkpoint '{checkpoint.path}' was trained with a different transformation "
            "model; the one at trafo_model_path has since been fitted again: restore the old "
            "file, or set model_restore_model: False to train from the start"
        )
    try:
        load_weights(network, checkpoint.section("network"))
    except ModelError as error:
        raise ModelError(
            f"the checkpoint '{checkpoint.path}' belongs to a different network: {error}. "
            f"{_ANOTHER_MODEL}"
        ) from error


def check_relative_times(
    checkpoint: Checkpoint, transformation: TransformationModel, config: Config
) -> None:
    """Check that the same labels and misc data are relative times as before a checkpoint.

    Newer transformation models record them, for others the record of the training counts.

    Raises
    ------
    ModelError
        Naming the columns that differ.
    """
    folder = checkpoint.path.parent.parent
    try:
        recorded = load_config([config_record(folder, len(checkpoint.progress.training_steps) - 1)])
    except ConfigError:
        return
    differences = settings_differences(
        with_relative_times(transformation, recorded),
        with_relative_times(transformation, config).settings,
    )
    if differences:
        listed = "\n".join(differences)
        raise ModelError(
            f"the checkpoint '{checkpoint.path}' was trained with other labels of the same "
            f"names:\n{listed}\n{_ANOTHER_MODEL}"
        )


@contextmanager
def incomplete_state(checkpoint: Checkpoint) -> Iterator[None]:
    """Turn what goes wrong while state is taken from a checkpoint into a ModelError."""
    try:
        yield
    except (KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
        lacking = f"lacks {error}" if isinstance(error, KeyError) else f"does not fit: {error}"
        raise ModelError(
            f"the state of the training in the checkpoint '{checkpoint.path}' {lacking}. Remove "
            "that folder to resume from the previous checkpoint"
        ) from error


def code_of_users(plugins: Iterable[Any]) -> dict[str, str]:
    """Digest of the source file of functions and classes that are not of this package, by name."""
    return {
        f"{each.__module__}.{getattr(each, '__qualname__', type(each).__qualname__)}": _digest(each)
        for each in plugins
        if not each.__module__.startswith("dnn_reco.")
    }


def _digest(plugin: Any) -> str:
    """Digest of its source file; empty where it has none, such as compiled code."""
    try:
        return source_hash(plugin)
    except ConfigError:
        return ""


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
    """Give an optimizer back the state that :func:`optimizer_tensors` took.

    Raises
    ------
    ValueError
        If it lacks a part, or a part has another shape than its parameter.
    """
    state = optimizer.state_dict()
    by_parameter: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, kind = key.rsplit("/", 1)
        by_parameter.setdefault(name, {})[kind] = tensor
    _check_optimizer_state(parameters, by_parameter)
    numbers = {name: number for number, name in enumerate(parameters)}
    state["state"] |= {
        numbers[name]: kinds for name, kinds in by_parameter.items() if name in numbers
    }
    optimizer.load_state_dict(state)
    for name, parameter in parameters.items():
        kept = optimizer.state.get(parameter, {})
        for kind, tensor in by_parameter.get(name, {}).items():  # PyTorch may have changed the type
            kept[kind] = kept[kind].to(tensor.dtype)


def _check_optimizer_state(
    parameters: Mapping[str, Tensor], state: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Check that parameters of as many dimensions have the same kinds of state, of their shape."""
    kinds: dict[int, set[str]] = {}
    known = {name: of for name, of in state.items() if name in parameters}
    for name, of_parameter in known.items():
        kinds.setdefault(parameters[name].dim(), set()).update(of_parameter)
    for name, of_parameter in known.items():
        parameter = parameters[name]
        if missing := kinds[parameter.dim()] - of_parameter.keys():
            raise ValueError(f"'{name}' lacks {', '.join(sorted(missing))}")
        for kind, tensor in of_parameter.items():
            if tensor.dim() == parameter.dim() and not _fits(tensor, parameter):
                raise ValueError(f"'{name}/{kind}' has the shape {tuple(tensor.shape)}")


def _fits(tensor: Tensor, parameter: Tensor) -> bool:
    """Whether it has the shape of a parameter, or is reduced in some dimensions (Adafactor)."""
    return all(n in (1, m) for n, m in zip(tensor.shape, parameter.shape, strict=True))
