"""`compare`: equal budgets, equal events, going on, and what it refuses."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from event_files import Events, random_events, write_events
from ruamel.yaml import YAML
from small_run import make_small_run, signal_while_training
from tiny_network import TinyNetwork, tiny
from workspace import Result, invoke

from dnn_reco.checkpoint_file import Checkpoint, load_latest
from dnn_reco.config import load_config
from dnn_reco.errors import DataError
from dnn_reco.training.comparison import check_budget

DIRECTION = ("PrimaryDirectionX", "PrimaryDirectionY", "PrimaryDirectionZ")
NUM_TEST = 90
FILES = {"train_0": 60, "train_1": 60, "validation": 40, "test": NUM_TEST, "more": 30}
ONE_CYCLE = {
    "full_class_string": "dnn_reco.utils.learning_rate.OneCycle",
    "settings": {"rate": 0.01, "steps": "{num_training_iterations}"},
}


def with_types(events: Events) -> Events:
    """Events with the labels that tell their type: each is there."""
    starting = events.labels["p_starting"]
    events.labels["p_entering"] = 1 - starting
    events.labels["p_is_track"] = (np.arange(len(events)) % 2).astype(np.float64)
    return events


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Event files, and a config that is to be copied."""
    folder = tmp_path_factory.mktemp("compare")
    make_small_run(
        folder,
        **tiny(),
        label_weight_dict={"EnergyVisible": 1.0, **dict.fromkeys(DIRECTION, 1.0)},
        label_pid_keys=["p_starting", "p_entering", "p_is_track"],
        test_data_file=[str(folder / "test.hdf5")],
        validation_frequency=10,
        trafo_num_batches=5,
        validation_events=20,
    )
    for number, (name, size) in enumerate(FILES.items()):
        path = folder / f"{name}.hdf5"
        write_events(path, with_types(random_events(number, size, num_bins=3, run=number)))
    return folder


class Contest:
    """A folder with configs `a` and `b`, which is the working directory."""

    def __init__(self, folder: Path, made: Path) -> None:
        self.folder, self.made = folder, made
        self.out = folder / "comparison"
        self.write("a")
        self.write("b", batch_size=4)

    def write(self, name: str, **changes: object) -> Path:
        """Write a config with some other values; None leaves a key out."""
        values = YAML(typ="safe", pure=True).load(self.made / "small.yaml")
        values |= {"data_cache_dir": str(self.made / "store"), **changes}
        path = self.folder / f"{name}.yaml"
        with path.open("w") as file:
            kept = {key: value for key, value in values.items() if value is not None}
            YAML(typ="safe", pure=True).dump(kept, file)
        return path

    def run(self, *arguments: str) -> Result:
        """Compare `a` and `b` on the CPU, with further arguments."""
        return invoke("compare", "a.yaml", "b.yaml", *arguments, *OPTIONS)

    def error(self, *arguments: str) -> str:
        """The message of a comparison that must fail before anything is trained."""
        result = self.run(*arguments)
        assert result.exit_code == 1, result
        assert result.err.count("Error: ") == 1, result.err
        assert "Traceback" not in result.err
        assert not (self.out / "b" / "model").exists()
        return result.err[result.err.index("Error: ") :]

    def checkpoint(self, name: str) -> Checkpoint:
        """What the training of a config ended with."""
        found = load_latest(self.out / name / "model")
        assert found is not None
        return found


OPTIONS = ("--device", "cpu", "--num_threads", "1")


@pytest.fixture
def contest(tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Contest:
    monkeypatch.chdir(tmp_path)
    return Contest(tmp_path, made)


def test_equal_iterations_and_what_is_written(contest: Contest) -> None:
    weights = dict.fromkeys(("PrimaryZenith", "PrimaryAzimuth", "p_starting"), 1.0)
    contest.write("b", label_weight_dict=weights)
    result = contest.run("--iterations", "12")
    assert result.exit_code == 0, result.err
    assert max(map(len, result.out.splitlines())) <= 100
    assert f"{NUM_TEST} held-out events" in result.out
    assert "STARTING TRACKS" in result.out
    assert "Step: " not in result.out
    assert "Step: 00000000" in (contest.out / "a" / "print_out.txt").read_text()
    for name in ("a", "b"):
        assert contest.checkpoint(name).progress.iterations == 12
        assert contest.checkpoint(name).progress.seed == 42
    report = json.loads((contest.out / "comparison.json").read_text())
    assert report["num_events"] == NUM_TEST
    assert report["energy_label"] == "EnergyVisible"
    assert [report["networks"][name]["iterations"] for name in ("a", "b")] == [12, 12]
    types = {group["event_type"]: group["num_events"] for group in report["groups"][::-1]}
    assert types["all events"] == NUM_TEST
    assert sum(n for name, n in types.items() if name != "all events") == NUM_TEST
    found = report["groups"][0]["found"]
    assert 0 < found["a"]["angle_50"]["value"] < 180
    assert 0 < found["b"]["angle_50"]["value"] < 180  # from the angles
    assert "pull/PrimaryZenith" in found["b"]
    assert "pull/p_starting" not in found["b"]
    assert "energy_rms" in found["a"]
    assert "energy_rms" not in found["b"]  # it was not trained
    for figure in ("opening_angle", "energy", "pulls"):
        assert (contest.out / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    assert "## Cascade" in (contest.out / "comparison.md").read_text()
    config = load_config([contest.folder / "a.yaml"])
    assert not Path(config.model.model_checkpoint_path).exists()
    assert not Path(config.trafo.trafo_model_path).exists()
    assert not list(contest.out.glob("**/.tmp*"))


def test_the_config_that_is_kept_names_the_event_store(contest: Contest) -> None:
    """Evaluating the training later on finds the events there."""
    path = contest.write("a", data_cache_dir=None)
    assert invoke("compare", "a.yaml", "--iterations", "2", *OPTIONS).exit_code == 0
    kept = load_config([contest.out / "a" / "config.yaml"])
    assert kept.event_store == load_config([path]).event_store.resolve()
    assert kept.event_store.is_dir()


def test_finished_trainings_are_taken_and_configs_can_be_added(contest: Contest) -> None:
    assert contest.run("--iterations", "4").exit_code == 0
    before = {name: contest.checkpoint(name).path.stat().st_mtime_ns for name in ("a", "b")}
    first = json.loads((contest.out / "comparison.json").read_text())
    contest.write("c", batch_size=6)
    result = contest.run("c.yaml", "--iterations", "4")
    assert result.exit_code == 0, result.err
    assert result.err.count("Already trained") == 2
    after = {name: contest.checkpoint(name).path.stat().st_mtime_ns for name in ("a", "b")}
    assert after == before
    second = json.loads((contest.out / "comparison.json").read_text())
    assert list(second["networks"]) == ["a", "b", "c"]
    for name in ("a", "b"):
        assert second["networks"][name] == first["networks"][name]
        assert second["groups"][0]["found"][name] == first["groups"][0]["found"][name]


def test_all_networks_together(contest: Contest) -> None:
    result = contest.run("--iterations", "6", "--ensemble")
    assert result.exit_code == 0, result.err
    report = json.loads((contest.out / "comparison.json").read_text())
    networks = report["networks"]
    assert list(networks) == ["a", "b", "ensemble"]
    for key in ("iterations", "num_events", "num_weights"):
        assert networks["ensemble"][key] == networks["a"][key] + networks["b"][key]
    found = report["groups"][0]["found"]
    # the rms of a mean of residuals is at most the mean of their rms
    of_a, of_b, of_both = (found[name]["energy_rms"]["value"] for name in networks)
    assert of_both <= 1.001 * (of_a + of_b) / 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_keys_to_load": ["EnergyVisible", "PrimaryZenith"]}, "the same label keys"),
        (None, "at least two networks"),
    ],
)
def test_networks_that_cannot_be_one(
    contest: Contest, changes: dict[str, object] | None, message: str
) -> None:
    if changes is not None:
        contest.write("b", **changes)
        result = contest.run("--iterations", "6", "--ensemble")
    else:
        result = invoke("compare", "a.yaml", "--iterations", "6", "--ensemble")
    assert result.exit_code == 1
    assert message in result.err


def test_a_budget_of_time_is_the_length_of_the_schedule(contest: Contest) -> None:
    optimizer = {
        "adam": {
            "optimizer_settings": {"learning_rate": ONE_CYCLE},
            "loss_class": "dnn_reco.modules.loss.default_loss.gaussian_likelihood",
        }
    }
    contest.write("a", model_optimizer_dict=optimizer, num_training_iterations=None)
    result = contest.run("--seconds", "1")
    assert result.exit_code == 0, result.err
    config = load_config([contest.out / "a" / "config.yaml"])
    iterations = config.training.num_training_iterations
    rate = config.optimizers["adam"].optimizer_settings["learning_rate"]
    assert rate.settings["steps"] == iterations
    assert contest.checkpoint("a").progress.iterations == iterations
    report = json.loads((contest.out / "comparison.json").read_text())["networks"]
    assert report["a"]["iterations"] == iterations
    assert report["a"]["seconds"] > 0
    again = contest.run("--seconds", "1")
    assert again.err.count("Already trained") == 2
    assert "An iteration takes" in result.err
    assert "An iteration takes" not in again.err


def test_a_schedule_of_another_length_is_told(contest: Contest) -> None:
    settings = {"rate": 0.01, "steps": 500}
    schedule = {**ONE_CYCLE, "settings": settings}
    optimizer = {
        "adam": {
            "optimizer_settings": {"learning_rate": schedule},
            "other_optimizers": {
                "unc": {"vars": "unc", "optimizer_settings": {"learning_rate": schedule}},
            },
            "loss_class": "dnn_reco.modules.loss.default_loss.gaussian_likelihood",
        }
    }
    contest.write("b", model_optimizer_dict=optimizer)
    result = contest.run("--iterations", "2")
    assert result.exit_code == 0
    warning = "the learning rate of adam, adam/unc does not depend on the length of this training"
    assert f"WARNING: 'b': {warning}" in result.err
    assert "'a': the learning rate" not in result.err


def test_the_same_seed_for_all(contest: Contest) -> None:
    contest.write("a", seed=5)
    contest.write("b", seed=6)
    assert contest.run("--iterations", "2").exit_code == 0
    assert [contest.checkpoint(name).progress.seed for name in ("a", "b")] == [5, 5]
    contest.out = contest.folder / "other"
    options = ("--iterations", "2", "--seed", "7", "--out", "other", *OPTIONS)
    assert invoke("compare", "b.yaml", *options).exit_code == 0
    assert contest.checkpoint("b").progress.seed == 7


def test_averaged_weights_are_evaluated(contest: Contest) -> None:
    """With an average the same training ends with the same weights, but is judged by others."""
    contest.write("a", ema_decay=0.5)
    contest.write("b")
    assert contest.run("--iterations", "8").exit_code == 0
    a, b = contest.checkpoint("a"), contest.checkpoint("b")
    for name, weights in a.section("network").items():
        assert torch.equal(weights, b.section("network")[name]), name
    found = json.loads((contest.out / "comparison.json").read_text())["groups"][0]["found"]
    assert found["a"]["angle_mean"] != found["b"]["angle_mean"]


def test_a_config_of_several_files(contest: Contest) -> None:
    values = YAML(typ="safe", pure=True).load(contest.folder / "a.yaml")
    part = {"batch_size": values.pop("batch_size")}
    for name, content in (("data", values), ("network", part)):
        with (contest.folder / f"{name}.yaml").open("w") as file:
            YAML(typ="safe", pure=True).dump(content, file)
    result = invoke("compare", "data.yaml+network.yaml", "--iterations", "2", *OPTIONS)
    assert result.exit_code == 0, result.err
    assert contest.checkpoint("network").progress.iterations == 2


def test_overlap_of_training_and_test_files(contest: Contest, made: Path) -> None:
    patterns = [str(made / "train_1.hdf5"), str(made / "test.hdf5")]
    arguments = ("--iterations", "2", "--test-data", patterns[0], "--test-data", patterns[1])
    message = contest.error(*arguments)
    assert (
        f"'{made / 'train_1.hdf5'}' is both in training_data_file and in test_data_file" in message
    )
    assert str(made / "test.hdf5") not in message
    assert "--allow-overlap" in message
    result = contest.run(*arguments, "--allow-overlap")
    assert result.exit_code == 0
    assert "WARNING" in result.err
    assert f"{NUM_TEST + FILES['train_1']} held-out events" in result.out


def test_different_files(contest: Contest, made: Path) -> None:
    contest.write("b", test_data_file=str(made / "more.hdf5"))
    message = contest.error("--iterations", "2")
    assert "'a' and 'b' do not have the same files in test_data_file" in message
    assert f"only in 'a': '{made / 'test.hdf5'}'\nonly in 'b': '{made / 'more.hdf5'}'" in message
    assert "--test-data" in message
    contest.write("b", training_data_file=str(made / "train_0.hdf5"))
    message = contest.error("--iterations", "2")
    assert "same files in training_data_file" in message
    assert f"only in 'a': '{made / 'train_1.hdf5'}'" in message


def test_different_events_of_the_same_files(contest: Contest) -> None:
    contest.write(
        "b",
        misc_load_dict={"MCPrimary": ["energy"]},
        filter_greater_than={"MCPrimary_energy": 300.0},
    )
    message = contest.error("--iterations", "2")
    assert "'a' and 'b' keep different events of the same held-out files" in message
    assert "filter_*" in message


def test_other_settings_or_budget_than_before(contest: Contest) -> None:
    assert invoke("compare", "a.yaml", "--iterations", "2", *OPTIONS).exit_code == 0
    assert "were started with --iterations 2" in contest.error("--iterations", "3")
    contest.write("a", batch_size=4)
    message = contest.error("--iterations", "2")
    assert "batch_size: 8 before, 4 now" in message
    assert "--out" in message
    contest.write("a", num_jobs=2)
    assert contest.run("--iterations", "2").exit_code == 0


@pytest.mark.parametrize(
    "text",
    ["[" * 200_000, "{", "[]", "{}", '{"seconds": "long"}'],
    ids=["nested", "part", "list", "empty", "text"],
)
def test_damaged_files_of_an_earlier_call(tmp_path: Path, text: str) -> None:
    (tmp_path / "budget.json").write_text(text)
    with pytest.raises(DataError, match=r"budget.json' is damaged"):
        check_budget(tmp_path, None, 2)


def test_mistakes(contest: Contest, made: Path) -> None:
    stage = {"num_training_iterations": 5, "batch_size": 4}
    contest.write("a", training_stages=[stage], num_training_iterations=None)
    assert "'a' has training_stages" in contest.error("--iterations", "2")
    contest.write("a")
    contest.write("b", trafo_num_batches=50)  # told before a is trained
    assert "trafo_num_batches is 50" in contest.error("--iterations", "2")
    assert not (contest.out / "a" / "model").exists()
    contest.write("b")
    (contest.folder / "more").mkdir()
    (contest.folder / "more" / "b.yaml").write_text((contest.folder / "b.yaml").read_text())
    message = contest.error("more/b.yaml", "--iterations", "2")
    assert "b.yaml and more/b.yaml would both be called 'b'" in message
    message = contest.error("--iterations", "2", "--test-data", "nowhere/*.hdf5")
    assert "no file matches test_data_file:\n  nowhere/*.hdf5" in message
    assert "'c.yaml'" in contest.error("c.yaml", "--iterations", "2")


@pytest.mark.parametrize("budget", [(), ("--iterations", "2", "--seconds", "3")])
def test_one_budget_is_needed(contest: Contest, budget: tuple[str, ...]) -> None:
    result = contest.run(*budget)
    assert result.exit_code == 2
    assert "--seconds or --iterations" in result.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_stopping_and_going_on(contest: Contest, number: signal.Signals, code: int) -> None:
    with signal_while_training(TinyNetwork, 30, number):
        result = contest.run("--iterations", "80")
    assert result.exit_code == code, result.err
    assert "Run the same command to resume." in result.err
    assert "held-out events, each" not in result.out
    assert not (contest.out / "b" / "model").exists()
    assert contest.checkpoint("a").progress.iterations < 80
    assert contest.run("--iterations", "80").exit_code == 0
    for name, calls in (("a", 2), ("b", 1)):
        progress = contest.checkpoint(name).progress
        assert progress.iterations == 80
        assert len(progress.training_steps) == calls


def test_without_num_threads_all_cpus_are_used(
    contest: Contest, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[int] = []
    monkeypatch.setattr("dnn_reco.run_options.available_cpus", lambda: 3)
    monkeypatch.setattr(torch, "set_num_threads", asked_for.append)
    options = ("--iterations", "2", "--device", "cpu", "--num_threads", "0")
    assert invoke("compare", "a.yaml", *options).exit_code == 0
    assert set(asked_for) == {3}


def test_it_runs_in_one_process(contest: Contest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = contest.run("--iterations", "2")
    assert result.exit_code == 1
    assert "compare runs in one process: start it without torchrun" in result.err
    assert not contest.out.exists()
