"""Sections of the Python reference, from the public names of a module."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import ModuleType

from docutils.nodes import Element
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode
from sphinx.util.typing import ExtensionMetadata

import dnn_reco.i3.objects
import dnn_reco.plugins
from dnn_reco.errors import DnnRecoError

_TITLES = {"function": "Functions", "class": "Classes", "data": "Constants"}


def package_page() -> str:
    """What `from dnn_reco import …` offers."""
    return _page(dnn_reco, [name for name in dnn_reco.__all__ if not name.startswith("__")])


def plugins_page() -> str:
    """What functions of users import."""
    return _page(dnn_reco.plugins, dnn_reco.plugins.__all__)


def frame_objects_page() -> str:
    """Values of decoded objects of frames."""
    objects = dnn_reco.i3.objects
    names = [
        name
        for name, value in vars(objects).items()
        if inspect.isclass(value) and value.__module__ == objects.__name__ and name[0] != "_"
    ]
    return "\n".join(_entries(objects, names, "class"))


def _page(module: ModuleType, names: list[str]) -> str:
    by_kind: dict[str, list[str]] = {kind: [] for kind in _TITLES}
    for name in names:
        value = getattr(module, name)
        if not (inspect.isclass(value) and issubclass(value, DnnRecoError)):
            by_kind[_kind(value)].append(name)
    lines = []
    for kind, of_kind in by_kind.items():
        lines += [f"## {_TITLES[kind]}", "", *_entries(module, of_kind, kind)] if of_kind else []
    return "\n".join(lines)


def _kind(value: object) -> str:
    if inspect.isclass(value):
        return "class"
    return "function" if inspect.isroutine(value) else "data"


def _entries(module: ModuleType, names: list[str], kind: str) -> Iterator[str]:
    for name in names:
        yield f"### `{name}`\n"
        yield "```{eval-rst}"
        yield f".. auto{kind}:: {module.__name__}.{name}"
        if kind == "class":
            yield "   :members:"
        yield "```\n"


def resolve_short_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contents: Element
) -> Element | None:
    """Link a name without its module, as docstrings have it, if one documented object fits."""
    target, page = node.get("reftarget"), node.get("refdoc")
    objects = env.domains.python_domain.objects
    found = {objects[name] for name in objects if name.split(".")[-1] == target}
    places = {(entry.docname, entry.node_id) for entry in found}
    if node.get("refdomain") != "py" or len(places) != 1:
        return None
    docname, anchor = places.pop()
    return make_refnode(app.builder, page, docname, anchor, contents)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the resolution of names."""
    app.connect("missing-reference", resolve_short_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
