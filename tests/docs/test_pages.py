"""The code blocks of the pages, as their text is, in folders of their own: see `pages.py`."""

from pathlib import Path

import pytest
from page_runner import run_page
from page_workspace import copy_workspace, shared_workspace
from pages import DIRECTIVES, LANGUAGES, PAGES, REPOSITORY, agree, blocks, commands, fixed_parts

WITH_CODE = [page for page in PAGES if blocks(page)]


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "pages"
    shared.mkdir(exist_ok=True)
    return shared_workspace(shared)


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_page(page: Path, workspace: Path, tmp_path: Path) -> None:
    home, state = tmp_path / "home", tmp_path / "state"
    copy_workspace(workspace, home)
    state.mkdir()
    run_page(page, home, state)


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_each_block_has_its_use(page: Path) -> None:
    for block in blocks(page):
        print(f"{block}: {block.use}")  # shown by pytest -rP
        names = {name for name, _ in block.directives}
        assert names <= DIRECTIVES, block
        assert block.language in LANGUAGES or block.directive("skip"), block
        assert block.directive("skip") != "", f"{block} needs a reason"


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_each_replacement_replaces_something(page: Path) -> None:
    """One that matches nothing would run the page with its full number of events."""
    found = blocks(page)
    for position, block in enumerate(found):
        for old, _ in block.replacements:
            assert any(old in later.text for later in found[position:]), f"{block}: {old}"


def test_outputs_agree_in_their_fixed_parts() -> None:
    assert fixed_parts("1,234 events in 2 files  (1.5 s)\n\n-3.2e+05 GeV") == [
        "# event in # file (#)",
        "# GeV",
    ]
    assert agree("ok  3 files\n…\ndone", "ok 1 file\nmore\nand more\ndone\n")
    assert agree("ok\n…\ndone", "ok\ndone\n")
    assert agree("saved in '…/model'", "saved in '../x/model'")
    assert agree("ok\ndone", "ok\nA part of the network was compiled for this CPU in 9 s; …\ndone")
    assert not agree("ok\ndone", "ok\nmore\ndone")
    assert not agree("ok", "not ok")


def test_commands_of_a_console_block() -> None:
    first, second = commands("$ one \\\n    two\nprinted\n$ three\n")
    assert (first.text, first.output) == ("one \\\n    two", "printed")
    assert (second.text, second.output) == ("three", "")
