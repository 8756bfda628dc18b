"""The output of `config show`."""

import json
from collections.abc import Iterator
from typing import Any

from dnn_reco.config.schema import GROUPS
from dnn_reco.config.settings import Config

_VALUE_WIDTH = 50
_SPREAD_KEYS = ("model_kwargs", "model_optimizer_dict", "nn_biased_selection")


def show_config(config: Config) -> str:
    """The merged, complete config: one line per key, with the origin of its value."""
    values = config.values()
    sections = [
        (group.title, [row for key in group.model_fields for row in _rows(config, values, key)])
        for group in GROUPS.values()
    ]
    sections.append(
        ("Unknown keys", [r for key in config.extra for r in _rows(config, values, key)])
    )
    lines = [f"# {config.name}: {', '.join(map(str, config.paths))}"]
    for title, rows in sections:
        if rows:
            lines += ["", f"# {title}", *_aligned(rows)]
    return "\n".join(lines)


def _aligned(rows: list[tuple[str, str, str]]) -> Iterator[str]:
    """Lines of a section, aligned in columns; long values exceed their column."""
    key_width = max(len(key) for key, _, _ in rows)
    value_width = min(max(len(value) for _, value, _ in rows), _VALUE_WIDTH)
    for key, value, origin in rows:
        yield f"{key:<{key_width}}  {value:<{value_width}}  # {origin}"


def _rows(config: Config, values: dict[str, Any], key: str) -> Iterator[tuple[str, str, str]]:
    """Rows (key, value, origin) of one key; long mappings have one row per entry."""
    if key not in values:
        yield f"{key}:", "", "not set"
        return
    spread = key in _SPREAD_KEYS and values[key]
    for name, value in _spread(key, values[key]) if spread else [(key, values[key])]:
        yield f"{name}:", json.dumps(value, ensure_ascii=False), _origin(config, name)


def _spread(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Entries of nested mappings, by their dotted names."""
    if isinstance(value, dict) and value:
        for key, entry in value.items():
            yield from _spread(f"{name}.{key}", entry)
    else:
        yield name, value


def _origin(config: Config, name: str) -> str:
    """Origin of a dotted name, with the older key if that was used."""
    above = config.origins[name.partition(".")[0]]
    origin = above if above.kind == "override" else config.origins.get(name)
    if origin is None or origin.path is None:
        return "default" if origin is None else origin.kind
    renamed = "" if origin.key in (name, name.rpartition(".")[2]) else f" ({origin.key})"
    return f"{origin.path.name}:{origin.line}{renamed}"


def unknown_keys_text(config: Config) -> str:
    """Reminder of the unknown keys of a config; empty if there are none."""
    listed = ", ".join(map(repr, config.unknown_keys))
    return f"unknown keys: {listed}" if listed else ""
