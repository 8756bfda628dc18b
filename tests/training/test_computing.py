"""Precision, compilation and where events lie: the training stays what it is."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_run import MODEL_KWARGS, ON_CPU, SmallRun, make_small_run
from tiny_network import tiny

from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.errors import ConfigError

NORMALISED = {"use_batch_normalisation_list": True}
KWARGS = {
    **MODEL_KWARGS,
    "conv_ic78_settings": {**MODEL_KWARGS["conv_ic78_settings"], **NORMALISED},
    "enforce_direction_norm": False,
}


def trained(folder: Path, **changes: object) -> dict[str, torch.Tensor]:
    """All tensors of the last checkpoint of a training."""
    run = make_small_run(folder, **{"num_training_iterations": 30, **changes})
    run_trafo(run.config(), ON_CPU, overwrite=False)
    assert run_train(run.config(), ON_CPU) == 0
    return load_file(run.checkpoints / "checkpoint-00000030" / "state.safetensors")


@pytest.mark.parametrize("biased", [False, True])
def test_events_in_memory_train_the_same_network(tmp_path: Path, biased: bool) -> None:
    selection = {
        "nn_biased_selection": {
            "biased_fraction": 0.3,
            "reload_frequency": 1,
            "true_minus_pred_greater": {"EnergyVisible": 0.0},
        }
    }
    changes = selection if biased else {"event_weight_class": "functions_of_a_user.weigh_in_batch"}
    read, there = (
        trained(tmp_path / str(wanted), data_on_device=wanted, **changes)
        for wanted in (False, True)
    )
    assert read.keys() == there.keys()
    assert all(torch.equal(there[name], value) for name, value in read.items())


def test_a_training_in_bfloat16_keeps_float32(tmp_path: Path) -> None:
    tensors = trained(tmp_path, precision="bf16", model_kwargs=KWARGS)
    kinds = {value.dtype for name, value in tensors.items() if name.startswith("network/")}
    assert kinds == {torch.float32}
    assert all(value.isfinite().all() for value in tensors.values())


@pytest.mark.parametrize(
    "backend",
    [
        "aot_eager",
        pytest.param(
            "inductor",
            marks=[
                pytest.mark.long,
                pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ on a CPU"),
            ],
        ),
    ],
)
def test_a_compiled_training_is_the_same(
    tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the compiler of PyTorch, and in short with its graphs alone."""
    if backend != "inductor":
        translate = torch.compile

        def without_compiler(function: Callable[..., Any], mode: str, dynamic: bool) -> Any:
            return translate(function, dynamic=dynamic, backend=backend)

        monkeypatch.setattr(torch, "compile", without_compiler)
    layer = {
        "num_filters_list": [2],
        "pooling_type_list": [False],
        "method_list": "convolution",
        "activation_list": "elu",
    }
    dense = {"fc_sizes": [-1], "activation_list": [""]}
    small = {
        "conv_upper_deepcore_settings": {**layer, "filter_size_list": [[1, 3]]},
        "conv_lower_deepcore_settings": {**layer, "filter_size_list": [[1, 3]]},
        "conv_ic78_settings": {**layer, "filter_size_list": [[3, 3, 3]]},
        "fc_settings": dense,
        "fc_unc_settings": dense,
        "keep_prob_flat": 0.9,
    }
    plain, compiled = (
        trained(tmp_path / str(w), compile=w, float_precision="float64", model_kwargs=small)
        for w in (False, True)
    )
    assert plain.keys() == compiled.keys()
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "bf16", "float_precision": "float64"}, "contradicts float_precision"),
        (
            {"compile": True, **tiny(random_seed=1, dtype="float32")},
            "TinyNetwork does not use a grid of hits",
        ),
        (
            {
                "compile": True,
                "model_optimizer_dict": {
                    name: {"loss_class": "dnn_reco.modules.loss.default_loss.mse", "vars": [name]}
                    for name in ("pred", "unc")
                },
            },
            "more than one optimizer",
        ),
    ],
)
def test_what_cannot_be_is_told(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    run: SmallRun = make_small_run(tmp_path, **changes)
    run_trafo(run.config(), ON_CPU, overwrite=False)
    with pytest.raises(ConfigError, match=message):
        run_train(run.config(), ON_CPU)
    assert not run.checkpoints.exists()


def test_without_numba_a_warning_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_small_run(tmp_path, num_training_iterations=1)
    run_trafo(run.config(), ON_CPU, overwrite=False)
    monkeypatch.setattr("dnn_reco.training.from_config.numba_available", lambda: False)
    assert run_train(run.config(), ON_CPU) == 0
    assert "Numba is not installed" in caplog.text
    assert "pip install numba" in caplog.text


def test_densities_that_no_loss_trains_are_an_error(tmp_path: Path) -> None:
    run = make_small_run(
        tmp_path,
        model_class="dnn_reco.modules.models.dom_transformer.DomTransformer",
        model_kwargs={"width": 8, "num_layers": 1, "heads": {"EnergyVisible": "student"}},
    )
    run_trafo(run.config(), ON_CPU, overwrite=False)
    with pytest.raises(ConfigError, match="no loss trains the densities of EnergyVisible: use the"):
        run_train(run.config(), ON_CPU)
