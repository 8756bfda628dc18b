"""Reading, merging and placeholders of config files, and their error messages."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

import dnn_reco
from dnn_reco import ConfigError
from dnn_reco.config import (
    TRAFO_KEYS,
    TRAINING_KEYS,
    ScheduleSettings,
    load_config,
    load_stages,
)
from dnn_reco.config.sources import read_files
from dnn_reco.data.from_config import transform_settings
from dnn_reco.data.records import ColumnNames

WriteConfig = Callable[..., Path]


def message(*paths: Path, **overrides: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(paths, overrides)
    return str(caught.value)


def test_production_style_is_read_completely(production_style: Path) -> None:
    config = load_config([production_style])

    assert config.name == "production_style"
    assert config.data_files.training_data_file == (
        "/data/sim/NuGen/low/*/*.hdf5",
        "/data/sim/NuGen/p1=0.3_p2=0.0/*.hdf5",
    )
    assert config.data_files.validation_data_file == ("/data/sim/NuGen/val/*.hdf5",)
    assert config.data_files.trafo_data_file == ("/data/sim/cascade_classifier/*.hdf5",)
    assert config.general.log_path == (
        "../logs/cascade_classifier/general_IC86_models__general_model_IC86_opt4"
    )
    assert config.model.model_checkpoint_path == (
        "../checkpoints/nn_model/general_IC86_models__general_model_IC86_opt4/"
        "cascade_classifier/model"
    )
    assert config.data_handler.DOM_init_values == (0.0, -0.02, 0.5)
    assert config.misc.misc_load_dict == {
        "Tag": "value",
        "FilterMask": ("MuonFilter", "CascadeFilter"),
    }
    selection = config.biased_selection.nn_biased_selection
    assert selection is not None
    assert selection.label_equal == {"p_neutrino": 1.0}
    assert (selection.max_size, selection.max_imbalance) == (32, 100)
    assert config.labels.labels_muon_scattering_defs == {
        "p_b300": {"length_before": 300.0, "rel_loss": 0.9}
    }
    assert config.event_weights.event_weights_num_corsika_files == 2e9
    assert config.training.evaluation_class is None
    assert [notice.text for notice in config.notices] == [
        "accepted, without effect: file_capacity, batch_capacity, data_handler_num_splits, "
        "keep_global_count"
    ]
    assert config.extra == {}


def test_learning_rate_schedule_becomes_settings(production_style: Path) -> None:
    optimizer = load_config([production_style]).optimizers["Warm"]
    rate = optimizer.optimizer_settings["learning_rate"]
    assert isinstance(rate, ScheduleSettings)
    assert rate.full_class_string == "dnn_reco.utils.learning_rate.MultiLearningRateScheduler"
    assert rate.settings["boundaries"] == [1000]
    assert optimizer.vars == ("unc", "pred")
    assert optimizer.l2_regularization == 1e-5
    assert optimizer.clip_gradients_value is None


def test_a_pattern_that_is_listed_twice(write: WriteConfig) -> None:
    """Production configs do so to weight samples."""
    text = "training_data_file: [a/*.hdf5, b/*.hdf5, a/*.hdf5]\ntest_data_file: [a/*.hdf5]\n"
    (notice,) = load_config([write(text)]).notices
    assert notice.level == "info"
    assert ":1: training_data_file lists 'a/*.hdf5' 2 times" in notice.text


def test_record_of_the_reference_is_read(golden_network: Path) -> None:
    config = load_config([golden_network / "tf_checkpoint" / "config_training_0000.yaml"])
    assert config.training.num_training_iterations == 301
    assert config.model.model_checkpoint_manager_kwargs.max_to_keep == 3
    assert config.model.model_kwargs["conv_ic78_settings"]["pooling_type_list"][1] == "avg"
    assert config.labels.label_nan_fill_value == {"EnergyVisible": 0.0, "VertexTime": 0.0}
    assert config.extra == {}
    assert {notice.level for notice in config.notices} == {"info"}


def test_files_are_merged(write: WriteConfig) -> None:
    first = write("unique_name: a\nlog_path: '../logs/{config_name}/{batch_size}'\n", "one.yaml")
    second = write("batch_size: 8\n", "two.yaml")
    config = load_config([first, second])
    assert config.name == "one__two"
    assert config.general.log_path == "../logs/one__two/8"
    assert config.origins["batch_size"].path == second
    assert config.origins["log_path"].line == 2
    assert config.origins["num_jobs"].kind == "default"


def test_key_in_two_files(write: WriteConfig) -> None:
    first = write("unique_name: a\nbatch_size: 8\n", "one.yaml")
    second = write("# a comment\nbatch_size: 9\n", "two.yaml")
    text = message(first, second)
    assert f"{second}:2: the key 'batch_size' is already defined in {first}:2" in text


def test_key_twice_in_one_file_also_deep_inside(write: WriteConfig) -> None:
    path = write("batch_size: 8\nmisc_load_dict:\n  A: x\n  B: y\n  A: z\nbatch_size: 9\n")
    text = message(path)
    assert f"{path}:6: the key 'batch_size' is already defined in line 1" in text
    assert f"{path}:5: the key 'misc_load_dict.A' is already defined in line 3" in text


def test_overrides_replace_and_reach_placeholders(write: WriteConfig) -> None:
    path = write("unique_name: a\nlog_path: '../logs/{unique_name}'\nmodel_kwargs: {x: 1}\n")
    config = load_config([path], {"unique_name": "b", "seed": 5})
    assert config.general.log_path == "../logs/b"
    assert config.origins["unique_name"].kind == "override"
    assert config.seed == 5
    assert "nearest is 'batch_size'" in message(path, batch_sise=3)
    assert message(path, batch_size=0).splitlines()[1].startswith("override: 'batch_size' is 0")


def test_override_wins_over_the_older_spelling(write: WriteConfig) -> None:
    path = write("model_file: general_IC86_models\nmodel_name: general_model_IC86\n")
    config = load_config([path], {"model_class": "my.network.Net"})
    assert config.model.model_class == "my.network.Net"
    assert config.origins["model_class"].kind == "override"


@pytest.mark.parametrize(
    "value",
    [
        '"../logs/\\\n    {unique_name}/\\\n    end"',
        '"../logs/\\\n    {unique_name} / \\\n    end"',
        '"../logs/\n    {unique_name}/\n    end"',
    ],
)
def test_blanks_of_continued_lines_are_removed(write: WriteConfig, value: str) -> None:
    path = write(f"unique_name: net\nlog_path: {value}\n")
    assert load_config([path]).general.log_path == "../logs/net/end"


def test_placeholder_of_a_placeholder(write: WriteConfig) -> None:
    path = write("log_path: '{unique_name}/x'\nunique_name: '{stem}_1'\nstem: mine\n")
    assert load_config([path]).general.log_path == "mine_1/x"


def test_placeholders_that_cannot_be_filled(write: WriteConfig) -> None:
    path = write(
        "unique_name: a\nlog_path: '{uniqe_name}'\ntrafo_model_path: '{model_kwargs}'\n"
        "model_kwargs: {x: 1}\nmodel_checkpoint_path: '{mine}'\nmine: '{model_checkpoint_path}'\n"
    )
    text = message(path)
    assert f"{path}:2: the placeholder '{{uniqe_name}}' of 'log_path'" in text
    assert "the nearest is 'unique_name'" in text
    assert "'model_kwargs' holds {'x': 1}, which cannot be inserted into text" in text
    assert "it refers to itself: model_checkpoint_path -> mine -> model_checkpoint_path" in text


def test_placeholders_without_end(write: WriteConfig) -> None:
    """Such as in the config of a model folder of somebody else."""
    doubled = "".join(f"a{i}: '{{a{i + 1}}}{{a{i + 1}}}'\n" for i in range(40)) + "a40: x\n"
    assert "placeholders insert more than 100,000 characters" in message(write(doubled))
    chain = "".join(f"a{i}: '{{a{i + 1}}}'\n" for i in range(2000)) + "a2000: x\n"
    assert "more than 50 keys refer to each other" in message(write(chain))


def test_the_length_of_the_training_in_a_schedule(write: WriteConfig) -> None:
    path = write(
        """
num_training_iterations: 300
model_optimizer_dict:
  adam:
    loss_class: dnn_reco.modules.loss.default_loss.mse
    optimizer_settings:
      name: 'not {num_training_iterations} alone'
      learning_rate:
        full_class_string: dnn_reco.utils.learning_rate.MultiLearningRateScheduler
        settings:
          boundaries: [100]
          scheduler_settings: [{settings: {steps: '{num_training_iterations}'}}]
"""
    )
    for overrides, steps in (({}, 300), ({"num_training_iterations": 50}, 50)):
        settings = load_config([path], overrides).optimizers["adam"].optimizer_settings
        rate = settings["learning_rate"].settings
        assert rate["scheduler_settings"][0]["settings"] == {"steps": steps}
        assert rate["boundaries"] == [100]
        assert settings["name"] == "not {num_training_iterations} alone"


def test_the_length_until_the_end_of_a_stage_in_its_schedule(write: WriteConfig) -> None:
    path = write(
        """
training_stages:
  - num_training_iterations: 20
  - num_training_iterations: 30
model_optimizer_dict:
  adam:
    loss_class: dnn_reco.modules.loss.default_loss.mse
    optimizer_settings:
      learning_rate:
        full_class_string: dnn_reco.utils.learning_rate.Cosine
        settings: {rate: 0.1, steps: '{num_training_iterations}'}
"""
    )
    found = [
        stage.optimizers["adam"].optimizer_settings["learning_rate"].settings["steps"]
        for stage in load_stages([path])
    ]
    assert found == [20, 50]


def test_tutorial_placeholder_names_the_command(write: WriteConfig) -> None:
    text = message(write("unique_name: a\ntest_data_file: ['{insert_DNN_HOME}/*.hdf5']\n"))
    assert "config.yaml:2" in text
    assert "sed -i -e 's,{insert_DNN_HOME},'\"$DNN_HOME\"',g'" in text


def test_files_that_are_no_config(write: WriteConfig, tmp_path: Path) -> None:
    assert "does not exist" in message(tmp_path / "absent.yaml")
    assert "is empty" in message(write("# only a comment\n"))
    assert "holds a list" in message(write("- a\n- b\n"))
    assert "holds a single value" in message(write("text\n"))
    assert "no config file is given" in message()
    broken = write("batch_size: 8\nmisc_load_dict: {A: [x\nunique_name: b\n")
    assert f"{broken}:3: not valid YAML at column" in message(broken)
    two = message(write("[1, 2] x\n"))
    assert two.endswith("expected '<document start>', but found '<scalar>'")
    tagged = write("unique_name: !!python/object/apply:os.getcwd []\n")
    assert f"{tagged}:1: not valid YAML at column" in message(tagged)


@pytest.mark.parametrize("value", ["[x_[89].hdf5, y.hdf5]", "[*.hdf5]", "*.hdf5", "{run}_*.hdf5"])
def test_file_patterns_need_quotes(write: WriteConfig, value: str) -> None:
    found = message(write(f"unique_name: a\ntraining_data_file: {value}\n"))
    assert ":2: not valid YAML" in found
    assert found.endswith(". File names with *, [ ] or { } need quotes")
    assert "need quotes" not in message(write("unique_name: [a\nbatch_size: 2\n"))


def test_all_problems_are_reported_at_once(write: WriteConfig) -> None:
    path = write(
        "batch_size: many\nsave_frequency: -5\nlabel_weight_dict: {Energy: heavy}\n"
        "log_path: '{nothing}'\nfloat_precision: float16\n"
    )
    text = message(path)
    assert text.startswith(f"5 problems in the config ({path})")
    assert f"{path}:1: 'batch_size' is 'many' (text); allowed: a whole number > 0" in text
    assert f"{path}:2: 'save_frequency' is -5 (number); allowed: a whole number > 0" in text
    assert (
        f"{path}:3: 'label_weight_dict.Energy' is 'heavy' (text); allowed: 'label_weight_dict' is "
        "a mapping name: number >= 0"
    ) in text
    assert f"{path}:5: 'float_precision' is 'float16' (text); allowed: float32 or float64" in text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("unique_name: 2024", "write text that looks like a number in quotes"),
        ("training_data_file: 3", "allowed: a name, or a list of names"),
        ("trafo_log_dom_bins: {a: true}", "allowed: true, false, or a list of true/false"),
        ("trafo_log_label_bins: [1, 2]", "allowed: true, false, a list of true/false, or a map"),
        ("misc_load_dict: {Labels: 3}", "allowed: a mapping table: column"),
        ("filter_equal: {a: [1]}", "'filter_equal.a' is [1] (list)"),
        ("nn_biased_selection: {biased_fraction: 0}", "allowed: a number > 0 and <= 1"),
        ("label_pid_smooth_labels: 1.5", "allowed: a number from 0 to 1; or empty"),
        ("model_class: GeneralIC86CNN", "allowed: a dotted name (package.module.name)"),
        ("event_weights_nugen_keys: 3", "allowed: a name, or a list of names; or empty"),
        ("label_update_weights: perhaps", "allowed: true or false"),
        ("DOM_init_values: [[0., x]]", "'DOM_init_values' is [[0.0, 'x']]"),
        ("model_kwargs: {keep_prob_dom: 1.2}", "allowed: a number > 0 and <= 1"),
        ("keep_probability_list: [0.0]", "'model_kwargs.keep_prob_dom' is 0.0"),
        ("tf_random_seed: lucky", "'model_kwargs.random_seed' is 'lucky' (text)"),
        ("keep_probability_list: 0.9", "a list of up to four probabilities"),
        ("model_kwargs: 7", "'model_kwargs' is 7 (number); allowed: a mapping of settings"),
        ("model_optimizer_dict: {A: {}}", "'model_optimizer_dict.A' lacks the key 'loss_class'"),
        ("model_optimizer_dict: [A]", "allowed: a mapping"),
        ("model_optimizer_dict: {A: 3}", "'model_optimizer_dict.A' is 3"),
        (
            "model_optimizer_dict: {A: {loss_class: a.b, l2_regularization: -1}}",
            "'model_optimizer_dict.A.l2_regularization' is -1 (number); allowed: a number >= 0",
        ),
        (
            "model_optimizer_dict: {A: {loss_class: a.b, optimizer_settings: {learning_rate: 0}}}",
            "its learning_rate is 0; allowed: a number > 0 or a schedule",
        ),
    ],
)
def test_wrong_values(write: WriteConfig, line: str, expected: str) -> None:
    path = write(line + "\n")
    text = message(path)
    assert expected in text
    assert text.startswith("1 problem in the config")
    assert f"{path}:1: " in text


def test_entries_must_fit_the_number_of_bins(write: WriteConfig) -> None:
    path = write(
        "data_handler_num_bins: 3\ntrafo_log_dom_bins: [true]\nDOM_init_values: [0., 1.]\n"
    )
    text = message(path)
    assert f"{path}:2: 'trafo_log_dom_bins' has 1 entries" in text
    assert f"{path}:3: 'DOM_init_values' has 2 entries" in text
    assert f"'data_handler_num_bins' ({path}:1) is 3" in text


def test_numbers_in_quotes_are_fine(write: WriteConfig) -> None:
    config = load_config([write("batch_size: '64'\nlabel_add_dir_vec: 'true'\n")])
    assert config.general.batch_size == 64
    assert config.labels.label_add_dir_vec is True


def test_empty_values_mean_not_set(write: WriteConfig) -> None:
    config = load_config(
        [
            write(
                "label_weight_dict:\ntrafo_model_path:\ndata_handler_relative_time_key_pattern:\n"
                "model_checkpoint_manager_kwargs: {max_to_keep: }\n"
            )
        ]
    )
    assert config.labels.label_weight_dict == {}
    assert config.data_handler.data_handler_relative_time_key_pattern is None
    assert config.model.model_checkpoint_manager_kwargs.max_to_keep is None
    with pytest.raises(ConfigError, match="'trafo_model_path' is not set"):
        config.require("trafo_model_path")


def test_missing_keys_are_reported_when_they_are_needed(write: WriteConfig) -> None:
    path = write("training_data_file: '*.hdf5'\n")
    config = load_config([path])
    config.require("training_data_file", "batch_size")
    with pytest.raises(ConfigError, match="'data_handler_label_key' is not set: Table of the la"):
        config.require("data_handler_label_key")
    with pytest.raises(ConfigError) as caught:
        config.require("trafo_model_path", "unique_name", "training_data_file")
    text = str(caught.value)
    assert str(path) in text
    assert "'trafo_model_path' is not set: File of the transformation model." in text
    assert "trafo_model_path: '../data/trafo_models/my_trafo_model.npy'" in text
    assert "unique_name: my_first_model" in text
    assert "training_data_file" not in text
    with pytest.raises(ConfigError, match="'model_class' is not set"):
        _ = config.model.model_class


def test_settings_cannot_be_changed(write: WriteConfig) -> None:
    config = load_config([write("batch_size: 8\n")])
    with pytest.raises(ValueError, match="frozen"):
        config.general.batch_size = 9  # type: ignore[misc]


def test_unknown_keys_are_kept_with_a_warning(write: WriteConfig) -> None:
    path = write(
        "my_own: {a: [1, 2]}\nnn_biased_selection: {biased_part: 0.2}\n"
        "model_optimizer_dict:\n  A: {loss_class: dnn_reco.b, penalty: 1.0}\n"
    )
    config = load_config([path])
    assert config.extra == {"my_own": {"a": [1, 2]}}
    warnings = [notice.text for notice in config.notices if notice.level == "warning"]
    assert len(warnings) == 3
    assert warnings[0] == f"{path}:1: unknown key 'my_own'. It is kept for your own functions"
    assert f"{path}:2: unknown key 'biased_part'" in warnings[1]
    assert "nearest known key is 'biased_fraction'" in warnings[1]
    assert f"{path}:4: unknown key 'penalty'" in warnings[2]
    assert config.unknown_keys == (
        "my_own",
        "nn_biased_selection.biased_part",
        "model_optimizer_dict.A.penalty",
    )


def test_misspelt_keys_are_errors(write: WriteConfig) -> None:
    path = write(
        "batch_sise: 8\nkeep_probabilty_list: [0.9]\n"
        "nn_biased_selection: {biased_fracton: 0.2}\n"
        "model_optimizer_dict:\n  A:\n    loss_class: dnn_reco.b\n    l2_regularisation: 1.0\n"
        "    optimizer_settings:\n      learning_rate: {full_class_string: a.b, setings: {c: 1}}\n"
    )
    text = message(path)
    assert f"{path}:1: unknown key 'batch_sise': did you mean 'batch_size'?" in text
    assert f"{path}:2: unknown key 'keep_probabilty_list': did you mean 'keep_proba" in text
    assert f"{path}:3: unknown key 'biased_fracton' in 'nn_biased_selection': did you mean" in text
    assert f"{path}:7: unknown key 'l2_regularisation' in 'model_optimizer_dict.A'" in text
    assert f"{path}:9: unknown key 'setings' in" in text
    assert text.count("did you mean") == 5


@pytest.mark.parametrize(
    "more",
    [
        "batch_size: 8",  # the known key is set
        "data_handler_label_class: my_labels.load",  # functions of users may read other keys
        "model_optimizer_dict: {A: {loss_class: my_losses.loss}}",
        "unique_name: 'of {batch_sise}'",  # the key fills a placeholder
    ],
)
def test_similar_keys_that_are_no_mistakes(write: WriteConfig, more: str) -> None:
    config = load_config([write(f"batch_sise: 8\n{more}\n")])
    assert config.extra == {"batch_sise": 8}
    assert ("batch_sise" in config.unknown_keys) is ("{" + "batch_sise}" not in more)


def test_override_does_not_hide_a_misspelt_key(write: WriteConfig) -> None:
    path = write("num_training_iteration: 8\n")
    assert "did you mean 'num_training_iterations'" in message(path, num_training_iterations=5)


@pytest.mark.parametrize(
    "line",
    [
        "batch_size: true",
        "batch_size:",
        "trafo_norm_constant: false",
        "label_update_weights:",
        "float_precision:",
        "nn_biased_selection: {max_size: true}",
        "nn_biased_selection: {max_size: }",
        "label_weight_dict: {EnergyVisible: true}",
    ],
)
def test_flag_or_nothing_where_a_value_is_needed(write: WriteConfig, line: str) -> None:
    path = write(f"# a comment\n{line}\n")
    text = message(path)
    assert text.startswith("1 problem")
    assert f"{path}:2: '" in text
    assert "allowed: " in text


def test_lists_of_layers_that_are_too_short(write: WriteConfig) -> None:
    path = write(
        "model_file: general_IC86_models\nmodel_name: general_model_IC86\n"
        "conv_IC78_settings:\n"
        "  num_filters_list: [10, 10, 10]\n"
        "  activation_list: [elu, elu]\n"
        "  strides_list: [1, 2, 2, 2, 1]\n"
        "  filter_size_list: [[1, 0, 1], [1, 0, 1], [1, 0, 1], [1, 0, 1]]\n"
        "fc_settings:\n"
        "  fc_sizes: [50]\n"
        "  activation_list: [elu, '']\n"
        "  use_dropout_list: [true, false]\n"
    )
    text = message(path)
    assert f"{path}:5: 'model_kwargs.conv_ic78_settings.activation_list' has 2 entries" in text
    assert f"'num_filters_list' ({path}:4) has 3" in text
    assert f"{path}:9: 'model_kwargs.fc_settings.fc_sizes' has 1 entries, but all other" in text
    assert text.startswith("2 problems")


def test_surplus_log_flags_have_no_effect(write: WriteConfig) -> None:
    path = write("data_handler_num_bins: 2\ntrafo_log_dom_bins: [true, false, true]\n")
    config = load_config([path])
    assert config.trafo.trafo_log_dom_bins == (True, False)
    (notice,) = config.notices
    assert notice.level == "warning"
    assert f"{path}:2: 'trafo_log_dom_bins' has 3 entries" in notice.text
    assert "the last 1 have no effect" in notice.text


def test_list_of_files_may_be_empty(write: WriteConfig) -> None:
    config = load_config([write("trafo_data_file: []\n")])
    assert config.data_files.trafo_data_file == ()


def test_pool_keys_have_an_effect_only_with_biased_selection(write: WriteConfig) -> None:
    text = "num_add_files: 2\nnum_repetitions: 3\n"
    (notice,) = load_config([write(text)]).notices
    assert notice.text == "accepted, without effect: num_add_files, num_repetitions"
    assert not load_config([write(text + "nn_biased_selection: {biased_fraction: 0.5}\n")]).notices


def test_keys_of_biased_selection_that_tuned_the_reference_are_named(write: WriteConfig) -> None:
    text = "nn_biased_selection: {label_less: {a: 1}, GPU_device_count: 4}\n"
    (notice,) = load_config([write(text)]).notices
    assert notice.text == "accepted, without effect: nn_biased_selection.GPU_device_count"


@pytest.mark.parametrize(
    ("version", "more", "accepted"),
    [
        ("0.1.0", "", True),
        ("'2.0.1'", "", True),  # of the reference
        ("3.0.0", "", False),
        ("2.0.0", "python_version: '3.12'", False),  # a later version of this package
        ("0.9.9", "machine: Linux", True),
        ("unknown", "", False),
    ],
)
def test_major_version_of_a_record(
    write: WriteConfig, version: str, more: str, accepted: bool
) -> None:
    path = write(f"batch_size: 8\ndnn_reco_version: {version}\n{more}\n")
    if accepted:
        assert load_config([path]).general.batch_size == 8
    else:
        assert f"{path}:2: 'dnn_reco_version' is " in message(path)


@pytest.mark.parametrize(
    ("text", "seed"),
    [
        ("batch_size: 1", 42),
        ("tf_random_seed: 3", 3),
        ("model_kwargs: {random_seed: 4}", 4),
        ("seed: 0\nmodel_kwargs: {random_seed: 4}", 0),
    ],
)
def test_seed(write: WriteConfig, text: str, seed: int) -> None:
    assert load_config([write(text + "\n")]).seed == seed


def test_event_store_lies_next_to_the_transformation_models(write: WriteConfig) -> None:
    path = write("trafo_model_path: '../data/trafo_models/a.npy'\n")
    assert load_config([path]).event_store == Path("../data/event_store")
    config = load_config([path], {"data_cache_dir": Path("/scratch/x")})
    assert config.event_store == Path("/scratch/x")


def assert_survives_yaml(path: Path, write: WriteConfig) -> None:
    config = load_config([path])
    again = load_config([write(config.to_yaml(), "again.yaml")])
    assert again.values() == config.values()
    assert again.to_yaml() == config.to_yaml()
    assert [notice for notice in again.notices if notice.level == "warning"] == []


def test_complete_yaml_loads_to_the_same_settings(
    production_style: Path, write: WriteConfig
) -> None:
    assert_survives_yaml(production_style, write)


def test_complete_yaml_of_a_record(golden_network: Path, write: WriteConfig) -> None:
    assert_survives_yaml(golden_network / "tf_checkpoint" / "config_training_0000.yaml", write)


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("model_optimizer_dict: {}", "at least one"),
        (
            "model_optimizer_dict: {A: {loss_class: a.b, optimizer_settings: {lr: 1, "
            "learning_rate: .inf}}}",
            "a number > 0 or a schedule",
        ),
        ('log_path: "a\\0b"', "allowed: text"),
        ("seed: 18446744073709551616", "< 2^63"),
        ("tf_random_seed: 9223372036854775808", "< 2^63"),
        ("batch_size: 1000000000", "<= 1,000,000"),
        ("data_handler_num_bins: 1000000000", "<= 10,000"),
        ("save_frequency: 100000000000000000000", "a whole number > 0"),
    ],
)
def test_values_out_of_range(write: WriteConfig, line: str, allowed: str) -> None:
    path = write(f"# a comment\n{line}\n")
    text = message(path)
    assert text.startswith("1 problem in the config")
    assert f"{path}:2: '" in text
    assert allowed in text


BILLION_LAUGHS = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in pairwise("abcdefghij")
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("batch_size: 8\nmine: &a [*a]\n", ":2: this list refers to itself"),
        ("mine: &a {one: {two: *a}}\n", ":1: this mapping refers to itself"),
        ("&a {<<: *a, batch_size: 8}\n", ":1: this mapping refers to itself"),
        ("mine: " + "[" * 60 + "]" * 60, ":1: this list is nested too deeply"),
        ("mine: " + "[" * 500 + "]" * 500, "is nested too deeply"),
        ("mine: " + "{a: " * 300 + "1" + "}" * 300, "is nested too deeply"),
        (BILLION_LAUGHS, ":5: this list has 1.1e+05 values, with all aliases filled in"),
        ("mine: {? {a: [1]} : 2}\n", "config.yaml"),
    ],
    ids=["list", "mapping", "merge", "60", "500", "mappings", "laughs", "key"],
)
def test_aliases_and_levels_without_bounds(write: WriteConfig, text: str, words: str) -> None:
    assert words in message(write(text))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mine: 2001-99-99", ":2: '2001-99-99' is not a valid timestamp (month must be in 1..12)"),
        ("mine: !!int abc", ":2: 'abc' is not a valid int"),
        ("mine: [1, !!bool maybe]", ":2: 'maybe' is not a valid bool"),
        ("mine: " + "9" * 5000, f":2: '{'9' * 50}…' is not a valid int"),
    ],
    ids=["date", "int", "bool", "digits"],
)
def test_values_that_their_type_does_not_have(write: WriteConfig, text: str, words: str) -> None:
    assert words in message(write(f"batch_size: 8\n{text}\n"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("!!python/unicode 'nue'", "nue"),
        ("!!python/unicode '9'", "9"),
        ("!!python/tuple [1, 2.0]", [1, 2.0]),
        ("!!python/object/apply:os.system ['ls']", ["ls"]),
        ("!!python/dict {a: !mine yes}", {"a": "yes"}),
        ("!!binary eA==", "eA=="),
        ("!!str 9", "9"),
        ("!!float 9", 9.0),
        ("2.5", 2.5),
    ],
)
def test_tags_can_be_left_out(write: WriteConfig, text: str, value: object) -> None:
    problems: list[str] = []
    path = write(f"mine: &a {text}\nother: *a\n")
    assert read_files([path], problems, ignore_tags=True).values == {"mine": value, "other": value}
    assert problems == []


def test_aliases_and_merge_keys_still_work(write: WriteConfig) -> None:
    path = write("mine: &a {one: [1, 2], two: 2}\nother: {<<: *a, two: 3}\nthird: [*a, *a]\n")
    extra = load_config([path]).extra
    assert extra["other"] == {"one": [1, 2], "two": 3}
    assert extra["third"] == [extra["mine"]] * 2


def test_one_initial_value_is_that_of_all_bins(write: WriteConfig) -> None:
    for text, expected in (("0.5", (0.5, 0.5, 0.5)), ("[1., 2., 3.]", (1.0, 2.0, 3.0))):
        path = write(f"data_handler_num_bins: 3\nDOM_init_values: {text}\n")
        assert load_config([path]).dom_init_values == expected
    path = write("data_handler_num_bins: 3\n")
    assert load_config([path]).dom_init_values == (0.0, 0.0, 0.0)


def test_files_that_cannot_be_read(write: WriteConfig, tmp_path: Path) -> None:
    assert f"the config file '{tmp_path}' cannot be read" in message(tmp_path)
    path = tmp_path / "latin.yaml"
    path.write_bytes("unique_name: \u00fc\n".encode("latin-1"))
    assert f"the config file '{path}' cannot be read" in message(path)
    path = write("unique_name: a\x07b\n")
    assert f"the config file '{path}' is not YAML" in message(path)
    path = write("5: a\n")
    assert f"the config file '{path}' has the key 5: a key must be a name" in message(path)


def test_log_flags_of_a_list_fit_the_columns(write: WriteConfig) -> None:
    names = ColumnNames(("energy", "zenith"), ("weight",))
    text = "data_handler_num_bins: 2\ntrafo_log_misc_bins: true\ntrafo_log_label_bins: "

    def flags(value: str) -> tuple[bool, ...]:
        return transform_settings(load_config([write(f"{text}{value}\n")]), names).log_label_bins

    assert flags("true") == (True, True)
    assert flags("[true, false]") == (True, False)
    assert flags("{zenith: true}") == (False, True)
    for value in ("[true]", "[true, false, true]"):
        with pytest.raises(ConfigError, match=r"lists \d flags for 2 columns \(energy, zenith\)"):
            flags(value)


@pytest.mark.parametrize(
    ("key", "is_path"),
    [
        *[(key, True) for key in ("log_path", "data_cache_dir", "trafo_model_path")],
        *[(f"{part}_data_file", True) for part in ("training", "validation", "test", "trafo")],
        ("model_checkpoint_path", True),
        ("unique_name", False),
        ("mine", False),
    ],
)
def test_blanks_beside_slashes_are_removed_from_paths_alone(
    write: WriteConfig, key: str, is_path: bool
) -> None:
    values = load_config([write(f"{key}: '../a / b/ c.x '\n")]).plugin_view()
    expected = "../a/b/c.x" if is_path else "../a / b/ c.x "
    assert values[key] == ([expected] if key.endswith("_file") else expected)


def test_keys_without_effect_are_listed_in_one_note(write: WriteConfig) -> None:
    without = {
        **dict.fromkeys(("file_capacity", "batch_capacity", "data_handler_num_splits"), 5),
        **dict.fromkeys(
            ("data_handler_max_file_chunk_size", "num_add_files", "num_repetitions"), 5
        ),
        **dict.fromkeys(("dom_response_shape", "hypothesis_smearing", "keep_global_count"), "a"),
        **dict.fromkeys(("trafo_load_model", "trafo_save_model"), True),
    }
    text = "".join(f"{key}: {value}\n" for key, value in without.items())
    biased = "nn_biased_selection: {apply_biased_selection: false, GPU_device_count: 1}\n"
    (notice,) = load_config([write(text + biased)]).notices
    assert notice.level == "info"
    start, _, listed = notice.text.partition(": ")
    assert start == "accepted, without effect"
    assert set(listed.split(", ")) == {*without, "nn_biased_selection.GPU_device_count"}
    assert load_config([write("batch_size: 3\nfile_capacity:\n")]).notices == ()


def test_keys_of_a_record_are_no_settings(write: WriteConfig) -> None:
    """They are what `config_training_NNNN.yaml` holds besides."""
    keys = ["command", "git_changed_files", "git_origin", "git_sha", "git_short_sha", "machine"]
    keys += ["git_uncommited_changes", "pip_installed_packages", "python_version", "config_name"]
    keys += ["np_float_precision", "tf_float_precision"]
    text = "".join(f"{key}: a\n" for key in keys) + f"dnn_reco_version: {dnn_reco.__version__}\n"
    config = load_config([write(text)])
    assert config.notices == ()
    assert not config.extra
    assert not {*keys, "dnn_reco_version"} & {*config.origins}


NEEDED_TO_TRAIN = {
    *("unique_name", "training_data_file", "validation_data_file", "data_handler_num_bins"),
    *("trafo_model_path", "num_training_iterations", "log_path", "model_class"),
    *("model_checkpoint_path", "model_optimizer_dict"),
}
NEEDED_FOR_TRAFO = {
    *("trafo_data_file", "trafo_num_batches", "trafo_model_path", "data_handler_num_bins"),
}


@pytest.mark.parametrize(
    ("keys", "expected"), [(TRAINING_KEYS, NEEDED_TO_TRAIN), (TRAFO_KEYS, NEEDED_FOR_TRAFO)]
)
def test_keys_that_a_command_needs(
    write: WriteConfig, keys: tuple[str, ...], expected: set[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config([write("batch_size: 3\n")]).require(*keys)
    assert set(re.findall("the key '(\\w+)' is not set", str(caught.value))) == expected


def test_functions_see_keys_of_modules_only_where_they_are_set(write: WriteConfig) -> None:
    """A function of a user may ask whether a key is there."""
    unset = ["label_keys_to_load", "labels_muon_scattering_defs", "event_weights_nugen_keys"]
    unset += ["labels_starting_cascades_lengths", "nersc_gnn_weight_num_nugen_files"]
    view = load_config([write("event_weights_corsika_keys: [a]\nmine: 5\n")]).plugin_view()
    assert not {*unset} & {*view}
    assert view["event_weights_corsika_keys"] == ["a"]
    assert view["mine"] == 5
    assert view["label_zenith_key"] is None  # a key of its own right
    assert view["tf_random_seed"] == 42
    assert view["config_name"] == "config"
    assert view["data_handler_label_file"] == "default_labels"
    assert view["data_handler_label_name"] == "simple_label_loader"


def test_name_of_a_config(write: WriteConfig) -> None:
    """That of its files, joined by two underscores."""
    first, second = write("batch_size: 8\n", "data.yaml"), write("log_path: a\n", "net.yml")
    assert load_config([first, second]).name == "data__net"


def test_lists_in_the_settings_of_other_networks_may_have_any_length(write: WriteConfig) -> None:
    text = "model_kwargs: {a_settings: {fc_sizes: [5, 5, 5], activation_list: [elu]}}\n"
    load_config([write(text + "model_class: my_network.Net\n")])
    load_config([write(text)])
    ours = "model_class: dnn_reco.modules.models.general_IC86_cnn.GeneralIC86CNN\n"
    found = message(write(text + ours))
    assert "'model_kwargs.a_settings.activation_list' has 1 entries, but 'fc_sizes'" in found
