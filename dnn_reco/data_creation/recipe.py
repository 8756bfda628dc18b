"""Event files of files with frames that a training config lists: `i3_data`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dnn_reco.amounts import counted
from dnn_reco.config import Config
from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.features import is_known_format, num_features
from dnn_reco.data.from_config import hits_settings
from dnn_reco.data.hdf5 import input_tables
from dnn_reco.data.hdf5.detect import VALUES_ENDING
from dnn_reco.data_creation.event_file import FileJob, FileSummary, make_event_file
from dnn_reco.data_creation.modules import Modules, modules_of
from dnn_reco.data_creation.plan import DirectOptions, Segment, direct_segments, load_steps
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.suggestions import did_you_mean

EXAMPLE = """    i3_data:
      pulses: InIceDSTPulses
      gcd: GeoCalibDetectorStatus.i3.gz  # if it is not part of the files
or
    i3_data:
      config: create_training_data.yaml  # of dnn-reco create-data"""
"""Minimal values of the key."""

_KEY = "i3_data"
_BESIDE_CONFIG = ("config", "gcd")


@dataclass(frozen=True)
class FrameRecipe:
    """How an event file is made of a file with frames.

    Attributes
    ----------
    gcd
        File with geometry, calibration and detector status, read first; None: it is part of each
        file.
    segments
        What runs on the frames.
    keys
        Frame objects to write.
    streams
        Sub-event streams whose P frames are events.
    """

    gcd: Path | None
    segments: tuple[Segment, ...]
    keys: tuple[str, ...]
    streams: tuple[str, ...]

    @property
    def modules(self) -> Modules:
        """The modules of the segments."""
        return modules_of(self.segments)

    def to_text(self) -> str:
        """The recipe as text: equal for equal recipes, wherever they are written."""
        segments = [replace(segment, where=_KEY) for segment in self.segments]
        return json.dumps(
            asdict(replace(self, segments=tuple(segments))), sort_keys=True, default=str
        )

    @classmethod
    def from_text(cls, text: str) -> FrameRecipe:
        """The recipe that :meth:`to_text` wrote."""
        values = json.loads(text)
        return cls(
            None if values["gcd"] is None else Path(values["gcd"]),
            tuple(Segment(**segment) for segment in values["segments"]),
            tuple(values["keys"]),
            tuple(values["streams"]),
        )


def recipe_of(config: Config) -> FrameRecipe:
    """How event files are made for a config that lists files with frames.

    Raises
    ------
    ConfigError
        If `i3_data` is missing or wrong, or does not fit the other keys.
    """
    given = config.data_handler.i3_data
    if given is None:
        raise ConfigError(
            f"the config lists files with frames (.i3), but its key '{_KEY}' is not set: how they "
            f"are converted to event files. Add\n{EXAMPLE}\nor create HDF5 files with dnn-reco "
            "create-data"
        )
    where = str(config.origins[_KEY])
    values = {key: value for key, value in given.__dict__.items() if value is not None}
    gcd = None if given.gcd is None else Path(given.gcd).absolute()
    if gcd is not None and not gcd.is_file():
        raise ConfigError(f"{where}: {_KEY}.gcd: there is no file '{gcd}'")
    if given.config is None:
        recipe = _direct(config, values, gcd, where)
    else:
        recipe = _of_config(values, gcd, where)
    _check(config, recipe, where)
    return recipe


def _of_config(values: Mapping[str, Any], gcd: Path | None, where: str) -> FrameRecipe:
    """The steps of a config of create-data."""
    if beside := [key for key in values if key not in _BESIDE_CONFIG]:
        raise ConfigError(
            f"{where}: {_KEY}: '{beside[0]}' has no effect beside 'config', which defines it: "
            "remove one of the two"
        )
    steps = load_steps(values["config"])
    if steps.names_gcd and gcd is None:
        raise ConfigError(
            f"{where}: {_KEY}: '{values['config']}' names files with geometry and detector status "
            f"for its own data: give that of the training data with {_KEY}.gcd"
        )
    return FrameRecipe(gcd, steps.segments, steps.hdf5_keys, steps.streams)


def _direct(config: Config, values: Mapping[str, Any], gcd: Path | None, where: str) -> FrameRecipe:
    """The features and labels of the keys."""
    if "pulses" not in values:
        raise ConfigError(
            f"{where}: {_KEY}.pulses is not set: name the pulses, or a config. Examples:\n{EXAMPLE}"
        )
    num_bins = config.data_handler.data_handler_num_bins
    is_known = is_known_format(values.get("data_format", DirectOptions.data_format))
    options = DirectOptions(
        **{
            "inputs": (),
            "out": Path(),
            **values,
            "gcd": gcd,
            "num_bins": None if is_known else num_bins,
            "features": _prefix(config),
            "labels": config.data_handler.data_handler_label_key or DirectOptions.labels,
        }
    )
    segments = direct_segments(options, f"{where}: {_KEY}")
    return FrameRecipe(gcd, segments, options.hdf5_keys, options.streams)


def _prefix(config: Config) -> str:
    """Common beginning of the names of the input tables."""
    tables = hits_settings(config).tables
    prefix = tables.values.removesuffix(VALUES_ENDING)
    if input_tables(prefix) != tables:
        raise ConfigError(
            f"of files with frames (.i3), tables of names with a common beginning are made: set "
            f"data_handler_bin_values_name, data_handler_bin_indices_name and "
            f"data_handler_time_offset_name to {', '.join(vars(input_tables(prefix)).values())}"
        )
    return prefix


def _check(config: Config, recipe: FrameRecipe, where: str) -> None:
    """Check that the features are those that the config reads."""
    prefix, num_bins = _prefix(config), config.data_handler.data_handler_num_bins
    for segment in recipe.segments:
        data_format = segment.kwargs.get("DataFormat")
        if isinstance(data_format, str) and "." in data_format:
            raise ConfigError(
                f"{where}: {_KEY}: the data format '{data_format}' is your own code, which is not "
                "run during training: create HDF5 files with dnn-reco create-data --allow-code"
            )
    made = {each.settings.output_key: each.settings for each in recipe.modules.features}
    if prefix not in made:
        raise ConfigError(
            f"{where}: {_KEY} makes the input tables {', '.join(f'{key}_…' for key in made)}, but "
            f"data_handler_bin_values_name is '{config.data_handler.data_handler_bin_values_name}'"
        )
    settings = made[prefix]
    expected = settings.num_bins
    if is_known_format(settings.data_format):
        least = num_features(settings.data_format, settings.time_bins, settings.time_quantiles)
        expected = max(expected, least)
    if not num_bins == settings.num_bins == expected:
        raise ConfigError(
            f"{where}: {_KEY}: the format '{settings.data_format}' has "
            f"{counted(expected, 'feature')}, but data_handler_num_bins is {num_bins}"
        )


def settings_of_recipe(recipe: FrameRecipe, config: Config) -> DataSettings:
    """How the features that a config reads are made."""
    prefix = _prefix(config)
    return next(
        each.settings for each in recipe.modules.features if each.settings.output_key == prefix
    )


def make_by_recipe(
    recipe: FrameRecipe, source: Path, target: Path, max_events: int | None = None
) -> dict[str, int]:
    """Make the event file of a file with frames; returns what was left out, and how often.

    Parameters
    ----------
    recipe
        How.
    source
        The file with frames.
    target
        The event file.
    max_events
        Take no more than the first events; None: all.

    Raises
    ------
    DataError
        If a file cannot be read to its end, an object is damaged or of a wrong kind, or there is
        no event.
    """
    job = FileJob(
        (source,), target, recipe.keys, recipe.streams, gcd=recipe.gcd, max_events=max_events
    )
    summary = make_event_file(job, recipe.modules)
    if not summary.num_events:
        others = [f"{number} of {reason}" for reason, number in summary.skipped.items()]
        raise DataError(
            f"'{source}' has no P frames of the streams {', '.join(recipe.streams)}, but "
            f"{', '.join(others) or 'none at all'}: see {_KEY}.streams"
        )
    if not summary.num_usable:
        reasons = "; ".join(f"{n} times {reason}" for reason, n in summary.without.items())
        wanted = str(recipe.modules.features[0].settings.pulse_key)
        is_there = wanted in summary.pulses
        hint = "" if is_there else did_you_mean(wanted, summary.pulses)
        there = f" Its pulses are {', '.join(summary.pulses)}" if summary.pulses else ""
        raise DataError(f"no event of '{source}' has features: {reasons}.{hint}{there}")
    return _left_out(summary)


def _left_out(summary: FileSummary) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for what, reasons in (
        ("P frames", summary.skipped),
        ("rows", summary.without),
        ("pulses", summary.left_out),
    ):
        counts.update({f"{what} ({reason})": number for reason, number in reasons.items()})
    absent: Sequence[str] = summary.absent_exclusions if summary.num_events else ()
    counts.update(f"files where no frame has '{key}' of the exclusions" for key in absent)
    return dict(counts)
