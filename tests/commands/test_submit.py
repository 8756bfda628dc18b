"""`submit train`: what it checks, what it writes, and a job that is stopped and goes on."""

import os
import shlex
import signal
import sys
from pathlib import Path

import pytest
from cluster_stubs import Stubs, start, wait_for
from small_run import ON_CPU, SmallRun, make_small_run
from workspace import Result, invoke

from dnn_reco.commands.trafo import run_trafo


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallRun:
    """A training that is ready to be submitted, in a folder with an unpleasant name."""
    folder = tmp_path / "it's my $HOME"
    folder.mkdir()
    run = make_small_run(folder, num_training_iterations=150)
    run_trafo(run.config(), ON_CPU, overwrite=False)
    monkeypatch.chdir(folder)
    return run


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stubs:
    stubs = Stubs(tmp_path / "stubs")
    for key in ("PATH", "STUB_FOLDER"):
        monkeypatch.setenv(key, stubs.environment[key])
    return stubs


def submit(*options: str | Path, cluster: str = "slurm") -> Result:
    return invoke("submit", "train", "small.yaml", "--cluster", cluster, *options)


def error(*options: str | Path, cluster: str = "slurm") -> str:
    result = submit(*options, cluster=cluster)
    assert result.exit_code == 1, result
    assert result.err.count("Error: ") == 1, result.err
    assert "Traceback" not in result.err
    return result.err


def set_key(run: SmallRun, key: str, value: str) -> None:
    lines = run.config_file.read_text().splitlines()
    lines = [line for line in lines if not line.startswith(f"{key}:")]
    run.config_file.write_text("\n".join([*lines, f"{key}: {value}", ""]))


def test_a_job_that_is_stopped_goes_on_when_slurm_starts_it_again(
    run: SmallRun, stubs: Stubs
) -> None:
    """Slurm sends SIGTERM to all processes of a job; the script passes it on to the training."""
    options = ["--cpus", "1", "--gpus", "0", "--", "--device=cpu", "--num_threads", "1"]
    options += ["--print-format", "reference"]
    result = submit("--time", "24h", *options)
    assert result.exit_code == 0, result.err
    assert "Submitted batch job 4711" in result.out
    folder = run.records / "jobs"
    assert stubs.calls("sbatch") == [[str(folder), "train.sh"]]

    process = start(folder / "train.sh", stubs, {})
    wait_for("Step: 00000020", folder / "train.sh", process)
    os.killpg(process.pid, signal.SIGTERM)
    log = (folder / "logs" / "train.log").read_text
    assert process.wait(timeout=60) == 85, log()
    assert "SIGTERM: saving." in log()
    assert stubs.calls("scontrol")[0][1:] == ["requeue", "Incomplete", "4711"]

    process = start(folder / "train.sh", stubs, {})
    assert process.wait(timeout=120) == 0, log()
    assert "Training is done: 150 iterations" in log()
    assert len(stubs.calls("scontrol")) == 1
    steps = (run.records / "training_steps.yaml").read_text().splitlines()
    first, second = (int(line.split(": ")[1]) for line in steps)
    assert 20 < first < 150
    assert first + second == 150


def test_a_job_of_htcondor_saves_when_it_is_evicted(run: SmallRun, stubs: Stubs) -> None:
    options = ["--cpus", "1", "--gpus", "0", "--", "--device=cpu", "--num_threads", "1"]
    options += ["--print-format", "reference"]
    assert submit("--out", "my jobs", *options, cluster="htcondor").exit_code == 0
    folder = run.folder / "my jobs"
    assert stubs.calls("condor_submit") == [[str(folder), "train.sub"]]
    process = start(folder / "train.sh", stubs, {})
    wait_for("Step: 00000020", folder / "train.sh", process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 85
    assert (run.records / "training_steps.yaml").is_file()


def test_the_command_is_the_one_that_was_asked_for(run: SmallRun) -> None:
    text = submit("--dry-run", "--", "--iterations", "500", "--device", "cuda:0").out
    words = next(shlex.split(line) for line in text.splitlines() if " train small.yaml" in line)
    assert words[0] == sys.executable
    assert words[1:5] == ["-m", "dnn_reco", "train", "small.yaml"]
    assert words[5:-1] == [
        *["--checkpoint-exit-code", "85"],
        *["--iterations", "500", "--device", "cuda:0"],
    ]
    assert words[-1] == "&"
    (line,) = [line for line in text.splitlines() if line.startswith("cd ")]
    assert shlex.split(line)[1] == str(run.folder)


def test_each_gpu_gets_a_process(run: SmallRun) -> None:
    text = submit("--dry-run", "--gpus", "4").out
    assert "#SBATCH --gres=gpu:4\n" in text
    (line,) = [line for line in text.splitlines() if " train small.yaml" in line]
    assert "--processes 4" in line


@pytest.mark.parametrize("cluster", ["htcondor", "slurm"])
def test_dry_run_writes_nothing(run: SmallRun, stubs: Stubs, cluster: str) -> None:
    before = sorted(run.folder.rglob("*"))
    result = submit("--dry-run", cluster=cluster)
    assert result.exit_code == 0, result.err
    assert "#!/bin/bash" in result.out
    assert str(run.records / "jobs" / "train.sh") in result.out
    assert sorted(run.folder.rglob("*")) == before
    assert not (stubs.folder / "calls").exists()


@pytest.mark.parametrize(
    ("cluster", "program", "line"),
    [
        ("htcondor", "condor_submit", "&& condor_submit train.sub"),
        ("slurm", "sbatch", "&& sbatch train.sh"),
    ],
)
def test_without_the_batch_system_the_files_are_left(
    run: SmallRun, monkeypatch: pytest.MonkeyPatch, cluster: str, program: str, line: str
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    message = error(cluster=cluster)
    assert f"no program '{program}'" in message
    assert f"cd {shlex.quote(str(run.records / 'jobs'))} {line}" in message
    assert (run.records / "jobs" / "train.sh").is_file()
    assert (run.records / "jobs" / "logs").is_dir()


@pytest.mark.usefixtures("stubs")
class TestNothingIsSubmitted:
    @pytest.fixture(autouse=True)
    def nothing(self, run: SmallRun, stubs: Stubs) -> object:
        yield
        assert not (stubs.folder / "calls").exists()
        assert not run.records.exists()

    def test_with_a_broken_config(self, run: SmallRun) -> None:
        set_key(run, "batch_size", "many")
        assert "batch_size" in error()

    def test_with_an_incomplete_config(self, run: SmallRun) -> None:
        text = run.config_file.read_text()
        run.config_file.write_text(text.replace("num_training_iterations: 150", ""))
        assert "num_training_iterations" in error()

    def test_without_data(self, run: SmallRun) -> None:
        set_key(run, "training_data_file", "[nowhere/*.hdf5]")
        assert "no file matches training_data_file" in error()

    def test_without_transformation_model(self, run: SmallRun) -> None:
        Path(run.config().trafo.trafo_model_path).unlink()
        assert "there is no transformation model" in error()

    @pytest.mark.parametrize("key", ["model_restore_model", "model_save_model"])
    def test_where_a_restart_would_lose_what_was_trained(self, run: SmallRun, key: str) -> None:
        set_key(run, key, "False")
        assert f"{key} is False" in error()

    def test_with_strange_amounts(self) -> None:
        assert "--memory '8 kB'" in error("--memory", "8 kB")
        assert "--time 'long'" in error("--time", "long")

    def test_with_strange_options(self) -> None:
        assert "write KEY=VALUE" in error("--option", "partition")
        assert "given twice" in error("--option", "qos=a", "--option", "qos=b")
        assert "set twice" in error("--option", "mem=1G")
        assert "cannot be used in the files" in error("--option", "comment=a\nb")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--iteration", "5"], "No such option '--iteration'"),
            (["--iterations", "0"], "0 is not in the range"),
            (["other.yaml"], "config files stand before --"),
            (["--checkpoint-exit-code", "3"], "is set by dnn-reco submit"),
        ],
    )
    def test_with_wrong_options_of_train(self, options: list[str], message: str) -> None:
        result = submit("--", *options)
        assert result.exit_code == 2
        assert message in result.err

    def test_with_a_file_for_the_environment_that_is_not_there(self) -> None:
        assert "there is no such file" in error("--env-setup", "env/setup.sh")


def test_environment_of_a_file_or_a_line(run: SmallRun) -> None:
    (run.folder / "set up.sh").write_text("export COLOUR=blue\n")
    text = submit("--dry-run", "--env-setup", "set up.sh").out
    assert f"source {shlex.quote(str(run.folder / 'set up.sh'))}\n" in text
    assert "\ndnn-reco train small.yaml" in text
    text = submit("--dry-run", "--env-setup", "module load cuda && conda activate 'my env'").out
    assert "\nmodule load cuda && conda activate 'my env'\n" in text
    assert "PYTHONPATH" not in text


def test_the_path_of_python_goes_along(run: SmallRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/my modules:/others")
    assert "\nexport PYTHONPATH='/my modules:/others'\n" in submit("--dry-run").out
    monkeypatch.delenv("PYTHONPATH")
    assert "PYTHONPATH" not in submit("--dry-run").out
