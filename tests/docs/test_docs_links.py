"""Pages of the documentation are in the sidebar, and links between them lead somewhere."""

import inspect
import re
import runpy
from pathlib import Path

import pytest

from dnn_reco import errors

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/**/*.md")
    for page in REPOSITORY.glob(pattern)
    if DOCS / "_build" not in page.parents
)
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]*))?\)")


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links(page: Path) -> None:
    for path, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def test_every_page_is_in_the_sidebar_once() -> None:
    site_pages = runpy.run_path(str(DOCS / "_extensions" / "site_pages.py"))
    sections = site_pages["sections"]((DOCS / "index.md").read_text(encoding="utf-8"))
    listed = ["index", *(page for pages in sections.values() for page in pages)]
    pages = [
        page.relative_to(DOCS).with_suffix("").as_posix() for page in PAGES if DOCS in page.parents
    ]
    assert sorted(listed) == sorted(pages)


def test_drawings_are_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the package shows the layers that `lint-imports` checks."""
    folder = DOCS / "drawings"
    monkeypatch.syspath_prepend(folder)
    drawings = runpy.run_path(str(folder / "draw.py"))["drawings"]()
    committed = {path.name: path.read_text() for path in (DOCS / "explanation").glob("*.svg")}
    assert drawings == committed, "run: python docs/drawings/draw.py"
    package = REPOSITORY / "dnn_reco"
    parts = {path.parent.name for path in package.glob("*/__init__.py")}
    assert parts <= set(re.findall(r">(\w+)</text>", committed["house.svg"]))


def test_each_error_has_a_remedy() -> None:
    table = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    classes = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == classes - {"DnnRecoError"}
