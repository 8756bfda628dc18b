"""Translation of the older spelling to the newer one, and back for users' functions.

The tables below are the complete difference between the generations. A setting that is given in
both spellings must have the same value in both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dnn_reco.config.sources import KeyPath, Origin, RawConfig, SourceLocation, locate

_MODULES = "dnn_reco.modules"


@dataclass(frozen=True)
class ClassName:
    """A dotted name for which the older spelling has two keys, one of its file, one of its name."""

    file: str
    name: str
    package: str


CLASSES = {
    "data_handler_label_class": ClassName(
        "data_handler_label_file", "data_handler_label_name", f"{_MODULES}.data.labels"
    ),
    "data_handler_misc_class": ClassName(
        "data_handler_misc_file", "data_handler_misc_name", f"{_MODULES}.data.misc"
    ),
    "data_handler_filter_class": ClassName(
        "data_handler_filter_file", "data_handler_filter_name", f"{_MODULES}.data.filter"
    ),
    "event_weight_class": ClassName(
        "event_weight_file", "event_weight_name", f"{_MODULES}.data.event_weights"
    ),
    "evaluation_class": ClassName("evaluation_file", "evaluation_name", f"{_MODULES}.evaluation"),
    "model_class": ClassName("model_file", "model_name", f"{_MODULES}.models"),
}
LOSS = ClassName("loss_file", "loss_name", f"{_MODULES}.loss")

MODEL_KWARGS = {
    "conv_upper_DeepCore_settings": "conv_upper_deepcore_settings",
    "conv_lower_DeepCore_settings": "conv_lower_deepcore_settings",
    "conv_IC78_settings": "conv_ic78_settings",
    "fc_settings": "fc_settings",
    "fc_unc_settings": "fc_unc_settings",
    "model_is_training": "is_training",
    "model_enforce_direction_norm": "enforce_direction_norm",
    "model_dir_z_independent": "dir_z_independent",
    "model_limit_dir_vec": "limit_dir_vec",
    "tf_random_seed": "random_seed",
}
KEEP_PROBABILITIES = ("keep_prob_dom", "keep_prob_conv", "keep_prob_flat", "keep_prob_fc")
_KEEP_LIST = "keep_probability_list"
_METHODS = {
    "conv_upper_DeepCore_settings": "convolution",
    "conv_lower_DeepCore_settings": "convolution",
    "conv_IC78_settings": "hex_convolution",
}
_OPTIMIZERS = {"GradientDescent": "SGD", "RMSProp": "RMSprop"}

OLDER_KEYS = frozenset(
    {key for names in CLASSES.values() for key in (names.file, names.name)}
    | MODEL_KWARGS.keys()
    | {_KEEP_LIST}
)


@dataclass
class Translated:
    """Settings in the newer spelling.

    Attributes
    ----------
    values
        Value of each key.
    origins
        Origin of each key; of keys that were moved into `model_kwargs` also as
        `model_kwargs.<key>`.
    renamed
        Newer key path -> key path in the file, of all settings that were renamed or moved.
    """

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    renamed: dict[KeyPath, KeyPath] = field(default_factory=dict)

    def location(self, at: KeyPath, raw: RawConfig) -> SourceLocation | None:
        """Location in the files of the value at a newer key path."""
        for depth in range(len(at), 0, -1):
            if at[:depth] in self.renamed:
                return locate(raw.locations, (*self.renamed[at[:depth]], *at[depth:]))
        return locate(raw.locations, at)

    def nested_origins(self, raw: RawConfig) -> dict[str, Origin]:
        """Origin of each key inside a mapping, by its dotted name in the newer spelling."""
        newer = {older: at for at, older in self.renamed.items()}
        origins = {}
        for at, location in raw.locations.items():
            depth = next((d for d in range(len(at), 0, -1) if at[:d] in newer), 0)
            dotted = ".".join(map(str, (*newer.get(at[:depth], ()), *at[depth:])))
            if "." in dotted:
                origins[dotted] = Origin("file", str(at[-1]), location.path, location.line)
        return origins


def translate(values: Mapping[str, Any], raw: RawConfig, problems: list[str]) -> Translated:
    """Translate settings to the newer spelling.

    Parameters
    ----------
    values
        Value of each key in either spelling; an empty (None) older value counts as not set.
    raw
        The keys as written, with their locations.
    problems
        Contradictions between both spellings, and incomplete older ones, are appended here.
    """
    result = Translated()
    given = {key: value for key, value in values.items() if value is not None}
    for key, value in given.items():
        if key not in OLDER_KEYS:
            result.values[key] = value
            result.origins[key] = _origin(key, raw)
    for key, names in CLASSES.items():
        dotted = _dotted_names(given, (), names, raw, problems)
        if dotted:
            _put(result, (key,), dotted[0], (names.name,), raw, problems)
    _translate_model_kwargs(given, result, raw, problems)
    for key in values.keys() - given.keys() - result.values.keys() - OLDER_KEYS:
        result.values[key] = None
        result.origins[key] = _origin(key, raw)
    if isinstance(given.get("model_optimizer_dict"), dict):
        result.values["model_optimizer_dict"] = {
            name: _translate_optimizer(name, settings, result, raw, problems)
            for name, settings in given["model_optimizer_dict"].items()
        }
    return result


def _origin(key: str, raw: RawConfig) -> Origin:
    location = locate(raw.locations, (key,))
    if location is None:
        return Origin("override", key)
    return Origin("file", key, location.path, location.line)


def _put(
    result: Translated,
    at: tuple[str, ...],
    value: Any,
    written_at: KeyPath,
    raw: RawConfig,
    problems: list[str],
) -> None:
    """Set a top-level key, or a key inside a top-level mapping, unless it contradicts another."""
    target = result.values
    for key in at[:-1]:
        target = target.setdefault(key, {})
    newer, older = ".".join(at), ".".join(map(str, written_at))
    if at[-1] in target:
        if target[at[-1]] != value:
            problems.append(
                f"{locate(raw.locations, written_at)}: '{older}' is {value!r}, but '{newer}' "
                f"({result.location(at, raw)}) is {target[at[-1]]!r}: these are two spellings of "
                "the same setting; remove one of them"
            )
        return
    target[at[-1]] = value
    result.renamed[at] = written_at
    origin = _origin(str(written_at[0]), raw)
    result.origins[newer] = origin
    result.origins.setdefault(at[0], origin)


def _dotted_names(
    settings: Mapping[str, Any],
    below: KeyPath,
    names: ClassName,
    raw: RawConfig,
    problems: list[str],
) -> list[str]:
    """Dotted names that a pair of older file and name keys define; empty if not set."""
    files, functions = settings.get(names.file), settings.get(names.name)
    if files is None and functions is None:
        return []
    present = names.file if files is not None else names.name
    absent = names.name if files is not None else names.file
    where = locate(raw.locations, (*below, present))
    if files is None or functions is None:
        problems.append(f"{where}: '{present}' is set without '{absent}': both are needed together")
        return []
    files = files if isinstance(files, list) else [files]
    functions = functions if isinstance(functions, list) else [functions]
    if len(files) != len(functions) or not files:
        problems.append(
            f"{where}: '{names.file}' has {len(files)} entries, but '{names.name}' "
            f"{len(functions)}: both must be one name, or lists of the same length"
        )
        return []
    return [
        f"{names.package}.{file}.{function}"
        for file, function in zip(files, functions, strict=True)
    ]


def _translate_model_kwargs(
    given: Mapping[str, Any], result: Translated, raw: RawConfig, problems: list[str]
) -> None:
    """Move the older top-level keys of the network into `model_kwargs`."""
    inside = given.get("model_kwargs", {})
    if not isinstance(inside, dict):
        return  # the schema reports what it must be
    if inside:
        result.values["model_kwargs"] = {
            key: value for key, value in inside.items() if key not in _METHODS
        }
    moved: list[tuple[KeyPath, Any]] = [
        ((key,), given[key]) for key in MODEL_KWARGS if key in given
    ]
    moved += [(("model_kwargs", key), inside[key]) for key in _METHODS if key in inside]
    for written_at, value in moved:
        key = str(written_at[-1])
        if len(written_at) == 1 and key in _METHODS and isinstance(value, dict):
            value = {"method_list": _METHODS[key], **value}
        at = ("model_kwargs", MODEL_KWARGS[key])
        _put(result, at, value, written_at, raw, problems)
    if _KEEP_LIST in given:
        for position, (key, value) in enumerate(_keep_probabilities(given, raw, problems)):
            _put(result, ("model_kwargs", key), value, (_KEEP_LIST, position), raw, problems)


def _keep_probabilities(
    given: Mapping[str, Any], raw: RawConfig, problems: list[str]
) -> list[tuple[str, Any]]:
    """The four keep probabilities of the older list; missing ones are 1."""
    values = given[_KEEP_LIST]
    if not isinstance(values, list) or len(values) > len(KEEP_PROBABILITIES):
        problems.append(
            f"{locate(raw.locations, (_KEEP_LIST,))}: '{_KEEP_LIST}' is {values!r}; allowed: a "
            f"list of up to four probabilities, for {', '.join(KEEP_PROBABILITIES)}"
        )
        return []
    padded = values + [1.0] * (len(KEEP_PROBABILITIES) - len(values))
    return list(zip(KEEP_PROBABILITIES, padded, strict=True))


def _translate_optimizer(
    name: str, settings: Any, result: Translated, raw: RawConfig, problems: list[str]
) -> Any:
    """One entry of `model_optimizer_dict` in the newer spelling."""
    if not isinstance(settings, dict):
        return settings  # the schema reports what it must be
    translated = {
        key: value for key, value in settings.items() if key not in (LOSS.file, LOSS.name)
    }
    optimizer = translated.get("optimizer")
    if isinstance(optimizer, str) and optimizer.endswith("Optimizer"):
        short = optimizer.removesuffix("Optimizer")
        translated["optimizer"] = _OPTIMIZERS.get(short, short)
    below = ("model_optimizer_dict", name)
    losses = _dotted_names(settings, below, LOSS, raw, problems)
    newer = translated.get("loss_class")
    if losses and newer is None:
        translated["loss_class"] = losses
        result.renamed[(*below, "loss_class")] = (*below, LOSS.name)
    elif losses and losses != (newer if isinstance(newer, list) else [newer]):
        problems.append(
            f"{locate(raw.locations, (*below, LOSS.name))}: '{LOSS.file}' and '{LOSS.name}' are "
            f"{losses!r}, but 'loss_class' ({locate(raw.locations, (*below, 'loss_class'))}) is "
            f"{newer!r}: these are two spellings of the same setting; remove one of them"
        )
    return translated


def older_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Older keys and their values, from settings in the newer spelling."""
    older: dict[str, Any] = {}
    for key, names in CLASSES.items():
        if values.get(key):
            module, _, name = str(values[key]).rpartition(".")
            older[names.file] = module.removeprefix(names.package + ".")
            older[names.name] = name
    kwargs = values.get("model_kwargs") or {}
    older |= {key: kwargs[newer] for key, newer in MODEL_KWARGS.items() if newer in kwargs}
    if any(key in kwargs for key in KEEP_PROBABILITIES):
        older[_KEEP_LIST] = [kwargs.get(key, 1.0) for key in KEEP_PROBABILITIES]
    return older


def older_spelling(key: str) -> str:
    """The older spelling of a newer key; empty if there is none."""
    if key in CLASSES:
        return f"{CLASSES[key].file}, {CLASSES[key].name}"
    if key == "model_kwargs":
        return ", ".join([*MODEL_KWARGS, _KEEP_LIST])
    return f"{LOSS.file}, {LOSS.name}" if key == "loss_class" else ""
