"""`import`: make a model folder of a model that the TensorFlow version trained."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from dnn_reco.commands.output import print_note
from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.from_config import transform_settings
from dnn_reco.data.records import ColumnNames
from dnn_reco.errors import ModelError
from dnn_reco.inference.export import DATA_SETTINGS_FILE, load_training_settings
from dnn_reco.inference.model_folder import Member, contents_of, write_model_folder
from dnn_reco.tf_import.importer import ImportedModel, import_reference
from dnn_reco.tf_import.older_generation import UNVERIFIED
from dnn_reco.transform import settings_differences

_log = logging.getLogger(__name__)


def run_import(
    folder: Path,
    output: Path,
    trafo_file: Path | None,
    config_files: Sequence[Path],
    settings_file: Path | None,
    overwrite: bool,
) -> None:
    """Read the model in `folder` and write it to the model folder `output`.

    Parameters
    ----------
    folder
        Exported model, or folder of checkpoints.
    output
        The model folder.
    trafo_file, config_files, settings_file
        Its transformation model, config and data settings, if they lie elsewhere.
    overwrite
        Replace a model folder that is there.
    """
    model = import_reference(folder, trafo_file, config_files)
    _check_transformation(model)
    member = Member(model.weights, model.transformation, model.config)
    data_settings = _data_settings(model, settings_file)
    files = {path.name: path for path in model.records}
    files |= {path.relative_to(folder).as_posix(): path for path in model.logs}
    contents = contents_of([member], _origin(model), files, data_settings)
    write_model_folder(output, contents, overwrite)
    settings = model.transformation.settings
    num_weights = sum(tensor.numel() for tensor in model.weights.values())
    print_note(f"Checkpoint:     {model.checkpoint}, {model.iterations} iterations")
    print_note(f"Config:         {', '.join(map(str, model.config_files))}")
    print_note(f"Transformation: {model.trafo_file}")
    print_note(
        f"Network:        {num_weights:,} weights, {settings.num_bins} inputs of a DOM, "
        f"{len(settings.label_names)} labels"
    )
    for line in model.changes:
        print_note(f"Changed:        {line}")
    if model.is_older:
        _log.warning("Unverified on a real checkpoint: %s", UNVERIFIED)
    print_note(f"Written to '{output}'")


def _data_settings(model: ImportedModel, file: Path | None) -> DataSettings | None:
    """How the training data were made; None, with a warning, where no file has them."""
    beside = [path for path in model.records if path.name == DATA_SETTINGS_FILE]
    path = file or next(iter(beside), None)
    if path is None:
        _log.warning(
            "There is no '%s' beside the model, so the settings of the data that it is applied to "
            "will not be compared with those of its training data: give them with "
            "-s/--data-settings.",
            DATA_SETTINGS_FILE,
        )
        return None
    return load_training_settings(path, model.config)


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
