"""Flows on the sphere: normalised, differentiable, and the same in NumPy."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from dnn_reco.evaluation.mixture_levels import mixture_level
from dnn_reco.inference.sky_densities import predicted_density
from dnn_reco.inference.sphere_flow import SphereFlow, flow_log_density, flow_points
from dnn_reco.nn.densities import direction_log_prob
from dnn_reco.nn.density_layout import NUM_BINS, DensityShape
from dnn_reco.nn.direction import rotate_about_z
from dnn_reco.nn.sphere_flow import NUM_RAW, flow_log_prob, flow_mean, spline_parameters


def units(seed: int, *shape: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(*shape, 3))
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def flow_of(raw: Tensor, natural: Tensor) -> Tensor:
    """One component [B, 1, parameters] of unconstrained numbers of splines."""
    nothing = natural.new_zeros(len(natural), 1)
    return torch.cat([nothing, natural, spline_parameters(raw)], dim=1)[:, None]


def some_flows(kappas: list[float], seed: int = 0, strength: float = 1.0) -> Tensor:
    rng = np.random.default_rng(seed)
    raw = torch.from_numpy(strength * rng.normal(size=(len(kappas), NUM_RAW)))
    natural = torch.from_numpy(units(seed, len(kappas)) * np.array(kappas)[:, None])
    return flow_of(raw, natural)


def mixture_of_flows(strength: float = 1.0) -> Tensor:
    """A mixture [1, 3, parameters]."""
    parts = some_flows([30.0, 3.0, 200.0], 4, strength).transpose(0, 1).clone()
    parts[0, :, 0] = torch.tensor([0.5, 0.3, 0.2]).log()
    return parts


def sky_grid() -> np.ndarray:
    """Vectors [n, 3] of pixels of equal area."""
    from astropy_healpix import HEALPix

    grid = HEALPix(nside=128, order="nested")
    longitude, latitude = (each.value for each in grid.healpix_to_lonlat(np.arange(grid.npix)))
    across = np.cos(latitude)
    return np.stack([across * np.cos(longitude), across * np.sin(longitude), np.sin(latitude)], 1)


def test_layout() -> None:
    assert DensityShape("direction", "flow", 1).width == some_flows([1.0]).shape[2]


def test_it_starts_as_a_von_mises_fisher_distribution() -> None:
    kappas = [1e-3, 0.2, 5.0, 1e4, 1e6]
    flows = some_flows(kappas, strength=0.0)
    direction = torch.from_numpy(units(1, 5))
    direction[3:] = flows[3:, 0, 1:4] / flows[3:, 0, 1:4].norm(dim=1, keepdim=True)
    expected = direction_log_prob(flows[..., :4], direction)
    torch.testing.assert_close(flow_log_prob(flows, direction), expected)


@pytest.mark.parametrize("seed", range(3))
def test_splines_map_the_unit_interval_to_itself(seed: int) -> None:
    parts = some_flows([1.0], seed)[0, 0, 4:]
    for start in (0, 3 * NUM_BINS + 1):
        assert float(parts[start : start + NUM_BINS].sum()) == pytest.approx(1)
        assert float(parts[start + NUM_BINS : start + 2 * NUM_BINS].sum()) == pytest.approx(1)
    assert (parts > 0).all()


@pytest.mark.parametrize("kappa", [1e-3, 0.5, 30.0, 1e5])
def test_density_integrates_to_one(kappa: float) -> None:
    """By points of equal probability of the von Mises-Fisher distribution that is deformed."""
    parts = some_flows([kappa], 2, 0.5)
    natural = parts[0, 0, 1:4].numpy()
    axis = natural / kappa
    first = np.cross(axis, [0.6, 0.0, 0.8])
    first /= np.linalg.norm(first)
    within, turn = np.meshgrid((np.arange(500) + 0.5) / 500, (np.arange(200) + 0.5) / 200)
    deviation = -np.log1p(within * np.expm1(-2 * kappa)) / kappa
    across, phi = np.sqrt(deviation * (2 - deviation)), 2 * np.pi * turn
    steps = (1 - deviation, axis), (across * np.cos(phi), first)
    steps = (*steps, (across * np.sin(phi), np.cross(axis, first)))
    vectors = torch.from_numpy(sum(length.reshape(-1, 1) * vector for length, vector in steps))
    many = parts.expand(len(vectors), -1, -1)
    ratio = (flow_log_prob(many, vectors) - direction_log_prob(many[..., :4], vectors)).exp()
    assert float(ratio.mean()) == pytest.approx(1, abs=1e-3)
    mean = (ratio[:, None] * vectors).mean(dim=0)
    torch.testing.assert_close(flow_mean(parts)[0], mean, rtol=0, atol=1e-3)


def test_a_mixture_integrates_to_one() -> None:
    parts, vectors = mixture_of_flows(0.3), torch.from_numpy(sky_grid())
    density = flow_log_prob(parts.expand(len(vectors), -1, -1), vectors).exp()
    assert float(density.mean() * 4 * math.pi) == pytest.approx(1, abs=2e-3)
    mean = (density[:, None] * vectors).mean(dim=0) * 4 * math.pi
    torch.testing.assert_close(flow_mean(parts)[0], mean, rtol=0, atol=2e-3)


def test_numpy_computes_the_same_density() -> None:
    kappas = [1e-3, 1.0, 80.0, 1e5]
    flows = some_flows(kappas, 3)
    points = torch.from_numpy(
        flow_points(flows[:, 0, 1:].numpy(), *np.random.default_rng(2).random((2, 50)))
    )
    found = flow_log_density(flows[:, 0, 1:].numpy(), points.numpy())
    expected = [flow_log_prob(flows, points[:, i]) for i in range(50)]
    np.testing.assert_allclose(found, torch.stack(expected, dim=1), rtol=1e-9, atol=1e-9)
    density = predicted_density(mixture_of_flows()[0].numpy(), "flow")
    vectors = torch.from_numpy(units(8, 40))
    expected = flow_log_prob(mixture_of_flows().expand(40, -1, -1), vectors)
    np.testing.assert_allclose(density.log_prob_dir(vectors.numpy()), expected)


@pytest.mark.parametrize("kappa", [0.01, 4.0, 900.0])
def test_samples_follow_the_density(kappa: float) -> None:
    """Importance weights of samples: the mean of q / p is 1 in each part of the sphere."""
    parameters = some_flows([kappa], 5)[0, 0, 1:].numpy()
    samples = SphereFlow(parameters).sample_dir(40_000, np.random.default_rng(2))
    np.testing.assert_allclose(np.linalg.norm(samples, axis=1), 1)
    base = np.concatenate([[0.0], parameters[:3]])
    log_base = direction_log_prob(
        torch.from_numpy(base)[None, None].expand(len(samples), -1, -1), torch.from_numpy(samples)
    ).numpy()
    ratio = np.exp(log_base - SphereFlow(parameters).log_prob_dir(samples))
    axis = parameters[:3] / kappa
    deviation = 1 - samples @ axis
    within = np.expm1(-kappa * deviation) / np.expm1(-2 * kappa)
    for low, high in ((0, 0.1), (0.1, 0.4), (0.4, 0.9), (0.9, 1.0001)):
        values = ratio * ((within >= low) & (within < high))
        error = values.std() / math.sqrt(len(values))
        assert abs(values.mean() - min(high, 1) + low) < 4 * error + 1e-9


def test_levels_are_uniform() -> None:
    rng = np.random.default_rng(6)
    parts = np.concatenate([some_flows([50.0, 2.0], seed).numpy() for seed in range(150)])
    true = np.concatenate([SphereFlow(each).sample_dir(1, rng) for each in parts[:, 0, 1:]])
    level = mixture_level(parts, true, is_flow=True)
    assert stats.kstest(level, "uniform").pvalue > 0.01
    some = np.repeat(mixture_of_flows().numpy(), 100, axis=0)
    density = predicted_density(some[0], "flow")
    true = density.sample_dir(100, rng)
    found = mixture_level(some, true, is_flow=True)
    np.testing.assert_allclose(found, density.cdf_dir(true), atol=0.01)


def test_gradient_over_all_concentrations() -> None:
    """Finite differences; true directions as far from the mean as the density is wide."""
    kappas = np.logspace(-3, 6, 10)
    rng = np.random.default_rng(7)
    mean = units(7, 10)
    direction = mean + rng.normal(size=(10, 3)) / np.sqrt(kappas)[:, None]
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    raw = torch.from_numpy(rng.normal(size=(10, NUM_RAW))).requires_grad_()
    log_kappa = torch.from_numpy(np.log(kappas)).requires_grad_()
    shift = torch.zeros(10, 3, dtype=torch.float64, requires_grad=True)
    width = torch.from_numpy(1 / np.sqrt(kappas))[:, None]

    def natural(log_kappa: Tensor, shift: Tensor) -> Tensor:
        moved = torch.from_numpy(mean) + width.clamp(max=1) * shift
        return log_kappa.exp()[:, None] * torch.nn.functional.normalize(moved, dim=1)

    def log_prob(raw: Tensor, log_kappa: Tensor, shift: Tensor) -> Tensor:
        return flow_log_prob(flow_of(raw, natural(log_kappa, shift)), torch.from_numpy(direction))

    assert torch.autograd.gradcheck(log_prob, (raw, log_kappa, shift), atol=1e-4, rtol=1e-4)
    assert torch.autograd.gradcheck(
        lambda *x: flow_mean(flow_of(x[0], natural(x[1], x[2]))), (raw, log_kappa, shift)
    )


def test_a_flow_turns_with_the_event() -> None:
    flows, direction = some_flows([10.0, 0.3, 400.0], 9), torch.from_numpy(units(3, 3))
    angle = torch.tensor([0.5, 2.0, -1.3], dtype=torch.float64)
    turned = flows.clone()
    turned[:, 0, 1:4] = rotate_about_z(flows[:, 0, 1:4], angle)
    found = flow_log_prob(turned, rotate_about_z(direction, angle))
    torch.testing.assert_close(found, flow_log_prob(flows, direction))
    torch.testing.assert_close(flow_mean(turned), rotate_about_z(flow_mean(flows), angle))


def test_single_precision_and_limits_are_finite() -> None:
    """Vertical means, true directions at the mean, and splines at their limits."""
    for strength in (1.0, 8.0):
        flows = some_flows([1e-3, 1.0, 1e3, 1e7], 2, strength).float()
        flows[1, 0, 1:4] = torch.tensor([0.0, 0.0, -1.0])
        leaf = flows.clone().requires_grad_()
        mean = flows[:, 0, 1:4] / flows[:, 0, 1:4].norm(dim=1, keepdim=True)
        for direction in (mean, -mean, torch.from_numpy(units(5, 4)).float()):
            log_prob = flow_log_prob(leaf, direction)
            (gradient,) = torch.autograd.grad(log_prob.sum(), leaf)
            assert torch.isfinite(log_prob).all()
            assert torch.isfinite(gradient).all()
        exact = flow_log_prob(flows.double(), torch.from_numpy(units(5, 4)))
        found = flow_log_prob(flows, torch.from_numpy(units(5, 4)).float())
        torch.testing.assert_close(found[:3].double(), exact[:3], rtol=1e-4, atol=1e-3)
