"""What the site adds to pages that are also read on GitHub.

- The sidebar follows the sections of the front page: each link in a table there is an entry.
- A comment `<!-- generated: NAME -->` is replaced by text made from the package's source.
- Links to the scripts of the gallery lead to their pages.
- A link to a Markdown file outside of the documentation offers that file for download.
- Short words of code are marked for the style sheet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

FRONT_PAGE = "index"
_SHORT = 24
_SECTION = re.compile(r"^## (?P<title>.+)\n(?P<body>(?:(?!^## ).*\n?)*)", re.MULTILINE)
_ENTRY = re.compile(r"^\| \[[^]]*\]\((?P<page>[\w/.-]+)\.(?:md|rst)\)", re.MULTILINE)
_SCRIPT = re.compile(r"\]\(gallery/(?P<name>\w+)\.py\)")
_GENERATED = re.compile(r"^<!-- generated: (?P<name>[\w-]+) -->$", re.MULTILINE)
_MARKDOWN_LINK = re.compile(r"\]\((?P<path>\.\./[^)#\s]+\.md)(?:#[^)\s]*)?\)")


# Functions that make the text of a comment, as <module>.<function>.
GENERATED: Mapping[str, str] = {
    "commands": "command_reference.page",
    "errors": "catalogues.errors_page",
    "frame-classes": "catalogues.frame_classes_page",
    "frame-objects": "api_reference.frame_objects_page",
    "package": "api_reference.package_page",
    "plugins": "api_reference.plugins_page",
}


def sections(front_page: str) -> dict[str, list[str]]:
    """Titles of the front page's sections, with the pages that their tables link to."""
    found = {
        section["title"]: [entry["page"] for entry in _ENTRY.finditer(section["body"])]
        for section in _SECTION.finditer(front_page)
    }
    return {title: pages for title, pages in found.items() if pages}


def _toctrees(front_page: str) -> Iterator[str]:
    for title, pages in sections(front_page).items():
        yield "\n".join(
            ["", "```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```", ""]
        )


def _generated(name: str) -> str:
    module, function = GENERATED[name].split(".")
    return str(getattr(import_module(module), function)())


def _as_download(link: re.Match[str], page: Path, docs: Path) -> str:
    is_inside = (page.parent / link["path"]).resolve().is_relative_to(docs)
    return link[0] if is_inside else f"](path:{link['path']})"


def _complete(app: Sphinx, page: str, text: list[str]) -> None:
    text[0] = _GENERATED.sub(lambda comment: _generated(comment["name"]), text[0])
    path, docs = Path(app.env.doc2path(page)), Path(app.srcdir).resolve()
    text[0] = _MARKDOWN_LINK.sub(lambda link: _as_download(link, path, docs), text[0])
    if page == FRONT_PAGE:
        text[0] = _SCRIPT.sub(r"](auto_gallery/\g<name>.rst)", text[0])
        text[0] += "".join(_toctrees(text[0]))


class FrontPageOrder:
    """Sorts the scripts of the gallery as the front page lists them."""

    def __init__(self, folder: str) -> None:
        self._front_page = Path(folder).parent / f"{FRONT_PAGE}.md"

    def __call__(self, file: str) -> int:
        """Place of a script."""
        names = _SCRIPT.findall(self._front_page.read_text(encoding="utf-8"))
        return names.index(Path(file).stem)


def _mark_short_words(app: Sphinx, tree: nodes.document) -> None:
    """Mark code whose words fit on a line of a phone: browsers would break `--option`."""
    for code in tree.findall(nodes.literal):
        if max(map(len, code.astext().split()), default=0) <= _SHORT:
            code["classes"].append("short-words")


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the completion of pages and of their code."""
    app.connect("source-read", _complete)
    app.connect("doctree-read", _mark_short_words)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
