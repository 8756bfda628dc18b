import math

import network_golden
import numpy as np
import pytest
import torch

from dnn_reco.modules.loss import default_loss
from dnn_reco.modules.loss.interface import LossContext, Truth
from dnn_reco.modules.loss.residual import mask_untrained, residual_trafo
from dnn_reco.nn.interface import LabelKeys, Prediction
from dnn_reco.nn.label_transform import LabelTransform

LOSSES = ["abs", "gaussian_likelihood", "mse", "pull_distribution_scale", "tukey", "weighted_mse"]
# median absolute deviation of a normal distribution, where the running median starts
INITIAL_TUKEY_SCALE = 0.67449


@pytest.fixture(scope="module")
def golden(golden_network):
    return np.load(golden_network / "losses_base_strong.npz")


def golden_inputs(golden_network, event_weights):
    """Prediction (with gradients), truth and context of the golden losses."""
    outputs = np.load(golden_network / "model_base_strong_outputs.npz")
    prediction = Prediction(
        labels_trafo=torch.tensor(outputs["y_pred_trafo"], requires_grad=True),
        uncertainty_trafo=torch.tensor(outputs["y_unc_pred_trafo"], requires_grad=True),
        labels=torch.tensor(outputs["y_pred"]),
        uncertainty=torch.tensor(outputs["y_unc"]),
        logits=torch.zeros(outputs["y_pred"].shape),
    )
    truth = Truth(torch.tensor(outputs["y_true"]), torch.tensor(outputs["y_true_trafo"]))
    transformation = network_golden.transformation(golden_network)
    names = transformation.settings.label_names
    period = LabelTransform(transformation).azimuth_period(names, "PrimaryAzimuth")
    context = LossContext(
        label_names=names,
        label_keys=network_golden.LABEL_KEYS,
        residual_trafo=residual_trafo(prediction.labels_trafo, truth.labels_trafo, period),
        event_weights=event_weights,
        tukey_scale=torch.full((len(names),), INITIAL_TUKEY_SCALE),
    )
    return prediction, truth, context


@pytest.mark.parametrize("suffix", ["", "__weighted"])
@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_equal_golden_ones(golden_network, golden, name, suffix):
    event_weights = torch.tensor(golden["event_weights"]) if suffix else None
    prediction, truth, context = golden_inputs(golden_network, event_weights)
    loss = getattr(default_loss, name)(prediction, truth, context)
    expected = golden[name + suffix]
    keep = np.ones(35, dtype=bool)
    if name == "pull_distribution_scale":
        # there the residual of the azimuth has lost its sign
        keep[context.label_names.index("PrimaryAzimuth")] = False
    np.testing.assert_allclose(loss.detach().numpy()[keep], expected[keep], rtol=2e-5, atol=1e-5)

    (loss * torch.tensor(golden["label_weights"])).sum().backward()
    for kind, tensor in (("pred", prediction.labels_trafo), ("unc", prediction.uncertainty_trafo)):
        expected = golden[f"grad_{kind}/{name}{suffix}"]
        if expected.shape == (1,):
            assert tensor.grad is None
        else:
            np.testing.assert_allclose(
                tensor.grad.numpy()[:, keep], expected[:, keep], rtol=2e-4, atol=1e-5
            )


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
def test_untrained_labels_yield_no_nan_whatever_they_hold(name):
    bad = torch.tensor([math.nan, math.inf, 0.0, -math.inf])
    raw = torch.randn(4, 3, requires_grad=True)
    poison = torch.ones(4, 3)
    poison[:, 1] = bad
    values = raw * poison
    prediction = Prediction(values, values, values, values, values)
    truth = Truth(values.detach(), torch.zeros(4, 3) * poison)
    trained = torch.tensor([True, False, True])
    prediction, truth = mask_untrained(prediction, truth, trained)
    residual = residual_trafo(
        prediction.labels_trafo, truth.labels_trafo, torch.tensor([math.inf, 6.0, 6.0])
    )
    context = LossContext(("a", "b", "c"), LabelKeys(), residual, None, torch.ones(3))
    loss = getattr(default_loss, name)(prediction, truth, context)
    assert torch.isfinite(loss).all()
    (gradient,) = torch.autograd.grad(loss.sum(), values)
    assert torch.isfinite(gradient).all()
    assert (gradient[:, 1] == 0).all()


def test_event_weights_act_as_repeated_events():
    torch.manual_seed(1)
    labels, sigma = torch.randn(3, 2), torch.rand(3, 2) + 0.1
    repeats = torch.tensor([1, 4, 2])

    def loss(labels, sigma, weights, name):
        prediction = Prediction(labels, sigma, labels, sigma, labels)
        truth = Truth(torch.zeros_like(labels), torch.zeros_like(labels))
        context = LossContext(("a", "b"), LabelKeys(), labels, weights, torch.ones(2))
        return getattr(default_loss, name)(prediction, truth, context)

    for name in ("abs", "gaussian_likelihood", "mse", "tukey", "weighted_mse"):
        weighted = loss(labels, sigma, repeats[:, None].float(), name)
        repeated = loss(
            labels.repeat_interleave(repeats, 0), sigma.repeat_interleave(repeats, 0), None, name
        )
        torch.testing.assert_close(weighted, repeated)
