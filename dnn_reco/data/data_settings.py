"""How input features were made from pulses, and whether a model fits data made that way.

A network is only right about features that were made like those it was trained on. The settings
that decide what they are travel with event files (:mod:`dnn_reco.data.hdf5.record`) and models.
"""

import json
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator
from pydantic.dataclasses import dataclass

from dnn_reco.config.typed_settings import STRICT, typed_settings
from dnn_reco.config.value_types import Allowed, Flag, NumBins, Text
from dnn_reco.data.features import DomFeatures, dom_features, features_depend_on
from dnn_reco.data.pulses import Pulses
from dnn_reco.data.time_offsets import method_name
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.foreign_files import parse_json
from dnn_reco.suggestions import nearest

_QUANTILES = "a list of numbers from 0 to 1, or of pairs of numbers"
_EDGES = "ascending numbers, at least two; the outer ones may be -inf and inf"


def _as_tuple(value: Any) -> Any:
    """A list as a tuple."""
    return tuple(value) if isinstance(value, list) else value


def _names(value: Any) -> Any:
    """A list of names as a tuple, also if it is only one name."""
    return (value,) if isinstance(value, str) else _as_tuple(value)


def _number(value: Any) -> Any:
    """A number written as text, such as `'-inf'` in configs of data creation."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _ascending(edges: tuple[float, ...]) -> tuple[float, ...]:
    if len(edges) < 2 or not all(low < high for low, high in pairwise(edges)):
        raise ValueError(f"allowed: {_EDGES}")
    return edges


_Names = Annotated[tuple[Text, ...], BeforeValidator(_names), Allowed("a name, or a list of names")]
_Edges = Annotated[
    tuple[Annotated[float, BeforeValidator(_number)], ...],
    BeforeValidator(_as_tuple),
    AfterValidator(_ascending),
    Allowed(_EDGES),
]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _quantiles(values: Any) -> Any:
    """Fractions, or the pairs of numbers of the format `cascade_classification_data`."""
    if not isinstance(values, list | tuple):
        raise ValueError(f"allowed: {_QUANTILES}")
    if all(_is_number(value) and 0 <= value <= 1 for value in values):
        return tuple(float(value) for value in values)
    pairs = tuple(_as_tuple(value) for value in values)
    if all(isinstance(p, tuple) and len(p) == 2 and all(map(_is_number, p)) for p in pairs):
        return tuple((float(first), float(second)) for first, second in pairs)
    raise ValueError(f"allowed: {_QUANTILES}")


_Quantiles = Annotated[tuple[Any, ...], BeforeValidator(_quantiles), Allowed(_QUANTILES)]


@dataclass(frozen=True, config=STRICT)
class DataSettings:
    """Everything that decides what the features of an event are, given its pulses.

    None stands for what was not recorded, or does not exist: simulated events have no pulse key.

    Attributes
    ----------
    num_bins
        Number of features F of a DOM.
    relative_time_method, data_format
        See :func:`dnn_reco.data.features.dom_features`.
    time_bins, time_quantiles
        Edges in ns, and fractions of the charge, of formats that need them. The format
        `cascade_classification_data` has its edges in `time_quantiles`, see
        :func:`dnn_reco.data.hypothesis_features.cascade_classification_data`.
    autoencoder_settings, autoencoder_name
        Names of the encoder of the format `autoencoder`.
    output_key
        Beginning of the names of the tables.
    is_str_dom_format
        Whether dense arrays have the axes string and DOM, instead of those of the hexagonal grid.
    pulse_key
        Pulses that the features were made from.
    allowed_pulse_keys
        Pulses that a model may be applied to.
    dom_exclusions
        Lists of DOMs and time windows whose pulses were left out; empty: nothing was.
    partial_exclusion
        Whether only pulses inside of time windows were left out, not all of the DOM.
    cascade_key
        Particle that relative time methods take the vertex from.
    allowed_cascade_keys
        Particles that a model may be applied with.
    """

    num_bins: NumBins
    relative_time_method: Text | None
    data_format: Text
    time_bins: _Edges | None = None
    time_quantiles: _Quantiles | None = None
    autoencoder_settings: Text | None = None
    autoencoder_name: Text | None = None
    output_key: Text = "dnn_data"
    is_str_dom_format: Flag = False
    pulse_key: Text | None = None
    allowed_pulse_keys: _Names | None = None
    dom_exclusions: _Names | None = None
    partial_exclusion: Flag | None = None
    cascade_key: Text | None = "MCCascade"
    allowed_cascade_keys: _Names | None = None

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values, as a YAML file may hold them."""
        return {key: _plain(getattr(self, key)) for key in SETTINGS}

    def to_json(self) -> str:
        """The settings as JSON text; infinite edges are the texts "inf" and "-inf"."""
        values = self.to_dict()
        if self.time_bins is not None:
            values["time_bins"] = [e if math.isfinite(e) else str(e) for e in self.time_bins]
        return json.dumps(values, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes, place: str = "data settings") -> "DataSettings":
        """The settings in a JSON text.

        Parameters
        ----------
        text
            JSON, of any origin.
        place
            Where it comes from, for the error message.

        Raises
        ------
        DataError
            If the text is not JSON, or a setting is missing, unknown or wrong.
        """
        try:
            values = parse_json(text)
        except ValueError as error:
            raise DataError(f"{place} is damaged: it is not JSON ({error})") from error
        return typed_settings(cls, values, place, DataError)


SETTINGS = tuple(field.name for field in fields(DataSettings))
"""Names of all settings."""

MAY_DIFFER = ("pulse_key", "cascade_key", "dom_exclusions", "partial_exclusion")
"""Settings in which another experiment or event selection differs on purpose."""


def _plain(value: Any) -> Any:
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


# --------------------------------------------------------------------------------------------------
# Features
# --------------------------------------------------------------------------------------------------
# Formats of IceCube's tools that pulses alone do not decide, and what they need besides.
_NEEDED_BESIDES_PULSES = {
    "autoencoder": "the network of its encoder",
    "cascade_classification_data": "a cascade hypothesis with uncertainties",
    "mc_tree_input_data": "the simulated energy losses",
}


def features_of(
    pulses: Pulses,
    settings: DataSettings,
    vertex: NDArray[np.floating] | None = None,
    random: NDArray[np.floating] | None = None,
) -> DomFeatures:
    """Features of n events, as the settings ask.

    Parameters
    ----------
    pulses
        Pulses with finite times.
    settings
        Features beyond those of the format, up to `num_bins`, are 0.
    vertex
        x, y, z [m] and time [ns] of each event [n, 4], for methods relative to a vertex.
    random
        Numbers in 0 … 1 of each event [n], for the method with a random offset; see
        :func:`dnn_reco.data.time_offsets.event_randoms`.

    Raises
    ------
    ConfigError
        If the features cannot be computed, or the format has more of them than `num_bins`.
    """
    if settings.data_format in _NEEDED_BESIDES_PULSES:
        raise ConfigError(
            f"features of the format '{settings.data_format}' cannot be computed from pulses: it "
            f"needs {_NEEDED_BESIDES_PULSES[settings.data_format]}. Use event files that hold them"
        )
    made = dom_features(
        pulses,
        settings.data_format,
        settings.relative_time_method,
        time_bins=settings.time_bins,
        time_quantiles=settings.time_quantiles,
        vertex=vertex,
        random=random,
    )
    return fit_num_bins(made, settings)


def fit_num_bins(made: DomFeatures, settings: DataSettings) -> DomFeatures:
    """Features with as many columns as `num_bins`; those beyond the ones of the format are 0.

    Raises
    ------
    ConfigError
        If the format has more.
    """
    surplus = settings.num_bins - made.hits.features.shape[1]
    if surplus < 0:
        raise ConfigError(
            f"num_bins is {settings.num_bins}, but the format '{settings.data_format}' has "
            f"{made.hits.features.shape[1]} features of a DOM"
        )
    if surplus == 0:
        return made
    features = np.pad(made.hits.features, ((0, 0), (0, surplus)))
    return replace(made, hits=replace(made.hits, features=features))


# --------------------------------------------------------------------------------------------------
# Comparison of a model's settings with those of data
# --------------------------------------------------------------------------------------------------
_ALLOWED_KEYS = {"pulse_key": "allowed_pulse_keys", "cascade_key": "allowed_cascade_keys"}


def check_data_settings(
    model: DataSettings,
    data: DataSettings,
    source: str,
    ignore: Collection[str] = (),
    can_ignore: bool = True,
) -> tuple[str, ...]:
    """Compare the settings that data were made with to those that a model was trained on.

    Only settings that make a difference to the features are compared. `pulse_key`, `cascade_key`,
    `dom_exclusions` and `partial_exclusion` are compared if both sides recorded them; the first
    two may be any that the model allows.

    Parameters
    ----------
    model, data
        The settings of both.
    source
        What the data are, for messages: a file or folder.
    ignore
        Settings whose mismatch is only a warning.
    can_ignore
        Whether the message suggests to ignore mismatches.

    Returns
    -------
    warnings
        A message for each mismatch that is ignored.

    Raises
    ------
    DataError
        Naming each other mismatch.
    ConfigError
        If a name in `ignore` is not that of a setting.
    """
    check_setting_names(ignore)
    mismatches = _mismatches(model, data, "for the model", "in the data")
    refused = [key for key in mismatches if key not in ignore]
    if refused:
        options = " ".join(f"--ignore-mismatch {key}" for key in refused)
        raise DataError(
            f"'{source}' was made with different settings than the training data of the model:\n"
            + "".join(f"  {mismatches[key]}\n" for key in refused)
            + "Make the data with the settings of the model."
            + (f" If a difference does no harm, add {options}" if can_ignore else "")
        )
    return tuple(f"'{source}': {text}; this difference is ignored" for text in mismatches.values())


def check_given_settings(
    given: DataSettings, recorded: DataSettings, holder: str, ignore: Collection[str] = ()
) -> None:
    """Check that given settings do not contradict those that are recorded, which are used.

    They are compared as those of model and data by :func:`check_data_settings`.

    Parameters
    ----------
    given, recorded
        The settings of both.
    holder
        Where the second are recorded, for the message.
    ignore
        Settings that may differ.

    Raises
    ------
    ConfigError
        Naming the settings that differ.
    """
    differing = [key for key in _differing(given, recorded) if key not in ignore]
    if differing:
        listed = "".join(
            f"\n  {key} is {_described(given, key)}, there {_plain(getattr(recorded, key))!r}"
            for key in differing
        )
        raise ConfigError(
            f"--data-settings contradicts the settings that {holder} records:{listed}\nLeave out "
            "--data-settings here: it is for what has no such record"
        )


def check_same_settings(files: Iterable[tuple[Path, DataSettings | None]]) -> tuple[str, ...]:
    """Compare the settings that the files of a training were made with to those of the first.

    Parameters
    ----------
    files
        Files and their settings; those without a record are not compared.

    Returns
    -------
    warnings
        A message for each difference in settings of `MAY_DIFFER`, with one of the files.

    Raises
    ------
    DataError
        Naming the first file with other differences, and these.
    """
    recorded: dict[DataSettings, Path] = {}
    for path, settings in files:
        if settings is not None:
            recorded.setdefault(settings, path)
    if not recorded:
        return ()
    (first, first_path), *others = recorded.items()
    warnings: list[str] = []
    for settings, path in others:
        mismatches = _mismatches(first, settings, "there", "here")
        refused = [text for key, text in mismatches.items() if key not in MAY_DIFFER]
        if refused:
            raise DataError(
                f"'{path}' was made with different settings than '{first_path}':\n"
                + "".join(f"  {text}\n" for text in refused)
                + "A network needs files that were made alike: make one of them again, or leave "
                "it out of the config"
            )
        warnings += [
            f"'{path}' and '{first_path}': {text}; this difference is ignored"
            for text in mismatches.values()
        ]
    return tuple(warnings)


def _mismatches(model: DataSettings, data: DataSettings, there: str, here: str) -> dict[str, str]:
    """Text on each setting of data that does not fit, by its name."""
    return {
        key: f"{key} is {_described(model, key)} {there}, {_plain(getattr(data, key))!r} {here}"
        for key in _differing(model, data)
    }


def check_setting_names(names: Collection[str]) -> None:
    """Check that names are those of data settings.

    Raises
    ------
    ConfigError
        Naming the first that is not, and the nearest one.
    """
    for key in names:
        if key not in SETTINGS:
            raise ConfigError(
                f"there is no data setting '{key}' to ignore; the nearest is "
                f"'{nearest(key, SETTINGS)}'. Settings are {', '.join(SETTINGS)}"
            )


def _differing(model: DataSettings, data: DataSettings) -> list[str]:
    """Settings that make a difference to the features of the model, and are not right for it."""
    return [key for key in _compared(model, data) if not _fits(key, model, data)]


def _compared(model: DataSettings, data: DataSettings) -> list[str]:
    """Settings that make a difference to the features of the model."""
    used = features_depend_on(model.data_format, model.relative_time_method)
    makes_difference = {
        "relative_time_method": "relative_time_method" in used,
        "time_bins": "time_bins" in used,
        "time_quantiles": "time_quantiles" in used,
        "autoencoder_settings": model.data_format == "autoencoder",
        "autoencoder_name": model.data_format == "autoencoder",
        "output_key": False,
        "allowed_pulse_keys": False,
        "partial_exclusion": bool(model.dom_exclusions and data.dom_exclusions),
        "cascade_key": "vertex" in used,
        "allowed_cascade_keys": False,
    }
    return [key for key in SETTINGS if makes_difference.get(key, True)]


def _fits(key: str, model: DataSettings, data: DataSettings) -> bool:
    """Whether the data's value of a setting is right for the model."""
    of_model, of_data = getattr(model, key), getattr(data, key)
    if key in _ALLOWED_KEYS:
        allowed = _allowed(model, key)
        return of_data is None or not allowed or of_data in allowed
    if key == "relative_time_method":
        return method_name(of_model) == method_name(of_data)
    if key in ("dom_exclusions", "partial_exclusion") and None in (of_model, of_data):
        return True
    if key == "dom_exclusions":
        return set(of_model) == set(of_data)
    return bool(of_model == of_data)


def _allowed(model: DataSettings, key: str) -> Sequence[str]:
    """Values of `pulse_key` or `cascade_key` that a model allows; none: any."""
    own, others = getattr(model, key), getattr(model, _ALLOWED_KEYS[key]) or ()
    return list(dict.fromkeys([*([own] if own else []), *others]))


def _described(model: DataSettings, key: str) -> str:
    if key in _ALLOWED_KEYS:
        return " or ".join(map(repr, _allowed(model, key)))
    return repr(_plain(getattr(model, key)))
