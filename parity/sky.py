"""Maps of the sky against ligo.skymap: files, credible areas, and credible levels of directions.

ligo.skymap reads the FITS files that the package writes, and computes with its own code what they
hold. It needs numpy, h5py, astropy, astropy-healpix, mocpy and ligo.skymap: `make parity`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from comparison import Comparison, print_comparisons
from ligo.skymap.io import read_sky_map
from ligo.skymap.moc import uniq2pixarea
from ligo.skymap.postprocess import crossmatch

from dnn_reco.detector.directions import vector_of
from dnn_reco.inference.sky import SkyDensity
from dnn_reco.inference.sky_densities import (
    AngularGaussian,
    Mixture,
    VectorGaussian,
    VonMisesFisher,
)
from dnn_reco.inference.sky_files import write_sky_map
from dnn_reco.inference.sky_frame import Frame
from dnn_reco.inference.sky_map import SkyMap

CENTRE = vector_of(1.1, 2.0)
DENSITIES: dict[str, SkyDensity] = {
    "von Mises-Fisher, κ = 3": VonMisesFisher(CENTRE, 3.0),
    "von Mises-Fisher, κ = 2000": VonMisesFisher(CENTRE, 2e3),
    "von Mises-Fisher, κ = 1e7": VonMisesFisher(CENTRE, 1e7),
    "elliptical": AngularGaussian(2.0, 6.2, 0.02, 0.08),
    "elliptical at a pole": AngularGaussian(0.03, 1.0, 0.05, 1.5),
    "vector": VectorGaussian.of_vector(CENTRE, [0.05, 0.03, 0.08]),
    "mixture": Mixture([VonMisesFisher(CENTRE, 1e4), VonMisesFisher(-CENTRE, 300.0)], [2, 1]),
}
MJD = 58018.87118
LEVELS = [0.5, 0.68, 0.9]
NUM_DIRECTIONS = 200
LARGEST_AREA = 0.01  # deviation, relative
LARGEST_LEVEL = 0.01  # mean deviation, absolute: a pixel has one density, and so one level


def comparisons_of(name: str, density: SkyDensity, path: Path) -> Iterator[Comparison]:
    """The sum, areas and levels that ligo.skymap finds in the map of a density."""
    frame = Frame(MJD)
    write_sky_map(path, SkyMap.of(density, frame))
    table = read_sky_map(str(path), moc=True)
    total = np.sum(table["PROBDENSITY"] * uniq2pixarea(table["UNIQ"]))
    yield Comparison(f"sum, {name}", abs(float(total) - 1), 1e-9)
    vectors = density.sample_dir(NUM_DIRECTIONS, np.random.default_rng(1))
    places = SkyCoord(*(each * units.rad for each in frame.coordinates(vectors)))
    result = crossmatch(table, places, contours=LEVELS)
    ratio = np.array(result.contour_areas) / density.contour_area(LEVELS)
    yield Comparison(f"areas, {name}", float(np.abs(ratio - 1).max()), LARGEST_AREA)
    levels = np.abs(result.searched_prob - density.cdf_dir(vectors))
    yield Comparison(f"levels, {name}", float(levels.mean()), LARGEST_LEVEL)


def all_comparisons() -> Iterator[Comparison]:
    """The comparisons of all densities."""
    with tempfile.TemporaryDirectory() as folder:
        for name, density in DENSITIES.items():
            yield from comparisons_of(name, density, Path(folder) / "sky.fits")


if __name__ == "__main__":
    print_comparisons("Maps of the sky, against ligo.skymap", all_comparisons())
