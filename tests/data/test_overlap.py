"""Files that are both trained on and held out."""

import json
from pathlib import Path

import pytest

from dnn_reco import ConfigError, DataError
from dnn_reco.config import load_config, load_stages
from dnn_reco.data.overlap import files_seen, overlap_text, refuse_overlap_of_lists, same_files
from dnn_reco.data.simulated_files import RECORD, flat_path, tutorial_path

MEGABYTE = 1_000_000


def write(path: Path, *changed: int, size: int = 3 * MEGABYTE) -> Path:
    """A file with zeros, but ones at the given positions."""
    content = bytearray(size)
    for position in changed:
        content[position] = 1
    path.write_bytes(content)
    return path


def test_the_same_path_by_any_name(tmp_path: Path) -> None:
    file = write(tmp_path / "a", size=10)
    link = tmp_path / "link"
    link.symlink_to(file)
    assert same_files([file], [link]) == {link: file}
    assert same_files([file], [tmp_path / "." / "a"]) == {file: file}


@pytest.mark.parametrize(
    ("position", "same"),
    [
        (0, False),
        (MEGABYTE - 1, False),
        (MEGABYTE, True),
        (2 * MEGABYTE - 1, True),
        (2 * MEGABYTE, False),
        (3 * MEGABYTE - 1, False),
    ],
)
def test_content_of_first_and_last_megabyte(tmp_path: Path, position: int, same: bool) -> None:
    first, second = write(tmp_path / "a"), write(tmp_path / "b", position)
    assert same_files([first], [second]) == ({second: first} if same else {})


def test_files_of_other_sizes_empty_ones_and_dangling_links(tmp_path: Path) -> None:
    first = [write(tmp_path / "a", size=10), write(tmp_path / "b", size=0)]
    dangling = tmp_path / "link"
    dangling.symlink_to(tmp_path / "nowhere")
    second = [write(tmp_path / "c", size=11), write(tmp_path / "d", size=0), dangling]
    assert same_files(first, second) == {}


@pytest.mark.parametrize("key", ["validation_data_file", "test_data_file"])
def test_lists_of_a_config(tmp_path: Path, key: str, caplog: pytest.LogCaptureFixture) -> None:
    first = write(tmp_path / "a.hdf5", 3, size=10)
    copy = write(tmp_path / "b.hdf5", 3, size=10)
    path = tmp_path / "config.yaml"
    path.write_text(f"training_data_file: ['{first}']\n{key}: ['{copy}']\n")
    config = load_config([path])
    with pytest.raises(DataError) as caught:
        refuse_overlap_of_lists([config], allow_overlap=False)
    assert f"'{copy}' is both in training_data_file and in {key}" in str(caught.value)
    assert f"('{copy}' has the content of '{first}')" in str(caught.value)
    assert "--allow-overlap" in str(caught.value)
    refuse_overlap_of_lists([config], allow_overlap=True)
    (warning,) = caplog.messages
    assert str(copy) in warning


def test_the_files_of_every_stage_are_trained_on(tmp_path: Path) -> None:
    first, second, held_out = (write(tmp_path / f"{name}.hdf5", n) for n, name in enumerate("abc"))
    path = tmp_path / "config.yaml"
    path.write_text(
        f"training_data_file: ['{first}']\nvalidation_data_file: ['{held_out}']\n"
        "training_stages:\n"
        f"- {{num_training_iterations: 1, training_data_file: ['{held_out}', '{second}']}}\n"
        "- {num_training_iterations: 1}\n"
    )
    stages = load_stages([path])
    assert files_seen(stages) == [second, held_out, first]
    refuse_overlap_of_lists(stages[1:], allow_overlap=False)
    with pytest.raises(DataError, match=f"'{held_out}' is both in training_data_file"):
        refuse_overlap_of_lists(stages, allow_overlap=False)


def test_lists_that_are_not_set_or_match_no_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"validation_data_file: ['{tmp_path}/*.hdf5']\n")
    config = load_config([path])
    refuse_overlap_of_lists([config], allow_overlap=False)
    with pytest.raises(ConfigError):
        config.require("training_data_file")


def simulated(folder: Path, number: int, layout: str = "flat", **settings: object) -> Path:
    """A file with the record of a simulation, in the place of either layout."""
    path = (flat_path if layout == "flat" else tutorial_path)(folder, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"seed": 1, "flavor": "numu", "events_per_file": 500, **settings}
    (folder / RECORD).write_text(json.dumps(record))
    path.write_text(str(path))  # others than in any other file
    return path


def test_simulations_with_the_same_seed(tmp_path: Path) -> None:
    training = [simulated(tmp_path / "train", number) for number in (0, 1)]

    def text(path: Path) -> str:
        return overlap_text(training, [path], "test_data_file")

    again = simulated(tmp_path / "again", 1, events_per_file=7, data_format="charge_bins")
    assert f"'{again}' of test_data_file holds events of training_data_file" in text(again)
    assert f"the seed of '{training[1]}': another --seed gives" in text(again)
    assert text(simulated(tmp_path / "tutorial", 0, "tutorial"))
    assert not text(simulated(tmp_path / "tutorial", 1000, "tutorial"))
    assert not text(simulated(tmp_path / "train", 2))
    assert not text(simulated(tmp_path / "other_seed", 1, seed=2))
    assert not text(simulated(tmp_path / "other_flavor", 1, flavor="nue"))
    link = tmp_path / "link.hdf5"
    link.symlink_to(again)
    assert text(link)
    for content in ("", "[]"):  # a damaged record identifies no events
        (again.parent / RECORD).write_text(content)
        assert not text(again)
    (again.parent / RECORD).unlink()
    assert not text(again)
