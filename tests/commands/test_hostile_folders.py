"""Model folders of somebody with bad intentions: refused with one message, whatever they hold."""

import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML
from small_run import SmallRun
from workspace import invoke

from dnn_reco.errors import DnnRecoError, ModelError
from dnn_reco.files import file_digest
from dnn_reco.inference.model_folder import load_model_folder

CPU = torch.device("cpu")
SETTINGS = {"num_bins": 3, "relative_time_method": "time_range"} | {
    "data_format": "reduced_summary_statistics_data"
}


@pytest.fixture(scope="module")
def exported(trained_run: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    settings = folder / "settings.yaml"
    settings.write_text(json.dumps(SETTINGS))
    options = ("-s", settings, "-o", folder / "small", "--no-logs")
    assert invoke("export", trained_run.config_file, *options).exit_code == 0
    return folder / "small"


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    shutil.copytree(exported, tmp_path / "small")
    return tmp_path / "small"


def reseal(folder: Path) -> None:
    """Write the checksums of the files as they are now."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = {name: file_digest(folder / name) for name in manifest["files"]}
    path.write_text(json.dumps(manifest))


def change_config(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    yaml = YAML(typ="safe", pure=True)
    path = folder / "config.yaml"
    config = yaml.load(path.read_text())
    change(config)
    with path.open("w") as file:
        yaml.dump(config, file)
    reseal(folder)


def refused(folder: Path, message: str) -> None:
    with pytest.raises(DnnRecoError, match=message):
        load_model_folder(folder, CPU)
    for command in ("verify", "inspect"):
        result = invoke(command, folder)
        assert result.exit_code in (0, 1)
        assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model_kwargs"]["fc_settings"].update(fc_sizes=[10**9, -1]), "shape"),
        (
            lambda c: c["model_kwargs"]["conv_ic78_settings"].update(num_filters_list=[10**7, 2]),
            "shape|cannot be built",
        ),
        (lambda c: c.update(DOM_init_values=[1.0, 2.0]), "DOM_init_values"),
        (lambda c: c.update(float_precision="float16"), "float_precision"),
        (lambda c: c.update(model_class="os.system"), "names code that is not part of dnn_reco"),
        (lambda c: c.update(data_handler_misc_class="subprocess.run"), "names code"),
        (
            lambda c: c.update(model_class="os.system", data_handler_label_class="shutil.move"),
            r"'os\.system' \(model_class\), 'shutil\.move' \(data_handler_label_class\)\. Such .* "
            "with --allow-code os --allow-code shutil$",
        ),
        (lambda c: c.update(label_dir_x_key="nonsense"), "nonsense"),
    ],
)
def test_configs(folder: Path, change: Callable[[dict[str, object]], object], message: str) -> None:
    change_config(folder, change)
    refused(folder, message)


def test_pickles(folder: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(folder / "exploded"),)

    for name in ("weights.safetensors", "trafo_model.safetensors", "golden.safetensors"):
        torch.save(Bomb(), folder / name)
        reseal(folder)
        result = invoke("verify", folder)
        assert result.exit_code == 1
        assert result.err.startswith("Error: ")
    assert not (folder / "exploded").exists()


def test_tags_of_yaml_are_never_executed(folder: Path) -> None:
    bomb = f"!!python/object/apply:os.mkdir ['{folder / 'exploded'}']"
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("unique_name: small", f"unique_name: {bomb}"))
    reseal(folder)
    refused(folder, "unique_name|tag")
    assert not (folder / "exploded").exists()


@pytest.mark.parametrize("name", ["weights.safetensors", "golden.safetensors"])
def test_headers_that_promise_terabytes(folder: Path, name: str) -> None:
    header = json.dumps(
        {"x": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}
    ).encode()
    (folder / name).write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    reseal(folder)
    result = invoke("verify", folder)
    assert result.exit_code == 1
    assert re.match(r"Error: .*safetensors", result.err)


def test_links_and_paths_that_lead_out(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.yaml"
    secret.write_text("password: 1")
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(secret)
    with pytest.raises(ModelError, match="is a link to"):
        load_model_folder(folder, CPU)
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("../secret.yaml", "/etc/passwd", "a/../../secret.yaml"):
        changed = {**manifest, "files": {**manifest["files"], name: "0"}}
        (folder / "manifest.json").write_text(json.dumps(changed))
        refused(folder, re.escape(f"it lists '{name}'"))


def test_random_damage(exported: Path, tmp_path: Path) -> None:
    """Files with random changes and right checksums: loaded, or refused by one message."""
    rng = random.Random(3)
    for number in range(40):
        folder = tmp_path / str(number)
        shutil.copytree(exported, folder)
        name = rng.choice(["config.yaml", "manifest.json", "weights.safetensors"])
        content = bytearray((folder / name).read_bytes())
        for _ in range(rng.choice([1, 3, 20])):
            at = rng.randrange(min(len(content), 4000))
            if rng.random() < 0.5:
                content[at] ^= 1 << rng.randrange(8)
            else:
                content[at : at + rng.randrange(9)] = rng.choice([b"", b"9", b"[", b": ", b"\n- "])
        (folder / name).write_bytes(content)
        if name != "manifest.json":
            reseal(folder)
        try:
            load_model_folder(folder, CPU)
        except DnnRecoError as error:
            assert str(error)
        shutil.rmtree(folder)
