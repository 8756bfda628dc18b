"""Files of others: what is read of them, and what is refused."""

import os
import re
from pathlib import Path

import pytest

from dnn_reco.errors import ModelError
from dnn_reco.foreign_files import check_foreign_file, parse_json


def test_the_largest_size_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"x" * 1200)
    check_foreign_file(path, 1200)
    check_foreign_file(path, 1200, tmp_path)
    message = f"'{path}' has 1,200 bytes, but such a file has at most 1,199"
    with pytest.raises(ModelError, match=re.escape(message)):
        check_foreign_file(path, 1199)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'.*absent' is missing"):
        check_foreign_file(tmp_path / "absent", 10)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dangling").symlink_to("absent")
    for path in (tmp_path, tmp_path / "fifo", tmp_path / "dangling"):
        with pytest.raises(ModelError, match=f"'{path}' is not a regular file"):
            check_foreign_file(path, 10)


def test_links_lead_nowhere_else(tmp_path: Path) -> None:
    folder, other = tmp_path / "model", tmp_path / "other"
    folder.mkdir()
    (folder / "real").touch()
    other.touch()
    for name, target in (("inside", "real"), ("outside", "../other")):
        (folder / name).symlink_to(target)
    check_foreign_file(folder / "inside", 10, folder)
    check_foreign_file(folder / "outside", 10)  # the user named it
    with pytest.raises(ModelError, match=f"is a link to '{other}', outside of '{folder}'"):
        check_foreign_file(folder / "outside", 10, folder)


def test_json() -> None:
    assert parse_json('{"a": [1, null]}') == {"a": [1, None]}
    assert parse_json(b"2") == 2
    with pytest.raises(ValueError, match="its brackets are nested too deeply"):
        parse_json("[" * 200_000)
    with pytest.raises(ValueError, match="Expecting"):
        parse_json("{")
