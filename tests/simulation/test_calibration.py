"""The fit finds the constants with which made-up data were drawn."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from dnn_reco.simulation.calibration.fit import START, fit, start_ice
from dnn_reco.simulation.calibration.pairs import ShowerDomPairs
from dnn_reco.simulation.ice import Ice, mean_coefficients
from dnn_reco.simulation.propagation import (
    DELAY_POWER,
    LightConstants,
    delay_distribution,
    photoelectrons_per_gev,
    shower_emission,
)


def drawn(ice: Ice, constants: LightConstants, number: int) -> ShowerDomPairs:
    """Pairs of bright showers and DOMs, without noise."""
    rng = np.random.default_rng(0)
    distance = rng.uniform(20, 150, number)
    cos_emission, cos_arrival = rng.uniform(-1, 1, (2, number))
    source_z = rng.uniform(-400, 400, number)
    dom_z = source_z - distance * cos_arrival
    energy = np.exp(rng.uniform(5, 10, number))
    coefficients = mean_coefficients(np, ice.columns(source_z), ice.columns(dom_z))
    emission = shower_emission(cos_emission)
    yields = photoelectrons_per_gev(
        np, constants, distance, cos_emission, cos_arrival, emission, *coefficients
    )
    photoelectrons = rng.poisson(energy * yields)
    shape, scale = delay_distribution(np, constants, distance, cos_emission, *coefficients)
    pair = np.repeat(np.arange(number), photoelectrons)
    delay = scale[pair] * rng.standard_gamma(shape[pair]) ** DELAY_POWER
    return ShowerDomPairs(
        distance=distance,
        cos_emission=cos_emission,
        cos_arrival=cos_arrival,
        source_z=source_z,
        dom_z=dom_z,
        energy=energy,
        photoelectrons=photoelectrons.astype(float),
        noise=np.full(number, 1e-6),
        delayed=photoelectrons.astype(float),
        log_delay=np.bincount(pair, np.log(delay), number),
        root_delay=np.bincount(pair, delay ** (1 / DELAY_POWER), number),
    )


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads that wait for each other cost more than they gain on so few pairs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_fit_finds_the_truth() -> None:
    truth = replace(START, effective_area=2e-3, delay_scale=15.0, acceptance_near=1.0)
    start = start_ice()
    ice = replace(start, absorption=1.5 * start.absorption)
    found_ice, found = fit(drawn(ice, truth, 10_000), max_iterations=80)
    assert found.effective_area == pytest.approx(2e-3, rel=0.15)
    assert found.delay_scale == pytest.approx(15.0, rel=0.15)
    assert found.acceptance_far + found.acceptance_near / 2 == pytest.approx(0.8, rel=0.1)
    middle = slice(25, 95)
    ratio = found_ice.absorption[middle] / ice.absorption[middle]
    assert np.median(ratio) == pytest.approx(1, abs=0.1)
    assert found_ice.absorption[50] > 2 * found_ice.absorption[90]
