"""An ensemble predicts the moments of the mixture of its networks' densities."""

import math
from itertools import permutations

import mpmath
import numpy as np
import pytest
import torch
from made_up_spec import made_up_spec
from torch import Tensor, nn

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.errors import ModelError
from dnn_reco.modules.models.dom_transformer import DomTransformer
from dnn_reco.nn.direction import (
    circular_mean,
    component_uncertainty,
    fisher_concentration,
    mean_cosine,
)
from dnn_reco.nn.ensemble import Ensemble, mean_direction
from dnn_reco.nn.interface import LabelKeys, Prediction
from dnn_reco.nn.label_transform import LabelTransform

LABELS = ("energy", "azimuth", "zenith", "dir_x", "dir_y", "dir_z", "p_track", "length")
KEYS = LabelKeys("zenith", "azimuth", "dir_x", "dir_y", "dir_z", ("p_track",))
SPEC = made_up_spec(
    LABELS, KEYS, [3.0, 3, 1.5, 0, 0, 0, 0.5, 10], [2.0, 2, 0.7, 0.6, 0.6, 0.6, 0.5, 5]
)
ENERGY, AZIMUTH, ZENITH, TRACK, LENGTH = 0, 1, 2, 6, 7
VECTOR = [3, 4, 5]
ANGLES = ("zenith", "azimuth")


class Constant(nn.Module):
    """A network that predicts the same for each event."""

    def __init__(self, labels: Tensor, sigmas: Tensor) -> None:
        super().__init__()
        self.labels, self.sigmas = labels, sigmas

    def forward(self, hits: HitBatch) -> Prediction:
        transform = LabelTransform(SPEC.transformation)
        trafo = transform(self.labels), transform.scale_uncertainty(self.sigmas)
        return Prediction(*trafo, self.labels, self.sigmas, torch.zeros_like(self.labels))


def some_hits(num_events: int = 4) -> HitBatch:
    rng = np.random.default_rng(2)
    event = np.repeat(np.arange(num_events), 20)
    dom = np.concatenate([rng.choice(5160, 20, replace=False) for _ in range(num_events)])
    features = rng.exponential(1, (len(event), 9)).astype(np.float32)
    return HitBatch(num_events, *map(torch.from_numpy, (event, dom, features)))


def predicted(zenith: float, azimuth: float, **others: float) -> Tensor:
    vector = [-math.sin(zenith) * math.cos(azimuth), -math.sin(zenith) * math.sin(azimuth)]
    values = {"energy": 100.0, "track": 0.5, "length": 7.0, **others}
    return torch.tensor(
        [[values["energy"], azimuth, zenith, *vector, -math.cos(zenith), values["track"],
          values["length"]]],
        dtype=torch.float64,
    )  # fmt: skip


def sigmas(kappa: float, energy: float = 0.3, length: float = 2.0) -> Tensor:
    one = float(component_uncertainty(torch.tensor(kappa, dtype=torch.float64)))
    return torch.tensor(
        [[energy, 1 / kappa**0.5, 1 / kappa**0.5, one, one, one, 0.5, length]], dtype=torch.float64
    )


def test_an_ensemble_of_one_network_predicts_the_same() -> None:
    torch.manual_seed(1)
    network = DomTransformer(SPEC, dtype="float64").eval()
    hits = some_hits()
    alone, ensemble = network(hits), Ensemble([network], SPEC)(hits)
    for name in ("labels", "uncertainty", "labels_trafo", "uncertainty_trafo", "logits"):
        torch.testing.assert_close(
            getattr(ensemble, name), getattr(alone, name), rtol=1e-6, atol=1e-9, msg=name
        )


def test_normal_labels_have_the_moments_of_the_mixture() -> None:
    """Compared with random numbers of the mixture."""
    energies, lengths = [(50.0, 0.2), (120.0, 0.5), (90.0, 0.1)], [(3.0, 1.0), (8.0, 0.5), (5.0, 3)]
    members = [
        Constant(predicted(1.0, 2.0, energy=e, length=x), sigmas(100.0, s, t))
        for (e, s), (x, t) in zip(energies, lengths, strict=True)
    ]
    prediction = Ensemble(members, SPEC)(some_hits(1))
    rng = np.random.default_rng(3)
    drawn = np.concatenate([rng.normal(math.log1p(e), s, 400_000) for e, s in energies])
    assert math.log1p(prediction.labels[0, ENERGY]) == pytest.approx(drawn.mean(), abs=2e-3)
    assert prediction.uncertainty[0, ENERGY] == pytest.approx(drawn.std(), abs=2e-3)
    drawn = np.concatenate([rng.normal(x, t, 400_000) for x, t in lengths])
    assert prediction.labels[0, LENGTH] == pytest.approx(drawn.mean(), abs=0.02)
    assert prediction.uncertainty[0, LENGTH] == pytest.approx(drawn.std(), abs=0.02)


def draw_fisher(rng: np.random.Generator, middle: np.ndarray, kappa: float, n: int) -> np.ndarray:
    """Directions of a von Mises-Fisher distribution (inversion of its cosine)."""
    cosine = 1 + np.log1p(rng.random(n) * np.expm1(-2 * kappa)) / kappa
    phi, sine = rng.uniform(0, 2 * np.pi, n), np.sqrt(1 - cosine**2)
    first = np.cross(middle, [0.3, -0.5, 0.8])
    first /= np.linalg.norm(first)
    second = np.cross(middle, first)
    parts = cosine, sine * np.cos(phi), sine * np.sin(phi)
    return sum(p[:, None] * v for p, v in zip(parts, (middle, first, second), strict=True))


def test_directions_have_the_mean_vector_of_the_mixture() -> None:
    rng = np.random.default_rng(4)
    densities = [(0.6, 1.0, 4.0), (1.0, 1.4, 20.0), (0.8, 0.5, 9.0)]
    members = [Constant(predicted(z, a), sigmas(k)) for z, a, k in densities]
    prediction = Ensemble(members, SPEC)(some_hits(1))
    drawn = np.concatenate(
        [draw_fisher(rng, predicted(z, a)[0, VECTOR].numpy(), k, 400_000) for z, a, k in densities]
    ).mean(axis=0)
    length = np.linalg.norm(drawn)
    np.testing.assert_allclose(prediction.labels[0, VECTOR], drawn / length, atol=2e-3)
    kappa = 2 / float(prediction.uncertainty[0, VECTOR].square().sum())
    assert float(mpmath.coth(kappa) - 1 / mpmath.mpf(kappa)) == pytest.approx(length, abs=1e-3)
    zenith, azimuth = prediction.labels[0, ZENITH], prediction.labels[0, AZIMUTH]
    vector = predicted(float(zenith), float(azimuth))[0, VECTOR]
    torch.testing.assert_close(vector, prediction.labels[0, VECTOR])


def test_azimuth_is_averaged_across_zero() -> None:
    members = [Constant(predicted(1.2, a), sigmas(1e4)) for a in (0.1, 2 * math.pi - 0.3)]
    prediction = Ensemble(members, SPEC)(some_hits(1))
    assert prediction.labels[0, AZIMUTH] == pytest.approx(2 * math.pi - 0.1, abs=1e-6)
    assert prediction.uncertainty[0, AZIMUTH] == pytest.approx(math.hypot(0.2, 0.01), rel=1e-3)


def test_without_a_vector_azimuth_is_averaged_across_zero_as_well() -> None:
    spec = made_up_spec(LABELS, LabelKeys(azimuth="azimuth"), [0.0] * 8, [1.0] * 8)
    members = [Constant(predicted(1.2, a), sigmas(1e4)) for a in (0.1, 2 * math.pi - 0.3)]
    prediction = Ensemble(members, spec)(some_hits(1))
    assert prediction.labels[0, AZIMUTH] == pytest.approx(2 * math.pi - 0.1)


@pytest.mark.parametrize("also", [(), ("dir_x", "dir_y")])
def test_angles_follow_from_the_vector_only_if_all_of_it_is_trained(also: tuple[str, ...]) -> None:
    trained = ("energy", "zenith", "azimuth", *also)
    members = []
    for zenith, azimuth in ((1.0, 2.0), (1.4, 2.6)):
        labels = predicted(zenith, azimuth)
        labels[0, VECTOR] = torch.tensor([0.1, -0.7, 0.3], dtype=torch.float64)
        members.append(Constant(labels, sigmas(1e4)))
    prediction = Ensemble(members, SPEC, trained)(some_hits(1))
    assert prediction.labels[0, ZENITH] == pytest.approx(1.2)
    assert prediction.labels[0, AZIMUTH] == pytest.approx(2.3)
    assert prediction.uncertainty[0, ZENITH] == pytest.approx(math.hypot(0.2, 0.01))
    assert prediction.uncertainty[0, AZIMUTH] == pytest.approx(math.hypot(0.3, 0.01))


def test_probabilities_are_averaged() -> None:
    members = [Constant(predicted(1.0, 1.0, track=p), sigmas(10.0)) for p in (0.2, 0.9)]
    prediction = Ensemble(members, SPEC)(some_hits(1))
    assert prediction.labels[0, TRACK] == pytest.approx(0.55)
    assert torch.sigmoid(prediction.logits[0, TRACK]) == pytest.approx(0.55)
    assert prediction.uncertainty[0, TRACK] == pytest.approx(math.sqrt(0.55 * 0.45))


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_certain_probabilities_have_finite_logits(probability: float) -> None:
    members = [Constant(predicted(1.0, 1.0, track=probability), sigmas(10.0))] * 2
    logit = Ensemble(members, SPEC)(some_hits(1)).logits[0, TRACK]
    assert abs(logit) == pytest.approx(math.log(1e6), rel=1e-3)


@pytest.mark.parametrize(
    ("degrees", "mean"), [((0, 170, 200), 730 / 3), ((350, 20, 40), 50 / 3), ((5, 355, 345), 355)]
)
def test_the_mean_azimuth_does_not_depend_on_the_order(
    degrees: tuple[float, ...], mean: float
) -> None:
    for angles in permutations(np.radians(degrees)):
        members = [Constant(predicted(1.2, angle), sigmas(1e4)) for angle in angles]
        prediction = Ensemble(members, SPEC, ANGLES)(some_hits(1))
        assert math.degrees(prediction.labels[0, AZIMUTH]) == pytest.approx(mean)
        distances = (np.degrees(angles) - mean + 180) % 360 - 180
        sigma = math.hypot(np.radians(distances).std(), 0.01)
        assert prediction.uncertainty[0, AZIMUTH] == pytest.approx(sigma)


@pytest.mark.parametrize("degrees", [(0, 180), (30, 210), (0, 90, 180, 270), (350, 110, 230)])
def test_azimuths_that_cancel_have_a_large_uncertainty(degrees: tuple[float, ...]) -> None:
    members = [Constant(predicted(1.2, math.radians(each)), sigmas(1e4)) for each in degrees]
    prediction = Ensemble(members, SPEC, ANGLES)(some_hits(1))
    assert 0 <= prediction.labels[0, AZIMUTH] <= 2 * math.pi
    assert 1.5 < prediction.uncertainty[0, AZIMUTH] < 2


def test_the_mean_azimuth_has_finite_derivatives() -> None:
    angles = torch.tensor([[0.1], [6.2], [0.1 + math.pi]], dtype=torch.float64, requires_grad=True)
    for some in (angles[:2], angles[::2]):
        (gradient,) = torch.autograd.grad(circular_mean(some).sum(), angles)
        assert gradient.isfinite().all()


def test_opposite_directions_have_large_uncertainties() -> None:
    """The uncertainty is large, and all is finite."""
    members = [
        Constant(predicted(z, a), sigmas(100.0)) for z, a in ((0.5, 1.0), (math.pi - 0.5, 4.14))
    ]
    prediction = Ensemble(members, SPEC)(some_hits(1))
    assert prediction.uncertainty[0, VECTOR].min() > 5
    assert prediction.labels.isfinite().all()


@pytest.mark.parametrize(
    "kappa", [1e-3, 0.01, 0.09, 0.0902, 0.0999, 0.1001, 1.0, 5.0, 30.0, 1e3, 1e5, 0.9e7]
)
def test_mean_cosine_and_its_inverse(kappa: float) -> None:
    given = torch.tensor([kappa], dtype=torch.float64)
    with mpmath.workdps(40):
        expected = float(mpmath.coth(kappa) - 1 / mpmath.mpf(kappa))
    assert float(mean_cosine(given)) == pytest.approx(expected, rel=1e-12)
    assert float(fisher_concentration(mean_cosine(given))) == pytest.approx(
        kappa, rel=3e-9, abs=1e-10
    )


def test_sharp_predictions_add_their_squared_distances() -> None:
    """For small angles 1/κ is the mean of 1/κ and of half the squared distance."""
    vectors = torch.stack([predicted(1.0, a)[:, VECTOR] for a in (1.0, 1.002)])
    kappas = (4e4, 1e5)
    of_components = torch.stack([sigmas(k)[:, VECTOR] for k in kappas])
    _, kappa = mean_direction(vectors, of_components)
    half_distance = math.sin(1.0) * 0.001
    expected = (1 / kappas[0] + 1 / kappas[1]) / 2 + half_distance**2 / 2
    assert 1 / float(kappa) == pytest.approx(expected, rel=1e-3)


def test_a_short_vector_has_little_weight() -> None:
    """A network without normalisation predicts a vector near 0 for an unknown direction."""
    certain, unsure = predicted(1.0, 2.0)[:, VECTOR], 0.01 * predicted(2.5, 5.0)[:, VECTOR]
    sigma = torch.full((1, 3), 0.57, dtype=torch.float64)
    vectors = torch.stack([certain, unsure])
    found, concentration = mean_direction(vectors, torch.stack([sigmas(1000.0)[:, VECTOR], sigma]))
    expected = (certain * (1 - 1 / 1000) + unsure) / 2
    torch.testing.assert_close(found, expected / expected.norm(), rtol=0, atol=1e-9)
    kappa = float(concentration)
    assert 1 / math.tanh(kappa) - 1 / kappa == pytest.approx(float(expected.norm()))


def test_needs_a_network() -> None:
    with pytest.raises(ModelError, match="at least one network"):
        Ensemble([], SPEC)
