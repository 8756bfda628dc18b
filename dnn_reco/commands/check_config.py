"""`config check`: whether a config holds all that a training needs, spelt right."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnn_reco.amounts import counted, size_in_words
from dnn_reco.commands.output import coloured, print_json
from dnn_reco.config import (
    TRAINING_KEYS,
    Config,
    check_signature,
    defined_in_source,
    resolve,
    unknown_keys_text,
)
from dnn_reco.config.legacy import CLASSES
from dnn_reco.config.schema import GROUPS
from dnn_reco.data.overlap import files_if_any, overlap_text, same_files
from dnn_reco.errors import ConfigError, DnnRecoError
from dnn_reco.suggestions import did_you_mean
from dnn_reco.utils.learning_rate import make_schedule, rate_at

if TYPE_CHECKING:
    from dnn_reco.data.records import ColumnNames

_PATTERNS_SHOWN = 3
_NETWORK_NOT_BUILT = "the network is not built: the number of its labels is read from an event file"
_LABEL_KEYS = (
    "label_zenith_key",
    "label_azimuth_key",
    "label_dir_x_key",
    "label_dir_y_key",
    "label_dir_z_key",
)
_SAMPLE = 10  # events of a file with frames whose labels are made
# The usual optimizers and settings, with the limits of their values [from, below]: a config with
# others is checked with PyTorch, which takes longer to import than all else together.
_USUAL_OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "nadam": "NAdam"}
_USUAL_SETTINGS = {
    "beta_1": (0.0, 1.0),
    "beta_2": (0.0, 1.0),
    "epsilon": (0.0, math.inf),
    "weight_decay": (0.0, math.inf),
}


@dataclass(frozen=True)
class _Finding:
    """One line of the report; `level` is ok, PROBLEM, info or warning."""

    level: str
    text: str


_Findings = Iterator[_Finding]
_ok, _problem, _info = (partial(_Finding, level) for level in ("ok", "PROBLEM", "info"))
_COLOURS = {"ok": "green", "PROBLEM": "red", "warning": "yellow"}


@dataclass(frozen=True)
class CheckReport:
    """Result of checking a config.

    Attributes
    ----------
    name
        Name of the config.
    findings
        What was found.
    unknown
        Text about keys that nothing reads; empty: there are none.
    """

    name: str
    findings: tuple[_Finding, ...]
    unknown: str

    @property
    def num_problems(self) -> int:
        """Number of problems."""
        return sum(finding.level == "PROBLEM" for finding in self.findings)

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not self.num_problems

    @property
    def text(self) -> str:
        """What to print."""
        lines = [
            f"{coloured(f'{each.level:<7}', _COLOURS.get(each.level))}  {each.text}"
            for each in self.findings
        ]
        verdict = "ready for training" if self.ok else counted(self.num_problems, "problem")
        unknown = f"; {self.unknown}" if self.unknown else ""
        return "\n".join([*lines, f"{self.name}: {verdict}{unknown}"])

    def to_dict(self) -> dict[str, Any]:
        """The report for `--json`."""
        findings = [{"level": each.level.lower(), "text": each.text} for each in self.findings]
        return {"config": self.name, "ok": self.ok, "findings": findings}


def run_check(
    stages: Sequence[Config], allow_overlap: bool, network: bool, as_json: bool = False
) -> int:
    """Check the config of each stage of a training and print the reports; returns the exit code."""
    reports = [check_config(config, allow_overlap, network) for config in stages]
    ok = all(report.ok for report in reports)
    if as_json:
        print_json({"ok": ok, "stages": [report.to_dict() for report in reports]})
        return 0 if ok else 1
    for number, report in enumerate(reports, start=1):
        if len(reports) > 1:
            click.echo(f"{'' if number == 1 else chr(10)}Stage {number} of {len(reports)}")
        click.echo(report.text)
    return 0 if ok else 1


def check_config(config: Config, allow_overlap: bool = False, network: bool = False) -> CheckReport:
    """Check all that a training needs, as far as that is quick; list the notices.

    Parameters
    ----------
    config
        What to check.
    allow_overlap
        Whether files may be both trained on and held out.
    network
        Whether the network is also built, without memory for its weights.
    """
    findings = [
        *_check_plugins(config),
        *_check_optimizers(config),
        *_check_data_files(config),
        *_check_frames(config),
        *_check_overlap(config, allow_overlap),
        *_check_needed(config),
        *_check_contents(config, network),
        *(_Finding(notice.level, notice.text) for notice in config.notices),
    ]
    findings = list(dict.fromkeys(findings))  # checks of functions and of files may find the same
    unknown = unknown_keys_text(config) if config.unknown_keys else ""
    return CheckReport(config.name, tuple(findings), unknown)


def _try(check: Callable[[], object], text: str = "") -> _Findings:
    """The problem that a check raises; else its text, if there is one."""
    try:
        check()
    except DnnRecoError as error:
        yield _problem(str(error))
    else:
        if text:
            yield _ok(text)


# --------------------------------------------------------------------------------------------------
# Functions, classes and optimizers
# --------------------------------------------------------------------------------------------------
def _check_plugins(config: Config) -> _Findings:
    values = config.values()
    names = [(key, values.get(key)) for key in CLASSES]
    names += [(f"{key}.loss_class", loss) for key, loss in _losses(values)]
    of_model = ("random_seed", "dtype", *values.get("model_kwargs", {}))
    for key, dotted_name in names:
        if dotted_name is not None:
            keywords = of_model if key == "model_class" else ()
            yield from _try(partial(_find, dotted_name, key, keywords), f"{key}: {dotted_name}")


def _find(dotted_name: str, key: str, keywords: Sequence[str]) -> None:
    """Check that a function exists, and can be called as this package does."""
    if defined_in_source(dotted_name) is None:
        check_signature(resolve(dotted_name, key), dotted_name, key, keywords)


def _losses(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Key of the optimizer and dotted name of each loss."""
    return [
        (f"model_optimizer_dict.{name}", loss)
        for name, optimizer in values.get("model_optimizer_dict", {}).items()
        for loss in optimizer["loss_class"]
    ]


def _check_optimizers(config: Config) -> _Findings:
    values = config.values()
    optimizers = values.get("model_optimizer_dict", {})
    for key, optimizer in _all_optimizers(optimizers):
        settings = optimizer["optimizer_settings"]
        try:
            kind, ignored = _optimizer(key, optimizer["optimizer"], settings)
        except DnnRecoError as error:
            yield _problem(str(error))
        else:
            rate = settings.get("learning_rate")
            schedule = f", {rate['full_class_string']}" if isinstance(rate, dict) else ""
            yield _ok(f"{key}: {kind}{schedule}")
            if ignored:
                names = ", ".join(ignored)
                yield _info(f"{key}.optimizer_settings: accepted, without effect: {names}")
    if any("use_ema" in optimizer["optimizer_settings"] for optimizer in optimizers.values()):
        yield from _try(partial(_check_average, values))


def _all_optimizers(
    entries: Mapping[str, Mapping[str, Any]],
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Key and values of the optimizer of each entry of `model_optimizer_dict`, and of its parts."""
    for name, entry in entries.items():
        key = f"model_optimizer_dict.{name}"
        yield key, entry
        for part, other in entry["other_optimizers"].items():
            yield f"{key}.other_optimizers.{part}", other


def _optimizer(key: str, name: str, settings: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """PyTorch's name of an optimizer that takes its settings, and the settings without effect."""
    usual = _USUAL_OPTIMIZERS.get(name.lower())
    rate = settings.get("learning_rate", 0.001)
    others = {key: value for key, value in settings.items() if key != "learning_rate"}
    if usual is None or not all(_is_usual(*setting) for setting in others.items()):
        from dnn_reco.training.optimizers import check_optimizer  # slow: it imports torch

        return check_optimizer(key, name, settings)
    if isinstance(rate, Mapping):
        rate_key = f"{key}.optimizer_settings.learning_rate"
        rate_at(rate_key, make_schedule(rate_key, rate), 0)
    return usual, ()


def _is_usual(setting: str, value: object) -> bool:
    start, end = _USUAL_SETTINGS.get(setting, (0.0, 0.0))
    return isinstance(value, int | float) and not isinstance(value, bool) and start <= value < end


def _check_average(values: Mapping[str, Any]) -> None:
    from dnn_reco.training.optimizers import ema_decay

    optimizers = values["model_optimizer_dict"]
    ema_decay(values.get("ema_decay"), {n: o["optimizer_settings"] for n, o in optimizers.items()})


# --------------------------------------------------------------------------------------------------
# Files
# --------------------------------------------------------------------------------------------------
def _check_data_files(config: Config) -> _Findings:
    values = config.values()
    for key in GROUPS["data_files"].model_fields:
        patterns, files = values.get(key), files_if_any(config, key)
        if files:
            size = sum(path.stat().st_size for path in files if path.is_file())
            yield _ok(f"{key}: {counted(len(files), 'file')}, {size_in_words(size)}")
        elif patterns:
            shown, rest = patterns[:_PATTERNS_SHOWN], len(patterns) - _PATTERNS_SHOWN
            further = f" or {counted(rest, 'further pattern')}" if rest > 0 else ""
            yield _problem(f"{key}: no file matches {', '.join(map(repr, shown))}{further}")
        elif patterns is not None:
            level = "PROBLEM" if key in TRAINING_KEYS else "info"
            yield _Finding(level, f"{key}: the list is empty")


def _check_frames(config: Config) -> _Findings:
    """How event files are made of files with frames; `_check_contents` finds where that lacks."""
    if config.values().get("i3_data") is None:
        return
    from dnn_reco.data_creation.recipe import recipe_of  # slow

    try:
        made = recipe_of(config).modules
    except DnnRecoError as error:
        yield _problem(str(error))
        return
    features = [
        f"{each.settings.data_format} of {each.settings.pulse_key}" for each in made.features
    ]
    labels = [table for each in made.labels for table in each.module.columns()]
    yield _ok(f"i3_data: features {', '.join(features)}; labels {', '.join(labels) or 'none'}")


def _check_overlap(config: Config, allow_overlap: bool) -> _Findings:
    training, validation, test = (
        files_if_any(config, f"{part}_data_file") for part in ("training", "validation", "test")
    )
    for key, files in (("validation_data_file", validation), ("test_data_file", test)):
        text = overlap_text(training, files, key)
        if text:
            yield _Finding("warning" if allow_overlap else "PROBLEM", text)
    shared = len(same_files(validation, test))
    if shared:
        yield _info(
            f"{shared} of the {len(test)} files of test_data_file are also in "
            "validation_data_file, with which the best checkpoint is chosen"
        )


def _check_needed(config: Config) -> _Findings:
    yield from _try(
        lambda: config.require(*TRAINING_KEYS), "all keys that a training needs are set"
    )
    yield from _try(config.refuse_output_in_package)


def _check_contents(config: Config, network: bool) -> _Findings:
    """Check one file of each list, and all that depends on the names of the labels."""
    values = config.values()
    handler = values.get("data_handler_num_bins") is not None
    paths = {key: files_if_any(config, key) for key in GROUPS["data_files"].model_fields}
    first = {key: files[0] for key, files in paths.items() if files}
    if not first or not handler:
        if network:
            yield _info(_NETWORK_NOT_BUILT)
        return
    from dnn_reco.data.input_check import column_names  # slow: it imports h5py
    from dnn_reco.event_sources import event_file

    names: dict[Path, ColumnNames] = {}
    for path in dict.fromkeys(first.values()):
        keys = ", ".join(key for key, each in first.items() if each == path)
        try:
            with event_file(path, config, _SAMPLE) as file:
                names[path] = column_names(file, config)
        except DnnRecoError as error:
            yield _problem(str(error))
        else:
            labels = len(names[path].labels)
            yield _ok(f"{keys}: '{path.name}' has all tables, {labels} labels")
    if not names:
        if network:
            yield _info(_NETWORK_NOT_BUILT)
        return
    (_, found), *others = names.items()
    for path, other in others:
        if other != found:
            yield _problem(f"'{path}' differs in labels or misc data from '{next(iter(names))}'")
    yield from _check_settings(config, paths)
    yield from _check_labels(config, found)
    yield from _check_initial_weights(config, found)
    yield from _check_transformation(config, found)
    if network:
        yield from _check_network(config, found)


def _check_settings(config: Config, paths: Mapping[str, Sequence[Path]]) -> _Findings:
    """Check that the files of a training were made alike; test files are left to `evaluate`."""
    from dnn_reco.data.data_settings import check_same_settings  # slow
    from dnn_reco.event_sources import recorded_settings

    recorded = [
        each
        for key in ("training_data_file", "validation_data_file", "trafo_data_file")
        for each in recorded_settings(paths[key], config)
    ]
    try:
        differences = check_same_settings(recorded)
    except DnnRecoError as error:
        yield _problem(str(error))
    else:
        yield from (_Finding("warning", text) for text in differences)


# --------------------------------------------------------------------------------------------------
# Labels, losses, transformation model and network
# --------------------------------------------------------------------------------------------------
def _check_labels(config: Config, names: ColumnNames) -> _Findings:
    from dnn_reco.data.from_config import label_weights, unknown_fill_values

    labels = config.labels
    yield from (_Finding("warning", text) for text in unknown_fill_values(config, names.labels))
    yield from _try(lambda: label_weights(config, names.labels))
    named = {
        **{key: getattr(labels, key) for key in _LABEL_KEYS},
        **{f"label_particle_keys.{key}": name for key, name in labels.label_particle_keys.items()},
    }
    for key, name in named.items():
        if name is not None and name not in names.labels:
            hint = did_you_mean(name, names.labels)
            yield _Finding("warning", f"{key}: the data have no label '{name}'.{hint}")
    special = [loss for loss in _losses(config.values()) if _has_special_labels(loss[1])]
    if special:
        yield from _check_losses(config, names, special)


def _has_special_labels(loss: str) -> bool:
    """Whether a loss may need certain labels: those of this package declare it by a decorator."""
    statement = defined_in_source(loss)
    return not isinstance(statement, ast.FunctionDef) or bool(statement.decorator_list)


def _check_losses(
    config: Config, names: ColumnNames, losses: Sequence[tuple[str, str]]
) -> _Findings:
    from dnn_reco.data.from_config import label_weight
    from dnn_reco.modules.loss.special_labels import check_special_labels  # slow
    from dnn_reco.nn.from_config import label_keys

    trained = {name for name in names.labels if label_weight(config, name) > 0}
    for key, name in losses:
        try:
            loss = resolve(name, key)
        except ConfigError:
            continue  # reported with the other functions
        message_name = f"{key}.loss_class '{name}'"
        keys = label_keys(config)
        yield from _try(
            partial(check_special_labels, loss, message_name, keys, names.labels, trained)
        )


def _check_initial_weights(config: Config, names: ColumnNames) -> _Findings:
    name = config.values().get("model_initial_weights")
    if name is None:
        return
    from dnn_reco.data.from_config import transform_settings
    from dnn_reco.training.initial_weights import check_start  # slow

    yield from _try(
        lambda: check_start(config, transform_settings(config, names)),
        f"model_initial_weights: labels and inputs are those of '{name}'",
    )


def _check_transformation(config: Config, names: ColumnNames) -> _Findings:
    from dnn_reco.data.from_config import transform_settings
    from dnn_reco.transform import check_settings, load_transformation

    written = config.values().get("trafo_model_path")
    if written is None:
        return
    path = Path(written)
    if not path.exists():
        yield _info(f"trafo_model_path: '{path}' does not exist yet: create it with dnn-reco trafo")
        return
    yield from _try(
        lambda: check_settings(load_transformation(path), transform_settings(config, names), path),
        f"trafo_model_path: '{path}' fits the config",
    )


def _check_network(config: Config, names: ColumnNames) -> _Findings:
    from dnn_reco.nn.from_config import count_weights

    if config.values().get("model_class") is None:
        return
    try:
        num_weights = count_weights(config, names)
    except DnnRecoError as error:
        yield _problem(str(error))
    else:
        yield _ok(f"the network has {num_weights:,} trainable weights")
