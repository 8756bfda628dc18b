"""A trained network applied to events."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_run import ON_CPU, SmallRun, make_small_run

from dnn_reco.checkpoint_file import load_latest
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.data.build import open_events
from dnn_reco.data.from_config import event_store
from dnn_reco.data.loader import to_tensors
from dnn_reco.errors import ModelError
from dnn_reco.files import find_files
from dnn_reco.inference.reconstructor import mix, predict
from dnn_reco.inference.trained_model import trained_network, trained_spec
from dnn_reco.nn.ensemble import Ensemble
from dnn_reco.nn.from_config import network_spec
from dnn_reco.nn.label_transform import LabelTransform
from dnn_reco.transform import load_transformation

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    run = make_small_run(tmp_path_factory.mktemp("trained"))
    run_trafo(run.config(), ON_CPU, overwrite=False)
    run_train(run.config(num_training_iterations=4), ON_CPU)
    return run


def test_all_events_whatever_the_batch(trained: SmallRun) -> None:
    config = trained.config()
    transformation = load_transformation(Path(config.trafo.trafo_model_path))
    keys = network_spec(config, transformation).label_keys
    files = find_files(config.data_files.test_data_file, "test_data_file")
    events = open_events(event_store(config, None), files, 1)
    network = trained_network(config, CPU)
    transform = LabelTransform(transformation)
    said = predict(network, transform, keys.azimuth, events, batch_size=7)

    whole = to_tensors(events.read(np.arange(len(events))))
    with torch.no_grad():
        at_once = network(whole.hits)
    np.testing.assert_allclose(said.labels, at_once.labels, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(said.uncertainty, at_once.uncertainty, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(said.true, whole.labels)
    energy = events.names.labels.index("EnergyVisible")
    scale = transformation.label_std[energy] + transformation.settings.norm_constant
    residual = np.log1p(said.labels[:, energy]) - np.log1p(said.true[:, energy])
    expected = residual / scale / at_once.uncertainty_trafo[:, energy].numpy()
    np.testing.assert_allclose(said.pull[:, energy], expected, rtol=1e-3, atol=1e-4)
    azimuth = events.names.labels.index("PrimaryAzimuth")
    assert np.abs(said.pull[:, azimuth] * said.uncertainty[:, azimuth]).max() <= np.pi + 1e-4


def test_predictions_are_mixed_as_an_ensemble_of_the_networks_does(trained: SmallRun) -> None:
    config = trained.config()
    spec = trained_spec(config)
    files = find_files(config.data_files.test_data_file, "test_data_file")
    events = open_events(event_store(config, None), files, 1)
    networks = [trained_network(config, CPU) for _ in range(2)]
    with torch.no_grad():
        for _, parameter in networks[1].named_parameters():
            parameter.mul_(0.9)
    transform, azimuth = LabelTransform(spec.transformation), spec.label_keys.azimuth
    said = [predict(network, transform, azimuth, events) for network in networks]
    mixed = mix(said, spec)
    together = predict(Ensemble(networks, spec), transform, azimuth, events)
    for name in ("labels", "uncertainty", "pull", "true"):
        found, wanted = getattr(mixed, name), getattr(together, name)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4, err_msg=name)
    assert not np.allclose(said[0].labels, said[1].labels, rtol=1e-2)


def test_weights_are_those_of_the_newest_checkpoint(trained: SmallRun) -> None:
    checkpoint = load_latest(trained.checkpoints)
    assert checkpoint is not None
    network = trained_network(trained.config(), CPU)
    assert isinstance(network, torch.nn.Module) and not network.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, checkpoint.section("network")[name])


def test_without_a_checkpoint(trained: SmallRun, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="train the network first"):
        trained_network(trained.config(model_checkpoint_path=str(tmp_path / "none")), CPU)
