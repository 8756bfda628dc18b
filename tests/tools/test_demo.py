"""The demo runs all its steps, stops, fails and resumes; its configs are ready for use."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dnn_reco.cli import cli
from dnn_reco.config import load_stages
from dnn_reco.data.simulated_files import flat_path
from dnn_reco.simulation.dataset import PlannedFile, write_file
from dnn_reco.simulation.settings import load_settings
from dnn_reco.training.optimizers import learning_rate_schedule
from dnn_reco.utils.learning_rate import rate_at

REPOSITORY = Path(__file__).parents[2]
CONFIGS = REPOSITORY / "configs" / "demo"
DEMO = [sys.executable, "-u", str(REPOSITORY / "tools" / "demo.py"), "--quick", "--out"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY)}
FILES = [CONFIGS / "events.yaml", CONFIGS / "dom_transformer.yaml"]


def run_demo(folder: Path) -> subprocess.CompletedProcess[str]:
    """The whole quick demo in a folder."""
    return subprocess.run(
        [*DEMO, str(folder)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def interrupted_demo(folder: Path, line: str) -> tuple[int, list[str]]:
    """The exit code and the lines of a demo that gets Ctrl-C once it has printed a line."""
    with subprocess.Popen(
        [*DEMO, str(folder)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = []
        for printed in process.stdout:
            lines.append(printed.rstrip())
            if printed.startswith(line):
                process.send_signal(signal.SIGINT)
    return process.returncode, lines


# --------------------------------------------------------------------------------------------------
# Configs
# --------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def data_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with simulated events of the demo where its configs expect them."""
    home = tmp_path_factory.mktemp("demo")
    for name in ("tracks", "cascades"):
        settings = load_settings(CONFIGS / f"{name}.yaml", {})
        for number in (0, 1, 2):
            path = flat_path(home / "events" / name, number)
            write_file(settings, PlannedFile(path, number, 8))
    return home


def test_the_config_passes_the_check(data_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data_home)
    result = CliRunner().invoke(cli, ["config", "check", *map(str, FILES)])
    assert result.exit_code == 0, result.output
    assert "ready for training" in result.output
    assert not any(word in result.output.lower() for word in ("warning", "missing", "error"))


def test_the_schedule_ends_with_the_training() -> None:
    stages = load_stages(FILES, {})
    last = stages[-1].training.num_training_iterations
    for optimizer in stages[0].optimizers.values():
        schedule = learning_rate_schedule("key", optimizer.optimizer_settings)
        rates = [rate_at("key", schedule, step) for step in (0, last // 10, last)]
        assert rates[0] < rates[1] > 1e-3
        assert rates[2] < 1e-7 < rate_at("key", schedule, last - 1000)


# --------------------------------------------------------------------------------------------------
# The demo
# --------------------------------------------------------------------------------------------------
def test_a_failing_step_ends_it_with_its_name_and_code(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    (folder / "events" / "tracks").mkdir(parents=True)
    (folder / "steps.json").write_text("{}")
    (folder / "events" / "tracks" / "simulation.json").write_text('{"flavor": "nue"}')
    result = run_demo(folder)
    assert result.returncode == 1
    last = result.stdout.strip().splitlines()[-1]
    assert last == "Step 1, 'Simulate tracks', failed with exit code 1."


def test_a_folder_of_something_else_is_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    result = run_demo(tmp_path)
    assert result.returncode == 1 and "not empty" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_ctrl_c_stops_it_with_one_line(tmp_path: Path) -> None:
    code, lines = interrupted_demo(tmp_path / "demo", "$ dnn-reco simulate")
    assert code == 130
    assert lines[-1] == "Stopped in step 1, 'Simulate tracks': the same command resumes there."
    assert not any("Traceback" in line for line in lines)
    assert json.loads((tmp_path / "demo" / "steps.json").read_text()) == {}


@pytest.mark.long
def test_it_resumes_and_ends_with_a_table_a_picture_and_a_report(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    code, lines = interrupted_demo(folder, "$ dnn-reco train")
    assert code == 130
    assert "Train the network" in lines[-1]
    result = run_demo(folder)
    assert result.returncode == 0, result.stdout
    assert "Resuming after 4 finished steps" in result.stdout
    assert "$ dnn-reco simulate" not in result.stdout
    rows = {words[0]: words for words in map(str.split, result.stdout.splitlines()) if words}
    for event_type, least, most in (("tracks", 1.5, 6.0), ("cascades", 45.0, 95.0)):
        _, num_events, network, _, _, pretrained, _, _, line_fit, *_ = rows[event_type]
        assert int(num_events) in (100, 102)
        assert 0 < float(network) < 120
        assert float(pretrained) < float(line_fit)
        assert least < float(line_fit) < most
    assert "Time of each step:" in result.stdout
    for name in ("report.png", "evaluation/report.html", "models/dom_transformer/manifest.json"):
        assert (folder / name).stat().st_size > 0
    assert "LineFit" in (folder / "evaluation" / "report.html").read_text()
    again, lines = interrupted_demo(folder, "$ dnn-reco simulate")
    assert again == 130 and lines[0].startswith("Starting from the first step")
