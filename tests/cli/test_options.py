"""Options of the commands: their defaults, spellings and limits, as help and guides promise them.

The tables are written by hand, not read from the commands.
"""

import re
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from dnn_reco.cli import cli
from dnn_reco.run_options import RunOptions
from dnn_reco.workers import available_cpus

CONFIG = ["a.yaml"]
LOG = {"log_level": "INFO", "quiet": False}
RUN = {**LOG, "num_threads": 0, "cache_dir": None}
FARM: dict[str, Any] = {
    "cluster": None,
    "cluster_jobs": None,
    "cluster_cpus": None,
    "cluster_memory": None,
    "cluster_time": None,
    "cluster_option": (),
    "cluster_setup": None,
    "cluster_folder": None,
    "cluster_address": None,
}
I3 = {"verify": False, "recover": False}
TRAINING = {**RUN, "device": "auto", "allow_overlap": False}

# Command -> the words it cannot do without, and all that it then takes for granted.
DEFAULTS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "count": (CONFIG, {"as_json": False, **RUN, **FARM, "jobs": None, "apply_filters": False}),
    "trafo": (CONFIG, {**RUN, **FARM, "overwrite": False}),
    "train": (
        CONFIG,
        {
            **TRAINING,
            **FARM,
            "iterations": None,
            "processes": 1,
            "checkpoint_exit_code": None,
            "deterministic": False,
            "print_format": "table",
            "estimate": False,
        },
    ),
    "compare": (
        CONFIG,
        {
            "as_json": False,
            **TRAINING,
            "seconds": None,
            "iterations": None,
            "test_data": (),
            "out": Path("comparison"),
            "seed": None,
            "ensemble": False,
            "checkpoint_exit_code": None,
        },
    ),
    "evaluate": (
        CONFIG,
        {
            "as_json": False,
            **TRAINING,
            "test_data": (),
            "checkpoints": 1,
            "ensemble": False,
            "stored": (),
            "weights": None,
            "flux": None,
            "jobs_per_file": 1,
            "perturb": False,
            "tables": None,
            "ignore_mismatch": (),
            "allow_code": (),
            "out": Path("evaluation"),
        },
    ),
    "calibrate": (
        ["."],
        {
            **TRAINING,
            "data": (),
            "coverage_by": "class",
            "remove": False,
            "sign": None,
            "ignore_mismatch": (),
            "allow_code": (),
        },
    ),
    "sky": (
        ["model", "-i", __file__],
        {
            **LOG,
            "num_threads": 0,
            "file": Path(__file__),
            "event": 0,
            "out": Path("sky"),
            "levels": (0.5, 0.9),
            "mjd": None,
            "shape": "auto",
            "members": False,
            "ignore_mismatch": (),
            "inputs": None,
            "device": "auto",
            "backend": "auto",
            "allow_code": (),
            "raw": False,
        },
    ),
    "compare-data": (
        ["a*", "b*"],
        {
            "as_json": False,
            **LOG,
            "out": Path("data_comparison"),
            "config_file": None,
            "events": 20_000,
            "inputs": (),
            "weights": None,
            "seed": 1,
        },
    ),
    "data check": (
        ["a*"],
        {
            **LOG,
            "inputs": None,
            "num_bins": None,
            "labels": None,
            "data_settings": None,
            "jobs": None,
            "as_json": False,
        },
    ),
    "import": (
        ["folder", "-o", "model"],
        {
            **LOG,
            "output": Path("model"),
            "trafo": None,
            "config_files": (),
            "data_settings": None,
            "overwrite": False,
        },
    ),
    "export": (
        [*CONFIG, "-o", "model"],
        {
            **LOG,
            "num_threads": 0,
            "output": Path("model"),
            "data_settings": None,
            "checkpoints": ("latest",),
            "members": (),
            "logs": True,
            "golden_events": 32,
            "golden_from": None,
            "about": None,
            "onnx": False,
            "quantize": False,
            "triton": None,
            "sign": None,
            "overwrite": False,
        },
    ),
    "verify": (
        ["."],
        {
            "as_json": False,
            **LOG,
            "num_threads": 0,
            "key": None,
            "allow_code": (),
            "device": "auto",
        },
    ),
    "inspect": (["."], {"as_json": False}),
    "models": ([], {"as_json": False}),
    "apply": (
        ["model", "-i", "a.hdf5", "-o", "out"],
        {
            **LOG,
            **FARM,
            "num_threads": 0,
            "inputs": ("a.hdf5",),
            "output": Path("out"),
            "file_format": None,
            "batch_size": 256,
            "jobs": None,
            "device": "auto",
            "backend": "auto",
            "measure_time": False,
            "data_settings": None,
            "ignore_mismatch": (),
            "table_names": None,
            "raw": False,
            "allow_code": (),
            "overwrite": False,
            "pulses": None,
            "gcd": None,
            "hdf5": None,
            "parquet": None,
        },
    ),
    "create-data": (
        [__file__],
        {
            **LOG,
            **FARM,
            "num_threads": 0,
            **dict.fromkeys(("gcd", "pulses", "data_format", "relative_time_method", "time_bins")),
            **dict.fromkeys(("time_quantiles", "num_bins", "cascade_key", "partial_exclusion")),
            **dict.fromkeys(("inputs", "exclusions", "streams", "allow_code"), ()),
            **dict.fromkeys(("out", "step", "jobs")),
            "overwrite": False,
            "dry_run": False,
        },
    ),
    "i3 ls": (
        [__file__],
        {"as_json": False, **LOG, **I3, "by_key": False, "frame": None, "whole": False},
    ),
    "i3 show": (
        [__file__],
        {**LOG, **I3, "event": "first", "keys": (), "stop": "P", "rows": 40, "whole": False},
    ),
    "i3 export": (
        [__file__, "--keys", "a", "--out", "a.csv"],
        {**LOG, **I3, "names": ("a",), "out": Path("a.csv"), "stop": "P"},
    ),
    "view": (
        ["test.hdf5"],
        {
            **LOG,
            "num_threads": 0,
            "pulses": None,
            "event": "first",
            "model": None,
            "out": None,
            "html": None,
            "network": False,
            "tables": None,
            "num_bins": None,
            "labels": None,
            "charge_feature": 0,
            "time_feature": None,
            "ignore_mismatch": (),
            "allow_code": (),
            "device": "auto",
        },
    ),
    "serve": (
        ["model"],
        {
            **LOG,
            "num_threads": 0,
            "host": "127.0.0.1",
            "port": 8000,
            "batch_size": 256,
            "max_wait": 2,
            "max_queue": 4096,
            "max_request_size": 64 * 10**6,
            "backend": "auto",
            "device": "auto",
            "raw": False,
            "allow_code": (),
        },
    ),
    "simulate": (
        ["--out", "events"],
        {
            **LOG,
            "events": 5000,
            "out": Path("events"),
            "layout": "flat",
            "preset": None,
            **dict.fromkeys(("flavor", "energy", "spectrum", "zenith", "data_format")),
            **dict.fromkeys(("time_bins", "files", "seed", "jobs")),
            "keep_pulses": False,
        },
    ),
    "config show": (CONFIG, {}),
    "config example": (["tutorial/getting_started"], {}),
    "version": ([], {"as_json": False}),
    "doctor": ([], {"data": Path(), "cache": Path(), "as_json": False}),
    "completion": (["bash"], {}),
    "config check": (CONFIG, {"as_json": False, "allow_overlap": False, "network": False}),
    "submit train": (
        [*CONFIG, "--cluster", "slurm"],
        {
            **LOG,
            "cluster": "slurm",
            "out": None,
            "cpus": 4,
            "gpus": 1,
            "memory": "8 GB",
            "longest": None,
            "env_setup": None,
            "options": (),
            "dry_run": False,
        },
    ),
}
ARGUMENTS = {
    "import": {"folder": Path("folder")},
    "simulate": {},
    "evaluate": {"networks": ("a.yaml",)},
    "calibrate": {"folder": Path()},
    "sky": {"model": Path("model")},
    "compare-data": {"first": "a*", "second": "b*"},
    "data check": {"names": ("a*",)},
    "verify": {"folder": Path()},
    "inspect": {"folder": Path()},
    "models": {},
    "apply": {"models": (Path("model"),)},
    "view": {"file": Path("test.hdf5")},
    "create-data": {"config": Path(__file__)},
    "i3 ls": {"files": (Path(__file__),)},
    "i3 show": {"file": Path(__file__), "more_keys": ()},
    "i3 export": {"files": (Path(__file__),)},
    "serve": {"models": ("model",)},
    "version": {},
    "doctor": {},
    "completion": {"shell": "bash"},
    "config example": {"name": "tutorial/getting_started"},
}


def find(command: str) -> click.Command:
    found: click.Command = cli
    for name in command.split():
        assert isinstance(found, click.Group)
        found = found.commands[name]
    return found


def parse(command: str, words: list[str]) -> dict[str, Any]:
    return find(command).make_context(command, list(words)).params


def helps(command: str) -> str:
    """Help of a command, with one space between words."""
    return " ".join(CliRunner().invoke(cli, [*command.split(), "--help"]).output.split())


def test_the_table_names_all_commands() -> None:
    names = []
    for name, command in cli.commands.items():
        below = command.commands if isinstance(command, click.Group) else {}
        names += [f"{name} {each}" for each in below] or [name]
    assert sorted(names) == sorted(DEFAULTS)


@pytest.mark.parametrize("command", DEFAULTS)
def test_defaults(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words, expected = DEFAULTS[command]
    arguments = ARGUMENTS.get(command, {"config_files": ("a.yaml",)})
    assert parse(command, words) == {**arguments, **expected}


# Command, words, the parameter they set, and its value.
SPELLINGS: list[tuple[str, list[str], str, Any]] = [
    *[("count", [flag, "3"], "jobs", 3) for flag in ("-j", "--n_jobs", "--n-jobs")],
    ("count", ["--apply-filters"], "apply_filters", True),
    *[
        (command, [flag, value], name, expected)
        for command in ("count", "trafo", "train", "compare", "evaluate", "calibrate")
        for flag, value, name, expected in (
            ("--cache_dir", "store", "cache_dir", "store"),
            ("--cache-dir", "store", "cache_dir", "store"),
            ("--num_threads", "0", "num_threads", 0),
            ("--num-threads", "2", "num_threads", 2),
        )
    ],
    *[
        (command, [flag, value], "log_level", value.upper())
        for command in DEFAULTS
        if command
        not in (
            "config show",
            "config check",
            "config example",
            "inspect",
            "models",
            "version",
            "doctor",
            "completion",
        )
        for flag, value in (
            *[
                ("--log_level", level)
                for level in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
            ],
            ("--log-level", "warning"),
        )
    ],
    *[
        (command, [flag], "allow_overlap", True)
        for command in ("train", "compare", "evaluate", "calibrate", "config check")
        for flag in ("--allow-overlap", "--allow_overlap")
    ],
    *[
        (command, ["--device", "cuda:1"], "device", "cuda:1")
        for command in ("train", "compare", "evaluate", "calibrate", "sky", "view")
    ],
    *[
        (command, [flag, str(code)], "checkpoint_exit_code", code)
        for command in ("train", "compare")
        for flag, code in (
            ("--checkpoint_exit_code", 0),
            ("--checkpoint-exit-code", 85),
            ("--checkpoint-exit-code", 255),
        )
    ],
    ("config check", ["--network"], "network", True),
    ("trafo", ["--overwrite"], "overwrite", True),
    ("train", ["--iterations", "1"], "iterations", 1),
    ("train", ["--processes", "1"], "processes", 1),
    ("train", ["--deterministic"], "deterministic", True),
    ("train", ["--estimate"], "estimate", True),
    ("compare", ["--seconds", "0.5"], "seconds", 0.5),
    ("compare", ["--iterations", "1"], "iterations", 1),
    ("compare", ["--seed", "0"], "seed", 0),
    ("compare", ["--out", "there"], "out", Path("there")),
    *[
        (command, [flag, "a", flag, "b"], "test_data", ("a", "b"))
        for command in ("compare", "evaluate")
        for flag in ("--test-data", "--test_data")
    ],
    *[(command, ["--ensemble"], "ensemble", True) for command in ("compare", "evaluate")],
    ("evaluate", ["--checkpoints", "1"], "checkpoints", 1),
    ("evaluate", ["--out", "there"], "out", Path("there")),
    *[
        (command, [flag, "mine", flag, "yours"], "allow_code", ("mine", "yours"))
        for command in ("evaluate", "calibrate", "sky", "view", "apply")
        for flag in ("--allow-code", "--allow_code")
    ],
    ("import", ["--output", "other"], "output", Path("other")),
    ("import", ["--trafo", "t.npy"], "trafo", Path("t.npy")),
    ("import", ["--config", "a", "--config", "b"], "config_files", (Path("a"), Path("b"))),
    *[(command, ["--overwrite"], "overwrite", True) for command in ("import", "export", "apply")],
    *[
        ("export", [flag, "there"], "output", Path("there"))
        for flag in ("-o", "--output", "--output_folder", "--output-folder")
    ],
    *[
        (command, [flag, __file__], "data_settings", Path(__file__))
        for command, flags in {
            "export": ("-s", "--data_settings", "--data-settings"),
            "import": ("-s", "--data_settings", "--data-settings"),
            "apply": ("--data_settings", "--data-settings"),
        }.items()
        for flag in flags
    ],
    ("export", ["--checkpoint", "4", "--checkpoint", "best"], "checkpoints", ("4", "best")),
    ("export", ["--member", "b.yaml"], "members", ("b.yaml",)),
    ("export", ["--no-logs"], "logs", False),
    *[
        ("export", [flag, "0"], "golden_events", 0)
        for flag in ("--golden-events", "--golden_events")
    ],
    ("export", ["--golden-from", "public/*.hdf5"], "golden_from", "public/*.hdf5"),
    ("export", ["--onnx"], "onnx", True),
    ("export", ["--quantize"], "quantize", True),
    ("export", ["--triton", "there"], "triton", Path("there")),
    ("export", ["--sign", __file__], "sign", Path(__file__)),
    ("verify", ["--key", __file__], "key", Path(__file__)),
    ("inspect", ["--json"], "as_json", True),
    ("models", ["--json"], "as_json", True),
    ("export", ["--about", __file__], "about", Path(__file__)),
    ("apply", ["--jobs", "1"], "jobs", 1),
    ("apply", ["--tables", "dnn_data"], "table_names", "dnn_data"),
    ("apply", ["-j", "2"], "jobs", 2),
    *[("apply", ["--format", name], "file_format", name) for name in ("hdf5", "parquet", "i3")],
    *[("apply", [flag], "measure_time", True) for flag in ("--measure-time", "--measure_time")],
    *[
        (command, [flag, "pulse_key", flag, "x"], "ignore_mismatch", ("pulse_key", "x"))
        for command in ("apply", "evaluate", "calibrate", "sky", "view")
        for flag in ("--ignore-mismatch", "--ignore_mismatch")
    ],
    *[
        (command, [flag, "1"], "batch_size", 1)
        for command in ("apply", "serve")
        for flag in ("--batch-size", "--batch_size")
    ],
    *[
        (command, ["--backend", name], "backend", name)
        for command in ("apply", "serve", "sky")
        for name in ("torch", "onnxruntime")
    ],
    *[
        (command, ["--device", "cuda:1"], "device", "cuda:1")
        for command in ("verify", "apply", "serve")
    ],
    *[
        (command, ["--allow-code", "mine"], "allow_code", ("mine",))
        for command in ("verify", "apply", "serve")
    ],
    *[(command, ["--raw"], "raw", True) for command in ("apply", "serve", "sky")],
    ("evaluate", ["--stored", "all", "--stored", "other"], "stored", ("all", "other")),
    ("evaluate", ["--weights", "W.weight"], "weights", "W.weight"),
    ("evaluate", ["--flux", "E^-2"], "flux", "E^-2"),
    ("evaluate", ["--perturb"], "perturb", True),
    ("evaluate", ["--tables", "dnn_data"], "tables", "dnn_data"),
    ("calibrate", ["--data", "a", "--data", "b"], "data", ("a", "b")),
    *[
        ("calibrate", [flag, "reconstruction"], "coverage_by", "reconstruction")
        for flag in ("--coverage-by", "--coverage_by")
    ],
    ("calibrate", ["--remove"], "remove", True),
    ("calibrate", ["--sign", __file__], "sign", Path(__file__)),
    ("sky", ["--event", "3"], "event", 3),
    *[
        ("sky", [flag, name], "out", Path("maps/event_3"))
        for flag in ("-o", "--out")
        for name in ("maps/event_3", "maps/event_3.fits", "maps/event_3.png")
    ],
    ("sky", ["--out", "run_1.5"], "out", Path("run_1.5")),
    ("sky", ["--credible", "90,50,68.5"], "levels", (0.5, 0.685, 0.9)),
    ("sky", ["--mjd", "58018.87"], "mjd", 58018.87),
    *[
        ("sky", ["--density", name], "shape", name)
        for name in ("fisher", "vector", "circular", "elliptical")
    ],
    ("sky", ["--members"], "members", True),
    ("sky", ["--tables", "dnn_data"], "inputs", "dnn_data"),
    *[("view", [flag, "7:3"], "event", "7:3") for flag in ("--event", "--id")],
    ("view", ["--model", "folder"], "model", "folder"),
    *[("view", ["--out", f"a.{s}"], "out", Path(f"a.{s}")) for s in ("png", "pdf", "svg")],
    ("view", ["--html"], "html", Path("event.html")),
    ("view", ["--html", "a.html"], "html", Path("a.html")),
    ("view", ["--network"], "network", True),
    ("view", ["--tables", "dnn_data"], "tables", "dnn_data"),
    *[("view", [flag, "3"], "num_bins", 3) for flag in ("--num-bins", "--num_bins")],
    ("view", ["--labels", "Truth"], "labels", "Truth"),
    *[
        ("view", [flag, "0"], "charge_feature", 0)
        for flag in ("--charge-feature", "--charge_feature")
    ],
    ("view", ["--charge-feature", "2"], "charge_feature", 2),
    *[("view", [flag, "0"], "time_feature", 0) for flag in ("--time-feature", "--time_feature")],
    ("compare-data", ["--out", "there"], "out", Path("there")),
    ("compare-data", ["--config", "a.yaml"], "config_file", "a.yaml"),
    ("compare-data", ["--events", "2"], "events", 2),
    ("compare-data", ["--tables", "a", "--tables", "b"], "inputs", ("a", "b")),
    ("compare-data", ["--weights", "W.weight"], "weights", ("W", "weight")),
    ("compare-data", ["--seed", "0"], "seed", 0),
    ("data check", ["--tables", "dnn_data"], "inputs", "dnn_data"),
    *[("data check", [flag, "3"], "num_bins", 3) for flag in ("--num-bins", "--num_bins")],
    ("data check", ["--labels", "Truth"], "labels", "Truth"),
    *[
        ("data check", [flag, __file__], "data_settings", Path(__file__))
        for flag in ("-s", "--data-settings", "--data_settings")
    ],
    *[("data check", [flag, "3"], "jobs", 3) for flag in ("-j", "--n-jobs", "--n_jobs")],
    *[
        (command, ["--json"], "as_json", True)
        for command in ("count", "compare", "evaluate", "data check", "compare-data", "verify")
    ],
    *[(command, ["--json"], "as_json", True) for command in ("i3 ls", "config check")],
    ("serve", ["--host", "0.0.0.0"], "host", "0.0.0.0"),
    ("serve", ["--port", "0"], "port", 0),
    ("serve", ["--max-wait", "0"], "max_wait", 0),
    ("serve", ["--max-queue", "1"], "max_queue", 1),
    ("serve", ["--max-request-size", "500KB"], "max_request_size", 500_000),
    ("simulate", ["preset.yaml"], "preset", Path("preset.yaml")),
    ("simulate", ["--events", "1"], "events", 1),
    ("simulate", ["--layout", "tutorial"], "layout", "tutorial"),
    *[
        ("simulate", ["--flavor", flavor], "flavor", flavor)
        for flavor in ("nue", "numu", "nutau", "mixed", "muon")
    ],
    ("simulate", ["--energy", "1e2", "1e4"], "energy", (100.0, 10000.0)),
    ("simulate", ["--zenith", "0", "90"], "zenith", (0.0, 90.0)),
    ("simulate", ["--spectrum", "2.5"], "spectrum", 2.5),
    ("simulate", ["--format", "charge_bins"], "data_format", "charge_bins"),
    *[
        ("simulate", [flag, "0,500"], "time_bins", "0,500")
        for flag in ("--time_bins", "--time-bins")
    ],
    ("simulate", ["--files", "1"], "files", 1),
    ("simulate", ["--seed", "0"], "seed", 0),
    *[("simulate", [flag], "keep_pulses", True) for flag in ("--keep_pulses", "--keep-pulses")],
    *[("simulate", [flag, "1"], "jobs", 1) for flag in ("-j", "--jobs")],
    ("submit train", ["--cluster", "htcondor"], "cluster", "htcondor"),
    ("submit train", ["--out", "there"], "out", Path("there")),
    ("submit train", ["--cpus", "1"], "cpus", 1),
    ("submit train", ["--gpus", "0"], "gpus", 0),
    ("submit train", ["--memory", "500 MB"], "memory", "500 MB"),
    ("submit train", ["--time", "24h"], "longest", "24h"),
    ("submit train", ["--env-setup", "env.sh"], "env_setup", "env.sh"),
    ("submit train", ["--option", "a=1", "--option", "b=2"], "options", ("a=1", "b=2")),
    ("submit train", ["--dry-run"], "dry_run", True),
]


@pytest.mark.parametrize(
    ("command", "words", "name", "value"),
    SPELLINGS,
    ids=[" ".join([command, *words]) for command, words, _, _ in SPELLINGS],
)
def test_spellings(command: str, words: list[str], name: str, value: Any) -> None:
    """Each option, at the edge of what is allowed, sets its own value and no other."""
    needed, _ = DEFAULTS[command]
    assert parse(command, [*needed, *words]) == {**parse(command, needed), name: value}


REFUSED = [
    *[("count", flag, "0") for flag in ("-j", "--n-jobs")],
    ("count", "--num-threads", "-1"),
    ("train", "--iterations", "0"),
    ("train", "--processes", "0"),
    ("train", "--checkpoint-exit-code", "-1"),
    ("train", "--checkpoint-exit-code", "256"),
    ("train", "--log-level", "loud"),
    ("compare", "--seconds", "0"),
    ("compare", "--iterations", "0"),
    ("compare", "--seed", "-1"),
    ("evaluate", "--checkpoints", "0"),
    ("export", "--golden-events", "-1"),
    *[(command, "--batch-size", "0") for command in ("apply", "serve")],
    ("apply", "--jobs", "0"),
    ("apply", "--format", "root"),
    ("apply", "--backend", "tensorflow"),
    ("view", "--num-bins", "0"),
    ("view", "--out", "events.hdf5"),
    ("view", "--html", "events.hdf5"),
    ("view", "--charge-feature", "-1"),
    ("view", "--time-feature", "-1"),
    ("calibrate", "--coverage-by", "energy"),
    ("calibrate", "--sign", "no_key.pem"),
    ("sky", "--event", "-1"),
    ("sky", "--density", "flat"),
    ("sky", "--backend", "tensorflow"),
    *[("sky", "--credible", text) for text in ("0", "100", "50,x", "", "nan", "-5")],
    *[("sky", "--out", name) for name in ("", ".fits", ".")],
    ("compare-data", "--events", "1"),
    ("compare-data", "--seed", "-1"),
    ("data check", "--num-bins", "0"),
    ("data check", "-j", "0"),
    ("serve", "--port", "65536"),
    ("serve", "--max-queue", "0"),
    ("serve", "--max-request-size", "much"),
    ("simulate", "--events", "0"),
    ("simulate", "--files", "0"),
    ("simulate", "--jobs", "0"),
    ("simulate", "--seed", "-1"),
    ("simulate", "--layout", "round"),
    ("simulate", "--flavor", "tau"),
    ("submit train", "--cluster", "pbs"),
    ("submit train", "--cpus", "0"),
    ("submit train", "--gpus", "-1"),
]


@pytest.mark.parametrize(("command", "option", "value"), REFUSED)
def test_values_that_are_refused(command: str, option: str, value: str) -> None:
    with pytest.raises(click.BadParameter):
        parse(command, [*DEFAULTS[command][0], option, value])


@pytest.mark.parametrize(
    ("command", "words"),
    [
        *[(command, []) for command in ("count", "trafo", "train", "compare", "evaluate")],
        *[("config show", []), ("config check", []), ("submit train", ["--cluster", "slurm"])],
        *[("submit train", CONFIG), ("import", ["folder"]), ("import", ["-o", "a"])],
        ("simulate", []),
        *[("export", CONFIG), ("export", ["-o", "a"]), ("verify", []), ("inspect", [])],
        *[("apply", ["model", "-i", "a"]), ("apply", ["model", "-o", "a"]), ("serve", [])],
        ("apply", ["-i", "a", "-o", "b"]),
        *[("calibrate", []), ("sky", ["model"]), ("sky", ["-i", __file__]), ("view", [])],
        *[("compare-data", ["a*"]), ("data check", [])],
    ],
)
def test_what_is_needed(command: str, words: list[str]) -> None:
    with pytest.raises(click.MissingParameter):
        parse(command, words)


@pytest.mark.parametrize(
    ("command", "several"),
    [
        *[(command, ["a.yaml", "b.yaml"]) for command in ("count", "trafo", "train", "compare")],
        *[(command, ["a.yaml", "b.yaml"]) for command in ("config show", "config check")],
        ("submit train", ["a.yaml", "b.yaml", "--cluster", "slurm"]),
    ],
)
def test_several_configs(command: str, several: list[str]) -> None:
    assert parse(command, several)["config_files"] == ("a.yaml", "b.yaml")
    assert parse("evaluate", ["a.yaml", "models/b"])["networks"] == ("a.yaml", "models/b")


@pytest.mark.parametrize(
    ("command", "words", "option"),
    [
        ("import", ["folder", "-o", "file.txt"], "--out"),
        ("import", ["folder", "-o", "a", "--trafo", "folder"], "--trafo"),
        ("import", ["folder", "-o", "a", "--config", "folder"], "--config"),
        ("simulate", ["--out", "file.txt"], "--out"),
        ("simulate", ["--out", "a", "folder"], "PRESET"),
        ("train", ["a.yaml", "--cache-dir", "file.txt"], "--cache-dir"),
        ("compare", ["a.yaml", "--out", "file.txt"], "--out"),
        ("evaluate", ["a.yaml", "--out", "file.txt"], "--out"),
        ("compare-data", ["a*", "b*", "--out", "file.txt"], "--out"),
        ("calibrate", ["file.txt"], "MODEL"),
        ("sky", ["file.txt", "-i", "file.txt"], "MODEL"),
        ("sky", ["folder", "-i", "folder"], "--input"),
        ("view", ["folder"], "FILE"),
        ("submit train", ["a.yaml", "--cluster", "slurm", "--out", "file.txt"], "--out"),
    ],
)
def test_a_file_is_no_folder_and_a_folder_is_no_file(
    command: str, words: list[str], option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.txt").touch()
    with pytest.raises(click.BadParameter) as error:
        parse(command, words)
    assert option in error.value.format_message()
    assert re.search("is a (file|directory)", error.value.format_message())


@pytest.mark.parametrize(
    ("command", "promise"),
    [
        *[
            (command, promise)
            for command in ("count", "trafo", "train", "compare", "evaluate")
            for promise in (
                "[default: INFO]",
                "slot of the batch system grants. [default: 0; x>=0]",
            )
        ],
        ("train", "auto: a GPU if there is one. [default: auto]"),
        ("train", "start the command with torchrun instead. [default: 1; x>=1]"),
        ("train", "(HTCondor: 85). [default: (143); 0<=x<=255]"),
        ("compare", "[default: (comparison)]"),
        ("evaluate", "[default: (evaluation)]"),
        ("evaluate", "[default: 1; x>=1]"),
        ("calibrate", "[default: class]"),
        ("sky", "[default: 50,90]"),
        ("sky", "files of these names are replaced. [default: sky]"),
        ("view", "[default: first]"),
        ("compare-data", "[default: (data_comparison)]"),
        ("compare-data", "[default: 20000; x>=2]"),
        ("compare-data", "Seed of the draws. [default: 1; x>=0]"),
        ("data check", "Files to check at the same time. [default: (all CPUs); x>=1]"),
        ("import", "[required]"),
        ("simulate", "Events in all. [default: 5000; x>=1]"),
        ("simulate", "[default: flat]"),
        ("simulate", "--events N"),
        ("submit train", "CPUs to ask for. [default: 4; x>=1]"),
        ("submit train", "GPUs to ask for. [default: 1; x>=0]"),
        ("submit train", "Memory to ask for. [default: 8 GB]"),
        ("submit train", "CONFIG... [-- OPTIONS OF train]"),
    ],
)
def test_help_tells_the_defaults(command: str, promise: str) -> None:
    assert promise in helps(command)


def test_run_options_of_python_are_those_of_the_command_line() -> None:
    given = parse("train", CONFIG)
    for name, value in vars(RunOptions()).items():
        assert given[name] == value


def test_threads() -> None:
    assert RunOptions(num_threads=3).threads == 3
    assert RunOptions().threads == available_cpus()
