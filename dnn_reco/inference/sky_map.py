"""A density on the sphere as a multi-order HEALPix map: fine where the probability is.

HEALPix: Górski et al., ApJ 622 (2005) 759. Pixels of all orders are numbered by one integer, UNIQ =
4 · 4^order + nested index (Reinecke & Hivon, A&A 580 (2015) A132).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnn_reco.detector.directions import SQUARE_DEGREE
from dnn_reco.inference.sky import NUM_NODES, SkyDensity, Values, checked
from dnn_reco.inference.sky_frame import Frame, require_sky_packages

if TYPE_CHECKING:
    from mocpy import MOC

_FIRST_ORDER = 2  # pixels of 15°
_LAST_ORDER = 26  # pixels of 0.003 arc seconds
_FINEST = 29  # order of the numbers that nodes are sorted by
_MOST_IN_PIXEL = 1 / 4000  # probability
_FEWEST_NODES = 4  # of a pixel that is divided
_INSIDE = 2  # orders: a pixel's density is the mean of 4^2 points in it


@dataclass(frozen=True, eq=False)
class SkyMap:
    """Pixels that cover the sphere, with the probability density in each.

    Attributes
    ----------
    uniq
        Number of each pixel [k], in rising order.
    density
        Probability per steradian [k].
    frame
        The coordinates.
    """

    uniq: NDArray[np.int64]
    density: Values
    frame: Frame

    @classmethod
    def of(cls, density: SkyDensity, frame: Frame | None = None) -> SkyMap:
        """The map of a density: pixels are divided until none holds more than 1/4000 of it.

        Raises
        ------
        ConfigError
            If a package of the extra `sky` is missing.
        """
        require_sky_packages()
        frame = Frame() if frame is None else frame
        order, index = _pixels(density, frame)
        values = _mean_density(density, frame, order, index)
        uniq = 4 * 4**order + index
        rising = np.argsort(uniq)
        area = np.pi / 3 / 4.0 ** order[rising]
        return cls(uniq[rising], values[rising] / (values[rising] @ area), frame)

    @property
    def order(self) -> NDArray[np.int64]:
        """Order of each pixel [k]."""
        exponents = np.frexp(self.uniq.astype(np.float64))[1]  # exact: UNIQ / 4 is 4^order or more
        return np.asarray((exponents - 3) // 2, dtype=np.int64)

    @property
    def pixel_area(self) -> Values:
        """Area of each pixel [k] in steradian."""
        return np.asarray(np.pi / 3 / 4.0**self.order)

    def area(self, level: ArrayLike) -> Values:
        """Area in square degrees of the densest pixels that hold probabilities [...].

        Raises
        ------
        DataError
            If a level is not between 0 and 1.
        """
        falling = np.argsort(-self.density, kind="stable")
        area = self.pixel_area[falling]
        inside = np.cumsum(self.density[falling] * area)
        reached = np.interp(checked(level) * inside[-1], inside, np.cumsum(area))
        return np.asarray(reached / SQUARE_DEGREE)

    def moc(self, level: float) -> MOC:
        """The densest pixels that hold a probability, as a coverage map of mocpy."""
        from mocpy import MOC

        probability = self.density * self.pixel_area
        return MOC.from_valued_healpix_cells(
            self.uniq.astype(np.uint64),
            probability,
            max_depth=int(self.order.max()),
            cumul_to=float(checked(level)),
        )


def _pixels(density: SkyDensity, frame: Frame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Order and nested index of each pixel [k], by the nodes of the density in them."""
    from astropy import units
    from astropy_healpix import lonlat_to_healpix

    nodes = density.nodes(NUM_NODES)
    longitude, latitude = frame.coordinates(nodes.vectors)
    place = lonlat_to_healpix(
        longitude * units.rad, latitude * units.rad, 2**_FINEST, order="nested"
    )
    sorting = np.argsort(place)
    place = place[sorting]
    before = np.concatenate([[0.0], np.cumsum(nodes.probability[sorting])])
    orders, indices = [], []
    index = np.arange(12 * 4**_FIRST_ORDER, dtype=np.int64)
    for order in range(_FIRST_ORDER, _LAST_ORDER + 1):
        size = 4 ** (_FINEST - order)
        first, stop = np.searchsorted(place, [index * size, (index + 1) * size])
        is_full = (before[stop] - before[first] > _MOST_IN_PIXEL) & (stop - first >= _FEWEST_NODES)
        if order == _LAST_ORDER:
            is_full[:] = False
        orders.append(np.full((~is_full).sum(), order))
        indices.append(index[~is_full])
        index = (4 * index[is_full, None] + np.arange(4)).ravel()
    return np.concatenate(orders), np.concatenate(indices)


def _mean_density(
    density: SkyDensity, frame: Frame, order: NDArray[np.int64], index: NDArray[np.int64]
) -> Values:
    """Density [k] as the mean of points in each pixel, up to one factor for all."""
    from astropy_healpix import healpix_to_lonlat

    inside = 4**_INSIDE
    children = (inside * index[:, None] + np.arange(inside)).ravel()
    nside = np.repeat(2 ** (order + _INSIDE), inside)
    longitude, latitude = healpix_to_lonlat(children, nside, order="nested")
    log_density = density.log_prob_dir(frame.vectors(longitude.rad, latitude.rad))
    values = np.exp(log_density - log_density.max())
    return np.asarray(values.reshape(-1, inside).mean(axis=1))
