"""Data and workspaces for the tests of the commands."""

import shutil
from pathlib import Path

import pytest
from event_files import random_events, write_events
from workspace import NUM_TRAINING, NUM_VALIDATION, Workspace, complete

from dnn_reco.data.simulated_files import tutorial_path


@pytest.fixture(scope="module", autouse=True)
def without_drawing(blank_figures: object) -> None:
    """`test_evaluate` draws figures; the other tests need none."""


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Event files of the tutorial: three for training, one each for validation and tests."""
    folder = tmp_path_factory.mktemp("training_data")
    for number, size in {
        **dict(enumerate(NUM_TRAINING)),
        1000: NUM_VALIDATION,
        1005: NUM_VALIDATION,
    }.items():
        path = tutorial_path(folder, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_events(path, complete(random_events(number, size, run=number)))
    return folder


@pytest.fixture
def workspace(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A fresh workspace, which is the working directory."""
    workspace = Workspace(tmp_path / "home", data)
    workspace.create()
    monkeypatch.chdir(workspace.directory)
    return workspace


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A workspace in which one iteration was trained; to be copied."""
    workspace = Workspace(tmp_path_factory.mktemp("trained") / "home", data)
    workspace.create()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(workspace.directory)
        for command in ("trafo", "train"):
            result = workspace.run(command)
            assert result.exit_code == 0, result.err
    return workspace.folder


@pytest.fixture
def trained(
    trained_folder: Path, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> Workspace:
    """A workspace of its own in which one iteration was trained."""
    shutil.copytree(trained_folder, tmp_path / "trained")
    workspace = Workspace(tmp_path / "trained", data)
    monkeypatch.chdir(workspace.directory)
    return workspace
