"""Models of the TensorFlow version: equal predictions, and errors for what does not fit."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import network_golden
import numpy as np
import pytest
import reference_files
import torch
from small_reference_model import (
    MODEL_CLASS,
    SETTINGS,
    SmallReferenceModel,
    make_small_reference_model,
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
from dnn_reco.inference.trained_model import TrainedModel
from dnn_reco.tf_import import importer
from dnn_reco.tf_import.importer import ImportedModel, import_reference, log_files

CPU = torch.device("cpu")
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture
def small(tmp_path: Path) -> SmallReferenceModel:
    return make_small_reference_model(tmp_path / "exported")


def as_model_folder(model: ImportedModel, path: Path) -> TrainedModel:
    member = Member(model.weights, model.transformation, model.config)
    write_model_folder(path, contents_of([member], "a test"))
    return load_model_folder(path, CPU)


def assert_same_predictions(model: TrainedModel, golden_network: Path, outputs: str) -> None:
    with torch.inference_mode():
        found = model.network(network_golden.hits(golden_network))
    golden = np.load(golden_network / outputs)
    np.testing.assert_allclose(found.labels_trafo, golden["y_pred_trafo"], **TOLERANCE)
    np.testing.assert_allclose(found.uncertainty_trafo, golden["y_unc_pred_trafo"], **TOLERANCE)
    # in physical units an absolute tolerance belongs to each label's own scale
    for values, expected in ((found.labels, "y_pred"), (found.uncertainty, "y_unc")):
        scale = np.abs(golden[expected]).max(axis=0)
        assert (np.abs(values.numpy() - golden[expected]) <= 1e-5 * scale + 1e-6).all()


def test_trained_model_of_the_reference(golden_network: Path, tmp_path: Path) -> None:
    """Its own checkpoint, transformation model and config give its own predictions."""
    imported = import_reference(golden_network / "tf_checkpoint")
    assert imported.iterations == 200
    model = as_model_folder(imported, tmp_path / "model")
    assert_same_predictions(model, golden_network, "tf_checkpoint_predict_numu_medium.npz")
    settings = json.loads((golden_network / "tf_checkpoint_trafo_settings.json").read_text())
    assert list(model.label_names) == settings["label_names"]
    assert list(model.misc_names) == settings["misc_names"]


def write_golden_model(golden_network: Path, name: str, folder: Path) -> None:
    """A golden network as the reference would save it, from its own lists of variables."""
    meta = json.loads((golden_network / f"model_{name}_meta.json").read_text())
    weights = np.load(golden_network / f"model_{name}_weights.npz")
    names = {variable["key"]: variable["tf_name"] for variable in meta["variables"]}
    layers = [key.rpartition("/")[0] for key in names if key.endswith("bn_pop_mean")]
    branches = ("ic78", "lower", "upper", "fc", "fc_unc")
    statistics = [
        f"{layer}/bn_pop_{kind}"
        for layer in sorted(layers, key=lambda layer: branches.index(layer.partition("/")[0]))
        for kind in ("mean", "var")
    ]
    order = [*meta["vars_pred_order"], *meta["vars_unc_order"], *statistics]
    variables = [("label_weights", np.ones(35, dtype=np.float32))]
    variables += [(names[key], weights[key]) for key in order]
    folder.mkdir()
    reference_files.write_checkpoint(folder / "ckpt-1", variables, iterations=1)
    transformation = network_golden.transformation(golden_network)
    reference_files.write_trafo(folder / "trafo_model.npy", transformation)
    keys = vars(network_golden.LABEL_KEYS)
    settings = {
        **{f"label_{key}_key": label for key, label in keys.items() if isinstance(label, str)},
        "label_pid_keys": [label for label in meta["label_names"] if label.startswith("p_")],
        "data_handler_num_bins": 9,
        "model_class": MODEL_CLASS,
        "model_kwargs": meta["model_kwargs"],
    }
    reference_files.write_config(folder / "config_training_0000.yaml", settings)


@pytest.mark.parametrize("name", ["base_strong", "dirnorm", "mixed", "tilted10"])
def test_golden_networks(golden_network: Path, tmp_path: Path, name: str) -> None:
    """Among them one that needs the reference's way to normalise directions."""
    write_golden_model(golden_network, name, tmp_path / "exported")
    model = as_model_folder(import_reference(tmp_path / "exported"), tmp_path / "model")
    assert_same_predictions(model, golden_network, f"model_{name}_outputs.npz")


def test_exported_folder(small: SmallReferenceModel, tmp_path: Path) -> None:
    imported = import_reference(small.folder)
    assert imported.checkpoint == small.folder / "ckpt-300"
    assert imported.iterations == 300
    assert imported.config_files == (small.folder / "config_training_0000.yaml",)
    assert {path.name for path in imported.records} == {
        "config_training_0000.yaml",
        "training_steps.yaml",
    }
    assert imported.transformation.digest == small.transformation.digest
    model = as_model_folder(imported, tmp_path / "model")
    with torch.no_grad():
        found, expected = model.network(some_hits()), small.predict()
    for name in ("labels", "labels_trafo", "uncertainty", "uncertainty_trafo", "logits"):
        assert torch.equal(getattr(found, name), getattr(expected, name))


def test_folder_of_checkpoints(small: SmallReferenceModel, tmp_path: Path) -> None:
    """Configs and records lie one folder above; the config of the last training step counts."""
    checkpoints = tmp_path / "run" / "model"
    small.folder.rename(checkpoints.parent)
    checkpoints.mkdir()
    for file in [*checkpoints.parent.glob("ckpt*"), checkpoints.parent / "checkpoint"]:
        file.rename(checkpoints / file.name)
    last = checkpoints.parent / "config_training_0010.yaml"
    for number in (2, 10):
        kwargs = {**MODEL_KWARGS, "keep_prob_dom": number / 100}
        path = checkpoints.parent / f"config_training_{number:04d}.yaml"
        reference_files.write_config(path, {**SETTINGS, "model_kwargs": kwargs})
    (checkpoints.parent / "other.yaml").touch()
    trafo = checkpoints.parent / "trafo_model.npy"
    imported = import_reference(checkpoints, trafo_file=trafo)
    assert imported.config_files == (last.absolute(),)
    assert imported.config.model.model_kwargs["keep_prob_dom"] == 0.1
    assert len(imported.records) == 4


def test_data_settings_and_records_are_found(small: SmallReferenceModel) -> None:
    found = ("config_data_settings.yaml", "config_trafo.yaml", "config_meta_data.yaml")
    for name in (*found, "version_control.yaml", "other.yaml"):
        (small.folder / name).write_text("a: 1\n")
    reference_files.write_config(small.folder.parent / "config_training_0007.yaml", SETTINGS)
    assert sorted(path.name for path in import_reference(small.folder).records) == [
        "config_data_settings.yaml",
        "config_meta_data.yaml",
        "config_trafo.yaml",
        "config_training_0000.yaml",
        "training_steps.yaml",
        "version_control.yaml",
    ]


@pytest.mark.parametrize("content", [b"a: \xff\n", b"a\0b"])
def test_records_are_texts(small: SmallReferenceModel, content: bytes) -> None:
    (small.folder / "version_control.yaml").write_bytes(content)
    with pytest.raises(ModelError, match=r"version_control.yaml' is not text"):
        import_reference(small.folder)


def write_logs(folder: Path) -> list[Path]:
    paths = [
        folder / "logs" / part / f"events.out.tfevents.{n}.host"
        for part in ("train", "val")
        for n in (1, 2)
    ]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"events")
    return paths


def test_tensorboard_files_are_listed(small: SmallReferenceModel, tmp_path: Path) -> None:
    """Other files are not, and links to folders are not followed."""
    assert log_files(small.folder) == []
    paths = write_logs(small.folder)
    (small.folder / "logs" / "notes.txt").touch()
    write_logs(tmp_path / "elsewhere")
    (small.folder / "logs" / "more").symlink_to(tmp_path / "elsewhere")
    assert log_files(small.folder) == paths
    assert import_reference(small.folder).logs == tuple(paths)


@pytest.mark.parametrize("kind", ["link", "fifo", "huge", "linked folder"])
def test_only_tensorboard_files_of_the_folder(
    small: SmallReferenceModel, tmp_path: Path, kind: str
) -> None:
    path = write_logs(small.folder)[0]
    if kind == "huge":
        os.truncate(path, 2**31)
    elif kind == "linked folder":
        (small.folder / "logs").rename(tmp_path / "logs")
        (small.folder / "logs").symlink_to(tmp_path / "logs")
    else:
        path.rename(tmp_path / "secret")
        path.symlink_to(tmp_path / "secret") if kind == "link" else os.mkfifo(path)
    with pytest.raises(ModelError, match=r"tfevents.1.host' (is a link to|is not a|has 2,147)"):
        import_reference(small.folder)


def test_too_many_tensorboard_files(
    small: SmallReferenceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_logs(small.folder)
    monkeypatch.setattr(importer, "_MAX_LOGS", 3)
    with pytest.raises(ModelError, match="more than 3 TensorBoard files"):
        log_files(small.folder)


def test_config_from_elsewhere(small: SmallReferenceModel, tmp_path: Path) -> None:
    """Also in several files."""
    (small.folder / "config_training_0000.yaml").unlink()
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    reference_files.write_config(first, {k: v for k, v in SETTINGS.items() if "model" not in k})
    reference_files.write_config(second, {k: v for k, v in SETTINGS.items() if "model" in k})
    imported = import_reference(small.folder, config_files=[first, second])
    assert imported.config.general.unique_name == "small"
    assert torch.equal(imported.weights["fc.0.bias"], small.network.fc[0].bias)


def test_settings_that_are_changes(small: SmallReferenceModel) -> None:
    imported = import_reference(small.folder)
    assert imported.config.model.model_kwargs["legacy_direction_norm"] is True
    assert [line.partition(":")[0] for line in imported.changes] == [
        "model_kwargs.legacy_direction_norm"
    ]


@pytest.mark.parametrize(
    ("keys", "first"),
    [
        ({"label_update_weights": False}, []),
        ({"label_scale_tukey": True}, ["label_weights", "median_abs_dev"]),
        ({"label_update_weights": False, "label_scale_tukey": True}, ["median_abs_dev"]),
    ],
)
def test_variables_of_the_loss_may_be_others(
    small: SmallReferenceModel, keys: dict[str, Any], first: list[str]
) -> None:
    reference_files.write_config(small.folder / "config_training_0000.yaml", {**SETTINGS, **keys})
    of_loss = [(name, np.ones(7, dtype=np.float32)) for name in first]
    variables = [*of_loss, *reference_files.plain_variables(small.network)]
    reference_files.write_checkpoint(small.folder / "ckpt-300", variables, 300)
    imported = import_reference(small.folder)
    for name, value in small.network.state_dict().items():
        assert torch.equal(imported.weights[name], value)


def changed_kwargs(block: str, **changes: Any) -> dict[str, Any]:
    kwargs = {**MODEL_KWARGS, block: {**MODEL_KWARGS[block], **changes}}
    return {"model_kwargs": kwargs}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            changed_kwargs("conv_ic78_settings", filter_size_list=[[2, 0, 3], [2, 0, 4]]),
            "'GeneralIC86CNN__ic78_001_hex_conv_kernel_weights_0_1' of shape [3, 2, 2], where the "
            "network has 'ic78/1/hexcell_00' of shape [4, 2, 2]",
        ),
        (
            changed_kwargs("fc_settings", use_residual_list=[True, True]),
            "is 'GeneralIC86CNN__fc_001_biases' of shape [7], where the network has "
            "'fc/0/residual_scale' of shape [8]",
        ),
        (
            changed_kwargs("fc_unc_settings", use_residual_list=[False, True]),
            "it has 40 variables, the network 41",
        ),
        ({"label_update_weights": False}, "its variable 0 is 'label_weights' of shape [7], where"),
    ],
)
def test_config_of_another_network(
    small: SmallReferenceModel, changes: dict[str, Any], message: str
) -> None:
    reference_files.write_config(
        small.folder / "config_training_0000.yaml", {**SETTINGS, **changes}
    )
    with pytest.raises(ModelError, match=re.escape(message)) as caught:
        import_reference(small.folder)
    assert "ckpt-300' does not fit the network of the config" in str(caught.value)
    assert "(--config)" in str(caught.value)


def test_order_of_another_network(small: SmallReferenceModel) -> None:
    """Shapes alone would not show that two layers were exchanged."""
    variables = [("label_weights", np.ones(7, dtype=np.float32))]
    variables += reference_files.plain_variables(small.network)
    names = [name for name, _ in variables]
    first = names.index("GeneralIC86CNN__upper_deepcore_001_biases")
    second = names.index("GeneralIC86CNN__upper_deepcore_000_biases")
    variables[first], variables[second] = variables[second], variables[first]
    reference_files.write_checkpoint(small.folder / "ckpt-300", variables, 300)
    with pytest.raises(ModelError, match=r"'upper/0/biases' of shape \[2\]"):
        import_reference(small.folder)


def test_weights_of_another_precision(small: SmallReferenceModel) -> None:
    kwargs = {**MODEL_KWARGS, "dtype": "float64"}
    reference_files.write_config(
        small.folder / "config_training_0000.yaml", {**SETTINGS, "model_kwargs": kwargs}
    )
    with pytest.raises(ModelError, match=r"torch.float32, but the config asks for torch.float64"):
        import_reference(small.folder)


def test_missing_parts(small: SmallReferenceModel, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no folder"):
        import_reference(tmp_path / "nowhere")
    trafo = small.folder / "trafo_model.npy"
    trafo.rename(tmp_path / "elsewhere.npy")
    with pytest.raises(ModelError, match=r"--trafo \(in the config it is '../data/trafo_mod"):
        import_reference(small.folder)
    import_reference(small.folder, trafo_file=tmp_path / "elsewhere.npy")
    (small.folder / "config_training_0000.yaml").unlink()
    with pytest.raises(ModelError, match=r"no config_training_NNNN.yaml .* with --config"):
        import_reference(small.folder, trafo_file=tmp_path / "elsewhere.npy")
    shutil.rmtree(small.folder)
    small.folder.mkdir()
    with pytest.raises(ModelError, match="there is no TensorFlow checkpoint"):
        import_reference(small.folder)


@pytest.mark.parametrize(
    "name",
    ["training_steps.yaml", "config_training_0000.yaml", "trafo_model.npy", "ckpt-300.index"],
)
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("link", "is a link to '.*secret', outside of"),
        ("device", "is not a regular file"),
        ("fifo", "is not a regular file"),
        ("huge", "has 1,100,000,000,000 bytes, but"),
    ],
)
def test_only_files_of_the_folder_are_read(
    small: SmallReferenceModel, tmp_path: Path, name: str, kind: str, message: str
) -> None:
    path = small.folder / name
    path.rename(tmp_path / "secret")
    if kind == "link":
        path.symlink_to(tmp_path / "secret")
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        with path.open("wb") as file:
            file.truncate(1_100_000_000_000)
    with pytest.raises(ModelError, match=rf"^'{re.escape(str(path))}' {message}"):
        import_reference(small.folder)


def test_the_newest_config_of_checkpoints_is_one_of_their_run(
    small: SmallReferenceModel, tmp_path: Path
) -> None:
    """Also in the folder above, where a user who was given checkpoints may not expect it."""
    checkpoints = tmp_path / "run" / "model"
    checkpoints.parent.mkdir()
    config = small.folder / "config_training_0000.yaml"
    config.rename(tmp_path / "secret")
    small.folder.rename(checkpoints)
    os.mkfifo(checkpoints.parent / config.name)
    with pytest.raises(ModelError, match=r"config_training_0000.yaml' is not a regular file"):
        import_reference(checkpoints)


def test_links_inside_the_folder_and_files_that_the_user_names(
    small: SmallReferenceModel, tmp_path: Path
) -> None:
    """Neither the folder itself nor what the command names is bound to be no link."""
    (tmp_path / "linked").symlink_to(small.folder)
    trafo = small.folder / "trafo_model.npy"
    trafo.rename(small.folder / "other.npy")
    trafo.symlink_to("other.npy")
    assert import_reference(tmp_path / "linked").iterations == 300
    config = tmp_path / "config.yaml"
    config.symlink_to(small.folder / "config_training_0000.yaml")
    assert import_reference(small.folder, config_files=[config]).config_files == (config,)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match="pipe' is not a regular file"):
        import_reference(small.folder, config_files=[tmp_path / "pipe"])
    with pytest.raises(ModelError, match="pipe' is not a regular file"):
        import_reference(small.folder, trafo_file=tmp_path / "pipe")


def test_checkpoint_without_iterations(small: SmallReferenceModel) -> None:
    variables = [("label_weights", np.ones(7, dtype=np.float32))]
    variables += reference_files.plain_variables(small.network)
    arrays = {f"model/{n}{reference_files.VALUE}": value for n, (_, value) in enumerate(variables)}
    names = {f"model/{n}{reference_files.VALUE}": name for n, (name, _) in enumerate(variables)}
    step = {f"step{reference_files.VALUE}": np.zeros(0, dtype=np.int64)}
    reference_files.write_bundle(small.folder / "ckpt-300", {**arrays, **step}, names)
    with pytest.raises(ModelError, match="does not contain its number of iterations"):
        import_reference(small.folder)
