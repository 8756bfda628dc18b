"""Checkpoints: atomic writing, newest first, error messages for damaged ones."""

import json
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dnn_reco.checkpoint_file import (
    KEEP_ALL,
    BestCheckpoint,
    Progress,
    latest_iterations,
    load_latest,
    load_newest,
    remove_checkpoints,
    save_checkpoint,
    set_aside_later,
)
from dnn_reco.errors import ModelError, TrainingError
from dnn_reco.provenance import retire
from dnn_reco.training.checkpoint import optimizer_tensors, restore_optimizer

LOGS = ("train", "val", "validation_set", "metrics.jsonl")


def progress(iterations: int) -> Progress:
    return Progress(iterations, (iterations,), ("energy", "zenith"), "digest", 42)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    tensors = {"network/fc.weight": torch.randn(3, 4), "label_weights/count": torch.tensor(7)}
    save_checkpoint(tmp_path / "model", progress(10), tensors, 3)
    checkpoint = load_latest(tmp_path / "model")
    assert checkpoint is not None
    assert checkpoint.progress == progress(10)
    assert torch.equal(checkpoint.section("network")["fc.weight"], tensors["network/fc.weight"])
    assert checkpoint.section("label_weights")["count"] == 7


def test_the_best_evaluation_is_saved_and_optional_in_older_checkpoints(tmp_path: Path) -> None:
    best = (
        BestCheckpoint("digest").updated(0.1 + 0.2, 10).updated(float("nan"), 20).updated(0.4, 30)
    )
    assert best == BestCheckpoint("digest", 0.30000000000000004, 10, 2)
    path = save_checkpoint(tmp_path, replace(progress(30), best=best), {"a": torch.ones(1)}, 3)
    checkpoint = load_latest(tmp_path)
    assert checkpoint is not None
    assert checkpoint.progress.best == best
    description = json.loads((path / "state.json").read_text())
    del description["best"], description["code"], description["sha256"]
    (path / "state.json").write_text(json.dumps(description))
    older = load_latest(tmp_path)
    assert older is not None
    assert older.progress == progress(30)


def test_chosen_checkpoints_are_removed(tmp_path: Path) -> None:
    for iterations in (5, 10, 20):
        save_checkpoint(tmp_path, progress(iterations), {"a": torch.ones(1)}, KEEP_ALL)
    remove_checkpoints(tmp_path, lambda iterations: iterations != 10)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000010"]
    remove_checkpoints(tmp_path / "absent", lambda iterations: True)


def test_newest_are_kept(tmp_path: Path) -> None:
    for iterations in (5, 10, 100_000_000, 20):
        save_checkpoint(tmp_path, progress(iterations), {"a": torch.ones(1)}, 2)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint-00000020", "checkpoint-100000000"]
    latest = load_latest(tmp_path)
    assert latest is not None
    assert latest.progress.iterations == 100_000_000


def test_an_unfinished_checkpoint_is_not_used(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, progress(5), {"a": torch.ones(1)}, 3)
    (tmp_path / ".tmp-checkpoint-00000010-x" / "checkpoint-00000010").mkdir(parents=True)
    (tmp_path / "checkpoint-00000010").mkdir()
    latest = load_latest(tmp_path)
    assert latest is not None
    assert latest.progress.iterations == 5


def test_the_rest_of_a_killed_program_is_removed(tmp_path: Path) -> None:
    rest = tmp_path / ".tmp-checkpoint-00000010-x"
    (rest / "checkpoint-00000010").mkdir(parents=True)
    save_checkpoint(tmp_path, progress(5), {"a": torch.ones(1)}, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000005"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "dnn_reco checkpoint 99"}, "its format is 'dnn_reco checkpoint 99', this ver"),
        ({"format": None}, "its format is None, this version"),
        ({"mine": 1, "another": 2}, "'state.json' has unknown keys: another, mine"),
    ],
)
def test_checkpoints_of_later_versions_are_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = save_checkpoint(tmp_path, progress(5), {"a": torch.ones(1)}, 3)
    description = json.loads((path / "state.json").read_text())
    del description["sha256"]
    (path / "state.json").write_text(json.dumps({**description, **change}))
    with pytest.raises(ModelError, match=message):
        load_latest(tmp_path)


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    assert load_latest(tmp_path / "absent") is None
    assert load_latest(tmp_path) is None


def flip_bit(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1 << position % 8
    file.write_bytes(content)


def swap_names(path: Path) -> None:
    """The numbers of one tensor under the name of another."""
    file = path / "state.safetensors"
    content = file.read_bytes()
    file.write_bytes(
        content.replace(b'"a"', b'"c"').replace(b'"b"', b'"a"').replace(b'"c"', b'"b"')
    )


def test_any_flipped_bit_is_found(tmp_path: Path) -> None:
    """In weights, too, where every bit pattern is a number; a checkpoint is never just read on."""
    path = save_checkpoint(tmp_path, progress(5), {"a": torch.ones(20), "b": torch.zeros(20)}, 3)
    random = np.random.default_rng(1)
    for file in (path / "state.safetensors", path / "state.json"):
        content = file.read_bytes()
        for position in random.choice(len(content), 60, replace=False):
            flip_bit(file, int(position))
            with pytest.raises(ModelError, match=r"checkpoint-00000005' is damaged"):
                load_latest(tmp_path)
            file.write_bytes(content)
    swap_names(path)
    with pytest.raises(ModelError, match=r"the digest of 'state\.safetensors' differs"):
        load_latest(tmp_path)


@pytest.mark.parametrize("file", ["state.safetensors", "state.json"])
def test_the_one_before_a_damaged_checkpoint_is_used(
    tmp_path: Path, file: str, caplog: pytest.LogCaptureFixture
) -> None:
    for iterations in (5, 10, 20):
        path = save_checkpoint(tmp_path, progress(iterations), {"a": torch.ones(100)}, 3)
    content = (path / file).read_bytes()
    (path / file).write_bytes(content[: len(content) // 2])
    latest = load_latest(tmp_path)
    assert latest is not None
    assert latest.progress == progress(10)
    (message,) = caplog.messages
    assert message.startswith(f"the checkpoint '{path}' is damaged (")
    assert message.endswith("): the previous checkpoint is used.")
    assert "\n" not in message
    newest = [each.progress.iterations for each in load_newest(tmp_path, 2)]
    assert newest == [5, 10]
    assert latest_iterations(tmp_path) == 10
    set_aside_later(tmp_path, 10)
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "checkpoint-00000005",
        "checkpoint-00000010",
        "damaged-checkpoint-00000020",
    ]


def test_without_a_whole_checkpoint_there_is_an_error(tmp_path: Path) -> None:
    for iterations in (5, 10):
        path = save_checkpoint(tmp_path, progress(iterations), {"a": torch.ones(100)}, 3)
        (path / "state.json").write_text("[" * 100_000)
    for load in (load_latest, lambda folder: load_newest(folder, 2)):
        with pytest.raises(
            ModelError, match=r"05' is damaged.* no earlier one.*to train from the start"
        ):
            load(tmp_path)
    assert latest_iterations(tmp_path) == 0


def test_a_checkpoint_of_another_name_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, progress(5), {"a": torch.ones(1)}, 3).rename(
        tmp_path / "checkpoint-00000500"
    )
    with pytest.raises(ModelError, match=r"00500' is damaged \(.* after 5 iterations"):
        load_latest(tmp_path)


def test_a_full_disk_leaves_earlier_checkpoints(tmp_path: Path) -> None:
    """Any file of more than 20 kB fails to be written, as on a full disk."""
    save_checkpoint(tmp_path, progress(5), {"a": torch.ones(10)}, 3)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(TrainingError, match=r"00010' cannot be written \(.*before it are kept"):
            save_checkpoint(tmp_path, progress(10), {"a": torch.ones(10_000)}, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000005"]


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_an_optimizer_resumes_exactly(kind: type[torch.optim.Optimizer]) -> None:
    def fresh() -> tuple[dict[str, torch.nn.Parameter], torch.optim.Optimizer]:
        parameters = {n: torch.nn.Parameter(torch.ones(3)) for n in ("a/b", "c")}
        settings = {"momentum": 0.9} if kind is torch.optim.SGD else {}
        return parameters, kind(list(parameters.values()), lr=0.1, **settings)

    def step(parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        sum((p**3).sum() for p in parameters.values()).backward()
        optimizer.step()

    parameters, optimizer = fresh()
    step(parameters, optimizer)
    again, restored = fresh()
    for name, parameter in again.items():
        parameter.data.copy_(parameters[name].data)
    state = optimizer_tensors(optimizer, parameters)
    restore_optimizer(restored, again, {name: value.clone() for name, value in state.items()})
    for _ in range(3):
        step(parameters, optimizer)
        step(again, restored)
    for name in parameters:
        assert torch.equal(parameters[name], again[name])


def test_an_old_model_is_moved_away_completely(tmp_path: Path) -> None:
    model, logs = tmp_path / "run" / "model", tmp_path / "logs"
    for number in range(2):
        save_checkpoint(model, progress(5), {"a": torch.ones(1)}, 3)
        (tmp_path / "run" / "training_steps.yaml").write_text("0: 5\n")
        (tmp_path / "run" / "config_training_0000.yaml").write_text("a: 1\n")
        (tmp_path / "run" / "notes.txt").write_text("mine")
        logs.mkdir()
        moved = retire(model, logs, LOGS)
        assert moved == tmp_path / f"run_old_{number:04d}"
        assert sorted(path.name for path in moved.iterdir()) == [
            "config_training_0000.yaml",
            "model",
            "training_steps.yaml",
        ]
        assert (tmp_path / f"logs_old_{number:04d}").is_dir()
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]
    assert retire(model, logs, LOGS) is None


@pytest.mark.parametrize("place", ["run", ".", "run/model", "run/model/logs", "run/logs"])
def test_an_old_model_among_its_logs_is_moved_away_completely(tmp_path: Path, place: str) -> None:
    """What belongs to no training, or to one that runs, stays."""
    model, logs = tmp_path / "run" / "model", tmp_path / place
    lock, other = tmp_path / "run" / "model.lock", tmp_path / "other" / "model"
    for path in (lock.parent, other):
        path.mkdir(parents=True)
    lock.write_text("mine")
    if place == "run":
        assert retire(model, logs, LOGS) is None
    for number in range(2):
        save_checkpoint(model, progress(5), {"a": torch.ones(1)}, 3)
        (tmp_path / "run" / "training_steps.yaml").write_text("0: 5\n")
        for name in LOGS[:-1]:
            (logs / name).mkdir(parents=True)
            (logs / name / "events").write_text("old")
        (logs / "metrics.jsonl").write_text("old")
        moved = retire(model, logs, LOGS)
        assert moved == tmp_path / f"run_old_{number:04d}"
        assert (moved / "model" / "checkpoint-00000005").is_dir()
        assert (moved / "training_steps.yaml").is_file()
        kept = [*tmp_path.glob("**/events"), *tmp_path.glob("**/metrics.jsonl")]
        assert len(kept) == 4 * (number + 1)
        for name in ("model", "model/logs", "training_steps.yaml", "metrics.jsonl", "train"):
            assert not (tmp_path / "run" / name).exists()
        assert not any((logs / name).exists() for name in ("train", "metrics.jsonl"))
        assert lock.read_text() == "mine"
        assert other.is_dir()
