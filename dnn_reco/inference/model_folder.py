"""Model folders: everything needed to apply a trained network, in one place.

A model folder holds the weights and the transformation model (safetensors), the complete config
with the versions of the software that wrote it (``config.yaml``), records of the training where
there are any, and ``manifest.json``: names of labels and misc data, and the checksum of each file.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from dnn_reco.config import Config, load_config, resolve
from dnn_reco.errors import ModelError
from dnn_reco.files import file_digest, temporary_beside
from dnn_reco.foreign_files import (
    MAX_TEXT_SIZE,
    MAX_WEIGHTS_SIZE,
    check_foreign_file,
    parse_json,
)
from dnn_reco.inference.trained_model import TrainedModel, trained_labels
from dnn_reco.nn.from_config import make_network, network_spec
from dnn_reco.nn.weights import load_weights
from dnn_reco.provenance import record_text
from dnn_reco.transform import TransformationModel, load_transformation, save_transformation

WEIGHTS_FILE = "weights.safetensors"
TRANSFORMATION_FILE = "trafo_model.safetensors"
CONFIG_FILE = "config.yaml"
MANIFEST_FILE = "manifest.json"

_OUR_CODE = "dnn_reco.modules."
_FORMAT = "dnn_reco model 1"


def write_model_folder(
    path: Path,
    weights: Mapping[str, Tensor],
    transformation: TransformationModel,
    config: Config,
    origin: str,
    records: Sequence[Path] = (),
    overwrite: bool = False,
) -> None:
    """Write a model folder; it appears at once and whole.

    Parameters
    ----------
    path
        The folder to be.
    weights
        State of the network, by parameter name.
    transformation, config
        What belongs to it.
    origin
        Where the model comes from, for the manifest.
    records
        Files to copy into the folder: records of the training, data settings.
    overwrite
        Replace a model folder that is there.

    Raises
    ------
    ModelError
        If there is something at `path` that may not be replaced.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 (links stay links)
    _refuse_existing(path, overwrite)
    with temporary_beside(path) as temporary:
        part = temporary / path.name
        part.mkdir()
        on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        (part / WEIGHTS_FILE).write_bytes(save(on_cpu, metadata={"format": _FORMAT}))
        save_transformation(transformation, part / TRANSFORMATION_FILE)
        title = "Configuration of a model, complete with defaults."
        (part / CONFIG_FILE).write_text(record_text(title, config.to_yaml()), encoding="utf-8")
        for record in records:
            shutil.copyfile(record, part / record.name)
        manifest = {
            "format": _FORMAT,
            "origin": origin,
            "label_names": transformation.settings.label_names,
            "misc_names": transformation.settings.misc_names,
            "files": {
                file.relative_to(part).as_posix(): file_digest(file)
                for file in sorted(part.rglob("*"))
                if file.is_file()
            },
        }
        (part / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        if path.exists():
            path.rename(temporary / "replaced")
        part.rename(path)


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not (path / MANIFEST_FILE).is_file():
        raise ModelError(
            f"'{path}' is there already, and is no model folder: it is never replaced. Choose "
            "another name"
        )
    if not overwrite:
        raise ModelError(
            f"the model folder '{path}' is there already: choose another name, or replace it with "
            "--overwrite"
        )


def load_model_folder(
    path: Path, device: torch.device, trusted: Collection[str] = ()
) -> TrainedModel:
    """Load a model to apply it; its name is that of the folder.

    Parameters
    ----------
    path
        The model folder.
    device
        Where to put the network.
    trusted
        Packages besides this one whose code the model may name: it is run.

    Raises
    ------
    ModelError
        If it is no model folder, or a file in it is missing, changed, or does not fit the others,
        or if it names code of other packages.
    """
    _check_files(path)
    check_foreign_file(path / CONFIG_FILE, MAX_TEXT_SIZE, folder=path)
    config = load_config([path / CONFIG_FILE])
    _check_code(path, config, trusted)
    spec = network_spec(config, load_transformation(path / TRANSFORMATION_FILE))
    network = make_network(config, spec, device)
    try:
        load_weights(network, load_file(path / WEIGHTS_FILE))
    except (SafetensorError, ModelError) as error:
        raise ModelError(
            f"the weights in '{path / WEIGHTS_FILE}' are not those of the network that "
            f"'{CONFIG_FILE}' beside it describes: {error}"
        ) from error
    network.eval()
    name = path.resolve().name
    return TrainedModel(name, config, spec, network, trained_labels(config, spec))


def _check_code(path: Path, config: Config, trusted: Collection[str]) -> None:
    """Check that the model runs no code but ours and that of packages which the user trusts."""
    handler = config.data_handler
    named = {"model_class": config.model.model_class} | {
        key: getattr(handler, key)
        for key in (f"data_handler_{kind}_class" for kind in ("label", "misc", "filter"))
    }
    for key, name in named.items():
        package = name.partition(".")[0]
        if package not in trusted and not _is_ours(name, key):
            raise ModelError(
                f"the model folder '{path}' names code that is not part of dnn_reco: '{name}' "
                f"({key}). Such code may do anything: if you know and trust it, allow it with "
                f"--allow-code {package}"
            )


def _is_ours(name: str, key: str) -> bool:
    """Whether a dotted name means code of ours, and not what a module of ours imports."""
    if not name.startswith(_OUR_CODE):
        return False
    return str(getattr(resolve(name, key), "__module__", "")).startswith(_OUR_CODE)


def _check_files(path: Path) -> None:
    """Check that all files of the folder are there, as they were written."""
    files = _listed_files(path)
    for needed in (WEIGHTS_FILE, TRANSFORMATION_FILE, CONFIG_FILE):
        if needed not in files:
            raise ModelError(f"'{path / MANIFEST_FILE}' is damaged: it does not list '{needed}'")
    for name, checksum in files.items():
        file = path / name
        if not file.exists():
            raise ModelError(f"the model folder '{path}' is not whole: '{name}' is missing")
        check_foreign_file(file, MAX_WEIGHTS_SIZE, folder=path)
        if file_digest(file) != checksum:
            raise ModelError(
                f"'{file}' was changed since the model was written (its checksum differs from "
                f"'{MANIFEST_FILE}'): copy or export the model again"
            )


def _listed_files(path: Path) -> dict[str, str]:
    """Checksum of each file that the manifest lists."""
    manifest_file = path / MANIFEST_FILE
    if not manifest_file.exists():
        raise ModelError(
            f"'{path}' is no model folder: there is no '{MANIFEST_FILE}' in it"
            if path.is_dir()
            else f"there is no model folder '{path}'"
        )
    check_foreign_file(manifest_file, MAX_TEXT_SIZE, folder=path)
    try:
        manifest = parse_json(manifest_file.read_text(encoding="utf-8"))
        written_as, files = manifest["format"], dict(manifest["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"'{manifest_file}' is damaged: {error!r}") from error
    if written_as != _FORMAT:
        raise ModelError(
            f"'{path}' is not a model folder of this version of the package, but {written_as!r}"
        )
    for name in files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ModelError(f"'{manifest_file}' is damaged: it lists '{name}'")
    return files
