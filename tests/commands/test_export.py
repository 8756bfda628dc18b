"""`export`, `verify`, `inspect`: a trained network leaves its training, whole and verifiable."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from event_files import random_events, write_events
from numpy.testing import assert_array_equal
from ruamel.yaml import YAML
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_run import ON_CPU, SmallRun, make_small_run, run_of
from workspace import REPOSITORY, Result, invoke

import dnn_reco
import dnn_reco.checkpoint_file
from dnn_reco import Hits, ModelError, Reconstructor
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.hdf5.record import RECORD
from dnn_reco.files import file_digest
from dnn_reco.inference.backend import predict_chunks
from dnn_reco.inference.torch_backend import TorchBackend
from dnn_reco.inference.trained_model import load_checkpoint_models

SETTINGS = DataSettings(3, "time_range", "reduced_summary_statistics_data", pulse_key="Pulses")
FOLDERS = REPOSITORY / "tests" / "model_folders"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A run with a validation set, of which two checkpoints were kept."""
    folder = tmp_path_factory.mktemp("exported_run")
    run = make_small_run(
        folder,
        save_frequency=4,
        validation_frequency=4,
        validation_events=20,
        label_particle_keys={"energy": "EnergyVisible", "azimuth": "PrimaryAzimuth"},
        data_handler_relative_time_keys=["VertexTime"],
    )
    for path in folder.glob("*.hdf5"):
        with h5py.File(path, "a") as file:
            file.attrs[RECORD] = SETTINGS.to_json()
    run_trafo(run.config(), ON_CPU, overwrite=False)
    run_train(run.config(num_training_iterations=8), ON_CPU)
    return run


@pytest.fixture
def folder(trained: SmallRun, tmp_path: Path) -> Path:
    export(trained, tmp_path / "models" / "small")
    return tmp_path / "models" / "small"


def export(run: SmallRun, output: Path, *options: str | Path) -> Result:
    result = invoke("export", run.config_file, "-o", output, *options)
    assert result.exit_code == 0, result.err
    return result


def manifest(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / "manifest.json").read_text())
    return content


def reseal(folder: Path) -> None:
    """Write the checksums of the files as they are now, as somebody who changed them would."""
    content = manifest(folder)
    content["files"] = {name: file_digest(folder / name) for name in content["files"]}  # type: ignore[attr-defined]
    (folder / "manifest.json").write_text(json.dumps(content))


def test_the_tutorials_script_ends_with_its_banner(trained: SmallRun, tmp_path: Path) -> None:
    settings = tmp_path / "create_training_data.yaml"
    settings.write_text(json.dumps(SETTINGS.to_dict()))
    script = REPOSITORY / "dnn_reco" / "export_model.py"
    output = tmp_path / "exported" / "getting_started_model"
    command = [sys.executable, script, trained.config_file, "-s", settings, "-o", output]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = f"""
====================================
= Successfully exported model to:  =
====================================
{output}
"""
    assert result.stdout.startswith(expected)
    assert invoke("verify", output, "--device", "cpu").exit_code == 0


def test_what_is_in_the_folder(trained: SmallRun, folder: Path) -> None:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    logs = {name for name in names if name.startswith("logs/")}
    assert names - logs == {
        *("README.md", "manifest.json", "config.yaml", "weights.safetensors"),
        *("trafo_model.safetensors", "golden.safetensors", "config_data_settings.yaml"),
        *("training_steps.yaml", "config_training_0000.yaml", "config_trafo.yaml"),
    }
    assert {Path(name).parent.as_posix() for name in logs} == {"logs", "logs/train", "logs/val"}
    record = trained.records / "config_training_0000.yaml"
    assert (folder / record.name).read_bytes() == record.read_bytes()
    recorded = YAML(typ="safe").load((folder / record.name).read_text())
    assert recorded["dnn_reco_version"] == dnn_reco.__version__
    assert recorded["pip_installed_packages"] and recorded["git_sha"]

    content = manifest(folder)
    # by which later versions know how to read the files
    assert content["format"] == "dnn_reco model 2"
    for kind, name in (("weights", "weights"), ("golden answers", "golden")):
        with safe_open(folder / f"{name}.safetensors", framework="np") as file:
            assert file.metadata() == {"format": f"dnn_reco {kind} 1"}
    assert set(content["files"]) == names - {"manifest.json"}  # type: ignore[call-overload]
    model = content["model"]
    labels = {label["name"]: label for label in model["labels"]}  # type: ignore[index]
    assert labels["EnergyVisible"] == {
        "name": "EnergyVisible",
        "unit": "GeV",
        "has_log": True,
        "is_trained": True,
        "is_relative_time": False,
        "is_class": False,
    }
    assert labels["VertexTime"]["is_relative_time"] and labels["p_starting"]["is_class"]
    assert not labels["VertexX"]["is_trained"] and labels["VertexX"]["unit"] == "m"
    assert labels["PrimaryDirectionX"]["unit"] == ""
    assert model["particle"] == {"energy": "EnergyVisible", "azimuth": "PrimaryAzimuth"}  # type: ignore[index]
    training = content["training"]
    assert training["iterations"] == [8] and training["training_steps"] == [8]  # type: ignore[index]
    assert training["checkpoints"] == ["checkpoint-00000008"]  # type: ignore[index]
    assert training["best_loss"] > -100  # type: ignore[index]

    settings = YAML(typ="safe").load((folder / "config_data_settings.yaml").read_text())
    assert settings == SETTINGS.to_dict()
    card = (folder / "README.md").read_text()
    for part in (
        "EnergyVisible | GeV",
        "reduced_summary_statistics_data",
        "train_*.hdf5",
        "8 iter",
    ):
        assert part in card.replace("iterations: 8", "8 iter")
    assert "VertexX" not in card


def test_the_folder_predicts_as_the_training_did(
    trained: SmallRun, folder: Path, tmp_path: Path
) -> None:
    events = dnn_reco.open_events(trained.folder / "validation.hdf5", trained.config())
    expected = dnn_reco.predict(dnn_reco.load_model(trained.config(), device="cpu"), events.hits)
    moved = tmp_path / "elsewhere" / "renamed"
    moved.parent.mkdir()
    folder.rename(moved)
    reco = Reconstructor(moved, device="cpu", num_threads=1)
    assert reco.info.name == "renamed"
    assert reco.data_settings == SETTINGS
    found = reco.predict(events.hits)
    assert list(found.columns()) == list(expected.columns())
    assert_array_equal(found.labels, expected.labels)
    assert_array_equal(found.uncertainty, expected.uncertainty)
    assert_array_equal(found.particle()["energy"], found["EnergyVisible"])
    of_file = reco.predict(trained.folder / "validation.hdf5")
    assert of_file.ids is not None
    assert_array_equal(of_file.labels, expected.labels)
    assert_array_equal(of_file.ids, events.ids)


def test_settings_of_the_data(trained: SmallRun, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(json.dumps(replace(SETTINGS, data_format="charge_bins").to_dict()))
    options = ("-o", tmp_path / "model", "-s", other)
    result = invoke("export", trained.config_file, *options)
    assert result.exit_code == 1
    assert "data_format" in result.err and "charge_bins" in result.err
    assert "--ignore-mismatch" not in result.err  # which export does not have
    assert not (tmp_path / "model").exists()

    without = make_small_run(tmp_path / "run")
    run_trafo(without.config(), ON_CPU, overwrite=False)
    run_train(without.config(num_training_iterations=2), ON_CPU)
    result = invoke("export", without.config_file, "-o", tmp_path / "model")
    assert result.exit_code == 1
    assert "-s/--data-settings" in result.err
    other.write_text(json.dumps(SETTINGS.to_dict()))
    assert invoke("export", without.config_file, *options).exit_code == 0


def test_settings_of_data_with_other_features(trained: SmallRun, tmp_path: Path) -> None:
    other, output = tmp_path / "nine.yaml", tmp_path / "model"
    other.write_text(json.dumps(replace(SETTINGS, num_bins=9).to_dict()))
    result = invoke("export", trained.config_file, "-o", output, "-s", other)
    assert result.exit_code == 1
    assert result.err.endswith(
        f"Error: '{other}' makes 9 features of a DOM (num_bins), but the network reads 3 "
        "(data_handler_num_bins): give the settings that its training data were made with, by "
        "-s/--data-settings FILE\n"
    )
    assert not output.exists()


def test_data_made_otherwise_are_refused(folder: Path, trained: SmallRun, tmp_path: Path) -> None:
    path = tmp_path / "other.hdf5"
    shutil.copyfile(trained.folder / "validation.hdf5", path)
    with h5py.File(path, "a") as file:
        file.attrs[RECORD] = replace(SETTINGS, pulse_key="Others").to_json()
    reco = Reconstructor(folder, device="cpu")
    with pytest.raises(dnn_reco.DataError, match=r"pulse_key.*Others"):
        reco.predict(path)
    assert len(reco.predict(path, ignore_mismatch=["pulse_key"])) == 60


def test_checkpoints_and_ensembles(trained: SmallRun, tmp_path: Path) -> None:
    hits = dnn_reco.open_events(trained.folder / "validation.hdf5", trained.config()).hits
    first, last = load_checkpoint_models(trained.config(), torch.device("cpu"), 2)
    for name, model in (("4", first), ("8", last), ("latest", last)):
        export(trained, tmp_path / name, "--checkpoint", name)
        found = Reconstructor(tmp_path / name, device="cpu").predict(hits)
        expected = predict_chunks(TorchBackend(model), [hits], 256)
        column = model.label_names.index("EnergyVisible")
        assert_array_equal(found["EnergyVisible"], expected.labels[:, column])
    best = dnn_reco.checkpoint_file.load_named(trained.checkpoints, "best")
    export(trained, tmp_path / "best", "--checkpoint", "best")
    stored = load_file(tmp_path / "best" / "weights.safetensors")
    assert all(torch.equal(stored[name], value) for name, value in best.weights.items())
    assert manifest(tmp_path / "best")["training"]["checkpoints"][0].startswith("best/")  # type: ignore[index]

    export(trained, tmp_path / "both", "--checkpoint", "4", "--checkpoint", "8")
    found = Reconstructor(tmp_path / "both", device="cpu").predict(hits)
    together = dnn_reco.load_model(trained.config(), device="cpu", num_checkpoints=2)
    assert_array_equal(found.labels, dnn_reco.predict(together, hits).labels)
    assert invoke("verify", tmp_path / "both", "--device", "cpu").exit_code == 0

    result = invoke("export", trained.config_file, "-o", tmp_path / "x", "--checkpoint", "5")
    assert result.exit_code == 1
    assert "no checkpoint '5'" in result.err and "Available: 4, 8, best" in result.err


def test_an_ensemble_of_two_trainings(trained: SmallRun, tmp_path: Path) -> None:
    other = run_of(trained, tmp_path / "other")
    run_train(other.config(num_training_iterations=6, seed=7), ON_CPU)
    export(trained, tmp_path / "both", "--member", other.config_file)
    folder = tmp_path / "both"
    assert (folder / "member_01" / "training_steps.yaml").read_text() == "0: 6\n"
    assert (folder / "member_00" / "training_steps.yaml").read_text() == "0: 8\n"
    hits = dnn_reco.open_events(trained.folder / "validation.hdf5", trained.config()).hits
    mean = np.mean(
        [
            np.log1p(Reconstructor(model, device="cpu").predict(hits)["EnergyVisible"])
            for model in (
                dnn_reco.load_model(each.config(), device="cpu") for each in (trained, other)
            )
        ],
        axis=0,
    )
    found = Reconstructor(folder, device="cpu").predict(hits)["EnergyVisible"]
    np.testing.assert_allclose(np.log1p(found), mean, rtol=1e-4)


def test_trainings_on_data_made_otherwise_make_no_ensemble(
    trained: SmallRun, tmp_path: Path
) -> None:
    other = make_small_run(tmp_path / "other")
    for path in other.folder.glob("*.hdf5"):
        with h5py.File(path, "a") as file:
            file.attrs[RECORD] = replace(SETTINGS, pulse_key="Others").to_json()
    run_trafo(other.config(), ON_CPU, overwrite=False)
    run_train(other.config(num_training_iterations=2), ON_CPU)
    command = ("export", trained.config_file, "--member", other.config_file)
    result = invoke(*command, "-o", tmp_path / "both")
    assert result.exit_code == 1
    assert re.search(r"pulse_key is 'Pulses' .*'Others' in the data", result.err)
    assert not (tmp_path / "both").exists()


def test_trainings_with_other_labels_of_the_same_name_make_no_ensemble(
    trained: SmallRun, tmp_path: Path
) -> None:
    changes = {
        "times": {"data_handler_relative_time_key_pattern": None},
        "classes": {"label_pid_keys": ["p_starting", "VertexX"]},
    }
    expected = {
        "times": "differ: VertexTime is relative to the time offset in the former, as in the files",
        "classes": "the networks of an ensemble must share their classes. One has ['VertexX'",
    }
    for name, change in changes.items():
        other = make_small_run(tmp_path / name, **change)
        run_trafo(other.config(), ON_CPU, overwrite=False)
        run_train(other.config(num_training_iterations=2), ON_CPU)
        command = ("export", trained.config_file, "--member", other.config_file)
        result = invoke(*command, "-o", tmp_path / "both")
        assert result.exit_code == 1
        assert expected[name] in result.err


def test_logs_are_those_of_this_model_alone(trained: SmallRun, tmp_path: Path) -> None:
    beside = trained.logs.parent / "another" / "train"
    beside.mkdir(parents=True)
    (beside / "events.out.tfevents.1").write_bytes(b"x")
    (trained.logs / "train" / "notes.txt").write_text("mine")
    export(trained, tmp_path / "with")
    names = [path.name for path in (tmp_path / "with" / "logs").rglob("*") if path.is_file()]
    assert "events.out.tfevents.1" not in names and "notes.txt" not in names
    assert "metrics.jsonl" in names and len(names) == 3
    export(trained, tmp_path / "without", "--no-logs")
    assert not (tmp_path / "without" / "logs").exists()


def test_a_link_to_nowhere(trained: SmallRun, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    result = invoke("export", trained.config_file, "-o", link)
    assert result.exit_code == 1
    assert f"'{link}' is a link to '{tmp_path / 'nowhere'}', which does not exist" in result.err
    assert link.is_symlink() and [path.name for path in tmp_path.iterdir()] == ["link"]


def test_an_existing_folder_is_replaced_on_request_only(trained: SmallRun, folder: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    result = invoke("export", trained.config_file, "-o", folder)
    assert result.exit_code == 1
    assert "--overwrite" in result.err
    assert (folder / "manifest.json").read_bytes() == before
    export(trained, folder, "--overwrite", "--golden-events", "0")
    assert not (folder / "golden.safetensors").exists()
    result = invoke("verify", folder, "--device", "cpu")
    assert result.exit_code == 0
    assert "no golden answers" in result.out


def test_golden_events_from_other_files(trained: SmallRun, tmp_path: Path) -> None:
    events = random_events(9, 5, num_bins=3, run=77)
    public = write_events(tmp_path / "public_0.hdf5", events)
    write_events(tmp_path / "public_1.hdf5", random_events(9, 5, num_bins=3, run=78))
    folder = tmp_path / "model"
    export(trained, folder, "--golden-from", tmp_path / "public_*.hdf5", "--golden-events", "3")
    golden = load_file(folder / "golden.safetensors")
    hits = dnn_reco.open_events([public], config=trained.config_file).hits
    assert_array_equal(golden["offsets"], hits.offsets[:4])
    assert_array_equal(golden["dom"], hits.dom[: hits.offsets[3]])
    assert invoke("verify", folder, "--device", "cpu").exit_code == 0


def test_golden_events_that_are_not_there(trained: SmallRun, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    result = invoke("export", trained.config_file, "-o", folder, "--golden-from", "none/*.hdf5")
    assert result.exit_code == 1
    assert "--golden-from" in result.err and "none/*.hdf5" in result.err
    options = "--golden-from", "none/*.hdf5", "--golden-events", "0"
    result = invoke("export", trained.config_file, "-o", folder, *options)
    assert result.exit_code == 1 and "--golden-from without golden events" in result.err
    assert not folder.exists()


def test_graphs_and_model_repositories(trained: SmallRun, tmp_path: Path) -> None:
    folder = tmp_path / "graphs"
    result = export(trained, folder, "--quantize", "--triton", tmp_path / "triton")
    names = {"model_hits.onnx", "model_dense.onnx", "model_hits_int8.onnx"}
    onnx = manifest(folder)["onnx"]
    assert set(onnx) == names  # type: ignore[call-overload]
    assert max(onnx["model_hits.onnx"], onnx["model_dense.onnx"]) < 1e-5  # type: ignore[index]
    assert 1e-5 < onnx["model_hits_int8.onnx"] < 1  # type: ignore[index]
    for name in names:
        assert f"{name}: deviates by " in result.out
    place = tmp_path / "triton" / "graphs"
    assert (place / "1" / "model.onnx").read_bytes() == (folder / "model_hits.onnx").read_bytes()
    assert 'name: "graphs"' in (place / "config.pbtxt").read_text()
    verified = invoke("verify", folder, "--device", "cpu").out
    assert re.findall(r"Predictions: (\w+), 32 events", verified) == ["torch", "onnxruntime"]
    assert "ONNX:         model_hits.onnx, deviates by" in invoke("inspect", folder).out
    hits = dnn_reco.open_events(trained.folder / "validation.hdf5", trained.config()).hits
    ours, theirs = (
        Reconstructor(folder, device="cpu", backend=backend).predict(hits)
        for backend in ("torch", "onnxruntime")
    )
    np.testing.assert_allclose(theirs.labels, ours.labels, rtol=1e-4)
    with pytest.raises(ModelError, match="export the model again with --onnx"):
        (folder / "manifest.json").write_text(
            json.dumps(
                {
                    **manifest(folder),
                    "files": {
                        name: digest
                        for name, digest in manifest(folder)["files"].items()  # type: ignore[attr-defined]
                        if not name.endswith(".onnx")
                    },
                }
            )
        )
        Reconstructor(folder, backend="onnxruntime")


def test_an_existing_triton_model_is_noticed_at_the_start(
    trained: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, folder = tmp_path / "triton", tmp_path / "models" / "small"
    (repository / "small").mkdir(parents=True)
    monkeypatch.setattr("dnn_reco.commands.export.load_networks", None)  # no work is begun
    for options in ([], ["--overwrite"]):  # without a config.pbtxt it is no model of Triton's
        result = invoke(
            "export", trained.config_file, "-o", folder, "--triton", repository, *options
        )
        assert result.exit_code == 1
        assert f"Error: '{repository / 'small'}' already exists: choose" in result.err
        assert not folder.parent.exists()


def test_verify_finds_what_computes_otherwise(folder: Path) -> None:
    result = invoke("verify", folder, "--device", "cpu")
    assert result.exit_code == 0
    assert "torch, 32 events, largest deviation 0.0e+00" in result.out
    weights = load_file(folder / "weights.safetensors")
    name = next(name for name in weights if name.endswith("bias"))
    save_file({**weights, name: weights[name] + 0.1}, folder / "weights.safetensors")
    result = invoke("verify", folder, "--device", "cpu")
    assert result.exit_code == 1
    assert "weights.safetensors' was changed since" in result.err
    reseal(folder)
    result = invoke("verify", folder, "--device", "cpu")
    assert result.exit_code == 1
    assert "DIFFERENT" in result.out
    (folder / "notes.txt").write_text("mine")
    assert "not part of the model: notes.txt" in invoke("verify", folder).out


def test_damaged_golden_answers(folder: Path) -> None:
    from safetensors.numpy import load_file as load_arrays
    from safetensors.numpy import save_file as save_arrays

    path = folder / "golden.safetensors"
    arrays = load_arrays(path)
    for change in ({"dom": arrays["dom"][::-1].copy()}, {"labels": arrays["labels"][:3]}):
        save_arrays({**arrays, **change}, path)
        reseal(folder)
        result = invoke("verify", folder)
        assert result.exit_code == 1
        assert "golden.safetensors' is damaged" in result.err


@pytest.mark.parametrize(
    ("name", "dtype"), [("labels", torch.bfloat16), ("offsets", torch.float32)]
)
@pytest.mark.parametrize("known", [False, True], ids=["", "known"])
def test_golden_answers_with_numbers_of_other_types(
    folder: Path, name: str, dtype: torch.dtype, known: bool
) -> None:
    path = folder / "golden.safetensors"
    if known:
        pytest.importorskip("ml_dtypes")  # adds the type bfloat16 to NumPy
    tensors = load_file(path)
    save_file({**tensors, name: tensors[name].to(dtype)}, path)
    reseal(folder)
    result = invoke("verify", folder)
    assert result.exit_code == 1
    assert re.match(r"Error: '.*golden\.safetensors' is damaged: .*Export the model", result.err)


def test_golden_answers_that_the_manifest_does_not_list_are_not_believed(
    trained: SmallRun, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "without"
    export(trained, other, "--golden-events", "0")
    shutil.copyfile(folder / "golden.safetensors", other / "golden.safetensors")
    result = invoke("verify", other)
    assert result.exit_code == 0
    assert "not part of the model: golden.safetensors" in result.out
    assert "Predictions: not compared, as the folder holds no golden answers" in result.out


def test_signatures(trained: SmallRun, tmp_path: Path) -> None:
    keys = {}
    for name in ("mine", "other"):
        private, public = tmp_path / f"{name}.pem", tmp_path / f"{name}.pub.pem"
        openssl = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", private]
        subprocess.run(openssl, check=True, capture_output=True)
        command = ["openssl", "pkey", "-in", private, "-pubout", "-out", public]
        subprocess.run(command, check=True, capture_output=True)
        keys[name] = public
    folder = tmp_path / "signed"
    export(trained, folder, "--sign", tmp_path / "mine.pem")
    result = invoke("verify", folder, "--key", keys["mine"])
    assert result.exit_code == 0
    assert "Signature:   valid, of the key in" in result.out
    # by which later versions know how to read it
    signature = json.loads((folder / "signature.json").read_text())
    assert signature["format"] == "dnn_reco signature 1"
    assert "give the key that you trust with --key" in invoke("verify", folder).out
    result = invoke("verify", folder, "--key", keys["other"])
    assert result.exit_code == 1
    assert "signed with a different key" in result.err

    (folder / "README.md").write_text("another model")
    reseal(folder)
    result = invoke("verify", folder, "--key", keys["mine"])
    assert result.exit_code == 1
    assert "stale or forged" in result.err
    (folder / "signature.json").unlink()
    result = invoke("verify", folder, "--key", keys["mine"])
    assert result.exit_code == 1
    assert "is not signed" in result.err
    result = invoke("export", trained.config_file, "-o", tmp_path / "x", "--sign", keys["mine"])
    assert result.exit_code == 1
    assert "not a private key" in result.err and not (tmp_path / "x").exists()


def test_inspect_reads_no_weights(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()
    result = invoke("inspect", folder)
    assert result.exit_code == 0
    for part in (
        *("Model:        small", "EnergyVisible [GeV], EnergyVisible_log_uncertainty"),
        *("Reads:        3 features", "MISSING  weights.safetensors", "pulse_key: Pulses"),
    ):
        assert part in result.out
    assert json.loads(invoke("inspect", folder, "--json").out) == manifest(folder)
    result = invoke("inspect", folder / "logs")
    assert result.exit_code == 1
    assert "is not a model folder" in result.err


def extract(name: str, folder: Path) -> Path:
    """A model folder that an earlier version of the package wrote."""
    with zipfile.ZipFile(FOLDERS / f"{name}.zip") as archive:
        archive.extractall(folder)
    return folder / name


def test_folders_of_format_1(tmp_path: Path) -> None:
    from safetensors.numpy import load_file as load_arrays

    folder = extract("format_1", tmp_path)
    stored = load_arrays(tmp_path / "expected.safetensors")
    hits = Hits(stored["offsets"], stored["dom"], stored["features"])
    reco = Reconstructor(folder, device="cpu")
    found = reco.predict(hits)
    assert found.label_names == ("EnergyVisible", "PrimaryAzimuth")
    for label in found.label_names:
        column = reco.info.label_names.index(label)
        np.testing.assert_allclose(found[label], stored["labels"][:, column], rtol=1e-5)
    np.testing.assert_allclose(
        found["EnergyVisible_log_uncertainty"], stored["uncertainty"][:, 0], rtol=1e-5
    )
    assert invoke("verify", folder).exit_code == 0
    assert "folder of format 1" in invoke("inspect", folder).out


def test_folders_of_format_2(tmp_path: Path) -> None:
    folder = extract("format_2", tmp_path)
    result = invoke("verify", folder, "--device", "cpu")
    assert result.exit_code == 0, result.err
    assert "torch, 12 events" in result.out
    reco = Reconstructor(folder, device="cpu")
    assert reco.data_settings is not None
    assert reco.data_settings.pulse_key == "InIceDSTPulses"
    assert reco.info.particle == {"energy": "EnergyVisible", "azimuth": "PrimaryAzimuth"}


def test_loading_imports_no_training_code(folder: Path) -> None:
    code = (
        f"import sys; from dnn_reco import Reconstructor; Reconstructor({str(folder)!r}, "
        "device='cpu'); print([m for m in sys.modules if m.startswith('dnn_reco.training')])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert result.stdout.strip() == "[]"


def test_mistakes(trained: SmallRun, tmp_path: Path) -> None:
    for backend, message in (("tensorflow", "there is no backend"),):
        with pytest.raises(dnn_reco.ConfigError, match=message):
            Reconstructor(tmp_path, backend=backend)
    with pytest.raises(ModelError, match=re.escape(f"there is no model folder '{tmp_path / 'x'}'")):
        Reconstructor(tmp_path / "x")
    result = invoke("export", trained.config_file)
    assert result.exit_code == 2
    assert "--out" in result.err
