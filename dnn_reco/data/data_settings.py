"""How the inputs of a network were made of pulses."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ruamel.yaml import YAML

from dnn_reco.data.features import DomFeatures
from dnn_reco.data.file_events import InputTables
from dnn_reco.data.pulses import Pulses
from dnn_reco.errors import ConfigError, DataError


@dataclass(frozen=True)
class DataSettings:
    """Settings."""

    num_bins: int
    relative_time_method: str
    data_format: str

    def to_json(self) -> str:
        """The settings as JSON text."""
        return json.dumps(asdict(self))


def read_record(path: Path) -> DataSettings | None:
    """The record of a file."""
    return None


def load_data_settings(path: str | Path, tables: InputTables) -> DataSettings:
    """The settings in a YAML file."""
    return DataSettings(**YAML(typ="safe", pure=True).load(Path(path)))


def check_data_settings(
    model: DataSettings, data: DataSettings, source: str, ignore: Collection[str] = ()
) -> tuple[str, ...]:
    """Check."""
    names = [field.name for field in fields(DataSettings)]
    for key in ignore:
        if key not in names:
            raise ConfigError(f"there is no data setting '{key}' to ignore")
    found = {
        key: f"{key} is {getattr(model, key)!r} for the model, {getattr(data, key)!r} in the data"
        for key in names
        if getattr(model, key) != getattr(data, key)
    }
    if refused := [text for key, text in found.items() if key not in ignore]:
        raise DataError(f"'{source}' was made with other settings: " + "; ".join(refused))
    return tuple(f"'{source}': {text}; this is ignored" for text in found.values())


def features_of(pulses: Pulses, settings: DataSettings) -> DomFeatures:
    """Features."""
    raise NotImplementedError
