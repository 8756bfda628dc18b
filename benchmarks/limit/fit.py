"""Maximum-likelihood fit with several starts."""

from dataclasses import dataclass

import numpy as np
import torch
from hypotheses import Hypotheses, Local, perpendicular
from likelihood import FLOOR, Hits, Likelihood
from numpy.typing import NDArray
from scipy.optimize import minimize

from dnn_reco.detector.constants import GROUP_INDEX, PHASE_INDEX, SPEED_OF_LIGHT
from dnn_reco.detector.geometry import dom_positions

_LOOSE_FLOOR = 1e-6  # 1/ns; far from the solution single hits must not dominate
_NUM_DIRECTIONS, _NUM_STARTS = 24, 2
_EARLY = 0.1  # quantile of the residual times that counts as unscattered
_NARROWING, _ONCE_MORE = (0.3, 0.03), (np.pi,)  # rad
_HOPS, _HOP_POINTS, _HOP_FAR = 2, 40, 6.0  # the last in units of the bound
_ROUGH, _FINE = 15, 40  # iterations
_ROUNDS = 3  # of whitening and minimisation
_CONVERGED = 0.1  # change of ln L


@dataclass(frozen=True)
class Fit:
    """Result of a fit.

    Attributes
    ----------
    best
        The most likely hypothesis, w = 1.
    log_likelihood
        Its ln L.
    """

    best: Hypotheses
    log_likelihood: float


def fit(likelihood: Likelihood, hits: Hits, is_track: bool) -> Fit:
    """The most likely hypothesis for an event, from the best of many first guesses.

    Position, time and energy of the best rough fit go with more directions: for cascades all over
    the sphere, for tracks closer and closer around the best.
    """
    best = _best_of(likelihood, hits, first_guesses(likelihood, hits, is_track), is_track)
    for angle in _NARROWING if is_track else _ONCE_MORE:
        guesses = _other_directions(best.best, angle)
        again = _best_of(likelihood, hits, guesses, is_track)
        best = max(best, again, key=lambda found: found.log_likelihood)
    return _hop(likelihood, hits, climb(likelihood, hits, best.best, is_track), is_track)


def _hop(likelihood: Likelihood, hits: Hits, found: Fit, is_track: bool) -> Fit:
    """The best maximum near a fit: the emission of showers makes many small ones.

    Random points around the fit, a few times as far as its errors, are further starts.
    """
    generator = torch.Generator().manual_seed(len(hits))
    for _ in range(_HOPS):
        local = Local(found.best, is_track)
        scales = torch.from_numpy(_scales(likelihood.fisher(local, num_times=40)))
        points = torch.randn(_HOP_POINTS, local.num, generator=generator, dtype=torch.float64)
        points *= torch.linspace(0.5, _HOP_FAR, _HOP_POINTS, dtype=torch.float64)[:, None]
        starts = local.hypotheses(points @ scales.T)
        with torch.no_grad():
            best = int(likelihood.log(starts, hits).argmax())
        again = climb(likelihood, hits, starts[[best]], is_track)
        found = max(found, again, key=lambda fit: fit.log_likelihood)
    return found


def _best_of(likelihood: Likelihood, hits: Hits, guesses: Hypotheses, is_track: bool) -> Fit:
    """The best of rough fits that start at the most likely guesses."""
    with torch.no_grad():
        values = likelihood.log(guesses, hits, _LOOSE_FLOOR)
    order = values.argsort(descending=True)[:_NUM_STARTS].tolist()
    scales = _scales(likelihood.fisher(Local(guesses[order[:1]], is_track), num_times=40))
    scales = np.diag(np.sqrt((scales**2).sum(axis=1)))  # of all directions, whose axes differ
    rough = [
        _minimised(likelihood, hits, Local(guesses[[i]], is_track), scales, _LOOSE_FLOOR, _ROUGH)
        for i in order
    ]
    return max(rough, key=lambda found: found.log_likelihood)


def _other_directions(found: Hypotheses, angle: float) -> Hypotheses:
    """The same position, time and energy with directions at an angle in rad; π: all directions."""
    axis = found.direction[0].numpy()
    cones = np.concatenate([_cone(axis, angle, 6), _cone(axis, angle / 3, 6)])
    directions = torch.from_numpy(_sphere(_NUM_DIRECTIONS) if angle == np.pi else cones)
    num = len(directions)
    return Hypotheses(
        found.position.expand(num, 3),
        found.time.expand(num),
        directions,
        found.log_energy.expand(num),
    )


def climb(likelihood: Likelihood, hits: Hits, start: Hypotheses, is_track: bool) -> Fit:
    """The maximum near a start.

    The quasi-Newton method BFGS in coordinates in which the Fisher information at the start of each
    round is the unit matrix.
    """
    found = Fit(start, -np.inf)
    for _ in range(_ROUNDS):
        before, local = found, Local(found.best, is_track)
        scales = _scales(likelihood.fisher(local, num_times=40))
        found = _minimised(likelihood, hits, local, scales, FLOOR, _FINE)
        if found.log_likelihood - before.log_likelihood < _CONVERGED:
            break
    return found


def _minimised(
    likelihood: Likelihood,
    hits: Hits,
    local: Local,
    scales: NDArray[np.float64],
    floor: float,
    iterations: int,
) -> Fit:
    """The end of a minimisation of -ln L from the origin of local coordinates.

    `scales` turns the coordinates of the minimisation into the local ones.
    """
    to_local = torch.from_numpy(scales)

    def objective(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        whitened = torch.tensor(x, requires_grad=True)
        value = -likelihood.log(local.hypotheses((to_local @ whitened)[None]), hits, floor)
        (gradient,) = torch.autograd.grad(value.sum(), whitened)
        return value.item(), gradient.numpy()

    options = {"gtol": 0.02, "maxiter": iterations}
    result = minimize(objective, np.zeros(local.num), jac=True, method="BFGS", options=options)
    best = local.hypotheses((to_local @ torch.from_numpy(result.x))[None])
    return Fit(best, -float(result.fun))


def _scales(information: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrix that turns whitened coordinates into local ones, with limits for weak directions."""
    size = np.sqrt(np.diag(information).clip(1e-12))
    value, vector = np.linalg.eigh(information / np.outer(size, size))
    return (vector / np.sqrt(value.clip(1e-3))) / size[:, None]


def first_guesses(likelihood: Likelihood, hits: Hits, is_track: bool) -> Hypotheses:
    """Directions all over the sphere, with position and time from the hits, and matching energies.

    Tracks run through the middle of the hits; cascades start there, or at the brightest DOM.
    """
    place = dom_positions()[hits.dom]
    if is_track:
        parts = [_tracks_through(place, hits.time)]
    else:
        brightest = dom_positions()[np.bincount(hits.dom).argmax()]
        parts = [_cascades_at(point, place, hits.time) for point in (place.mean(axis=0), brightest)]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    log_energy = np.full(len(columns[0]), 3.0)
    guess = Hypotheses(*(torch.from_numpy(column) for column in (*columns, log_energy)))
    for _ in range(3):  # the light grows about as the energy
        expected = likelihood.expected(guess).sum(1).clamp(min=1e-3)
        step = torch.log10(len(hits) / expected).clamp(-2, 2)
        energy = (guess.log_energy + step).clamp(1.5, 7.0)
        guess = Hypotheses(guess.position, guess.time, guess.direction, energy)
    return guess


_Columns = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def _cascades_at(
    point: NDArray[np.float64], place: NDArray[np.float64], time: NDArray[np.float64]
) -> _Columns:
    """Positions, times and directions of cascades whose light is hardly late."""
    directions = _sphere(_NUM_DIRECTIONS)
    way = np.linalg.norm(place - point, axis=1) * GROUP_INDEX / SPEED_OF_LIGHT
    start = np.quantile(time - way, _EARLY)
    num = len(directions)
    return np.tile(point, (num, 1)), np.full(num, start), directions


def _tracks_through(place: NDArray[np.float64], time: NDArray[np.float64]) -> _Columns:
    """Positions, times and directions of tracks through the middle of the hits."""
    along = _line_direction(place, time)
    directions = np.concatenate([along[None], _cone(along, 0.2, 6), _sphere(_NUM_DIRECTIONS)])
    middle = place.mean(axis=0)
    position = middle - (directions @ middle)[:, None] * directions
    start = [_track_time(place, time, *line) for line in zip(position, directions, strict=True)]
    return position, np.array(start), directions


def _track_time(
    place: NDArray[np.float64],
    time: NDArray[np.float64],
    position: NDArray[np.float64],
    direction: NDArray[np.float64],
) -> float:
    """When a track is at its reference point: hits are a little later than unscattered light."""
    offset = place - position
    along = offset @ direction
    across = np.sqrt(((offset**2).sum(axis=1) - along**2).clip(0))
    slowness = np.sqrt(PHASE_INDEX**2 - 1)  # of the Cherenkov front
    return float(np.quantile(time - (along + across * slowness) / SPEED_OF_LIGHT, _EARLY))


def _line_direction(place: NDArray[np.float64], time: NDArray[np.float64]) -> NDArray[np.float64]:
    """Direction in which the light moves: the slope of a straight line through the hits."""
    spread = np.median(np.abs(time - np.median(time)))
    core = np.abs(time - np.median(time)) <= 4 * max(spread, 1.0)
    place, time = place[core], time[core]
    slope = ((time - time.mean())[:, None] * (place - place.mean(axis=0))).sum(axis=0)
    return np.asarray(slope / max(np.linalg.norm(slope), 1e-9))


def _sphere(num: int) -> NDArray[np.float64]:
    """Directions [num, 3] spread evenly over the sphere (Fibonacci lattice)."""
    z = 1 - 2 * (np.arange(num) + 0.5) / num
    phase = np.pi * (3 - np.sqrt(5)) * np.arange(num)
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(phase), radius * np.sin(phase), z], axis=1)


def _cone(axis: NDArray[np.float64], angle: float, num: int) -> NDArray[np.float64]:
    """Directions [num, 3] at an angle in rad from an axis."""
    across = perpendicular(torch.from_numpy(axis[None]))[0].numpy()
    phase = 2 * np.pi * np.arange(num) / num
    aside = np.cos(phase)[:, None] * across[0] + np.sin(phase)[:, None] * across[1]
    return np.asarray(np.cos(angle) * axis + np.sin(angle) * aside)
