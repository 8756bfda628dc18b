"""Misc data reach the networks and losses that read them, as loaded and transformed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import misc_plugins
import numpy as np
import pytest
import torch
from made_up_spec import made_up_spec
from small_run import ON_CPU, SmallRun, make_small_run

import dnn_reco
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.data.event_table import NamedColumns
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.evaluation.held_out_events import open_held_out_events, predict_held_out
from dnn_reco.files import find_files
from dnn_reco.inference.reconstructor import Reconstructor
from dnn_reco.inference.trained_model import ensemble_of, load_trained_model
from dnn_reco.nn.interface import LabelKeys
from dnn_reco.nn.misc_data import MiscTransform, joined

LOADER = "misc_plugins.load_energy_and_sign"


def loss(name: str) -> dict[str, Any]:
    settings = {"optimizer": "SGD", "optimizer_settings": {"learning_rate": 1e-4}}
    return {"model_optimizer_dict": {"sgd": {**settings, "loss_class": f"misc_plugins.{name}"}}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A trained network that reads misc data."""
    run = make_small_run(
        tmp_path_factory.mktemp("misc"),
        num_events=24,
        num_training_iterations=2,
        validation_frequency=1,
        trafo_num_batches=6,
        trafo_norm_constant=1e-4,
        trafo_normalize_misc_data=True,
        trafo_log_misc_bins={"energy": True},
        data_handler_misc_class=LOADER,
        model_class="misc_plugins.ReadsMisc",
        model_kwargs={"dropout": 0.0},
        **loss("loss_with_misc"),
    )
    run_trafo(run.config(), ON_CPU, overwrite=False)
    run_train(run.config(), ON_CPU)
    return run


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    """Forget what networks and losses of tests before were given."""
    for entries in misc_plugins.seen.values():
        entries.clear()


def energies(run: SmallRun, pattern: str) -> np.ndarray:
    """ln(1 + E) of the primaries of all files, straight from the files."""
    parts = []
    for path in sorted(run.folder.glob(pattern)):
        with h5py.File(path) as file:
            parts.append(np.log1p(file["MCPrimary"]["energy"].astype(np.float64)))
    return np.concatenate(parts)


def test_raw_and_transformed_values_in_losses_and_networks(
    trained: SmallRun, tmp_path: Path
) -> None:
    run_train(
        trained.config(model_checkpoint_path=str(tmp_path / "m"), log_path=str(tmp_path)), ON_CPU
    )
    sample = energies(trained, "train_*.hdf5")  # trafo uses all events of these files
    mean, std = sample.mean(), sample.std()
    assert misc_plugins.seen["loss"]
    for misc in misc_plugins.seen["loss"]:
        expected = (np.log1p(misc["energy"].numpy()) - mean) / (std + 1e-4)
        np.testing.assert_allclose(misc.values_trafo[:, 0], expected, rtol=1e-4, atol=1e-4)
        assert np.isin(misc["sign"].numpy(), [-1, 0, 1]).all()
    known = np.expm1(np.concatenate([sample, energies(trained, "validation.hdf5")]))
    for num_misc, num_hit_events, energy in misc_plugins.seen["network"]:
        assert num_misc == num_hit_events
        assert np.isclose(energy.numpy()[:, None], known[None], rtol=1e-5).any(axis=1).all()


def test_predictions_for_held_out_events(trained: SmallRun) -> None:
    config = trained.config()
    model = load_trained_model(config, torch.device("cpu"))
    files = find_files(config.data_files.test_data_file, "test_data_file")
    held_out = open_held_out_events(config, files, str(config.event_store), 1)
    predicted = predict_held_out(model, held_out, batch_size=7)
    # the same by the Python interface, and by an ensemble of the network with itself
    events = dnn_reco.open_events(str(files[0]), config)
    table = dnn_reco.predict(model, events.hits, misc=events.misc)
    has_hits = np.diff(events.hits.offsets) > 0
    expected = np.where(has_hits, predicted["EnergyVisible"], np.nan)
    np.testing.assert_allclose(table["EnergyVisible"], expected, rtol=1e-5)
    both = ensemble_of("both", [model, model])
    together = dnn_reco.predict(both, events.hits, misc=events.misc)
    # the logarithm of values of -1 and less, which this network predicts, does not exist
    expected[expected <= -1] = np.nan
    np.testing.assert_allclose(together["EnergyVisible"], expected, rtol=1e-4)
    with pytest.raises(DataError, match=r"reads misc data: .* array \[24, 2\] \(energy, sign\)"):
        dnn_reco.predict(model, events.hits)


def test_misc_data_are_matched_by_name(trained: SmallRun) -> None:
    reconstructor = Reconstructor(load_trained_model(trained.config(), torch.device("cpu")))
    events = dnn_reco.open_events(str(trained.folder / "validation.hdf5"), trained.config())
    expected = reconstructor.predict(events)
    energy, sign = events.misc["energy"], events.misc["sign"]
    other = NamedColumns(("sign", "more", "energy"), np.stack([sign, sign * 0, energy], axis=1))
    for found in (
        reconstructor.predict(replace(events, misc=other)),
        reconstructor.predict(events.hits, misc=other),
        reconstructor.predict(events, misc=events.misc.array),
    ):
        np.testing.assert_array_equal(found["EnergyVisible"], expected["EnergyVisible"])
    with pytest.raises(DataError, match=r"reads the misc data energy, sign, .* no 'energy'.* sign"):
        reconstructor.predict(replace(events, misc=NamedColumns(("sign",), sign[:, None])))


def test_held_out_events_without_the_misc_data(trained: SmallRun, tmp_path: Path) -> None:
    model = load_trained_model(trained.config(), torch.device("cpu"))
    other = trained.config(data_handler_misc_class="older_plugins.load_misc")
    files = find_files(other.data_files.test_data_file, "test_data_file")
    held_out = open_held_out_events(other, files, str(tmp_path), 1)
    with pytest.raises(
        DataError, match=r"misc data that differ from .* energy instead of energy, sign"
    ):
        predict_held_out(model, held_out)


def test_a_logarithm_of_values_of_minus_one_names_the_column(
    trained: SmallRun, tmp_path: Path
) -> None:
    changed = {"trafo_log_misc_bins": True, "trafo_model_path": str(tmp_path / "trafo.npy")}
    message = r"ln\(1 \+ x\) is configured for 'sign', which has values down to -1.*log_misc_bins"
    with pytest.raises(DataError, match=message):
        run_trafo(trained.config(**changed), ON_CPU, overwrite=False)


def test_transform() -> None:
    spec = made_up_spec(["energy"], LabelKeys(), [0.0], [1.0])
    settings = replace(
        spec.transformation.settings,
        misc_names=("a", "b"),
        log_misc_bins=(True, False),
        normalize_misc_data=True,
        norm_constant=0.5,
    )
    transformation = replace(
        spec.transformation,
        settings=settings,
        misc_mean=np.array([1.0, 10.0]),
        misc_std=np.array([1.5, 0.5]),
    )
    transform = MiscTransform(transformation)
    misc = transform.data(torch.tensor([[np.e - 1, 8.0], [0.0, 10.0]], dtype=torch.float64))
    expected = torch.tensor([[0.0, -2.0], [-0.5, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(misc.values_trafo, expected)
    assert joined([misc, misc.select(slice(1, 2))])["b"].tolist() == [8, 10, 10]
    assert "b" in misc and "c" not in misc and len(misc) == 2
    with pytest.raises(ConfigError, match=r"'c' is not loaded\. Available: a, b"):
        misc["c"]
    below = transform.data(torch.tensor([[-1.0, 0.0]]))
    with pytest.raises(DataError, match="misc value 'a', which has values down to -1: switch"):
        _ = below.values_trafo
    off = replace(settings, normalize_misc_data=False, log_misc_bins=(False, False))
    raw = MiscTransform(replace(transformation, settings=off)).data(misc.values)
    assert torch.equal(raw.values_trafo, misc.values)
