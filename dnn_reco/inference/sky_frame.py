"""Coordinates of the sky: those of the detector, and equatorial ones at the time of an event."""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from dnn_reco.detector.directions import Vectors, angles_of, vector_of
from dnn_reco.errors import ConfigError

if TYPE_CHECKING:
    from dnn_reco.inference.sky import Values

LATITUDE, LONGITUDE = -89.9944, -62.6081
"""Of the detector, in degrees."""

_MJD_RANGE = (51_544, 88_069)  # years 2000 to 2099
_PACKAGES = ("astropy", "astropy_healpix", "mocpy")


def require_sky_packages() -> None:
    """Check that what maps of the sky need is installed.

    Raises
    ------
    ConfigError
        If a package is missing.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"sky maps need the package {missing[0].replace('_', '-')}: pip install 'dnn_reco[sky]'"
        )


@dataclass(frozen=True)
class Frame:
    """Longitude and latitude of directions, in radian.

    Without a time they are the azimuth and 90° minus the zenith. With one they are right ascension
    and declination (ICRS). The azimuth counts from grid east, against the clock as seen from above;
    grid north is the meridian of Greenwich. For a detector at the pole itself the right ascension
    is the sidereal time of Greenwich + 90° - azimuth, and the declination is the zenith - 90°.

    Attributes
    ----------
    mjd
        Time of the event: modified Julian date, UTC; None: coordinates are those of the detector.

    Raises
    ------
    ConfigError
        If the time is not in this century.
    """

    mjd: float | None = None

    def __post_init__(self) -> None:
        if self.mjd is not None and not _MJD_RANGE[0] <= self.mjd <= _MJD_RANGE[1]:
            raise ConfigError(
                f"the modified Julian date {self.mjd} is outside of the years 2000 to 2099: give "
                "the days since 17 November 1858, such as 58018.87 for 22 September 2017"
            )

    @property
    def names(self) -> tuple[str, str]:
        """Names of both coordinates."""
        return ("azimuth", "zenith") if self.mjd is None else ("right ascension", "declination")

    def coordinates(self, vector: ArrayLike) -> tuple[Values, Values]:
        """Longitude and latitude [...] of direction vectors [..., 3]."""
        zenith, azimuth = angles_of(vector)
        if self.mjd is None:
            return azimuth, np.pi / 2 - zenith
        from astropy.coordinates import AltAz, SkyCoord

        with _offline():
            bearing = self._turned(azimuth)
            place = AltAz(az=bearing * _unit(), alt=(np.pi / 2 - zenith) * _unit(), **self._site())
            found = SkyCoord(place).icrs
            return np.asarray(found.ra.rad), np.asarray(found.dec.rad)

    def vectors(self, longitude: ArrayLike, latitude: ArrayLike) -> Vectors:
        """Direction vectors [..., 3] of longitudes and latitudes [...]."""
        lon, lat = np.asarray(longitude, np.float64), np.asarray(latitude, np.float64)
        if self.mjd is None:
            return vector_of(np.pi / 2 - lat, lon)
        from astropy.coordinates import AltAz, SkyCoord

        with _offline():
            source = SkyCoord(lon * _unit(), lat * _unit(), frame="icrs")
            place = source.transform_to(AltAz(**self._site()))
            return vector_of(np.pi / 2 - place.alt.rad, self._turned(place.az.rad))

    def shown(self, vector: ArrayLike) -> str:
        """A direction as text, in degrees."""
        longitude, latitude = (math.degrees(float(x)) for x in self.coordinates(vector))
        if self.mjd is None:
            return f"zenith {90 - latitude:.2f}°, azimuth {longitude:.2f}°"
        return f"right ascension {longitude:.2f}°, declination {latitude:+.2f}°"

    @staticmethod
    def _turned(angle: Values) -> Values:
        """The bearing (from north, with the clock) of an azimuth of the detector, or the inverse.

        The direction to a meridian of longitude λ has the azimuth 90° - λ, and at the detector,
        whose own meridian leads north, the bearing λ - λ_detector.
        """
        return np.asarray(np.remainder(math.radians(90 - LONGITUDE) - angle, 2 * np.pi))

    def _site(self) -> dict[str, Any]:
        from astropy.coordinates import EarthLocation
        from astropy.time import Time

        location = EarthLocation.from_geodetic(LONGITUDE, LATITUDE)
        return {"obstime": Time(self.mjd, format="mjd", scale="utc"), "location": location}


def area_text(area: float) -> str:
    """An area in square degrees as text, with three digits or more."""
    return f"{area:,.0f} square degrees" if area >= 100 else f"{area:.3g} square degrees"


def _unit() -> Any:
    from astropy import units

    return units.rad


@contextmanager
def _offline() -> Iterator[None]:
    """Take the rotation of the Earth from the installed tables: nothing is downloaded.

    Where they do not reach, the error is below 15 arc seconds, as UTC keeps to 0.9 s; astropy's
    warnings of it are left out.
    """
    from astropy.utils import iers

    with ExitStack() as stack:
        stack.enter_context(iers.conf.set_temp("auto_download", False))
        stack.enter_context(iers.conf.set_temp("auto_max_age", None))
        stack.enter_context(iers.conf.set_temp("iers_degraded_accuracy", "ignore"))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield
