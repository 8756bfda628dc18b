"""Maps of the sky: pixels, areas, coordinates and FITS files, read by other programs."""

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from dnn_reco.detector.directions import SQUARE_DEGREE, angles_of, vector_of
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.inference.sky import SkyDensity
from dnn_reco.inference.sky_densities import AngularGaussian, Mixture, VonMisesFisher
from dnn_reco.inference.sky_files import read_sky_map, write_sky_map
from dnn_reco.inference.sky_frame import Frame
from dnn_reco.inference.sky_map import SkyMap

PACKAGES = ("astropy", "astropy_healpix", "mocpy")
pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in PACKAGES),
    reason="the extra 'sky' is not installed",
)

CENTRE = vector_of(1.1, 0.01)
WHOLE_SKY = 4 * np.pi / SQUARE_DEGREE
DENSITIES: dict[str, SkyDensity] = {
    "wide": VonMisesFisher(CENTRE, 1.0),
    "cone": VonMisesFisher(CENTRE, 300.0),
    "sharp": VonMisesFisher(CENTRE, 1e7),
    "ellipse": AngularGaussian(0.05, 1.0, 0.03, 0.5),
    "two peaks": Mixture([VonMisesFisher(CENTRE, 1e5), VonMisesFisher(-CENTRE, 500.0)], [2, 1]),
}
MJD = 58018.87118


@pytest.mark.parametrize("mjd", [None, MJD])
@pytest.mark.parametrize("name", DENSITIES)
def test_a_map_has_the_areas_of_its_density(name: str, mjd: float | None) -> None:
    density = DENSITIES[name]
    sky_map = SkyMap.of(density, Frame(mjd))
    assert sky_map.pixel_area.sum() == pytest.approx(4 * np.pi, rel=1e-12)
    assert (sky_map.density @ sky_map.pixel_area) == pytest.approx(1, abs=1e-12)
    assert (sky_map.density * sky_map.pixel_area).max() < 1 / 1000
    assert len(sky_map.uniq) < 20_000
    level = [0.4, 0.9]
    np.testing.assert_allclose(sky_map.area(level), density.contour_area(level), rtol=5e-3)
    with pytest.raises(DataError, match="between 0 and 1"):
        sky_map.area(90)


def test_pixels_cover_the_sphere_once_and_have_the_density_at_their_place() -> None:
    from astropy_healpix import healpix_to_lonlat

    density = DENSITIES["cone"]
    sky_map = SkyMap.of(density)
    first = (sky_map.uniq - 4 * 4**sky_map.order) * 4 ** (29 - sky_map.order)
    stop = first + 4 ** (29 - sky_map.order)
    order = np.argsort(first)
    assert first[order][0] == 0 and stop[order][-1] == 12 * 4**29
    assert np.array_equal(first[order][1:], stop[order][:-1])
    index = sky_map.uniq - 4 * 4**sky_map.order
    longitude, latitude = healpix_to_lonlat(index, 2**sky_map.order, order="nested")
    there = np.exp(density.log_prob(np.pi / 2 - latitude.rad, longitude.rad))
    inside = there > 0.1 * there.max()
    np.testing.assert_allclose(sky_map.density[inside], there[inside], rtol=0.03)


def test_coverage_maps_hold_the_probability() -> None:
    sky_map = SkyMap.of(DENSITIES["cone"])
    for level in (0.5, 0.9):
        region = sky_map.moc(level)
        area = region.sky_fraction * WHOLE_SKY
        assert area == pytest.approx(float(sky_map.area(level)), rel=5e-3)


@pytest.mark.parametrize("mjd", [None, MJD])
def test_files_are_read_by_mocpy_and_by_ourselves(mjd: float | None, tmp_path: Path) -> None:
    from astropy.io import fits
    from mocpy import MOC

    sky_map = SkyMap.of(DENSITIES["ellipse"], Frame(mjd))
    path = tmp_path / "new" / "sky.fits"
    write_sky_map(path, sky_map, "event 1 of x.hdf5")
    region = MOC.from_multiordermap_fits_file(str(path), cumul_to=0.9)
    assert region.sky_fraction * WHOLE_SKY == pytest.approx(float(sky_map.area(0.9)), rel=5e-3)
    read = read_sky_map(path)
    assert np.array_equal(read.uniq, sky_map.uniq)
    assert np.array_equal(read.density, sky_map.density)
    assert read.frame == sky_map.frame
    header = fits.getheader(path, 1)
    assert header["ORDERING"] == "NUNIQ" and header["TUNIT2"] == "sr-1"
    assert header["OBJECT"] == "event 1 of x.hdf5"
    assert header.get("MJD-OBS") == mjd
    assert ("LOCAL coordinates of the detector" in str(header.get("COMMENT"))) == (mjd is None)
    first = path.read_bytes()
    write_sky_map(path, sky_map, "event 1 of x.hdf5")
    assert path.read_bytes() == first
    assert [each.name for each in path.parent.iterdir()] == ["sky.fits"]


def test_files_are_read_by_ligo_skymap(tmp_path: Path) -> None:
    io = pytest.importorskip(
        "ligo.skymap.io", reason="ligo.skymap is not installed: parity/sky.py reads with it, too"
    )
    write_sky_map(tmp_path / "sky.fits", SkyMap.of(DENSITIES["cone"], Frame(MJD)))
    table = io.read_sky_map(str(tmp_path / "sky.fits"), moc=True)
    assert set(table.colnames) == {"UNIQ", "PROBDENSITY"}


def test_files_that_are_no_maps(tmp_path: Path) -> None:
    (tmp_path / "text.fits").write_text("nothing")
    for name in ("text.fits", "none.fits"):
        with pytest.raises(DataError, match=f"{name}' is not a multi-order sky map"):
            read_sky_map(tmp_path / name)


def test_maps_of_other_programs_need_a_time(tmp_path: Path) -> None:
    from astropy.io import fits

    path = tmp_path / "sky.fits"
    write_sky_map(path, SkyMap.of(DENSITIES["cone"], Frame(MJD)))
    with fits.open(path, mode="update") as file:
        del file[1].header["MJD-OBS"]
    with pytest.raises(DataError, match=r"has no time \(MJD-OBS\) of its event"):
        read_sky_map(path)


def test_local_coordinates() -> None:
    longitude, latitude = Frame().coordinates(vector_of(0.3, 6.0))
    assert (longitude, latitude) == (pytest.approx(6.0), pytest.approx(np.pi / 2 - 0.3))
    np.testing.assert_allclose(Frame().vectors(6.0, np.pi / 2 - 0.3), vector_of(0.3, 6.0))


@pytest.mark.parametrize("mjd", [55_500.3, MJD, 60_000.0])
def test_equatorial_coordinates_turn_with_the_sidereal_day(mjd: float) -> None:
    """IceCube's rule for a detector at the pole itself, without precession: skylab, csky."""
    zenith, azimuth = np.meshgrid([0.5, 1.0, 1.57, 2.0, 2.8], np.arange(0, 6.2, 0.7))
    frame = Frame(mjd)
    right_ascension, declination = frame.coordinates(vector_of(zenith, azimuth))
    expected = 2.54199002505 + 2 * np.pi * ((mjd / 0.997269566) % 1) - azimuth
    difference = np.remainder(right_ascension - expected + np.pi, 2 * np.pi) - np.pi
    allowed = math.radians(0.3)  # precession: 20″ a year in declination, 46″ in right ascension
    assert np.abs(difference * np.cos(declination)).max() < allowed
    assert np.abs(declination - (zenith - np.pi / 2)).max() < allowed
    back = frame.vectors(right_ascension, declination)
    np.testing.assert_allclose(back, vector_of(zenith, azimuth), atol=1e-10)


def test_the_sky_turns_once_in_a_sidereal_day() -> None:
    vector = vector_of(1.3, 2.0)
    day = 0.99726957
    first, later, hour = (
        Frame(mjd).coordinates(vector) for mjd in (59_000.0, 59_000.0 + day, 59_000.0 + day / 24)
    )
    np.testing.assert_allclose(later, first, atol=1e-5)
    assert (hour[0] - first[0]) % (2 * np.pi) == pytest.approx(2 * np.pi / 24, abs=2e-3)


def test_a_time_beyond_the_tables_of_the_rotation_of_the_earth() -> None:
    zenith, _ = angles_of(vector_of(1.3, 2.0))
    declination = Frame(75_000.0).coordinates(vector_of(1.3, 2.0))[1]
    assert declination == pytest.approx(float(zenith) - np.pi / 2, abs=math.radians(0.5))


@pytest.mark.parametrize("mjd", [3.0, math.nan, 2_458_000.5])
def test_times_that_are_no_modified_julian_dates(mjd: float) -> None:
    with pytest.raises(ConfigError, match="outside of the years 2000 to 2099"):
        Frame(mjd)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        sys.modules["importlib.util"],
        "find_spec",
        lambda name, *rest: None if name == "mocpy" else found(name, *rest),
    )
    with pytest.raises(ConfigError, match=r"need the package mocpy: pip install 'dnn_reco\[sky\]'"):
        SkyMap.of(DENSITIES["cone"])
