"""Densities that are mixtures, against SciPy, numbers with 50 digits, and numerical integrals."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from torch import Tensor

from dnn_reco.nn.densities import (
    direction_log_prob,
    direction_mean,
    direction_moments,
    label_log_prob,
    student_width,
    unit_mixture,
)

ONE_SIGMA = stats.norm.cdf(1)


def tensor(*values: object) -> Tensor:
    return torch.tensor(np.array(values), dtype=torch.float64)


def components(kind: str, seed: int, num: int = 3) -> np.ndarray:
    """Components [K, parameters] of a density of some label."""
    rng = np.random.default_rng(seed)
    columns = [np.log(rng.dirichlet(np.ones(num))), rng.normal(0, 1, num), rng.uniform(0.2, 2, num)]
    if kind == "student":
        columns.append(rng.uniform(2, 100, num))
    return np.stack(columns, axis=1)


def exact_density(parts: np.ndarray, x: np.ndarray) -> np.ndarray:
    total = np.zeros_like(x)
    for log_weight, offset, scale, *freedom in parts:
        of = stats.t(freedom[0], offset, scale) if freedom else stats.norm(offset, scale)
        total += math.exp(log_weight) * of.pdf(x)
    return total


@pytest.mark.parametrize("freedom", [2.0, 2.01, 2.7, 4.0, 10.0, 33.0, 100.0])
def test_width_of_student(freedom: float) -> None:
    expected = stats.t.ppf(ONE_SIGMA, freedom)
    assert float(student_width(tensor(1 / freedom))[0]) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("kind", ["normal", "student"])
@pytest.mark.parametrize("seed", range(3))
def test_density_of_a_label(kind: str, seed: int) -> None:
    parts = components(kind, seed)
    x = np.concatenate([np.linspace(-30, 30, 60_001), [-1e6, 1e6]])
    found = label_log_prob(tensor(parts).expand(len(x), -1, -1), torch.from_numpy(x)).numpy()
    expected = exact_density(parts, x)
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-9, atol=1e-300)
    assert np.isfinite(found).all()
    tails = 1 - sum(
        math.exp(w) * (stats.t(*f, o, s) if f else stats.norm(o, s)).cdf([-30, 30]) @ [-1, 1]
        for w, o, s, *f in parts
    )
    assert np.trapezoid(np.exp(found[:-2]), x[:-2]) == pytest.approx(1 - tails, abs=1e-7)


@pytest.mark.parametrize("kind", ["normal", "student"])
def test_gradient_of_the_density_of_a_label(kind: str) -> None:
    """Finite differences, from the middle to far in the tails, down to the limits."""
    parts = tensor(*(components(kind, seed) for seed in range(8)))
    if kind == "student":
        parts[0, :, 3], parts[1, :, 3] = 2.0001, 99.99
    x = tensor(*np.logspace(-3, 3, 8)).requires_grad_()
    assert torch.autograd.gradcheck(label_log_prob, (parts.requires_grad_(), x))


def test_single_precision_keeps_its_digits() -> None:
    parts = torch.stack([tensor(*components("student", seed)) for seed in range(30)])
    x = torch.linspace(-1e4, 1e4, 30, dtype=torch.float64)
    exact = label_log_prob(parts, x)
    found = label_log_prob(parts.float(), x.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("seed", range(4))
def test_unit_mixture(seed: int) -> None:
    parts = components("normal", seed, num=4)
    offset, scale = unit_mixture(*tensor(parts).unbind(dim=2))
    weight = np.exp(parts[:, 0])
    assert float((torch.from_numpy(weight) * offset[0]).sum()) == pytest.approx(0, abs=1e-12)
    shape = stats.norm(offset[0].numpy(), scale[0].numpy())
    low, high = (
        optimize.brentq(lambda x, p=p: weight @ shape.cdf(x) - p, -20, 20)
        for p in (1 - ONE_SIGMA, ONE_SIGMA)
    )
    assert (high - low) / 2 == pytest.approx(1, abs=1e-8)
    # only shifted and scaled
    factor = scale[0].numpy() / parts[:, 2]
    np.testing.assert_allclose(factor, factor[0])
    np.testing.assert_allclose(np.diff(offset[0].numpy()), factor[0] * np.diff(parts[:, 1]))


def test_gradient_of_unit_mixture() -> None:
    parts = [tensor(*(components("normal", seed)[:, i] for seed in range(6))) for i in range(3)]
    assert torch.autograd.gradcheck(unit_mixture, [each.requires_grad_() for each in parts])


def test_equal_components_are_one_normal_distribution() -> None:
    same = torch.full((1, 3), 0.7, dtype=torch.float64)
    log_weight = torch.full((1, 3), -math.log(3), dtype=torch.float64)
    offset, scale = unit_mixture(log_weight, same, same)
    torch.testing.assert_close(offset, torch.zeros_like(offset))
    torch.testing.assert_close(scale, torch.ones_like(scale), rtol=0, atol=1e-8)


# --------------------------------------------------------------------------------------------------
# Directions
# --------------------------------------------------------------------------------------------------
def units(seed: int, *shape: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(*shape, 3))
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def moments(components: Tensor) -> tuple[Tensor, Tensor]:
    return direction_moments(direction_mean(components))


def mixture(seed: int, kappas: list[float]) -> np.ndarray:
    """Components [K, 4] of these concentrations."""
    log_weight = np.log(np.random.default_rng(seed + 50).dirichlet(np.ones(len(kappas))))
    return np.column_stack([log_weight, units(seed, len(kappas)) * np.array(kappas)[:, None]])


def exact_log_density(parts: np.ndarray, direction: np.ndarray) -> float:
    with mpmath.workdps(50):
        total = mpmath.mpf(0)
        for log_weight, *natural in parts:
            vector = [mpmath.mpf(float(n)) for n in natural]
            kappa = mpmath.sqrt(sum(v**2 for v in vector))
            product = sum(v * mpmath.mpf(float(x)) for v, x in zip(vector, direction, strict=True))
            norm = kappa / (4 * mpmath.pi * mpmath.sinh(kappa))
            total += mpmath.exp(mpmath.mpf(float(log_weight))) * norm * mpmath.exp(product)
        return float(mpmath.log(total))


KAPPAS = st.lists(st.floats(-3, 6).map(lambda x: 10**x), min_size=1, max_size=4)


@settings(max_examples=60)
@given(kappas=KAPPAS, seed=st.integers(0, 100))
def test_density_of_a_direction(kappas: list[float], seed: int) -> None:
    parts = mixture(seed, kappas)
    near = parts[0, 1:] / np.linalg.norm(parts[0, 1:])
    # far from all components, and one width from one of them
    other = near + units(seed + 7) / math.sqrt(kappas[0])
    for direction in (units(seed + 9), other / np.linalg.norm(other)):
        found = direction_log_prob(tensor(parts), tensor(direction))
        expected = exact_log_density(parts, direction)
        assert float(found[0]) == pytest.approx(expected, rel=1e-8, abs=1e-7)


@settings(max_examples=60)
@given(kappas=KAPPAS, seed=st.integers(0, 100))
def test_gradient_of_the_density_of_a_direction(kappas: list[float], seed: int) -> None:
    """Finite differences of the exact density, in steps that suit each concentration."""
    parts = mixture(seed, kappas)
    near = parts[0, 1:] / np.linalg.norm(parts[0, 1:])
    direction = near + units(seed + 7) / math.sqrt(kappas[0])
    direction /= np.linalg.norm(direction)
    leaf = tensor(parts).requires_grad_()
    direction_log_prob(leaf, tensor(direction)).sum().backward()
    assert leaf.grad is not None
    for component, kappa in enumerate(kappas):
        for column in range(4):
            step = 1e-6 * (1 if column == 0 else max(kappa, 1e-3))
            low, high = parts.copy(), parts.copy()
            low[component, column] -= step
            high[component, column] += step
            slope = exact_log_density(high, direction) - exact_log_density(low, direction)
            expected = slope / (high - low)[component, column]
            # logarithms of the density are rounded to some 1e-16 of their size
            rounding = 1e-15 * (1 + abs(exact_log_density(parts, direction))) / step
            found = float(leaf.grad[0, component, column])
            assert found == pytest.approx(expected, rel=2e-6, abs=1e-8 + 2 * rounding)


@pytest.mark.parametrize("border", [0.1, 0.3, 1e-3, 100.0, 300.0, 1e4])
def test_nothing_jumps_where_a_formula_changes(border: float) -> None:
    """Values and gradients of density, mean direction and κ just below and above."""
    direction, found = tensor([0.6, 0.0, 0.8]), []
    for kappa in (border * (1 - 1e-9), border * (1 + 1e-9)):
        parts = tensor([[-0.5, 0, 0, kappa], [math.log1p(-math.exp(-0.5)), kappa, 0, 0]])
        leaf = parts.requires_grad_()
        unit, width = moments(leaf)
        log_prob = direction_log_prob(leaf, direction)
        values = [log_prob[0], width[0].log(), unit[0, 2]]
        slopes = [torch.autograd.grad(v, leaf, retain_graph=True)[0].flatten() for v in values]
        found.append(torch.cat([torch.stack(values).detach(), *slopes]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-7 * (1 + 1 / border))


@pytest.mark.parametrize(
    "kappas", [[1e-3, 2e-3], [0.05, 3.0], [20.0, 300.0, 2.0], [1e3, 50.0, 700.0, 5.0]]
)
def test_density_integrates_to_one(kappas: list[float]) -> None:
    from astropy_healpix import HEALPix

    grid = HEALPix(nside=128, order="nested")
    longitude, latitude = (each.value for each in grid.healpix_to_lonlat(np.arange(grid.npix)))
    across = np.cos(latitude)
    vectors = [across * np.cos(longitude), across * np.sin(longitude), np.sin(latitude)]
    vectors = torch.from_numpy(np.stack(vectors, axis=1))
    parts = tensor(mixture(3, kappas)).expand(len(vectors), -1, -1)
    density = direction_log_prob(parts, vectors).exp()
    assert float(density.mean() * 4 * math.pi) == pytest.approx(1, abs=2e-6)
    # the mean vector as well
    unit, kappa = moments(parts[:1])
    mean = (density[:, None] * vectors).mean(dim=0) * 4 * math.pi
    torch.testing.assert_close(unit[0], mean / mean.norm(), rtol=0, atol=2e-4)
    length = float(mpmath.coth(float(kappa)) - 1 / mpmath.mpf(float(kappa)))
    assert length == pytest.approx(float(mean.norm()), abs=5e-6)


@pytest.mark.parametrize("kappa", [2e-3, 0.09, 0.11, 0.3, 5.0, 300.0, 1e4, 1e6])
def test_one_component_has_its_own_moments(kappa: float) -> None:
    vector = units(1)
    unit, found = moments(tensor([[0.0, *(kappa * vector)]]))
    assert float(found[0]) == pytest.approx(kappa, rel=1e-6)
    np.testing.assert_allclose(unit[0], vector, rtol=1e-9)


@pytest.mark.parametrize("kappas", [[0.5, 2.0], [0.05, 30.0, 4.0], [100.0, 2000.0]])
def test_gradient_of_the_moments(kappas: list[float]) -> None:
    parts = tensor(mixture(2, kappas)).requires_grad_()

    def of_moments(parts: Tensor) -> tuple[Tensor, Tensor]:
        unit, kappa = moments(parts)
        return unit, kappa.log()

    assert torch.autograd.gradcheck(of_moments, (parts,), atol=1e-6)


def test_single_precision_of_directions() -> None:
    """Also where the density is as narrow as a hundredth of a degree."""
    kappas = [[1e-3, 10.0], [1e4, 1.0], [1e7, 3.0], [2.0, 5.0]]
    parts = tensor(*(mixture(seed, each) for seed, each in enumerate(kappas)))
    direction = parts[:, 0, 1:] / parts[:, 0, 1:].norm(dim=1, keepdim=True)
    exact = direction_log_prob(parts, direction)
    found = direction_log_prob(parts.float(), direction.float())
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=2e-3)
    unit, kappa = moments(parts.float().double())
    exact_unit, exact_kappa = moments(parts)
    torch.testing.assert_close(unit.double(), exact_unit, rtol=0, atol=3e-7)
    torch.testing.assert_close(kappa.double(), exact_kappa, rtol=1e-5, atol=0)


def test_opposite_directions_are_finite() -> None:
    parts = tensor([[-math.log(2), 0, 0, 50.0], [-math.log(2), 0, 0, -50.0]]).requires_grad_()
    unit, kappa = moments(parts)
    assert kappa.tolist() == pytest.approx([1e-3])
    (unit.sum() + kappa.sum()).backward()
    assert torch.isfinite(unit).all()
    assert torch.isfinite(parts.grad).all()
