"""`dnn-reco import`: a model of the TensorFlow version becomes a model folder."""

import json
import re
from pathlib import Path

import pytest
import reference_files
import torch
from small_reference_model import (
    SETTINGS,
    SmallReferenceModel,
    make_small_older_model,
    make_small_reference_model,
    some_hits,
)
from workspace import invoke

from dnn_reco import Reconstructor
from dnn_reco.inference.model_folder import load_model_folder


@pytest.fixture
def model(tmp_path: Path) -> SmallReferenceModel:
    return make_small_reference_model(tmp_path / "exported")


def error_message(*arguments: str | Path) -> str:
    """The only message of an import that failed."""
    result = invoke("import", *arguments)
    assert result.exit_code == 1
    assert result.out == ""
    assert result.err.count("Error: ") == 1
    assert "Traceback" not in result.err
    return result.err


def test_output_and_model_folder(model: SmallReferenceModel, tmp_path: Path) -> None:
    output = tmp_path / "models" / "small"
    result = invoke("import", model.folder, "-o", output)
    assert result.exit_code == 0, result.err
    assert result.err == (
        "WARNING: There is no 'config_data_settings.yaml' beside the model, so the settings of the "
        "data that it is applied to will not be compared with those of its training data: give "
        "them with -s/--data-settings.\n"
    )
    num_weights = sum(parameter.numel() for parameter in model.network.parameters())
    assert result.out.splitlines() == [
        f"Checkpoint:     {model.folder / 'ckpt-300'}, 300 iterations",
        f"Config:         {model.folder / 'config_training_0000.yaml'}",
        f"Transformation: {model.folder / 'trafo_model.npy'}",
        f"Network:        {num_weights:,} weights, 3 inputs of a DOM, 7 labels",
        "Changed:        model_kwargs.legacy_direction_norm: direction vectors longer than 1 keep "
        "their length, as in the TensorFlow version",
        f"Written to '{output}'",
    ]
    loaded = load_model_folder(output, torch.device("cpu"))
    with torch.no_grad():
        assert torch.equal(loaded.network(some_hits()).labels, model.predict().labels)


def test_what_lies_beside_the_model_is_kept(model: SmallReferenceModel, tmp_path: Path) -> None:
    beside = {
        "config_data_settings.yaml": "{num_bins: 3, relative_time_method: time_range, "
        "data_format: reduced_summary_statistics_data, pulse_key: InIceDSTPulses}",
        "version_control.yaml": "git_sha: 123",
        "config_meta_data.yaml": "num_misc: 0",
        "logs/train/events.out.tfevents.1": "curves",
    }
    for name, text in beside.items():
        (model.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (model.folder / name).write_text(text)
    output = tmp_path / "small"
    result = invoke("import", model.folder, "-o", output)
    assert result.exit_code == 0
    assert result.err == ""
    for name, text in beside.items():
        assert (output / name).read_text() == text
    reco = Reconstructor(output, device="cpu")
    assert reco.data_settings is not None
    assert reco.data_settings.pulse_key == "InIceDSTPulses"
    settings = tmp_path / "settings.yaml"
    settings.write_text(beside["config_data_settings.yaml"].replace("DST", ""))
    nine = tmp_path / "nine.yaml"
    nine.write_text(beside["config_data_settings.yaml"].replace("num_bins: 3", "num_bins: 9"))
    message = error_message(model.folder, "-o", tmp_path / "nine", "-s", nine)
    assert f"'{nine}' makes 9 features of a DOM (num_bins), but the network reads 3" in message
    assert not (tmp_path / "nine").exists()
    command = ("import", model.folder, "-o", output, "-s", settings, "--overwrite")
    assert invoke(*command).exit_code == 0
    assert "pulse_key: InIcePulses" in invoke("inspect", output).out


def test_a_model_of_the_older_generation(tmp_path: Path) -> None:
    """The output and the manifest say what the import was not compared with."""
    older = make_small_older_model(tmp_path / "exported")
    output = tmp_path / "model"
    result = invoke("import", older.folder, "-o", output)
    assert result.exit_code == 0, result.err
    assert f"Checkpoint:     {older.folder / 'model-500'}, 500 iterations\n" in result.out
    assert "Unverified on a real checkpoint: " in result.err
    assert "compare with trusted predictions" in result.err
    origin = json.loads((output / "manifest.json").read_text())["origin"]
    assert origin.endswith("older generation (unverified on a real checkpoint)")
    loaded = load_model_folder(output, torch.device("cpu"))
    with torch.no_grad():
        assert torch.equal(loaded.network(some_hits()).labels, older.predict().labels)


def test_existing_output(model: SmallReferenceModel, tmp_path: Path) -> None:
    output = tmp_path / "small"
    assert invoke("import", model.folder, "-o", output).exit_code == 0
    assert "replace it with --overwrite" in error_message(model.folder, "-o", output)
    assert invoke("import", model.folder, "-o", output, "--overwrite").exit_code == 0
    assert "it is never replaced" in error_message(model.folder, "-o", model.folder, "--overwrite")


def test_parts_from_elsewhere(model: SmallReferenceModel, tmp_path: Path) -> None:
    trafo, config = tmp_path / "trafo.npy", tmp_path / "config.yaml"
    (model.folder / "trafo_model.npy").rename(trafo)
    assert "give it with --trafo" in error_message(model.folder, "-o", tmp_path / "small")
    (model.folder / "config_training_0000.yaml").rename(config)
    missing = error_message(model.folder, "-o", tmp_path / "small", "--trafo", trafo)
    assert "give the config of the training with --config" in missing
    parts = ("--trafo", trafo, "--config", config)
    result = invoke("import", model.folder, "-o", tmp_path / "small", *parts)
    assert result.exit_code == 0, result.err
    assert f"Config:         {config}\n" in result.out


def test_no_folder_and_no_checkpoint(tmp_path: Path) -> None:
    assert "there is no folder" in error_message(tmp_path / "nowhere", "-o", tmp_path / "small")
    (tmp_path / "empty").mkdir()
    assert "no TensorFlow checkpoint" in error_message(tmp_path / "empty", "-o", tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_transformation_model_of_another_config(model: SmallReferenceModel, tmp_path: Path) -> None:
    settings = {**SETTINGS, "trafo_norm_constant": 0.1, "trafo_log_label_bins": {"zenith": True}}
    reference_files.write_config(model.folder / "config_training_0000.yaml", settings)
    message = error_message(model.folder, "-o", tmp_path / "small")
    assert "norm_constant: 0.0001 in the model, 0.1 in the config" in message
    assert "log_label_bins: " in message
    assert "Name those of this training with --trafo and --config." in message


def test_damaged_checkpoint(model: SmallReferenceModel, tmp_path: Path) -> None:
    file = model.folder / "ckpt-300.data-00000-of-00001"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    assert "checksum is wrong" in error_message(model.folder, "-o", tmp_path / "small")
    file.unlink()
    assert f"the file '{file}' is missing" in error_message(model.folder, "-o", tmp_path / "small")


def test_help_shows_how() -> None:
    result = invoke("import", "--help")
    assert result.exit_code == 0
    assert re.search(r"Examples:\n.*dnn-reco import \S+ -o \S+", result.out)


@pytest.mark.parametrize("arguments", [["import"], ["import", "folder"]])
def test_wrong_usage(arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.err.startswith("Usage: ")
