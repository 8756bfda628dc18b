"""Misc data of a batch of events, untransformed and transformed, for networks and losses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from dnn_reco.errors import ConfigError, DataError
from dnn_reco.nn.label_transform import ColumnTransform
from dnn_reco.transform import TransformationModel


class MiscData:
    """Misc data of B events; ``misc["MCPrimary_energy"]`` is a column [B], untransformed.

    Attributes
    ----------
    names
        Names of the M columns, in order.
    values
        The columns [B, M], as the misc loader gives them (times relative to the time offset).

    Parameters
    ----------
    values
        The columns [B, M].
    transform
        Their transformation.
    """

    def __init__(self, values: Tensor, transform: MiscTransform) -> None:
        self.names = transform.names
        self.values = values
        self._transform = transform

    def __len__(self) -> int:
        """Number of events B."""
        return len(self.values)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> Tensor:
        """A column [B], untransformed.

        Raises
        ------
        ConfigError
            If there is none of this name.
        """
        return self.values[:, self.index(name)]

    def index(self, name: str) -> int:
        """Where a column stands.

        Raises
        ------
        ConfigError
            If there is none of this name.
        """
        if name not in self.names:
            raise ConfigError(
                f"the misc value '{name}' is not loaded. Available: "
                f"{', '.join(self.names) or 'none'}. Add its table and column to misc_load_dict"
            )
        return self.names.index(name)

    @cached_property
    def values_trafo(self) -> Tensor:
        """The columns [B, M], transformed (`trafo_log_misc_bins`, `trafo_normalize_misc_data`).

        Raises
        ------
        DataError
            If a column with log flag holds -1 or less.
        """
        values: Tensor = self._transform(self.values)
        return values

    def select(self, rows: slice | Tensor) -> MiscData:
        """The same for some of the events."""
        return MiscData(self.values[rows], self._transform)


class MiscTransform(ColumnTransform):
    """Transform misc data [B, M].

    Parameters
    ----------
    transformation
        Settings and moments of the misc data.
    """

    def __init__(self, transformation: TransformationModel) -> None:
        settings = transformation.settings
        super().__init__(
            settings.log_misc_bins,
            transformation.misc_mean,
            transformation.misc_std + settings.norm_constant,
            settings.normalize_misc_data,
        )
        self.names = settings.misc_names

    def forward(self, values: Tensor) -> Tensor:
        """Transform misc data; computed in float64, returned in the type of the input.

        Raises
        ------
        DataError
            If a column with log flag holds -1 or less.
        """
        self._check_logarithms(values)
        return super().forward(values)

    def data(self, values: Tensor) -> MiscData:
        """The misc data of B events from their columns [B, M]."""
        return MiscData(values, self)

    def _check_logarithms(self, values: Tensor) -> None:
        if not any(self.has_log) or not len(values):
            return
        smallest = values.amin(dim=0).tolist()
        for name, has_log, value in zip(self.names, self.has_log, smallest, strict=True):
            if has_log and value <= -1:
                raise DataError(
                    f"the logarithm ln(1 + x) is configured for the misc value '{name}', which has "
                    f"values down to {value:g}: switch its flag off in trafo_log_misc_bins, or "
                    "drop such events with a filter"
                )


def joined(parts: Sequence[MiscData]) -> MiscData:
    """The misc data of several batches, one after the other."""
    return parts[0]._transform.data(torch.cat([part.values for part in parts]))
