"""What the `model_kwargs` of all networks have in common."""

import difflib
from collections.abc import Collection, Iterable

import torch

from dnn_reco.errors import ModelError

DEFAULT_SEED = 42
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def check_names(key: str, given: Iterable[str], known: Collection[str]) -> None:
    """Refuse settings that nobody knows.

    Parameters
    ----------
    key
        Where they stand in the config, for messages.
    given, known
        Names of the settings.

    Raises
    ------
    ModelError
        Naming the setting, and the nearest one that there is.
    """
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean '{close[0]}'?" if close else f"Known: {', '.join(known)}."
            raise ModelError(f"{key}: unknown setting '{name}'. {hint}")


def check_choice(key: str, value: object, allowed: Collection[str]) -> None:
    """Refuse a value that is none of those allowed.

    Raises
    ------
    ModelError
        Naming what is allowed.
    """
    if not isinstance(value, str) or value not in allowed:
        raise ModelError(f"{key}: {value!r} is not supported. Use one of: {', '.join(allowed)}.")
