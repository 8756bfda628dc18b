"""Model folders: whole or not there, checked on loading."""

import hashlib
import json
import os
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_reference_model import (
    LABELS,
    SmallReferenceModel,
    make_small_reference_model,
    some_hits,
)

from dnn_reco.errors import ModelError
from dnn_reco.inference.model_folder import (
    Member,
    contents_of,
    load_model_folder,
    write_model_folder,
)
from dnn_reco.tf_import.importer import ImportedModel, import_reference

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> SmallReferenceModel:
    return make_small_reference_model(tmp_path_factory.mktemp("reference") / "exported")


@pytest.fixture(scope="module")
def imported(reference: SmallReferenceModel) -> ImportedModel:
    return import_reference(reference.folder)


@pytest.fixture
def folder(imported: ImportedModel, tmp_path: Path) -> Path:
    write(imported, tmp_path / "models" / "small")
    return tmp_path / "models" / "small"


def write(imported: ImportedModel, path: Path, overwrite: bool = False) -> None:
    member = Member(imported.weights, imported.transformation, imported.config)
    files = {record.name: record for record in imported.records}
    write_model_folder(path, contents_of([member], "a test", files), overwrite)


def test_what_is_loaded(folder: Path, reference: SmallReferenceModel) -> None:
    model = load_model_folder(folder, CPU)
    assert model.name == "small"
    assert model.label_names == LABELS
    assert model.misc_names == ("table_m",)
    assert model.config.model.model_kwargs["legacy_direction_norm"] is True
    assert model.spec.label_keys.pid == ("p_track",)
    assert model.spec.dom_init_values.tolist() == [0.5, 0.5, 0.5]
    with torch.no_grad():
        found, again = model.network(some_hits()), model.network(some_hits())
    assert torch.equal(found.labels, again.labels), "dropout is on"
    assert torch.equal(found.labels, reference.predict().labels)
    trafo = model.label_transform(found.labels)
    assert torch.allclose(trafo, found.labels_trafo, rtol=1e-4, atol=1e-4)


def test_what_is_in_the_folder(folder: Path, reference: SmallReferenceModel) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["origin"] == "a test"
    assert [label["name"] for label in manifest["model"]["labels"]] == list(LABELS)
    assert manifest["format"] == "dnn_reco model 2"
    present = {file.name for file in folder.iterdir()} - {"manifest.json"}
    assert set(manifest["files"]) == present
    # the names by which other versions find them
    assert present == {
        *("config.yaml", "trafo_model.safetensors", "weights.safetensors"),
        *("config_training_0000.yaml", "training_steps.yaml"),
    }
    for name in ("config_training_0000.yaml", "training_steps.yaml"):
        assert (folder / name).read_bytes() == (reference.folder / name).read_bytes()
    assert re.search(r"^dnn_reco_version: \S", (folder / "config.yaml").read_text(), re.MULTILINE)
    assert [path.name for path in folder.parent.iterdir()] == ["small"], "something is left over"
    for file in folder.iterdir():
        assert file.stat().st_mode & 0o777 == (folder / "config.yaml").stat().st_mode & 0o777


def test_the_page_names_the_keys_of_the_manifest(folder: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "model_folder.md"
    table = page.read_text().split("## The manifest")[1].split("\n## ")[0]
    first_cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    keys = {key.partition(".")[0] for cell in first_cells for key in re.findall("`(.*?)`", cell)}
    assert keys == set(json.loads((folder / "manifest.json").read_text()))


def test_a_moved_folder_is_the_same(folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / "moved")
    assert load_model_folder(tmp_path / "moved", CPU).label_names == LABELS


@pytest.mark.parametrize("name", ["weights.safetensors", "config.yaml", "training_steps.yaml"])
def test_changed_and_missing_files(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=re.escape(f"'{folder / name}' was changed")):
        load_model_folder(folder, CPU)
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"incomplete: '{name}' is missing"):
        load_model_folder(folder, CPU)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "dnn_reco model 99"}, "but 'dnn_reco model 99'"),
        ({"files": {}}, "it does not list 'weights.safetensors'"),
        ({"files": {"../x": "0"}}, "it lists '../x'"),
        ({"members": ["../other"]}, "it lists '../other'"),
        ({"members": []}, "it lists no network"),
        ({"model": {"name": "x"}}, "model.labels: Field required"),
        ({"files": {"/etc/passwd": "0"}}, "it lists '/etc/passwd'"),
        ({"files": 5}, "is damaged"),
    ],
)
def test_damaged_manifest(folder: Path, change: dict[str, object], message: str) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError, match=re.escape(message)):
        load_model_folder(folder, CPU)
    path.write_text("{")
    with pytest.raises(ModelError, match="is damaged"):
        load_model_folder(folder, CPU)
    path.unlink()
    with pytest.raises(ModelError, match="is not a model folder"):
        load_model_folder(folder, CPU)


def test_a_manifest_of_many_brackets(folder: Path) -> None:
    (folder / "manifest.json").write_text("[" * 200_000)
    with pytest.raises(ModelError, match=r"manifest.json' is damaged: .*nested too deeply"):
        load_model_folder(folder, CPU)


@pytest.mark.parametrize(
    "name", ["manifest.json", "weights.safetensors", "config.yaml", "training_steps.yaml"]
)
def test_only_regular_files_of_the_folder_are_read(folder: Path, name: str) -> None:
    path = folder / name
    elsewhere = folder.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(
        ModelError, match=f"{name}' is a link to '.*elsewhere', outside of '.*small'"
    ):
        load_model_folder(folder, CPU)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ModelError, match=f"{name}' is not a regular file"):
        load_model_folder(folder, CPU)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(ModelError, match=f"{name}' has 1,000,000,000,000 bytes"):
        load_model_folder(folder, CPU)


def test_links_inside_the_folder_are_followed(folder: Path) -> None:
    path = folder / "weights.safetensors"
    path.rename(folder / "stored")
    path.symlink_to("stored")
    assert load_model_folder(folder, CPU).label_names == LABELS


def test_weights_of_another_network(imported: ImportedModel, tmp_path: Path) -> None:
    weights = {**imported.weights, "fc.0.bias": torch.zeros(3)}
    write(imported, tmp_path / "model")
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    path = tmp_path / "model" / "weights.safetensors"
    save_file(weights, path)
    manifest["files"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "model" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=r"do not belong to the network(.|\n)*fc.0.bias"):
        load_model_folder(tmp_path / "model", CPU)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("model_class", "json.loads"),
        ("model_class", "dnn_reco.modules.models.dom_transformer.math.sqrt"),
        ("model_class", "dnn_reco.files.write_atomically"),
        ("data_handler_label_class", "not_installed.labels.loader"),
    ],
)
def test_code_of_others_is_not_run(folder: Path, key: str, name: str) -> None:
    config, manifest = folder / "config.yaml", folder / "manifest.json"
    text, count = re.subn(rf"(?m)^{key}: .*", f"{key}: {name}", config.read_text())
    assert count == 1
    config.write_text(text)
    described = json.loads(manifest.read_text())
    described["files"]["config.yaml"] = hashlib.sha256(config.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(described))
    with pytest.raises(ModelError, match=rf"'{re.escape(name)}' \({key}\)") as refused:
        load_model_folder(folder, CPU)
    package = name.partition(".")[0]
    assert str(refused.value).endswith(f"--allow-code {package}")
    if key == "data_handler_label_class":  # loading does not need it
        assert load_model_folder(folder, CPU, trusted=[package]).label_names == LABELS


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model folder"):
        load_model_folder(tmp_path / "nowhere", CPU)


def test_a_model_is_replaced_only_when_asked(imported: ImportedModel, folder: Path) -> None:
    weights = folder / "weights.safetensors"
    before = weights.read_bytes()
    save_file({**load_file(weights), "fc.0.bias": torch.zeros(8)}, weights)
    with pytest.raises(ModelError, match="--overwrite"):
        write(imported, folder)
    assert weights.read_bytes() != before
    write(imported, folder, overwrite=True)
    assert weights.read_bytes() == before
    load_model_folder(folder, CPU)
    assert [path.name for path in folder.parent.iterdir()] == ["small"], "something is left over"


def test_nothing_else_is_ever_replaced(imported: ImportedModel, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write(imported, tmp_path / "data")  # an empty folder is as good as none
    (tmp_path / "data" / "manifest.json").unlink()
    with pytest.raises(ModelError, match="not a model folder, so it is never replaced"):
        write(imported, tmp_path / "data", overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="not a model folder, so it is never replaced"):
        write(imported, tmp_path / "file", overwrite=True)


@pytest.mark.parametrize("name", ["NOTES.md", "logs/plots/loss.png", "link"])
def test_files_of_others_are_never_deleted(
    imported: ImportedModel, folder: Path, name: str
) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    if name == "link":
        (folder / name).symlink_to(folder.parent)
    else:
        (folder / name).write_text("mine")
    before = sorted(folder.rglob("*"))
    message = f"holds files that are not part of the model: '{name}'. --overwrite would delete them"
    with pytest.raises(ModelError, match=re.escape(message)):
        write(imported, folder, overwrite=True)
    assert sorted(folder.rglob("*")) == before


def test_what_belongs_to_a_model_does_not_keep_it_from_being_replaced(
    imported: ImportedModel, folder: Path
) -> None:
    (folder / "signature.json").write_text("{}")
    (folder / ".tmp-signature.json-abc").mkdir()  # of a call that was killed while it signed
    (folder / ".tmp-signature.json-abc" / "signature.json").touch()
    write(imported, folder, overwrite=True)
    assert not (folder / "signature.json").exists()
    load_model_folder(folder, CPU)


@pytest.mark.parametrize("text", ["{}", "[1]", '{"name": "a web page", "icons": []}', "text"])
def test_a_manifest_of_something_else_makes_no_model_folder(
    imported: ImportedModel, tmp_path: Path, text: str
) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "manifest.json").write_text(text)
    for overwrite in (False, True):
        with pytest.raises(ModelError, match="cannot be read as a model folder, so it is never"):
            write(imported, tmp_path / "page", overwrite)
    assert (tmp_path / "page" / "manifest.json").read_text() == text


def test_a_failed_write_leaves_nothing(
    imported: ImportedModel, folder: Path, tmp_path: Path
) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    member = Member(imported.weights, imported.transformation, imported.config)
    contents = contents_of([member], "a test", {"missing": tmp_path / "missing"})
    with pytest.raises(FileNotFoundError):
        write_model_folder(folder, contents, overwrite=True)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["small"]
