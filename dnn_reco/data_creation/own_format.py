"""Input features that functions of users compute, one DOM at a time.

Such a function is named in the place of a data format, as `package.module.function`. It has the
signature that data formats of IceCube's own tools have, so that these can be used as they are, and
is called by name of its arguments::

    def my_format(
        dom_charges,            # charges [p] of the DOM's pulses, PE
        rel_dom_times,          # their times [p], relative to the sum of both offsets, ns
        global_time_offset,     # time offset of the event, ns
        local_time_offset,      # time offset of the DOM in addition to it, ns
        config,                 # all data settings, a dict
        dom_exclusions,         # the setting of that name: a list of names, or None
        partial_exclusion,      # the setting of that name
        frame,                  # the frame: frame["key"] gives a decoded object
        om_key,                 # the DOM: om_key.string, om_key.om, om_key.pmt
        *args,
        **kwargs,
    ):
        return values, bin_indices, bin_exclusions

Values and bin indices [v] are the features that are not 0 and their numbers, 0 … `num_bins` - 1;
bin exclusions the numbers of excluded features, -1 for all. It is called for each DOM that has
pulses or that the event excludes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dnn_reco.config import call_plugin, check_signature, resolve
from dnn_reco.data.bin_exclusions import exclusion_map
from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.features import DATA_FORMATS, DomFeatures, is_known_format
from dnn_reco.data.hdf5.writer import DomMap
from dnn_reco.data.hits import Hits
from dnn_reco.data.pulses import Pulses
from dnn_reco.data.time_offsets import TimeReference, dom_time_offsets, relative_hits
from dnn_reco.data_creation.frame_inputs import Frame
from dnn_reco.detector.geometry import NUM_DOMS, string_and_om
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.suggestions import did_you_mean

OTHER_FORMATS = ("cascade_classification_data", "mc_tree_input_data")
"""Names of the formats that need more than pulses."""

_KEY = "data_format"
_ARGUMENTS = (
    "dom_charges",
    "rel_dom_times",
    "global_time_offset",
    "local_time_offset",
    "config",
    "dom_exclusions",
    "partial_exclusion",
    "frame",
    "om_key",
)
_RETURNED = "three lists: values, bin_indices and bin_exclusions"


class OMKey(NamedTuple):
    """A DOM, as functions of users get it."""

    string: int
    om: int
    pmt: int = 0


@dataclass(frozen=True)
class OwnFormat:
    """A data format of a user: its dotted name, and its function."""

    name: str
    function: Callable[..., Any]


def is_own_format(data_format: str) -> bool:
    """Whether a data format is the dotted name of a function, which is not imported here.

    Raises
    ------
    ConfigError
        If there is no such format, or it cannot be made here.
    """
    known = (*DATA_FORMATS, *OTHER_FORMATS)
    if is_known_format(data_format) or data_format in OTHER_FORMATS:
        return False
    if data_format == "autoencoder":
        raise ConfigError(
            "the data format 'autoencoder' cannot be made: it needs the network of its encoder, "
            f"which is not public. Available: {', '.join(known)}"
        )
    if "." not in data_format:
        raise ConfigError(
            f"unknown data format '{data_format}'.{did_you_mean(data_format, known)} Choose from "
            f"{', '.join(known)}, or name a function of your own (package.module.function)"
        )
    return True


def own_format(data_format: str, allow_code: bool) -> OwnFormat | None:
    """The user's function that a data format names; None for the formats of this package.

    Parameters
    ----------
    data_format
        Name of a format, or a dotted name.
    allow_code
        Whether functions of users may be imported and called.

    Raises
    ------
    ConfigError
        If there is no such format, it cannot be made here, or the function may not be used,
        does not exist, or has another signature.
    """
    if not is_own_format(data_format):
        return None
    if not allow_code:
        raise ConfigError(
            f"the data format '{data_format}' is Python code, which runs only with permission (on "
            "the command line --allow-code): allow it if you trust the code"
        )
    function = resolve(data_format, _KEY)
    check_signature(function, data_format, _KEY, _ARGUMENTS)
    return OwnFormat(data_format, function)


@dataclass(frozen=True)
class _Listed:
    """What the function returned for one DOM."""

    values: NDArray[np.float64]
    indices: NDArray[np.int64]
    exclusions: NDArray[np.int64]


def own_features(
    own: OwnFormat,
    pulses: Pulses,
    excluded: tuple[NDArray[np.int64], NDArray[np.int64]],
    settings: DataSettings,
    reference: TimeReference,
    frames: Sequence[Frame | None],
) -> tuple[DomFeatures, DomMap]:
    """Features and excluded bins of n events.

    Parameters
    ----------
    own
        The format.
    pulses
        Pulses with finite times, those that are excluded left out.
    excluded
        Event and DOM index [d] of DOMs that events exclude, completely or in part.
    settings
        Settings of the features.
    reference
        What times are relative to.
    frames
        The frame of each event.

    Raises
    ------
    DataError
        If the function fails or returns anything else than it should.
    """
    features, feature_cells = [np.zeros((0, settings.num_bins))], []
    items, item_cells = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    time_offset = relative_hits(pulses, reference)[1]
    config = settings.to_dict()
    shared = {"config": config}
    shared |= {name: config[name] for name in ("dom_exclusions", "partial_exclusion")}
    for cell, arguments in _arguments(pulses, excluded, reference, time_offset):
        arguments |= {**shared, "frame": frames[cell // NUM_DOMS]}
        listed = _call(own, settings.num_bins, arguments)
        if len(listed.values):
            row = np.zeros((1, settings.num_bins))
            row[0, listed.indices] = listed.values
            features.append(row)
            feature_cells.append(cell)
        items.append(listed.exclusions)
        item_cells.append(np.full(len(listed.exclusions), cell))
    event, dom = np.divmod(np.array(feature_cells, dtype=np.int64), NUM_DOMS)
    offsets = np.searchsorted(event, np.arange(pulses.num_events + 1))
    hits = Hits(offsets, dom.astype(np.uint16), np.concatenate(features))
    made = DomFeatures(hits, time_offset, sparse=True)
    cells = np.concatenate(item_cells)
    return made, exclusion_map(pulses.num_events, cells, np.concatenate(items))


def _arguments(
    pulses: Pulses,
    excluded: tuple[NDArray[np.int64], NDArray[np.int64]],
    reference: TimeReference,
    time_offset: NDArray[np.float64],
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Arguments that differ from DOM to DOM, with the cell: event times number of DOMs plus DOM."""
    hits, _ = relative_hits(pulses, reference)
    hit_cells = hits.event * NUM_DOMS + hits.dom
    cells = np.unique(np.append(hit_cells, excluded[0] * NUM_DOMS + excluded[1]))
    event, dom = np.divmod(cells, NUM_DOMS)
    local = dom_time_offsets(pulses, reference, event, dom) - time_offset[event]
    first, last = (np.searchsorted(hit_cells, cells, side=side) for side in ("left", "right"))
    string, om = string_and_om(dom)
    for i, cell in enumerate(cells.tolist()):
        part = slice(hits.offsets[first[i]], hits.offsets[last[i]])
        yield (
            cell,
            {
                "dom_charges": hits.charge[part],
                "rel_dom_times": hits.time[part],
                "global_time_offset": float(time_offset[event[i]]),
                "local_time_offset": float(local[i]),
                "om_key": OMKey(int(string[i]), int(om[i])),
            },
        )


def _call(own: OwnFormat, num_bins: int, arguments: dict[str, Any]) -> _Listed:
    """What the function returns for a DOM, checked."""
    occasion = f"for {arguments['om_key']}"
    returned = call_plugin(own.function, own.name, _KEY, occasion, **arguments)
    if not (isinstance(returned, tuple | list) and len(returned) == 3):
        raise _wrong(own, f"{_RETURNED}, but returned a {type(returned).__name__}")
    try:
        values, *numbers = (np.asarray(part) for part in returned)
        values = values.astype(np.float64)
        indices, exclusions = (part.astype(np.int64) for part in numbers)
    except (TypeError, ValueError) as error:
        raise _wrong(own, f"{_RETURNED}, but one of them holds no numbers ({error})") from error
    are_whole = all(part.size == 0 or part.dtype.kind in "iu" for part in numbers)
    have_shape = values.ndim == exclusions.ndim == 1 and indices.shape == values.shape
    if not (are_whole and have_shape):
        shapes = ", ".join(f"{part.dtype} {part.shape}" for part in (values, *numbers))
        raise _wrong(
            own,
            f"{_RETURNED}, the first two of one length, whole numbers in the last "
            f"two, but returned {shapes}",
        )
    limits = ((indices, 0, "bin_indices"), (exclusions, -1, "bin_exclusions"))
    for found, least, name in limits:
        if len(found) and not (found.min() >= least and found.max() < num_bins):
            raise _wrong(
                own,
                f"{name} from {least} to {num_bins - 1} (num_bins is {num_bins}), but returned "
                f"{found.tolist()}",
            )
    return _Listed(values, indices, exclusions)


def _wrong(own: OwnFormat, text: str) -> DataError:
    return DataError(f"{own.name} ({_KEY}) must return {text}")
