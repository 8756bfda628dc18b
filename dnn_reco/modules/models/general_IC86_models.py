"""The networks that configs of the older generation name.

The same network as :class:`GeneralIC86CNN`, with the older uncertainty: |u| + 1e-3 of the last
dense layer, whose gradients do not reach the convolutions or the prediction. Direction vectors are
normalised unless the config disables it.
"""
# ruff: noqa: N802, N999 (configs use these names)

from typing import Any

from dnn_reco.modules.models.general_IC86_cnn import GeneralIC86CNN
from dnn_reco.nn.interface import NetworkSpec

_OLDER_UNCERTAINTY: dict[str, Any] = {
    "uncertainty_activation": "abs",
    "min_uncertainty_values": 1e-3,
    "detach_uncertainty_input": True,
}


def general_model_IC86(spec: NetworkSpec, **model_kwargs: Any) -> GeneralIC86CNN:
    """Uncertainty layers with the transformed prediction and the features as input."""
    defaults = {**_OLDER_UNCERTAINTY, "add_prediction_to_unc_input": True}
    return GeneralIC86CNN(spec, **{**defaults, **model_kwargs})


def general_model_IC86_opt4(spec: NetworkSpec, **model_kwargs: Any) -> GeneralIC86CNN:
    """Uncertainty layers with only the features as input."""
    return GeneralIC86CNN(spec, **{**_OLDER_UNCERTAINTY, **model_kwargs})
