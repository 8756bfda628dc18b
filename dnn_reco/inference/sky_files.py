"""FITS files of sky maps, in the multi-order format of ligo.skymap and mocpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dnn_reco._version import __version__
from dnn_reco.errors import DataError
from dnn_reco.files import temporary_beside
from dnn_reco.inference.sky_frame import Frame, require_sky_packages
from dnn_reco.inference.sky_map import SkyMap

_LOCAL = "DETECTOR"
_REMARKS = (
    "LOCAL coordinates of the detector, not equatorial: longitude is the azimuth,",
    "latitude is 90 deg - zenith of the source. COORDSYS is C because programs",
    "refuse other values.",
)


def write_sky_map(path: Path, sky_map: SkyMap, name: str = "") -> None:
    """Write a map with the columns UNIQ and PROBDENSITY [sr-1]; the file appears when complete.

    Parameters
    ----------
    path
        The file.
    sky_map
        The map.
    name
        What it shows, for the header (`OBJECT`).
    """
    from astropy.io import fits
    from astropy.time import Time

    columns = [
        fits.Column("UNIQ", "K", array=sky_map.uniq),
        fits.Column("PROBDENSITY", "D", unit="sr-1", array=sky_map.density),
    ]
    mjd = sky_map.frame.mjd
    table = fits.BinTableHDU.from_columns(columns)
    header = table.header
    header["PIXTYPE"] = ("HEALPIX", "HEALPix pixels")
    header["ORDERING"] = ("NUNIQ", "of several orders, numbered by UNIQ")
    header["COORDSYS"] = ("C", "equatorial, ICRS" if mjd is not None else "see COMMENT: not so")
    header["FRAME"] = _LOCAL if mjd is None else "ICRS"
    header["MOCORDER"] = (int(sky_map.order.max()), "largest order")
    header["INDXSCHM"] = ("EXPLICIT", "pixels are listed")
    header["CREATOR"] = f"dnn_reco {__version__}"
    if name:
        # Headers hold printable ASCII characters only: others become escape sequences.
        header["OBJECT"] = name.encode("unicode_escape").decode("ascii")
    if mjd is not None:
        header["DATE-OBS"] = (Time(mjd, format="mjd", scale="utc").isot, "UTC")
        header["MJD-OBS"] = (mjd, "modified Julian date, UTC")
    for remark in _REMARKS if mjd is None else ():
        header["COMMENT"] = remark
    with temporary_beside(path) as folder:
        part = folder / path.name
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(part)
        part.replace(path)


def read_sky_map(path: Path) -> SkyMap:
    """A map that :func:`write_sky_map` or another program wrote.

    Raises
    ------
    ConfigError
        If a package of the extra `sky` is missing.
    DataError
        If the file is missing, or is not a multi-order map.
    """
    require_sky_packages()
    from astropy.io import fits

    try:
        with fits.open(path, memmap=False) as file:
            table, header = file[1].data, file[1].header
            uniq = np.asarray(table["UNIQ"], dtype=np.int64)
            density = np.asarray(table["PROBDENSITY"], dtype=np.float64)
    except (OSError, IndexError, KeyError, ValueError) as error:
        raise DataError(f"'{path}' is not a multi-order sky map: {error}") from error
    if header.get("FRAME") == _LOCAL:
        return SkyMap(uniq, density, Frame(None))
    if "MJD-OBS" not in header:
        raise DataError(
            f"'{path}' has no time (MJD-OBS) of its event, so it is not known which directions in "
            "the detector it shows"
        )
    return SkyMap(uniq, density, Frame(header["MJD-OBS"]))
