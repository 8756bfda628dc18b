"""An older network as the reference's own code built it, with names, shapes and predictions.

From a run of dnn_reco v1.0.2 (``general_model_IC86``) with the layer library's v1 code (TFScripts,
commit aaaacb3) and TensorFlow 2.16: names and shapes of the variables that its saver wrote, in the
order in which they were made, and its transformed prediction of the first event of the golden data,
with the weights of `weights`. Names were the same with dnn_reco v0.2.0, TFScripts v0.2.0 and
TensorFlow 1.15.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

SETTINGS: dict[str, Any] = {
    "conv_upper_DeepCore_settings": {
        "activation_list": ["prelu", "leaky"],
        "filter_size_list": [[1, 3], [1, 2]],
        "num_filters_list": [3, 2],
        "padding_list": "SAME",
        "pooling_ksize_list": [1, 1, 3, 1],
        "pooling_strides_list": [1, 1, 2, 1],
        "pooling_type_list": ["max_avg", "avg"],
        "strides_list": [1, 1, 1, 1],
        "use_batch_normalisation_list": [True, False],
        "use_dropout_list": True,
        "use_residual_list": [False, True],
    },
    "conv_lower_DeepCore_settings": {
        "activation_list": ["selu", "prelu"],
        "filter_size_list": [[1, 3], [1, 3]],
        "num_filters_list": [2, 3],
        "padding_list": "SAME",
        "pooling_ksize_list": [1, 1, 3, 1],
        "pooling_strides_list": [1, 1, 3, 1],
        "pooling_type_list": "max",
        "strides_list": [1, 1, 1, 1],
        "use_batch_normalisation_list": [False, True],
        "use_dropout_list": True,
        "use_residual_list": True,
    },
    "conv_IC78_settings": {
        "activation_list": ["elu", "leaky", "tanh", "prelu"],
        "dilation_rate_list": None,
        "filter_size_list": [[2, 0, 3], [3, 1, 2], [1, 0, 2], [2, 1, 2]],
        "hex_num_rotations_list": [3, 2, 1, 1],
        "hex_zero_out_list": False,
        "num_filters_list": [2, 2, 3, 2],
        "padding_list": "SAME",
        "pooling_ksize_list": [[1, 1, 1, 3, 1], [1, 1, 1, 4, 1], [1, 1, 1, 1, 1], [1, 2, 2, 5, 1]],
        "pooling_strides_list": [
            [1, 1, 1, 3, 1],
            [1, 1, 1, 4, 1],
            [1, 1, 1, 1, 1],
            [1, 2, 2, 5, 1],
        ],
        "pooling_type_list": ["avg", "avg", False, "max"],
        "strides_list": [1, 1, 1, 1, 1],
        "use_batch_normalisation_list": [False, True, False, True],
        "use_dropout_list": True,
        "use_residual_list": [True, False, True, True],
    },
    "fc_settings": {
        "activation_list": ["prelu", ""],
        "fc_sizes": [6, -1],
        "max_out_size_list": None,
        "use_batch_normalisation_list": [True, False],
        "use_dropout_list": [True, False],
        "use_residual_list": [False, True],
    },
    "fc_unc_settings": {
        "activation_list": ["elu", "abs"],
        "fc_sizes": [5, -1],
        "max_out_size_list": None,
        "use_batch_normalisation_list": [True, False],
        "use_dropout_list": [True, False],
        "use_residual_list": [True, False],
    },
}

_OBSERVED = """
model_pred/weights:1,3,72,3  model_pred/biases:3  model_pred/BN_scale:1,10,3
model_pred/BN_beta:1,10,3  model_pred/BN_pop_mean:1,10,3  model_pred/BN_pop_var:1,10,3
model_pred/weights_1:1,10,3  model_pred/weights_2:1,2,3,2  model_pred/biases_1:2
model_pred/weights_3:2  model_pred/weights_4:1,3,72,2  model_pred/biases_2:2
model_pred/weights_5:2  model_pred/weights_6:1,3,2,3  model_pred/biases_3:3
model_pred/BN_scale_1:1,17,3  model_pred/BN_beta_1:1,17,3  model_pred/BN_pop_mean_1:1,17,3
model_pred/BN_pop_var_1:1,17,3  model_pred/weights_7:1,17,3  model_pred/weights_8:3
model_pred/weights_9:3  model_pred/weights_10:3  model_pred/weights_11:3
model_pred/weights_12:3  model_pred/weights_13:3  model_pred/weights_14:3
model_pred/weights_15:3  model_pred/weights_16:3,9,2  model_pred/biases_4:6
model_pred/weights_17:6  model_pred/weights_18:2  model_pred/weights_19:2
model_pred/weights_20:2  model_pred/weights_21:2  model_pred/weights_22:2
model_pred/weights_23:2  model_pred/weights_24:2  model_pred/weights_25:2
model_pred/weights_26:2  model_pred/weights_27:2  model_pred/weights_28:2
model_pred/weights_29:2  model_pred/weights_30:2  model_pred/weights_31:2
model_pred/weights_32:2  model_pred/weights_33:2  model_pred/weights_34:2
model_pred/weights_35:2  model_pred/weights_36:2  model_pred/weights_37:2
model_pred/weights_38:2  model_pred/weights_39:2  model_pred/weights_40:2
model_pred/weights_41:2  model_pred/weights_42:2  model_pred/weights_43:2,6,2
model_pred/biases_5:4  model_pred/BN_scale_2:10,10,20,4  model_pred/BN_beta_2:10,10,20,4
model_pred/BN_pop_mean_2:10,10,20,4  model_pred/BN_pop_var_2:10,10,20,4
model_pred/weights_44:2,4,3  model_pred/biases_6:3  model_pred/weights_45:3
model_pred/weights_46:2,3,2  model_pred/weights_47:2,3,2  model_pred/weights_48:2,3,2
model_pred/weights_49:2,3,2  model_pred/weights_50:2,3,2  model_pred/weights_51:2,3,2
model_pred/weights_52:2,3,2  model_pred/weights_53:2,3,2  model_pred/weights_54:2,3,2
model_pred/weights_55:2,3,2  model_pred/weights_56:2,3,2  model_pred/weights_57:2,3,2
model_pred/weights_58:2,3,2  model_pred/biases_7:2  model_pred/BN_scale_3:10,10,5,2
model_pred/BN_beta_3:10,10,5,2  model_pred/BN_pop_mean_3:10,10,5,2
model_pred/BN_pop_var_3:10,10,5,2  model_pred/weights_59:10,10,5,2  model_pred/weights_60:2
model_pred/weights_61:74,6  model_pred/biases_8:6  model_pred/BN_scale_4:6
model_pred/BN_beta_4:6  model_pred/BN_pop_mean_4:6  model_pred/BN_pop_var_4:6
model_pred/weights_62:6  model_pred/weights_63:6,35  model_pred/biases_9:35
model_pred/weights_64:35  model_unc/weights:109,5  model_unc/biases:5  model_unc/BN_scale:5
model_unc/BN_beta:5  model_unc/BN_pop_mean:5  model_unc/BN_pop_var:5  model_unc/weights_1:5
model_unc/weights_2:5,35  model_unc/biases_1:35
"""

_LABELS_TRAFO = """
0.04471087 -0.3426939 -4.245283 -0.9948499 -0.1231492 -1.655169 0.1316657 -1.462884 0.1179105
-3.056101 -1.295 -2.089483 7.590031 1.557399 2.413228 -0.9025626 -0.7975034 -5.756991 1.792969
0.6324344 2.213182 0.933483 0.2388885 -0.3754987 4.692946 -1.358744 -1.661791 -0.2385444
1.713037 1.200073 0.3565215 0.8502094 0.7916601 0.1042822 1.083397
"""

_UNCERTAINTY_TRAFO = """
1.640358 0.6398523 0.8159334 0.9904047 1.913825 0.6644537 0.04628417 0.2676238 0.4908447
2.989224 1.321367 1.06473 1.171959 1.329542 0.432885 2.513132 0.1647023 1.659287 0.3357094
2.648032 0.8466402 2.678222 0.03404802 1.925821 0.3786846 0.8606097 0.8221878 3.516932 0.4561915
2.292775 0.1977036 3.11948 1.711537 0.6501109 2.083565
"""


def observed_variables() -> dict[str, tuple[int, ...]]:
    """Shape of each variable by its name, in the order in which they were made."""
    entries = [entry.split(":") for entry in _OBSERVED.split()]
    return {name: tuple(int(length) for length in shape.split(",")) for name, shape in entries}


def prediction() -> tuple[NDArray[Any], NDArray[Any]]:
    """Transformed labels and uncertainties of the first event of the golden data."""
    labels, uncertainty = (text.split() for text in (_LABELS_TRAFO, _UNCERTAINTY_TRAFO))
    return np.array(labels, dtype=np.float32), np.array(uncertainty, dtype=np.float32)


def weights() -> dict[str, NDArray[Any]]:
    """The weights of the run, drawn as there."""
    rng = np.random.RandomState(5)

    def draw(name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        if "BN_pop_var" in name or "BN_scale" in name:
            return rng.uniform(0.5, 1.5, shape)
        if "BN" in name:
            return rng.normal(0, 0.3, shape)
        return rng.normal(0.6, 0.2, shape) if len(shape) == 1 else rng.normal(0, 1, shape)

    return {
        name: draw(name, shape).astype(np.float32) for name, shape in observed_variables().items()
    }
