"""The reference's numbers from the reference's weights, layer by layer."""

import network_golden
import numpy as np
import pytest
import torch

from dnn_reco.modules.loss.default_loss import gaussian_likelihood
from dnn_reco.modules.loss.interface import LossContext, Truth
from dnn_reco.modules.loss.residual import mask_untrained, residual_trafo

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def layer_outputs(network, hits):
    """Outputs of all layers by golden key, channels last."""
    outputs = {}

    def record(key):
        def hook(module, inputs, output):
            outputs[key] = output

        return hook

    for branch in ("upper", "lower", "ic78", "fc", "fc_unc"):
        for i, layer in enumerate(getattr(network, branch)):
            layer.register_forward_hook(record(f"act/{branch}/{i}"))
    network.fc.register_forward_pre_hook(lambda _, x: outputs.__setitem__("act/flat", x[0]))
    for branch in ("upper", "lower"):
        getattr(network, branch).register_forward_pre_hook(
            lambda _, x, key=f"pre/{branch}": outputs.__setitem__(key, x[0])
        )
    with torch.inference_mode():
        prediction = network(hits)
    return outputs, prediction


@pytest.mark.parametrize("name", ["base", "base_strong", "dirnorm", "mixed", "tilted10"])
def test_every_layer_and_the_prediction(golden_network, name):
    network = network_golden.model(golden_network, name)
    outputs, prediction = layer_outputs(network, network_golden.hits(golden_network))
    golden = np.load(golden_network / f"model_{name}_outputs.npz")
    layers = [key for key in golden.files if key.startswith(("act/", "pre/"))]
    assert set(layers) == set(outputs)
    for key in layers:
        np.testing.assert_allclose(outputs[key].numpy(), golden[key], err_msg=key, **TOLERANCE)
    assert_prediction_equal(prediction, golden)
    for key in golden.files:
        if key.startswith("logit/"):
            label = golden_labels(golden_network).index(key.removeprefix("logit/"))
            np.testing.assert_allclose(prediction.logits[:, label], golden[key], **TOLERANCE)


def assert_prediction_equal(prediction, golden):
    np.testing.assert_allclose(prediction.labels_trafo.numpy(), golden["y_pred_trafo"], **TOLERANCE)
    np.testing.assert_allclose(
        prediction.uncertainty_trafo.numpy(), golden["y_unc_pred_trafo"], **TOLERANCE
    )
    # in physical units an absolute tolerance belongs to each label's own scale
    scale = np.abs(golden["y_pred"]).max(axis=0)
    difference = np.abs(prediction.labels.numpy() - golden["y_pred"])
    assert (difference <= 2e-5 * scale + 1e-6).all()
    np.testing.assert_allclose(prediction.uncertainty.numpy(), golden["y_unc"], **TOLERANCE)


def golden_labels(golden_network):
    return list(network_golden.transformation(golden_network).settings.label_names)


def test_trained_checkpoint_of_the_reference(golden_network):
    weights = dict(np.load(golden_network / "tf_checkpoint_weights.npz"))
    weights = {key: value for key, value in weights.items() if "/" in key}
    network = network_golden.model(golden_network, "base", trafo="tf_checkpoint_trafo")
    network.load_state_dict(network_golden.our_parameters(weights))
    with torch.inference_mode():
        prediction = network(network_golden.hits(golden_network))
    golden = np.load(golden_network / "tf_checkpoint_predict_numu_medium.npz")
    assert_prediction_equal(prediction, golden)


def golden_truth(golden_network, network, events):
    labels = torch.tensor(np.load(golden_network / "data_numu_medium_inputs9.npz")["labels"])
    labels = labels[list(events)]
    return Truth(labels=labels, labels_trafo=network.label_head.transform(labels))


def golden_residual(golden_network, network, prediction, truth):
    keys = network_golden.LABEL_KEYS
    names = golden_labels(golden_network)
    period = network.label_head.transform.azimuth_period(tuple(names), keys.azimuth)
    return residual_trafo(prediction.labels_trafo, truth.labels_trafo, period)


def test_residuals(golden_network):
    network = network_golden.model(golden_network, "base_strong")
    with torch.inference_mode():
        prediction = network(network_golden.hits(golden_network))
    truth = golden_truth(golden_network, network, range(32))
    residual = golden_residual(golden_network, network, prediction, truth)
    golden = np.load(golden_network / "model_base_strong_outputs.npz")
    expected = golden["y_diff_trafo"]
    azimuth = golden_labels(golden_network).index("PrimaryAzimuth")
    # the reference keeps only the modulus for the azimuth
    residual_like = residual.clone()
    residual_like[:, azimuth] = residual[:, azimuth].abs()
    np.testing.assert_allclose(residual_like, expected, **TOLERANCE)
    np.testing.assert_allclose(
        residual.square().mean(dim=0), golden["mse_values_trafo"], rtol=1e-5, atol=1e-6
    )


def test_gradients_of_one_training_step(golden_network):
    network = network_golden.model(golden_network, "base_strong")
    events = range(8)
    golden = np.load(golden_network / "train_one_adam_step.npz")
    prediction = network(network_golden.hits(golden_network, events))
    truth = golden_truth(golden_network, network, events)
    weights = torch.tensor(golden["label_weights_before"])
    prediction, truth = mask_untrained(prediction, truth, weights > 0)
    residual = golden_residual(golden_network, network, prediction, truth)
    names = tuple(golden_labels(golden_network))
    context = LossContext(names, network_golden.LABEL_KEYS, residual, None, torch.ones(35))
    loss = (gaussian_likelihood(prediction, truth, context) * weights).sum()
    assert loss.item() == pytest.approx(float(golden["loss_total"]), rel=1e-5)
    loss.backward()
    gradients = {
        key.removeprefix("grad/"): golden[key] for key in golden.files if key.startswith("grad/")
    }
    expected = network_golden.our_parameters(gradients)
    parameters = dict(network.named_parameters())
    assert set(expected) == set(parameters)
    for name, gradient in expected.items():
        scale = float(gradient.abs().max())
        np.testing.assert_allclose(
            parameters[name].grad, gradient, rtol=1e-4, atol=2e-5 * scale, err_msg=name
        )
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    assert norm.item() == pytest.approx(float(golden["global_norm"]), rel=1e-4)
