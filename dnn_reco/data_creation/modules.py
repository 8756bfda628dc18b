"""The modules that run on the frames of a file: labels, and input features."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.data_settings_file import settings_of_segment
from dnn_reco.data_creation.labels.modules import LABEL_MODULES, LabelModule, label_module
from dnn_reco.data_creation.own_format import OwnFormat, own_format
from dnn_reco.data_creation.plan.records import CREATE_DATA, Segment
from dnn_reco.errors import ConfigError
from dnn_reco.suggestions import did_you_mean


@dataclass(frozen=True)
class Labels:
    """A module that makes labels.

    Attributes
    ----------
    module
        The module.
    only_simulation
        Whether frames without simulated particles are left out without a word.
    """

    module: LabelModule
    only_simulation: bool


@dataclass(frozen=True)
class Features:
    """A module that makes input features.

    Attributes
    ----------
    settings
        How they are made.
    user_format
        The user's function, if the data format is one.
    """

    settings: DataSettings
    user_format: OwnFormat | None


@dataclass(frozen=True)
class Modules:
    """All modules, in the order in which they run: labels, then features."""

    labels: tuple[Labels, ...]
    features: tuple[Features, ...]


FEATURE_TABLES = (
    *("bin_values", "bin_indices", "bin_exclusions"),
    *("global_time_offset", "runtime"),
)
"""Ends of the names of the tables of features, after their OutputKey."""

_RESERVED = ("I3EventHeader", "I3MCTree", "I3MCTree_preMuonProp", "MMCTrackList", "I3MCWeightDict")


def _check_keys(features: Sequence[Features], labels: Sequence[Labels]) -> None:
    """Check that no segment writes what another one does, or what is in the frame."""
    keys = [each.settings.output_key for each in features]
    of_labels = [key for each in labels for key in each.module.columns()]
    tables = [f"{key}_{end}" for key in keys for end in FEATURE_TABLES]
    names = [*keys, *of_labels, *tables]
    for key in (*keys, *of_labels):
        if names.count(key) > 1:
            raise ConfigError(f"two segments write '{key}': give them different OutputKeys")
        if key in _RESERVED or key.startswith("__") or "/" in key or key != key.strip():
            raise ConfigError(
                f"the OutputKey '{key}' of a segment cannot be used: frames already have an "
                "object of this name, or it is not valid as the name of a table"
            )


def modules_of(segments: Sequence[Segment], allow_code: Collection[str] = ()) -> Modules:
    """The modules that segments of a config name.

    Parameters
    ----------
    segments
        The segments.
    allow_code
        Packages of functions of users that may be called as data formats.

    Raises
    ------
    ConfigError
        If a segment is of an unknown kind, or its arguments are wrong.
    """
    labels, features = [], []
    for segment in segments:
        name = segment.module_class.rpartition(".")[2]
        if segment.module_class == CREATE_DATA:
            settings = settings_of_segment(segment.kwargs, segment.where)
            package = settings.data_format.partition(".")[0]
            features.append(
                Features(settings, own_format(settings.data_format, package in allow_code))
            )
        elif name in LABEL_MODULES:
            module = label_module(segment.module_class, segment.kwargs, segment.where)
            labels.append(Labels(module, segment.only_simulation))
        else:
            known = (CREATE_DATA, *LABEL_MODULES)
            raise ConfigError(
                f"{segment.where}: the segment '{segment.module_class}' is not available without "
                f"IceTray.{did_you_mean(name, LABEL_MODULES)} Available: {', '.join(known)}"
            )
    _check_keys(features, labels)
    return Modules(tuple(labels), tuple(features))
