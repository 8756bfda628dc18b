"""How the inputs of a network were made of pulses."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from dnn_reco.data.features import DomFeatures
from dnn_reco.data.file_events import InputTables
from dnn_reco.data.pulses import Pulses


@dataclass(frozen=True)
class DataSettings:
    """Settings."""

    num_bins: int
    relative_time_method: str
    data_format: str

    def to_yaml(self) -> str:
        """YAML."""
        return f"num_bins: {self.num_bins}\n"


def load_data_settings(path: Path, tables: InputTables) -> DataSettings:
    """Load."""
    return DataSettings(3, "time_range", "x")


def read_record(path: Path) -> DataSettings | None:
    """The record of a file."""
    return None


def check_data_settings(
    model: DataSettings, data: DataSettings, source: str, ignore: Collection[str]
) -> tuple[str, ...]:
    """Check."""
    return ()


def features_of(pulses: Pulses, settings: DataSettings) -> DomFeatures:
    """Features."""
    raise NotImplementedError
