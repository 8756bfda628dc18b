"""Model folders: everything needed to apply a trained network, in one place.

A model folder holds the weights and the transformation model (safetensors) and the complete config
of each network, records of the training where there are any, how the training data were made, and
``manifest.json`` (:mod:`dnn_reco.inference.manifest`). It is data: nothing in it is executed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from dnn_reco._version import __version__
from dnn_reco.config import Config, load_config, resolve
from dnn_reco.data.data_settings import DataSettings
from dnn_reco.errors import ModelError
from dnn_reco.files import TEMPORARY, replace_folder, temporary_beside
from dnn_reco.foreign_files import MAX_TEXT_SIZE, check_foreign_file
from dnn_reco.inference.calibration import read_calibration
from dnn_reco.inference.manifest import (
    CONFIG_FILE,
    MANIFEST_FILE,
    TRANSFORMATION_FILE,
    WEIGHTS_FILE,
    Manifest,
    TrainingSummary,
    check_files,
    listed_files,
    read_manifest,
    unlisted_files,
)
from dnn_reco.inference.model_info import ModelInfo
from dnn_reco.inference.trained_model import (
    TrainedModel,
    ensemble_of,
    model_info,
    trained_labels,
)
from dnn_reco.nn.from_config import make_network, network_spec
from dnn_reco.nn.weights import check_weights, load_weights
from dnn_reco.provenance import record_text
from dnn_reco.transform import TransformationModel, load_transformation, save_transformation

_OUR_CODE = "dnn_reco.modules."
_WEIGHTS_FORMAT = "dnn_reco weights 1"
_SHOWN = 5  # of many files that are not part of a model


@dataclass(frozen=True)
class Member:
    """One network of a model folder.

    Attributes
    ----------
    weights
        State of the network, by parameter name.
    transformation, config
        What belongs to it.
    """

    weights: Mapping[str, Tensor]
    transformation: TransformationModel
    config: Config

    def load(self, name: str, device: torch.device) -> TrainedModel:
        """The network with its weights.

        Raises
        ------
        ModelError
            If the weights are not those of the network that the config describes.
        """
        spec = network_spec(self.config, self.transformation)
        network = make_network(self.config, spec, device)
        load_weights(network, self.weights)
        network.eval()
        labels = trained_labels(self.config, spec)
        return TrainedModel(name, self.config, spec, network, labels)


@dataclass(frozen=True)
class FolderContents:
    """What a model folder is to hold.

    Attributes
    ----------
    members
        Its networks; several make an ensemble.
    model
        What they predict and read.
    origin
        Where the model comes from, in a few words.
    training
        How it was trained; None: not known.
    files
        Further files, such as records of the training: content, or the file to copy, by path in
        the folder.
    onnx
        Largest deviation of each ONNX graph from PyTorch.
    """

    members: Sequence[Member]
    model: ModelInfo
    origin: str
    training: TrainingSummary | None = None
    files: Mapping[str, bytes | Path] = field(default_factory=dict)
    onnx: Mapping[str, float] = field(default_factory=dict)


def contents_of(
    members: Sequence[Member],
    origin: str,
    files: Mapping[str, bytes | Path] | None = None,
    data_settings: DataSettings | None = None,
) -> FolderContents:
    """Contents of a model folder of these networks, and further files.

    Raises
    ------
    ModelError
        If weights are not those of the network that their config describes.
    """
    model = model_of("model", [each.load("model", torch.device("cpu")) for each in members])
    model = replace(model, data_settings=data_settings)
    return FolderContents(members, model_info(model), origin, files=files or {})


def model_of(name: str, models: Sequence[TrainedModel]) -> TrainedModel:
    """The model itself, or the ensemble of several."""
    return replace(models[0], name=name) if len(models) == 1 else ensemble_of(name, models)


def write_model_folder(path: Path, contents: FolderContents, overwrite: bool = False) -> None:
    """Write a model folder; it appears at once and complete.

    Parameters
    ----------
    path
        The folder to be.
    contents
        What it is to hold.
    overwrite
        Replace a model folder that is there and holds nothing else.

    Raises
    ------
    ModelError
        If there is something at `path` that may not be replaced.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 (links stay links)
    refuse_existing(path, overwrite)
    folders = member_folders(len(contents.members))
    with temporary_beside(path) as temporary:
        part = temporary / path.name
        for folder, member in zip(folders, contents.members, strict=True):
            _write_member(part / folder, member)
        for name, content in contents.files.items():
            _write_file(part / name, content)
        manifest = Manifest(
            contents.origin,
            listed_files(part),
            contents.model,
            folders,
            datetime.now(timezone.utc).isoformat(timespec="seconds"),
            __version__,
            contents.training,
            onnx=contents.onnx,
        )
        (part / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
        replace_folder(path, part)


def member_folders(num_members: int) -> tuple[str, ...]:
    """Folder of each network in a model folder: the model folder itself if there is only one."""
    return (".",) if num_members == 1 else tuple(f"member_{i:02d}" for i in range(num_members))


def _write_member(folder: Path, member: Member) -> None:
    folder.mkdir(parents=True)
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in member.weights.items()}
    (folder / WEIGHTS_FILE).write_bytes(save(on_cpu, metadata={"format": _WEIGHTS_FORMAT}))
    save_transformation(member.transformation, folder / TRANSFORMATION_FILE)
    title = "Configuration of a model, complete with defaults."
    text = record_text(title, member.config.to_yaml())
    (folder / CONFIG_FILE).write_text(text, encoding="utf-8")


def _write_file(path: Path, content: bytes | Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        shutil.copyfile(content, path)
    else:
        path.write_bytes(content)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Check that a model folder may be written.

    Raises
    ------
    ModelError
        If there is something at `path` that may not be replaced.
    """
    if path.is_symlink() and not path.exists():
        raise ModelError(
            f"'{path}' is a link to '{path.readlink()}', which does not exist: make that folder, "
            "or choose another name"
        )
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not (path / MANIFEST_FILE).is_file():
        raise ModelError(
            f"'{path}' already exists and is not a model folder, so it is never replaced. Choose "
            "another name"
        )
    try:
        manifest = read_manifest(path)
    except ModelError as error:
        raise ModelError(
            f"'{path}' already exists and cannot be read as a model folder, so it is never "
            f"replaced ({error}). Choose another name"
        ) from error
    if not overwrite:
        raise ModelError(
            f"the model folder '{path}' already exists: choose another name, or replace it with "
            "--overwrite"
        )
    _refuse_to_delete(path, manifest)


def _refuse_to_delete(path: Path, manifest: Manifest) -> None:
    """Check that a model folder holds nothing else, which would be lost with it."""
    # A call that was killed while it signed the folder leaves a temporary one there.
    others = [n for n in unlisted_files(path, manifest) if not n.startswith(TEMPORARY)]
    if others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        listed = ", ".join(f"'{name}'" for name in others[:_SHOWN])
        raise ModelError(
            f"the model folder '{path}' holds files that are not part of the model: {listed}{more}."
            " --overwrite would delete them: move them elsewhere, or choose another name"
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
        If it is not a model folder, or a file in it is missing, changed, or does not fit the
        others, or if it names code of other packages.
    """
    manifest = read_manifest(path)
    check_files(path, manifest)
    name = path.resolve().name
    models = [_load_member(path / folder, path, device, trusted) for folder in manifest.members]
    settings = None if manifest.model is None else manifest.model.data_settings
    model = replace(model_of(name, models), data_settings=settings)
    return replace(model, calibration=read_calibration(path, manifest, model_info(model)))


def _load_member(
    folder: Path, root: Path, device: torch.device, trusted: Collection[str]
) -> TrainedModel:
    """Load one network of a model folder `root`, whose files are verified."""
    config = member_config(folder, root)
    _check_code(root, config, trusted)
    transformation = load_transformation(folder / TRANSFORMATION_FILE)
    try:
        member = Member(load_file(folder / WEIGHTS_FILE), transformation, config)
        if not trusted:
            _check_sizes(member)
        return member.load(folder.name, device)
    except (SafetensorError, ModelError) as error:
        raise ModelError(
            f"the weights in '{folder / WEIGHTS_FILE}' do not belong to the network that "
            f"'{CONFIG_FILE}' beside it describes: {error}"
        ) from error


def member_config(folder: Path, root: Path) -> Config:
    """The config of one network of a model folder `root`.

    Raises
    ------
    ConfigError, ModelError
        If it is wrong, larger than any config, or a link that leaves the model folder.
    """
    check_foreign_file(folder / CONFIG_FILE, MAX_TEXT_SIZE, folder=root)
    return load_config([folder / CONFIG_FILE])


def _check_sizes(member: Member) -> None:
    """Check that the weights are those of the network before memory is taken for it.

    The sizes in a config may be anything; the weights cannot be larger than their file.

    Raises
    ------
    ModelError
        If the network cannot be built, or has other weights.
    """
    spec = network_spec(member.config, member.transformation)
    try:
        with torch.device("meta"):
            network = make_network(member.config, spec, torch.device("meta"))
    except (RuntimeError, ValueError, IndexError, TypeError, OverflowError, MemoryError) as error:
        raise ModelError(f"it cannot be built ({error})") from error
    check_weights(network, member.weights)


def _check_code(path: Path, config: Config, trusted: Collection[str]) -> None:
    """Check that the model runs no code but ours and that of packages which the user trusts."""
    handler = config.data_handler
    named = {"model_class": config.model.model_class} | {
        key: getattr(handler, key)
        for key in (f"data_handler_{kind}_class" for kind in ("label", "misc", "filter"))
    }
    foreign = {
        key: name
        for key, name in named.items()
        if name.partition(".")[0] not in trusted and not _is_ours(name, key)
    }
    if foreign:
        listed = ", ".join(f"'{name}' ({key})" for key, name in foreign.items())
        packages = dict.fromkeys(name.partition(".")[0] for name in foreign.values())
        options = " ".join(f"--allow-code {package}" for package in packages)
        raise ModelError(
            f"the model folder '{path}' names code that is not part of dnn_reco: {listed}. Such "
            f"code can do anything: allow it only if you trust it, with {options}"
        )


def _is_ours(name: str, key: str) -> bool:
    """Whether a dotted name means code of ours, and not what a module of ours imports."""
    if not name.startswith(_OUR_CODE):
        return False
    return str(getattr(resolve(name, key), "__module__", "")).startswith(_OUR_CODE)
