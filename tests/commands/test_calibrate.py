"""`calibrate`: the uncertainties of an exported model are corrected, wherever it is applied."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from applied_models import rows
from event_files import random_events, write_events
from numpy.testing import assert_allclose, assert_array_equal
from small_run import ON_CPU, SmallRun, make_small_run
from workspace import REPOSITORY, invoke

from dnn_reco import Reconstructor, load_model, open_events, predict
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.data.data_settings import DataSettings

SETTINGS = DataSettings(3, "time_range", "reduced_summary_statistics_data", pulse_key="Pulses")
ENERGY, SIGMA = "EnergyVisible", "EnergyVisible_log_uncertainty"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    folder = tmp_path_factory.mktemp("calibrated_run")
    run = make_small_run(
        folder, validation_events=20, label_weight_dict={"EnergyVisible": 1.0, "p_starting": 1.0}
    )
    run_trafo(run.config(), ON_CPU, overwrite=False)
    run_train(run.config(num_training_iterations=4), ON_CPU)
    write_events(folder / "calibration.hdf5", random_events(77, 300, num_bins=3, run=77))
    write_events(folder / "judged.hdf5", random_events(78, 400, num_bins=3, run=78))
    return run


@pytest.fixture(scope="module")
def exported(trained: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    settings = folder.parent / "settings.yaml"
    settings.write_text(json.dumps(SETTINGS.to_dict()))
    result = invoke("export", trained.config_file, "-s", settings, "-o", folder)
    assert result.exit_code == 0, result.err
    return folder


@pytest.fixture(scope="module")
def calibrated(exported: Path, trained: SmallRun) -> Path:
    folder = exported.parent / "calibrated" / "small"
    shutil.copytree(exported, folder)
    result = calibrate(folder, trained)
    assert result.exit_code == 0, result.err
    assert re.search(r"300 events; share inside of the 68.3%", result.out)
    assert re.search(r"EnergyVisible +0\.\d{3} ± 0\.\d{3} +0\.\d{3} ± 0\.\d{3}", result.out)
    return folder


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "small"))


def calibrate(folder, run, *options):
    return invoke("calibrate", folder, "--data", run.folder / "calibration.hdf5", *options)


def test_coverage_of_other_events_is_right(calibrated: Path, trained: SmallRun) -> None:
    file = trained.folder / "judged.hdf5"
    truth = open_events(file, labels="LabelsDeepLearning").labels[ENERGY]

    def coverage(raw: bool) -> float:
        found = Reconstructor(calibrated, device="cpu", raw=raw).predict(file)
        usable = found.status == 0
        residual = np.log1p(found[ENERGY]) - np.log1p(truth)
        return float((np.abs(residual) < found[SIGMA])[usable].mean())

    assert abs(coverage(raw=False) - 0.683) < 0.11  # three times √(0.22 (1/300 + 1/400))
    assert abs(coverage(raw=True) - 0.683) > 0.2  # of a network that has hardly learnt anything


def test_every_way_to_apply_it_is_calibrated(
    calibrated: Path, exported: Path, trained: SmallRun, tmp_path: Path
) -> None:
    file = trained.folder / "judged.hdf5"
    expected = Reconstructor(calibrated, device="cpu").predict(file)
    raw = Reconstructor(exported, device="cpu").predict(file)
    usable = expected.status == 0
    assert_array_equal(expected[ENERGY], raw[ENERGY])
    assert not np.isclose(expected[SIGMA], raw[SIGMA])[usable].any()

    left_out = Reconstructor(calibrated, device="cpu", raw=True).predict(file)
    assert_array_equal(left_out[SIGMA], raw[SIGMA])

    hits = open_events(file, num_bins=3).hits.select(np.flatnonzero(usable))
    in_python = predict(load_model(calibrated, device="cpu"), hits)
    assert_allclose(in_python[SIGMA], expected[SIGMA][usable], rtol=1e-6)

    for options, table in (([], expected), (["--raw"], raw)):
        output = tmp_path / f"reco{len(options)}.hdf5"
        result = invoke("apply", calibrated, "-i", file, "-o", output, "--device", "cpu", *options)
        assert result.exit_code == 0, result.err
        column = rows(output, "DeepLearningReco_small")[SIGMA]
        assert_array_equal(column, table[SIGMA])


def test_onnx_runtime_applies_it_too(
    exported: Path, calibrated: Path, trained: SmallRun, tmp_path: Path
) -> None:
    folder = tmp_path / "graphs"
    settings = exported.parent / "settings.yaml"
    command = ["export", trained.config_file, "-s", settings, "-o", folder, "--onnx"]
    assert invoke(*command).exit_code == 0
    assert calibrate(folder, trained).exit_code == 0
    result = invoke("verify", folder, "--device", "cpu")
    assert result.out.count("largest deviation") == 2  # PyTorch and ONNX Runtime
    file = trained.folder / "judged.hdf5"
    found = Reconstructor(folder, backend="onnxruntime").predict(file)
    expected = Reconstructor(calibrated, device="cpu").predict(file)
    assert_allclose(found[SIGMA], expected[SIGMA], rtol=1e-4)
    assert_allclose(found["p_starting"], expected["p_starting"], rtol=1e-4)


def test_predictions_made_with_the_calibration_are_not_kept_for_raw(
    calibrated: Path, trained: SmallRun, tmp_path: Path
) -> None:
    command = ["apply", calibrated, "-i", trained.folder / "judged.hdf5", "-o", tmp_path / "r.hdf5"]
    assert invoke(*command).exit_code == 0
    result = invoke(*command, "--raw")
    assert result.exit_code == 1
    assert "--raw was False, is True" in result.err


def test_folder_is_whole_and_computes_the_same(calibrated: Path) -> None:
    result = invoke("verify", calibrated, "--device", "cpu")
    assert result.exit_code == 0, result.out
    assert "largest deviation" in result.out
    manifest = json.loads((calibrated / "manifest.json").read_text())
    assert "calibration.json" in manifest["files"]
    assert manifest["calibration"]["num_events"] == 300
    card = (calibrated / "README.md").read_text()
    assert "calibrated with 300 events" in card and "not calibrated" not in card


def test_changed_calibration_is_refused(calibrated: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(calibrated, tmp_path / "changed"))
    file = folder / "calibration.json"
    file.write_text(file.read_text().replace('"num_events": 300', '"num_events": 301'))
    result = invoke("verify", folder)
    assert result.exit_code == 1 and "was changed" in result.err


def test_removed_it_is_as_before(calibrated: Path, exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(calibrated, tmp_path / "small"))
    result = invoke("calibrate", folder, "--remove")
    assert result.exit_code == 0, result.err
    for path in exported.rglob("*"):
        if path.is_file() and path.suffix not in (".json", ".safetensors"):
            assert (folder / path.relative_to(exported)).read_bytes() == path.read_bytes()
    before, after = (
        json.loads((each / "manifest.json").read_text()) for each in (exported, folder)
    )
    assert after["files"].keys() == before["files"].keys()
    assert after["calibration"] is None
    assert invoke("verify", folder).exit_code == 0


def test_without_a_calibration_nothing_is_removed(copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    result = invoke("calibrate", copy, "--remove")
    assert (result.exit_code, result.out) == (
        0,
        f"'{copy}' has no calibration: nothing to remove.\n",
    )
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before


def test_files_that_are_not_part_of_the_model_are_kept(
    copy: Path, trained: SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = {"NOTES.md": "mine", "plots/loss.txt": "1, 2", "logs/train/notes.txt": "3"}
    for name, text in mine.items():
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text(text)
    (copy / "empty").mkdir()
    (copy / "plots" / "link").symlink_to("../NOTES.md")
    monkeypatch.chdir(copy)
    for options in ([], ["--remove"]):
        command = ["calibrate", ".", *(options or ["--data", trained.folder / "calibration.hdf5"])]
        assert invoke(*command).exit_code == 0
        assert {name: (copy / name).read_text() for name in mine} == mine
        assert (copy / "empty").is_dir()
        assert (copy / "plots" / "link").readlink() == Path("../NOTES.md")
        assert not {*mine, "plots/link"} & set(
            json.loads((copy / "manifest.json").read_text())["files"]
        )
        assert not (copy / "event_store").exists()
        monkeypatch.chdir(copy)  # the folder is a new one
    assert not (copy / "calibration.json").exists()
    verified = invoke("verify", copy).out
    assert (
        "not part of the model: NOTES.md, logs/train/notes.txt, plots/link, plots/los" in verified
    )


def test_golden_answers_that_the_manifest_does_not_list_are_not_read(
    copy: Path, trained: SmallRun
) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["files"]["golden.safetensors"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    (copy / "golden.safetensors").write_text("of another model")
    assert calibrate(copy, trained).exit_code == 0
    assert (copy / "golden.safetensors").read_text() == "of another model"
    assert "golden.safetensors" not in json.loads((copy / "manifest.json").read_text())["files"]


def test_interrupted_the_model_is_as_before(
    copy: Path, trained: SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    rename = Path.rename

    def interrupted(path: Path, target: Path) -> Path:
        if target == copy and not path.name.endswith(".replaced"):
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    assert calibrate(copy, trained).exit_code == 130
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


@pytest.mark.parametrize("kind", ["", ".dnn_data"], ids=["one set of tables", "several sets"])
def test_files_that_were_made_otherwise(
    copy: Path, trained: SmallRun, tmp_path: Path, kind: str
) -> None:
    other = with_settings(trained, tmp_path / "other.hdf5", kind, pulse_key="OtherPulses")
    same = with_settings(trained, tmp_path / "same.hdf5", kind)
    result = invoke("calibrate", copy, "--data", other)
    assert result.exit_code == 1
    assert "pulse_key is 'Pulses' for the model, 'OtherPulses' in the data" in result.err
    assert "--ignore-mismatch pulse_key" in result.err
    assert not (copy / "calibration.json").exists()
    result = invoke("calibrate", copy, "--data", other, "--ignore-mismatch", "pulse_key")
    assert result.exit_code == 0, result.err
    assert "pulse_key is 'Pulses' for the model, 'OtherPulses' in the data; this di" in result.err
    result = invoke("calibrate", copy, "--data", other, "--ignore-mismatch", "pulse")
    assert (result.exit_code, "the nearest is 'pulse_key'" in result.err) == (1, True)
    result = invoke("calibrate", copy, "--data", same)
    assert (result.exit_code, "this difference is ignored" in result.err) == (0, False)


def test_evaluated_files_are_made_as_those_of_the_training(
    copy: Path, trained: SmallRun, tmp_path: Path
) -> None:
    other = with_settings(trained, tmp_path / "other.hdf5", pulse_key="OtherPulses")
    result = invoke("evaluate", copy, "--test-data", other, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "pulse_key is 'Pulses' for the model, 'OtherPulses' in the data" in result.err
    assert not (tmp_path / "out").exists()


def with_settings(run: SmallRun, path: Path, kind: str = "", **changes: str) -> Path:
    """The events to calibrate with, in a file that records settings of its tables of a kind."""
    import h5py

    shutil.copyfile(run.folder / "calibration.hdf5", path)
    with h5py.File(path, "a") as file:
        file.attrs[f"dnn_reco_data_settings{kind}"] = np.bytes_(
            replace(SETTINGS, **changes).to_json()
        )
    return path


def test_second_calibration_replaces_the_first(calibrated: Path, trained, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(calibrated, tmp_path / "small"))
    assert calibrate(folder, trained).exit_code == 0
    first, second = (
        json.loads((each / "calibration.json").read_text()) for each in (calibrated, folder)
    )
    assert {**first, "record": 0} == {**second, "record": 0}


def test_signature_is_removed_or_renewed(copy: Path, trained: SmallRun, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = tmp_path / "key.pem"
    key.write_bytes(
        Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    signed = calibrate(copy, trained, "--sign", key)
    assert signed.exit_code == 0, signed.err
    assert "valid, of the key" in invoke("verify", copy).out
    again = calibrate(copy, trained)
    assert "sign the model again" in again.err
    assert "Signature:   none" in invoke("verify", copy).out


def test_files_that_were_trained_on_are_refused(copy: Path, trained: SmallRun) -> None:
    result = invoke("calibrate", copy, "--data", next(trained.folder.glob("train*.hdf5")))
    assert result.exit_code == 1
    assert "both in training_data_file and in --data" in result.err
    assert not (copy / "calibration.json").exists()


def test_mistakes(copy: Path, tmp_path: Path) -> None:
    few = write_events(tmp_path / "few.hdf5", random_events(5, 50, num_bins=3, run=5))
    result = invoke("calibrate", copy, "--data", few)
    assert result.exit_code == 1 and "at least 200 events" in result.err
    result = invoke("calibrate", copy, "--data", tmp_path / "none*.hdf5")
    assert result.exit_code == 1 and "no file matches --data" in result.err
    assert invoke("calibrate", copy, "--remove", "--data", few).exit_code == 2
    assert invoke("calibrate", tmp_path / "nowhere").exit_code == 2
    assert not (copy / "calibration.json").exists()
    assert not list(tmp_path.glob(".tmp*"))


def test_folder_of_format_1(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(REPOSITORY / "tests" / "model_folders" / "format_1.zip") as archive:
        archive.extractall(tmp_path)
    folder = next(path.parent for path in tmp_path.rglob("manifest.json"))
    result = invoke("calibrate", folder, "--data", tmp_path / "x.hdf5")
    assert result.exit_code == 1 and "format 1: export or import the model again" in result.err


def test_transformed_arrays_need_raw(calibrated: Path) -> None:
    from dnn_reco import ModelError

    main, deepcore = np.zeros((1, 10, 10, 60, 3), "f4"), np.zeros((1, 8, 60, 3), "f4")
    with pytest.raises(ModelError, match="raw=True"):
        Reconstructor(calibrated, device="cpu").predict_dense(main, deepcore, transformed=True)
    raw = Reconstructor(calibrated, device="cpu", raw=True)
    assert len(raw.predict_dense(main, deepcore, transformed=True)) == 1


def test_inspect_shows_the_calibration(calibrated: Path, exported: Path, tmp_path: Path) -> None:
    shown = invoke("inspect", calibrated).out
    assert re.search(r"Calibration: +with 300 events; coverage of 68.3 %: EnergyVisible 0\.", shown)
    assert re.search(r"Calibration: +none", invoke("inspect", exported).out)
    folder = Path(shutil.copytree(calibrated, tmp_path / "by_hand"))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["calibration"] = {"num_events": "many"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "Calibration:  see --json" in invoke("inspect", folder).out


def test_coverage_by_reconstruction(copy: Path, trained: SmallRun) -> None:
    assert calibrate(copy, trained, "--coverage-by", "reconstruction").exit_code == 0
    record = json.loads((copy / "calibration.json").read_text())["record"]
    assert record["coverage_by"] == "reconstruction"
    assert invoke("verify", copy).exit_code == 0


def test_files_of_the_calibration_cannot_judge_it(calibrated: Path, trained: SmallRun, tmp_path):
    command = ["evaluate", calibrated, "--out", tmp_path / "out", "--device", "cpu"]
    command += [
        "--cache_dir",
        tmp_path / "store",
        "--test-data",
        trained.folder / "calibration.hdf5",
    ]
    result = invoke(*command)
    assert result.exit_code == 1
    assert "'small' was calibrated with" in result.err and "--allow-overlap" in result.err


def test_evaluated_with_and_without_it(calibrated: Path, trained: SmallRun, tmp_path: Path) -> None:
    command = ["evaluate", calibrated, "--out", tmp_path / "out", "--device", "cpu"]
    result = invoke(
        *command, "--cache_dir", tmp_path / "store", "--test-data", trained.folder / "judged.hdf5"
    )
    assert result.exit_code == 0, result.err
    numbers = json.loads((tmp_path / "out" / "metrics.json").read_text())
    coverage = numbers["sections"]["Coverage"]["coverage"]
    shares = [coverage[f"{name}/{ENERGY}"]["68"]["value"] for name in ("small", "small_raw")]
    assert abs(shares[0] - 0.68) < 0.11 < 0.2 < abs(shares[1] - 0.68)
