import math

import network_golden
import numpy as np
import torch

from dnn_reco.nn.label_transform import LabelTransform, residual_trafo


def test_labels_and_uncertainties_equal_golden_arrays(golden_network):
    golden = np.load(golden_network / "trafo_inputs9_numu_medium.npz")
    labels = np.load(golden_network / "data_numu_medium_inputs9.npz")["labels"]
    transform = LabelTransform(network_golden.transformation(golden_network))
    labels_trafo = transform(torch.tensor(labels))
    np.testing.assert_allclose(labels_trafo.numpy(), golden["label_trafo"], rtol=1e-5, atol=1e-5)
    inverse = transform.inverse(torch.tensor(golden["label_trafo"]))
    np.testing.assert_allclose(inverse.numpy(), golden["label_inv_of_trafo"], rtol=1e-5, atol=1e-3)
    unc = torch.tensor(golden["unc"])
    scaled = transform.scale_uncertainty(unc)
    np.testing.assert_allclose(scaled.numpy(), golden["unc_trafo_nobias"], rtol=1e-6)
    unscaled = transform.unscale_uncertainty(unc)
    np.testing.assert_allclose(unscaled.numpy(), golden["unc_inv_nobias"], rtol=1e-6)


def test_transform_by_hand(small_spec):
    transform = LabelTransform(small_spec.transformation)
    labels = torch.tensor([[math.e**2 - 1, 3.0, 19.001]], dtype=torch.float64)
    expected = torch.tensor([[0.0, 0.0, 20.001 / 20.001]], dtype=torch.float64)
    torch.testing.assert_close(transform(labels), expected)
    torch.testing.assert_close(transform.inverse(expected), labels)


def test_extreme_values_stay_finite_forward_and_backward(small_spec):
    transform = LabelTransform(small_spec.transformation)
    values = torch.tensor([[1e30, 1e30, 1e30], [-1e30, 0.0, -1.0]], requires_grad=True)
    for result in (transform(values.clamp(-1, 1e30)), transform.inverse(values)):
        (gradient,) = torch.autograd.grad(result.sum(), values)
        assert torch.isfinite(result).all()
        assert torch.isfinite(gradient).all()


def test_label_at_the_singularity_of_the_logarithm_is_finite(small_spec):
    transform = LabelTransform(small_spec.transformation)
    assert torch.isfinite(transform(torch.tensor([[-1.0, 0.0, 0.0]]))).all()


def test_period_of_azimuth_labels(small_spec):
    transform = LabelTransform(small_spec.transformation)
    period = transform.azimuth_period(small_spec.label_names, "azimuth")
    expected = [math.inf, 2 * math.pi / (1.8 + 1e-3), math.inf]
    torch.testing.assert_close(period, torch.tensor(expected, dtype=torch.float64))


def test_residuals_beyond_half_a_period_are_shifted_towards_zero():
    prediction = torch.tensor([[3.9, 5.1], [-1.1, -0.9], [1.0, 1e9]])
    period = torch.tensor([2.0, math.inf])
    found = residual_trafo(prediction, torch.zeros(3, 2), period)
    expected = torch.tensor([[1.9, 5.1], [0.9, -0.9], [1.0, 1e9]])
    torch.testing.assert_close(found, expected)
