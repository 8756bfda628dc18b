"""What a simulated data set is made of: the keys of a simulation's YAML file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dnn_reco.config.sources import read_files
from dnn_reco.config.typed_settings import describe, typed_settings
from dnn_reco.data.data_settings import DataSettings, features_of
from dnn_reco.data.features import DomFeatures, num_features, refuse_unused_numbers
from dnn_reco.data.pulses import Pulses
from dnn_reco.data.simulated_files import RECORD
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.files import write_atomically
from dnn_reco.foreign_files import parse_json
from dnn_reco.simulation.particles import ParticleSettings
from dnn_reco.suggestions import nearest

MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class SimulationSettings(ParticleSettings):
    """Everything that decides what the events of a data set are.

    Attributes
    ----------
    data_format
        Format of the DOM features: see `dnn_reco.data.features.dom_features`.
    time_bins
        Edges in ns of formats with a charge histogram.
    time_quantiles
        Fractions of the charge of `charge_weighted_time_quantiles`.
    events_per_file
        Events of a file.
    keep_pulses
        Also write the pulses, as a Parquet file beside each event file.
    seed
        Seed of everything random. File k of a data set depends on the seed and k alone.
    """

    data_format: str = "pulse_summmary_clipped"
    time_bins: tuple[float, ...] | None = None
    time_quantiles: tuple[float, ...] | None = None
    events_per_file: int = 500
    keep_pulses: bool = False
    seed: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.events_per_file < 1:
            raise ConfigError(f"events_per_file is {self.events_per_file}: give at least 1")
        if not 0 <= self.seed <= MAX_SEED:
            raise ConfigError(f"the seed is {self.seed}: give a number from 0 to {MAX_SEED}")
        refuse_unused_numbers(self.data_format, self.time_bins, self.time_quantiles)
        _ = self.data_settings  # refuses formats that do not exist, or lack a setting

    @property
    def data_settings(self) -> DataSettings:
        """How the features are made, for the record of the files.

        Keys of pulses, of a cascade and of exclusions are not recorded: they name objects of
        detector data, and no DOM or time window is marked as bad in simulated events.
        """
        settings = {
            "num_bins": num_features(self.data_format, self.time_bins, self.time_quantiles),
            "relative_time_method": "time_range",
            "data_format": self.data_format,
            "time_bins": self.time_bins,
            "time_quantiles": self.time_quantiles,
            "cascade_key": None,
        }
        return typed_settings(DataSettings, settings, "features", ConfigError)

    def features(self, pulses: Pulses) -> DomFeatures:
        """The DOM features of pulses in the format of these settings."""
        return features_of(pulses, self.data_settings)


def load_settings(path: Path | None, overrides: Mapping[str, Any]) -> SimulationSettings:
    """Settings of a YAML file, or the defaults, with some of them replaced.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a key or value is unknown or wrong.
    """
    problems: list[str] = []
    written = read_files([path] if path else [], problems)
    known = [field.name for field in fields(SimulationSettings)]
    for key in written.values:
        if key not in known:
            problems.append(
                f"{written.locations[key,]}: there is no setting '{key}'; the nearest is "
                f"'{nearest(key, known)}'"
            )
    if problems:
        raise ConfigError("\n".join(problems))
    values = {**written.values, **overrides}
    try:
        return TypeAdapter(SimulationSettings).validate_python(values)
    except ValidationError as error:
        lines = []
        for details in error.errors():
            at, text = describe(details, values, lambda _: "")
            from_file = at[0] in written.values and at[0] not in overrides
            lines.append(f"{written.locations[at[:1]]}: {text}" if from_file else text)
        raise ConfigError("\n".join(dict.fromkeys(lines))) from error


def claim_folder(folder: Path, settings: SimulationSettings) -> None:
    """Note in a folder how its events are made, so that other events never mix with them.

    Raises
    ------
    DataError
        If the folder holds events made with different settings.
    """
    path = folder / RECORD
    current = json.loads(json.dumps(asdict(settings)))
    if not path.exists():
        write_atomically(path, json.dumps(current, indent=2).encode() + b"\n")
        return
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
        differences = [
            f"{key} is {found.get(key)} in the folder, {current.get(key)} now"
            for key in {**found, **current}
            if found.get(key) != current.get(key)
        ]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"'{path}' cannot be read ({error}): choose another folder, or remove this one"
        ) from error
    if differences:
        raise DataError(
            f"'{folder}' holds events that were simulated with different settings: "
            f"{'; '.join(differences)}. Give the same settings to continue there, or another folder"
        )
