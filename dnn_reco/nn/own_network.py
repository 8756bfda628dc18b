"""Users' own networks: their mistakes are reported in one message that names the network."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from torch import Tensor, nn

from dnn_reco.config import call_plugin, check_signature, is_of_package
from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.errors import ConfigError
from dnn_reco.nn.interface import Network, NetworkSpec, Prediction
from dnn_reco.nn.misc_data import MiscData

_KEY = "model_class"


def needs_misc(network: object) -> bool:
    """Whether a network reads misc data: its `forward` has an argument `misc`."""
    declared: bool | None = getattr(network, "needs_misc", None)
    if declared is not None:
        return declared
    function: Any = getattr(type(network), "forward", network)
    return _has_misc_argument(function)


@functools.lru_cache(maxsize=64)  # it is asked for each batch, which may be a single event
def _has_misc_argument(function: Callable[..., Any]) -> bool:
    return "misc" in inspect.signature(function).parameters


def call_network(
    network: Callable[..., Prediction], hits: HitBatch, misc: MiscData | None = None
) -> Prediction:
    """Predict a batch of events.

    Parameters
    ----------
    network
        The network.
    hits
        Hits of the events.
    misc
        Their misc data; passed on to networks that read them.

    Raises
    ------
    ConfigError
        If a network of a user fails.
    """
    keywords: dict[str, Any] = {"misc": misc} if needs_misc(network) else {}
    if is_of_package(network):
        return network(hits, **keywords)
    prediction: Prediction = call_plugin(
        network, _name(network), _KEY, "for a batch", hits, error=ConfigError, **keywords
    )
    return prediction


def make_own_network(
    model: Callable[..., Any], name: str, spec: NetworkSpec, kwargs: Mapping[str, Any]
) -> Network:
    """The network that a user's class or function makes; its predictions are checked.

    Parameters
    ----------
    model
        The class or function.
    name
        Its dotted name.
    spec
        Properties of the data.
    kwargs
        Its further arguments.

    Raises
    ------
    ConfigError
        If it cannot be called with these arguments, fails, or gives no `torch.nn.Module`.
    """
    check_signature(model, name, _KEY, kwargs)
    network = call_plugin(model, name, _KEY, "to be made", spec, error=ConfigError, **kwargs)
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"{name} ({_KEY}) must give a torch.nn.Module, but gave {described(network)}"
        )
    if type(network).forward is nn.Module.forward:
        raise ConfigError(f"{name} ({_KEY}) has no method forward(hits) -> Prediction: add it")
    misc = ["misc"] if needs_misc(network) else []
    check_signature(network.forward, f"forward of {name}", _KEY, misc)
    num_labels = len(spec.label_names)
    is_first = True

    def check(
        _: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], prediction: object
    ) -> None:
        hits: HitBatch = (*inputs, *named.values())[0]
        checked = check_prediction(prediction, name, hits.num_events, num_labels)
        nonlocal is_first
        if is_first:  # once: on a GPU, reading a value waits for all of its work
            _check_uncertainties(checked, name)
            is_first = False

    network.register_forward_hook(check, with_kwargs=True)
    return network


def _name(network: object) -> str:
    return f"{type(network).__module__}.{type(network).__qualname__}"


def check_prediction(prediction: object, name: str, num_events: int, num_labels: int) -> Prediction:
    """Check that what a network returns is a prediction of B events and L labels.

    Raises
    ------
    ConfigError
        Naming what it is, and what is needed.
    """
    names = [field.name for field in fields(Prediction) if field.name != "shapes"]
    if not isinstance(prediction, Prediction):
        raise ConfigError(
            f"{name} ({_KEY}) must return a Prediction({', '.join(names)}) of dnn_reco.plugins "
            f"from forward, but returned {described(prediction)}"
        )
    for part in names:
        value = getattr(prediction, part)
        fits = isinstance(value, Tensor) and value.is_floating_point()
        if not fits or value.shape != (num_events, num_labels):
            raise ConfigError(
                f"{name} ({_KEY}) must return a Prediction of floating-point tensors "
                f"[events, labels] = [{num_events}, {num_labels}], but its '{part}' is "
                f"{described(value)}"
            )
    return prediction


def _check_uncertainties(prediction: Prediction, name: str) -> None:
    for part in ("uncertainty_trafo", "uncertainty"):
        lowest = getattr(prediction, part).detach().amin().item() if len(prediction.labels) else 0.0
        if lowest < 0:
            raise ConfigError(
                f"{name} ({_KEY}) must return uncertainties that are not negative, but the lowest "
                f"value of '{part}' is {lowest:.3g}: apply softplus or exp to what the last layer "
                "returns"
            )


def parameter_groups(network: Network) -> dict[str, list[nn.Parameter]]:
    """Trainable parameters by the names that `vars` of an optimizer may use (`pred`, `unc`).

    They are what `network.parameter_groups()` gives; without that method all are `pred`, and `unc`
    is empty.

    Raises
    ------
    ConfigError
        If it gives anything but a mapping from names to parameters of the network.
    """
    name = _name(network)
    own = getattr(network, "parameter_groups", None)
    if own is None:
        return {"pred": [p for p in network.parameters() if p.requires_grad], "unc": []}
    groups = call_plugin(own, f"parameter_groups of {name}", _KEY, "to be read", error=ConfigError)
    if not isinstance(groups, Mapping):
        raise ConfigError(
            f"parameter_groups of {name} ({_KEY}) must return a dict such as "
            f"{{'pred': [...], 'unc': [...]}} of lists of parameters, but returned "
            f"{described(groups)}"
        )
    known = {id(parameter) for parameter in network.parameters()}
    result: dict[str, list[nn.Parameter]] = {}
    for group, members in groups.items():
        result[group] = list(members)
        foreign = [each for each in result[group] if id(each) not in known]
        if foreign:
            raise ConfigError(
                f"parameter_groups of {name} ({_KEY}) lists {described(foreign[0])} in '{group}', "
                "which is not a parameter of the network: use entries of self.parameters()"
            )
    return result


def described(value: object) -> str:
    """What a value is, for messages: its type, and shape or length."""
    if isinstance(value, Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')} and shape {[*value.shape]}"
    kind = "None" if value is None else f"a {type(value).__name__}"
    return f"{kind} of {len(value)}" if isinstance(value, list | tuple | dict) else kind
