"""Light sources of showers and tracks."""

import numpy as np
import pytest

from dnn_reco.simulation.energy_losses import (
    Flights,
    combine,
    muon_sources,
    shower_depth,
    shower_sources,
    track_sources,
)
from dnn_reco.simulation.muons import propagate

C = 0.299792458


def flights(n: int, seed: int = 0) -> Flights:
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=(n, 3))
    direction /= np.linalg.norm(direction, axis=1)[:, None]
    position = rng.uniform(-500, 500, (n, 3))
    return Flights(n, np.arange(n), position, rng.uniform(0, 1000, n), direction)


@pytest.mark.parametrize(
    ("hadronic", "energy"), [(False, 10.0), (False, 1e5), (True, 10.0), (True, 1e5)]
)
def test_depth_against_the_summed_profile(hadronic: bool, energy: float) -> None:
    a, b = (
        (1.58357 + 0.418868 * np.log(energy), 0.33833)
        if hadronic
        else (2.01849 + 0.63176 * np.log(energy), 0.63207)
    )
    x = np.linspace(0, 40, 400_001)[1:]  # m
    t = b * x / (0.39652 * 0.910 / 0.9216)
    profile = np.cumsum(t ** (a - 1) * np.exp(-t))
    for share in (0.1, 0.5, 0.9, 0.95):
        expected = x[np.searchsorted(profile, share * profile[-1])]
        depth = shower_depth(np.array([energy]), hadronic, share)[0]
        assert depth == pytest.approx(expected, rel=0.01, abs=0.02)


def test_light_of_a_shower_is_shared_along_its_axis() -> None:
    paths = flights(3)
    energy = np.array([1e4, 5.0, 1e4])
    light = np.array([8e3, 4.0, 0.0])
    sources = combine(shower_sources(paths, energy, light, hadronic=True))
    assert sources.event.tolist() == [0, 0, 0, 0, 0, 1]
    assert np.bincount(sources.event, sources.energy, 3) == pytest.approx(light)
    assert (sources.length == 0).all()
    way = sources.position - paths.position[sources.event]
    distance = np.linalg.norm(way, axis=1)
    np.testing.assert_allclose(way, distance[:, None] * paths.direction[sources.event], atol=1e-9)
    np.testing.assert_allclose(sources.time - paths.time[sources.event], distance / C)
    # Mean of the gamma profile, shape a times X0/b
    mean = (1.58357 + 0.418868 * np.log(1e4)) * 0.39652 * 0.910 / 0.9216 / 0.33833
    assert distance[:5].mean() == pytest.approx(mean, rel=0.03)


def test_a_track_is_cut_into_stretches() -> None:
    paths = flights(4)
    begin, end = np.array([0.0, 50.0, 10.0, 0.0]), np.array([25.0, 60.0, 10.0, -5.0])
    sources = combine(track_sources(paths, begin, end, 10.0))
    assert sources.event.tolist() == [0, 0, 0, 1]
    assert (sources.energy == 0).all()
    assert sources.length == pytest.approx([25 / 3] * 3 + [10])
    distance = np.linalg.norm(sources.position - paths.position[sources.event], axis=1)
    assert distance == pytest.approx([0, 25 / 3, 50 / 3, 50])


def test_light_of_muons() -> None:
    n = 200
    paths = flights(n)
    enter, leave = np.full(n, 40.0), np.full(n, 645.0)
    tracks = propagate(np.full(n, 2e4), enter, leave, 10.0, np.random.default_rng(1))
    sources = combine(muon_sources(paths, tracks, np.random.default_rng(2)))
    assert (np.diff(sources.event) >= 0).all()
    is_track = sources.length > 0
    assert (sources.energy[~is_track] >= 5).all()  # weak losses are spread along the track
    assert np.bincount(sources.event, sources.length) == pytest.approx(np.full(n, 605.0))
    # Soft losses: a fifth of the track and its logarithmic rise, 5.321 m of track per GeV
    soft = 605 * (0.1880 + 0.0206 * np.log(tracks.energy[:, 0])) / 5.321
    light = np.bincount(sources.event, sources.energy) - tracks.stochastic.sum(axis=1)
    assert light == pytest.approx(soft, rel=0.2)
    way = np.linalg.norm(sources.position - paths.position[sources.event], axis=1)
    assert way.min() >= 40 - 1e-9 and way.max() < 655
    np.testing.assert_allclose(sources.time - paths.time[sources.event], way / C)
    along = np.sum(sources.direction * paths.direction[sources.event], axis=1)
    np.testing.assert_allclose(along, 1)
