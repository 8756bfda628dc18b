"""Errors of any statistic from the bootstrap: the same statistic of events drawn with replacement.

B. Efron, Bootstrap methods: another look at the jackknife, Annals of Statistics 7 (1979) 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from dnn_reco.evaluation.metrics import ValueWithError

REPLICAS = 200
"""Number of replicas: errors are then known to 5 %."""

_SEED = 0
_CELLS = 2_000_000  # entries of the weights that are held at once

Values = NDArray[np.float64]
Statistics = Callable[[Values], Mapping[str, Values]]


def with_bootstrap_errors(
    statistics: Statistics,
    num_events: int,
    weights: Values | None = None,
    replicas: int = REPLICAS,
    seed: int = _SEED,
) -> dict[str, ValueWithError]:
    """Statistics of n events with their bootstrap errors, NaN for fewer than two events.

    In a replica each event counts as often as it is drawn, times its weight. Memory does not grow
    with the number of replicas.

    Parameters
    ----------
    statistics
        Gives statistics [R] by name for R sets of weights [R, n] of the events.
    num_events
        Number of events n.
    weights
        Weight [n] of each event; None: all are equal.
    replicas
        Number of replicas.
    seed
        Seed of the draws.
    """
    weight = np.ones(num_events) if weights is None else np.asarray(weights, np.float64)
    values = {name: float(each[0]) for name, each in statistics(weight[None]).items()}
    if num_events < 2:
        return {name: _measured(value, np.nan) for name, value in values.items()}
    drawn = [statistics(counts * weight) for counts in _counts(num_events, replicas, seed)]
    spread = {name: np.std(np.concatenate([each[name] for each in drawn])) for name in values}
    return {name: _measured(value, float(spread[name])) for name, value in values.items()}


@np.errstate(invalid="ignore", divide="ignore")
def means(values: Values, weights: Values) -> Values:
    """Means [R] of values [n] for R sets of weights [R, n]."""
    return np.asarray(weights @ values / weights.sum(axis=1))


def _counts(num_events: int, replicas: int, seed: int) -> Iterator[Values]:
    """How often each event is drawn in some of the replicas [r, n], until all are done."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _CELLS // num_events)
    for start in range(0, replicas, at_once):
        rows = min(at_once, replicas - start)
        drawn = rng.integers(0, num_events, (rows, num_events))
        drawn += num_events * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * num_events)
        yield counts.reshape(rows, num_events).astype(np.float64)


def _measured(value: float, error: float) -> ValueWithError:
    return ValueWithError(np.float64(value), np.float64(error))  # type: ignore[arg-type]
