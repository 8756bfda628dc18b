"""Losses of directions against plain vector algebra and numbers with 60 digits."""

import math
from decimal import Decimal, localcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_inputs import ANGLES, DIRECTION, LABELS, evaluate, random_events

from dnn_reco.modules.loss.default_loss import opening_angle, opening_angle_raleigh
from dnn_reco.modules.loss.direction_loss import von_mises_fisher
from dnn_reco.nn.direction import angle_between, log_fisher_norm


def angles_by_vectors(events) -> torch.Tensor:
    """Angle between true and predicted zenith and azimuth."""
    vectors = []
    for labels in (events.true, events.predicted):
        zenith, azimuth = labels[:, ANGLES].unbind(dim=1)
        x, y = zenith.sin() * azimuth.cos(), zenith.sin() * azimuth.sin()
        vectors.append(torch.stack([x, y, zenith.cos()], dim=1))
    return torch.acos((vectors[0] * vectors[1]).sum(dim=1))


def test_opening_angles():
    events = random_events(200)
    events.predicted[:, ANGLES] = events.true[:, ANGLES].roll(1, dims=0)
    psi = angles_by_vectors(events)
    assert psi.min() < 0.3 and psi.max() > 2.8
    sigma_zenith, sigma_azimuth = events.sigma[:, ANGLES].unbind(dim=1)
    variance = sigma_zenith**2 + (sigma_azimuth * torch.sin(events.true[:, ANGLES[0]])) ** 2
    scale = torch.sqrt(variance / 2)
    expected = {
        opening_angle: psi + (psi - scale) ** 2,
        # -2 ln of ψ / s² exp(-ψ² / 2s²)
        opening_angle_raleigh: psi - 2 * torch.log(psi / scale**2) + psi**2 / scale**2,
    }
    for loss, terms in expected.items():
        values = torch.zeros(len(LABELS), dtype=torch.float64)
        values[ANGLES] = terms.mean()
        torch.testing.assert_close(evaluate(loss, events).loss, values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [1e-7, 1e-5, 1e-3])
def test_small_angles_keep_their_digits(offset, dtype):
    zenith, azimuth = torch.tensor([0.0], dtype=dtype), torch.tensor([2.0], dtype=dtype)
    offset = torch.tensor([offset], dtype=dtype, requires_grad=True)
    psi = angle_between(zenith, azimuth, zenith + offset, azimuth)
    torch.testing.assert_close(psi, offset, rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(psi.sum(), offset)
    assert gradient.item() == pytest.approx(1, rel=1e-6)

    level = zenith + math.pi / 2  # away from the poles, azimuths count in full
    psi = angle_between(level, zenith, level, zenith + offset)
    torch.testing.assert_close(psi, offset, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_angles_of_almost_opposite_directions_keep_their_digits(dtype):
    zenith, azimuth = torch.tensor([0.3], dtype=dtype), torch.tensor([2.0], dtype=dtype)
    offset = torch.tensor([1e-4], dtype=dtype, requires_grad=True)
    psi = angle_between(zenith, azimuth, math.pi - zenith - offset, azimuth + math.pi)
    assert psi.item() == pytest.approx(math.pi - offset.item(), abs=4 * torch.finfo(dtype).eps)
    (gradient,) = torch.autograd.grad(psi.sum(), offset)
    assert gradient.item() == pytest.approx(-1, rel=1e-4)


def test_gradient_of_the_angle():
    angles = [random_events(20).true[:, i].requires_grad_() for i in ANGLES]
    angles += [random_events(20, seed=1).true[:, i].requires_grad_() for i in ANGLES]
    assert torch.autograd.gradcheck(angle_between, angles)


def test_at_a_kink_of_the_angle_its_gradient_is_zero():
    zenith = torch.tensor([0.7, math.pi / 2], dtype=torch.float64)
    azimuth = torch.tensor([1.0, 0.0], dtype=torch.float64)
    other = [
        torch.tensor([0.7, math.pi / 2], dtype=torch.float64, requires_grad=True),
        torch.tensor([1.0, math.pi], dtype=torch.float64, requires_grad=True),
    ]
    psi = angle_between(zenith, azimuth, *other)
    torch.testing.assert_close(psi.detach(), torch.tensor([0, math.pi], dtype=torch.float64))
    gradients = torch.autograd.grad(psi.sum(), other)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert [gradient[0].item() for gradient in gradients] == [0, 0]


def exact_log_norm(kappa: float) -> tuple[float, float]:
    """ln(κ / (4π sinh κ)) + κ and its derivative, in decimals."""
    with localcontext() as context:
        context.prec = 60
        pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494")
        k = Decimal(kappa)
        grows, falls = k.exp(), (-k).exp()
        sinh, cosh = (grows - falls) / 2, (grows + falls) / 2
        value = (k / (4 * pi * sinh)).ln() + k
        return float(value), float(1 / k - cosh / sinh + 1)


@given(
    exponent=st.floats(-6, 6) | st.floats(-0.55, -0.5),  # around the change of formula, too
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_norm_of_the_von_mises_fisher_distribution(exponent, dtype):
    kappa = torch.tensor(10**exponent, dtype=dtype, requires_grad=True)
    value = log_fisher_norm(kappa)
    (gradient,) = torch.autograd.grad(value, kappa)
    expected, slope = exact_log_norm(kappa.item())
    eps = torch.finfo(dtype).eps
    assert value.item() == pytest.approx(expected, rel=4 * eps, abs=4 * eps)
    assert gradient.item() == pytest.approx(slope, rel=16 * eps)


def test_von_mises_fisher_loss():
    """Whatever the lengths of the predicted vectors."""
    events = random_events(50)
    events.predicted[:, DIRECTION] *= torch.linspace(0.1, 5, 50, dtype=torch.float64)[:, None]
    vectors = zip(events.true[:, DIRECTION], events.predicted[:, DIRECTION], strict=True)
    cosines = [float(true @ predicted / predicted.norm()) for true, predicted in vectors]
    kappas = [2 / float(sigma @ sigma) for sigma in events.sigma[:, DIRECTION]]
    terms = [
        -2 * (math.log(kappa / (4 * math.pi * math.sinh(kappa))) + kappa * cosine)
        for kappa, cosine in zip(kappas, cosines, strict=True)
    ]
    values = torch.zeros(len(LABELS), dtype=torch.float64)
    values[DIRECTION] = sum(terms) / 50 / 3
    torch.testing.assert_close(evaluate(von_mises_fisher, events).loss, values)


def test_von_mises_fisher_loss_is_smallest_where_sigma_is_the_spread_of_the_vectors():
    events = random_events(1000)
    true = events.true[:, DIRECTION]
    deviation = 0.01 * torch.randn(true.shape, generator=torch.Generator().manual_seed(1))
    events.predicted[:, DIRECTION] = torch.nn.functional.normalize(true + deviation, dim=1)
    spread = (events.predicted - events.true)[:, DIRECTION].square().sum(dim=1).mean()

    def slope(factor: float) -> float:
        events.sigma[:, DIRECTION] = torch.sqrt(factor * spread / 3)
        return float(evaluate(von_mises_fisher, events).sigma.sum())

    assert slope(0.99) < 0 < slope(1.01)


@pytest.mark.parametrize("degrees", [1e-4, 180.0])
def test_von_mises_fisher_loss_in_single_precision_at_highest_concentration(degrees):
    """κ = 1e6, with ψ so small that cos ψ rounds to 1, and as large as possible."""
    psi, sigma = math.radians(degrees), math.sqrt(2e-6 / 3)
    events = random_events(1)
    events.true[:, DIRECTION] = torch.tensor([1.0, 0, 0], dtype=torch.float64)
    events.predicted[:, DIRECTION] = torch.tensor([math.cos(psi), math.sin(psi), 0]).double()
    events.sigma[:, DIRECTION] = sigma
    rounded = events.to(torch.float32)
    single = evaluate(von_mises_fisher, rounded)
    loss = single.loss[DIRECTION].sum().item()
    expected = 2e6 * 2 * math.sin(psi / 2) ** 2 - 2 * math.log(1e6 / (2 * math.pi))
    assert loss == pytest.approx(expected, rel=1e-6)
    double = evaluate(von_mises_fisher, rounded.to(torch.float64))
    torch.testing.assert_close(single.predicted.double(), double.predicted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(single.sigma.double(), double.sigma, rtol=1e-5, atol=0)
