"""Files and folders that are written whole or not at all."""

import subprocess
import sys
from pathlib import Path

import pytest

from dnn_reco.errors import DataError
from dnn_reco.files import keep_others, replace_folder, write_atomically, writing

# Writes files with a limit on their size, which fails as a full disk does.
ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from dnn_reco.data.file_events import EVENT_ID
from dnn_reco.data.hdf5 import write_event_file
from dnn_reco.files import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
ids = np.zeros(500, EVENT_ID)
ids["Event"] = np.arange(500)
folder = Path(sys.argv[1])
for path, write in (
    (folder / "a.bin", lambda path: write_atomically(path, bytes(10_000))),
    (folder / "a.hdf5", lambda path: write_event_file(path, ids, {"Table": {"x": np.ones(500)}})),
):
    try:
        write(path)
    except OSError as error:
        print(error)
"""


def test_a_full_disk_leaves_no_files_and_does_not_crash(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    line = [sys.executable, "-c", ON_A_FULL_DISK, str(folder)]
    result = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"[Errno 27] File too large: '{folder / name}'" for name in ("a.bin", "a.hdf5")
    ]
    assert list(folder.iterdir()) == []


def test_a_failure_to_write_is_an_error_of_the_user(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    message = r"the map cannot be written to '.*below' \(.*\): take another folder$"
    with (
        pytest.raises(DataError, match=message),
        writing("the map", file / "below", "take another folder"),
    ):
        write_atomically(file / "below", b"content")
    assert file.read_bytes() == b""


def test_folders_are_replaced(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    new.mkdir()
    (new / "content").write_text("first")
    replace_folder(old, new)
    new.mkdir()
    (new / "content").write_text("second")
    replace_folder(old, new)
    assert (old / "content").read_text() == "second"
    assert not new.exists()


def test_a_folder_comes_back_if_it_cannot_be_replaced(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "content").write_text("first")
    with pytest.raises(FileNotFoundError):
        replace_folder(old, tmp_path / "nothing")
    assert (old / "content").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_what_a_new_folder_takes_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for name in ("a", "b", "1/x", "2/x", "2/a"):
        (old / name).parent.mkdir(parents=True, exist_ok=True)
        (old / name).write_text("old")
    new.mkdir()
    (new / "a").write_text("new")
    if not links:

        def refused(source: str, target: str) -> None:
            raise PermissionError("no links here")

        monkeypatch.setattr("os.link", refused)
    keep_others(old, new, {"a", "1"})
    found = {str(f.relative_to(new)): f.read_text() for f in new.rglob("*") if f.is_file()}
    assert found == {"a": "new", "b": "old", "2/x": "old", "2/a": "old"}
    assert ((new / "b").stat().st_ino == (old / "b").stat().st_ino) is links
