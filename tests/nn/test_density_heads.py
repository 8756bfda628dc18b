"""Labels and uncertainties of density heads are consistent."""

import math

import mpmath
import numpy as np
import pytest
import torch
from made_up_spec import made_up_spec
from torch import Tensor

from dnn_reco.errors import ModelError
from dnn_reco.nn.density_heads import DensityHeads
from dnn_reco.nn.direction import (
    angle_uncertainties,
    component_uncertainty,
    concentration,
    mean_angle,
    rotate_about_z,
)
from dnn_reco.nn.interface import LabelKeys, NetworkSpec

LABELS = ("dir_z", "energy", "azimuth", "dir_x", "p_track", "zenith", "dir_y", "length")
KEYS = LabelKeys("zenith", "azimuth", "dir_x", "dir_y", "dir_z", ("p_track",))
VECTOR, ZENITH, AZIMUTH, TRACK = [3, 6, 0], 5, 2, 4


def spec_of(
    labels: tuple[str, ...] = LABELS, keys: LabelKeys = KEYS, log: str = "energy"
) -> NetworkSpec:
    mean, std = np.linspace(0.1, 0.9, len(labels)), np.linspace(0.5, 2.0, len(labels))
    return made_up_spec(labels, keys, mean.tolist(), std.tolist(), log=log)


def heads_and_events(spec: NetworkSpec, **heads: str) -> tuple[DensityHeads, Tensor, Tensor]:
    torch.manual_seed(3)
    network = DensityHeads(spec, 12, heads).double()
    if network.sharpness is not None:
        torch.nn.init.normal_(network.sharpness.weight)
    return network, 3 * torch.randn(50, 12, dtype=torch.float64), torch.ones(50, dtype=torch.bool)


def test_one_direction_gives_all_its_labels() -> None:
    network, events, known = heads_and_events(spec_of())
    labels = network(events, known).labels
    zenith, azimuth = labels[:, ZENITH], labels[:, AZIMUTH]
    vector = [-zenith.sin() * azimuth.cos(), -zenith.sin() * azimuth.sin(), -zenith.cos()]
    torch.testing.assert_close(labels[:, VECTOR], torch.stack(vector, dim=1))
    assert labels[:, ZENITH].min() < 0.7 and labels[:, ZENITH].max() > 2.4


def test_one_concentration_gives_all_uncertainties() -> None:
    network, events, known = heads_and_events(spec_of())
    prediction = network(events, known)
    sigma, zenith = prediction.uncertainty, prediction.labels[:, ZENITH]
    assert torch.equal(sigma[:, VECTOR[0]], sigma[:, VECTOR[1]])
    assert torch.equal(sigma[:, VECTOR[0]], sigma[:, VECTOR[2]])
    kappa = 2 / (3 * sigma[:, VECTOR[0]] ** 2)
    torch.testing.assert_close(concentration(sigma[:, VECTOR]), kappa)
    sharp = kappa > 20 / zenith.sin() ** 2
    assert sharp.sum() > 5
    torch.testing.assert_close(sigma[sharp, ZENITH], kappa[sharp] ** -0.5)
    torch.testing.assert_close(sigma[sharp, AZIMUTH], kappa[sharp] ** -0.5 / zenith[sharp].sin())
    vague = kappa < 0.1
    assert vague.sum() > 5
    assert sigma[vague, ZENITH].tolist() == pytest.approx([0.68367] * int(vague.sum()), abs=1e-5)
    assert sigma[vague, AZIMUTH].tolist() == pytest.approx([1.81380] * int(vague.sum()), abs=1e-5)


def test_angle_uncertainties_are_those_of_a_sharp_distribution() -> None:
    """Random directions of a von Mises-Fisher distribution with mean direction at zenith 1.1."""
    kappa, rng = 400.0, np.random.default_rng(2)
    # cos ψ has the density κ exp(κ cos ψ) / (2 sinh κ)
    cosine = 1 + np.log(rng.random(200_000)) / kappa
    phi, sine = rng.uniform(0, 2 * np.pi, 200_000), np.sqrt(1 - cosine**2)
    x, y, z = sine * np.cos(phi), sine * np.sin(phi), cosine
    tilt = 1.1
    x, z = x * np.cos(tilt) + z * np.sin(tilt), z * np.cos(tilt) - x * np.sin(tilt)
    width = angle_uncertainties(torch.tensor([kappa]), torch.tensor([tilt]))
    assert np.arccos(z).std() == pytest.approx(width[0].item(), rel=0.01)
    assert np.arctan2(y, x).std() == pytest.approx(width[1].item(), rel=0.01)
    apart = np.stack([x - np.sin(tilt), y, z - np.cos(tilt)])
    sigma = component_uncertainty(torch.tensor([kappa])).item()
    assert (apart**2).sum(axis=0).mean() == pytest.approx(3 * sigma**2, rel=0.01)


@pytest.mark.parametrize("kappa", [1e-4, 0.03, 1.0, 7.0, 300.0, 1e5])
def test_mean_angle(kappa: float) -> None:
    def density(psi: mpmath.mpf) -> mpmath.mpf:
        return psi * mpmath.exp(kappa * (mpmath.cos(psi) - 1)) * mpmath.sin(psi)

    width = min(math.pi, 20 / math.sqrt(kappa))
    norm = kappa / (1 - mpmath.exp(-2 * mpmath.mpf(kappa)))
    expected = float(norm * mpmath.quad(density, np.linspace(0, width, 9).tolist()))
    found = mean_angle(torch.tensor([kappa], dtype=torch.float64)).item()
    assert found == pytest.approx(expected, rel=1e-8)


def test_transformed_and_physical_values_belong_together() -> None:
    spec = spec_of()
    network, events, known = heads_and_events(spec)
    prediction = network(events, known)
    scale = torch.tensor(spec.transformation.label_std + 1e-4)
    labels = prediction.labels.clone()
    labels[:, 1] = labels[:, 1].log1p()
    expected = (labels - torch.tensor(spec.transformation.label_mean)) / scale
    torch.testing.assert_close(prediction.labels_trafo, expected)
    torch.testing.assert_close(prediction.uncertainty, prediction.uncertainty_trafo * scale)
    assert (prediction.uncertainty > 0).all()


def test_classes_are_probabilities() -> None:
    network, events, known = heads_and_events(spec_of())
    prediction = network(events, known)
    p = prediction.logits[:, TRACK].sigmoid()
    torch.testing.assert_close(prediction.labels[:, TRACK], p)
    torch.testing.assert_close(prediction.uncertainty[:, TRACK], (p * (1 - p)).sqrt())
    others = [i for i in range(8) if i != TRACK]
    assert (prediction.logits[:, others] == 0).all()


def test_the_direction_of_a_rotated_event_is_rotated_back() -> None:
    network, events, known = heads_and_events(spec_of())
    angle = torch.linspace(0, 6, 50, dtype=torch.float64)
    plain, rotated = network(events, known), network(events, known, angle)
    back = rotate_about_z(rotated.labels[:, VECTOR], angle)
    torch.testing.assert_close(back, plain.labels[:, VECTOR])
    torch.testing.assert_close(rotated.labels[:, ZENITH], plain.labels[:, ZENITH])
    difference = plain.labels[:, AZIMUTH] - rotated.labels[:, AZIMUTH]
    torch.testing.assert_close(difference.cos(), angle.cos())
    torch.testing.assert_close(difference.sin(), angle.sin())
    torch.testing.assert_close(rotated.uncertainty, plain.uncertainty)
    assert torch.equal(rotated.labels[:, 1], plain.labels[:, 1])


def test_a_direction_of_some_labels_alone() -> None:
    names = ("zenith", "energy", "length")
    network, events, known = heads_and_events(spec_of(names))
    zenith = network(events, known).labels[:, 0]
    assert (zenith >= 0).all() and (zenith <= math.pi).all()


def test_heads_that_a_user_chooses() -> None:
    network, events, known = heads_and_events(spec_of(), direction="gaussian", p_track="gaussian")
    assert network.vector is None
    prediction = network(events, known)
    torch.testing.assert_close(prediction.labels_trafo, network.labels(events))
    assert (prediction.logits == 0).all()


def test_without_special_labels_all_are_gaussian() -> None:
    network, events, known = heads_and_events(spec_of(keys=LabelKeys(pid=("p_track",))))
    prediction = network(events, known)
    others = [i for i in range(8) if i != TRACK]
    expected = network.labels(events)[:, others]
    torch.testing.assert_close(prediction.labels_trafo[:, others], expected)


def test_gradient_of_the_direction_does_not_vanish_for_an_unknown_direction() -> None:
    """-κ cos ψ of a vector of length 1e-4, by the vector: minus the true direction."""
    network, _, _ = heads_and_events(spec_of())
    events = torch.zeros(1, 12, dtype=torch.float64)
    assert network.vector is not None
    with torch.no_grad():
        network.vector.bias.copy_(torch.tensor([6e-3, 0, 8e-3]))
    prediction = network(events, torch.tensor([True]))
    kappa = concentration(prediction.uncertainty[:, VECTOR])
    true = torch.tensor([0.6, 0.8, 0.0], dtype=torch.float64)
    loss = -(kappa * (prediction.labels[:, VECTOR] * true).sum(dim=1)).sum()
    (gradient,) = torch.autograd.grad(loss, network.vector.bias)
    torch.testing.assert_close(gradient, -true)


def test_wrong_settings_are_errors() -> None:
    with pytest.raises(ModelError, match=r"logarithm of 'zenith', which belongs to the direction"):
        DensityHeads(spec_of(log="zenith"), 4, {})
    with pytest.raises(ModelError, match=r"\['p_track'\] begin with 'p_'"):
        DensityHeads(spec_of(keys=LabelKeys()), 4, {})
