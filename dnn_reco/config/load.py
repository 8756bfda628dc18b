"""Loading config files: read, merge, fill placeholders, translate, validate."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dnn_reco.config.key_lists import (
    BIASED_SELECTION_WITHOUT_EFFECT,
    DEAD_KEYS,
    ONLY_BIASED_SELECTION,
    RECORD_KEYS,
    WITHOUT_EFFECT,
)
from dnn_reco.config.keys import SettingsGroup
from dnn_reco.config.legacy import Translated, translate
from dnn_reco.config.placeholders import (
    fill_iterations,
    fill_placeholders,
    keys_in_placeholders,
)
from dnn_reco.config.recorded_version import wrong_version
from dnn_reco.config.schema import FIELDS
from dnn_reco.config.settings import Config
from dnn_reco.config.sources import KeyPath, Notice, Origin, RawConfig, read_files
from dnn_reco.config.stages import ITERATIONS, STAGES, wrong_stages
from dnn_reco.config.unknown_keys import unknown_keys, unknown_nested_keys
from dnn_reco.config.validate import Where, validate_groups
from dnn_reco.errors import ConfigError
from dnn_reco.suggestions import nearest

_OPTIMIZERS = "model_optimizer_dict"


def load_stages(
    paths: Sequence[str | Path], overrides: Mapping[str, Any] | None = None
) -> tuple[Config, ...]:
    """Load config files as one config for each of their `training_stages`.

    See :func:`load_with_stages` for arguments and errors.
    """
    return load_with_stages(paths, overrides)[1]


def load_with_stages(
    paths: Sequence[str | Path], overrides: Mapping[str, Any] | None = None
) -> tuple[Config, tuple[Config, ...]]:
    """Load the config of a whole training, and that of each of its `training_stages`.

    In each stage its keys replace those of the files, and `num_training_iterations` is the total
    number of iterations until its end. Without stages the only one is the config of the files. The
    files are read once.

    Parameters
    ----------
    paths, overrides
        As for :func:`load_config`; `num_training_iterations` among the overrides ends the stages
        early.

    Raises
    ------
    ConfigError
        Naming everything that is wrong with the files, with file and line.
    """
    source = _read(paths, overrides)
    whole = _make_config(source)
    stages = whole.training.training_stages
    if not stages:
        return whole, (whole,)
    configs: list[Config] = []
    end = 0
    for number, stage in enumerate(stages):
        end += stage[ITERATIONS]
        iterations = min(end, source.overrides.get(ITERATIONS, end))
        configs.append(
            _make_config(
                replace(
                    source,
                    raw=source.raw.with_entry(STAGES, number),
                    overrides={**source.overrides, ITERATIONS: iterations},
                )
            )
        )
    return whole, tuple(configs)


def stage_at(stages: Sequence[Config], iterations: int) -> Config:
    """The config of the stage that was trained with after so many iterations."""
    for stage in stages[:-1]:
        if iterations <= stage.training.num_training_iterations:
            return stage
    return stages[-1]


def load_config(paths: Sequence[str | Path], overrides: Mapping[str, Any] | None = None) -> Config:
    """Load one or several config files as one config.

    Parameters
    ----------
    paths
        YAML files, older or newer spelling; no key may be in two of them.
    overrides
        Values (newer spelling) that replace those of the files, from the command line.

    Raises
    ------
    ConfigError
        Naming everything that is wrong with the files, with file and line.
    """
    return _make_config(_read(paths, overrides))


@dataclass(frozen=True)
class _Source:
    """The files of a config as read, what replaces their values, and what is wrong with them."""

    files: tuple[Path, ...]
    raw: RawConfig
    overrides: dict[str, Any]
    problems: tuple[str, ...]


def _read(paths: Sequence[str | Path], overrides: Mapping[str, Any] | None) -> _Source:
    files = tuple(Path(path) for path in paths)
    if not files:
        raise ConfigError("no config file is given: name at least one YAML file")
    overrides = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in (overrides or {}).items()
    }
    problems = [
        f"the override '{key}' is not a config key; the nearest is '{nearest(key, FIELDS)}'"
        for key in overrides
        if key not in FIELDS
    ]
    raw = read_files(files, problems)
    return _Source(files, raw, overrides, tuple(problems))


def _make_config(source: _Source) -> Config:
    """Fill placeholders, translate, validate."""
    files, raw, overrides, problems = (
        source.files,
        source.raw,
        source.overrides,
        list(source.problems),
    )
    name = "__".join(path.name.replace(".yaml", "").replace(".yml", "") for path in files)
    if raw.values.get(STAGES):
        problems += wrong_stages(raw)
        if not problems:
            iterations = sum(entry[ITERATIONS] for entry in raw.values[STAGES])
            overrides = {ITERATIONS: iterations, **overrides}
    filled = fill_placeholders(
        {**raw.values, **overrides},
        {"config_name": name, **_plain_defaults()},
        lambda key: _location((key,), Translated(), raw, overrides),
        problems,
    )
    if _OPTIMIZERS in filled:
        filled[_OPTIMIZERS] = fill_iterations(filled[_OPTIMIZERS], filled.get(ITERATIONS))
    settings = _translate(filled, overrides, raw, problems)

    def where(at: KeyPath) -> str:
        return _location(at, settings, raw, overrides)

    problems += wrong_version(raw.values, where(("dnn_reco_version",)))
    surplus = _without_surplus_flags(settings.values, where)
    known = {key: value for key, value in settings.values.items() if key in FIELDS}
    groups = validate_groups(known, where, problems)
    ignored = FIELDS.keys() | RECORD_KEYS | DEAD_KEYS
    extra = {key: value for key, value in settings.values.items() if key not in ignored}
    written = raw.values.keys() | {k for k, o in settings.origins.items() if o.kind == "file"}
    unknown = [
        *unknown_keys(
            extra.keys() - keys_in_placeholders(raw.values),
            written,
            settings.values,
            where,
            problems,
        ),
        *unknown_nested_keys(groups, where, problems),
    ]
    if problems:
        raise ConfigError(_all_problems(files, problems))
    origins = {key: Origin("default", key) for key in FIELDS}
    origins |= settings.nested_origins(raw) | settings.origins
    return Config(
        name=name,
        paths=files,
        **groups,  # type: ignore[arg-type]
        extra=extra,
        origins={key: origin for key, origin in origins.items() if key not in RECORD_KEYS},
        notices=(
            *unknown,
            *surplus,
            *_repeated_patterns(groups, where),
            *_ineffective_keys(settings.values, groups),
        ),
    )


def _plain_defaults() -> dict[str, Any]:
    """Defaults that can replace a placeholder: texts and numbers."""
    return {
        key: field.default
        for key, field in FIELDS.items()
        if isinstance(field.default, str | int | float)
    }


def _translate(
    filled: Mapping[str, Any],
    overrides: Mapping[str, Any],
    raw: RawConfig,
    problems: list[str],
) -> Translated:
    """Translate the settings of the files, and replace those that are overridden."""
    of_files = {key: filled[key] for key in raw.values if key not in overrides}
    settings = translate(of_files, raw, problems)
    for key in overrides:
        settings.values[key] = filled[key]
        settings.origins[key] = Origin("override", key)
    return settings


def _location(
    at: KeyPath, settings: Translated, raw: RawConfig, overrides: Mapping[str, Any]
) -> str:
    """Where a value was set, for a message: file and line, `override` or `default`."""
    if at[0] in overrides:
        return "override"
    return str(settings.location(at, raw) or "default")


def _all_problems(files: Sequence[Path], problems: Sequence[str]) -> str:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return f"{count} in the config ({', '.join(map(str, files))}):\n" + "\n".join(problems)


def _without_surplus_flags(values: dict[str, Any], where: Where) -> list[Notice]:
    """Remove log flags beyond the number of bins, as the reference ignores them; a warning."""
    key = "trafo_log_dom_bins"
    flags, num_bins = values.get(key), values.get("data_handler_num_bins")
    if not isinstance(flags, list) or not isinstance(num_bins, int) or len(flags) <= num_bins:
        return []
    values[key] = flags[:num_bins]
    text = (
        f"{where((key,))}: '{key}' has {len(flags)} entries, but 'data_handler_num_bins' "
        f"({where(('data_handler_num_bins',))}) is {num_bins}: the last {len(flags) - num_bins} "
        "have no effect"
    )
    return [Notice("warning", text)]


def _repeated_patterns(groups: Mapping[str, SettingsGroup], where: Where) -> list[Notice]:
    """Notes on patterns that are listed several times, which weights their events."""
    return [
        Notice(
            "info",
            f"{where((key,))}: {key} lists '{pattern}' {count} times: an epoch uses its events as "
            "often",
        )
        for key, patterns in groups["data_files"].model_dump().items()
        for pattern, count in Counter(patterns).items()
        if count > 1
    ]


def _ineffective_keys(
    values: Mapping[str, Any], groups: Mapping[str, SettingsGroup]
) -> list[Notice]:
    """One notice that lists all keys that are set but have no effect."""
    biased = groups["biased_selection"].__dict__["nn_biased_selection"]
    selecting = biased is not None and biased.apply_biased_selection
    candidates = [*WITHOUT_EFFECT, *(() if selecting else ONLY_BIASED_SELECTION)]
    set_keys = [key for key in candidates if values.get(key) is not None]
    set_keys += sorted(DEAD_KEYS & values.keys())
    set_keys += [
        f"nn_biased_selection.{key}"
        for key in BIASED_SELECTION_WITHOUT_EFFECT
        if getattr(biased, key, None) is not None
    ]
    if not set_keys:
        return []
    text = f"accepted, without effect: {', '.join(set_keys)}"
    return [Notice("info", text, only_in_checks=True)]
