"""Users' own functions: names to import, and functions written for an older version."""

import math
from pathlib import Path

import older_plugins
import pytest
import torch
from small_run import ON_CPU, make_small_run

from dnn_reco import plugins
from dnn_reco.checkpoint_file import load_latest
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train

NAMES = {
    *("ConfigError", "DataError", "DnnRecoError", "ModelError"),
    *("read_columns", "read_table", "EventColumns"),
    *("HitBatch", "TensorBatch", "Network", "NetworkSpec", "LabelKeys", "Prediction"),
    *("Densify", "LabelTransform", "dropout", "mean_and_variance"),
    *("Loss", "LossContext", "Truth", "MIN_UNCERTAINTY", "uses_labels", "label_indices"),
    *("MiscData", "add_scalar"),
    *("weighted_mean", "at_labels", "concentration", "mean_angle"),
    *("EvaluationBatch", "EvaluationContext"),
}


def test_names_for_users_functions() -> None:
    assert set(plugins.__all__) == NAMES
    assert all(hasattr(plugins, name) for name in NAMES)


def test_older_names_are_the_same_types() -> None:
    assert older_plugins.Hits is plugins.HitBatch
    for name in ("Prediction", "NetworkSpec", "LabelKeys", "Truth", "LossContext"):
        assert getattr(older_plugins, name) is getattr(plugins, name)


def test_training_with_functions_of_an_older_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_small_run(
        tmp_path,
        num_events=24,
        num_training_iterations=3,
        validation_frequency=2,
        trafo_num_batches=2,
        label_weight_dict={"PrimaryZenith": 1.0},
        label_pid_keys=[],
        trafo_log_label_bins=False,
        data_handler_label_class="older_plugins.load_labels",
        data_handler_misc_class="older_plugins.load_misc",
        data_handler_filter_class="older_plugins.no_low_energies",
        event_weight_class="older_plugins.harder_spectrum",
        evaluation_class="older_plugins.mean_zenith",
        model_class="older_plugins.SumNetwork",
        model_kwargs={"scale": 0.01},
        model_optimizer_dict={
            "adam": {
                "optimizer": "Adam",
                "optimizer_settings": {"learning_rate": 0.01},
                "loss_class": "older_plugins.cosine_of_zenith",
            }
        },
    )
    run_trafo(run.config(), ON_CPU, overwrite=False)
    assert run_train(run.config(), ON_CPU) == 0
    output = capsys.readouterr().out
    assert "zenith of 8 events after 0" in output
    assert "zenith of 8 events after 2" in output
    assert (older_plugins.seen["loss_weights"] > 50).all()  # energies that pass the filter
    checkpoint = load_latest(run.checkpoints)
    assert checkpoint is not None
    weights = checkpoint.tensors["network/weights"]
    assert (weights[:, 0] != 0.01).all()  # the loss acts on the zenith alone
    assert (weights[:, 1] == 0.01).all()


def test_angular_error_from_the_uncertainties_of_a_vector() -> None:
    sigma = torch.full((1, 3), 0.01)
    unused = torch.zeros(1, 3)
    prediction = plugins.Prediction(unused, unused, unused, sigma, unused)
    # small angles: a Rayleigh distribution, of the mean sqrt(pi / (2 kappa))
    expected = math.sqrt(math.pi / 2 * 3 * 0.01**2 / 2)
    error = older_plugins.angular_error(prediction, 0, 1, 2)
    assert float(error) == pytest.approx(expected, rel=1e-3)
