"""Biased selection: training on a sample that is rich in interesting events.

Events are offered in pools: pool n is the next few thousand events of a shuffled order. *Criteria*
define which of them are interesting; all of those are taken, and as many random ones of the others
as leave the interesting ones their share. The sample is repeated several times, shuffled again each
time. All here are pure functions; :mod:`dnn_reco.training.biased_selection` puts them
together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnn_reco.data.sampling import permute, stream_key

_Compare = Callable[[Tensor, float], Tensor]

_LABEL_CRITERIA: dict[str, _Compare] = {
    "label_greater": torch.gt,
    "label_less": torch.lt,
    "label_equal": torch.eq,
    "label_unequal": torch.ne,
}
_PREDICTION_CRITERIA: dict[str, tuple[Callable[[Residuals], Tensor], _Compare]] = {
    "true_minus_pred_greater": (lambda r: r.physical, torch.gt),
    "true_minus_pred_less": (lambda r: r.physical, torch.lt),
    "true_minus_pred_trafo_greater": (lambda r: r.trafo, torch.gt),
    "true_minus_pred_trafo_less": (lambda r: r.trafo, torch.lt),
    "cut_abs_diff": (lambda r: r.physical.abs(), torch.ge),
    "cut_abs_diff_trafo": (lambda r: r.trafo.abs(), torch.ge),
    "cut_unc_weighted_diff_trafo": (lambda r: r.trafo.abs() / r.uncertainty_trafo, torch.ge),
}
CRITERIA = (*_LABEL_CRITERIA, *_PREDICTION_CRITERIA)
"""The keys of `nn_biased_selection` that are criteria."""


@dataclass(frozen=True)
class Residuals:
    """Residuals of the predictions of B events; all tensors [B, L].

    Attributes
    ----------
    physical, trafo
        True minus predicted labels, in physical and in transformed units.
    uncertainty_trafo
        Predicted uncertainty, in transformed units.
    """

    physical: Tensor
    trafo: Tensor
    uncertainty_trafo: Tensor


@dataclass(frozen=True)
class SelectionCriterion:
    """One cut that makes an event interesting.

    Attributes
    ----------
    key
        The key of `nn_biased_selection`, which defines what is compared and how: one of `CRITERIA`.
    column
        Which of the labels is compared, 0 … L - 1.
    value
        What it is compared with, in the unit of what is compared.
    """

    key: str
    column: int
    value: float

    @property
    def needs_prediction(self) -> bool:
        """Whether the cut is on a prediction, not on the label alone."""
        return self.key in _PREDICTION_CRITERIA


def interesting(
    criteria: Sequence[SelectionCriterion], labels: Tensor, residuals: Residuals | None
) -> Tensor:
    """Which of B events are interesting: those that fulfil any criterion [B], bool.

    Parameters
    ----------
    criteria
        The cuts. A comparison with what is not a number never holds (but for `label_unequal`).
    labels
        True labels [B, L], physical units.
    residuals
        Residuals of the predictions; None where no criterion needs them.
    """
    found = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
    for criterion in criteria:
        if criterion.key in _LABEL_CRITERIA:
            fits = _LABEL_CRITERIA[criterion.key](labels[:, criterion.column], criterion.value)
        else:
            assert residuals is not None, f"'{criterion.key}' needs a prediction"
            quantity, compare = _PREDICTION_CRITERIA[criterion.key]
            fits = compare(quantity(residuals)[:, criterion.column], criterion.value)
        found |= fits
    return found


def choose(
    marked: NDArray[np.bool_], fraction: float, balance: float, max_imbalance: float, key: int
) -> tuple[NDArray[np.int64], float]:
    """Choose events of a pool so that the marked ones make up a fraction of the sample.

    All marked events are taken, and random ones of the others. Where there are not enough of the
    others, the marked events make up more than the fraction.

    Parameters
    ----------
    marked
        Which events of the pool are interesting [P].
    fraction
        Wanted share of interesting events, > 0 and <= 1.
    balance
        By how many the random events taken so far exceed those that the fraction asks for.
    max_imbalance
        One random event is taken at least, unless the balance is above this; and a shortage of
        random events beyond it is not made up for later.
    key
        Which random events: 64 bits.

    Returns
    -------
    chosen
        Positions in the pool, marked events first.
    balance
        The balance from now on.
    """
    interesting_ones, others = np.flatnonzero(marked), np.flatnonzero(~marked)
    target = len(interesting_ones) * (1 / fraction - 1)
    at_least = int(fraction < 1 and balance <= max_imbalance)
    number = min(max(round(target - balance), at_least), len(others))
    random_ones = others[permute(np.arange(number), len(others), key)]
    balance = max(balance + number - target, -max_imbalance)
    return np.concatenate([interesting_ones, random_ones]), balance


def repeat_shuffled(
    numbers: NDArray[np.int64], num_repetitions: int, key: int
) -> NDArray[np.int64]:
    """All of `numbers`, again and again, each time in another random order."""
    places = np.arange(len(numbers))
    return np.concatenate(
        [
            numbers[permute(places, len(numbers), stream_key(key, repetition))]
            for repetition in range(num_repetitions)
        ]
    )


def pool_size(events_per_visit: NDArray[np.int64], num_files: int) -> int:
    """Events of visits of `num_files` files of average size, at most all of an epoch."""
    num_visits = len(events_per_visit)
    return max(1, round(int(events_per_visit.sum()) * min(num_files, num_visits) / num_visits))
