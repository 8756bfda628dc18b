"""Parts of a network by name, and which optimizer trains which of them."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from dnn_reco.config import OptimizerSettings
from dnn_reco.errors import ConfigError

_MOST_NAMED = 8  # parameters in a message


def names_in(part: str, names: Iterable[str], groups: Mapping[str, Iterable[str]]) -> list[str]:
    """The parameters among `names` that a part of the network contains.

    Parameters
    ----------
    part
        A group of the network, or a pattern of parameter names with `*`, `?` and `[…]`.
    names
        Names of parameters.
    groups
        Names of the parameters of each group of the network.
    """
    if part in groups:
        members = set(groups[part])
        return [name for name in names if name in members]
    return [name for name in names if fnmatchcase(name, part)]


def some_of(names: Sequence[str]) -> str:
    """A few names for a message, spread over all of them."""
    step = max(1, len(names) // _MOST_NAMED)
    return ", ".join(names[::step][:_MOST_NAMED])


def contained(
    key: str, part: str, names: Sequence[str], groups: Mapping[str, Iterable[str]]
) -> list[str]:
    """As :func:`names_in`, but a part that contains nothing is an error.

    Raises
    ------
    ConfigError
        If it contains none of the parameters; `key` is where it stands in the config.
    """
    found = names_in(part, names, groups)
    if not found:
        raise ConfigError(
            f"{key} names '{part}', which contains none of the parameters that are trained here: "
            f"give one of the groups {', '.join(sorted(groups))}, or a pattern of names such as "
            f"{some_of(names)}"
        )
    return found


def variables(
    key: str, parts: Sequence[str], names: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> list[str]:
    """Names of the parameters that an entry of `model_optimizer_dict` trains.

    A group may be empty, such as `unc` in a network without uncertainties, but not all of them.

    Parameters
    ----------
    key
        Where the parts stand in the config, for messages.
    parts
        Its `vars`.
    names, groups
        Names of all parameters of the network, and of each group.

    Raises
    ------
    ConfigError
        If there is no such group or parameter, or nothing to train.
    """
    found = {
        part: groups[part] if part in groups else names_in(part, names, groups) for part in parts
    }
    unknown = [part for part in parts if part not in groups and not found[part]]
    if unknown:
        raise ConfigError(
            f"{key} names {unknown}, but the network has the groups {sorted(groups)}, and "
            f"parameters such as {some_of(names)}"
        )
    result = list(dict.fromkeys(name for part in parts for name in found[part]))
    if not result:
        raise ConfigError(
            f"{key} names {list(parts)}, which contain no parameters: choose from "
            f"{sorted(group for group, members in groups.items() if members)}"
        )
    return result


def divide(
    key: str,
    settings: OptimizerSettings,
    parameters: Mapping[str, nn.Parameter],
    groups: Mapping[str, Sequence[str]],
) -> dict[str | None, list[str]]:
    """Names of the parameters of each optimizer of an entry of `model_optimizer_dict`.

    Parameters
    ----------
    key
        Where the entry stands in the config, for messages.
    settings
        The entry.
    parameters
        All that it trains, by name.
    groups
        Names of the parameters of each group of the network.

    Returns
    -------
    dict
        By the names in `other_optimizers`, and first, by None, all that is left for the optimizer
        of the entry.

    Raises
    ------
    ConfigError
        If two optimizers would train the same parameter, or one of them none.
    """
    names = list(parameters)
    others: dict[str, list[str]] = {}
    owner: dict[str, str] = {}
    for other, part in settings.other_optimizers.items():
        key_of_part = f"{key}.other_optimizers.{other}"
        chosen = {
            name: None
            for each in part.vars
            for name in contained(f"{key_of_part}.vars", each, names, groups)
        }
        mine = [name for name in chosen if not part.matrices_only or parameters[name].dim() == 2]
        if not mine:
            raise ConfigError(
                f"{key_of_part}.vars contain no matrices, only {some_of(list(chosen))}: name other "
                "parts, or leave out matrices_only"
            )
        shared = [name for name in mine if name in owner]
        if shared:
            raise ConfigError(
                f"{key}.other_optimizers: '{owner[shared[0]]}' and '{other}' would both train "
                f"{some_of(shared)}: name these in the vars of one of them"
            )
        others[other] = mine
        owner |= dict.fromkeys(mine, other)
    rest = [name for name in names if name not in owner]
    if not rest:
        raise ConfigError(
            f"{key}.other_optimizers train all parameters, and leave none to the optimizer of the "
            f"entry, '{settings.optimizer}': write the settings of one of them into the entry "
            "itself"
        )
    result: dict[str | None, list[str]] = {None: rest}
    return result | others
