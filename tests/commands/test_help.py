"""Help and usage: quick, with examples, and the same for the scripts of the tutorial."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from workspace import Workspace, invoke

import dnn_reco
from dnn_reco.cli import cli

SCRIPTS = {
    "count_number_of_events.py": "Count the events",
    "create_trafo_model.py": "Create the data transformation model",
    "train_model.py": "Train a network",
    "export_model.py": "Export a trained network",
}
# Command -> what stands behind its name in the first example.
EXAMPLES = {
    **dict.fromkeys(
        ("count", "trafo", "train", "compare", "evaluate", "submit train", "export"), r"\w+\.yaml"
    ),
    **dict.fromkeys(("config show", "config check", "data check"), r"\w+\.yaml"),
    **dict.fromkeys(("calibrate", "sky", "apply", "serve", "verify", "inspect"), r"models/\w+"),
    "view": r"events\.hdf5",
    **dict.fromkeys(("i3 ls", "i3 show"), r"file\.i3\.zst"),
    "i3 export": r"\*\.i3\.zst",
    "compare-data": r"'simulation/\*\.hdf5' 'data/\*\.hdf5'",
    "import": r"exported_models/my_model",
    "create-data": r"create_training_data\.yaml",
    "simulate": r"\S+",
    **dict.fromkeys(("doctor", "version"), ""),
    "completion": "bash",
}

# Runs `dnn-reco` with each line of its arguments, then tells whether something heavy was loaded.
PROBE = """
import sys
from dnn_reco.cli import main
for line in sys.argv[1:]:
    sys.argv = ["dnn-reco", *line.split("|")]
    try:
        main()
    except SystemExit as leaving:
        assert leaving.code == 0, line
names = "torch matplotlib tensorboard pandas astropy plotly pyarrow simweights jinja2 scipy"
heavy = {*names.split()} & set(sys.modules)
sys.exit(f"loaded: {heavy}" if heavy else 0)
"""


@pytest.mark.parametrize("command", EXAMPLES)
def test_each_command_explains_itself_with_an_example(command: str) -> None:
    result = invoke(*command.split(), "--help")
    assert result.exit_code == 0
    assert result.out == invoke(*command.split(), "-h").out
    assert re.search(rf"Examples?:\n.*dnn-reco {command} ?{EXAMPLES[command]}", result.out)


@pytest.mark.parametrize("command", EXAMPLES)
def test_the_options_of_examples_are_there(command: str) -> None:
    found: click.Command = cli
    for name in command.split():
        assert isinstance(found, click.Group)
        found = found.commands[name]
    known = {word for each in found.params for word in (*each.opts, *each.secondary_opts)}
    text = re.split("Examples?:", invoke(*command.split(), "--help").out)[1]
    lines = re.findall(rf"^ +dnn-reco {command} ?(.*)$", text, re.MULTILINE)
    assert lines
    for line in lines:
        of_command = line.partition(" -- ")[0].split()
        assert {word for word in of_command if word.startswith("-")} <= known


def test_help_of_the_whole_lists_the_commands() -> None:
    result = invoke("--help")
    assert result.exit_code == 0
    for name in {command.split()[0] for command in EXAMPLES}:
        assert re.search(rf"^  {name} +\S", result.out, re.MULTILINE)
    for option in ("--version", "-V"):
        assert invoke(option).out.startswith(f"dnn_reco  {dnn_reco.__version__}\n")


def test_help_count_and_config_load_nothing_heavy(workspace: Workspace) -> None:
    lines = ["--help", *(f"{command.replace(' ', '|')}|--help" for command in EXAMPLES)]
    lines += [f"{command}|{workspace.config}" for command in ("count", "config|show")]
    subprocess.run([sys.executable, "-c", PROBE, *lines], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_explain_themselves(script: str) -> None:
    path = Path(dnn_reco.__file__).parent / script
    line = [sys.executable, str(path), "-h"]
    result = subprocess.run(line, capture_output=True, text=True, check=True)
    assert result.stdout.startswith(f"Usage: {script} [OPTIONS] CONFIG...")
    assert SCRIPTS[script] in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tain", "x.yaml"], "No such command 'tain'"),
        (["count"], "Missing argument 'CONFIG...'"),
        (["train", "x.yaml", "--iteration", "5"], "No such option '--iteration'"),
        (["train", "x.yaml", "--iterations", "0"], "0 is not in the range x>=1"),
        (["train", "x.yaml", "--num_threads", "two"], "'two' is not a valid integer"),
        (["count", "x.yaml", "-j", "0"], "0 is not in the range x>=1"),
        (["count", "x.yaml", "--log_level", "chatty"], "'chatty' is not one of"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.err.startswith("Usage: ")
    assert message in result.err
    assert "--help' for help" in result.err


def test_python_m_dnn_reco_is_the_same_program() -> None:
    line = [sys.executable, "-m", "dnn_reco", "--version"]
    result = subprocess.run(line, capture_output=True, text=True, check=True)
    assert result.stdout == invoke("version").out


def test_output_cut_short_by_the_reader_is_no_error(workspace: Workspace) -> None:
    line = f"'{sys.executable}' -m dnn_reco config show '{workspace.config}' | head -n 1"
    result = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("# getting_started: ")
    assert result.stderr == ""
