"""A plan without a config: features, and labels where there are any, of files given directly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnn_reco.data.data_settings_file import settings_of_segment
from dnn_reco.data.features import num_features, refuse_unused_numbers
from dnn_reco.data.loss_features import NUM_LOSS_FEATURES
from dnn_reco.data_creation.own_format import OTHER_FORMATS, is_own_format
from dnn_reco.data_creation.plan.load import check_outputs, file_context
from dnn_reco.data_creation.plan.records import (
    CREATE_DATA,
    I3_ENDINGS,
    CreationPlan,
    Outputs,
    PlannedFile,
    Segment,
)
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.files import find_files

EXCLUSIONS = ("SaturationWindows", "BadDomsList", "CalibrationErrata")
"""Lists of DOMs and time windows that the tutorial leaves out."""

STREAMS = ("in_ice", "InIceSplit", "Final", "topological_split")
"""Streams of P frames that the tutorial writes."""

_DATASET = "--input"
_KEYS = ("I3EventHeader", "MCPrimary", "I3MCWeightDict", "CorsikaWeightMap")


@dataclass(frozen=True)
class DirectOptions:
    """What to make of which files.

    Attributes
    ----------
    inputs
        Glob patterns of files with frames. Each file gives one output.
    gcd
        File with geometry, calibration and detector status; None: it is part of each input.
    out
        Folder of the outputs.
    pulses
        Name of the pulses.
    data_format, relative_time_method, time_bins, time_quantiles, num_bins, cascade_key
        See :class:`dnn_reco.data.data_settings.DataSettings`; `num_bins` None: those of the format.
    exclusions
        Lists of DOMs and time windows whose pulses are left out.
    partial_exclusion
        Whether only pulses inside of the windows are left out, not all of the DOM.
    streams
        Streams of P frames that become events.
    extend_boundary
        Distance [m] by which the hull of the labels is larger than the detector.
    keys
        Frame objects to write beside the usual ones.
    features, labels
        Common beginning of the names of the input tables, and name of the table of labels.
    """

    inputs: tuple[str, ...]
    out: Path
    pulses: str
    gcd: Path | None = None
    data_format: str = "pulse_summmary_clipped"
    relative_time_method: str = "time_range"
    time_bins: tuple[float, ...] | None = None
    time_quantiles: tuple[float, ...] | None = None
    num_bins: int | None = None
    cascade_key: str = "MCCascade"
    exclusions: tuple[str, ...] = EXCLUSIONS
    partial_exclusion: bool = True
    streams: tuple[str, ...] = STREAMS
    extend_boundary: float = 0.0
    keys: tuple[str, ...] = ()
    features: str = "dnn_data"
    labels: str = "LabelsDeepLearning"

    @property
    def hdf5_keys(self) -> tuple[str, ...]:
        """Frame objects to write, with labels and features."""
        return tuple(dict.fromkeys([*_KEYS, *self.keys, self.labels, self.features]))


def plan_from_options(options: DirectOptions) -> CreationPlan:
    """A plan of one HDF5 file for each input file, with features, labels, headers and weights.

    Raises
    ------
    ConfigError
        If an option is wrong, or two inputs have the same name.
    DataError
        If no file matches.
    """
    if options.gcd is not None and not options.gcd.exists():
        raise DataError(f"the GCD file '{options.gcd}' does not exist: see --gcd")
    found = find_files(options.inputs, "--input")
    inputs = [path for path in found if options.gcd is None or not path.samefile(options.gcd)]
    if not inputs:
        raise DataError(f"--input matches only the GCD file '{options.gcd}'")
    segments = direct_segments(options)
    outputs = Outputs(False, True, I3_ENDINGS[0], (), options.streams)
    names = [options.out / _stem(path) for path in inputs]
    both = zip(inputs, names, strict=True)
    files = [
        _planned(number, path, output, options, segments)
        for number, (path, output) in enumerate(both)
    ]
    check_outputs(files, outputs, "give them different names, or process them one after the other")
    return CreationPlan(tuple(files), (), segments, outputs)


def _planned(
    number: int, path: Path, output: Path, options: DirectOptions, segments: tuple[Segment, ...]
) -> PlannedFile:
    """The plan of one input."""
    gcd, keys = options.gcd, options.hdf5_keys
    context = file_context([path], gcd, output)
    return PlannedFile((path,), gcd, output, number, _DATASET, segments, keys, context)


def _stem(path: Path) -> str:
    """Name of a file without the ending of files with frames."""
    endings = [f".{ending}" for ending in I3_ENDINGS if path.name.endswith(f".{ending}")]
    return path.name.removesuffix(endings[0]) if endings else path.name


def direct_segments(options: DirectOptions, where: str = "command line") -> tuple[Segment, ...]:
    """The segments of the tutorial, with the options; features are checked.

    Parameters
    ----------
    options
        What to make.
    where
        Where that stands, for messages.

    Raises
    ------
    ConfigError
        If an option is wrong.
    """
    features: dict[str, Any] = {
        "NumDataBins": _num_bins(options),
        "RelativeTimeMethod": options.relative_time_method,
        "DataFormat": options.data_format,
        "PulseKey": options.pulses,
        "DOMExclusions": list(options.exclusions),
        "PartialExclusion": options.partial_exclusion,
        "TimeBins": _list(options.time_bins),
        "TimeQuantiles": _list(options.time_quantiles),
        "CascadeKey": options.cascade_key,
        "OutputKey": options.features,
    }
    settings_of_segment(features, where)
    refuse_unused_numbers(options.data_format, options.time_bins, options.time_quantiles)
    labels = {
        "PulseMapString": options.pulses,
        "PrimaryKey": "MCPrimary",
        "ExtendBoundary": options.extend_boundary,
        "OutputKey": options.labels,
    }
    simulated = [
        ("ic3_processing.modules.labels.primary.add_weighted_primary", {}),
        ("ic3_labels.labels.modules.MCLabelsCascades", labels),
    ]
    return (
        *(Segment(name, args, where, only_simulation=True) for name, args in simulated),
        Segment(CREATE_DATA, features, where),
    )


def _list(values: Sequence[float] | None) -> list[float] | None:
    return None if values is None else list(values)


def _num_bins(options: DirectOptions) -> int:
    """Number of features of a DOM: that of the format, unless it is given."""
    if options.num_bins is not None:
        return options.num_bins
    if options.data_format == "mc_tree_input_data":
        return NUM_LOSS_FEATURES
    if is_own_format(options.data_format) or options.data_format in OTHER_FORMATS:
        raise ConfigError(
            f"the number of features of the format '{options.data_format}' is not known: add "
            "--num-bins"
        )
    return num_features(options.data_format, options.time_bins, options.time_quantiles)
