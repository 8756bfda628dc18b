"""Light of showers and tracks in the DOMs."""

from math import pi
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from dnn_reco.detector.geometry import NUM_DOMS, dom_positions
from dnn_reco.simulation.ice import Ice, mean_coefficients, south_pole_ice
from dnn_reco.simulation.light import (
    MAX_SAMPLED,
    expected_photoelectrons,
    sample_photoelectrons,
)
from dnn_reco.simulation.propagation import (
    bulk_light,
    delay_distribution,
    fitted_constants,
    fitted_delays,
    photoelectrons_per_gev,
    shower_emission,
)
from dnn_reco.simulation.sources import LightSources, PhotoElectrons

ALL_ALIKE = np.ones(NUM_DOMS)
C = 0.299792458
UP, DOWN = [0.0, 0.0, 1.0], [0.0, 0.0, -1.0]
DEEP = [30.0, 40.0, -330.0]


def sources(
    position: list[float] | NDArray[np.float64],
    direction: list[float] | NDArray[np.float64],
    energy: float = 0.0,
    length: float = 0.0,
) -> LightSources:
    """One source an event."""
    position = np.atleast_2d(np.asarray(position, dtype=np.float64))
    n = len(position)
    return LightSources(
        num_events=n,
        event=np.arange(n),
        position=position,
        time=np.full(n, 1000.0),
        direction=np.zeros((n, 3)) + direction,
        energy=np.full(n, energy),
        length=np.full(n, length),
    )


def showers_everywhere(number: int, energy: float, seed: int = 0) -> LightSources:
    """Showers in the clear ice, in random directions."""
    rng = np.random.default_rng(seed)
    position = rng.uniform([-300, -300, -420], [300, 300, -220], (number, 3))
    direction = rng.normal(size=(number, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return sources(position, direction, energy)


def repeated(number: int, energy: float) -> LightSources:
    """The same shower in many events."""
    return sources(np.tile(DEEP, (number, 1)), [0.6, 0.0, -0.8], energy)


def sample(light: LightSources, seed: int = 0) -> PhotoElectrons:
    return sample_photoelectrons(light, ALL_ALIKE, np.random.default_rng(seed))


def distances(
    light: LightSources, source: NDArray[np.int64], dom: NDArray[np.int64]
) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(dom_positions()[dom] - light.position[source], axis=1))


class TestAmount:
    def test_is_proportional_to_energy(self) -> None:
        one = expected_photoelectrons(sources(DEEP, UP, 1e3), ALL_ALIKE)
        ten = expected_photoelectrons(sources(DEEP, UP, 1e4), ALL_ALIKE)
        common = np.isin(ten.dom, one.dom)
        np.testing.assert_allclose(ten.mean[common], 10 * one.mean, rtol=1e-5)
        # What lies too far for the fainter one to matter is little.
        assert ten.mean[~common].sum() < 1e-3 * ten.mean.sum()

    def test_is_proportional_to_efficiency(self) -> None:
        efficiency = np.where(np.arange(NUM_DOMS) % 2 == 0, 1.35, 0.0)
        alike = expected_photoelectrons(sources(DEEP, UP, 1e3), ALL_ALIKE)
        unlike = expected_photoelectrons(sources(DEEP, UP, 1e3), efficiency)
        even = alike.dom % 2 == 0
        assert np.array_equal(unlike.dom, alike.dom[even])
        np.testing.assert_allclose(unlike.mean, 1.35 * alike.mean[even], rtol=1e-5)

    def test_falls_with_distance(self) -> None:
        light = showers_everywhere(200, 1e3)
        pairs = expected_photoelectrons(light, ALL_ALIKE)
        distance = distances(light, pairs.source, pairs.dom)
        bins = np.digitize(distance, np.arange(20, 320, 40))
        mean = np.bincount(bins, pairs.mean)[1:] / np.bincount(bins)[1:]
        assert (np.diff(mean) < 0).all()
        # Faster than the inverse square: the ice absorbs.
        assert mean[5] / mean[0] < (40 / 240) ** 2 / 10

    def test_more_forward_than_backward(self) -> None:
        light = showers_everywhere(300, 1e3)
        pairs = expected_photoelectrons(light, ALL_ALIKE)
        offset = dom_positions()[pairs.dom] - light.position[pairs.source]
        distance = np.linalg.norm(offset, axis=1)
        cosine = (offset * light.direction[pairs.source]).sum(axis=1) / distance

        def mean(low: float, high: float, near: float, far: float) -> float:
            chosen = (cosine > low) & (cosine < high) & (distance > near) & (distance < far)
            return float(pairs.mean[chosen].mean())

        close = mean(1 / 3, 1, 50, 100) / mean(-1, -1 / 3, 50, 100)
        far = mean(1 / 3, 1, 200, 250) / mean(-1, -1 / 3, 200, 250)
        assert 3 < close < 8
        assert 1.5 < far < close

    def test_photomultipliers_look_down(self) -> None:
        # From the middle between two DOMs of a string, whose distances are equal.
        upper, lower = dom_positions()[[60 * 20 + 50, 60 * 20 + 52]]
        middle = (upper + lower) / 2 + [5.0, 0.0, 0.0]
        pairs = expected_photoelectrons(sources(middle, [1.0, 0.0, 0.0], 1e3), ALL_ALIKE)
        mean = dict(zip(pairs.dom.tolist(), pairs.mean.tolist(), strict=True))
        assert mean[60 * 20 + 50] > 1.3 * mean[60 * 20 + 52]

    def test_dust_swallows_light(self) -> None:
        def total(z: float) -> float:
            light = sources([[x, y, z] for x in (-90.0, 0, 90) for y in (-90.0, 0, 90)], UP, 1e3)
            return float(expected_photoelectrons(light, ALL_ALIKE).mean.sum())

        assert total(-330) > 1.3 * total(150) > 3 * total(-95)

    def test_a_track_shines_like_its_energy(self) -> None:
        track = expected_photoelectrons(sources(DEEP, UP, 3.0, length=53.21), ALL_ALIKE)
        middle = np.add(DEEP, [0, 0, 53.21 / 2])
        shower = expected_photoelectrons(sources(middle, UP, 13.0), ALL_ALIKE)
        np.testing.assert_allclose(track.mean, shower.mean, rtol=1e-4)

    def test_light_lies_on_the_track(self) -> None:
        place, direction = np.array([-300.0, 37.0, -250.0]), np.array([1.0, 0, 0])
        along = np.arange(0, 600.0, 10)
        pairs = expected_photoelectrons(
            sources(place + along[:, None] * direction, direction, 0.0, 10.0), ALL_ALIKE
        )
        light = np.bincount(pairs.dom, pairs.mean, NUM_DOMS)
        offset = dom_positions() - place
        across = np.hypot(offset[:, 1], offset[:, 2])
        beside = (offset[:, 0] > 0) & (offset[:, 0] < 600)
        near, far = beside & (across < 60), beside & (across > 100) & (across < 200)
        assert light[near].mean() > 20 * light[far].mean()
        # Minimally ionising muons give of order one photo-electron in DOMs 20 m to 40 m away.
        assert 0.1 < light[beside & (across > 20) & (across < 40)].mean() < 1.0

    def test_far_events_give_nothing(self) -> None:
        assert len(expected_photoelectrons(sources([3e3, 0, 0], UP, 1e6), ALL_ALIKE).dom) == 0

    def test_no_sources(self) -> None:
        nothing = sources(np.zeros((0, 3)), UP, 1.0)
        assert len(expected_photoelectrons(nothing, ALL_ALIKE).dom) == 0
        assert len(sample(nothing).dom) == 0


class TestSampling:
    @pytest.mark.parametrize("energy", [3.0, 1e3])
    def test_totals_are_poisson(self, energy: float) -> None:
        light = repeated(2000, energy)
        expected = expected_photoelectrons(repeated(1, energy), ALL_ALIKE).mean.sum()
        found = sample(light)
        number = np.bincount(found.event, found.weight, 2000)
        assert abs(number.mean() - expected) < 4 * np.sqrt(expected / 2000)
        assert number.var() == pytest.approx(expected, rel=0.15)

    def test_every_distance_gets_its_share(self) -> None:
        energy, events = 100.0, 2000
        found, pairs = (
            sample(repeated(events, energy)),
            expected_photoelectrons(repeated(1, energy), ALL_ALIKE),
        )
        edges = [0, 50, 100, 150, 200, 300]
        light = repeated(events, energy)
        seen = np.histogram(distances(light, found.event, found.dom), edges)[0]
        expected = (
            events
            * np.histogram(distances(light, pairs.source, pairs.dom), edges, weights=pairs.mean)[0]
        )
        assert (np.abs(seen - expected) < 4.5 * np.sqrt(expected * 1.1)).all()

    def test_bright_doms_get_weights(self) -> None:
        light = repeated(20, 1e6)
        pairs = expected_photoelectrons(repeated(1, 1e6), ALL_ALIKE)
        brightest = pairs.dom[np.argmax(pairs.mean)]
        found = sample(light)
        chosen = found.dom == brightest
        assert np.bincount(found.event[chosen]).tolist() == [MAX_SAMPLED] * 20
        assert (found.weight == np.round(found.weight)).all()
        number = np.bincount(found.event[chosen], found.weight[chosen])
        assert len(np.unique(number)) > 10
        assert number.mean() == pytest.approx(pairs.mean.max(), rel=4 / np.sqrt(20 * number[0]))
        faint = np.isin(found.dom, pairs.dom[pairs.mean < MAX_SAMPLED])
        assert (found.weight[faint] == 1).all()

    def test_equal_seeds_give_equal_light(self) -> None:
        light = showers_everywhere(30, 300.0)
        first, second, third = sample(light, 5), sample(light, 5), sample(light, 6)
        assert np.array_equal(first.time, second.time) and np.array_equal(first.dom, second.dom)
        assert not np.array_equal(first.time, third.time)

    def test_events_keep_their_sources(self) -> None:
        light = sources([[0, 0, -400.0], [0, 0, 400.0]], UP, 1e3)
        found = sample(light)
        z = dom_positions()[found.dom, 2]
        assert np.median(z[found.event == 0]) == pytest.approx(-400, abs=80)
        assert np.median(z[found.event == 1]) == pytest.approx(400, abs=80)


class TestTimes:
    def residuals(self, light: LightSources) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        found = sample(light)
        distance = distances(light, found.event, found.dom)
        return distance, found.time - 1000 - distance * 1.356 / C

    def test_nothing_is_faster_than_light(self) -> None:
        _, residual = self.residuals(showers_everywhere(200, 1e3))
        assert len(residual) > 10_000
        assert residual.min() > -1e-6

    def test_delay_grows_with_distance(self) -> None:
        distance, residual = self.residuals(showers_everywhere(300, 1e3))
        medians = [
            np.median(residual[(distance > low) & (distance < low + 40)])
            for low in (20, 60, 100, 140, 180)
        ]
        assert (np.diff(medians) > 30).all()
        assert medians[2] == pytest.approx(300, rel=0.4)

    def test_backward_light_is_late(self) -> None:
        light = showers_everywhere(300, 1e3)
        found = sample(light)
        offset = dom_positions()[found.dom] - light.position[found.event]
        distance = np.linalg.norm(offset, axis=1)
        residual = found.time - 1000 - distance * 1.356 / C
        cosine = (offset * light.direction[found.event]).sum(axis=1) / distance
        near = (distance > 40) & (distance < 80)
        backward = np.median(residual[near & (cosine < -1 / 3)])
        assert backward > 1.5 * np.median(residual[near & (cosine > 1 / 3)])

    def test_distribution_of_delays(self) -> None:
        light = repeated(400, 1e4)
        found = sample(light)
        pairs = expected_photoelectrons(repeated(1, 1e4), ALL_ALIKE)
        dom = pairs.dom[np.argmin(np.abs(pairs.distance - 80))]
        pair = np.flatnonzero(pairs.dom == dom)
        delays = delay_distribution(
            np,
            fitted_delays(),
            *(
                getattr(pairs, name)[pair].astype(float)
                for name in ("distance", "cos_emission", "scattering", "absorption")
            ),
        )
        chosen = found.dom == dom
        delay = found.time[chosen] - 1000 - distances(light, np.zeros(1, int), dom) * 1.356 / C

        # early light is the square of a gamma variate, late light is one
        at = np.array([5.0, 20.0, 60.0, 150.0, 300.0, 600.0, 1200.0])
        early = stats.gamma.cdf(np.sqrt(at / delays.early_scale), delays.early_shape)
        late = stats.gamma.cdf(at / delays.late_scale, delays.late_shape)
        expected = (1 - delays.late_share) * early + delays.late_share * late
        share = np.mean(delay[:, None] < at, axis=0)
        spread = np.sqrt(expected * (1 - expected) / chosen.sum())
        assert chosen.sum() > 1000
        assert (np.abs(share - expected) < 4 * spread).all()

    def test_track_light_comes_with_the_cherenkov_cone(self) -> None:
        place, direction = np.array([-300.0, 0.0, -330.0]), np.array([1.0, 0, 0])
        along = np.tile(np.arange(0, 600.0, 10), 200)
        light = sources(place + along[:, None] * direction, direction, 0.0, 10.0)
        light = LightSources(**(vars(light) | {"time": 1000 + along / C}))
        found = sample(light)
        offset = dom_positions()[found.dom] - place
        beside = (offset[:, 0] > 100) & (offset[:, 0] < 500)
        across = np.hypot(offset[:, 1], offset[:, 2])
        # The earliest light from anywhere on the line, found by trying.
        tried = np.arange(0, 600.0, 0.1)
        first = np.array(
            [
                (tried / C + np.hypot(x - tried, y) * 1.356 / C).min()
                for x, y in zip(offset[:, 0], across, strict=True)
            ]
        )
        residual = found.time - 1000 - first
        assert residual.min() > -0.01
        assert np.quantile(residual[beside & (across < 20)], 0.2) < 10


class TestIce:
    def test_dust_layer_and_clear_ice(self) -> None:
        ice = south_pole_ice()
        z = (ice.edges()[1:] + ice.edges()[:-1]) / 2
        inside = np.abs(z) < 500
        dustiest = z[inside][np.argmax((ice.scattering * ice.absorption)[inside])]
        assert -120 < dustiest < -60
        deep, upper = (z > -450) & (z < -250), (z > 0) & (z < 450)
        assert np.median(1 / ice.absorption[deep]) > 1.2 * np.median(1 / ice.absorption[upper])
        assert 20 < np.median(1 / ice.scattering[upper]) < 50

    def test_means_over_a_path(self) -> None:
        ice = Ice(-30.0, 10.0, np.array([1.0, 2, 4, 8, 16, 32]), np.array([3.0, 1, 4, 1, 5, 9]))
        rng = np.random.default_rng(0)
        a, b = rng.uniform(-80, 80, (2, 50))
        b[:5] = a[:5]
        scattering, absorption = mean_coefficients(np, ice.columns(a), ice.columns(b))
        for values, mean in ((ice.scattering, scattering), (ice.absorption, absorption)):
            for start, stop, found in zip(a, b, mean, strict=True):
                z = np.linspace(min(start, stop) - 5, max(start, stop) + 5, 20_001)
                layer = np.clip(np.floor((z + 30) / 10).astype(int), 0, 5)
                assert found == pytest.approx(values[layer].mean(), rel=1e-3)


class TestFormulas:
    @pytest.mark.parametrize(
        ("distance", "cos_arrival", "expected"),
        [
            (15.0, -0.8, 0.09043261382194688),
            (15.0, 0.1, 0.18284750047709564),
            (15.0, 0.8, 0.31615891245655325),
            (100.0, -0.8, 0.0012572597773592357),
            (100.0, 0.8, 0.002386430113225025),
        ],
    )
    def test_shipped_amounts(self, distance: float, cos_arrival: float, expected: float) -> None:
        """The formulas evaluated with a pocket calculator, λ_e = 25 m, λ_a = 120 m, cos θ = 0.2."""
        found = photoelectrons_per_gev(
            np, fitted_constants(), distance, 0.2, cos_arrival, 1.3, 1 / 25, 1 / 120
        )
        assert found == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize(
        ("scattering_lengths", "amounts"),
        [
            (0.79, [0.433, 0.679, 0.987, 1.317, 1.486]),
            (1.50, [0.540, 0.779, 1.021, 1.259, 1.441]),
            (3.65, [0.604, 0.837, 1.049, 1.199, 1.253]),
        ],
    )
    def test_acceptance_is_that_of_the_traced_photons(
        self, scattering_lengths: float, amounts: list[float]
    ) -> None:
        """Charge of 4,184 traced showers in DOMs below to above them, relative to all directions.

        The mean errors of these ratios are 0.003 to 0.014; the shape of the formula leaves up to a
        fifth.
        """

        def light(cos_arrival: NDArray[np.float64]) -> NDArray[np.float64]:
            shipped, distance = fitted_constants(), scattering_lengths * 25.0
            return np.asarray(
                photoelectrons_per_gev(np, shipped, distance, 0.0, cos_arrival, 1, 1 / 25, 1 / 120)
            )

        directions = np.linspace(-1, 1, 2001)
        found = light(np.array([-0.80, -0.40, 0.0, 0.39, 0.795])) / light(directions).mean()
        np.testing.assert_allclose(found, amounts, rtol=0.2)

    def test_bulk_light_close_by_and_far_away(self) -> None:
        scattering, absorption = 1 / 25, 1 / 2500
        close = bulk_light(np, np.array([0.1]), scattering, absorption)
        assert close == pytest.approx(1 / (4 * pi * 0.1**2), rel=0.01)
        distance = 400.0
        far = bulk_light(np, np.array([distance]), scattering, absorption)
        diffusion = np.exp(-distance * np.sqrt(3 * scattering * absorption))
        diffusion *= 3 * scattering / (4 * pi * distance)
        assert far == pytest.approx(diffusion, rel=0.02)

    def test_emission_peaks_at_the_cherenkov_angle(self) -> None:
        cosine = (np.arange(100_000) + 0.5) / 50_000 - 1
        emission = shower_emission(cosine)
        assert emission.mean() == pytest.approx(1, rel=1e-3)
        assert np.degrees(np.arccos(cosine[np.argmax(emission)])) == pytest.approx(40.7, abs=0.1)
        assert (emission > 0).all()

    def test_torch_and_numpy_agree(self) -> None:
        rng = np.random.default_rng(0)
        arrays = [
            rng.uniform(low, high, 50)
            for low, high in ((10, 300), (-1, 1), (-1, 1), (0.1, 5), (0.02, 0.2), (0.005, 0.05))
        ]
        tensors = [torch.from_numpy(values) for values in arrays]
        constants = fitted_constants()
        np.testing.assert_allclose(
            photoelectrons_per_gev(torch, constants, *tensors).numpy(),
            photoelectrons_per_gev(np, constants, *arrays),
            rtol=1e-10,
        )


@pytest.mark.parametrize(
    ("num_showers", "num_tracks"), [(1500, 400), pytest.param(3000, 800, marks=pytest.mark.long)]
)
def test_agrees_with_the_photon_tracking_simulation(
    shared_data: Path, num_showers: int, num_tracks: int
) -> None:
    for package in ("pandas", "pyarrow"):
        pytest.importorskip(package)
    from dnn_reco.simulation.calibration.tables import agreement, compare

    folder = shared_data / "ppc"
    if not folder.is_dir():
        pytest.skip(f"no photon-tracking simulation in '{folder}'")
    rows = agreement(compare(folder, num_showers, num_tracks))
    assert len(rows) == 11
    for row in rows:
        assert row.median_deviation < 0.3, row
        assert row.within > 0.6, row
