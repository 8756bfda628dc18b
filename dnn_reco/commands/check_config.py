"""`config check`: whether a config holds all that a training needs, spelt right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path

import click

from dnn_reco.config import TRAINING_KEYS, Config, resolve, unknown_keys_text
from dnn_reco.config.schema import GROUPS
from dnn_reco.errors import ConfigError, DnnRecoError
from dnn_reco.training.optimizers import check_optimizer, ema_decay

_CLASS_KEYS = (
    "data_handler_label_class",
    "data_handler_misc_class",
    "data_handler_filter_class",
    "event_weight_class",
    "evaluation_class",
    "model_class",
)


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


def run_check(stages: Sequence[Config]) -> int:
    """Check the config of each stage of a training and print the reports; returns the exit code."""
    reports = [check_config(config) for config in stages]
    for number, report in enumerate(reports, start=1):
        if len(reports) > 1:
            click.echo(f"{'' if number == 1 else chr(10)}Stage {number} of {len(reports)}")
        click.echo(report.text)
    return 0 if all(report.ok for report in reports) else 1


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
    unknown = f"; {unknown_keys_text(config)}" if config.unknown_keys else ""
    return CheckReport(not count, "\n".join([*lines, f"{config.name}: {verdict}{unknown}"]))


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
