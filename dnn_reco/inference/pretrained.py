"""Trained models that are part of the package, by name: ``pretrained:NAME``.

Such a name stands wherever a model folder can be named. The models lie in ``dnn_reco/pretrained``;
the environment variable ``DNN_RECO_PRETRAINED`` names one more folder, such as a shared one of a
cluster.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dnn_reco.errors import ConfigError, ModelError
from dnn_reco.inference.manifest import MANIFEST_FILE
from dnn_reco.inference.model_card import CARD_FILE, card_summary
from dnn_reco.suggestions import did_you_mean

PREFIX = "pretrained:"
FOLDER_VARIABLE = "DNN_RECO_PRETRAINED"

_SHIPPED = Path(__file__).resolve().parent.parent / "pretrained"


@dataclass(frozen=True)
class PretrainedModel:
    """A model that has a name.

    Attributes
    ----------
    name
        Its name, without the prefix.
    folder
        The model folder.
    """

    name: str
    folder: Path

    @property
    def summary(self) -> str:
        """What its model card says first, in a line; empty if it has no card."""
        card = self.folder / CARD_FILE
        return card_summary(card.read_text(encoding="utf-8")) if card.is_file() else ""


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
        return models[wanted].folder
    if not models:
        raise ModelError(
            f"there is no model '{name}': this version of dnn_reco ships no trained models. Name "
            f"a model folder, or a folder of such in the environment variable {FOLDER_VARIABLE}"
        )
    raise ModelError(
        f"there is no model '{name}'.{did_you_mean(wanted, models)} There are: "
        f"{', '.join(PREFIX + known for known in models)}"
    )


def pretrained_models() -> dict[str, PretrainedModel]:
    """The models of the package and of the folder in `DNN_RECO_PRETRAINED`, by name.

    Raises
    ------
    ConfigError
        If that variable names no folder, or a model that the package has, too.
    """
    shipped, further = _models_in(_SHIPPED), {}
    if variable := os.environ.get(FOLDER_VARIABLE):
        folder = Path(variable).expanduser()
        if not folder.is_dir():
            raise ConfigError(
                f"the environment variable {FOLDER_VARIABLE} names '{variable}', which is no "
                "folder: name a folder of model folders, or unset the variable"
            )
        further = _models_in(folder)
    for name in shipped.keys() & further.keys():
        raise ConfigError(
            f"'{PREFIX}{name}' is both part of dnn_reco and in '{further[name].folder.parent}' "
            f"({FOLDER_VARIABLE}): rename the folder '{further[name].folder}'"
        )
    return dict(sorted((shipped | further).items()))


def _models_in(folder: Path) -> dict[str, PretrainedModel]:
    """The model folders in a folder, by name."""
    found = folder.iterdir() if folder.is_dir() else ()
    return {
        path.name: PretrainedModel(path.name, path)
        for path in found
        if (path / MANIFEST_FILE).is_file()
    }
