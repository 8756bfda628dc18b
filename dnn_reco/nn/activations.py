"""Activation functions by the names that configs use, those of TensorFlow first.

All act element-wise, except those of the softmax, which act along the channels; all may overwrite
their argument. `''` is the identity. Some have trainable
weights, one for each position and channel.
"""

from collections.abc import Callable, Sequence
from typing import Annotated

import torch
from pydantic import PlainValidator
from torch import Tensor, nn
from torch.nn import functional

from dnn_reco.suggestions import did_you_mean

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


def _softmax(x: Tensor) -> Tensor:
    return functional.softmax(x, dim=1)


def _log_softmax(x: Tensor) -> Tensor:
    return functional.log_softmax(x, dim=1)


ACTIVATIONS: dict[str, Activation] = {
    "": _identity,
    "abs": torch.abs,
    "acos": torch.acos,
    "acosh": torch.acosh,
    "asin": torch.asin,
    "asinh": torch.asinh,
    "atan": torch.atan,
    "atanh": torch.atanh,
    "ceil": torch.ceil,
    "centeredRelu": _centered_relu,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "digamma": torch.digamma,
    "elu": _elu,
    "erf": torch.erf,
    "erfc": torch.erfc,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "floor": torch.floor,
    "gaussian": _gaussian,
    "gelu": functional.gelu,
    "identity": _identity,
    "invrelu": _inv_relu,
    "leaky": _leaky,
    "leaky_relu": _leaky_relu,
    "lgamma": torch.lgamma,
    "log": torch.log,
    "log1p": torch.log1p,
    "log_sigmoid": functional.logsigmoid,
    "log_softmax": _log_softmax,
    "negative": torch.negative,
    "negrelu": _neg_relu,
    "reciprocal": torch.reciprocal,
    "relu": functional.relu,
    "relu6": functional.relu6,
    "requ": _requ,
    "rint": torch.round,
    "round": torch.round,
    "rsqrt": torch.rsqrt,
    "selu": functional.selu,
    "sigmoid": torch.sigmoid,
    "sign": torch.sign,
    "silu": functional.silu,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "softmax": _softmax,
    "softplus": functional.softplus,
    "softsign": functional.softsign,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "swish": functional.silu,
    "tan": torch.tan,
    "tanh": torch.tanh,
}


MakeWeights = Callable[[float], nn.Parameter]
"""Makes initial weights [*positions, C] of the given standard deviation around 0."""


class _Trainable(nn.Module):
    """An activation function with weights [*positions, C], for inputs [B, C, *positions]."""

    def __init__(self, names: Sequence[str], make_weights: MakeWeights, std: float) -> None:
        super().__init__()
        self._names = tuple(names)
        for name in names:
            self.register_parameter(name, make_weights(std))

    def _weights(self) -> list[Tensor]:
        """The weights as [C, *positions]."""
        return [self.get_parameter(name).movedim(-1, 0) for name in self._names]


class PReLU(_Trainable):
    """x, below zero x (w + 1)."""

    def __init__(self, make_weights: MakeWeights) -> None:
        super().__init__(["slope_weight"], make_weights, std=1.0)  # as the reference

    def forward(self, x: Tensor) -> Tensor:
        """Apply to [B, C, *positions]."""
        (weight,) = self._weights()
        return torch.where(x < 0, x * (weight + 1), x)


class PELU(_Trainable):
    """x a / b, below zero a (e^(x / b) - 1), with a = w_a + 1 and b = w_b + 1."""

    def __init__(self, make_weights: MakeWeights) -> None:
        # b must stay away from 0
        super().__init__(["a_weight", "b_weight"], make_weights, std=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to [B, C, *positions]."""
        a, b = (weight + 1 for weight in self._weights())
        ratio = x / b
        # exponentials of large numbers would spoil the gradient, although they are not used
        return a * torch.where(x < 0, torch.expm1(torch.where(x < 0, ratio, 0)), ratio)


class PGaussian(_Trainable):
    """e^(-((x - μ) / s)² / 2) / s, with s = w_s + 1."""

    def __init__(self, make_weights: MakeWeights) -> None:
        # s must stay away from 0
        super().__init__(["sigma_weight", "mu"], make_weights, std=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to [B, C, *positions]."""
        weight, mu = self._weights()
        sigma = weight + 1
        return torch.exp(-((x - mu) / sigma).square() / 2) / sigma


_TRAINABLE: dict[str, Callable[[MakeWeights], nn.Module]] = {
    "pelu": PELU,
    "pgaussian": PGaussian,
    "prelu": PReLU,
}


_NAMES = sorted({*ACTIVATIONS, *_TRAINABLE})


def _known_name(name: object) -> str:
    if isinstance(name, str) and name in _NAMES:
        return name
    listed = ", ".join(f"'{each}'" for each in _NAMES)
    raise ValueError(f"allowed: {listed}.{did_you_mean(name, _NAMES)}")


ActivationName = Annotated[str, PlainValidator(_known_name)]
"""Type of a setting: the name of an activation function, checked."""


def make_activation(name: str, make_weights: MakeWeights) -> Activation:
    """The activation function of a name (an `ActivationName`).

    One with weights is a module that holds them, for inputs [B, C, *positions].
    """
    return _TRAINABLE[name](make_weights) if name in _TRAINABLE else ACTIVATIONS[name]
