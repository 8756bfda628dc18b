"""No command writes into the folder of the package."""

from pathlib import Path

import pytest
from click.testing import CliRunner

import dnn_reco
from dnn_reco import ConfigError
from dnn_reco.cli import cli
from dnn_reco.cli.options import output_folder
from dnn_reco.config import load_config

PACKAGE = Path(dnn_reco.__file__).parent


@pytest.fixture(autouse=True)
def in_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder of the tutorial."""
    monkeypatch.chdir(PACKAGE)


@pytest.mark.parametrize(
    "line",
    [
        ["evaluate", "a.yaml", "--out", "evaluation"],
        ["compare", "a.yaml", "--iterations", "1", "--out", str(PACKAGE / "data" / "new")],
        ["simulate", "--events", "5", "--out", "../dnn_reco/events"],
        ["import", "folder", "-o", "model"],
        ["sky", "model", "-i", __file__, "-o", "sky"],
        ["view", "events.hdf5", "--out", "event.png"],
        ["view", "events.hdf5", "--html"],
        ["compare-data", "a", "b", "--out", "comparison"],
        ["calibrate", ".", "--cache-dir", "store"],
        ["train", "a.yaml", "--cache-dir", "store"],
        ["submit", "train", "a.yaml", "--cluster", "slurm", "--out", "jobs"],
    ],
    ids=lambda line: line[0],
)
def test_options_with_a_path_in_the_package(line: list[str]) -> None:
    before = set(PACKAGE.iterdir())
    result = CliRunner().invoke(cli, line)
    assert result.exit_code == 2
    assert "lies in the folder of the package dnn_reco itself" in result.output
    assert set(PACKAGE.iterdir()) == before


def test_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert output_folder("evaluation")() == "../evaluation"
    monkeypatch.chdir(tmp_path)
    assert output_folder("evaluation")() == "evaluation"


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("log_path: logs", "log_path"),
        ("model_checkpoint_path: ./checkpoints/a", "model_checkpoint_path"),
        ("trafo_model_path: model.npy", "trafo_model_path"),
        ("trafo_model_path: ../model.npy", "data_cache_dir"),  # the event store is beside it
        ("data_cache_dir: store", "data_cache_dir"),
    ],
)
def test_paths_of_a_config_in_the_package(tmp_path: Path, line: str, key: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"{line}\n")
    with pytest.raises(ConfigError, match=f"{key} is '.*in the folder of the package"):
        load_config([path]).refuse_output_in_package()
    result = CliRunner().invoke(cli, ["train", str(path)])
    assert isinstance(result.exception, ConfigError)
    checked = CliRunner().invoke(cli, ["config", "check", str(path)])
    assert f"{key} is '" in checked.output


def test_paths_of_the_tutorial_are_beside_the_package(tmp_path: Path) -> None:
    config = PACKAGE.parent / "configs" / "tutorial" / "getting_started.yaml"
    path = tmp_path / "config.yaml"
    path.write_text(config.read_text(encoding="utf-8").replace("{insert_DNN_HOME}", "/home"))
    load_config([path]).refuse_output_in_package()
