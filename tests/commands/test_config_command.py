"""`config show`, `config check`, and mistakes in config files as any command tells them."""

from pathlib import Path

import pytest
from workspace import Result, Workspace, invoke


def told(result: Result) -> str:
    """The one message of a command that failed for its config."""
    assert result.exit_code == 1
    assert result.out == ""
    assert result.err.startswith("Error: ")
    assert result.err.count("Error: ") == 1
    assert "Traceback" not in result.err
    return result.err


# --------------------------------------------------------------------------------------------------
# Show and check
# --------------------------------------------------------------------------------------------------
def test_show_tells_values_and_where_they_come_from(workspace: Workspace) -> None:
    result = workspace.run("config show")
    assert result.exit_code == 0
    assert result.err == ""
    rows = {line.split(":")[0]: line.split() for line in result.out.splitlines()}
    number = workspace.line_of("batch_size:")
    assert rows["batch_size"] == ["batch_size:", "32", "#", f"getting_started.yaml:{number}"]
    assert rows["shuffle_window_files"][-1] == "default"
    assert rows["data_handler_label_class"][-1] == "(data_handler_label_name)"  # as it was written
    assert rows["model_checkpoint_path"][1] == (
        '"../checkpoints/nn_model/general_IC86_models__general_model_IC86/getting_started/model"'
    )


def test_check_of_a_config_that_is_ready(workspace: Workspace) -> None:
    result = workspace.run("config check")
    assert result.exit_code == 0
    assert "PROBLEM" not in result.out
    assert "Stage" not in result.out  # only a training of several stages has them
    assert "training_data_file: 3 files" in result.out
    assert "default_loss.gaussian_likelihood" in result.out
    assert result.out.endswith("getting_started: ready for training\n")


def test_check_lists_all_problems(workspace: Workspace) -> None:
    workspace.edit(r"^(training_data_file:)\n.*$", r"\1 '../nowhere/*.hdf5'")
    workspace.set("    loss_name", "mse_of_some_kind")
    workspace.edit(r"^trafo_model_path:.*$", "")
    result = workspace.run("config check")
    assert result.exit_code == 1
    problems = [line for line in result.out.splitlines() if line.startswith("PROBLEM")]
    assert len(problems) == 3
    assert any("no file matches '../nowhere/*.hdf5'" in problem for problem in problems)
    assert any("mse_of_some_kind" in problem for problem in problems)
    assert "'trafo_model_path' is not set" in result.out
    assert result.out.endswith("getting_started: 3 problems\n")


# --------------------------------------------------------------------------------------------------
# Files
# --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("command", ["count", "trafo", "train", "config show", "config check"])
def test_file_that_is_not_there(command: str, workspace: Workspace) -> None:
    message = told(invoke(*command.split(), "geting_started.yaml"))
    assert "'geting_started.yaml' does not exist" in message
    assert str(workspace.directory) in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("- batch_size\n", "holds a list"),
        ("batch_size: 32\nnum_jobs: [1, 2\n", "not valid YAML"),
        ("batch_size: 32\n\tnum_jobs: 1\n", "not valid YAML"),
    ],
)
def test_file_that_is_no_config(content: str, words: str, workspace: Workspace) -> None:
    workspace.config.write_text(content)
    message = told(workspace.run("count"))
    assert words in message
    assert str(workspace.config) in message


def test_several_files_are_merged_and_a_key_in_two_is_an_error(workspace: Workspace) -> None:
    text = workspace.config.read_text()
    workspace.config.write_text(text.replace("batch_size: 32", ""))
    more = Path("more.yaml")
    more.write_text("batch_size: 16\n")
    assert workspace.run("trafo", more).exit_code == 0
    more.write_text("batch_size: 16\nunique_name: mine\n")
    message = told(workspace.run("trafo", more))
    assert "more.yaml:2: the key 'unique_name' is already defined" in message
    assert f"getting_started.yaml:{workspace.line_of('unique_name')}" in message


# --------------------------------------------------------------------------------------------------
# Keys and values
# --------------------------------------------------------------------------------------------------
def test_sed_of_the_tutorial_was_forgotten(workspace: Workspace) -> None:
    text = workspace.config.read_text()
    workspace.config.write_text(text.replace(str(workspace.data), "{insert_DNN_HOME}/data"))
    message = told(workspace.run("count"))
    assert "'{insert_DNN_HOME}' must be replaced" in message
    assert "sed -i -e 's,{insert_DNN_HOME},'\"$DNN_HOME\"',g'" in message


def test_misspelt_key_is_an_error_with_the_name_that_was_meant(workspace: Workspace) -> None:
    workspace.edit(r"^validation_frequency", "validation_frequncy")
    number = workspace.line_of("validation_frequncy")
    message = told(workspace.run("count"))
    assert f"{workspace.config}:{number}: unknown key 'validation_frequncy'" in message
    assert "did you mean 'validation_frequency'?" in message


def test_unknown_keys_are_repeated_at_the_end(workspace: Workspace) -> None:
    workspace.append("my_threshold: 3")
    result = workspace.run("config check")
    assert result.exit_code == 0
    assert result.out.splitlines()[-1] == (
        "getting_started: ready for training; unknown keys: 'my_threshold'"
    )
    trained = workspace.run("trafo"), workspace.run("train", "--iterations", "1")
    assert [result.exit_code for result in trained] == [0, 0]
    assert trained[1].err.count("unknown key 'my_threshold'") == 1
    assert trained[1].err.count("WARNING: unknown keys: 'my_threshold'") == 1


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("batch_size", "many", "a whole number > 0"),
        ("batch_size", "0", "a whole number > 0"),
        ("float_precision", "float16", "float32 or float64"),
        ("trafo_treat_doms_equally", "perhaps", "true or false"),
    ],
)
def test_wrong_value_names_file_line_key_and_what_is_allowed(
    key: str, value: str, allowed: str, workspace: Workspace
) -> None:
    workspace.set(key, value)
    message = told(workspace.run("count"))
    assert f"{workspace.config}:{workspace.line_of(key)}: '{key}' is " in message
    assert value in message
    assert f"allowed: {allowed}" in message
