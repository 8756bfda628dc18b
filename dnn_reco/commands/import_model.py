"""`import`: make a model folder of a model that the TensorFlow version trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from dnn_reco.data.from_config import transform_settings
from dnn_reco.data.records import ColumnNames
from dnn_reco.errors import ModelError
from dnn_reco.inference.model_folder import write_model_folder
from dnn_reco.tf_import.importer import ImportedModel, import_reference
from dnn_reco.tf_import.older_generation import UNVERIFIED
from dnn_reco.transform import settings_differences


def run_import(
    folder: Path,
    output: Path,
    trafo_file: Path | None,
    config_files: Sequence[Path],
    overwrite: bool,
) -> None:
    """Read the model in `folder` and write it to the model folder `output`."""
    model = import_reference(folder, trafo_file, config_files)
    _check_transformation(model)
    write_model_folder(
        output,
        model.weights,
        model.transformation,
        model.config,
        origin=_origin(model),
        records=model.records,
        overwrite=overwrite,
    )
    settings = model.transformation.settings
    num_weights = sum(tensor.numel() for tensor in model.weights.values())
    click.echo(f"Checkpoint:     {model.checkpoint}, {model.iterations} iterations")
    click.echo(f"Config:         {', '.join(map(str, model.config_files))}")
    click.echo(f"Transformation: {model.trafo_file}")
    click.echo(
        f"Network:        {num_weights:,} weights, {settings.num_bins} inputs of a DOM, "
        f"{len(settings.label_names)} labels"
    )
    for line in model.changes:
        click.echo(f"Changed:        {line}")
    if model.is_older:
        click.echo(f"Unverified on a real checkpoint: {UNVERIFIED}")
    click.echo(f"Written to '{output}'")


def _origin(model: ImportedModel) -> str:
    """Where a model comes from, for the manifest of its model folder."""
    origin = f"imported from '{model.checkpoint}' of the TensorFlow version"
    if model.is_older:
        return f"{origin}, older generation (unverified on a real checkpoint)"
    return origin


def _check_transformation(model: ImportedModel) -> None:
    """Check that transformation model and config belong together."""
    found = model.transformation.settings
    names = ColumnNames(found.label_names, found.misc_names)
    differences = settings_differences(
        model.transformation, transform_settings(model.config, names)
    )
    if differences:
        raise ModelError(
            f"the transformation model '{model.trafo_file}' does not fit the config:\n"
            + "\n".join(differences)
            + "\nName those of this training with --trafo and --config."
        )
