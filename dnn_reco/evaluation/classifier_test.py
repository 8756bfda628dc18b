"""Classifier two-sample test: a small network tries to separate two samples.

Lopez-Paz & Oquab, "Revisiting classifier two-sample tests", ICLR 2017 (arXiv:1610.06545). Where the
two samples have the same distribution, no classifier is right more often than by chance. Each
event is judged by a network that was trained without it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dnn_reco.evaluation.classification import area_under_curve
from dnn_reco.evaluation.metrics import ValueWithError, effective_number

Numbers = NDArray[np.float64]

FEWEST_EVENTS = 20
"""Of each sample; with fewer there is nothing to train with."""

_FOLDS = 5
_HIDDEN = 32
_STEPS, _BATCH = 250, 512
_LEARNING_RATE, _WEIGHT_DECAY = 1e-2, 1e-2
_LEAST = 1e-300  # probability, above 0 so that it has a logarithm


@dataclass(frozen=True)
class ClassifierTest:
    """Result of the test.

    Attributes
    ----------
    score
        Score of each event [N], those of the first sample first: the logarithm of the odds that it
        is of the second.
    is_second, weight
        Whether an event is of the second sample, and its weight [N].
    area
        Area under the ROC curve: probability that an event of the second sample has a higher score
        than one of the first.
    accuracy
        Mean of the shares of events of both samples that are recognised.
    p_value
        Probability of such an area, or a larger one, of samples of the same distribution.
    importance
        By feature: how much the area shrinks if its values are shuffled, largest first.
    """

    score: Numbers
    is_second: NDArray[np.bool_]
    weight: Numbers
    area: ValueWithError
    accuracy: ValueWithError
    p_value: float
    importance: dict[str, float]


def classifier_test(
    names: Sequence[str],
    first: Numbers,
    second: Numbers,
    weights: tuple[Numbers, Numbers],
    seed: int = 1,
) -> ClassifierTest | None:
    """Run the test; None for samples of fewer than `FEWEST_EVENTS` events.

    Parameters
    ----------
    names
        Names of the features.
    first, second
        Features [n, S] and [m, S]; values that are not finite count as the median.
    weights
        Weights of the events of both samples, at least 0.
    seed
        Of folds, initial weights, batches and shuffling.
    """
    sizes = len(first), len(second)
    if min(sizes) < FEWEST_EVENTS or min(w.sum() for w in weights) <= 0:
        return None
    features = normal_scores(np.concatenate([first, second]).astype(np.float64))
    target = np.repeat([0.0, 1.0], sizes)
    weight = np.concatenate(weights)
    balanced = np.concatenate([w * len(w) / w.sum() for w in weights])
    balanced *= np.repeat([sum(sizes) / (2 * size) for size in sizes], sizes)
    rng = np.random.default_rng(seed)
    fold = np.concatenate([rng.permutation(size) % _FOLDS for size in sizes])
    score = np.empty(len(target))
    shuffled = np.empty((len(names), len(target)))
    for number in range(_FOLDS):
        judged = fold == number
        network = _train(features[~judged], target[~judged], balanced[~judged], seed + number)
        score[judged] = _scores(network, features[judged])
        for column in range(len(names)):
            changed = features[judged]
            changed[:, column] = rng.permutation(changed[:, column])
            shuffled[column, judged] = _scores(network, changed)
    is_second = target > 0
    area = area_under_curve(score, is_second, weight)
    decrease = {
        name: float(area.value - area_under_curve(row, is_second, weight).value)
        for name, row in zip(names, shuffled, strict=True)
    }
    folds = [
        (score[fold == number], is_second[fold == number], weight[fold == number])
        for number in range(_FOLDS)
    ]
    return ClassifierTest(
        score,
        is_second,
        weight,
        area,
        _accuracy(score, is_second, weight),
        _p_value(folds),
        dict(sorted(decrease.items(), key=lambda item: -item[1])),
    )


def _p_value(folds: Sequence[tuple[Numbers, NDArray[np.bool_], Numbers]]) -> float:
    """Probability of the areas of all folds if the samples have the same distribution.

    The events of a fold are independent of the network that judges them, so that its area has the
    variance of Mann & Whitney (Ann. Math. Stat. 18 (1947) 50). The networks of different folds
    share events, and the areas depend on each other: e times the geometric mean of probabilities is
    one, whatever their dependence (Vovk & Wang, Biometrika 107 (2020) 791).

    Parameters
    ----------
    folds
        Scores, whether an event is of the second sample, and weights of the events of each fold.
    """
    logarithms = []
    for score, is_second, weight in folds:
        n, m = (effective_number(weight[kind]) for kind in (~is_second, is_second))
        if n > 0 and m > 0:
            area = area_under_curve(score, is_second, weight).value
            deviation = (area - 0.5) / math.sqrt((n + m + 1) / (12 * n * m))
            logarithms.append(math.log(max(math.erfc(deviation / math.sqrt(2)) / 2, _LEAST)))
    return min(1.0, math.exp(1 + float(np.mean(logarithms)))) if logarithms else math.nan


def normal_scores(features: Numbers) -> NDArray[np.float32]:
    """Features [n, S] by rank, as normal numbers; equal values share the mean of their ranks.

    The ranks are those in both samples together, which does not depend on the sample of an event.
    """
    result = np.zeros(features.shape, dtype=np.float32)
    for column, values in enumerate(features.T):
        finite = np.isfinite(values)
        _, place, counts = np.unique(values[finite], return_inverse=True, return_counts=True)
        middle = (np.cumsum(counts) - counts / 2) / max(1, finite.sum())
        quantile = torch.special.ndtri(torch.from_numpy(middle)).numpy()
        result[finite, column] = quantile[place]
    return result


def _train(
    features: NDArray[np.float32], target: Numbers, weights: Numbers, seed: int
) -> nn.Module:
    """A network with one hidden layer that separates the two samples."""
    generator = torch.Generator().manual_seed(seed)
    inputs, targets, factors = (
        torch.from_numpy(array.astype(np.float32)) for array in (features, target, weights)
    )
    network = nn.Sequential(nn.Linear(inputs.shape[1], _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, 1))
    with torch.no_grad():
        for parameter in network.parameters():
            bound = 1 / math.sqrt(parameter.shape[-1])
            parameter.uniform_(-bound, bound, generator=generator)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    for _ in range(_STEPS):
        batch = torch.randint(len(inputs), (min(_BATCH, len(inputs)),), generator=generator)
        loss = nn.functional.binary_cross_entropy_with_logits(
            network(inputs[batch])[:, 0], targets[batch], factors[batch]
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return network


@torch.no_grad()
def _scores(network: nn.Module, features: NDArray[np.float32]) -> Numbers:
    scores: Numbers = network(torch.from_numpy(features))[:, 0].double().numpy()
    return scores


def _accuracy(score: Numbers, is_second: NDArray[np.bool_], weight: Numbers) -> ValueWithError:
    """Mean of the shares of both samples that are recognised, with its binomial error."""
    right = (score >= 0) == is_second
    parts = [(right[kind], weight[kind]) for kind in (~is_second, is_second)]
    shares = [np.average(correct, weights=w) for correct, w in parts]
    variance = [s * (1 - s) / effective_number(w) for s, (_, w) in zip(shares, parts, strict=True)]
    return ValueWithError(np.asarray(np.mean(shares)), np.asarray(np.sqrt(np.sum(variance)) / 2))
