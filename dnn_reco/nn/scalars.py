"""Scalars that users' own networks and losses write to TensorBoard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

from dnn_reco.errors import ConfigError

_collected: ContextVar[dict[str, float] | None] = ContextVar("scalars", default=None)


def add_scalar(tag: str, value: float | Tensor) -> None:
    """Write a scalar to TensorBoard, from a network or a loss.

    It is written for the training and the validation batch of the printed metrics (every
    `validation_frequency` iterations); in all other batches the call does nothing, and costs
    nothing. Of several values of a tag for one batch the last is written.

    Parameters
    ----------
    tag
        Its name in TensorBoard, such as "own/width".
    value
        A number, or a tensor of one element.

    Raises
    ------
    ConfigError
        If the value is anything else.
    """
    scalars = _collected.get()
    if scalars is None:
        return
    try:
        scalars[str(tag)] = float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"add_scalar('{tag}', …) takes a number or a tensor of one element: {error}"
        ) from error


@contextmanager
def collect_scalars(scalars: dict[str, float]) -> Iterator[None]:
    """Collect the scalars that are added inside, by tag."""
    token = _collected.set(scalars)
    try:
        yield
    finally:
        _collected.reset(token)
