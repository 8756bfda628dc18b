"""Reading data settings from the YAML files that hold them.

Three forms exist: configs of IceCube's data creation, which run tray segments in processing steps;
older ones, which define one set of features by keys of their own; and files of the settings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dnn_reco.config.sources import KeyPath, RawConfig
from dnn_reco.config.typed_settings import check_names, describe, setting_fields
from dnn_reco.config.value_types import allowed
from dnn_reco.config.yaml_file import YamlFile, read_yaml_file
from dnn_reco.data.data_settings import SETTINGS, DataSettings
from dnn_reco.data.file_events import InputTables
from dnn_reco.data.hdf5.detect import input_tables
from dnn_reco.errors import ConfigError
from dnn_reco.suggestions import did_you_mean

_NEEDED = ("num_bins", "relative_time_method", "data_format")

_STEPS, _SEGMENTS = "processing_steps", "tray_segments"
_CREATE_DATA = "ic3_data.segments.CreateDNNData"
_KEYS_OF_SEGMENT = {
    "num_bins": "NumDataBins",
    "relative_time_method": "RelativeTimeMethod",
    "data_format": "DataFormat",
    "time_bins": "TimeBins",
    "time_quantiles": "TimeQuantiles",
    "autoencoder_settings": "AutoencoderSettings",
    "autoencoder_name": "AutoencoderEncoderName",
    "output_key": "OutputKey",
    "pulse_key": "PulseKey",
    "dom_exclusions": "DOMExclusions",
    "partial_exclusion": "PartialExclusion",
    "cascade_key": "CascadeKey",
    "is_str_dom_format": "IsStrDomFormat",
}
_WITHOUT_EFFECT = ("Verbose",)  # arguments that decide nothing about features

_PULSES, _PULSES_TOO, _CASCADE = "DNN_pulse_key", "pulse_map_string", "DNN_cascade_key"
_OLDER_KEYS = {
    "num_bins": "num_data_bins",
    "relative_time_method": "relative_time_method",
    "data_format": "pulse_data_format",
    "time_bins": "pulse_time_binning",
    "time_quantiles": "pulse_time_quantiles",
    "autoencoder_settings": "autoencoder_settings",
    "autoencoder_name": "autoencoder_encoder_name",
    "pulse_key": _PULSES,
    "dom_exclusions": "DNN_excluded_doms",
    "partial_exclusion": "DNN_partial_exclusion",
    "cascade_key": _CASCADE,
}
_ONLY_OLDER = ("num_data_bins", "pulse_data_format")
_ONLY_SETTINGS = ("num_bins", "data_format")


@dataclass(frozen=True)
class _Written:
    """A mapping that holds settings.

    Attributes
    ----------
    at
        Key path of the mapping.
    content
        The mapping.
    keys
        Its key for each setting.
    others
        Settings that do not stand there as they are.
    """

    at: KeyPath
    content: Mapping[Any, Any]
    keys: Mapping[str, str]
    others: Mapping[str, Any] = field(default_factory=dict)


def load_data_settings(path: str | Path, tables: InputTables) -> DataSettings:
    """The settings that the events of a training were made with.

    Parameters
    ----------
    path
        YAML file: a config of data creation with `processing_steps`, an older one, or one that
        holds the settings themselves. Tags are ignored.
    tables
        Names of the input tables of the training. In a config with `processing_steps`, the one
        segment `CreateDNNData` is taken that writes them.

    Raises
    ------
    ConfigError
        If the file cannot be read, has another form, defines other tables, or a setting is
        missing or wrong.
    """
    file = read_yaml_file(Path(path), "file of data settings")
    segments = _segments(file)
    keys = file.values.keys()
    if segments:
        written = _of_segment(file, segments, tables)
    elif keys & set(_ONLY_OLDER):
        written = _of_older_config(file)
    elif keys & set(_ONLY_SETTINGS):
        written = _of_settings(file)
    else:
        raise ConfigError(_unknown_form(file))
    return _checked(file, written)


def settings_of_segment(arguments: Mapping[str, Any], place: str) -> DataSettings:
    """The settings that a segment `CreateDNNData` makes features with.

    Parameters
    ----------
    arguments
        Its arguments.
    place
        Where they stand, for messages.

    Raises
    ------
    ConfigError
        If one is unknown, missing or wrong.
    """
    names = (*_KEYS_OF_SEGMENT.values(), *_WITHOUT_EFFECT)
    check_names(arguments, names, f"{place}: CreateDNNData", ConfigError)
    file = YamlFile(Path(place), RawConfig(dict(arguments), {}))  # its keys have no lines
    settings = _checked(file, _with_others(file, _Written((), arguments, _KEYS_OF_SEGMENT)))
    if settings.pulse_key is None:
        raise ConfigError(f"{place}: 'PulseKey' must be set: the name of the pulses")
    if settings.dom_exclusions and settings.partial_exclusion is None:
        raise ConfigError(
            f"{place}: 'DOMExclusions' is set, so 'PartialExclusion' must be: true leaves out only "
            "pulses inside of time windows, false all pulses of the DOM"
        )
    return settings


def _unknown_form(file: YamlFile) -> str:
    found = ", ".join(list(file.values)[:10])
    return (
        f"'{file.path}' contains no data settings. Give the config that the data were created with "
        f"(a segment '{_CREATE_DATA}' in '{_STEPS}', or the keys {', '.join(_ONLY_OLDER)}), or a "
        f"file of the settings ({', '.join(_NEEDED)}, …). Its first keys: {found}"
    )


# --------------------------------------------------------------------------------------------------
# The three forms
# --------------------------------------------------------------------------------------------------
def _segments(file: YamlFile) -> list[_Written]:
    """All segments that create input features."""
    found = []
    for at_step, step in file.mappings((), file.values, _STEPS):
        for at, segment in file.mappings(at_step, step, _SEGMENTS):
            if segment.get("ModuleClass") == _CREATE_DATA:
                at = (*at, "ModuleKwargs")
                arguments = segment.get("ModuleKwargs")
                if not isinstance(arguments, Mapping):
                    raise file.wrong(at, arguments, "a mapping of the segment's arguments")
                found.append(_Written(at, arguments, _KEYS_OF_SEGMENT))
    return found


def _of_segment(file: YamlFile, segments: list[_Written], tables: InputTables) -> _Written:
    """The one segment that writes the tables."""
    names = [segment.content.get("OutputKey", "dnn_data") for segment in segments]
    found = [s for s, name in zip(segments, names, strict=True) if input_tables(name) == tables]
    if len(found) != 1:
        listed = "".join(
            f"\n  {file.where(segment.at)}: OutputKey {name!r}"
            for segment, name in zip(segments, names, strict=True)
        )
        writes = f"{len(found)} segments CreateDNNData write" if found else "no segment writes"
        raise ConfigError(
            f"'{file.path}': {writes} the tables '{tables.values}', '{tables.indices}' and "
            f"'{tables.time_offset}' that the training reads, but one must. Segments CreateDNNData "
            f"of the file:{listed}\nGive the config that the training data were made with, or one "
            "with their segment alone"
        )
    (segment,) = found
    return _with_others(file, segment)


def _with_others(file: YamlFile, segment: _Written) -> _Written:
    """A segment with the settings that do not stand in it as they are."""
    excluded = segment.content.get("DOMExclusions")
    others = {
        "dom_exclusions": () if excluded is None else excluded,
        "allowed_pulse_keys": _different([_text(file, segment, "PulseKey")]),
        "allowed_cascade_keys": _different([_text(file, segment, "CascadeKey", "MCCascade")]),
    }
    return _Written(segment.at, segment.content, segment.keys, others)


def _of_older_config(file: YamlFile) -> _Written:
    """The settings of an older config, whose data sets may have their own pulses and cascade."""
    values = file.values
    whole = _Written((), values, _OLDER_KEYS)
    pulse_key = _pulse_key(file, whole)
    pulse_keys, cascade_keys = [pulse_key], [_text(file, whole, _CASCADE)]
    datasets = values.get("datasets") or {}
    if not isinstance(datasets, Mapping):
        raise file.wrong(("datasets",), datasets, "a mapping of data sets")
    for name, dataset in datasets.items():
        if isinstance(dataset, Mapping):
            part = _Written(("datasets", str(name)), dataset, {})
            pulse_keys.append(_pulse_key(file, part))
            cascade_keys.append(_text(file, part, _CASCADE))
    others = {
        "pulse_key": pulse_key,
        "allowed_pulse_keys": _different(pulse_keys),
        "cascade_key": cascade_keys[0],
        "allowed_cascade_keys": _different(cascade_keys),
    }
    return _Written((), values, _OLDER_KEYS, others)


def _pulse_key(file: YamlFile, part: _Written) -> str | None:
    key = _PULSES if _PULSES in part.content else _PULSES_TOO
    return _text(file, part, key)


def _different(names: list[str | None]) -> tuple[str, ...] | None:
    """Each name once; None if there is none."""
    return tuple(dict.fromkeys(name for name in names if name is not None)) or None


def _text(file: YamlFile, written: _Written, key: str, default: str | None = None) -> str | None:
    value = written.content.get(key, default)
    if not (value is None or (isinstance(value, str) and value)):
        raise file.wrong((*written.at, key), value, "text; or empty")
    return value


def _of_settings(file: YamlFile) -> _Written:
    """A file of the settings themselves."""
    for key in file.values:
        if key not in SETTINGS:
            raise ConfigError(
                f"{file.where((key,))}: there is no data setting "
                f"'{key}'.{did_you_mean(key, SETTINGS)} Settings are {', '.join(SETTINGS)}"
            )
    return _Written((), file.values, {key: key for key in SETTINGS})


# --------------------------------------------------------------------------------------------------
# Validation
# --------------------------------------------------------------------------------------------------
def _checked(file: YamlFile, written: _Written) -> DataSettings:
    """The settings; errors name the keys of the file."""
    missing = [written.keys[s] for s in _NEEDED if written.keys[s] not in written.content]
    if missing:
        raise ConfigError(
            f"{file.where(written.at)}: {' and '.join(map(repr, missing))} must be set to know how "
            "the data were made"
        )
    values = {s: written.content[k] for s, k in written.keys.items() if k in written.content}
    try:
        return DataSettings(**{**values, **written.others})
    except ValidationError as error:
        lines = [_problem(file, written, details) for details in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from error


def _problem(file: YamlFile, written: _Written, details: ErrorDetails) -> str:
    setting, *inside = details["loc"]
    here = cast(ErrorDetails, {**details, "loc": (written.keys[str(setting)], *inside)})
    may_be = allowed(setting_fields(DataSettings)[str(setting)])
    at, text = describe(here, written.content, lambda _: f"allowed: {may_be}")
    return f"{file.where((*written.at, *at))}: {text}"
