"""Going on from any checkpoint is exact: with every optimizer, and all that has a memory."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import ON_CPU, SmallRun, make_small_run
from tiny_network import tiny

from dnn_reco.checkpoint_file import load_latest
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train

LOSSES = "dnn_reco.modules.loss.default_loss"
ITERATIONS = 7
# Every optimizer of PyTorch that can be used at all, and settings with which it keeps most.
OPTIMIZERS = sorted(
    kind.__name__
    for kind in vars(torch.optim).values()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)
    if kind.__name__ not in ("Optimizer", "LBFGS", "SparseAdam")
)
SETTINGS = {
    "Adam": {"amsgrad": True},
    "RMSprop": {"centered": True, "momentum": 0.9},
    "SGD": {"momentum": 0.9, "nesterov": True},
}
RATE = {
    "full_class_string": "dnn_reco.utils.learning_rate.WarmUp",
    "settings": {
        "steps": 4,
        "schedule": {
            "full_class_string": "dnn_reco.utils.learning_rate.OneCycle",
            "settings": {"rate": 0.01, "steps": ITERATIONS},
        },
    },
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    run = make_small_run(tmp_path_factory.mktemp("prepared"), 40, **tiny(), save_frequency=1)
    run_trafo(run.config(), ON_CPU, overwrite=False)
    return run


def train(prepared: SmallRun, folder: Path, changes: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Train on the prepared data, with outputs in another folder; returns the last checkpoint."""
    paths = {"model_checkpoint_path": f"{folder}/run/model", "log_path": f"{folder}/logs"}
    config = prepared.config(
        num_training_iterations=ITERATIONS,
        model_checkpoint_manager_kwargs={"max_to_keep": None},
        **paths,
        **changes,
    )
    assert run_train(config, ON_CPU) == 0
    checkpoint = load_latest(folder / "run" / "model")
    assert checkpoint is not None
    assert checkpoint.progress.iterations == ITERATIONS
    return dict(checkpoint.tensors)


def assert_exact(
    prepared: SmallRun, tmp_path: Path, changes: dict[str, Any], *stops: int
) -> dict[str, torch.Tensor]:
    """Train without a stop, then again from some of the checkpoints: nothing may differ."""
    whole = train(prepared, tmp_path / "whole", changes)
    for stop in stops:
        name = f"checkpoint-{stop:08d}"
        copy = tmp_path / str(stop) / "run" / "model" / name
        shutil.copytree(tmp_path / "whole" / "run" / "model" / name, copy)
        rest = train(prepared, tmp_path / str(stop), changes)
        assert rest.keys() == whole.keys()
        for key, tensor in whole.items():
            assert tensor.dtype == rest[key].dtype, (stop, key)
            assert torch.equal(tensor, rest[key]), (stop, key)
    return whole


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(prepared: SmallRun, tmp_path: Path, name: str) -> None:
    """In the middle of a gradient's accumulation (3), and between two steps (4)."""
    optimizer = {
        "optimizer": name,
        "optimizer_settings": {
            **SETTINGS.get(name, {}),
            "learning_rate": 0.01 if name == "Rprop" else RATE,
            "weight_decay": 0.1,
        },
        "loss_class": f"{LOSSES}.gaussian_likelihood",
        "clip_gradients_value": 5.0,
        "remove_nan_gradients": True,
        "accumulate_steps": 2,
    }
    changes = {"model_optimizer_dict": {"only": optimizer}, "ema_decay": 0.9}
    state = assert_exact(prepared, tmp_path, changes, 3, 4)
    for weight in ("prediction", "uncertainty"):
        prefix = f"optimizer/only/{weight}/"
        kept = {key: tensor for key, tensor in state.items() if key.startswith(prefix)}
        assert any(tensor.numel() > 1 and tensor.any() for tensor in kept.values()), kept
    assert "accumulated/only/gradient/prediction" in state  # 7 iterations: the last is half a step
    assert not torch.equal(state["ema/prediction"], state["network/prediction"])


def test_several_optimizers_each_with_its_own_pace(prepared: SmallRun, tmp_path: Path) -> None:
    optimizers = {
        "labels": {
            "optimizer": "NAdam",
            "optimizer_settings": {"learning_rate": RATE},
            "vars": "pred",
            "loss_class": [f"{LOSSES}.tukey", f"{LOSSES}.mse"],
            "l1_regularization": 1e-4,
            "accumulate_steps": 3,
        },
        "widths": {
            "optimizer": "SGD",
            "optimizer_settings": {"momentum": 0.9, "clipnorm": 1.0},
            "vars": "unc",
            "loss_class": f"{LOSSES}.gaussian_likelihood",
        },
    }
    changes = {"model_optimizer_dict": optimizers, "label_scale_tukey": True, "ema_decay": 0.99}
    assert_exact(prepared, tmp_path, changes, 1, 2, 3, 4, 5, 6)


MUON = {
    "vars": "predic*",
    "matrices_only": True,
    "optimizer": "Muon",
    "optimizer_settings": {"learning_rate": RATE, "weight_decay": 0.1},
}


def test_several_optimizers_of_one_loss(prepared: SmallRun, tmp_path: Path) -> None:
    """In the middle of a gradient's accumulation (3), and between two steps (4)."""
    optimizer = {
        "optimizer": "AdamW",
        "optimizer_settings": {"learning_rate": 0.01},
        "other_optimizers": {"muon": MUON},
        "loss_class": f"{LOSSES}.gaussian_likelihood",
        "clip_gradients_value": 1.0,
        "accumulate_steps": 2,
    }
    changes = {"model_optimizer_dict": {"only": optimizer}, "ema_decay": 0.9}
    state = assert_exact(prepared, tmp_path, changes, 3, 4)
    assert {key for key in state if key.startswith("optimizer/")} == {
        "optimizer/only/muon/prediction/momentum_buffer",
        *(f"optimizer/only/uncertainty/{kind}" for kind in ("exp_avg", "exp_avg_sq", "step")),
    }
    assert not torch.equal(state["ema/prediction"], state["network/prediction"])


def test_a_further_optimizer_takes_over_some_weights(prepared: SmallRun, tmp_path: Path) -> None:
    """And hands them back: the state of the others is kept."""
    steps = []
    for iterations, others in ((2, {}), (5, {"muon": MUON}), (6, {})):
        optimizer = {"other_optimizers": others, "loss_class": f"{LOSSES}.gaussian_likelihood"}
        config = prepared.config(
            model_checkpoint_path=str(tmp_path / "run" / "model"),
            log_path=str(tmp_path / "logs"),
            num_training_iterations=iterations,
            model_optimizer_dict={"only": optimizer},
        )
        assert run_train(config, ON_CPU) == 0
        checkpoint = load_latest(tmp_path / "run" / "model")
        assert checkpoint is not None
        state = checkpoint.section("optimizer/only")
        steps.append({key: int(state[key]) for key in sorted(state) if key.endswith("/step")})
    assert steps == [
        {"prediction/step": 2, "uncertainty/step": 2},
        {"uncertainty/step": 5},
        {"prediction/step": 1, "uncertainty/step": 6},
    ]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_double_precision(prepared: SmallRun, tmp_path: Path, name: str) -> None:
    """The state of some optimizers is in single precision even then, and has to stay so."""
    changes = {
        "float_precision": "float64",
        "data_cache_dir": str(prepared.folder / "double"),
        "model_optimizer_dict": {
            "only": {
                "optimizer": name,
                "optimizer_settings": {"learning_rate": 0.01},
                "loss_class": f"{LOSSES}.gaussian_likelihood",
            }
        },
    }
    state = assert_exact(prepared, tmp_path, changes, 3)
    assert state["network/prediction"].dtype == torch.float64


def test_an_optimizer_of_another_kind_begins_anew(
    prepared: SmallRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def changes(iterations: int, **settings: Any) -> dict[str, Any]:
        loss = {"loss_class": f"{LOSSES}.gaussian_likelihood"}
        return {
            "model_checkpoint_path": str(tmp_path / "run" / "model"),
            "log_path": str(tmp_path / "logs"),
            "num_training_iterations": iterations,
            "model_optimizer_dict": {"only": {**settings, **loss}},
        }

    kinds = [
        {"optimizer": "Adam"},
        {"optimizer": "Adam", "optimizer_settings": {"amsgrad": True}},
        {"optimizer": "Adagrad"},
        {"optimizer": "RMSprop", "optimizer_settings": {"centered": True}},
    ]
    for number, kind in enumerate(kinds, 1):
        caplog.clear()
        run_train(prepared.config(**changes(2 * number, **kind)), ON_CPU)
        assert ("is reset" in caplog.text) == (number > 1)
    run_train(prepared.config(**changes(10, **kinds[-1])), ON_CPU)
    assert caplog.text.count("is reset") == 1


def test_an_optimizer_of_more_weights_than_before(prepared: SmallRun, tmp_path: Path) -> None:
    for iterations, parts in ((2, ["pred"]), (4, ["pred", "unc"])):
        optimizer = {"optimizer": "Adagrad", "vars": parts, "loss_class": f"{LOSSES}.mse"}
        config = prepared.config(
            model_checkpoint_path=str(tmp_path / "run" / "model"),
            log_path=str(tmp_path / "logs"),
            num_training_iterations=iterations,
            model_optimizer_dict={"only": optimizer},
        )
        assert run_train(config, ON_CPU) == 0
    checkpoint = load_latest(tmp_path / "run" / "model")
    assert checkpoint is not None
    steps = checkpoint.section("optimizer/only")
    assert (steps["prediction/step"], steps["uncertainty/step"]) == (4, 2)


def test_two_half_batches_are_one_batch(prepared: SmallRun, tmp_path: Path) -> None:
    """A batch of 16 holds the events of two batches of 8 that follow each other."""
    states = []
    for batch_size, steps in ((16, 1), (8, 2)):
        optimizer = {
            "optimizer": "Adam",
            "optimizer_settings": {"learning_rate": 0.01},
            "loss_class": f"{LOSSES}.gaussian_likelihood",
            "clip_gradients_value": 1.0,
            "l2_regularization": 1e-3,
            "accumulate_steps": steps,
        }
        config = prepared.config(
            **tiny(dropout=0.0, batch_norm=False),
            model_checkpoint_path=str(tmp_path / str(steps) / "model"),
            log_path=str(tmp_path / str(steps) / "logs"),
            batch_size=batch_size,
            num_training_iterations=5 * steps,
            label_update_weights=False,
            float_precision="float64",
            data_cache_dir=str(prepared.folder / "double"),
            model_optimizer_dict={"only": optimizer},
        )
        assert run_train(config, ON_CPU) == 0
        checkpoint = load_latest(tmp_path / str(steps) / "model")
        assert checkpoint is not None
        states.append(checkpoint.section("network"))
    for name, weights in states[0].items():
        torch.testing.assert_close(weights, states[1][name], rtol=1e-9, atol=1e-12)


def test_with_files_of_different_weight_of_which_some_events_are_used(
    prepared: SmallRun, tmp_path: Path
) -> None:
    (pattern,) = prepared.config().data_files.training_data_file
    changes = {"training_data_file": [pattern] * 3, "data_handler_max_events_per_file": 11}
    limited = assert_exact(prepared, tmp_path / "limited", changes, 2, 5)
    plain = train(prepared, tmp_path / "plain", {})
    assert not torch.equal(limited["network/prediction"], plain["network/prediction"])
