"""Huber, Student and cross entropies against PyTorch's own and slow versions."""

import math

import pytest
import torch
from loss_inputs import CLASSES, LABELS, evaluate, random_events
from torch.distributions import StudentT

from dnn_reco.modules.loss.classification_loss import focal_cross_entropy
from dnn_reco.modules.loss.default_loss import (
    gaussian_likelihood,
    mse,
    mse_and_cross_entropy,
    mse_and_weighted_cross_entropy,
)
from dnn_reco.modules.loss.robust_loss import huber, student


def residual(events) -> torch.Tensor:
    """Predicted minus true labels, azimuths wrapped to -π … π."""
    difference = events.predicted - events.true
    difference[:, 2] -= 2 * math.pi * torch.round(difference[:, 2] / (2 * math.pi))
    return difference


@pytest.mark.parametrize("tukey_scale", [0.1, 0.67449])
def test_huber(tukey_scale):
    events = random_events(100)
    d = residual(events)
    delta = 1.345 * 1.4826 * tukey_scale
    assert (d.abs() > delta).any() and (d.abs() < delta).any()
    zero = torch.zeros_like(d)
    # PyTorch's is half of ours
    expected = 2 * torch.nn.functional.huber_loss(d, zero, reduction="none", delta=delta)
    error = events.sigma - d.abs()
    expected += 2 * torch.nn.functional.huber_loss(error, zero, reduction="none", delta=delta)
    result = evaluate(huber, events, tukey_scale=tukey_scale)
    torch.testing.assert_close(result.loss, expected.mean(dim=0))
    # the influence of each event on the prediction is bounded, and its gradient with σ separate
    assert result.predicted.abs().max() <= 2 * delta / 100 * (1 + 1e-12)


def test_huber_without_outliers_is_mse():
    events = random_events(20)
    events.predicted = events.true + 0.1
    events.sigma = torch.full_like(events.sigma, 0.3)
    torch.testing.assert_close(evaluate(huber, events).loss, evaluate(mse, events).loss)


def test_student_is_the_t_distribution_of_standard_deviation_sigma():
    events = random_events(100)
    d = residual(events)
    distribution = StudentT(4.0, 0.0, events.sigma / math.sqrt(2))
    torch.testing.assert_close(distribution.stddev, events.sigma)
    expected = -2 * distribution.log_prob(d).mean(dim=0)
    constants = expected - evaluate(student, events).loss
    torch.testing.assert_close(constants, constants[:1].expand_as(constants))


def test_student_agrees_with_the_gaussian_likelihood_near_the_peak_but_not_on_outliers():
    events = random_events(1)
    gradients = []
    for distance in (0.01, 30.0):
        events.predicted = events.true + distance * events.sigma
        gradients.append(
            [evaluate(loss, events).predicted[0, 0] for loss in (student, gaussian_likelihood)]
        )
    (near_student, near_gauss), (far_student, far_gauss) = gradients
    assert near_student / near_gauss == pytest.approx(2.5, rel=1e-3)  # 5/2: a narrower peak
    assert far_student / far_gauss < 0.01


def test_cross_entropy_of_classes_and_squares_of_others():
    events = random_events(50)
    probability, y = torch.sigmoid(events.logits), events.true
    entropy = -(y * probability.log() + (1 - y) * (1 - probability).log())
    expected = residual(events).square().mean(dim=0)
    expected[CLASSES] = entropy.mean(dim=0)[CLASSES]
    result = evaluate(mse_and_cross_entropy, events)
    torch.testing.assert_close(result.loss, expected)
    torch.testing.assert_close(result.logits[:, CLASSES], ((probability - y) / 50)[:, CLASSES])
    assert (result.predicted[:, CLASSES] == 0).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_weighted_cross_entropy_counts_the_signal_below_each_event(weighted):
    events = random_events(30)
    weights = torch.linspace(0.2, 3, 30, dtype=torch.float64) if weighted else torch.ones(30)
    loss = evaluate(
        mse_and_weighted_cross_entropy, events, weights[:, None].double() if weighted else None
    ).loss
    for label in CLASSES:
        z, y = events.logits[:, label].tolist(), events.true[:, label].tolist()
        numerator = denominator = 0.0
        for i in range(30):
            below = sum(float(weights[j]) for j in range(30) if y[j] > 0.5 and z[j] <= z[i])
            weight = float(weights[i]) * below
            numerator += weight * (math.log1p(math.exp(z[i])) - y[i] * z[i])
            denominator += weight
        assert loss[label].item() == pytest.approx(numerator / (denominator + 1e-6), rel=1e-9)


def test_focal_cross_entropy_of_hard_labels():
    events = random_events(50)
    probability = torch.sigmoid(events.logits)
    of_truth = torch.where(events.true > 0.5, probability, 1 - probability)
    terms = -((1 - of_truth) ** 2) * of_truth.log()
    expected = torch.zeros(len(LABELS), dtype=torch.float64)
    expected[CLASSES] = terms.mean(dim=0)[CLASSES]
    torch.testing.assert_close(evaluate(focal_cross_entropy, events).loss, expected)


def test_focal_cross_entropy_of_a_smoothed_label_is_smallest_at_the_label():
    events = random_events(1)
    events.true[:, CLASSES] = 0.9
    slopes = []
    for probability in (0.85, 0.95):
        events.logits[:, CLASSES] = math.log(probability / (1 - probability))
        slopes.append(evaluate(focal_cross_entropy, events).logits[0, CLASSES[0]].item())
    assert slopes[0] < 0 < slopes[1]
