"""`models`: the trained models that are part of the package."""

from __future__ import annotations

import click

from dnn_reco.commands.output import print_json, print_note
from dnn_reco.inference.pretrained import FOLDER_VARIABLE, PREFIX, pretrained_models


def run_models(as_json: bool) -> None:
    """Print the models that `pretrained:NAME` can name, a line each.

    Parameters
    ----------
    as_json
        Print name, folder and summary of each as JSON.
    """
    models = pretrained_models().values()
    if as_json:
        listed = [
            {"name": f"{PREFIX}{each.name}", "folder": str(each.folder), "summary": each.summary}
            for each in models
        ]
        print_json({"models": listed})
        return
    if not models:
        print_note(
            "This version of dnn_reco ships no trained models. The environment variable "
            f"{FOLDER_VARIABLE} names a folder of model folders."
        )
    width = max((len(model.name) for model in models), default=0)
    for model in models:
        click.echo(f"{PREFIX}{model.name:{width}}  {model.summary}".rstrip())
