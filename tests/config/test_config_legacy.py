"""The older spelling means the same as the newer one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dnn_reco import ConfigError
from dnn_reco.config import load_config

WriteConfig = Callable[..., Path]


def values(path: Path) -> dict[str, Any]:
    return load_config([path]).values()


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (
            "data_handler_label_file: my_labels\ndata_handler_label_name: load",
            "data_handler_label_class: dnn_reco.modules.data.labels.my_labels.load",
        ),
        (
            "data_handler_misc_file: default_misc\ndata_handler_misc_name: dummy_misc_loader",
            "data_handler_misc_class: dnn_reco.modules.data.misc.default_misc.dummy_misc_loader",
        ),
        (
            "data_handler_filter_file: f\ndata_handler_filter_name: g",
            "data_handler_filter_class: dnn_reco.modules.data.filter.f.g",
        ),
        (
            "event_weight_file: event_weights\nevent_weight_name: event_selection_weight",
            "event_weight_class: "
            "dnn_reco.modules.data.event_weights.event_weights.event_selection_weight",
        ),
        (
            "evaluation_file: default_evaluation\nevaluation_name: eval_direction",
            "evaluation_class: dnn_reco.modules.evaluation.default_evaluation.eval_direction",
        ),
        ("evaluation_file:\nevaluation_name:", "evaluation_class:"),
        (
            "model_file: general_IC86_models\nmodel_name: general_model_IC86",
            "model_class: dnn_reco.modules.models.general_IC86_models.general_model_IC86",
        ),
        (
            "keep_probability_list: [0.9, 0.8]",
            "model_kwargs: {keep_prob_dom: 0.9, keep_prob_conv: 0.8, keep_prob_flat: 1., "
            "keep_prob_fc: 1.0}",
        ),
        (
            "model_is_training: true\nmodel_enforce_direction_norm: false\n"
            "model_dir_z_independent: true\nmodel_limit_dir_vec: 1.0\ntf_random_seed: 3",
            "model_kwargs: {is_training: true, enforce_direction_norm: false, "
            "dir_z_independent: true, limit_dir_vec: 1.0, random_seed: 3}",
        ),
        (
            "conv_IC78_settings: {a: 1}\nconv_upper_DeepCore_settings: {b: 2}\n"
            "conv_lower_DeepCore_settings: {method_list: other}\nfc_settings: {d: 4}\n"
            "fc_unc_settings: {e: 5}",
            "model_kwargs:\n"
            "  conv_ic78_settings: {a: 1, method_list: hex_convolution}\n"
            "  conv_upper_deepcore_settings: {b: 2, method_list: convolution}\n"
            "  conv_lower_deepcore_settings: {method_list: other}\n"
            "  fc_settings: {d: 4}\n  fc_unc_settings: {e: 5}",
        ),
        (
            "model_kwargs: {conv_IC78_settings: {a: 1}}",
            "model_kwargs: {conv_ic78_settings: {a: 1}}",
        ),
        (
            "model_optimizer_dict: {A: {optimizer: AdamOptimizer, loss_file: default_loss, "
            "loss_name: mse, vars: unc}}",
            "model_optimizer_dict: {A: {optimizer: Adam, vars: [unc], "
            "loss_class: dnn_reco.modules.loss.default_loss.mse}}",
        ),
        (
            "model_optimizer_dict: {A: {optimizer: RMSPropOptimizer, loss_file: a, loss_name: b}}",
            "model_optimizer_dict: {A: {optimizer: RMSprop, "
            "loss_class: dnn_reco.modules.loss.a.b}}",
        ),
        (
            "model_optimizer_dict: {A: {loss_file: [a, b], loss_name: [c, d], "
            "optimizer: GradientDescentOptimizer}}",
            "model_optimizer_dict: {A: {optimizer: SGD, "
            "loss_class: [dnn_reco.modules.loss.a.c, dnn_reco.modules.loss.b.d]}}",
        ),
    ],
)
def test_both_spellings_mean_the_same(write: WriteConfig, older: str, newer: str) -> None:
    as_newer = values(write(newer + "\n", "newer.yaml"))
    assert values(write(older + "\n", "older.yaml")) == as_newer
    default = values(write("batch_size: 32\n", "default.yaml"))
    assert as_newer != default or ":\n" in older


def test_both_spellings_may_agree(write: WriteConfig) -> None:
    path = write(
        "model_class: dnn_reco.modules.models.f.g\nmodel_file: f\nmodel_name: g\n"
        "tf_random_seed: 3\nmodel_kwargs: {random_seed: 3}\n"
        "evaluation_class:\nevaluation_file: a\nevaluation_name: b\n"
        "model_optimizer_dict: {A: {loss_class: dnn_reco.modules.loss.f.g, loss_file: f, "
        "loss_name: g}}\n"
    )
    config = load_config([path])
    assert config.model.model_class == "dnn_reco.modules.models.f.g"
    assert config.seed == 3
    assert config.training.evaluation_class == "dnn_reco.modules.evaluation.a.b"
    assert config.optimizers["A"].loss_class == ("dnn_reco.modules.loss.f.g",)


def test_contradictions_name_both_lines(write: WriteConfig) -> None:
    path = write(
        "model_class: my.Net\n"
        "model_file: f\n"
        "model_name: g\n"
        "tf_random_seed: 3\n"
        "model_kwargs:\n"
        "  random_seed: 4\n"
        "model_optimizer_dict:\n"
        "  A:\n"
        "    loss_class: a.b\n"
        "    loss_file: f\n"
        "    loss_name: g\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config([path])
    text = str(caught.value)
    assert text.startswith("3 problems")
    assert f"{path}:3: 'model_name' is 'dnn_reco.modules.models.f.g', but 'model_class'" in text
    assert f"({path}:1) is 'my.Net'" in text
    assert f"{path}:4: 'tf_random_seed' is 3, but 'model_kwargs.random_seed' ({path}:6)" in text
    assert f"{path}:11: 'loss_file' and 'loss_name' are" in text
    assert f"'loss_class' ({path}:9) is 'a.b'" in text


def test_one_key_of_a_pair_alone(write: WriteConfig) -> None:
    path = write(
        "model_file: f\n"
        "evaluation_name: g\n"
        "model_optimizer_dict: {A: {loss_file: [a, b], loss_name: c}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config([path])
    text = str(caught.value)
    assert f"{path}:1: 'model_file' is set without 'model_name'" in text
    assert f"{path}:2: 'evaluation_name' is set without 'evaluation_file'" in text
    assert f"{path}:3: 'loss_file' has 2 entries, but 'loss_name' 1" in text


def test_wrong_older_values_are_located_where_they_are_written(write: WriteConfig) -> None:
    path = write("batch_size: 8\n\nkeep_probability_list:\n  - 0.9\n  - 1.5\n")
    with pytest.raises(ConfigError, match=f"{path}:5: 'model_kwargs.keep_prob_conv' is 1.5"):
        load_config([path])


def test_origins_contain_the_key_as_written(production_style: Path) -> None:
    origins = load_config([production_style]).origins
    lines = production_style.read_text(encoding="utf-8").splitlines()
    for newer, older in {
        "model_class": "model_name",
        "model_kwargs.conv_ic78_settings": "conv_IC78_settings",
        "model_kwargs.random_seed": "tf_random_seed",
        "model_kwargs.conv_ic78_settings.hex_num_rotations_list": "hex_num_rotations_list",
        "model_optimizer_dict.Warm.loss_class": "loss_name",
    }.items():
        origin = origins[newer]
        assert origin.key == older
        assert origin.line is not None
        assert lines[origin.line - 1].strip().startswith(f"'{older}'")
