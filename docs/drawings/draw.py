"""Write the drawings of the explanation: python docs/drawings/draw.py."""

from __future__ import annotations

from pathlib import Path

import tomllib
from diagrams import all_diagrams
from hexagons import all_hexagons

_DOCS = Path(__file__).resolve().parents[1]
FOLDER = _DOCS / "explanation"


def drawings() -> dict[str, str]:
    """Texts of the SVG files by name."""
    settings = tomllib.loads((_DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    return {f"{name}.svg": text for name, text in [*all_diagrams(layers), *all_hexagons()]}


if __name__ == "__main__":
    for name, content in drawings().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
