"""Trained models that are part of the package, by name: ``pretrained:NAME``.

Such a name stands wherever a model folder can be named. The models lie in ``dnn_reco/pretrained``;
the environment variable ``DNN_RECO_PRETRAINED`` names one more folder, such as a shared one of a
cluster. This module imports nothing heavy: the command line finds models with it before it limits
the threads of numerical libraries.
"""

from __future__ import annotations

import os
from pathlib import Path

from dnn_reco.errors import ConfigError, ModelError
from dnn_reco.suggestions import did_you_mean

PREFIX = "pretrained:"
FOLDER_VARIABLE = "DNN_RECO_PRETRAINED"

_SHIPPED = Path(__file__).resolve().parent / "pretrained"
_MANIFEST = "manifest.json"  # what makes a folder a model folder


def is_pretrained(name: str | Path) -> bool:
    """Whether this is `pretrained:` and a name, not a path."""
    return str(name).startswith(PREFIX)


def model_folder(name: str | Path) -> Path:
    """The model folder that a user names: that of `pretrained:NAME`, else the path itself.

    Raises
    ------
    ConfigError
        If `DNN_RECO_PRETRAINED` names no folder, or a model that the package has, too.
    ModelError
        If there is no model of this name.
    """
    if not is_pretrained(name):
        return Path(name)
    wanted, models = str(name).removeprefix(PREFIX), pretrained_models()
    if wanted in models:
        return models[wanted]
    if not models:
        raise ModelError(
            f"there is no model '{name}': this version of dnn_reco ships no trained models. Name "
            f"a model folder, or a folder of such in the environment variable {FOLDER_VARIABLE}"
        )
    raise ModelError(
        f"there is no model '{name}'.{did_you_mean(wanted, models)} There are: "
        f"{', '.join(PREFIX + known for known in models)}"
    )


def pretrained_models() -> dict[str, Path]:
    """The model folders of the package and of the folder in `DNN_RECO_PRETRAINED`, by name.

    Raises
    ------
    ConfigError
        If that variable names no folder, or a model that the package has, too.
    """
    shipped = _models_in(_SHIPPED)
    further: dict[str, Path] = {}
    if variable := os.environ.get(FOLDER_VARIABLE):
        folder = Path(variable).expanduser()
        if not folder.is_dir():
            raise ConfigError(
                f"there is no folder '{variable}', which the environment variable "
                f"{FOLDER_VARIABLE} names: name a folder of model folders, or unset the variable"
            )
        further = _models_in(folder)
    for name in shipped.keys() & further.keys():
        raise ConfigError(
            f"'{PREFIX}{name}' is both part of dnn_reco and in '{variable}' ({FOLDER_VARIABLE}): "
            f"rename the folder '{further[name]}'"
        )
    return dict(sorted((shipped | further).items()))


def _models_in(folder: Path) -> dict[str, Path]:
    """The model folders in a folder, by name."""
    found = folder.iterdir() if folder.is_dir() else ()
    return {path.name: path for path in found if (path / _MANIFEST).is_file()}
