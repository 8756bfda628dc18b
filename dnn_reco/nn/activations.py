"""Activation functions by the names that configs use, those of TensorFlow first.

All act element by element, and may overwrite their argument. `''` is the identity. Functions
with trainable parameters (`prelu`, `pelu`, `pgaussian`) are not built yet and are refused.
"""

import difflib
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from dnn_reco.errors import ModelError

Activation = Callable[[Tensor], Tensor]


def _identity(x: Tensor) -> Tensor:
    return x


def _elu(x: Tensor) -> Tensor:
    # in place, the backward pass needs no exponential
    return functional.elu(x, inplace=True)


def _leaky_relu(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.2)


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.01)


def _requ(x: Tensor) -> Tensor:
    return functional.relu(x).square()


def _centered_relu(x: Tensor) -> Tensor:
    return functional.relu6(x) - 3


def _neg_relu(x: Tensor) -> Tensor:
    return -functional.relu(x)


def _inv_relu(x: Tensor) -> Tensor:
    return torch.where(x < 0, x, (functional.relu(x) + 1e-8).reciprocal())


def _gaussian(x: Tensor) -> Tensor:
    return torch.exp(-x.square())


ACTIVATIONS: dict[str, Activation] = {
    "": _identity,
    "abs": torch.abs,
    "centeredRelu": _centered_relu,
    "cos": torch.cos,
    "elu": _elu,
    "exp": torch.exp,
    "gaussian": _gaussian,
    "gelu": functional.gelu,
    "identity": _identity,
    "invrelu": _inv_relu,
    "leaky": _leaky,
    "leaky_relu": _leaky_relu,
    "negrelu": _neg_relu,
    "relu": functional.relu,
    "relu6": functional.relu6,
    "requ": _requ,
    "selu": functional.selu,
    "sigmoid": torch.sigmoid,
    "sign": torch.sign,
    "silu": functional.silu,
    "sin": torch.sin,
    "softplus": functional.softplus,
    "softsign": functional.softsign,
    "square": torch.square,
    "swish": functional.silu,
    "tanh": torch.tanh,
}

_PARAMETRISED = ("pelu", "pgaussian", "prelu")


def find_activation(name: object, where: str) -> Activation:
    """The activation function of a name.

    Parameters
    ----------
    name
        As written in the config.
    where
        Settings block, option and layer, for the error message.

    Raises
    ------
    ModelError
        If the name is unknown, or names a function that is not supported yet.
    """
    if isinstance(name, str) and name in ACTIVATIONS:
        return ACTIVATIONS[name]
    if name in _PARAMETRISED:
        raise ModelError(
            f"{where}: activation '{name}' has trainable parameters, which are not supported yet. "
            f"Supported: {_listed(ACTIVATIONS)}."
        )
    close = difflib.get_close_matches(str(name), ACTIVATIONS, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    raise ModelError(f"{where}: no activation {name!r}.{hint} Supported: {_listed(ACTIVATIONS)}.")


def _listed(names: dict[str, Activation]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))
