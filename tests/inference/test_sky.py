"""Densities on the sphere, against closed forms, sums over all pixels of the sky, and samples."""

import math

import numpy as np
import pytest

from dnn_reco.detector.directions import Plane, angles_of, unit_vectors, vector_of
from dnn_reco.errors import DataError
from dnn_reco.inference.sky import SkyDensity
from dnn_reco.inference.sky_densities import (
    AngularGaussian,
    Mixture,
    VectorGaussian,
    VonMisesFisher,
)

DIRECTION = unit_vectors([0.3, -0.5, 0.4])
FISHER = VonMisesFisher(DIRECTION, 50.0)
ANGULAR = AngularGaussian(1.0, 2.0, 0.1, 0.3)
VECTOR = VectorGaussian.of_vector(DIRECTION, [0.1, 0.2, 0.05])
DENSITIES: dict[str, SkyDensity] = {
    "fisher": FISHER,
    "fisher, almost uniform": VonMisesFisher(DIRECTION, 0.01),
    "circular": VonMisesFisher.of_angles(1.0, 2.0, 0.1, 0.3),
    "elliptical": ANGULAR,
    "elliptical at a pole": AngularGaussian(0.02, 2.0, 0.1, 1.5),
    "elliptical, at a pole itself": AngularGaussian(math.pi, 0.0, 0.2, 1.8),
    "elliptical, almost uniform": AngularGaussian(3.0, 6.0, 2.0, 10.0),
    "vector": VECTOR,
    "vector along z": VectorGaussian.of_vector([0, 0, 2.0], [0.1, 0.2, 0.3]),
    "vector, almost uniform": VectorGaussian.of_vector(DIRECTION, [1.0, 2.0, 1.0]),
    "mixture": Mixture([FISHER, ANGULAR, VECTOR], [1, 2, 3]),
}
NUM_SAMPLES = 20_000


Sky = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def sky() -> Sky:
    """Zenith, azimuth and solid angle of points of a grid that is even in both angles."""
    zenith, azimuth = np.meshgrid(
        (np.arange(700) + 0.5) * np.pi / 700, (np.arange(700) + 0.5) * 2 * np.pi / 700
    )
    area = np.sin(zenith) * 2 * np.pi**2 / 700**2
    return zenith.ravel(), azimuth.ravel(), area.ravel()


@pytest.mark.parametrize("name", DENSITIES)
def test_integral_areas_and_levels_agree_with_a_sum_over_the_sky(name: str, sky: Sky) -> None:
    density = DENSITIES[name]
    zenith, azimuth, area = sky
    values = np.exp(density.log_prob(zenith, azimuth))
    probability = values * area
    assert probability.sum() == pytest.approx(1, abs=5e-4)
    falling = np.argsort(-values)
    inside = np.cumsum(probability[falling])
    for level in (0.3, 0.5, 0.9):
        expected = area[falling[: np.searchsorted(inside, level)]].sum() * math.degrees(1) ** 2
        assert density.contour_area(level) == pytest.approx(expected, rel=5e-3)
    some = np.random.default_rng(2).integers(0, len(zenith), 50)
    expected = [probability[values > values[i]].sum() for i in some]
    found = density.cdf(zenith[some], azimuth[some])
    np.testing.assert_allclose(found, expected, atol=3e-3)


@pytest.mark.parametrize("name", DENSITIES)
def test_levels_of_samples_are_uniform(name: str) -> None:
    density = DENSITIES[name]
    zenith, azimuth = density.sample(NUM_SAMPLES, np.random.default_rng(7))
    levels = np.sort(density.cdf(zenith, azimuth))
    distance = np.abs(levels - (np.arange(NUM_SAMPLES) + 0.5) / NUM_SAMPLES).max()
    assert distance < 1.95 / math.sqrt(NUM_SAMPLES)  # Kolmogorov's: 0.1 % of all seeds are above
    wanted, share = density.check_coverage(vector_of(zenith, azimuth), [0.5, 0.9, 1.0])
    np.testing.assert_allclose(share, wanted, atol=0.015)
    assert ((zenith >= 0) & (zenith <= np.pi) & (azimuth >= 0) & (azimuth < 2 * np.pi)).all()


@pytest.mark.parametrize("name", DENSITIES)
def test_samples_have_the_mean_vector_of_the_density(name: str, sky: Sky) -> None:
    density = DENSITIES[name]
    probability = np.exp(density.log_prob(*sky[:2])) * sky[2]
    expected = probability @ vector_of(*sky[:2])
    drawn = density.sample_dir(NUM_SAMPLES, np.random.default_rng(3))
    np.testing.assert_allclose(drawn.mean(axis=0), expected, atol=4 / math.sqrt(NUM_SAMPLES))
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize("name", DENSITIES)
def test_contours_are_closed_and_lie_at_their_level(name: str) -> None:
    density = DENSITIES[name]
    lines = density.contour_dir(0.9)
    assert lines
    for line in lines:
        np.testing.assert_allclose(density.cdf_dir(line), 0.9, atol=1e-3)
        np.testing.assert_allclose(line[0], line[-1], atol=1e-9)
    for line, (zenith, azimuth) in zip(lines, density.contour(0.9), strict=True):
        np.testing.assert_allclose(vector_of(zenith, azimuth), line, atol=1e-12)


@pytest.mark.parametrize("kappa", [1e-4, 0.3, 5.0, 400.0, 1e7])
def test_fisher_is_its_closed_form(kappa: float) -> None:
    density = VonMisesFisher(3 * DIRECTION, kappa)
    level = np.array([0.1, 0.5, 0.9])
    one_minus_cosine = -np.log(1 - level * (1 - math.exp(-2 * kappa))) / kappa
    area = 2 * np.pi * one_minus_cosine * math.degrees(1) ** 2
    np.testing.assert_allclose(density.contour_area(level), area, rtol=1e-8)
    plane = Plane.at(DIRECTION)
    angle = 2 * np.arcsin(np.sqrt(one_minus_cosine / 2))
    vectors = plane.vectors(angle * 0.6, angle * 0.8)
    np.testing.assert_allclose(density.cdf_dir(vectors), level, rtol=1e-6)
    norm = kappa / (2 * np.pi * (1 - math.exp(-2 * kappa)))
    expected = np.log(norm) - kappa * one_minus_cosine
    np.testing.assert_allclose(density.log_prob_dir(5 * vectors), expected, rtol=1e-6, atol=1e-6)
    # what holds for any density gives the same
    general = Mixture([density])
    np.testing.assert_allclose(general.cdf_dir(vectors), level, atol=2e-4)
    np.testing.assert_allclose(general.contour_area(level), area, rtol=1e-3)


def test_contours_of_a_cone_have_its_radius() -> None:
    (line,) = VonMisesFisher(DIRECTION, 2000.0).contour_dir(0.5)
    angle = np.arccos(line @ DIRECTION)
    np.testing.assert_allclose(angle, math.acos(1 - math.log(2) / 2000), rtol=1e-3)


def test_small_ellipses_are_those_of_the_plane() -> None:
    density = AngularGaussian(1.2, 6.2, 0.002, 0.005)  # the azimuth reaches beyond 2π
    width = 0.002 * 0.005 * math.sin(1.2)
    expected = -2 * np.pi * width * np.log(1 - np.array([0.5, 0.9])) * math.degrees(1) ** 2
    np.testing.assert_allclose(density.contour_area([0.5, 0.9]), expected, rtol=1e-3)
    zenith, azimuth = density.sample(NUM_SAMPLES, np.random.default_rng(0))
    assert zenith.std() == pytest.approx(0.002, rel=0.02)
    assert np.std((azimuth - 3) % (2 * np.pi)) == pytest.approx(0.005, rel=0.02)
    pulls = 1.1 * 0.002, 0.7 * 0.005
    level = 1 - math.exp(-(1.1**2 + 0.7**2) / 2)
    assert density.cdf(1.2 + pulls[0], 6.2 + pulls[1]) == pytest.approx(level, abs=2e-3)
    assert density.cdf(1.2 + pulls[0], 6.2 + pulls[1] - 2 * np.pi) == pytest.approx(level, abs=2e-3)


def test_elliptical_at_the_pole_is_fisher_where_the_azimuth_is_unknown() -> None:
    sigma = 0.05
    density = AngularGaussian(0.0, 1.0, sigma, 1e3)
    zenith = np.array([0.02, 0.05, 0.1])
    fisher = VonMisesFisher([0, 0, -1], 1 / sigma**2)
    np.testing.assert_allclose(density.log_prob(zenith, 4.0), fisher.log_prob(zenith, 0), atol=2e-2)
    np.testing.assert_allclose(
        density.contour_area([0.5, 0.9]), fisher.contour_area([0.5, 0.9]), rtol=5e-3
    )
    assert VonMisesFisher.of_angles(0.0, 1.0, sigma, 1e3).kappa == pytest.approx(400, rel=0.01)


@pytest.mark.parametrize(("zenith", "sigma"), [(1.0, (0.01, 0.03)), (2.5, (0.02, 0.01))])
def test_circular_has_the_mean_square_of_the_ellipse(
    zenith: float, sigma: tuple[float, float]
) -> None:
    square = (sigma[0] ** 2 + sigma[1] ** 2 * math.sin(zenith) ** 2) / 2
    density = VonMisesFisher.of_angles(zenith, 5.0, *sigma)
    assert density.kappa == pytest.approx(1 / square, rel=2e-3)
    np.testing.assert_allclose(density.best, vector_of(zenith, 5.0), atol=1e-12)


def test_vector_with_equal_uncertainties_is_fisher() -> None:
    sigma = np.full(3, 0.07)
    one = VectorGaussian.of_vector(2 * DIRECTION, sigma)
    other = VonMisesFisher.of_vector(2 * DIRECTION, sigma)
    assert other.kappa == pytest.approx(2 / (3 * 0.07**2))
    points = other.sample_dir(100, np.random.default_rng(1))
    np.testing.assert_allclose(
        one.log_prob_dir(points), other.log_prob_dir(points), rtol=1e-3, atol=1e-3
    )


def test_vector_has_the_spread_of_its_uncertainties() -> None:
    sigma = np.array([0.02, 0.03, 0.015])
    drawn = VectorGaussian.of_vector(DIRECTION, sigma).sample_dir(50_000, np.random.default_rng(5))
    spread = np.square(drawn - DIRECTION).sum(axis=1).mean()
    assert spread == pytest.approx(np.square(sigma).sum(), rel=0.02)


def test_mixture_of_two_peaks() -> None:
    far = VonMisesFisher(-DIRECTION, 200.0)
    density = Mixture([VonMisesFisher(DIRECTION, 800.0), far], [3, 1])
    assert density.log_prob_dir(-DIRECTION) == pytest.approx(
        float(far.log_prob_dir(-DIRECTION)) + math.log(0.25), abs=1e-9
    )
    np.testing.assert_allclose(density.best, DIRECTION, atol=1e-2)
    lines = density.contour_dir(0.9)
    assert sorted(np.sign(line.mean(axis=0) @ DIRECTION) for line in lines) == [-1, 1]
    drawn = density.sample_dir(8000, np.random.default_rng(2))
    assert (drawn @ DIRECTION > 0).mean() == pytest.approx(0.75, abs=0.02)
    # exp(-κ(1 - cos ψ)) of both peaks ends at one density t; inside: 1 - t (1 / d₁ + 1 / d₂)
    densities = np.array([0.75 * 800, 0.25 * 200]) / (2 * np.pi)
    limit = 0.1 / (0.75 / densities[0] + 0.25 / densities[1])
    area = 2 * np.pi * (np.log(densities / limit) / [800, 200]).sum() * math.degrees(1) ** 2
    assert density.contour_area(0.9) == pytest.approx(area, rel=2e-3)


def test_angles_and_vectors() -> None:
    vectors = np.random.default_rng(0).normal(size=(2, 50, 3))
    zenith, azimuth = angles_of(vectors)
    np.testing.assert_allclose(vector_of(zenith, azimuth), unit_vectors(vectors), atol=1e-14)
    np.testing.assert_allclose(vector_of(0.0, 2.0), [0, 0, -1], atol=1e-16)
    assert np.isnan(angles_of([0, 0, 0])).all() and np.isnan(unit_vectors([0.0, 0, 0])).all()
    plane = Plane.at(vectors[0, 0])
    x, y = plane.points(unit_vectors(vectors))
    np.testing.assert_allclose(plane.vectors(x, y), unit_vectors(vectors), atol=1e-12)
    zenith, azimuth = angles_of(plane.centre)
    step = 1e-6
    above = (vector_of(zenith, azimuth + step) - plane.centre) / (step * np.sin(zenith))
    np.testing.assert_allclose(above, plane.along_azimuth, atol=1e-5)
    below = (vector_of(zenith + step, azimuth) - plane.centre) / step
    np.testing.assert_allclose(below, plane.along_zenith, atol=1e-5)


def test_no_events_and_no_direction() -> None:
    assert FISHER.sample_dir(0, np.random.default_rng(0)).shape == (0, 3)
    assert VECTOR.sample_dir(0, np.random.default_rng(0)).shape == (0, 3)
    assert FISHER.cdf_dir(np.zeros((0, 3))).shape == (0,)
    _, share = FISHER.check_coverage(np.zeros((0, 3)), [0.5])
    assert share == 0
    assert np.isnan(FISHER.log_prob_dir([np.nan, 0, 0]))
    assert np.isnan(Mixture([FISHER, ANGULAR]).cdf_dir([0.0, 0.0, 0.0]))


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_uncertainties_that_are_none(value: float) -> None:
    with pytest.raises(DataError, match="finite and above 0"):
        VonMisesFisher.of_vector(DIRECTION, [0.1, value, 0.1])
    with pytest.raises(DataError, match="finite and above 0"):
        VectorGaussian.of_vector(DIRECTION, [0.1, value, 0.1])
    with pytest.raises(DataError, match="finite and above 0"):
        AngularGaussian(1.0, 1.0, 0.1, value)
    with pytest.raises(DataError, match="finite and above 0"):
        Mixture([FISHER, ANGULAR], [1.0, value])


def test_other_wrong_values() -> None:
    with pytest.raises(DataError, match="a zenith must be between 0 and π"):
        AngularGaussian(-0.1, 0.0, 0.1, 0.1)
    with pytest.raises(DataError, match="at least one"):
        Mixture([])
    with pytest.raises(DataError, match="needs as many weights"):
        Mixture([FISHER], [1, 2])
    for level in (0.0, 1.1, math.nan, [0.5, -1]):
        with pytest.raises(DataError, match="between 0 and 1"):
            FISHER.contour_area(level)
        with pytest.raises(DataError, match="between 0 and 1"):
            ANGULAR.contour_area(level)
    with pytest.raises(DataError, match="between 0 and 1"):
        VECTOR.contour_dir(90)
