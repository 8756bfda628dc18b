"""Expected light and its times for light sources that depend on parameters, with derivatives.

The formulas are those of `dnn_reco.simulation`, evaluated in double precision with torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from delays import delay_parameters
from numpy.typing import NDArray
from torch import Tensor

from dnn_reco.detector.constants import CHERENKOV_COSINE, GROUP_INDEX, SPEED_OF_LIGHT
from dnn_reco.detector.geometry import dom_positions
from dnn_reco.simulation.energy_losses import TRACK_PER_GEV
from dnn_reco.simulation.ice import Columns, mean_coefficients, south_pole_ice
from dnn_reco.simulation.propagation import (
    delay_distribution,
    fitted_constants,
    fitted_delays,
    photoelectrons_per_gev,
    shower_emission,
)
from dnn_reco.simulation.sources import LightSources

_MIN_DISTANCE = 1.0  # m, as in the simulation
_EMISSION_STEP = 2 / 4096  # in the cosine, as in the simulation
_MIN_ACROSS = 1e-6  # m², keeps the derivative of a square root finite


class LinearTable:
    """A function of one variable, linear between values at equal distances, and beyond them.

    Parameters
    ----------
    function
        The function of arrays [n].
    start, stop, step
        Where it is tabulated.
    """

    def __init__(
        self,
        function: Callable[[NDArray[np.float64]], NDArray[np.float64]],
        start: float,
        stop: float,
        step: float,
    ) -> None:
        self.start, self.step = start, step
        count = round((stop - start) / step) + 1
        self.values = torch.from_numpy(np.asarray(function(start + step * np.arange(count))))

    def __call__(self, x: Tensor) -> Tensor:
        """Values [...] at x [...]."""
        place = (x - self.start) / self.step
        index = place.detach().floor().clamp(0, len(self.values) - 2).long()
        low, high = self.values[index], self.values[index + 1]
        return low + (place - index) * (high - low)


@dataclass(frozen=True)
class Sources:
    """s light sources of w hypotheses, sorted by hypothesis.

    Attributes as in `LightSources`, where `event` is the hypothesis, but tensors.
    """

    num: int
    event: NDArray[np.int64]
    position: Tensor
    time: Tensor
    direction: Tensor
    energy: Tensor
    length: Tensor

    def light_sources(self) -> LightSources:
        """The same sources for functions of the simulation."""
        columns = (self.position, self.time, self.direction, self.energy, self.length)
        return LightSources(self.num, self.event, *(c.detach().numpy() for c in columns))


@dataclass(frozen=True)
class Arrivals:
    """When the light of m pairs of a source and a DOM arrives.

    Attributes
    ----------
    first
        Time [m] in ns of unscattered light.
    delays
        Parameters [5, m] of the distribution of the delays after it, as `delay_parameters`.
    """

    first: Tensor
    delays: Tensor


@dataclass(frozen=True)
class _Geometry:
    distance: Tensor
    cos_emission: Tensor
    cos_arrival: Tensor
    scattering: Tensor
    absorption: Tensor


def expected_light(
    sources: Sources,
    source: NDArray[np.int64],
    dom: NDArray[np.int64],
    efficiency: NDArray[np.float64],
) -> Tensor:
    """Expected photo-electrons [m] of pairs.

    Parameters
    ----------
    sources
        The sources.
    source, dom
        Number of the source [m] and DOM index [m] of each pair.
    efficiency
        Relative efficiency [5160] of the DOMs.
    """
    g = _geometry(sources, source, dom)
    emission = _emission()(g.cos_emission)
    per_gev = photoelectrons_per_gev(
        torch,
        fitted_constants(),
        g.distance,
        g.cos_emission,
        g.cos_arrival,
        emission,
        g.scattering,
        g.absorption,
    )
    energy = (sources.energy + sources.length / TRACK_PER_GEV)[torch.from_numpy(source)]
    return per_gev * energy * torch.from_numpy(efficiency[dom])


def arrivals(sources: Sources, source: NDArray[np.int64], dom: NDArray[np.int64]) -> Arrivals:
    """When the light of pairs arrives; arguments as for `expected_light`.

    Unscattered light comes from the place on the source whose Cherenkov cone points to the DOM.
    """
    rows = torch.from_numpy(source)
    direction = sources.direction[rows]
    offset = _positions()[torch.from_numpy(dom)] - sources.position[rows]
    along = (offset * direction).sum(1)
    across = ((offset**2).sum(1) - along**2).clamp(min=_MIN_ACROSS).sqrt()
    emission = along - across * CHERENKOV_COSINE / np.sqrt(1 - CHERENKOV_COSINE**2)
    emission = torch.minimum(emission.clamp(min=0), sources.length[rows])
    way = ((along - emission) ** 2 + across**2).sqrt()
    first = sources.time[rows] + (emission + way * GROUP_INDEX) / SPEED_OF_LIGHT
    g = _geometry(sources, source, dom)
    delays = delay_distribution(
        torch, fitted_delays(), g.distance, g.cos_emission, g.scattering, g.absorption
    )
    return Arrivals(first, delay_parameters(delays))


def _geometry(sources: Sources, source: NDArray[np.int64], dom: NDArray[np.int64]) -> _Geometry:
    rows, doms = torch.from_numpy(source), torch.from_numpy(dom)
    centre = sources.position + sources.length[:, None] / 2 * sources.direction
    offset = _positions()[doms] - centre[rows]
    distance = ((offset**2).sum(1).clamp(min=_MIN_DISTANCE**2)).sqrt()
    along = (offset * sources.direction[rows]).sum(1)
    cos_emission = (along / distance).clamp(-1, 1)
    at_source = _columns(centre[:, 2])
    scattering, absorption = mean_coefficients(torch, at_source[rows], _dom_columns()[doms])
    return _Geometry(distance, cos_emission, offset[:, 2] / distance, scattering, absorption)


def _columns(z: Tensor) -> Columns:
    return Columns(z, *(table(z) for table in _column_tables()))


@cache
def _column_tables() -> tuple[LinearTable, ...]:
    """Exact: all kinks of the sums are at the tabulated depths."""
    ice = south_pole_ice()
    edges = ice.edges()
    start, stop = edges[0] - 1.5 * ice.thickness, edges[-1] + 1.5 * ice.thickness
    names = ("scattering_low", "scattering_high", "absorption_low", "absorption_high")
    return tuple(
        LinearTable(lambda z, name=name: getattr(ice.columns(z), name), start, stop, ice.thickness)
        for name in names
    )


@cache
def _emission() -> LinearTable:
    half = _EMISSION_STEP / 2
    return LinearTable(shower_emission, half - 1, 1 - half, _EMISSION_STEP)


@cache
def _positions() -> Tensor:
    return torch.from_numpy(dom_positions().copy())


@cache
def _dom_columns() -> Columns:
    columns = south_pole_ice().columns(dom_positions()[:, 2])
    return Columns(*(torch.from_numpy(values.copy()) for values in vars(columns).values()))
