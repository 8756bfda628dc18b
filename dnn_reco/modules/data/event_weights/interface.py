"""The arguments of an event weight function.

An event weight is a function ``event_weight(truth, misc, config) -> Tensor [n, 1]``: the weight of
each of n events in the loss, a number >= 0. Only the ratios within a batch matter, as losses are
averaged with these weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dnn_reco.errors import ConfigError


class EventColumns:
    """Values of n events by name: ``columns["PrimaryEnergy"]`` is a float64 tensor [n].

    Parameters
    ----------
    values
        The values [n, C].
    names
        Names of the C columns.
    kind
        Kind of the columns, for messages: "label" or "misc value".
    remedy
        How to load a column that is missing, for messages.
    """

    def __init__(self, values: Tensor, names: Sequence[str], kind: str, remedy: str) -> None:
        self.names = tuple(names)
        self._values = values.to(torch.float64, copy=True)  # a user may change them
        self._kind, self._remedy = kind, remedy

    def __len__(self) -> int:
        """Number of events n."""
        return len(self._values)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> Tensor:
        """Values of a column [n].

        Raises
        ------
        ConfigError
            If there is none of this name.
        """
        if name not in self.names:
            raise ConfigError(
                f"event_weight_class needs the {self._kind} '{name}', which is not loaded. "
                f"Available: {', '.join(self.names) or 'none'}. {self._remedy}"
            )
        return self._values[:, self.names.index(name)]


def label_columns(labels: Tensor, names: Sequence[str]) -> EventColumns:
    """True labels [n, L] as in training: after smoothing, times relative to the time offset."""
    remedy = "The label loader (data_handler_label_class) must return it"
    return EventColumns(labels, names, "label", remedy)


def misc_columns(misc: Tensor, names: Sequence[str]) -> EventColumns:
    """Misc values [n, M]; their names are `<table>_<column>`."""
    return EventColumns(misc, names, "misc value", "Add its table and column to misc_load_dict")
