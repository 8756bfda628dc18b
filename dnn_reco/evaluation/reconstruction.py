"""True events, and what reconstructions give for them: what all evaluation starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dnn_reco.inference.prediction_table import PredictionTable
from dnn_reco.nn.interface import LabelKeys

Values = NDArray[np.float64]


@dataclass(frozen=True)
class TrueEvents:
    """The truth of n events on which reconstructions are judged.

    Attributes
    ----------
    ids
        Event ids [n], structured.
    labels
        True labels [n] by name, in physical units; NaN where unknown. Times are relative to the
        time offset of the event, as networks predict them.
    misc
        Misc data [n] by name.
    num_hit_doms
        Number of hit DOMs [n].
    weights
        Weight [n] of each event; None: all are equal.
    time_offset
        Time offset [n] of each event [ns]; None: it is not known.
    """

    ids: NDArray[np.void]
    labels: Mapping[str, Values]
    misc: Mapping[str, Values]
    num_hit_doms: NDArray[np.int64]
    weights: Values | None = None
    time_offset: Values | None = None

    def __len__(self) -> int:
        return len(self.num_hit_doms)


@dataclass(frozen=True)
class Reconstruction:
    """What a model, or another reconstruction, gives for n events.

    Attributes
    ----------
    name
        Its name in tables and figures.
    table
        Its labels and uncertainties [n], of trained labels alone; NaN for events that it does not
        reconstruct, and for uncertainties that it does not give. Times are relative to the time
        offset.
    keys
        Which labels are directions, classes and properties of a particle.
    relative_times
        Labels that are times relative to the time offset of the event.
    is_raw
        Whether it is a model without its calibration, beside the calibrated one.
    """

    name: str
    table: PredictionTable
    keys: LabelKeys
    relative_times: tuple[str, ...] = ()
    is_raw: bool = False


@dataclass(frozen=True)
class Evaluation:
    """Reconstructions of the same n events beside the truth."""

    events: TrueEvents
    reconstructions: tuple[Reconstruction, ...]

    def without_raw(self) -> Evaluation:
        """The same without models that also occur with their calibration."""
        kept = tuple(each for each in self.reconstructions if not each.is_raw)
        return replace(self, reconstructions=kept)
