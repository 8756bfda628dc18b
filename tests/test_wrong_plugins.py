"""Mistakes in users' own losses, networks and loaders: one message, before anything is trained."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from small_run import ON_CPU, SmallRun, make_small_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_network import tiny

from dnn_reco.cli.root import cli
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.config import allow_plugins_beside, resolve
from dnn_reco.errors import ConfigError, DnnRecoError

NUM_LABELS = 12
LOSS_KEY = "model_optimizer_dict.adam.loss_class"
ONE_LOSS = (
    rf"must return a floating-point tensor of shape \[{NUM_LABELS}\], one loss for each label"
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """Data and transformation model of a run that is over in no time."""
    run = make_small_run(
        tmp_path_factory.mktemp("wrong_plugins"),
        num_events=24,
        num_training_iterations=2,
        validation_frequency=1,
        validation_events=0,
        model_save_model=False,
        trafo_num_batches=2,
        **tiny(dropout=0.0),
    )
    run_trafo(run.config(), ON_CPU, overwrite=False)
    return run


def optimizer(loss: str) -> dict[str, Any]:
    settings = {"optimizer": "SGD", "optimizer_settings": {"learning_rate": 0.001}}
    return {"model_optimizer_dict": {"adam": {**settings, "loss_class": f"wrong_plugins.{loss}"}}}


def network(name: str) -> dict[str, Any]:
    return {"model_class": f"wrong_plugins.{name}", "model_kwargs": {}}


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("scalar_loss", rf"{ONE_LOSS}.* but returned a tensor of float32 and shape \[\]: do not"),
        ("loss_per_event", rf"{ONE_LOSS}.* shape \[8, {NUM_LABELS}\]: average over the events"),
        ("whole_numbers", rf"{ONE_LOSS}.* returned a tensor of int64"),
        ("number", rf"{ONE_LOSS}.* but returned a float: do not sum over the labels"),
        (
            "several_losses",
            rf"{ONE_LOSS}.* but returned a tuple of 2: compute it with functions of PyT",
        ),
        ("forgotten_return", rf"{ONE_LOSS}.* but returned None: end it with 'return'"),
        ("former_signature", r"is called as \(prediction, truth, context\), but its signature is"),
        ("misspelt_attribute", r"AttributeError: .*'lables'.* \(line \d+ of '.*wrong_plugins.py'"),
        ("not_a_function", "is a float, not a function"),
    ],
)
def test_wrong_losses(prepared: SmallRun, loss: str, message: str) -> None:
    who = rf"wrong_plugins\.{loss} \({LOSS_KEY}\) "
    with pytest.raises(ConfigError, match=f"^{who}.*{message}"):
        run_train(prepared.config(**optimizer(loss)), ON_CPU)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("WithoutKeywords", r"called as \(spec, \*\*model_kwargs\), with random_seed and dtype"),
        ("Tuple", r"must return a Prediction\(labels_trafo, .*\) .* but returned a tuple of 2"),
        ("OneColumn", rf"\[8, {NUM_LABELS}\], but its 'labels_trafo' is a tensor .* \[8, 1\]"),
        ("NegativeUncertainty", r"not negative, .* 'uncertainty_trafo' is -.*: apply softplus"),
        ("Mismatch", r"failed for a batch: RuntimeError: mat1 .* \(line \d+ of '.*wrong_plugins"),
        ("WithoutForward", r"has no method forward\(hits\) -> Prediction"),
        ("NamesAsGroups", "lists a str in 'pred', which is not a parameter of the network"),
        ("ListOfParameters", r"must return a dict such as .*, but returned a list of 2"),
        ("no_network", r"must give a torch\.nn\.Module, but gave a dict of 1"),
    ],
)
def test_wrong_networks(prepared: SmallRun, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"wrong_plugins\.{name} \(model_class\) .*{message}"):
        run_train(prepared.config(**network(name), **optimizer("squares")), ON_CPU)


def test_a_loader_that_takes_too_few_arguments(prepared: SmallRun, tmp_path: Path) -> None:
    changed = {"data_handler_misc_class": "wrong_plugins.loader_without_names"}
    message = r"_names \(data_handler_misc_class\) is called as \(input_data, config, misc_names"
    with pytest.raises(DnnRecoError, match=message):
        run_train(
            prepared.config(**changed, **optimizer("squares")),
            replace(ON_CPU, cache_dir=str(tmp_path)),
        )


@pytest.mark.parametrize("key", ["event_weight_class", "evaluation_class"])
def test_functions_that_take_other_arguments_are_refused_before_events_are_read(
    prepared: SmallRun, tmp_path: Path, key: str
) -> None:
    changed = {key: "wrong_plugins.loader_without_names", "training_data_file": str(tmp_path)}
    with pytest.raises(ConfigError, match=rf"_names \({key}\) is called as \(t"):
        run_train(prepared.config(**changed, **optimizer("squares")), ON_CPU)


def test_an_optimizer_without_parameters(prepared: SmallRun) -> None:
    changed = optimizer("squares")
    changed["model_optimizer_dict"]["adam"]["vars"] = "unc"
    with pytest.raises(
        ConfigError,
        match=r"adam\.vars names \['unc'\], which contain no parameters: choose from \['pred'\]",
    ):
        run_train(prepared.config(**network("Plain"), **changed), ON_CPU)


def test_a_network_without_parameter_groups_and_own_scalars(
    prepared: SmallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = tmp_path / "logs"
    changed = {
        **network("Plain"),
        **optimizer("squares"),
        "log_path": str(logs),
        "log_untrained_labels": True,
    }
    assert run_train(prepared.config(**changed), ON_CPU) == 0
    printed = capsys.readouterr().out
    assert printed.count("weight: 0, train: ") == 2 * (NUM_LABELS - 2)  # two labels are trained
    for batch in ("train", "val"):
        curves = EventAccumulator(str(logs / "unsaved" / batch)).Reload()
        tags = curves.Tags()["scalars"]
        assert [event.step for event in curves.Scalars("own/mean_prediction")] == [0, 1]
        losses = {tag: curves.Scalars(tag)[0].value for tag in tags if tag.startswith("label_loss")}
        # of untrained labels the loss is 0
        assert curves.Scalars("own/largest_loss")[0].value == max(losses.values())
        assert len([tag for tag in tags if tag.startswith("rmse/")]) == NUM_LABELS


def test_untrained_labels_have_the_rmse_that_they_have_if_trained(
    prepared: SmallRun, tmp_path: Path
) -> None:
    """Of iteration 0, where the weights of the network differ by one tiny step alone."""
    rmse = []
    for name, weights in (("few", {"EnergyVisible": 1.0}), ("all", {"VertexX": 1.0})):
        changed = {
            "log_path": str(tmp_path / name),
            "label_weight_dict": weights,
            "log_untrained_labels": True,
            "model_save_model": True,
            "model_checkpoint_path": str(tmp_path / name / "model"),
        }
        settings = optimizer("squares")
        settings["model_optimizer_dict"]["adam"]["optimizer_settings"]["learning_rate"] = 1e-9
        run_train(prepared.config(**changed, **settings), ON_CPU)
        line = json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[0])
        rmse.append(line["train"])
    assert rmse[0]["untrained_rmse"]["VertexX"] == pytest.approx(
        rmse[1]["labels"]["VertexX"]["rmse"], rel=1e-5
    )
    assert "EnergyVisible" not in rmse[0]["untrained_rmse"]


def test_modules_beside_the_config(
    prepared: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    config = shutil.copy(prepared.config_file, folder / "own.yaml")
    (folder / "loss_beside_the_config.py").write_text("def loss(prediction, truth, context): ...")
    with Path(config).open("a") as file:
        file.write("evaluation_class: loss_beside_the_config.loss\n")
    result = CliRunner().invoke(cli, ["config", "check", str(config)])
    assert "ok       evaluation_class: loss_beside_the_config.loss" in result.output


def test_modules_of_one_name_beside_two_configs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    for folder, name in (("a", "a"), ("copy_of_a", "a"), ("b", "b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "twin_of_a_loss.py").write_text(f"NAME = '{name}'")
    allow_plugins_beside([tmp_path / "a" / "config.yaml"])
    assert resolve("twin_of_a_loss.NAME", "key") == "a"
    allow_plugins_beside([tmp_path / "copy_of_a" / "config.yaml"])
    with pytest.raises(ConfigError, match=r"twin_of_a_loss.py' are two modules of one name"):
        allow_plugins_beside([tmp_path / "b" / "config.yaml"])


def test_lack_of_memory_is_no_mistake_of_a_plugin(
    prepared: SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wrong_plugins

    def out_of_memory(network: Any, hits: Any) -> Any:
        raise torch.OutOfMemoryError("the GPU is full")

    monkeypatch.setattr(wrong_plugins.Plain, "forward", out_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        run_train(prepared.config(**network("Plain"), **optimizer("squares")), ON_CPU)
