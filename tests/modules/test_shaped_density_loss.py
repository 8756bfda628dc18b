"""The joint likelihood of a network that predicts shapes of densities."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from made_up_spec import made_up_spec
from scipy import stats
from torch import Tensor

from dnn_reco.inference.sky_densities import predicted_density
from dnn_reco.modules.loss.density_loss import negative_log_likelihood
from dnn_reco.modules.loss.interface import LossContext, Truth
from dnn_reco.modules.loss.untrained import mask_untrained
from dnn_reco.nn.density_heads import DensityHeads
from dnn_reco.nn.density_layout import PredictedShapes
from dnn_reco.nn.interface import LabelKeys, Prediction
from dnn_reco.nn.label_transform import LabelTransform

LABELS = ("energy", "dir_x", "dir_y", "dir_z", "zenith", "azimuth", "p_track", "length", "time")
KEYS = LabelKeys("zenith", "azimuth", "dir_x", "dir_y", "dir_z", ("p_track",))
STD = [2.0, 0.6, 0.6, 0.6, 0.7, 1.8, 0.5, 300.0, 50.0]
SPEC = made_up_spec(LABELS, KEYS, [5.0, 0, 0, 0, 1.5, 3, 0.5, 0, 0], STD)
HEADS: dict[str, Any] = {"direction": "mixture", "energy": "student", "length": "mixture"}
VECTOR, ANGLES = [1, 2, 3], [4, 5]


class Case:
    """Predictions of heads with random weights, and a truth, for 40 events."""

    def __init__(self, heads: dict[str, Any] | None = None) -> None:
        generator = torch.Generator().manual_seed(4)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        self.events = normal(40, 12)
        transform = LabelTransform(SPEC.transformation)
        labels = transform.inverse(normal(40, 9))
        labels[:, VECTOR] = torch.nn.functional.normalize(labels[:, VECTOR], dim=1)
        labels[:, 6] = (labels[:, 6] > 0.5).double()
        self.truth = Truth(labels, transform(labels))
        self.heads = DensityHeads(SPEC, 12, HEADS if heads is None else heads).double()
        with torch.no_grad():
            for parameter in self.heads.parameters():
                parameter.copy_(0.4 * normal(*parameter.shape))

    def predict(self) -> Prediction:
        prediction: Prediction = self.heads(self.events, torch.ones(40, dtype=torch.bool))
        return prediction

    def context(self, prediction: Prediction, weights: Tensor | None = None) -> LossContext:
        residual = prediction.labels_trafo - self.truth.labels_trafo
        scale = torch.ones(9, dtype=torch.float64)
        return LossContext(LABELS, KEYS, residual, weights, scale, layout=tuple(self.heads.layout))

    def loss(self, weights: Tensor | None = None) -> Tensor:
        prediction = self.predict()
        return negative_log_likelihood(prediction, self.truth, self.context(prediction, weights))


def label_terms(case: Case, label: str) -> np.ndarray:
    """-2 ln p [B] of a transformed label, without ln 2π, by SciPy."""
    prediction, column = case.predict(), LABELS.index(label)
    shapes = PredictedShapes(tuple(case.heads.layout), prediction.shapes.detach().numpy())
    parts = shapes.of(label)
    assert parts is not None
    middle = prediction.labels_trafo.detach().numpy()[:, column, None]
    sigma = prediction.uncertainty_trafo.detach().numpy()[:, column, None]
    true = case.truth.labels_trafo.numpy()[:, column, None]
    log_weight, offset, scale, *freedom = np.moveaxis(parts, 2, 0)
    where = {"loc": middle + offset * sigma, "scale": scale * sigma}
    of = stats.t(freedom[0], **where) if freedom else stats.norm(**where)
    density = (np.exp(log_weight) * of.pdf(true)).sum(axis=1)
    return np.asarray(-2 * np.log(density) - math.log(2 * math.pi))


def direction_terms(case: Case) -> np.ndarray:
    """-2 ln p [B] of the direction, as it is defined."""
    shapes = PredictedShapes(tuple(case.heads.layout), case.predict().shapes.detach().numpy())
    parts = shapes.of("direction")
    assert parts is not None
    total = np.zeros(40)
    for event in range(40):
        for log_weight, *natural in parts[event]:
            kappa = np.linalg.norm(natural)
            product = np.array(natural) @ case.truth.labels[event, VECTOR].numpy()
            norm = kappa / (4 * math.pi * math.sinh(kappa))
            total[event] += math.exp(log_weight) * norm * math.exp(product)
    return -2 * np.log(total)


def test_each_density_is_that_of_its_shape() -> None:
    case = Case()
    weights = torch.rand(40, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for given in (None, weights):
        of_events = None if given is None else given[:, 0].numpy()
        found = case.loss(given).detach().numpy()
        for label in ("energy", "length"):
            expected = np.average(label_terms(case, label), weights=of_events)
            assert found[LABELS.index(label)] == pytest.approx(expected, rel=1e-9)
        expected = np.average(direction_terms(case), weights=of_events)
        np.testing.assert_allclose(found[VECTOR], expected / 3, rtol=1e-9)
        assert (found[ANGLES] == 0).all()


def test_other_labels_are_as_before() -> None:
    """Labels without a shape have the losses of the same heads without any shapes."""
    shaped, plain = Case(), Case({})
    plain.heads.load_state_dict(shaped.heads.state_dict(), strict=False)
    torch.testing.assert_close(shaped.loss()[[6, 8]], plain.loss()[[6, 8]])


def test_one_component_is_the_default_density() -> None:
    one = {"kind": "mixture", "components": 1}
    shaped, plain = Case({"direction": one, "length": one}), Case({})
    state = shaped.heads.state_dict()
    state["vector.weight"] = state["direction_components.vectors.weight"]
    state["vector.bias"] = state["direction_components.vectors.bias"]
    state["sharpness.weight"] = state["direction_components.sharpness.weight"]
    state["sharpness.bias"] = state["direction_components.sharpness.bias"]
    plain.heads.load_state_dict(state, strict=False)
    torch.testing.assert_close(shaped.loss(), plain.loss(), rtol=1e-7, atol=1e-9)


def test_the_gradient_is_that_of_finite_differences() -> None:
    case = Case()
    case.loss().sum().backward()
    generator = torch.Generator().manual_seed(8)
    for name, parameter in case.heads.named_parameters():
        assert parameter.grad is not None, name
        step = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        values = []
        for sign in (-1, 1):
            with torch.no_grad():
                parameter += sign * 1e-6 * step
                values.append(float(case.loss().sum()))
                parameter -= sign * 1e-6 * step
        expected = (values[1] - values[0]) / 2e-6
        assert float((parameter.grad * step).sum()) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_losses_of_untrained_labels_are_finite_without_gradient() -> None:
    case = Case()
    prediction = case.predict()
    trained = torch.tensor([name != "length" for name in LABELS])
    masked, truth = mask_untrained(prediction, case.truth, trained)
    residual = masked.labels_trafo - truth.labels_trafo
    context = replace(case.context(prediction), residual_trafo=residual)
    loss = negative_log_likelihood(masked, truth, context)
    assert torch.isfinite(loss).all()
    (gradient,) = torch.autograd.grad((loss * trained).sum(), [prediction.shapes])
    assert (gradient[:, -12:] == 0).all()
    assert (gradient[:, :20] != 0).all(dim=0).sum() >= 17


def test_gradients_are_finite_far_from_the_truth() -> None:
    for factor in (1e-3, 1.0, 30.0):
        case = Case()
        case.heads.float()
        case.events = (factor * case.events).float()
        case.truth = Truth(case.truth.labels.float(), case.truth.labels_trafo.float() * factor)
        prediction = case.predict()
        loss = negative_log_likelihood(prediction, case.truth, case.context(prediction))
        assert torch.isfinite(loss).all()
        loss.sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in case.heads.parameters())


def test_a_flow_has_the_density_of_the_sky_map() -> None:
    case = Case({"direction": "flow"})
    shapes = case.predict().shapes.detach().numpy()
    true = case.truth.labels[:, VECTOR].numpy()
    expected = [
        predicted_density(row[None], "flow").log_prob_dir(direction)
        for row, direction in zip(shapes, true, strict=True)
    ]
    found = case.loss().detach().numpy()
    np.testing.assert_allclose(found[VECTOR], -2 * np.mean(expected) / 3)
