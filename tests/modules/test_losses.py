"""Properties of all losses: golden numbers of the reference, event weights, untrained labels."""

import math
from dataclasses import replace
from pathlib import Path

import network_golden
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_inputs import KEYS, LABELS, all_losses, evaluate, random_events

from dnn_reco.modules.loss import default_loss
from dnn_reco.modules.loss.interface import LossContext, Truth
from dnn_reco.modules.loss.untrained import mask_untrained
from dnn_reco.nn.interface import Prediction
from dnn_reco.nn.label_transform import LabelTransform, residual_trafo

LOSSES = all_losses()
OF_THE_REFERENCE = [
    "default_loss.abs",
    "default_loss.gaussian_likelihood",
    "default_loss.mse",
    "default_loss.mse_and_cross_entropy",
    "default_loss.mse_and_weighted_cross_entropy",
    "default_loss.opening_angle",
    "default_loss.opening_angle_raleigh",
    "default_loss.pull_distribution_scale",
    "default_loss.tukey",
    "default_loss.weighted_mse",
    "track_loss.track_pos_gaussian",
    "track_loss.track_pos_mse",
]
WITHOUT_WEIGHTED_GOLDEN = {  # there these fail on a shape
    *("default_loss.opening_angle", "default_loss.opening_angle_raleigh"),
    *("track_loss.track_pos_gaussian", "track_loss.track_pos_mse"),
}
# median absolute deviation of a normal distribution, where the running median starts
INITIAL_TUKEY_SCALE = 0.67449


@pytest.fixture(scope="module")
def golden(golden_network):
    return np.load(golden_network / "losses_base_strong.npz")


def golden_inputs(golden_network, event_weights):
    """Prediction (with gradients), truth and context of the golden losses.

    As in the golden gradients, labels in physical units come from the transformed ones, and logits
    stand by themselves.
    """
    outputs = np.load(golden_network / "model_base_strong_outputs.npz")
    spec = network_golden.spec(golden_network)
    transform, names = LabelTransform(spec.transformation), spec.label_names
    labels_trafo = torch.tensor(outputs["y_pred_trafo"], requires_grad=True)
    uncertainty_trafo = torch.tensor(outputs["y_unc_pred_trafo"], requires_grad=True)
    logits = torch.zeros(labels_trafo.shape)
    for name in spec.label_keys.pid:
        logits[:, names.index(name)] = torch.tensor(outputs[f"logit/{name}"])
    prediction = Prediction(
        labels_trafo=labels_trafo,
        uncertainty_trafo=uncertainty_trafo,
        labels=transform.inverse(labels_trafo),
        uncertainty=transform.unscale_uncertainty(uncertainty_trafo),
        logits=logits,
    )
    truth = Truth(torch.tensor(outputs["y_true"]), torch.tensor(outputs["y_true_trafo"]))
    particle = {
        **{f"pos_{axis}": f"Vertex{axis.upper()}" for axis in "xyz"},
        "time": "VertexTime",
    }
    period = transform.azimuth_period(names, "PrimaryAzimuth")
    context = LossContext(
        label_names=names,
        label_keys=replace(spec.label_keys, particle=particle),
        residual_trafo=residual_trafo(labels_trafo, truth.labels_trafo, period),
        event_weights=event_weights,
        tukey_scale=torch.full((len(names),), INITIAL_TUKEY_SCALE),
    )
    return prediction, truth, context


@pytest.mark.parametrize("suffix", ["", "__weighted"])
@pytest.mark.parametrize("name", OF_THE_REFERENCE)
def test_values_and_gradients_equal_golden_ones(golden_network, golden, name, suffix):
    key = name.partition(".")[2] + suffix
    if suffix and name in WITHOUT_WEIGHTED_GOLDEN:
        assert key not in golden.files
        return
    event_weights = torch.tensor(golden["event_weights"]) if suffix else None
    prediction, truth, context = golden_inputs(golden_network, event_weights)
    loss = LOSSES[name](prediction, truth, context)
    keep = np.ones(35, dtype=bool)
    if name == "default_loss.pull_distribution_scale":
        # there the residual of the azimuth has lost its sign
        keep[context.label_names.index("PrimaryAzimuth")] = False
    np.testing.assert_allclose(loss.detach().numpy()[keep], golden[key][keep], rtol=1e-5)

    (loss * torch.tensor(golden["label_weights"])).sum().backward()
    for kind, tensor in (("pred", prediction.labels_trafo), ("unc", prediction.uncertainty_trafo)):
        expected = golden[f"grad_{kind}/{key}"]
        if expected.shape == (1,):  # the loss does not depend on this input
            assert tensor.grad is None
        else:
            difference = np.abs(tensor.grad.numpy() - expected).max(axis=0)
            assert (difference <= 1e-5 * np.abs(expected).max(axis=0))[keep].all()


def test_golden_numbers_cover_every_loss_of_the_reference(golden):
    values = {key for key in golden.files if f"grad_pred/{key}" in golden.files}
    assert {key for key in values if "__" not in key} == {
        name.partition(".")[2] for name in OF_THE_REFERENCE
    }
    independent = [k for k in golden.files if k.startswith("grad_") and golden[k].shape == (1,)]
    assert len(independent) == 10


def test_pull_of_the_azimuth_keeps_the_sign_of_the_residual(golden_network):
    prediction, truth, context = golden_inputs(golden_network, None)
    loss = default_loss.pull_distribution_scale(prediction, truth, context)
    assert loss[context.label_names.index("PrimaryAzimuth")].item() == pytest.approx(
        0.703, abs=5e-4
    )


def test_residual_of_periodic_labels_is_the_short_way_round_with_its_sign():
    period = torch.tensor([math.inf, 4.0])
    predicted = torch.tensor([[3.0, 3.5], [-3.0, 0.5], [0.0, 1.5]])
    true = torch.tensor([[0.0, 0.5], [0.0, 3.5], [0.0, 0.0]])
    expected = torch.tensor([[3.0, -1.0], [-3.0, 1.0], [0.0, 1.5]])
    torch.testing.assert_close(residual_trafo(predicted, true, period), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_azimuth_beyond_its_period_is_the_same_azimuth(name):
    events = random_events(9)
    azimuth = LABELS.index("azimuth")
    expected = evaluate(LOSSES[name], events)
    periods = torch.where(events.true[:, azimuth] > 3, 1.0, -1.0).double()
    events.predicted[:, azimuth] += 2 * math.pi * periods
    shifted = evaluate(LOSSES[name], events)
    torch.testing.assert_close(shifted.loss, expected.loss)
    torch.testing.assert_close(shifted.predicted, expected.predicted)


@pytest.mark.parametrize("name", LOSSES)
def test_untrained_labels_yield_no_nan_whatever_they_hold(name):
    """Energy has no special meaning, and of two classes one may be trained alone."""
    loss, untrained = LOSSES[name], ["energy", "p_starting"]
    events = random_events(4).to(torch.float32)
    raw = events.predicted.requires_grad_()
    poison, trained = torch.ones(4, len(LABELS)), torch.ones(len(LABELS), dtype=torch.bool)
    for label in untrained:
        poison[:, LABELS.index(label)] = torch.tensor([math.nan, math.inf, 0.0, -math.inf])
        trained[LABELS.index(label)] = False
    raw_values = raw * poison
    prediction = Prediction(raw_values, raw_values.abs(), raw_values, raw_values.abs(), raw_values)
    truth = Truth(events.true * poison, events.true * poison)
    prediction, truth = mask_untrained(prediction, truth, trained)
    residual = prediction.labels_trafo - truth.labels_trafo
    context = LossContext(LABELS, KEYS, residual, None, torch.ones(len(LABELS)))
    values = loss(prediction, truth, context)
    assert torch.isfinite(values).all()
    (gradient,) = torch.autograd.grad(values.sum(), raw_values)
    assert torch.isfinite(gradient).all()
    assert (gradient[:, ~trained] == 0).all()
    assert (gradient[:, trained] != 0).any()


def test_true_values_that_a_loss_needs_are_kept_of_untrained_labels():
    numbers = torch.tensor([[1.0, 2.0, 3.0]])
    prediction = Prediction(numbers, numbers, numbers, numbers, numbers)
    masked, truth = mask_untrained(
        prediction,
        Truth(numbers, numbers),
        torch.tensor([True, False, False]),
        torch.tensor([False, True, False]),
    )
    assert truth.labels.tolist() == [[1.0, 2.0, 0.0]]
    assert truth.labels_trafo.tolist() == [[1.0, 0.0, 0.0]]
    assert masked.labels.tolist() == [[1.0, 0.0, 0.0]]


# Var(d / σ) does not use event weights; the signal below an event changes if events are repeated.
REPEATABLE = sorted(
    LOSSES.keys()
    - {"default_loss.pull_distribution_scale", "default_loss.mse_and_weighted_cross_entropy"}
)


@pytest.mark.parametrize("name", REPEATABLE)
def test_event_weights_act_as_repeated_events(name):
    events = random_events(5)
    repeats = torch.tensor([1, 4, 2, 1, 3])
    weighted = evaluate(LOSSES[name], events, repeats[:, None].double())
    numbers = torch.arange(5).repeat_interleave(repeats)
    repeated = evaluate(LOSSES[name], events.take(numbers))
    torch.testing.assert_close(weighted.loss, repeated.loss)
    for part in ("predicted", "sigma", "logits"):
        summed = torch.zeros_like(events.true).index_add(0, numbers, getattr(repeated, part))
        torch.testing.assert_close(getattr(weighted, part), summed)


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - {"default_loss.pull_distribution_scale"}))
@settings(max_examples=20)
@given(
    weights=st.lists(st.sampled_from([0.0, 1e-12, 0.5, 3.0, 1e12]), min_size=2, max_size=6),
    factor=st.sampled_from([1e-3, 1e5]),
)
def test_events_of_weight_0_are_ignored_and_only_ratios_of_weights_matter(name, weights, factor):
    loss, events = LOSSES[name], random_events(len(weights), seed=3)
    column = torch.tensor(weights, dtype=torch.float64)[:, None]
    result = evaluate(loss, events, column)
    kept = torch.nonzero(column[:, 0]).flatten()
    if len(kept) == 0:
        assert (result.loss == 0).all()
        assert (result.predicted == 0).all()
        return
    others = evaluate(loss, events.take(kept), column[kept])
    torch.testing.assert_close(result.loss, others.loss)
    torch.testing.assert_close(result.predicted[kept], others.predicted)
    if name != "default_loss.mse_and_weighted_cross_entropy":  # has an absolute 1e-6 in it
        scaled = evaluate(loss, events, factor * column)
        torch.testing.assert_close(scaled.loss, result.loss)


@pytest.mark.parametrize(
    ("name", "smallest"),
    [
        ("default_loss.weighted_mse", 1e-3),
        ("default_loss.gaussian_likelihood", 1e-6),
        ("default_loss.opening_angle_raleigh", 1e-6),
        ("robust_loss.student", 1e-6),
        ("track_loss.track_pos_gaussian", 1e-6),
    ],
)
def test_smaller_uncertainties_count_as_the_smallest(name, smallest):
    def loss(sigma):
        events = random_events(5)
        events.sigma = torch.full_like(events.sigma, sigma)
        return evaluate(LOSSES[name], events).loss

    expected = loss(smallest)
    torch.testing.assert_close(loss(0.0), expected)
    larger = loss(1.05 * smallest)
    assert (larger < expected).any() and not (larger > expected).any()


def test_the_page_of_losses_describes_each():
    page = (Path(__file__).parents[2] / "docs" / "reference" / "losses.md").read_text()
    for name in LOSSES:
        module, _, function = name.partition(".")
        assert f"`{function}`" in page, name
        assert f"`{module}`" in page, name
