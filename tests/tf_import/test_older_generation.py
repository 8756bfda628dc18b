"""Models of the older generation: names of their variables, predictions, and errors."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import network_golden
import numpy as np
import older_network
import pytest
import reference_files
import torch
from small_reference_model import (
    SETTINGS,
    SmallReferenceModel,
    make_small_older_model,
    older_settings,
    some_hits,
)
from small_run import MODEL_KWARGS

from dnn_reco.errors import ModelError
from dnn_reco.inference.model_folder import (
    Member,
    contents_of,
    load_model_folder,
    write_model_folder,
)
from dnn_reco.modules.models.general_IC86_models import general_model_IC86
from dnn_reco.nn.interface import Network, NetworkSpec
from dnn_reco.tf_import.importer import ImportedModel, import_reference
from dnn_reco.tf_import.older_generation import older_iterations, older_variables

MODELS = ("general_model_IC86", "general_model_IC86_opt4")
Arrays = dict[str, np.ndarray[Any, Any]]


@pytest.fixture
def small(tmp_path: Path) -> SmallReferenceModel:
    return make_small_older_model(tmp_path / "exported")


def as_network(model: ImportedModel, path: Path) -> Network:
    member = Member(model.weights, model.transformation, model.config)
    write_model_folder(path, contents_of([member], "a test"))
    return load_model_folder(path, torch.device("cpu")).network


def golden_settings() -> dict[str, Any]:
    keys = vars(network_golden.LABEL_KEYS)
    return {
        **{f"label_{key}_key": label for key, label in keys.items() if isinstance(label, str)},
        **older_network.SETTINGS,
        "data_handler_num_bins": 9,
        "model_file": "general_IC86_models",
        "model_name": "general_model_IC86",
    }


def test_predictions_of_a_network_that_the_layer_library_built(
    golden_network: Path, tmp_path: Path
) -> None:
    """Names, shapes and predictions come from a run of the TensorFlow version."""
    transformation = network_golden.transformation(golden_network)
    labels = transformation.settings.label_names
    settings = {**golden_settings(), "label_pid_keys": [n for n in labels if n.startswith("p_")]}
    folder = tmp_path / "exported"
    reference_files.write_older_model(folder, older_network.weights(), transformation, settings)
    imported = import_reference(folder)
    assert [line.partition(":")[0] for line in imported.changes] == [
        "model_kwargs.conv_ic78_settings.legacy_rotation"
    ]
    network = as_network(imported, tmp_path / "model")
    with torch.inference_mode():
        found = network(network_golden.hits(golden_network, [0]))
    expected_labels, expected_uncertainty = older_network.prediction()
    np.testing.assert_allclose(found.labels_trafo[0], expected_labels, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        found.uncertainty_trafo[0], expected_uncertainty, rtol=1e-5, atol=1e-5
    )


def test_names_and_their_order(golden_network: Path) -> None:
    """Whatever the order of our parameters."""
    spec = network_golden.spec(golden_network)
    shapes = {name: tuple(t.shape) for name, t in observed_network(spec).state_dict().items()}
    found = older_variables(dict(sorted(shapes.items(), reverse=True)))
    observed = older_network.observed_variables()
    assert {variable.name: variable.shape for variable in found} == observed
    weights = [variable.name for variable in found if "/weights" in variable.name]
    assert weights == [name for name in observed if "/weights" in name]


def observed_network(spec: NetworkSpec) -> torch.nn.Module:
    blocks = {key.lower(): value for key, value in older_network.SETTINGS.items()}
    for key in blocks:
        if key.startswith("conv_"):
            method = "hex_convolution" if key == "conv_ic78_settings" else "convolution"
            blocks[key] = {**blocks[key], "method_list": method}
    return general_model_IC86(spec, **blocks)


@pytest.mark.parametrize("name", MODELS)
def test_exported_folder(tmp_path: Path, name: str) -> None:
    small = make_small_older_model(tmp_path / "exported", name)
    imported = import_reference(small.folder)
    assert imported.is_older
    assert imported.changes == ()
    assert imported.checkpoint == small.folder / "model-500"
    assert imported.iterations == 500
    network = as_network(imported, tmp_path / "model")
    with torch.no_grad():
        found, expected = network(some_hits()), small.predict()
    for part in ("labels", "labels_trafo", "uncertainty", "uncertainty_trafo", "logits"):
        assert torch.equal(getattr(found, part), getattr(expected, part))


def write_settings(small: SmallReferenceModel, settings: dict[str, Any]) -> None:
    reference_files.write_config(small.folder / "config_training_0000.yaml", settings)


def test_settings_that_only_one_network_reads(tmp_path: Path) -> None:
    limited = {"model_limit_dir_vec": 1.0, "model_dir_z_independent": True}
    kept = {}
    for name in MODELS:
        small = make_small_older_model(tmp_path / name, name)
        write_settings(small, {**older_settings(name), **limited})
        imported = import_reference(small.folder)
        kept[name] = imported.config.model.model_kwargs.get("limit_dir_vec"), len(imported.changes)
    assert kept == {"general_model_IC86": (None, 2), "general_model_IC86_opt4": (1.0, 0)}


@pytest.mark.parametrize("zero_out", [True, [False, True]])
def test_a_setting_that_means_something_else_there(
    small: SmallReferenceModel, zero_out: object
) -> None:
    block = {**MODEL_KWARGS["conv_ic78_settings"], "hex_zero_out_list": zero_out}
    write_settings(small, older_settings(conv_ic78_settings=block))
    with pytest.raises(ModelError, match="hex_zero_out_list is on"):
        import_reference(small.folder)


def test_config_of_the_other_generation(small: SmallReferenceModel) -> None:
    write_settings(small, SETTINGS)
    with pytest.raises(ModelError, match=r"the checkpoint is of the older generation, of which"):
        import_reference(small.folder)
    write_settings(small, older_settings())
    weights = [("label_weights", np.ones(7, dtype=np.float32))]
    reference_files.write_checkpoint(small.folder / "ckpt-1", weights, iterations=1)
    with pytest.raises(ModelError, match=r"IC86_opt4', but the checkpoint is of the newer"):
        import_reference(small.folder)


def add_unknown(arrays: Arrays) -> None:
    arrays["model_pred/weights_99"] = np.ones(2, dtype=np.float32)


def remove_one(arrays: Arrays) -> None:
    del arrays["model_pred/weights_4"]


def change_shape(arrays: Arrays) -> None:
    arrays["model_unc/biases"] = np.ones((2, 3), dtype=np.float32)


def hide_behind_other_names(arrays: Arrays) -> None:
    arrays["../model_pred/weights"] = arrays.pop("model_pred/weights")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (add_unknown, "it has 1 variables that the network does not have, such as 'model_pred/w"),
        (remove_one, "it has no variable 'model_pred/weights_4', where the network has 'lower/0/"),
        (change_shape, "its variable 'model_unc/biases' has shape [2, 3], where the network has "),
        (hide_behind_other_names, "it has no variable 'model_pred/weights', where the network has"),
    ],
)
def test_variables_that_do_not_fit(
    small: SmallReferenceModel, change: Callable[[Arrays], None], message: str
) -> None:
    arrays = reference_files.older_variables(small.network)
    change(arrays)
    reference_files.write_bundle(small.folder / "model-500", arrays)
    with pytest.raises(ModelError, match=re.escape(message)) as caught:
        import_reference(small.folder)
    assert "model-500' does not fit the network of the config" in str(caught.value)
    assert "(--config)" in str(caught.value)


def test_variables_of_optimizers_and_losses_are_ignored(small: SmallReferenceModel) -> None:
    """The TensorFlow version does not save them, others may."""
    arrays = reference_files.older_variables(small.network)
    for name in ("beta1_power", "label_weights", "model_pred/weights/Adam", "model_unc/biases/m"):
        arrays[name] = np.ones(3, dtype=np.float32)
    reference_files.write_bundle(small.folder / "model-500", arrays)
    imported = import_reference(small.folder)
    for name, value in small.network.state_dict().items():
        assert torch.equal(imported.weights[name], value)


def test_activations_whose_weights_cannot_be_read(small: SmallReferenceModel) -> None:
    block = {**MODEL_KWARGS["conv_ic78_settings"], "activation_list": "pelu"}
    write_settings(small, older_settings(conv_ic78_settings=block))
    with pytest.raises(ModelError, match=r"'ic78.0.act.a_weight' of the network has no count"):
        import_reference(small.folder)


def test_damaged_checkpoints(small: SmallReferenceModel) -> None:
    data = small.folder / "model-500.data-00000-of-00001"
    os.truncate(data, 100)
    with pytest.raises(ModelError, match="was not copied completely"):
        import_reference(small.folder)
    index = small.folder / "model-500.index"
    os.truncate(index, index.stat().st_size // 2)
    with pytest.raises(ModelError, match="is damaged, or not the index"):
        import_reference(small.folder)


def test_a_shape_larger_than_any_file(small: SmallReferenceModel) -> None:
    arrays = reference_files.older_variables(small.network)
    path = small.folder / "model-500.index"
    entries = {b"": reference_files.field(1, 1)}
    for name in arrays:
        entries[name.encode()] = reference_files.entry(1, (2**40, 2**40), 0, 0, b"", 0)
    path.write_bytes(reference_files.table(entries))
    with pytest.raises(ModelError, match=r"has shape \[1099511627776, 1099511627776\], where"):
        import_reference(small.folder)


@pytest.mark.parametrize("name", ["model", "model-", "model-5x", "model-" + "9" * 30])
def test_names_without_iterations(name: str) -> None:
    assert older_iterations("model-12000") == 12_000
    with pytest.raises(ModelError, match="does not end with the number of its iterations"):
        older_iterations(name)


def test_weights_of_another_precision(small: SmallReferenceModel) -> None:
    write_settings(small, {**older_settings(), "float_precision": "float64"})
    with pytest.raises(ModelError, match=r"torch.float32, but the config asks for torch.float64"):
        import_reference(small.folder)
