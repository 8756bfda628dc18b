"""How the inputs of a network were made of pulses."""

from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator
from pydantic.dataclasses import dataclass

from dnn_reco.config.value_types import Allowed, Flag, Text
from dnn_reco.data.features import DomFeatures, dom_features
from dnn_reco.data.pulses import Pulses
from dnn_reco.errors import DataError


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


_Names = Annotated[tuple[Text, ...], BeforeValidator(_as_tuple), Allowed("a list of names")]
_Numbers = Annotated[tuple[float, ...], BeforeValidator(_as_tuple), Allowed("a list of numbers")]


@dataclass(frozen=True)
class DataSettings:
    """Settings."""

    num_bins: Annotated[int, Allowed("a whole number")]
    relative_time_method: Text | None
    data_format: Text
    time_bins: _Numbers | None = None
    time_quantiles: _Numbers | None = None
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


SETTINGS = tuple(field.name for field in fields(DataSettings))


def read_record(path: Path) -> DataSettings | None:
    """The record of a file."""
    return None


def check_data_settings(
    model: DataSettings, data: DataSettings, source: str, ignore: Collection[str] = ()
) -> tuple[str, ...]:
    """Check."""
    found = {
        key: f"{key} is {getattr(model, key)!r} for the model, {getattr(data, key)!r} in the data"
        for key in SETTINGS
        if getattr(model, key) != getattr(data, key)
        and key not in ("output_key", "allowed_pulse_keys", "allowed_cascade_keys")
        and getattr(data, key) not in (getattr(model, f"allowed_{key}s", None) or ())
    }
    refused = [text for key, text in found.items() if key not in ignore]
    if refused:
        raise DataError(f"'{source}' was made with other settings:\n" + "\n".join(refused))
    return tuple(found.values())


def features_of(
    pulses: Pulses, settings: DataSettings, vertex: NDArray[np.floating] | None = None
) -> DomFeatures:
    """Features."""
    return dom_features(
        pulses,
        settings.data_format,
        settings.relative_time_method,
        time_bins=settings.time_bins,
        time_quantiles=settings.time_quantiles,
        vertex=vertex,
    )
