"""One likelihood for all labels, against each label's density written out."""

import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_inputs import ANGLES, CLASSES, DIRECTION, KEYS, LABELS, Events, evaluate, random_events

from dnn_reco.errors import ConfigError
from dnn_reco.modules.loss.density_loss import negative_log_likelihood
from dnn_reco.modules.loss.special_labels import check_special_labels
from dnn_reco.nn.interface import LabelKeys

GAUSSIAN = [i for i in range(len(LABELS)) if i not in (*ANGLES, *DIRECTION, *CLASSES)]


def minus_two_log_densities(events: Events) -> list[list[float]]:
    """-2 ln p of each event and label, that of the direction at its first component."""
    rows = []
    for true, predicted, sigma in zip(
        events.true.tolist(), events.predicted.tolist(), events.sigma.tolist(), strict=True
    ):
        row = [0.0] * len(LABELS)
        for i in GAUSSIAN:
            density = math.exp(-(((true[i] - predicted[i]) / sigma[i]) ** 2) / 2) / sigma[i]
            row[i] = -2 * math.log(density)
        for i in CLASSES:
            row[i] = -2 * math.log(predicted[i] if true[i] == 1 else 1 - predicted[i])
        kappa = 2 / sum(sigma[i] ** 2 for i in DIRECTION)
        cosine = sum(true[i] * predicted[i] for i in DIRECTION)
        norm = kappa / (4 * math.pi * math.sinh(kappa))
        row[DIRECTION[0]] = -2 * math.log(norm * math.exp(kappa * cosine))
        rows.append(row)
    return rows


def test_each_label_has_the_density_of_its_kind() -> None:
    events = random_events(40)
    terms = torch.tensor(minus_two_log_densities(events), dtype=torch.float64)
    found = evaluate(negative_log_likelihood, events).loss
    expected = terms.mean(dim=0)
    expected[DIRECTION] = expected[DIRECTION[0]] / 3
    assert (expected[ANGLES] == 0).all()
    torch.testing.assert_close(found, expected)
    weights = torch.rand(40, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = evaluate(negative_log_likelihood, events, weights).loss
    expected = (weights * terms).sum(dim=0) / weights.sum()
    expected[DIRECTION] = expected[DIRECTION[0]] / 3
    torch.testing.assert_close(found, expected)


def test_without_a_direction_vector_angles_are_ordinary_labels() -> None:
    events = random_events(20)
    keys = LabelKeys(zenith="zenith", azimuth="azimuth", pid=KEYS.pid)
    found = evaluate(negative_log_likelihood, events, keys=keys).loss
    sigma, difference = events.sigma[:, 1], (events.predicted - events.true)[:, 1]
    expected = (2 * sigma.log() + (difference / sigma) ** 2).mean()
    torch.testing.assert_close(found[1], expected)
    assert (found[DIRECTION] != 0).all()


def exact_slopes(kappa: float, cosine: float) -> tuple[float, float]:
    """Derivatives of -2 ln p by κ and by cos ψ, with 50 digits."""
    with mpmath.workdps(50):
        k = mpmath.mpf(kappa)
        return float(-2 * (1 / k - mpmath.coth(k) + mpmath.mpf(cosine))), float(-2 * k)


@given(exponent=st.floats(-6, 6), psi=st.floats(1e-3, 3.1))
def test_gradient_over_all_concentrations(exponent: float, psi: float) -> None:
    kappa = 10**exponent
    events = random_events(1)
    sigma = math.sqrt(2 / (3 * kappa))
    events.sigma[:, DIRECTION] = sigma
    true = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    predicted = torch.tensor([[math.cos(psi), math.sin(psi), 0.0]], dtype=torch.float64)
    events.true[:, DIRECTION], events.predicted[:, DIRECTION] = true, predicted
    result = evaluate(negative_log_likelihood, events)
    by_kappa, by_cosine = exact_slopes(kappa, math.cos(psi))
    # κ = 2 / Σσ²: dκ/dσx = -κ² σx
    expected = torch.full((3,), -by_kappa * kappa**2 * sigma, dtype=torch.float64)
    cancelled = 2e-15 * kappa**2 * sigma * max(1, 1 / kappa)
    torch.testing.assert_close(result.sigma[0, DIRECTION], expected, rtol=1e-9, atol=cancelled)
    # cos ψ of a normalised vector: only perpendicular components contribute
    across = true[0] - math.cos(psi) * predicted[0]
    torch.testing.assert_close(
        result.predicted[0, DIRECTION], by_cosine * across, rtol=1e-9, atol=1e-9 * kappa
    )


def check(*trained: str, keys: LabelKeys = KEYS) -> None:
    check_special_labels(negative_log_likelihood, "the loss", keys, LABELS, trained)


def test_the_direction_is_trained_completely_or_not_at_all() -> None:
    check("energy")
    check("energy", "dir_x", "dir_y", "dir_z")
    check("dir_x", "dir_y", "dir_z", "zenith", "azimuth")
    check("zenith", keys=LabelKeys(zenith="zenith", dir_x="dir_x", dir_y="dir_y"))
    with pytest.raises(ConfigError, match=r"labels \['dir_z'\] have weight 0, but dir_x, dir_y"):
        check("dir_x", "dir_y")
    with pytest.raises(ConfigError, match=r"\['dir_x', 'dir_y', 'dir_z'\] .* zenith, azimuth with"):
        check("energy", "zenith")
