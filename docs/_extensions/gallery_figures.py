"""Figures of the gallery's examples, also those that are made without pyplot."""

from __future__ import annotations

from typing import Any, Protocol

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst, matplotlib_scraper


class _Scraper(Protocol):
    def __call__(
        self, block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]
    ) -> str: ...


def _figures(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save the figures that a block of a script made; the text that shows them."""
    text = str(matplotlib_scraper(block, block_vars, gallery_conf))
    shown = block_vars["example_globals"].setdefault("_shown_figures", [])
    paths = []
    for value in list(block_vars["example_globals"].values()):
        is_new = isinstance(value, Figure) and all(value is not figure for figure in shown)
        if is_new and not hasattr(value, "number"):  # which those of pyplot have
            path = next(block_vars["image_path_iterator"])
            value.savefig(path, dpi=110)
            paths.append(path)
            shown.append(value)
    return text + (figure_rst(paths, gallery_conf["src_dir"]) if paths else "")


def _get_sg_image_scraper() -> _Scraper:
    return _figures
