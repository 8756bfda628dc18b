"""Validation of plain values as typed groups, with one message for each wrong value."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dnn_reco.config.keys import SettingsGroup
from dnn_reco.config.layer_lists import wrong_layer_lists
from dnn_reco.config.legacy import KEEP_PROBABILITIES
from dnn_reco.config.schema import FIELDS, GROUPS
from dnn_reco.config.sources import KeyPath
from dnn_reco.config.typed_settings import describe, kind_of
from dnn_reco.config.value_types import allowed, nested_settings

Where = Callable[[KeyPath], str]


def validate_groups(
    values: Mapping[str, Any], where: Where, problems: list[str]
) -> dict[str, SettingsGroup]:
    """Create the typed groups; messages for wrong values are appended to `problems`.

    Parameters
    ----------
    values
        Values of known keys, in the newer spelling.
    where
        Returns the file and line of a value.
    """
    groups: dict[str, SettingsGroup] = {}
    for name, group in GROUPS.items():
        given = {key: values[key] for key in group.model_fields if key in values}
        try:
            groups[name] = group.model_validate(given)
        except ValidationError as error:
            messages = [_message(details, given, where) for details in error.errors()]
            problems += dict.fromkeys(messages)  # a union reports one error several times
    problems += _inconsistent(values, where)
    return groups


def _message(details: ErrorDetails, given: Mapping[str, Any], where: Where) -> str:
    """One message: location, key, its value, what is allowed."""
    at, text = describe(details, given, _allowed_at)
    return f"{where(at)}: {text}"


def _allowed_at(at: KeyPath) -> str:
    """What is allowed at a key path: the text of the deepest field on its way."""
    field = FIELDS[str(at[0])]
    owner, text = str(at[0]), allowed(field)
    for step in at[1:]:
        nested = nested_settings(field)
        if nested and step in nested.model_fields:
            field = nested.model_fields[str(step)]
            owner, text = str(step), allowed(field)
    inside = "" if owner == at[-1] else f"'{owner}' is "
    return f"allowed: {inside}{text}"


def _inconsistent(values: Mapping[str, Any], where: Where) -> list[str]:
    """Problems between keys, and inside `model_kwargs`, that no single field can detect."""
    problems = wrong_layer_lists(values, where)
    num_bins = values.get("data_handler_num_bins")
    for key, others in (("trafo_log_dom_bins", ()), ("DOM_init_values", (1,))):
        count = _count(values.get(key))
        if isinstance(num_bins, int) and count not in (None, num_bins, *others):
            problems.append(
                f"{where((key,))}: '{key}' has {count} entries, but 'data_handler_num_bins' "
                f"({where(('data_handler_num_bins',))}) is {num_bins}"
            )
    patience = values.get("early_stopping_patience")
    if patience is not None and values.get("validation_events") == 0:
        problems.append(
            f"{where(('early_stopping_patience',))}: 'early_stopping_patience' needs a validation "
            f"set, but 'validation_events' ({where(('validation_events',))}) is 0"
        )
    kwargs = values.get("model_kwargs")
    for key in KEEP_PROBABILITIES:
        probability = kwargs.get(key) if isinstance(kwargs, dict) else None
        if probability is None:
            continue
        if isinstance(probability, bool | str | list | dict) or not 0 < probability <= 1:
            problems.append(
                f"{where(('model_kwargs', key))}: 'model_kwargs.{key}' is {probability!r} "
                f"({kind_of(probability)}); allowed: a number > 0 and <= 1"
            )
    seed = kwargs.get("random_seed") if isinstance(kwargs, dict) else None
    if seed is not None and (
        not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63
    ):
        problems.append(
            f"{where(('model_kwargs', 'random_seed'))}: 'model_kwargs.random_seed' is {seed!r} "
            f"({kind_of(seed)}); allowed: a whole number >= 0 and < 2^63"
        )
    return problems


def _count(value: Any) -> int | None:
    """Number of entries of a nested list; None for anything else."""
    if not isinstance(value, list | tuple):
        return None
    return sum(_count(entry) or 1 for entry in value)
