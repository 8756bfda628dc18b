"""Labels of muons with a large stochastic loss, or any class defined by cuts on labels."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from dnn_reco.modules.data.labels.default_labels import (
    Values,
    get_label,
    simple_label_loader,
    stack_labels,
)


def muon_scattering(
    input_data: str | PathLike[str],
    config: Mapping[str, Any],
    label_names: Sequence[str] | None = None,
    *args: object,
    **kwargs: object,
) -> tuple[Values, list[str]]:
    """The labels of `simple_label_loader`, and labels that are 1 where some of them pass cuts.

    Parameters
    ----------
    input_data
        The event file.
    config
        Uses `labels_muon_scattering_defs` (new label -> {label: cut}): the new label is 1 where
        each of the labels is at least its cut, else 0; labels defined before it may be used. Also
        uses the keys of :func:`.default_labels.simple_label_loader`.
    label_names
        Names of the labels to return; default: all, sorted.

    Returns
    -------
    labels
        [n, L] float64; masked where the file holds no labels for the event.
    label_names
        The L names.

    Raises
    ------
    ConfigError
        A key is missing in the configuration.
    DataError
        A table or label is missing in the file.
    """
    columns, names = simple_label_loader(input_data, config)
    labels: dict[str, Values] = {name: columns[:, i] for i, name in enumerate(names)}
    place = f"'{input_data}' (labels_muon_scattering_defs)"
    for new_name, cuts in (config.get("labels_muon_scattering_defs") or {}).items():
        passed = np.ma.array(np.ones(len(columns), dtype=bool))
        for name, cut in cuts.items():
            passed = passed & (get_label(labels, name, place) >= cut)
        labels[new_name] = passed
    return stack_labels(labels, sorted(labels) if label_names is None else label_names, place)
