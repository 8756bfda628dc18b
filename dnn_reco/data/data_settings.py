"""How the inputs of a network were made of pulses."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from dnn_reco.data.features import DomFeatures, dom_features
from dnn_reco.data.pulses import Pulses


@dataclass(frozen=True)
class DataSettings:
    """Settings."""

    num_bins: int
    relative_time_method: str
    data_format: str


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
    return dom_features(pulses, settings.data_format, settings.relative_time_method)
