"""Labels for event selections: neutrinos, upgoing tracks, starting cascades, astrophysical flux."""

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from dnn_reco.config import needed_setting
from dnn_reco.data.hdf5 import list_tables, read_columns, read_table
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.modules.data.labels.default_labels import Values, stack_labels

_LOADER = "the label loader"
_PRIMARY_TABLE = "MCPrimary"
_LABEL_TABLE = "LabelsDeepLearning"

_FLUX_TABLE = "weights_mese"
# Possible names of the columns of the astrophysical and of the conventional flux.
_FLUX_COLUMNS = (
    ("weight_E250", "weight_conv"),
    ("weights_mese_flux", "weights_honda2006_gaisserH4a_elbert_conv_NNFlux"),
)

_DEFAULT_LENGTHS = (25, 50, 100)
_DEFAULT_DISTANCES = (-60, 0, 60, 300, math.inf)
# Distance to the hull [m] -> its name, the suffix of the label table, and the column there that is
# true if an event starts within it.
_START = {
    -60: ("m60", "_m60", "p_starting"),
    0: ("0", "", "p_starting"),
    60: ("60", "_p60", "p_starting"),
    150: ("150", "_p150", "p_starting"),
    300: ("300", "", "p_starting_300m"),
    math.inf: ("inf", "", None),
}


def astroness(
    input_data: str | PathLike[str],
    config: Mapping[str, Any],
    label_names: Sequence[str] | None = None,
    *args: object,
    **kwargs: object,
) -> tuple[Values, list[str]]:
    """Label `astroness`: the astrophysical fraction of the flux of such events.

    It is a / (a + c), with the weights a of the astrophysical and c of the conventional atmospheric
    flux; 0 for events other than neutrinos, and NaN where both weights are 0.

    Parameters
    ----------
    input_data
        The event file, with the tables ``MCPrimary`` and, if there are neutrinos,
        ``weights_mese``: its columns ``weight_E250`` and ``weight_conv``, or ``weights_mese_flux``
        and ``weights_honda2006_gaisserH4a_elbert_conv_NNFlux``.
    config
        Uses `data_handler_time_offset_name`.
    label_names
        Names of the labels to return.

    Returns
    -------
    labels
        [n, 1] float64; masked where the file holds no primary or weights for the event.
    label_names
        The name `astroness`.

    Raises
    ------
    ConfigError
        A key is missing in the configuration.
    DataError
        A table, column or label is missing.
    """
    pdg = _pdg_encoding(input_data, config)
    is_neutrino = _is_neutrino(pdg).filled(False)
    label: Values = np.ma.array(np.zeros(len(pdg)), mask=np.ma.getmaskarray(pdg))
    if is_neutrino.any():
        fluxes = _fluxes(input_data, config)
        with np.errstate(invalid="ignore"):
            label.data[is_neutrino] = (fluxes.data[:, 0] / fluxes.data.sum(axis=1))[is_neutrino]
        label.mask |= is_neutrino & np.ma.getmaskarray(fluxes).any(axis=1)
    names = ["astroness"] if label_names is None else label_names
    return stack_labels({"astroness": label}, names, f"'{input_data}'")


def starting_cascades(
    input_data: str | PathLike[str],
    config: Mapping[str, Any],
    label_names: Sequence[str] | None = None,
    *args: object,
    **kwargs: object,
) -> tuple[Values, list[str]]:
    """Labels ``p_starting_cascade_L<length>_D<distance>``: 1 for cascades of neutrinos.

    A cascade is an event whose primary is a neutrino, whose length is at most `length` [m], and
    which starts within `distance` [m] of the detector's hull (negative: inside by this distance).

    Parameters
    ----------
    input_data
        The event file, with the tables ``MCPrimary``, that of the labels (columns ``Length``,
        ``p_starting``, ``p_starting_300m``), and those that end in ``_m60``, ``_p60``, ``_p150``
        (column ``p_starting``) if the distances -60, 60, 150 are used.
    config
        Uses `data_handler_label_key` (default ``LabelsDeepLearning``),
        `data_handler_time_offset_name`, `labels_starting_cascades_lengths` (default 25, 50, 100)
        and `labels_starting_cascades_distances` (of -60, 0, 60, 150, 300, inf; default: all but
        150).
    label_names
        Names of the labels to return; default: all, by length, then by distance.

    Returns
    -------
    labels
        [n, L] float64; masked where the file holds no labels or primary for the event.
    label_names
        The L names.

    Raises
    ------
    ConfigError
        A key is missing, or a distance is not allowed.
    DataError
        A table, column or label is missing.
    """
    lengths = config.get("labels_starting_cascades_lengths") or _DEFAULT_LENGTHS
    distances = config.get("labels_starting_cascades_distances") or _DEFAULT_DISTANCES
    wrong = [distance for distance in distances if distance not in _START]
    if wrong:
        raise ConfigError(
            f"labels_starting_cascades_distances contains {', '.join(map(str, wrong))}; allowed: "
            f"{', '.join(map(str, _START))}"
        )
    table = config.get("data_handler_label_key") or _LABEL_TABLE
    is_neutrino = _is_neutrino(_pdg_encoding(input_data, config))
    length_of_event = _columns(input_data, config, table, ["Length"])[:, 0]
    starts: dict[str, Any] = {}
    for distance, (distance_name, suffix, column) in _START.items():
        if distance in distances:
            starts[distance_name] = is_neutrino
            if column is not None:
                starting = _columns(input_data, config, table + suffix, [column])[:, 0]
                starts[distance_name] = is_neutrino & (starting != 0)
    labels: dict[str, Values] = {}
    for length in lengths:
        is_short = length_of_event <= length
        for distance_name, start in starts.items():
            labels[f"p_starting_cascade_L{length:g}_D{distance_name}"] = start & is_short
    names = list(labels) if label_names is None else label_names
    return stack_labels(labels, names, f"'{input_data}'")


def upgoing_tracks(
    input_data: str | PathLike[str],
    config: Mapping[str, Any],
    label_names: Sequence[str] | None = None,
    *args: object,
    **kwargs: object,
) -> tuple[Values, list[str]]:
    """Labels (0 or 1) of a selection of neutrinos: upgoing tracks, and events that start inside.

    - `is_upgoing_track`: the primary is a muon neutrino with a zenith angle above 85 degrees, and
      the track is longer than 100 m inside the detector;
    - `is_neutrino_selection`: that, or the event starts within 300 m of the detector's hull;
    - `is_numu`: the primary is a muon neutrino or antineutrino;
    - `is_neutrino`: the primary is any neutrino.

    Parameters
    ----------
    input_data
        The event file, with the tables ``MCPrimary`` and that of the labels (columns
        ``PrimaryZenith``, ``LengthInDetector``, ``p_starting_300m``).
    config
        Uses `data_handler_label_key` and `data_handler_time_offset_name`.
    label_names
        Names of the labels to return; default: all, in the order above.

    Returns
    -------
    labels
        [n, L] float64; masked where the file holds no labels or primary for the event.
    label_names
        The L names.

    Raises
    ------
    ConfigError
        A key is missing in the configuration.
    DataError
        A table, column or label is missing.
    """
    table = needed_setting(config, "data_handler_label_key", _LOADER)
    columns = _columns(
        input_data, config, table, ["PrimaryZenith", "LengthInDetector", "p_starting_300m"]
    )
    zenith, length, starting = columns.T
    pdg = _pdg_encoding(input_data, config)
    is_numu = abs(pdg) == 14
    is_upgoing = is_numu & (zenith > np.deg2rad(85)) & (length > 100)
    labels = {
        "is_upgoing_track": is_upgoing,
        "is_neutrino_selection": is_upgoing | (starting == 1),
        "is_numu": is_numu,
        "is_neutrino": _is_neutrino(pdg),
    }
    names = list(labels) if label_names is None else label_names
    return stack_labels(labels, names, f"'{input_data}'")


def _columns(
    input_data: str | PathLike[str], config: Mapping[str, Any], table: str, names: Sequence[str]
) -> Values:
    """Columns of a table [n, C], by event."""
    events = needed_setting(config, "data_handler_time_offset_name", _LOADER)
    return read_columns(input_data, table, names, events)[0]


def _pdg_encoding(input_data: str | PathLike[str], config: Mapping[str, Any]) -> Values:
    """PDG code of the primary of each event [n]."""
    return _columns(input_data, config, _PRIMARY_TABLE, ["pdg_encoding"])[:, 0]


def _is_neutrino(pdg_encoding: Values) -> Values:
    """Whether PDG codes [n] are those of neutrinos."""
    kind = abs(pdg_encoding)
    is_neutrino: Values = (kind == 12) | (kind == 14) | (kind == 16)
    return is_neutrino


def _fluxes(input_data: str | PathLike[str], config: Mapping[str, Any]) -> Values:
    """Weights of the astrophysical and of the conventional flux [n, 2]."""
    available: tuple[str, ...] = ()
    if _FLUX_TABLE in list_tables(input_data):
        available = read_table(input_data, _FLUX_TABLE).dtype.names or ()
    for columns in _FLUX_COLUMNS:
        if set(columns) <= set(available):
            return _columns(input_data, config, _FLUX_TABLE, columns)
    raise DataError(
        f"'{input_data}' holds neutrinos, but no table '{_FLUX_TABLE}' with the columns "
        f"{' or '.join(' and '.join(columns) for columns in _FLUX_COLUMNS)}, which the label "
        "astroness needs for them"
    )
