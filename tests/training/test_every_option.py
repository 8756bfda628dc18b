"""Networks with every option of the layers switched on: they train, stop, and go on exactly."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_run import ON_CPU, SmallRun, make_small_run

from dnn_reco.checkpoint_file import load_latest
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train

UPPER = {
    "filter_size_list": [[1, 3], [1, 4], [1, 3]],
    "num_filters_list": [3, 4, 2],
    "pooling_type_list": ["max", "max_avg", False],
    "pooling_strides_list": [1, 1, 2, 1],
    "pooling_ksize_list": [[1, 1, 2, 1], [1, 1, 3, 1], [1, 1, 2, 1]],
    "pooling_padding_list": "SAME",
    "use_dropout_list": True,
    "padding_list": ["SAME", "SAME", "VALID"],
    "strides_list": [1, 1, 1, 1],
    "dilation_rate_list": [[1, 1], [1, 2], [1, 1]],
    "use_batch_normalisation_list": [True, False, True],
    "activation_list": ["prelu", "selu", "pelu"],
    "use_residual_list": [True, True, False],
    "method_list": ["convolution", "convolution", "locally_connected"],
}
LOWER = {
    "filter_size_list": [[1, 5], [1, 3]],
    "num_filters_list": [2, 2],
    "pooling_type_list": "avg",
    "pooling_strides_list": [1, 1, 5, 1],
    "pooling_ksize_list": [1, 1, 5, 1],
    "activation_list": ["leaky", "pgaussian"],
    "strides_list": [[1, 1, 2, 1], [1, 1, 1, 1]],
}
MAIN = {
    "filter_size_list": [[2, 0, 3], [3, 1, 2], [2, 0, 3], [2, 2, 3]],
    "num_filters_list": [2, 2, 4, 3],
    "pooling_type_list": ["avg", "max", "max_avg", False],
    "pooling_strides_list": [1, 1, 1, 4, 1],
    "pooling_ksize_list": [[1, 1, 1, 4, 1], [1, 1, 1, 4, 1], [1, 2, 2, 5, 1], [1, 1, 1, 1, 1]],
    "use_dropout_list": [False, True, False, True],
    "strides_list": [[1] * 5, [1] * 5, [1] * 5, [1, 2, 2, 1, 1]],
    "use_batch_normalisation_list": [True, False, True, False],
    "activation_list": ["elu", "relu6", "gelu", "centeredRelu"],
    "use_residual_list": True,
    "hex_num_rotations_list": [3, 4, 1, 1],
    "hex_zero_out_list": [True, True, False, False],
    "legacy_rotation": False,
    "method_list": ["hex_convolution"] * 3 + ["convolution"],
}
DENSE = {
    "fc_sizes": [12, 8, -1],
    "use_dropout_list": [True, False, False],
    "activation_list": ["prelu", "requ", ""],
    "use_batch_normalisation_list": [True, False, False],
    "use_residual_list": [True, True, False],
    "max_out_size_list": [3, None, None],
}
LOSSES = "dnn_reco.modules.loss."
SCHEDULES = "tensorflow.keras.optimizers.schedules."
RATES = {
    "full_class_string": "dnn_reco.utils.learning_rate.MultiLearningRateScheduler",
    "settings": {
        "boundaries": [3],
        "scheduler_settings": [
            {
                "full_class_string": f"{SCHEDULES}PolynomialDecay",
                "settings": {
                    "initial_learning_rate": 1e-3,
                    "decay_steps": 3,
                    "end_learning_rate": 1e-2,
                },
            },
            {
                "full_class_string": f"{SCHEDULES}ExponentialDecay",
                "settings": {
                    "initial_learning_rate": 1e-2,
                    "decay_steps": 5,
                    "decay_rate": 0.5,
                },
            },
        ],
    },
}
PENALTIES = {
    "l1_regularization": 1e-6,
    "l2_regularization": 1e-5,
    "clip_gradients_value": 1.0,
    "remove_nan_gradients": True,
}
COMMON = {
    "label_weight_initialization": 0.1,
    "label_scale_tukey": True,
    "label_pid_smooth_labels": 0.1,
    "label_particle_keys": {
        **{f"pos_{axis}": f"Vertex{axis.upper()}" for axis in "xyz"},
        **{f"dir_{axis}": f"PrimaryDirection{axis.upper()}" for axis in "xyz"},
        "time": "VertexTime",
    },
}
KEEP = {"keep_prob_dom": 0.9, "keep_prob_conv": 0.95, "keep_prob_flat": 0.9, "keep_prob_fc": 0.8}
NEWER = {
    **COMMON,
    "model_optimizer_dict": {
        "prediction": {
            "optimizer": "AdamW",
            "optimizer_settings": {"learning_rate": RATES, "beta_1": 0.8, "weight_decay": 0.01},
            "vars": "pred",
            "loss_class": [f"{LOSSES}default_loss.tukey", f"{LOSSES}track_loss.track_pos_mse"],
            **PENALTIES,
        },
        "uncertainty": {
            "optimizer": "SGD",
            "optimizer_settings": {"learning_rate": 1e-4, "momentum": 0.9, "nesterov": True},
            "vars": ["unc"],
            "loss_class": f"{LOSSES}default_loss.gaussian_likelihood",
            **PENALTIES,
        },
    },
    "model_class": "dnn_reco.modules.models.general_IC86_cnn.GeneralIC86CNN",
    "model_kwargs": {
        **KEEP,
        "conv_upper_deepcore_settings": UPPER,
        "conv_lower_deepcore_settings": LOWER,
        "conv_ic78_settings": MAIN,
        "fc_settings": DENSE,
        "fc_unc_settings": DENSE,
        "add_prediction_to_unc_input": True,
        "detach_uncertainty_input": True,
        "uncertainty_activation": "softplus",
        "min_uncertainty_values": 1e-3,
        "max_uncertainty_values": 20.0,
        "enforce_direction_norm": True,
        "dir_z_independent": True,
        "limit_dir_vec": 1.0,
        "random_seed": 7,
    },
}
OLDER = {
    **COMMON,
    "model_optimizer_dict": {
        "both": {
            "optimizer": "AdamOptimizer",
            "optimizer_settings": {"learning_rate": RATES, "epsilon": 1e-6, "amsgrad": True},
            "vars": ["unc", "pred"],
            "loss_file": ["default_loss", "default_loss", "track_loss"],
            "loss_name": [
                "mse_and_weighted_cross_entropy",
                "opening_angle",
                "track_pos_gaussian",
            ],
            **PENALTIES,
        },
    },
    "model_class": None,
    "model_kwargs": None,
    "model_file": "general_IC86_models",
    "model_name": "general_model_IC86_opt4",
    "keep_probability_list": list(KEEP.values()),
    "conv_upper_DeepCore_settings": UPPER,
    "conv_lower_DeepCore_settings": LOWER,
    "conv_IC78_settings": MAIN,
    "fc_settings": DENSE,
    "fc_unc_settings": DENSE,
    "model_is_training": True,
    "model_enforce_direction_norm": True,
    "model_dir_z_independent": True,
    "model_limit_dir_vec": 0.95,
    "tf_random_seed": 7,
}


def weights(run: SmallRun) -> dict[str, torch.Tensor]:
    checkpoint = load_latest(run.checkpoints)
    assert checkpoint is not None
    return load_file(checkpoint.path / "state.safetensors")


@pytest.mark.parametrize("changes", [NEWER, OLDER], ids=["newer", "older"])
def test_train_five_steps_restore_and_train_five_more(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    states = []
    for name, calls in (("interrupted", (5, 10)), ("whole", (10,))):
        (tmp_path / name).mkdir()
        run = make_small_run(tmp_path / name, 40, **changes)
        run_trafo(run.config(), ON_CPU, overwrite=False)
        for iterations in calls:
            config = run.config(num_training_iterations=iterations)
            assert run_train(config, ON_CPU) == 0
        states.append(weights(run))
    first, second = states
    assert first.keys() == second.keys()
    assert any("bn.pop_var" in name for name in first)
    for name, tensor in first.items():
        assert torch.isfinite(tensor).all(), name
        assert torch.equal(tensor, second[name]), name
