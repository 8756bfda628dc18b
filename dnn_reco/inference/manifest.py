"""The manifest of a model folder: what the model is, and the checksum of each file.

It is read and verified without torch. Format 1 lacks everything but names and checksums.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dnn_reco.data.data_settings import DataSettings
from dnn_reco.errors import DataError, ModelError
from dnn_reco.files import file_digest
from dnn_reco.foreign_files import (
    MAX_TEXT_SIZE,
    MAX_WEIGHTS_SIZE,
    check_foreign_file,
    parse_json,
)
from dnn_reco.inference.model_info import ModelInfo

MANIFEST_FILE = "manifest.json"
SIGNATURE_FILE = "signature.json"
WEIGHTS_FILE = "weights.safetensors"
TRANSFORMATION_FILE = "trafo_model.safetensors"
CONFIG_FILE = "config.yaml"
MEMBER_FILES = (WEIGHTS_FILE, TRANSFORMATION_FILE, CONFIG_FILE)
"""Files of each network of a folder."""

_FORMAT_1, _FORMAT = "dnn_reco model 1", "dnn_reco model 2"


@dataclass(frozen=True)
class TrainingSummary:
    """How a model was trained.

    Attributes
    ----------
    checkpoints
        The checkpoints whose weights it has, one for each network.
    iterations
        Iterations that each network was trained for.
    batch_size
        Events in a batch.
    training_steps
        Iterations of each training step (call of the program) of the first network.
    seed
        Its seed.
    uses_moving_average
        Whether its weights are the exponential moving average of those in training.
    best_loss
        Smallest loss on its validation set; None: not known.
    num_weights
        Trainable weights of all networks.
    initial_weights
        SHA-256 of the weights that the first network began with; empty: random ones.
    """

    checkpoints: tuple[str, ...]
    iterations: tuple[int, ...]
    batch_size: int
    training_steps: tuple[int, ...]
    seed: int
    uses_moving_average: bool
    best_loss: float | None
    num_weights: int
    initial_weights: str = ""


@dataclass(frozen=True)
class Manifest:
    """What a model folder holds.

    Attributes
    ----------
    origin
        Where the model comes from, in a few words.
    files
        SHA-256 of each file, by its path in the folder.
    model
        What the model predicts and reads; None in folders of format 1.
    members
        Folder of each network, relative to the model folder; several make an ensemble.
    created, dnn_reco_version
        When and by which version of the package it was written.
    training
        How it was trained; None: not known.
    calibration
        Results of the calibration of its uncertainties; None: they are not calibrated.
    onnx
        Largest deviation of each ONNX graph from PyTorch, in units of the transformed labels.
    """

    origin: str
    files: Mapping[str, str]
    model: ModelInfo | None = None
    members: tuple[str, ...] = (".",)
    created: str = ""
    dnn_reco_version: str = ""
    training: TrainingSummary | None = None
    calibration: Mapping[str, Any] | None = None
    onnx: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """The content of the file."""
        values = {"format": _FORMAT, **asdict(self)}
        if self.model is not None and self.model.data_settings is not None:
            values["model"]["data_settings"] = json.loads(self.model.data_settings.to_json())
        return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


_MANIFEST = TypeAdapter(Manifest)


def read_manifest(path: Path) -> Manifest:
    """The manifest of a model folder; the model is called as the folder.

    Raises
    ------
    ModelError
        If it is not a model folder, or its manifest is damaged or of another version.
    """
    file = path / MANIFEST_FILE
    if not file.exists():
        raise ModelError(
            f"'{path}' is not a model folder: it has no '{MANIFEST_FILE}' in it"
            if path.is_dir()
            else f"there is no model folder '{path}'"
        )
    check_foreign_file(file, MAX_TEXT_SIZE, folder=path)
    try:
        values = dict(parse_json(file.read_text(encoding="utf-8")))
        written_as = values.pop("format")
        if written_as not in (_FORMAT_1, _FORMAT):
            raise ModelError(
                f"'{path}' is not a model folder of this version of the package, but {written_as!r}"
            )
        if written_as == _FORMAT_1:
            values = {key: values[key] for key in ("origin", "files")}
        settings = _take_data_settings(values)
        manifest = _MANIFEST.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"'{file}' is damaged: {place}: {first['msg']}") from error
    except (ValueError, KeyError, TypeError, DataError) as error:
        raise ModelError(f"'{file}' is damaged: {error!r}") from error
    _check_names(file, manifest)
    if manifest.model is None:
        return manifest
    model = replace(manifest.model, name=path.resolve().name, data_settings=settings)
    return replace(manifest, model=model)


def _take_data_settings(values: dict[str, Any]) -> DataSettings | None:
    """Remove the data settings from the values of a manifest, and read them."""
    model = values.get("model")
    settings = model.pop("data_settings", None) if isinstance(model, dict) else None
    return None if settings is None else DataSettings.from_json(json.dumps(settings))


def _check_names(file: Path, manifest: Manifest) -> None:
    """Check that all paths lie in the folder, and that what each network needs is listed."""
    if not manifest.members:
        raise ModelError(f"'{file}' is damaged: it lists no network")
    for name in (*manifest.files, *manifest.members):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ModelError(f"'{file}' is damaged: it lists '{name}'")
    for member in manifest.members:
        for name in MEMBER_FILES:
            needed = (PurePosixPath(member) / name).as_posix()
            if needed not in manifest.files:
                raise ModelError(f"'{file}' is damaged: it does not list '{needed}'")


def check_files(path: Path, manifest: Manifest) -> None:
    """Check that all files of a model folder are there, unchanged.

    Raises
    ------
    ModelError
        Naming the first that is missing or changed.
    """
    for name, checksum in manifest.files.items():
        file = path / name
        if not file.exists():
            raise ModelError(f"the model folder '{path}' is incomplete: '{name}' is missing")
        check_foreign_file(file, MAX_WEIGHTS_SIZE, folder=path)
        if file_digest(file) != checksum:
            raise ModelError(
                f"'{file}' was changed since the model was written (its checksum differs from "
                f"'{MANIFEST_FILE}'): copy or export the model again"
            )


def unlisted_files(path: Path, manifest: Manifest) -> list[str]:
    """Files and links below a model folder that its manifest does not list: not parts of it."""
    known = {*manifest.files, MANIFEST_FILE, SIGNATURE_FILE}
    found = [
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.is_symlink() or not file.is_dir()
    ]
    return sorted(set(found) - known)


def listed_files(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below a folder, by its path there, without the manifest."""
    return {
        file.relative_to(folder).as_posix(): file_digest(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file != folder / MANIFEST_FILE
    }
