"""What stands on a command line reaches the work behind it, unchanged."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dnn_reco.cli import cli
from dnn_reco.commands import (
    check_config,
    compare,
    count,
    estimate,
    evaluate,
    import_model,
    trafo,
    train,
)
from dnn_reco.commands import simulate as simulation
from dnn_reco.commands import submit as submission
from dnn_reco.run_options import RunOptions
from dnn_reco.training import launch
from dnn_reco.workers import available_cpus

CODE = 7  # what the work returns, where that is the exit code


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Any, ...]]:
    """Arguments of the work, which is not done."""
    calls: list[tuple[Any, ...]] = []

    def work(*arguments: Any) -> int:
        calls.append(arguments)
        return CODE

    for module, name in (
        (count, "run_count"),
        (trafo, "run_trafo"),
        (train, "run_stages"),
        (estimate, "run_estimate"),
        (compare, "run_compare"),
        (evaluate, "run_evaluate"),
        (import_model, "run_import"),
        (simulation, "run_simulate"),
        (check_config, "run_check"),
        (submission, "run_submit"),
        (launch, "run_processes"),
    ):
        monkeypatch.setattr(module, name, work)
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(f"unique_name: {name}\n")
    return calls


def run(*words: str, code: int = CODE) -> None:
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == code, result.output


def names(configs: Any) -> list[str]:
    return [config.name for config in configs]


@pytest.mark.parametrize(
    ("words", "jobs"),
    [
        ([], None),
        (["-j", "40"], 40),
        (["--num_threads", "3"], 3),
        (["-j", "40", "--num_threads", "3"], 3),
        (["-j", "2", "--num_threads", "3"], 2),
    ],
)
def test_count(asked: list[tuple[Any, ...]], words: list[str], jobs: int | None) -> None:
    run("count", "a.yaml", *words)
    ((config, num_jobs, apply_filters, cache_dir),) = asked
    assert (config.name, apply_filters, cache_dir) == ("a", False, None)
    assert num_jobs == (jobs or available_cpus())


def test_count_with_filters(asked: list[tuple[Any, ...]]) -> None:
    run("count", "a.yaml", "--apply-filters", "--cache-dir", "store")
    assert asked[0][2:] == (True, "store")


def test_trafo(asked: list[tuple[Any, ...]]) -> None:
    run("trafo", "a.yaml", code=0)
    run("trafo", "a.yaml", "--overwrite", "--cache_dir", "store", "--log_level", "error", code=0)
    (config, options, overwrite), (_, others, overwrites) = asked
    assert (config.name, options, overwrite) == ("a", RunOptions(), False)
    assert (others, overwrites) == (RunOptions(cache_dir="store", log_level="ERROR"), True)


def test_train(asked: list[tuple[Any, ...]]) -> None:
    run("train", "a.yaml")
    words = ["--iterations", "5", "--device", "cpu", "--checkpoint-exit-code", "85"]
    run("train", "a.yaml", *words, "--allow-overlap")
    (stages, options), (_, others) = asked
    assert names(stages) == ["a"]
    assert options == RunOptions()
    assert others == RunOptions(5, "cpu", checkpoint_exit_code=85, allow_overlap=True)


def test_iterations_are_those_of_the_config_that_is_trained(asked: list[tuple[Any, ...]]) -> None:
    run("train", "a.yaml", "--iterations", "5")
    assert asked[0][0][0].training.num_training_iterations == 5


def test_estimate(asked: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    run("train", "a.yaml", "--estimate", "--num-threads", "1")
    ((stages, options),) = asked
    assert names(stages) == ["a"]
    assert options == RunOptions(num_threads=1)
    for words in (["--processes", "2"], []):
        result = CliRunner().invoke(cli, ["train", "a.yaml", "--estimate", *words])
        assert result.exit_code == (2 if words else CODE)
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = CliRunner().invoke(cli, ["train", "a.yaml", "--estimate"])
    assert result.exit_code == 2
    assert "--estimate measures a training in one process" in result.output


def test_several_processes(asked: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    run("train", "a.yaml", "--processes", "3", "--iterations", "5")
    assert asked == [(3, ["train", "a.yaml", "--iterations", "5"])]
    run("train", "a.yaml", "--processes", "1")
    assert len(asked[1]) == 2
    assert names(asked[1][0]) == ["a"]


def test_compare(asked: list[tuple[Any, ...]]) -> None:
    words = ["--iterations", "5", "--test-data", "t*", "--out", "there", "--seed", "3", "--device"]
    run("compare", "a.yaml", "b.yaml", *words, "cpu", "--ensemble")
    ((configs, settings),) = asked
    assert names(configs) == ["a", "b"]
    assert settings == compare.CompareSettings(
        seconds=None,
        out=Path("there"),
        test_data=("t*",),
        seed=3,
        ensemble=True,
        options=RunOptions(iterations=5, device="cpu"),
    )
    run("compare", "a.yaml", "--seconds", "2")
    assert asked[1][1] == compare.CompareSettings(
        2.0, Path("comparison"), (), None, False, RunOptions()
    )


def test_budget_of_compare(asked: list[tuple[Any, ...]]) -> None:
    for words in ([], ["--seconds", "2", "--iterations", "5"]):
        result = CliRunner().invoke(cli, ["compare", "a.yaml", *words])
        assert result.exit_code == 2
        assert "give the budget of each training: --seconds or --iterations" in result.output
    assert asked == []


def test_a_config_of_several_files(asked: list[tuple[Any, ...]], tmp_path: Path) -> None:
    (tmp_path / "size.yaml").write_text("batch_size: 3\n")
    run("compare", "a.yaml+size.yaml", "--seconds", "2")
    (config,) = asked[0][0]
    assert (config.name, config.general.batch_size) == ("a__size", 3)
    (tmp_path / "b+c.yaml").write_text("unique_name: c\n")
    run("evaluate", "b+c.yaml", "a.yaml+size.yaml", code=0)
    (one,), (other,) = asked[1][0]
    assert (one.name, other.name, other.general.batch_size) == ("b+c", "a__size", 3)


def test_evaluate(asked: list[tuple[Any, ...]], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    run("evaluate", "folder", "a.yaml", code=0)
    named, settings = asked[0]
    assert named[0] == Path("folder")
    assert names(named[1]) == ["a"]
    assert settings == evaluate.EvaluateSettings(
        test_data=(),
        checkpoints=1,
        ensemble=False,
        allow_code=(),
        out=Path("evaluation"),
        options=RunOptions(),
    )
    words = ["--checkpoints", "4", "--ensemble", "--allow-code", "mine", "--test_data", "t"]
    run("evaluate", "a.yaml", *words, "--out", "there", "--allow-overlap", code=0)
    assert asked[1][1] == evaluate.EvaluateSettings(
        test_data=("t",),
        checkpoints=4,
        ensemble=True,
        allow_code=("mine",),
        out=Path("there"),
        options=RunOptions(allow_overlap=True),
    )


def test_import(asked: list[tuple[Any, ...]]) -> None:
    run("import", "model", "-o", "out", code=0)
    words = ["--trafo", "t", "--config", "c", "-s", __file__, "--overwrite"]
    run("import", "model", "-o", "out", *words, code=0)
    assert asked == [
        (Path("model"), Path("out"), None, (), None, False),
        (Path("model"), Path("out"), Path("t"), (Path("c"),), Path(__file__), True),
    ]


def test_simulate(asked: list[tuple[Any, ...]], tmp_path: Path) -> None:
    run("simulate", "--out", "events")
    settings, out, events, layout, jobs = asked[0]
    assert (out, events, layout, jobs) == (Path("events"), 5000, "flat", available_cpus())
    # the defaults that the help promises
    assert (settings.flavor, settings.energy, settings.spectral_index) == ("mixed", (100, 1e6), 1.5)
    assert (settings.zenith, settings.data_format) == ((0, 180), "pulse_summmary_clipped")
    assert (settings.events_per_file, settings.seed, settings.keep_pulses) == (500, 1, False)
    (tmp_path / "preset.yaml").write_text("flavor: nue\nseed: 5\nspectral_index: 3\n")
    words = ["--events", "100", "--files", "3", "--flavor", "muon", "--spectrum", "2.5", "--jobs"]
    words += ["2", "--layout", "tutorial", "--energy", "10", "20", "--zenith", "30", "40"]
    words += ["--format", "charge_bins", "--time-bins", "0,500,1000", "--keep-pulses"]
    run("simulate", "preset.yaml", "--out", "events", *words)
    settings, out, events, layout, jobs = asked[1]
    assert (out, events, layout, jobs) == (Path("events"), 100, "tutorial", 2)
    assert settings.events_per_file == 34  # 34 + 34 + 32
    assert (settings.flavor, settings.spectral_index, settings.seed) == ("muon", 2.5, 5)
    assert (settings.energy, settings.zenith) == ((10, 20), (30, 40))
    assert (settings.data_format, settings.time_bins) == ("charge_bins", (0, 500, 1000))
    assert settings.keep_pulses is True


def test_config_check(asked: list[tuple[Any, ...]]) -> None:
    run("config", "check", "a.yaml")
    run("config", "check", "a.yaml", "--allow-overlap")
    run("config", "check", "a.yaml", "--network")
    assert [arguments[1:] for arguments in asked] == [
        (False, False),
        (True, False),
        (False, True),
    ]
    assert names(asked[0][0]) == ["a"]


def test_submit(asked: list[tuple[Any, ...]]) -> None:
    run("submit", "train", "a.yaml", "--cluster", "slurm", code=0)
    stages, cluster, out, resources, setup, options, train_options, dry_run = asked[0]
    assert names(stages) == ["a"]
    assert (cluster, out, setup, options, train_options) == ("slurm", None, None, (), [])
    assert dry_run is False
    assert (resources.cpus, resources.gpus, resources.memory) == (4, 1, 8192)
    assert resources.seconds is None
    words = ["--cpus", "2", "--gpus", "0", "--memory", "500 MB", "--time", "1d12h", "--out", "jobs"]
    words += ["--env-setup", "module load x", "--option", "a=1", "--dry-run"]
    rest = ["--iterations", "5", "--device", "cpu"]
    run("submit", "train", "a.yaml", "--cluster", "htcondor", *words, "--", *rest, code=0)
    stages, cluster, out, resources, setup, options, train_options, dry_run = asked[1]
    assert stages[0].training.num_training_iterations == 5
    assert (cluster, out, setup, options) == ("htcondor", Path("jobs"), "module load x", ("a=1",))
    assert (train_options, dry_run) == (rest, True)
    assert (resources.cpus, resources.gpus, resources.memory) == (2, 0, 500)
    assert resources.seconds == 36 * 3600
