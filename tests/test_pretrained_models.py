"""`pretrained:NAME`: models that are part of the package, or of a folder that a variable names."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from applied_models import contents, model_of_run
from click.testing import CliRunner
from event_files import random_events, write_events
from small_run import SmallRun

from dnn_reco import Reconstructor, load_model, pretrained_models
from dnn_reco.cli import cli
from dnn_reco.data.data_settings import DataSettings
from dnn_reco.errors import ConfigError, ModelError
from dnn_reco.files import is_in_package
from dnn_reco.inference.manifest import check_files, read_manifest, unlisted_files
from dnn_reco.pretrained_models import FOLDER_VARIABLE, model_folder

MOST_BYTES = 2_000_000
SETTINGS = DataSettings(3, "time_range", "reduced_summary_statistics_data", pulse_key="Pulses")
ABOUT = "Reconstructs *made-up*\nevents. Trained on 120.\n\n## Limits\n\n- Uncertainties are big.\n"


@pytest.fixture(scope="module")
def folder(trained_run: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model `tiny`."""
    folder = tmp_path_factory.mktemp("models")
    model_of_run(trained_run, folder / "tiny", data_settings=SETTINGS)
    (folder / "no_model").mkdir()
    return folder


@pytest.fixture
def named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the model `pretrained:tiny`; the package has no models."""
    monkeypatch.setattr(pretrained_models, "_SHIPPED", folder / "no_model")
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    return folder / "tiny"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An event file that the model has not seen."""
    return write_events(tmp_path / "events.hdf5", random_events(9, 30, num_bins=3, run=9))


def run(*arguments: str | Path) -> tuple[int, str]:
    """Exit code and output of a command; errors of the package are raised."""
    result = CliRunner().invoke(cli, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


# --------------------------------------------------------------------------------------------------
# Names
# --------------------------------------------------------------------------------------------------
def test_a_name_is_the_folder_and_a_path_stays_itself(named: Path) -> None:
    assert model_folder("pretrained:tiny") == named
    assert model_folder(Path("pretrained:tiny")) == named
    assert model_folder("models/tiny") == Path("models/tiny")


@pytest.mark.parametrize("name", ["tinny", "no_model", "../tiny", "", "x/../tiny"])
def test_unknown_names_list_the_known_ones(named: Path, name: str) -> None:
    with pytest.raises(ModelError, match=r"no model 'pretrained:.* There are: pretrained:tiny$"):
        model_folder(f"pretrained:{name}")


def test_a_misspelt_name_gets_a_suggestion(named: Path) -> None:
    with pytest.raises(ModelError, match=r"'pretrained:tinny'\. Did you mean 'tiny'\?"):
        model_folder("pretrained:tinny")


def test_without_any_model_the_message_is_one_line(
    named: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE)
    with pytest.raises(ModelError, match="ships no trained models") as error:
        model_folder("pretrained:tiny")
    assert "\n" not in str(error.value)
    code, output = run("models")
    assert code == 0
    assert output.startswith("This version of dnn_reco ships no trained models.")
    assert output.count("\n") == 1


def test_a_variable_that_names_no_folder(named: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(named / "gone"))
    with pytest.raises(
        ConfigError, match=f"no folder '{named / 'gone'}', which .* {FOLDER_VARIABLE} "
    ):
        model_folder("pretrained:tiny")
    assert model_folder(named) == named


def test_a_name_that_exists_twice_is_refused(
    named: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained_models, "_SHIPPED", folder)
    with pytest.raises(ConfigError, match="'pretrained:tiny' is both part of dnn_reco and in"):
        model_folder("pretrained:tiny")
    monkeypatch.delenv(FOLDER_VARIABLE)
    assert model_folder("pretrained:tiny") == named


# --------------------------------------------------------------------------------------------------
# Commands
# --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "arguments",
    [
        ("apply", "{model}", "--input", "{file}", "--out", "{out}"),
        ("sky", "{model}", "--input", "{file}", "--out", "{out}"),
        ("view", "{file}", "--model", "{model}", "--out", "{out}.png"),
        ("serve", "{model}"),
        ("evaluate", "{model}"),
        ("inspect", "{model}"),
        ("verify", "{model}"),
    ],
)
def test_every_command_looks_for_the_name(
    named: Path, file: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    filled = [
        each.format(model="pretrained:tinny", file=file, out=tmp_path / "out") for each in arguments
    ]
    with pytest.raises(ModelError, match=r"Did you mean 'tiny'\?"):
        run(*filled)


def test_apply_writes_the_same_as_with_the_path(named: Path, file: Path, tmp_path: Path) -> None:
    for model, out in (("pretrained:tiny", "by_name"), (str(named), "by_path")):
        options = ("--ignore-mismatch", "pulse_key", "--device", "cpu", "-j", "1")
        assert run("apply", model, "-i", file, "-o", tmp_path / out / "x.hdf5", *options)[0] == 0
    by_name, by_path = (contents(tmp_path / kind) for kind in ("by_name", "by_path"))
    with h5py.File(tmp_path / "by_name" / "x.hdf5") as written:
        assert len(written["DeepLearningReco_tiny"]) == 30
    assert by_name == by_path


def test_python_takes_the_name(named: Path, file: Path) -> None:
    by_name = Reconstructor("pretrained:tiny", "cpu", 1).predict(str(file))
    by_path = Reconstructor(named, "cpu", 1).predict(str(file))
    assert len(by_name["EnergyVisible"]) == 30
    np.testing.assert_array_equal(by_name["EnergyVisible"], by_path["EnergyVisible"])
    assert load_model("pretrained:tiny", "cpu").name == "tiny"


def test_verify_and_inspect_read_the_model(named: Path) -> None:
    code, output = run("inspect", "pretrained:tiny")
    assert (code, output) == run("inspect", named)
    assert "Model:        tiny" in output
    code, output = run("verify", "pretrained:tiny", "--device", "cpu")
    assert code == 0
    assert "unchanged" in output


def test_evaluate_reconstructs_with_it(
    named: Path, file: Path, tmp_path: Path, blank_figures: object
) -> None:
    out = tmp_path / "report"
    code, _ = run(
        "evaluate",
        "pretrained:tiny",
        "--test-data",
        file,
        "--out",
        out,
        "--device",
        "cpu",
        "--num-threads",
        "1",
        "--cache-dir",
        tmp_path / "store",
    )
    assert code == 0
    with h5py.File(out / "predictions.hdf5") as predictions:
        assert any("tiny" in name for name in predictions)


def test_calibrate_changes_no_model_of_the_package(named: Path) -> None:
    before = {path: path.read_bytes() for path in named.rglob("*") if path.is_file()}
    code, output = run("calibrate", "pretrained:tiny")
    assert code == 2
    assert "copy its folder" in " ".join(output.split())
    assert before == {path: path.read_bytes() for path in named.rglob("*") if path.is_file()}
    code, output = run("calibrate", Path(pretrained_models.__file__).parent / "pretrained")
    assert code == 2
    assert "belongs to the package" in " ".join(output.split())


# --------------------------------------------------------------------------------------------------
# Lists and cards
# --------------------------------------------------------------------------------------------------
@pytest.fixture
def about(tmp_path: Path) -> Path:
    path = tmp_path / "about.md"
    path.write_text(ABOUT)
    return path


def export(trained_run: SmallRun, about: Path, out: Path) -> tuple[int, str]:
    """Export the trained run with a text for its card."""
    settings = about.with_name("settings.yaml")
    settings.write_text(json.dumps(SETTINGS.to_dict()))
    return run(
        "export",
        trained_run.config_file,
        "-o",
        out,
        "-s",
        settings,
        "--about",
        about,
        "--no-logs",
        "--num-threads",
        "1",
    )


def test_models_shows_the_first_sentence_of_each_card(
    trained_run: SmallRun, about: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: Path
) -> None:
    folder = tmp_path / "models"
    assert export(trained_run, about, folder / "dom_transformer_S")[0] == 0
    shutil.copytree(named, folder / "tiny")
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    code, output = run("models")
    assert code == 0
    assert output.splitlines() == [
        "pretrained:dom_transformer_S  Reconstructs made-up events.",
        "pretrained:tiny",
    ]
    listed = json.loads(run("models", "--json")[1])["models"]
    assert listed[0] == {
        "name": "pretrained:dom_transformer_S",
        "folder": str(folder / "dom_transformer_S"),
        "summary": "Reconstructs made-up events.",
    }


def test_the_card_begins_with_the_text_which_stays_when_it_is_calibrated(
    trained_run: SmallRun, about: Path, tmp_path: Path
) -> None:
    from dnn_reco.inference.model_card import calibrated_card, uncalibrated_card

    assert export(trained_run, about, tmp_path / "cards" / "model")[0] == 0
    card = (tmp_path / "cards" / "model" / "README.md").read_text()
    assert card.startswith(f"# model\n\n{ABOUT.strip()}\n\nA network that reconstructs")
    assert "Not evaluated yet" not in card
    calibrated = calibrated_card(card, 500)
    assert ABOUT.strip() in calibrated
    assert "- Uncertainties are calibrated with 500 events" in calibrated
    assert uncalibrated_card(calibrated) == card


@pytest.mark.parametrize(("content", "message"), [(b" \n", "is empty"), (b"\xff", "in UTF-8")])
def test_a_text_that_is_none_is_refused(
    trained_run: SmallRun, about: Path, tmp_path: Path, content: bytes, message: str
) -> None:
    about.write_bytes(content)
    with pytest.raises(Exception, match=message):
        export(trained_run, about, tmp_path / "model")
    assert not (tmp_path / "model").exists()


# --------------------------------------------------------------------------------------------------
# What is shipped
# --------------------------------------------------------------------------------------------------
def faults(folder: Path) -> Iterator[str]:
    """Why a model folder should not be part of the package."""
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    files = [path for path in folder.rglob("*") if path.is_file()]
    if sum(path.stat().st_size for path in files) > MOST_BYTES:
        yield "too large"
    if manifest.onnx or any(path.suffix == ".onnx" for path in files):
        yield "has graphs"
    if unlisted_files(folder, manifest):
        yield "has files that the manifest does not list"
    if "golden.safetensors" not in manifest.files:
        yield "has no golden predictions"
    card = folder / "README.md"
    text = card.read_text() if card.is_file() else ""
    if "replace training on an experiment's own simulation" not in " ".join(text.split()):
        yield "the card does not tell what the model is not for"


def test_models_of_the_package_are_fit_for_it() -> None:
    shipped = pretrained_models._models_in(pretrained_models._SHIPPED)
    assert is_in_package(pretrained_models._SHIPPED)
    assert (pretrained_models._SHIPPED / "README.md").is_file()
    for name, folder in shipped.items():
        assert (name, list(faults(folder))) == (name, [])


def test_faults_of_a_model_are_found(
    trained_run: SmallRun, about: Path, tmp_path: Path, named: Path
) -> None:
    text = "Does not replace training on\nan experiment's own simulation."
    about.write_text(text)
    folder = tmp_path / "models" / "good"
    assert export(trained_run, about, folder)[0] == 0
    assert list(faults(folder)) == []
    (folder / "more.bin").write_bytes(bytes(MOST_BYTES))
    assert list(faults(folder)) == ["too large", "has files that the manifest does not list"]
    assert list(faults(named)) == [
        "has no golden predictions",
        "the card does not tell what the model is not for",
    ]
