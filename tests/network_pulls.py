"""Residuals and pulls in the space in which a network is trained."""

import numpy as np
import torch
from numpy.typing import NDArray

from dnn_reco.inference.prediction_table import PredictionTable
from dnn_reco.nn.interface import NetworkSpec
from dnn_reco.nn.label_transform import LabelTransform, residual_trafo

Values = NDArray[np.floating]


def residuals_and_pulls(
    table: PredictionTable, true: Values, spec: NetworkSpec
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Residuals [N, L] in transformed units, and residual over uncertainty [N, L].

    Residuals of the azimuth are taken modulo 2π.

    Parameters
    ----------
    table
        Predictions of N events.
    true
        Their true labels [N, L], in physical units.
    spec
        Names and transformation of the labels.
    """
    transform = LabelTransform(spec.transformation)
    labels, sigma, truth = (
        torch.from_numpy(np.asarray(values, dtype=np.float64))
        for values in (table.labels, table.uncertainty, true)
    )
    period = transform.azimuth_period(spec.label_names, spec.label_keys.azimuth)
    residual = residual_trafo(transform(labels), transform(truth), period)
    return residual.numpy(), (residual / transform.scale_uncertainty(sigma)).numpy()
