"""What stands on a command line reaches the work behind it, unchanged."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dnn_reco.cli import cli
from dnn_reco.cluster.farm_settings import FarmSettings
from dnn_reco.commands import (
    apply,
    calibrate,
    check_config,
    check_data,
    compare,
    compare_data,
    count,
    estimate,
    evaluate,
    fill_store,
    import_model,
    serve,
    sky,
    trafo,
    train,
    view,
)
from dnn_reco.commands import simulate as simulation
from dnn_reco.commands import submit as submission
from dnn_reco.errors import ConfigError
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
        (fill_store, "fill_store"),
        (count, "run_count"),
        (trafo, "run_trafo"),
        (train, "run_stages"),
        (estimate, "run_estimate"),
        (compare, "run_compare"),
        (evaluate, "run_evaluate"),
        (calibrate, "run_calibrate"),
        (sky, "run_sky"),
        (view, "run_view"),
        (compare_data, "run_compare_data"),
        (check_data, "run_check_data"),
        (serve, "run_serve"),
        (apply, "run_apply"),
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
    ((config, num_jobs, apply_filters, cache_dir, as_json),) = asked
    assert (config.name, apply_filters, cache_dir, as_json) == ("a", False, None, False)
    assert num_jobs == (jobs or available_cpus())


def test_count_with_filters(asked: list[tuple[Any, ...]]) -> None:
    run("count", "a.yaml", "--apply-filters", "--cache-dir", "store", "--json")
    assert asked[0][2:] == (True, "store", True)


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
        tables=None,
        stored=(),
        weights=None,
        flux=None,
        perturb=False,
        ignore_mismatch=(),
        allow_code=(),
        out=Path("evaluation"),
        options=RunOptions(),
    )
    words = ["--checkpoints", "4", "--ensemble", "--allow-code", "mine", "--test_data", "t"]
    words += ["--tables", "in", "--stored", "all", "--weights", "w", "--perturb"]
    words += ["--ignore-mismatch", "pulse_key"]
    run("evaluate", "a.yaml", *words, "--out", "there", "--allow-overlap", code=0)
    assert asked[1][1] == evaluate.EvaluateSettings(
        test_data=("t",),
        checkpoints=4,
        ensemble=True,
        tables="in",
        stored=("all",),
        weights="w",
        flux=None,
        perturb=True,
        ignore_mismatch=("pulse_key",),
        allow_code=("mine",),
        out=Path("there"),
        options=RunOptions(allow_overlap=True),
    )
    run("evaluate", "a.yaml", "--flux", "E^-2", code=0)
    assert asked[2][1].flux == "E^-2"
    assert run_wrongly("evaluate", "a.yaml", "--flux", "E^-2", "--weights", "w") == (
        2,
        "give --weights or --flux, not both",
    )
    run("evaluate", "a.yaml", "--flux", "E^-2", "--jobs-per-file", "5", code=0)
    assert asked[3][1].jobs_per_file == 5
    assert run_wrongly("evaluate", "a.yaml", "--jobs-per-file", "5") == (
        2,
        "--jobs-per-file is for --flux: give both",
    )


def run_wrongly(*words: str) -> tuple[int, str]:
    """Exit code and message of a command line that is refused."""
    result = CliRunner().invoke(cli, words)
    return result.exit_code, result.output.rpartition("Error: ")[2].strip()


def test_networks_that_are_not_there(asked: list[tuple[Any, ...]], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "manifest.json").write_text("{}")
    for name, message in {
        "nothing": "there is neither a config nor a model folder 'nothing'",
        "no.yaml+none.yaml": "neither a config nor a model folder 'no.yaml",
        "a.yaml+none.yaml": "the config file 'none.yaml' does not exist",
        "folder/manifest.json": "is a file of a model folder: name the folder 'folder'",
    }.items():
        result = CliRunner().invoke(cli, ["evaluate", name])
        assert isinstance(result.exception, ConfigError)
        assert message in str(result.exception)
    assert asked == []


def test_calibrate(asked: list[tuple[Any, ...]], tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    run("calibrate", "m", code=0)
    words = ["--data", "d", "--coverage-by", "reconstruction", "--sign", "a.yaml"]
    words += ["--ignore-mismatch", "pulse_key", "--allow-code", "mine", "--allow-overlap"]
    run("calibrate", "m", *words, "--device", "cpu", "--cache-dir", "store", code=0)
    run("calibrate", "m", "--remove", code=0)
    assert [arguments[0] for arguments in asked] == [Path("m")] * 3
    assert [arguments[1] for arguments in asked] == [
        calibrate.CalibrateSettings((), "class", False, None, (), (), RunOptions()),
        calibrate.CalibrateSettings(
            data=("d",),
            coverage_by="reconstruction",
            remove=False,
            sign=Path("a.yaml"),
            ignore_mismatch=("pulse_key",),
            allow_code=("mine",),
            options=RunOptions(device="cpu", cache_dir="store", allow_overlap=True),
        ),
        calibrate.CalibrateSettings((), "class", True, None, (), (), RunOptions()),
    ]
    refused = run_wrongly("calibrate", "m", "--remove", "--data", "d")
    assert refused == (2, "--remove takes no --data")


def test_sky(asked: list[tuple[Any, ...]], tmp_path: Path) -> None:
    run("sky", "m", "-i", "a.yaml", code=0)
    words = ["--event", "3", "--out", "there/x.fits", "--credible", "68", "--mjd", "58000"]
    words += ["--density", "vector", "--members", "--ignore-mismatch", "k", "--tables", "in"]
    words += ["--device", "cpu", "--backend", "torch", "--allow-code", "mine", "--raw"]
    run("sky", "m", "-i", "a.yaml", *words, "--num-threads", "2", code=0)
    common = {"model": Path("m"), "file": Path("a.yaml")}
    assert [arguments[0] for arguments in asked] == [
        sky.SkySettings(
            **common,
            event=0,
            out=Path("sky"),
            levels=(0.5, 0.9),
            mjd=None,
            shape="auto",
            members=False,
            ignore_mismatch=(),
            device="auto",
            backend="auto",
            allow_code=(),
            num_threads=0,
            inputs=None,
            raw=False,
        ),
        sky.SkySettings(
            **common,
            event=3,
            out=Path("there/x"),
            levels=(0.68,),
            mjd=58000.0,
            shape="vector",
            members=True,
            ignore_mismatch=("k",),
            device="cpu",
            backend="torch",
            allow_code=("mine",),
            num_threads=2,
            inputs="in",
            raw=True,
        ),
    ]


def test_view(asked: list[tuple[Any, ...]]) -> None:
    run("view", "e", code=0)
    words = ["--event", "7:3", "--model", "m", "--out", "a.svg", "--html", "a.html", "--network"]
    words += ["--tables", "in", "--num-bins", "3", "--labels", "L", "--charge-feature", "1"]
    words += [
        "--time-feature",
        "2",
        "--ignore-mismatch",
        "k",
        "--allow-code",
        "mine",
        "--pulses",
        "P",
    ]
    run("view", "e", *words, "--device", "cpu", code=0)
    assert [arguments[0] for arguments in asked] == [
        view.ViewSettings(
            file=Path("e"),
            event="first",
            model=None,
            out=None,
            html=None,
            network=False,
            tables=None,
            num_bins=None,
            labels=None,
            charge_feature=0,
            time_feature=None,
            pulses=None,
            device="auto",
            allow_code=(),
            ignore_mismatch=(),
        ),
        view.ViewSettings(
            file=Path("e"),
            event="7:3",
            model="m",
            out=Path("a.svg"),
            html=Path("a.html"),
            network=True,
            tables="in",
            num_bins=3,
            labels="L",
            charge_feature=1,
            time_feature=2,
            pulses="P",
            device="cpu",
            allow_code=("mine",),
            ignore_mismatch=("k",),
        ),
    ]


def test_compare_data(asked: list[tuple[Any, ...]]) -> None:
    run("compare-data", "x", "y", code=0)
    words = ["--out", "there", "--events", "5", "--tables", "i", "--weights", "W.w"]
    run("compare-data", "x", "y", *words, "--seed", "3", "--config", "a.yaml", "--json", code=0)
    (patterns, config, settings, as_json), (_, other_config, others, others_as_json) = asked
    assert (as_json, others_as_json) == (False, True)
    assert (patterns, config) == (("x", "y"), None)
    assert settings == compare_data.CompareDataSettings(
        Path("data_comparison"), 20_000, (), None, 1
    )
    assert other_config.name == "a"
    assert others == compare_data.CompareDataSettings(Path("there"), 5, ("i",), ("W", "w"), 3)
    code, message = run_wrongly("compare-data", "x", "y", *["--tables", "i"] * 3)
    assert (code, message) == (2, "--tables is for both data sets, or once for A and once for B")


def test_data_check(asked: list[tuple[Any, ...]], tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("batch_size: 3\n")
    run("data", "check", "x*", "y*")
    words = ["--tables", "in", "--num-bins", "3", "--labels", "L", "-s", "b.yaml", "-j", "2"]
    run("data", "check", "a.yaml+b.yaml", "x*", *words, "--json")
    assert asked[0] == (["x*", "y*"], None, check_data.WhatToRead(), available_cpus(), False)
    patterns, config, *rest = asked[1]
    assert (patterns, config.name) == (["x*"], "a__b")
    assert rest == [check_data.WhatToRead("in", 3, "L", Path("b.yaml")), 2, True]


@pytest.mark.parametrize(("words", "raw"), [([], False), (["--raw"], True)])
def test_raw(asked: list[tuple[Any, ...]], words: list[str], raw: bool) -> None:
    run("serve", "m", *words, code=0)
    run("apply", "m", "-i", "x", "-o", "y", *words)
    ((_, of_server), (of_apply,)) = asked
    assert (of_server.raw, of_apply.raw) == (raw, raw)


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
    settings, out, events, layout, jobs, suffix, files = asked[0]
    assert (out, events, layout, jobs) == (Path("events"), 5000, "flat", available_cpus())
    assert (suffix, files) == (".hdf5", None)
    # the defaults that the help promises
    assert (settings.flavor, settings.energy, settings.spectral_index) == ("mixed", (100, 1e6), 1.5)
    assert (settings.zenith, settings.data_format) == ((0, 180), "pulse_summmary_clipped")
    assert (settings.events_per_file, settings.seed, settings.keep_pulses) == (500, 1, False)
    (tmp_path / "preset.yaml").write_text("flavor: nue\nseed: 5\nspectral_index: 3\n")
    words = ["--events", "100", "--files", "3", "--flavor", "muon", "--spectrum", "2.5", "--jobs"]
    words += ["2", "--layout", "tutorial", "--energy", "10", "20", "--zenith", "30", "40"]
    words += ["--format", "charge_bins", "--time-bins", "0,500,1000", "--keep-pulses"]
    run("simulate", "preset.yaml", "--out", "events", *words)
    settings, out, events, layout, jobs, suffix, files = asked[1]
    assert (out, events, layout, jobs, files) == (Path("events"), 100, "tutorial", 2, 3)
    assert settings.events_per_file == 34  # 34 + 34 + 32
    assert (settings.flavor, settings.spectral_index, settings.seed) == ("muon", 2.5, 5)
    assert (settings.energy, settings.zenith) == ((10, 20), (30, 40))
    assert (settings.data_format, settings.time_bins) == ("charge_bins", (0, 500, 1000))
    assert settings.keep_pulses is True
    run("simulate", "--out", "events", "--format", "i3")
    settings, *_, suffix, _ = asked[2]
    assert (settings.data_format, suffix) == ("pulse_summmary_clipped", ".i3.zst")


def test_config_check(asked: list[tuple[Any, ...]]) -> None:
    run("config", "check", "a.yaml")
    run("config", "check", "a.yaml", "--allow-overlap")
    run("config", "check", "a.yaml", "--network", "--json")
    assert [arguments[1:] for arguments in asked] == [
        (False, False, False),
        (True, False, False),
        (False, True, True),
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


needs_parsl = pytest.mark.skipif(
    importlib.util.find_spec("parsl") is None, reason="parsl is not installed: dnn_reco[farm]"
)


@needs_parsl
def test_the_event_store_is_filled_first(asked: list[tuple[Any, ...]]) -> None:
    farm = FarmSettings("local", jobs=3, cpus=2)
    words = ["a.yaml", "--cluster", "local", "--cluster-jobs", "3", "--cluster-cpus", "2"]
    run("count", *words, "--apply-filters", "--cache-dir", "store")
    (config, keys, cache_dir, settings), counted = asked
    assert (config.name, cache_dir, settings) == ("a", "store", farm)
    assert list(keys) == list(count.FILE_LISTS)
    assert counted[0] is config
    asked.clear()
    run("trafo", *words, code=0)
    (config, keys, cache_dir, settings), made = asked
    assert (list(keys), cache_dir, settings) == (["trafo_data_file"], None, farm)
    assert made[0] is config
    asked.clear()
    for more in ([], ["--processes", "2"]):
        run("train", *words, *more)
        (config, keys, cache_dir, settings), trained = asked
        assert (list(keys), settings) == (["training_data_file", "validation_data_file"], farm)
        assert trained[0] == (2 if more else (config,))
        asked.clear()


@needs_parsl
def test_all_options_of_the_farm(
    asked: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "condor_submit").touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    words = ["apply", "model", "-i", "a.hdf5", "-o", "out", "--cluster", "htcondor"]
    run(*words)
    (settings,) = asked.pop()
    assert settings.farm == FarmSettings("htcondor", jobs=20)
    words += ["--cluster-memory", "1.5 GB", "--cluster-time", "90m", "--cluster-folder", "logs"]
    words += ["--cluster-option", "+Short = true", "--cluster-option", "rank=Mips"]
    run(*words, "--cluster-setup", "module load x", "--cluster-address", "10.0.0.7")
    (settings,) = asked.pop()
    assert settings.farm == FarmSettings(
        "htcondor",
        jobs=20,
        memory=1536,
        seconds=5400,
        options={"+Short": "true", "rank": "Mips"},
        setup=("module load x",),
        folder=Path("logs"),
        address="10.0.0.7",
    )
