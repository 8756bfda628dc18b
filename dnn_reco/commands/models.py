"""`models`: the trained models that are part of the package."""

from __future__ import annotations

from pathlib import Path

import click

from dnn_reco.commands.output import print_json
from dnn_reco.inference.model_card import CARD_FILE, card_summary
from dnn_reco.pretrained_models import FOLDER_VARIABLE, PREFIX, pretrained_models


def run_models(as_json: bool) -> None:
    """Print the models that `pretrained:NAME` can name, a line each.

    Parameters
    ----------
    as_json
        Print name, folder and summary of each as JSON.
    """
    models = pretrained_models()
    if as_json:
        listed = [
            {"name": f"{PREFIX}{name}", "folder": str(folder), "summary": _summary(folder)}
            for name, folder in models.items()
        ]
        print_json({"models": listed})
        return
    if not models:
        click.echo(
            "This version of dnn_reco ships no trained models. The environment variable "
            f"{FOLDER_VARIABLE} names a folder of model folders."
        )
    width = max(map(len, models), default=0)
    for name, folder in models.items():
        click.echo(f"{PREFIX}{name:{width}}  {_summary(folder)}".rstrip())


def _summary(folder: Path) -> str:
    """The first sentence of the card of a model, in a line; empty if it has no card."""
    card = folder / CARD_FILE
    if not card.is_file():
        return ""
    return card_summary(card.read_text(encoding="utf-8", errors="replace"))
