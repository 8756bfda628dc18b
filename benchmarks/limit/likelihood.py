"""Likelihood of the photo-electrons of an event, and its Fisher information.

Photo-electrons are a Poisson process in each DOM with the rate λ(t), the sum over light sources of
expected number times density of times:

    ln L = Σ over photo-electrons ln λ(t) - Σ over DOMs ∫ λ dt
    I_ij = Σ over DOMs ∫ ∂_i λ ∂_j λ / λ dt
"""

from dataclasses import dataclass

import numpy as np
import torch
from delays import log_delay_density
from hypotheses import Hypotheses, Local, Model
from light_model import Sources, arrivals, expected_light
from numpy.typing import NDArray
from torch import Tensor

from dnn_reco.detector.geometry import NUM_DOMS
from dnn_reco.simulation.light import pairs_within_reach

FLOOR = 1e-10
"""Rate in 1/ns added to all λ: 0.005 photo-electrons in all DOMs and 10 μs, less than is lost by
any other approximation."""

_STEP = 1e-5  # m, ns, rad, unit of log10: for derivatives
_MIN_TIMED = 1e-4  # photo-electrons; the times in fainter DOMs carry no information
_MIN_SHARE = 1e-5  # of the light of a DOM; fainter pairs are left out of the information of times
_GRID_FROM, _GRID_TO, _GRID_UNIT = -12.0, 1.2e4, 12.0  # ns


@dataclass(frozen=True)
class Hits:
    """The n photo-electrons of an event: DOM index [n] and time [n] in ns."""

    dom: NDArray[np.int64]
    time: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.dom)


@dataclass(frozen=True)
class Likelihood:
    """How likely events are.

    Attributes
    ----------
    model
        Light sources of hypotheses.
    efficiency
        Relative efficiency [5160] of the DOMs.
    """

    model: Model
    efficiency: NDArray[np.float64]

    def log(self, hypotheses: Hypotheses, hits: Hits, floor: float = FLOOR) -> Tensor:
        """Ln L [w] of an event for each of w hypotheses, up to a constant."""
        sources = self.model(hypotheses)
        source, dom = self.pairs(sources)
        mean = expected_light(sources, source, dom, self.efficiency)
        hypothesis = sources.event[source]
        expected = torch.zeros(len(hypotheses), dtype=torch.float64)
        expected = expected.index_add(0, torch.from_numpy(hypothesis), mean)
        is_hit = np.zeros(NUM_DOMS, dtype=bool)
        is_hit[hits.dom] = True
        near = np.flatnonzero(is_hit[dom])
        arrival = arrivals(sources, source[near], dom[near])
        row, pair, photon = _matches(hypothesis[near], dom[near], hits, len(hypotheses))
        delay = torch.from_numpy(hits.time[photon]) - arrival.first[pair]
        log_density = log_delay_density(delay, arrival.delays[:, pair])
        light = mean[torch.from_numpy(near)][pair] * log_density.exp()
        rate = torch.zeros(len(hypotheses) * len(hits), dtype=torch.float64)
        rate = rate.index_add(0, torch.from_numpy(row), light) + floor
        return rate.log().reshape(len(hypotheses), len(hits)).sum(1) - expected

    def pairs(self, sources: Sources) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Source and DOM [m] of all pairs that get light."""
        source, dom = pairs_within_reach(sources.light_sources())
        alive = self.efficiency[dom] > 0
        return source[alive], dom[alive]

    def expected(self, hypotheses: Hypotheses) -> Tensor:
        """Expected photo-electrons [w, 5160] in all DOMs."""
        sources = self.model(hypotheses)
        source, dom = self.pairs(sources)
        light = expected_light(sources, source, dom, self.efficiency)
        cell = torch.from_numpy(sources.event[source] * NUM_DOMS + dom)
        flat = torch.zeros(len(hypotheses) * NUM_DOMS, dtype=torch.float64)
        return flat.index_add(0, cell, light).reshape(-1, NUM_DOMS)

    def fisher(self, local: Local, num_times: int = 100) -> NDArray[np.float64]:
        """Fisher information [k, k] about the local coordinates, at their origin.

        Parameters
        ----------
        local
            The coordinates.
        num_times
            Number of times at which the rate of a DOM is evaluated.
        """
        source, dom = self.pairs(self.model(local.reference))

        def quantities(coordinates: Tensor) -> Tensor:
            sources = self.model(local.hypotheses(coordinates[None]))
            mean = expected_light(sources, source, dom, self.efficiency)
            arrival = arrivals(sources, source, dom)
            return torch.cat([mean[None], arrival.first[None], arrival.delays])

        with torch.no_grad():
            value = quantities(torch.zeros(local.num, dtype=torch.float64))
            steps = _STEP * torch.eye(local.num, dtype=torch.float64)
            slope = [(quantities(step) - quantities(-step)) / (2 * _STEP) for step in steps]
        return _information(value, torch.stack(slope, dim=2), dom, num_times).numpy()


def _matches(
    hypothesis: NDArray[np.int64], dom: NDArray[np.int64], hits: Hits, num: int
) -> tuple[NDArray[np.int64], Tensor, NDArray[np.int64]]:
    """All combinations of a photo-electron and a pair with its DOM.

    Returns
    -------
    row, pair, photon
        Number hypothesis · n + photo-electron [c], number of the pair [c], of the photo-electron
        [c].
    """
    key = hypothesis * NUM_DOMS + dom
    order = np.argsort(key, kind="stable")
    wanted = (np.arange(num)[:, None] * NUM_DOMS + hits.dom).ravel()
    first = np.searchsorted(key[order], wanted, side="left")
    count = np.searchsorted(key[order], wanted, side="right") - first
    row = np.repeat(np.arange(len(wanted)), count)
    within = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    return row, torch.from_numpy(order[first[row] + within]), row % max(len(hits), 1)


def _information(value: Tensor, slope: Tensor, dom: NDArray[np.int64], num_times: int) -> Tensor:
    """Fisher information [k, k] of pairs.

    Parameters
    ----------
    value
        Mean, first time and parameters of the delays [7, m] of each pair.
    slope
        Their derivatives [7, m, k].
    dom
        DOM index [m] of each pair.
    """
    light = np.bincount(dom, value[0].numpy(), NUM_DOMS)
    faint = torch.from_numpy(np.flatnonzero((light > 0) & (light <= _MIN_TIMED)))
    doms, k = torch.from_numpy(dom), slope.shape[2]
    count_slope = torch.zeros(NUM_DOMS, k, dtype=torch.float64).index_add(0, doms, slope[0])
    weighted = count_slope[faint] / torch.from_numpy(light)[faint, None]
    information = count_slope[faint].T @ weighted
    order = np.argsort(dom, kind="stable")
    seen = (value[0].numpy() > _MIN_SHARE * light[dom]) & (light[dom] > _MIN_TIMED)
    order = order[seen[order]]
    for pairs in _groups(dom, order):
        information = information + _timed(value, slope, dom, pairs, num_times)
    return information


def _groups(dom: NDArray[np.int64], order: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Pairs, sorted by DOM, in parts that fit into memory and do not divide DOMs."""
    starts = np.flatnonzero(np.diff(dom[order], prepend=-1))
    return [part for part in np.split(order, starts[2000::2000]) if len(part)]


def _timed(
    value: Tensor, slope: Tensor, dom: NDArray[np.int64], pairs: NDArray[np.int64], num_times: int
) -> Tensor:
    """Fisher information [k, k] of the DOMs of some pairs, times included."""
    _, which = np.unique(dom[pairs], return_inverse=True)
    which, value, slope = torch.from_numpy(which), value[:, pairs], slope[:, pairs]
    num = int(which.max()) + 1
    start = torch.full((num,), torch.inf, dtype=torch.float64)
    start = start.scatter_reduce(0, which, value[1], "amin")
    grid = torch.linspace(
        *(float(np.arcsinh(t / _GRID_UNIT)) for t in (_GRID_FROM, _GRID_TO)),
        num_times,
        dtype=torch.float64,
    )
    time = _GRID_UNIT * grid.sinh()
    width = _GRID_UNIT * grid.cosh() * (grid[1] - grid[0])
    delay = start[which, None] + time - value[1][:, None]
    inputs = torch.cat([delay[None], value[2:, :, None].expand(-1, *delay.shape)])
    inputs = inputs.flatten(1).requires_grad_()
    log_density = log_delay_density(inputs[0], inputs[1:]).reshape(delay.shape)
    (gradient,) = torch.autograd.grad(log_density.sum(), inputs)
    by_delay, *by_parameters = gradient.reshape(-1, *delay.shape)
    density = log_density.detach().exp()
    rate = torch.full((num, num_times), FLOOR, dtype=torch.float64)
    rate = rate.index_add(0, which, value[0][:, None] * density)
    light = value[0][:, None] * density
    columns = []
    for i in range(slope.shape[2]):
        mean, first, *parameters = slope[:, :, i, None]
        change = mean * density - light * first * by_delay
        for parameter, by_parameter in zip(parameters, by_parameters, strict=True):
            change += light * parameter * by_parameter
        columns.append(torch.zeros_like(rate).index_add(0, which, change))
    weight = (width / rate).sqrt()
    flat = torch.stack([(column * weight).flatten() for column in columns], dim=1)
    return flat.T @ flat
