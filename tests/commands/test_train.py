"""`train`: what it says where it cannot train, each in one message."""

from pathlib import Path

import pytest
import torch
from workspace import NUM_TRAINING, NUM_VALIDATION, Workspace, invoke

from dnn_reco.data.simulated_files import tutorial_path

KEPT_LABELS = [
    "EnergyVisible",
    "PrimaryEnergy",
    "PrimaryZenith",
    "PrimaryAzimuth",
    "PrimaryDirectionX",
    "PrimaryDirectionY",
    "PrimaryDirectionZ",
]


def test_without_a_transformation_model(workspace: Workspace) -> None:
    message = workspace.error("train")
    assert "there is no transformation model '../data/trafo_models/" in message
    assert "create_trafo_model.py" in message
    assert "dnn-reco trafo" in message
    assert not (workspace.folder / "data").exists()  # told before any data are read


def test_with_a_file_that_is_no_transformation_model(trained: Workspace) -> None:
    trained.trafo_model.write_text("hello")
    assert str(trained.trafo_model.name) in trained.error("train")


def test_transformation_model_made_with_other_settings(trained: Workspace) -> None:
    trained.set("trafo_norm_constant", "0.5")
    trained.set("trafo_treat_doms_equally", "false")
    trained.edit(r"^  PrimaryEnergy: true", "  PrimaryEnergy: false")
    message = trained.error("train")
    assert "does not fit the config" in message
    assert "norm_constant: 0.0001 in the model, 0.5 in the config" in message
    assert "treat_doms_equally: True in the model, False in the config" in message
    assert "log_label_bins" in message
    assert "normalize" not in message  # those agree


def test_checkpoint_of_a_model_with_other_labels(trained: Workspace) -> None:
    trained.append(f"label_keys_to_load: {KEPT_LABELS}")
    trained.set("trafo_model_path", "../data/trafo_models/few_labels.npy")
    assert trained.run("trafo").exit_code == 0
    message = trained.error("train", "--iterations", "2")
    assert "checkpoint-00000001' was trained with different labels" in message
    assert "'VertexX'" in message
    assert "'EnergyVisible'" not in message
    assert "unique_name" in message
    assert "model_restore_model: False" in message


def test_checkpoint_of_another_network(trained: Workspace) -> None:
    trained.edit(r"fc_sizes: \[50, -1\](?=(.*\n)+fc_unc_settings)", "fc_sizes: [40, -1]")
    message = trained.error("train", "--iterations", "2")
    assert "belongs to a different network" in message
    assert "unique_name" in message


def test_transformation_model_made_anew_after_training(trained: Workspace) -> None:
    trained.set("trafo_num_batches", "2")
    assert trained.run("trafo", "--overwrite").exit_code == 0
    message = trained.error("train", "--iterations", "2")
    assert "a different transformation model" in message


def test_nothing_to_do(trained: Workspace) -> None:
    result = trained.run("train")
    assert result.exit_code == 0
    assert "Nothing to do: 1 iterations are done, num_training_iterations is 1." in result.err
    assert result.out == ""


def test_tells_what_it_trains_on(trained: Workspace) -> None:
    result = trained.run("train", "--iterations", "2", "--device", "cpu")
    assert result.exit_code == 0
    for line in (
        f"training_data_file: {sum(NUM_TRAINING)} events in {len(NUM_TRAINING)} files.",
        f"validation_data_file: {NUM_VALIDATION} events in 1 file.",
        "trainable weights, on CPU, 1 thread.",
        "(training step 1).",
        "Training is done: 2 iterations, saved in '../checkpoints/",
    ):
        assert line in result.err


def test_without_num_threads_it_keeps_to_the_slot_of_the_batch_system(
    trained: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    result = invoke("train", trained.config, "--iterations", "2", "--device", "cpu")
    torch.set_num_threads(before)
    assert "trainable weights, on CPU, 1 thread." in result.err


def test_nothing_in_a_training_depends_on_an_order_of_chance(
    trained: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch refuses what it cannot do in a fixed order, on CPUs as well."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    try:
        result = trained.run("train", "--iterations", "2", "--deterministic")
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert result.exit_code == 0, result.err


def test_log_level_error_leaves_the_validations_alone(trained: Workspace) -> None:
    trained.set("validation_frequency", "1")
    result = trained.run(
        "train", "--iterations", "2", "--log_level", "ERROR", "--print-format", "reference"
    )
    assert result.err == ""
    assert result.out.startswith("Step: 00000001, ")


def test_a_table_is_printed_by_default(trained: Workspace) -> None:
    trained.set("validation_frequency", "2")
    trained.set("save_frequency", "4")
    result = trained.run("train", "--iterations", "9")
    assert result.exit_code == 0, result.err
    _, titles, *rows = result.out.splitlines()
    assert titles.split()[:3] == ["iteration", "training", "validation"]
    assert [row.split()[0] for row in rows] == ["2", "4", "6", "8", "9"]
    assert ["±" in row for row in rows] == [False, True, False, True, True]
    assert "Validation set after 9 iterations" in result.err
    assert "Validation set after 4" not in result.err


def test_quiet_training(trained: Workspace) -> None:
    trained.set("validation_frequency", "1")
    result = trained.run("train", "--iterations", "3", "--quiet")
    assert (result.exit_code, result.out, result.err) == (0, "", "")


def test_weight_for_a_label_that_is_not_there(trained: Workspace) -> None:
    trained.edit(r"^  EnergyVisible: 1.0", "  EnergyVisble: 1.0")
    message = trained.error("train", "--iterations", "2")
    assert "label_weight_dict: the data have no label 'EnergyVisble'" in message
    assert "Did you mean 'EnergyVisible'?" in message


def test_no_label_to_train(trained: Workspace) -> None:
    trained.edit(r"^  EnergyVisible: 1.0", "  EnergyVisible: 0.0")
    trained.edit(r"^  PrimaryEnergy: 0.1", "  PrimaryEnergy: 0.0")
    message = trained.error("train", "--iterations", "2")
    assert "no label has a weight above 0" in message
    assert "PrimaryZenith" in message


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_device_that_is_not_there(trained: Workspace, device: str) -> None:
    message = trained.error("train", "--device", device)
    assert f"the device '{device}' cannot be used" in message
    assert "--device" in message


@pytest.mark.parametrize("key", ["training_data_file", "validation_data_file"])
def test_no_files(trained: Workspace, key: str) -> None:
    trained.edit(rf"^({key}:)\n.*$", r"\1 '../nowhere/*.hdf5'")
    message = trained.error("train", "--iterations", "2")
    assert f"no file matches {key}:\n  ../nowhere/*.hdf5\n" in message


def test_biased_selection_as_production_configs_write_it(trained: Workspace) -> None:
    """Older spelling; marks by label and by what the network says; a third of the files a pool."""
    trained.set("num_add_files", "0")
    trained.set("num_repetitions", "3")
    trained.append(
        """'nn_biased_selection': {
    'apply_biased_selection': True,
    'reload_frequency': 1,
    'biased_fraction': 0.5,
    'label_greater': {},
    'label_equal': {'p_starting': True},
    'true_minus_pred_less': {},
    'cut_abs_diff': {'EnergyVisible': 300.},
    'cut_unc_weighted_diff_trafo': {'PrimaryEnergy': 2},
    'tf_parallelism_threads': 4,
}"""
    )
    trained.set("validation_frequency", "1")
    result = trained.run("train", "--iterations", "8", "--print-format", "reference")
    assert result.exit_code == 0, result.err
    assert result.out.count("Step: 0000") == 7
    for line in (
        "Biased selection: at least 50% interesting events, from pools of 43 events that are "
        "used 3 times each.",
        "is updated with the current weights every 1 pools, at most every 4 iterations.",
        "Biased selection begins now",
    ):
        assert line in result.err
    assert trained.run("train", "--iterations", "12").exit_code == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            "{biased_fraction: 0.5, cut_abs_diff: {}}",
            [
                "does not define which events are interesting",
                "label_greater",
                "cut_unc_weighted_diff_trafo",
                "apply_biased_selection: False",
            ],
        ),
        (
            "{label_less: {EnergyVisble: 3}}",
            [
                "nn_biased_selection.label_less: the data have no label 'EnergyVisble'",
                "the nearest is 'EnergyVisible'",
            ],
        ),
        (
            "{cut_abs_diff: {EnergyVisible: 3, VertexX: 10}}",
            ["nn_biased_selection.cut_abs_diff", "'VertexX'", "weight 0", "label_weight_dict"],
        ),
        (
            "{label_equal: {p_starting: True}}\nlabel_pid_smooth_labels: 0.1",
            ["'p_starting' is smoothed", "1 becomes 0.95", "label_greater: {p_starting: 0.5}"],
        ),
    ],
)
def test_mistakes_in_biased_selection(trained: Workspace, settings: str, words: list[str]) -> None:
    trained.append(f"nn_biased_selection: {settings}")
    message = trained.error("train", "--iterations", "2")
    for word in words:
        assert word in message


def test_biased_selection_can_be_switched_off(trained: Workspace) -> None:
    trained.append("nn_biased_selection: {biased_fraction: 0.5, apply_biased_selection: False}")
    result = trained.run("train", "--iterations", "2")
    assert result.exit_code == 0
    assert "Biased selection" not in result.err


def test_biased_selection_that_never_takes_new_weights_says_so(trained: Workspace) -> None:
    trained.append("nn_biased_selection: {cut_abs_diff: {EnergyVisible: 300}, reload_frequency: }")
    result = trained.run("train", "--iterations", "2")
    assert result.exit_code == 0, result.err
    assert "nn_biased_selection.reload_frequency is empty" in result.err


def test_mistake_in_a_learning_rate_schedule(trained: Workspace) -> None:
    schedule = "tensorflow.keras.optimizers.schedules.ExponentialDecay"
    rate = f"{{full_class_string: {schedule}, settings: {{decay_rate: 0.9}}}}"
    trained.set("optimizer_settings", f"{{learning_rate: {rate}}}")
    path = "model_optimizer_dict.gaussian.optimizer_settings.learning_rate.settings"
    for message in (
        trained.error("train", "--iterations", "2"),
        trained.run("config check").out,
    ):
        assert f"{path}: 'initial_learning_rate' is missing" in message
        assert f"{path}: 'decay_steps' is missing" in message
        assert "settings are initial_learning_rate, decay_steps, decay_rate, staircase" in message


def test_event_weights_from_misc_values_that_are_not_loaded(trained: Workspace) -> None:
    trained.append("event_weight_file: event_weights\nevent_weight_name: event_selection_weight")
    trained.append("event_weights_nugen_keys: [weights_flux]\nevent_weights_num_nugen_files: 10")
    message = trained.error("train", "--iterations", "2")
    assert "needs the misc value 'weights_flux', which is not loaded" in message
    assert "misc_load_dict" in message


def test_functions_and_schedules_of_the_reference_in_its_older_spelling(
    workspace: Workspace,
) -> None:
    """Labels by cuts, event weights, opening angles and a schedule in one training."""
    workspace.set("data_handler_label_file", "muon_scattering_labels")
    workspace.set("data_handler_label_name", "muon_scattering")
    workspace.set("evaluation_file", "default_evaluation")
    workspace.set("evaluation_name", "eval_direction")
    workspace.set("validation_frequency", "1")
    workspace.edit(r"^(label_weight_dict:)$", r"\1\n  p_bright: 1.0")
    workspace.edit(r"^(label_pid_keys:)$", r"\1\n  - p_bright")
    workspace.edit(r"^(misc_load_dict:)$", r"\1\n  MCPrimary: energy")
    workspace.append("labels_muon_scattering_defs: {p_bright: {EnergyVisible: 300}}")
    workspace.append("event_weight_file: event_weights\nevent_weight_name: event_selection_weight")
    workspace.append("event_weights_nugen_keys: MCPrimary_energy\nevent_weights_num_nugen_files: 5")
    schedule = "tf.keras.optimizers.schedules.CosineDecay"
    settings = "{initial_learning_rate: 0.001, decay_steps: 100}"
    workspace.set(
        "optimizer_settings",
        f"{{learning_rate: {{full_class_string: {schedule}, settings: {settings}}}}}",
    )
    assert workspace.run("trafo").exit_code == 0
    result = workspace.run("train", "--iterations", "2", "--print-format", "reference")
    assert result.exit_code == 0, result.err
    assert result.out.count("p_bright, mean: ") == 2
    assert result.out.count("\t[Validation] Opening Angle: mean ") == 4  # angles and vectors
    assert workspace.run("train", "--iterations", "3").exit_code == 0


def test_fill_value_of_a_misspelt_label(workspace: Workspace) -> None:
    """A warning: configs of the TensorFlow version may name labels that are not read."""
    workspace.append("label_nan_fill_value: {EnergyVisble: 0.0}")
    for command in ("trafo", "config check", "train --iterations 1"):
        result = workspace.run(*command.split() if "--" in command else [command])
        assert result.exit_code == 0, result.err
        text = "label_nan_fill_value names 'EnergyVisble', which is not in the data. Did you mean "
        assert text + "'EnergyVisible'?" in result.out + result.err


@pytest.mark.parametrize("key", ["event_weight_class", "evaluation_class"])
def test_misspelt_function(trained: Workspace, key: str) -> None:
    trained.append(f"{key}: dnn_reco.modules.evaluation.default_evaluation.eval_directions")
    message = trained.error("train", "--iterations", "2")
    assert f"'{key}' is" in message
    assert "the nearest name there is 'eval_direction'" in message


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("optimizer", "Adams", ["no optimizer 'Adams'", "Adam, AdamW, Adamax"]),
        ("loss_name", "gaussian_likelyhood", ["gaussian_likelyhood", "'gaussian_likelihood'"]),
        ("vars", "[pred, uncertainty]", ["uncertainty", "'pred', 'unc'"]),
        ("optimizer_settings", "{learnrate: 0.1}", ["'learnrate'", "is 'learning_rate'"]),
        ("optimizer_settings", "{beta_1: 1.5}", ["Invalid beta parameter"]),
        ("optimizer_settings", "{beta_1: high}", ["rejects these optimizer_settings"]),
    ],
)
def test_mistakes_in_an_optimizer(
    trained: Workspace, key: str, value: str, words: list[str]
) -> None:
    trained.edit(rf"^    {key}:.*$", f"    {key}: {value}")
    message = trained.error("train", "--iterations", "2")
    assert "model_optimizer_dict.gaussian" in message
    for word in words:
        assert word in message
    check = trained.run("config check")
    if key != "vars":  # what there is, the network knows
        assert check.exit_code == 1
        assert words[0] in check.out


def test_divergence_is_told_in_one_message(trained: Workspace) -> None:
    trained.set("optimizer_settings", "{learning_rate: 1.0e+35}")
    message = trained.error("train", "--iterations", "10")
    assert "the training diverged: in iteration " in message
    assert "The last checkpoint is kept: '../checkpoints/" in message
    assert "checkpoint-00000001'" in message
    assert "What helps:\n- a lower learning_rate" in message


def test_folder_that_cannot_be_written(trained: Workspace) -> None:
    Path("../taken").touch()
    trained.edit(r'^log_path: "../logs', 'log_path: "../taken')
    message = trained.error("train", "--iterations", "2")
    assert "../taken" in message


def test_validation_files_that_are_trained_on_are_refused(workspace: Workspace) -> None:
    file = tutorial_path(workspace.data, 1)
    workspace.edit(r"^(validation_data_file:)\n.*$", rf"\1 '{file}'")
    workspace.edit(r"^(trafo_num_batches:).*$", r"\1 1")
    assert workspace.run("trafo").exit_code == 0
    message = workspace.error("train")
    assert f"'{file}' is both in training_data_file and in validation_data_file" in message
    checked = workspace.run("config check")
    assert checked.exit_code == 1
    assert f"PROBLEM  '{file}' is both in training_data_file" in checked.out
    allowed = workspace.run("train", "--allow-overlap")
    assert allowed.exit_code == 0
    assert "is both in training_data_file and in validation_data_file" in allowed.err
    checked = workspace.run("config check", "--allow-overlap")
    assert checked.exit_code == 0


def test_shared_validation_and_test_files_are_a_note(workspace: Workspace) -> None:
    file = tutorial_path(workspace.data, 1000)
    workspace.edit(r"^(test_data_file:)\n.*$", rf"\1 '{file}'")
    checked = workspace.run("config check")
    assert checked.exit_code == 0
    assert "1 of the 1 files of test_data_file are also in validation_data_file" in checked.out
