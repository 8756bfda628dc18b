"""What `config show` and `config check` print."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

from dnn_reco.config.key_lists import TRAINING_KEYS
from dnn_reco.config.plugins import resolve
from dnn_reco.config.schema import GROUPS
from dnn_reco.config.settings import Config
from dnn_reco.errors import ConfigError, DnnRecoError

_CLASS_KEYS = (
    "data_handler_label_class",
    "data_handler_misc_class",
    "data_handler_filter_class",
    "event_weight_class",
    "evaluation_class",
    "model_class",
)
_VALUE_WIDTH = 50
_SPREAD_KEYS = ("model_kwargs", "model_optimizer_dict", "nn_biased_selection")


@dataclass(frozen=True)
class CheckReport:
    """Result of checking a config.

    Attributes
    ----------
    ok
        Whether no problem was found.
    text
        What to print.
    """

    ok: bool
    text: str


def show_config(config: Config) -> str:
    """The merged, complete config: one line a key, with where each value came from."""
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
    """Lines of a section, in columns; long values stick out."""
    key_width = max(len(key) for key, _, _ in rows)
    value_width = min(max(len(value) for _, value, _ in rows), _VALUE_WIDTH)
    for key, value, origin in rows:
        yield f"{key:<{key_width}}  {value:<{value_width}}  # {origin}"


def _rows(config: Config, values: dict[str, Any], key: str) -> Iterator[tuple[str, str, str]]:
    """Rows (key, value, origin) of one key; mappings that are long have a row for each entry."""
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
    """Origin of a dotted name, with the older key if that was written."""
    above = config.origins[name.partition(".")[0]]
    origin = above if above.kind == "override" else config.origins.get(name)
    if origin is None or origin.path is None:
        return "default" if origin is None else origin.kind
    renamed = "" if origin.key in (name, name.rpartition(".")[2]) else f" ({origin.key})"
    return f"{origin.path.name}:{origin.line}{renamed}"


def check_config(config: Config) -> CheckReport:
    """Check plug-ins, data files and the keys that a training needs; list the notices."""
    checks = [
        *_check_plugins(config),
        *_check_optimizers(config),
        *_check_data_files(config),
        *_check_needed(config),
    ]
    lines = [f"{'ok     ' if ok else 'PROBLEM'}  {text}" for ok, text in checks]
    lines += [f"{notice.level:<7}  {notice.text}" for notice in config.notices]
    count = sum(not ok for ok, _ in checks)
    verdict = f"{count} problem{'s' * (count != 1)}" if count else "ready for training"
    return CheckReport(not count, "\n".join([*lines, f"{config.name}: {verdict}"]))


def _check_plugins(config: Config) -> Iterator[tuple[bool, str]]:
    values = config.values()
    names = [(key, values.get(key)) for key in _CLASS_KEYS]
    names += [
        (f"model_optimizer_dict.{name}.loss_class", loss)
        for name, optimizer in values.get("model_optimizer_dict", {}).items()
        for loss in optimizer["loss_class"]
    ]
    for key, dotted_name in names:
        if dotted_name is not None:
            try:
                resolve(dotted_name, key)
            except ConfigError as error:
                yield False, str(error)
            else:
                yield True, f"{key}: {dotted_name}"


def _check_optimizers(config: Config) -> Iterator[tuple[bool, str]]:
    from dnn_reco.training.optimizers import check_optimizer, ema_decay  # it needs this package

    values = config.values()
    optimizers = values.get("model_optimizer_dict", {})
    for name, optimizer in optimizers.items():
        key, settings = f"model_optimizer_dict.{name}", optimizer["optimizer_settings"]
        try:
            kind = check_optimizer(key, optimizer["optimizer"], settings)
        except DnnRecoError as error:
            yield False, str(error)
        else:
            rate = settings.get("learning_rate")
            schedule = f", {rate['full_class_string']}" if isinstance(rate, dict) else ""
            yield True, f"{key}: {kind}{schedule}"
    try:
        ema_decay(
            values.get("ema_decay"), {n: o["optimizer_settings"] for n, o in optimizers.items()}
        )
    except DnnRecoError as error:
        yield False, str(error)


def _check_data_files(config: Config) -> Iterator[tuple[bool, str]]:
    values = config.values()
    for key in GROUPS["data_files"].model_fields:
        patterns = values.get(key, [])
        files = sorted({file for pattern in patterns for file in glob(pattern)})  # noqa: PTH207
        if files:
            size = sum(Path(file).stat().st_size for file in files)
            plural = "s" if len(files) > 1 else ""
            yield True, f"{key}: {len(files)} file{plural}, {size / 1e6:.1f} MB"
        if patterns and not files:
            yield False, f"{key}: no file matches {', '.join(map(repr, patterns))}"


def _check_needed(config: Config) -> Iterator[tuple[bool, str]]:
    try:
        config.require(*TRAINING_KEYS)
    except ConfigError as error:
        yield False, str(error)
    else:
        yield True, "all keys that a training needs are set"
