"""Residuals of a golden network; `test_parity.py` compares all other golden files."""

import network_golden
import numpy as np
import torch

from dnn_reco.modules.loss.interface import Truth


def test_residuals(golden_network):
    network = network_golden.model(golden_network, "base_strong")
    folder = network_golden.opened(golden_network)
    with torch.inference_mode():
        prediction = network(folder.hits())
    truth = Truth(folder.labels(), network.label_head.transform(folder.labels()))
    residual = folder.loss_context(prediction, truth, None).residual_trafo
    golden = folder.arrays("model_base_strong_outputs")
    azimuth = folder.label_names.index("PrimaryAzimuth")
    # the reference keeps only the modulus for the azimuth
    residual_like = residual.clone()
    residual_like[:, azimuth] = residual[:, azimuth].abs()
    np.testing.assert_allclose(residual_like, golden["y_diff_trafo"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        residual.square().mean(dim=0), golden["mse_values_trafo"], rtol=1e-5, atol=1e-6
    )
