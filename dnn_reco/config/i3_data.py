"""Keys of `i3_data`: how event files are made of data files that hold frames (.i3)."""

from typing import ClassVar

from dnn_reco.config.keys import key
from dnn_reco.config.value_types import Flag, Names, Number, Numbers, Settings, Text


class I3DataSettings(Settings):
    """How event files are made of files with frames: by a config of create-data, or these keys."""

    keeps_unknown: ClassVar[bool] = False
    config: Text | None = key(
        None,
        "Config of `dnn-reco create-data`: its steps, streams and keys count; only `gcd` may stand "
        "beside it.",
    )
    gcd: Text | None = key(
        None, "File with geometry, calibration and detector status; empty: part of each file."
    )
    pulses: Text | None = key(None, "Name of the pulses; needed without `config`.")
    data_format: Text | None = key(None, "Format of the features; empty: `pulse_summmary_clipped`.")
    relative_time_method: Text | None = key(
        None, "What times are relative to; empty: `time_range`."
    )
    time_bins: Numbers | None = key(None, "Edges of time bins [ns], for formats that need them.")
    time_quantiles: Numbers | None = key(None, "Quantiles of charge, for formats that need them.")
    cascade_key: Text | None = key(
        None, "Cascade of relative times and labels of a format; empty: `MCCascade`."
    )
    exclusions: Names | None = key(
        None,
        "DOMs and time windows whose pulses are left out; empty: SaturationWindows, BadDomsList, "
        "CalibrationErrata.",
    )
    partial_exclusion: Flag | None = key(
        None, "Leave out only pulses inside of the windows, not all of the DOM; empty: true."
    )
    streams: Names | None = key(
        None,
        "Sub-event streams whose P frames are events; empty: in_ice, InIceSplit, Final, "
        "topological_split.",
    )
    extend_boundary: Number | None = key(
        None, "Distance [m] by which the hull of the labels is larger than the detector; empty: 0."
    )
    keys: Names | None = key(
        None, "Frame objects to write beside headers, primaries and weights, for misc data."
    )
