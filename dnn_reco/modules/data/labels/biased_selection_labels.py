"""Labels for the filters and event selections that an event passes."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from dnn_reco.config import needed_setting
from dnn_reco.data.hdf5 import read_columns, read_joined
from dnn_reco.errors import DataError
from dnn_reco.modules.data.labels.default_labels import Values, stack_labels
from dnn_reco.modules.data.misc.default_misc import as_numbers, find_column

_FILTER_TABLE = "FilterMask"
_DEFAULT_FILTERS = ("CascadeFilter", "MuonFilter")
_PREFIX = "DeepLearningReco_"
_DEFAULT_SCORES = {
    f"{_PREFIX}event_selection_cscdl3_300m_01": [("p_starting_300m", 0.8)],
    f"{_PREFIX}event_selection_dnn_cscd_l3a_starting_events_03": [("p_starting_300m", 0.5)],
}


def biased_muongun(
    input_data: str | PathLike[str],
    config: Mapping[str, Any],
    label_names: Sequence[str] | None = None,
    *args: object,
    **kwargs: object,
) -> tuple[Values, list[str]]:
    """Labels ``p_passed_…`` (0 or 1) of filters and selections, and scores of trained networks.

    They are used to simulate preferably events that pass.

    - ``p_passed_<filter>``: from the table of filter results, whose columns are pairs (condition,
      prescale) of which the second is used; names there end in the year, a part is sufficient;
    - `p_passed_cscdl3`, `p_passed_cscdl3_cont`: level 3 of the cascade stream, and of its contained
      part;
    - for each prediction of a network that the file holds: the score ``<model>_<column>``, and
      ``p_passed_<model>_<column>``, 1 where it is above its cut.

    Parameters
    ----------
    input_data
        The event file, with the tables ``FilterMask``, ``CscdL3``, ``CscdL3_Cont_Tag`` and those
        of the predictions.
    config
        Uses `data_handler_time_offset_name`, `labels_biased_selection_filter_keys` (default:
        CascadeFilter, MuonFilter) and `labels_biased_selection_dnn_label_names` (table -> list of
        (column, cut); ``<model>`` is the table's name without ``DeepLearningReco_``; default:
        p_starting_300m of the models event_selection_cscdl3_300m_01 > 0.8 and
        event_selection_dnn_cscd_l3a_starting_events_03 > 0.5).
    label_names
        Names of the labels to return; default: all, sorted.

    Returns
    -------
    labels
        [n, L] float64; masked where the file lacks one of the objects for the event.
    label_names
        The L names.

    Raises
    ------
    ConfigError
        A key is missing in the configuration.
    DataError
        A table, column, filter or label is missing in the file.
    """
    events = needed_setting(config, "data_handler_time_offset_name", "the label loader")
    filters = config.get("labels_biased_selection_filter_keys")
    scores = config.get("labels_biased_selection_dnn_label_names")
    labels = _filters(input_data, events, _DEFAULT_FILTERS if filters is None else filters)

    passed, contained = (
        read_columns(input_data, table, ["value"], events)[0][:, 0]
        for table in ("CscdL3", "CscdL3_Cont_Tag")
    )
    labels["p_passed_cscdl3"] = passed
    labels["p_passed_cscdl3_cont"] = (contained > 0) & (passed != 0)

    for table, cuts in (_DEFAULT_SCORES if scores is None else scores).items():
        key = "labels_biased_selection_dnn_label_names"
        names = [column for column, _ in cuts]
        columns, _ = read_columns(input_data, table, names, events, key)
        for i, (name, cut) in enumerate(cuts):
            score = columns[:, i]
            label = f"{table.replace(_PREFIX, '')}_{name}"
            labels[label] = score
            labels[f"p_passed_{label}"] = score > cut
    return stack_labels(
        labels, sorted(labels) if label_names is None else label_names, f"'{input_data}'"
    )


def _filters(
    input_data: str | PathLike[str], events: str, filters: Sequence[str]
) -> dict[str, Values]:
    """Labels ``p_passed_<filter>`` [n] of the filters."""
    key, place = "labels_biased_selection_filter_keys", f"table '{_FILTER_TABLE}' of '{input_data}'"
    labels: dict[str, Values] = {}
    if not filters:
        return labels
    rows, row_of_event = read_joined(input_data, _FILTER_TABLE, events)
    for name in filters:
        column = find_column(rows.dtype, name, place, key)
        if column is None:
            raise DataError(
                f"{key} names '{name}', but {place} has no such column. Its columns: "
                f"{', '.join(rows.dtype.names or ())}"
            )
        passed = np.append(as_numbers(rows[column]), np.nan)[row_of_event]
        labels[f"p_passed_{name}"] = np.ma.array(passed, mask=row_of_event < 0)
    return labels
