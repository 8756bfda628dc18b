"""Unknown keys: misspelt ones are errors, others are kept for users' modules, with a warning."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from dnn_reco.config.keys import SettingsGroup
from dnn_reco.config.legacy import CLASSES, OLDER_KEYS
from dnn_reco.config.schema import FIELDS
from dnn_reco.config.sources import KeyPath, Notice
from dnn_reco.config.validate import Where
from dnn_reco.config.value_types import ScheduleSettings, Settings
from dnn_reco.suggestions import misspelling_of, nearest

_PACKAGE = "dnn_reco."


def unknown_keys(
    extra: Iterable[str],
    written: Collection[str],
    values: Mapping[str, Any],
    where: Where,
    problems: list[str],
) -> list[Notice]:
    """Warnings for unknown top-level keys; misspelt ones are appended to `problems`.

    An unknown key is a misspelling if it differs in at most two letters from a known key that is
    not set. Functions outside of this package may read keys of their own: then it is a warning.

    Parameters
    ----------
    extra
        The unknown keys.
    written
        All keys that the files set, in either spelling.
    values
        Values of all keys in the newer spelling.
    where
        Returns the file and line of a value.
    """
    known = [*FIELDS, *sorted(OLDER_KEYS)]
    unset = [key for key in known if key not in written]
    may_add_keys = any(not name.startswith(_PACKAGE) for name in _plugin_names(values))
    notices = []
    for key in sorted(extra):
        meant = misspelling_of(key, unset)
        if meant and not may_add_keys:
            problems.append(f"{where((key,))}: unknown key '{key}': did you mean '{meant}'?")
        else:
            near = f"; the nearest known key is '{meant}'" if meant else ""
            text = f"{where((key,))}: unknown key '{key}'{near}. It is kept for your own functions"
            notices.append(Notice("warning", text, unknown_key=key))
    return notices


def _plugin_names(values: Mapping[str, Any]) -> Iterator[str]:
    """Dotted names of all functions and classes in a config."""
    optimizers = values.get("model_optimizer_dict")
    settings = list(optimizers.values()) if isinstance(optimizers, dict) else []
    losses = [each.get("loss_class") for each in settings if isinstance(each, dict)]
    for names in (*(values.get(key) for key in CLASSES), *losses):
        yield from (
            n for n in (names if isinstance(names, list) else [names]) if isinstance(n, str)
        )


def unknown_nested_keys(
    groups: Mapping[str, SettingsGroup], where: Where, problems: list[str]
) -> list[Notice]:
    """Warnings for unknown keys inside mappings; misspelt ones are appended to `problems`."""
    notices = []
    for at, settings in _nested_settings(groups):
        fields = type(settings).model_fields
        unset = fields.keys() - settings.model_fields_set
        for key in settings.model_extra or {}:
            meant = misspelling_of(key, sorted(unset))
            text = f"{where((*at, key))}: unknown key '{key}' in '{'.'.join(map(str, at))}'"
            if meant:
                problems.append(f"{text}: did you mean '{meant}'?")
            elif not settings.keeps_unknown:
                problems.append(f"{text}; its keys are {', '.join(fields)}")
            else:
                near = f"{text}; the nearest known key is '{nearest(key, fields)}'"
                notices.append(Notice("warning", near, unknown_key=".".join(map(str, (*at, key)))))
    return notices


def _nested_settings(groups: Mapping[str, SettingsGroup]) -> Iterator[tuple[KeyPath, Settings]]:
    """All mappings of settings with their key paths."""
    for group in groups.values():
        for key, value in group.__dict__.items():
            yield from _settings_below((key,), value)


def _settings_below(at: KeyPath, value: Any) -> Iterator[tuple[KeyPath, Settings]]:
    if isinstance(value, Settings):
        yield at, value
        if not isinstance(value, ScheduleSettings):
            for name, inner in value.__dict__.items():
                yield from _settings_below((*at, name), inner)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _settings_below((*at, name), inner)
