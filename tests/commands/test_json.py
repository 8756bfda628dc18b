"""`--json`: one document on standard output, with the facts of the text; all else elsewhere."""

import json
from pathlib import Path
from typing import Any

from workspace import NUM_TRAINING, NUM_VALIDATION, Workspace, invoke


def document(*line: str | Path, code: int = 0) -> dict[str, Any]:
    result = invoke(*line, "--json")
    assert result.exit_code == code, result.err
    read = json.loads(result.out)
    assert isinstance(read, dict)
    return read


def test_count(workspace: Workspace) -> None:
    lists = document("count", workspace.config, "--num-threads", "1")["lists"]
    assert lists["training_data_file"] == {
        "files": len(NUM_TRAINING),
        "events": sum(NUM_TRAINING),
        "pass_filters": None,
    }
    assert lists["test_data_file"]["events"] == NUM_VALIDATION


def test_files_that_cannot_be_counted(workspace: Workspace) -> None:
    broken = workspace.directory / "broken.hdf5"
    broken.write_bytes(b"no events")
    workspace.edit(r"^test_data_file:(.|\n)*?\n(?=\w)", f"test_data_file: {broken}\n")
    found = document("count", workspace.config, code=1)
    assert list(found["not_counted"]) == [str(broken)]
    assert found["lists"]["test_data_file"] == {"files": 1, "events": 0, "pass_filters": None}


def test_config_check(workspace: Workspace) -> None:
    workspace.append("learning_rat: 1")
    found = document("config", "check", workspace.config)
    (stage,) = found["stages"]
    assert found["ok"] and stage["ok"]
    by_level = {each["level"] for each in stage["findings"]}
    assert by_level == {"ok", "info", "warning"}
    assert any("learning_rat" in each["text"] for each in stage["findings"])
    workspace.set("optimizer", "Adamm")
    found = document("config", "check", workspace.config, code=1)
    assert not found["ok"]
    assert [e for e in found["stages"][0]["findings"] if e["level"] == "problem"]


def test_keys_without_effect_are_reported_by_the_check_alone(workspace: Workspace) -> None:
    assert "without effect" not in workspace.run("count").err
    assert "without effect" in workspace.run("config check").out
    workspace.edit(r"(optimizer_settings: \{)", r"\1'jit_compile': True, ")
    assert "optimizer_settings: accepted, without effect: jit_compile" in (
        workspace.run("config check").out
    )


def test_frames(tmp_path: Path) -> None:
    line = ["--events", "3", "--format", "i3", "--files", "1", "-j", "1", "--quiet"]
    made = invoke("simulate", *line, "--out", tmp_path)
    assert (made.exit_code, made.out, made.err) == (0, "", "")
    (file,) = tmp_path.glob("**/*.i3.zst")
    (found,) = document("i3", "ls", file)["files"]
    assert found["file"] == str(file)
    assert [each["stop"] for each in found["frames"]].count("P") == 3
    (found,) = document("i3", "ls", file, "--keys")["files"]
    keys = {each["key"]: each for each in found["keys"]}
    assert keys["I3EventHeader"]["frames"]["P"] == 3
    (found,) = document("i3", "ls", file, "--frame", "0")["files"]
    assert all(each["bytes"] > 0 for each in found["objects"])
    broken = tmp_path / "broken.i3"
    broken.write_bytes(file.read_bytes()[:50])
    result = invoke("i3", "ls", file, broken, "--json")
    assert result.exit_code == 1
    good, bad = json.loads(result.out)["files"]
    assert "error" not in good
    assert bad["error"] in result.err
