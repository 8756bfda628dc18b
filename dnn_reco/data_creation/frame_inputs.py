"""From a P frame to the arrays that the input features of its event are computed from."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.exclusions import ExcludedDoms, ExcludedWindows
from dnn_reco.data.features import features_depend_on
from dnn_reco.data.hypothesis_features import HYPOTHESIS_KEYS
from dnn_reco.data.loss_features import EnergyLosses
from dnn_reco.data.pulses import Pulses
from dnn_reco.data.time_offsets import uses_vertex
from dnn_reco.detector.directions import vector_of
from dnn_reco.detector.geometry import NUM_DOMS_PER_STRING, NUM_STRINGS, dom_index
from dnn_reco.errors import DataError
from dnn_reco.i3.objects import OM_KEY, PULSE, MCTree, OMKeyMap, Particle, RawObject

OTHER_PMTS = "pulses of photomultipliers other than number 0"
OTHER_MODULES = "pulses of modules outside of IceCube-86"

_MC_TREE = "I3MCTree"
# Brems, DeltaE, PairProd, NuclInt, Hadrons, electron, positron
_LOSS_CODES = (-2000001001, -2000001002, -2000001003, -2000001004, -2000001006, 11, -11)

_NO_PULSES = OMKeyMap(np.zeros(0, OM_KEY), np.zeros(0, np.int64), np.zeros(0, PULSE))
_NO_VERTEX, _NO_HYPOTHESIS = np.full(4, np.nan), np.full(len(HYPOTHESIS_KEYS), np.nan)
_NO_LOSSES = EnergyLosses(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))


class Frame(Protocol):
    """What is needed of a frame: its objects by key, decoded."""

    def __contains__(self, key: object, /) -> bool: ...
    def __getitem__(self, key: str, /) -> Any: ...


@dataclass(frozen=True)
class FrameInput:
    """What the input features of one event are computed from.

    Attributes
    ----------
    pulses
        Pulses of one event, those that it excludes included.
    doms, windows
        What it excludes.
    vertex
        x, y, z [m] and time [ns] of the particle `cascade_key` [4]; NaN where the frame has none.
    hypothesis
        Cascade hypothesis [8] of the format `cascade_classification_data`, else NaN.
    losses
        Simulated energy losses, for the format `mc_tree_input_data`.
    missing
        Why the event has no input, in words that are the same for all such events; empty: it has.
    detail
        What else is known of the reason: the message of the object that cannot be read.
    left_out
        Number of pulses in none of the arrays, by reason.
    frame
        The frame, for formats of users.
    seconds
        Time that it took to read all this.
    """

    pulses: Pulses
    doms: ExcludedDoms
    windows: ExcludedWindows
    vertex: NDArray[np.float64]
    hypothesis: NDArray[np.float64]
    losses: EnergyLosses
    missing: str = ""
    detail: str = ""
    left_out: Mapping[str, int] = field(default_factory=dict)
    frame: Frame | None = None
    seconds: float = 0.0


def frame_input(frame: Frame, settings: DataSettings, keep_frame: bool = False) -> FrameInput:
    """What the features of the event in a P frame are computed from.

    Parameters
    ----------
    frame
        A P frame.
    settings
        Settings of the features; they name pulses, exclusions and cascade.
    keep_frame
        Whether the result holds the frame.

    Raises
    ------
    DataError
        If one of these is the name of an object of another kind, or another one than the pulses
        cannot be decoded.
    """
    start = time.perf_counter()
    series_map, missing, detail = _pulse_map(frame, str(settings.pulse_key))
    vertex, hypothesis, losses = _NO_VERTEX, _NO_HYPOTHESIS, _NO_LOSSES
    key = settings.cascade_key
    if settings.data_format == "mc_tree_input_data":
        if _MC_TREE in frame:
            losses = losses_of(_expected(frame, _MC_TREE, MCTree))
        else:
            missing = missing or f"no '{_MC_TREE}'"
    elif settings.data_format == "cascade_classification_data":
        hypothesis = hypothesis_of(frame, key)
        if not (np.isfinite(hypothesis).all() and (hypothesis[4:] != 0).any()):
            missing = missing or f"no usable '{key}'"
    elif _is_relative_to_vertex(settings):
        vertex = vertex_of(frame, key)
        if not np.isfinite(vertex).all():
            missing = missing or f"no usable '{key}'"
    pulses, left_out = pulses_of(_NO_PULSES if missing else series_map)
    doms, windows = exclusions_of(frame, () if missing else settings.dom_exclusions or ())
    return FrameInput(
        pulses=pulses,
        doms=doms,
        windows=windows,
        vertex=vertex,
        hypothesis=hypothesis,
        losses=_NO_LOSSES if missing else losses,
        missing=missing,
        detail=detail,
        left_out=left_out,
        frame=frame if keep_frame else None,
        seconds=time.perf_counter() - start,
    )


def _is_relative_to_vertex(settings: DataSettings) -> bool:
    """Whether the features, or a user's function for them, need a vertex."""
    method = settings.relative_time_method
    return uses_vertex(method) and "vertex" in features_depend_on(settings.data_format, method)


# --------------------------------------------------------------------------------------------------
# Pulses
# --------------------------------------------------------------------------------------------------
def _pulse_map(frame: Frame, key: str) -> tuple[OMKeyMap, str, str]:
    """The pulses, why there are none, and the details of that."""
    if key not in frame:
        return _NO_PULSES, f"no '{key}'", ""
    try:
        found = frame[key]
    except DataError as error:
        return _NO_PULSES, f"'{key}' cannot be read", str(error)
    if not _holds(found, "time", "charge", "flags"):
        raise DataError(f"'{key}' is {_kind(found)}, not a map, mask or union of pulses")
    return found, "", ""


def _holds(found: object, *fields: str) -> bool:
    """Whether an object is a map by photomultiplier whose items have these fields."""
    return isinstance(found, OMKeyMap) and set(fields) <= set(found.items.dtype.names or ())


def _kind(found: object) -> str:
    """What an object is, for messages."""
    if isinstance(found, OMKeyMap):
        return (
            f"a map with items of {', '.join(found.items.dtype.names or [str(found.items.dtype)])}"
        )
    return f"a {found.class_name if isinstance(found, RawObject) else type(found).__name__}"


def pulses_of(series_map: OMKeyMap) -> tuple[Pulses, dict[str, int]]:
    """The pulses of one event, and the number of others by the reason that they are left out.

    DOMs of strings 1 … 86 have a DOM index; modules further down (om > 60: the tanks at the
    surface) have -1. Pulses of modules that belong to neither are left out, as are those of
    photomultipliers other than number 0.

    Parameters
    ----------
    series_map
        A map with items of type `PULSE`.
    """
    keys = series_map.keys
    string, om = keys["string"].astype(np.int64), keys["om"].astype(np.int64)
    is_first_pmt = keys["pmt"] == 0
    is_known = (string >= 1) & (string <= NUM_STRINGS) & (om >= 1)
    kept = is_first_pmt & is_known
    counts, items = series_map.counts, series_map.items
    left_out = {}
    if not kept.all():
        num_other_pmts = int(counts[is_known & ~is_first_pmt].sum())
        num_other_modules = int(counts[~is_known].sum())
        found = {OTHER_PMTS: num_other_pmts, OTHER_MODULES: num_other_modules}
        left_out = {reason: number for reason, number in found.items() if number}
        items = items[np.repeat(kept, counts)]
        string, om, counts = string[kept], om[kept], counts[kept]
    dom = np.repeat(dom_index(string, om), counts)
    pulse_time = items["time"].astype(np.float64)
    charge, flags = items["charge"].astype(np.float64), items["flags"].astype(np.uint8)
    is_sorted = (np.diff(dom) > 0) | ((np.diff(dom) == 0) & (np.diff(pulse_time) >= 0))
    if not is_sorted.all():
        order = np.lexsort((pulse_time, dom))
        dom, pulse_time, charge, flags = dom[order], pulse_time[order], charge[order], flags[order]
    return Pulses(1, np.zeros(len(dom), np.int64), dom, pulse_time, charge, flags), left_out


# --------------------------------------------------------------------------------------------------
# Exclusions
# --------------------------------------------------------------------------------------------------
def exclusions_of(frame: Frame, keys: Sequence[str]) -> tuple[ExcludedDoms, ExcludedWindows]:
    """What an event excludes.

    Only entries of DOMs count, for photomultiplier 0.

    Parameters
    ----------
    frame
        A P frame.
    keys
        Names of lists of OMKeys and of maps of time windows; those it lacks are skipped.

    Raises
    ------
    DataError
        If one of them is of an unexpected kind.
    """
    doms, windows = [np.zeros(0, np.int64)], [np.zeros((0, 2))]
    window_doms = [np.zeros(0, np.int64)]
    for key in keys:
        if key not in frame:
            continue
        found = frame[key]
        if isinstance(found, np.ndarray) and found.dtype.names == OM_KEY.names:
            doms.append(_doms(found))
        elif _holds(found, "start", "stop"):
            # A DOM without any window is listed with one of no length.
            dom, empty = _doms(found.keys), found.counts == 0
            window_doms += [np.repeat(dom, found.counts), dom[empty]]
            windows.append(np.column_stack([found.items["start"], found.items["stop"]]))
            windows.append(np.zeros((np.count_nonzero(empty), 2)))
        else:
            raise DataError(
                f"'{key}' in 'dom_exclusions' is {_kind(found)}: a list of OMKeys (I3VectorOMKey) "
                "or a map of time windows (I3TimeWindowSeriesMap) is needed"
            )
    dom, of_window, window = (
        np.concatenate(doms),
        np.concatenate(window_doms),
        np.concatenate(windows),
    )
    dom, is_dom = dom[dom >= 0], of_window >= 0
    return (
        ExcludedDoms(np.zeros_like(dom), dom),
        ExcludedWindows(
            np.zeros(np.count_nonzero(is_dom), np.int64),
            of_window[is_dom],
            window[is_dom, 0],
            window[is_dom, 1],
        ),
    )


def _doms(keys: NDArray[np.void]) -> NDArray[np.int64]:
    """DOM index of each photomultiplier; -1: it is not that of a DOM."""
    is_dom = (keys["om"] <= NUM_DOMS_PER_STRING) & (keys["pmt"] == 0)
    return np.where(is_dom, dom_index(keys["string"], keys["om"]), -1)


# --------------------------------------------------------------------------------------------------
# Other objects
# --------------------------------------------------------------------------------------------------
def _expected(frame: Frame, key: str, kind: type) -> Any:
    found = frame[key]
    if not isinstance(found, kind):
        raise DataError(f"'{key}' is {_kind(found)}, but a {kind.__name__} is needed")
    return found


def vertex_of(frame: Frame, key: str | None) -> NDArray[np.float64]:
    """x, y, z [m] and time [ns] of a particle [4]; NaN where the frame has none of this name.

    Raises
    ------
    DataError
        If the object is not a particle.
    """
    if key is None or key not in frame:
        return _NO_VERTEX
    particle = _expected(frame, key, Particle)
    return np.array([particle.x, particle.y, particle.z, particle.time])


def hypothesis_of(frame: Frame, key: str | None) -> NDArray[np.float64]:
    """Numbers of a cascade hypothesis [8], see `HYPOTHESIS_KEYS`; NaN where the frame has none.

    Raises
    ------
    DataError
        If the object is not a map from names to numbers, or lacks some of the names.
    """
    if key is None or key not in frame:
        return _NO_HYPOTHESIS
    found = _expected(frame, key, dict)
    lacking = [name for name in HYPOTHESIS_KEYS if name not in found]
    if lacking:
        raise DataError(
            f"'{key}' is not a cascade hypothesis with uncertainties: it lacks {', '.join(lacking)}"
        )
    return np.array([found[name] for name in HYPOTHESIS_KEYS], dtype=np.float64)


def losses_of(tree: MCTree) -> EnergyLosses:
    """Energy losses among simulated particles: of muons and taus, hadrons, electrons, positrons."""
    found = tree.particles[np.isin(tree.particles["pdg"], _LOSS_CODES)]
    return EnergyLosses(
        np.column_stack([found[axis] for axis in "xyz"]).astype(np.float64),
        vector_of(found["zenith"], found["azimuth"]),
        found["energy"].astype(np.float64),
    )
