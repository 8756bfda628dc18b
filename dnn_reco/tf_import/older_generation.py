"""The weights of the older generation's networks: their names and shapes in a checkpoint.

These networks (``general_model_IC86``, ``general_model_IC86_opt4``) are described by the same
config in both versions, too. Their checkpoints were written by TensorFlow 1, or in its way by
TensorFlow 2: each variable lies under its name, and there is no graph of objects. Lines belong to
dnn_reco v1.0.2 (``dnn_reco/``) and to TFScripts, commit aaaacb3 (``tfscripts/compat/v1/``):

- Only the variables of the network are saved (model.py:286): none of the optimizers, no label
  weights, and no number of iterations, which is the end of the checkpoint's name (model.py:1084).
- Names have two scopes: ``model_pred`` (modules/models/general_IC86_models.py:98, :392) for the
  branches upper, lower, ic78 and fc, in this order, and ``model_unc`` (:303, :644) for fc_unc.
- Within a scope variables have few names: ``weights`` (weights.py:17), ``biases`` (weights.py:90),
  and four of the batch norm (core.py:300-321). TensorFlow numbers equal names in the order in which
  the variables are made: ``weights``, ``weights_1``, ``weights_2``, ….
- In each layer, ``weights`` are the kernel (layers.py:351, :383, :660), then the slope of the
  activation (core.py:229), then the residual scale (core.py:88).
- The kernel of a hexagonal layer is one variable for each cell, row by row (hex/conv.py:173-233).
  Of rotated kernels it is one for each place, from the centre outwards, ring by ring, and then one
  that connects the channels (hex/rotation.py:347-419).

Names and predictions were compared with networks that this code built and saved, also with
TensorFlow 1.15 (dnn_reco and TFScripts v0.2.0); no published checkpoint was at hand.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dnn_reco.errors import ModelError
from dnn_reco.tf_import.variables import (
    OTHER_CONFIG,
    ReferenceVariable,
    Shapes,
    layer_shapes,
)

_MODELS = "dnn_reco.modules.models.general_IC86_models"
WITH_PREDICTION_CLASS = f"{_MODELS}.general_model_IC86"
MODEL_CLASSES = (WITH_PREDICTION_CLASS, f"{_MODELS}.general_model_IC86_opt4")

UNVERIFIED = (
    "models of the older generation were compared with networks that its layer library built and "
    "saved, not with a published model; compare with trusted predictions"
)

# general_IC86_models.py:200-236, :487-590: only `_opt4` reads these settings.
IGNORED_WITH_PREDICTION = ("dir_z_independent", "limit_dir_vec")

_SCOPES = {"fc_unc": "model_unc"}
_SCOPE = "model_pred"
_OF_NETWORK = re.compile(r"model_(?:pred|unc)/[^/]+")
_ITERATIONS = re.compile(r".*-(\d{1,18})")


def older_variables(shapes: Shapes) -> list[ReferenceVariable]:
    """The variables of a network, with their names in a checkpoint.

    Parameters
    ----------
    shapes
        Shape of each of our parameters, by its name (``ic78.0.bn.scale``).

    Raises
    ------
    ModelError
        If a parameter has no counterpart there.
    """
    counts: Counter[str] = Counter()
    variables = []
    for (branch, number), kinds in layer_shapes(shapes).items():
        for kind, shape in kinds.items():
            name = f"{_SCOPES.get(branch, _SCOPE)}/{_base_name(kind)}"
            numbered = f"{name}_{counts[name]}" if counts[name] else name
            counts[name] += 1
            variables.append(ReferenceVariable(f"{branch}/{number}/{kind}", shape, numbered))
    return variables


def _base_name(kind: str) -> str:
    """Name of a kind of variables, without scope and number."""
    if kind.startswith("bn_"):
        return kind.replace("bn_", "BN_")
    return "biases" if kind == "biases" else "weights"


def check_older_variables(found: Shapes, expected: Sequence[ReferenceVariable]) -> None:
    """Check names and shapes of a checkpoint's variables.

    Variables outside of the network's scopes are ignored, and those of optimizers (a variable's
    name, with a slash and another name behind).

    Parameters
    ----------
    found
        Shape of each variable, by name.
    expected
        What they should be.

    Raises
    ------
    ModelError
        If they differ; it names the first that differs.
    """
    for variable in expected:
        has = f"the network has '{variable.key}' of shape {list(variable.shape)}"
        if variable.name not in found:
            raise ModelError(f"it has no variable '{variable.name}', where {has}. {OTHER_CONFIG}")
        if found[variable.name] != variable.shape:
            raise ModelError(
                f"its variable '{variable.name}' has shape {list(found[variable.name])}, where "
                f"{has}. {OTHER_CONFIG}"
            )
    names = {variable.name for variable in expected}
    unknown = sorted(n for n in found if _OF_NETWORK.fullmatch(n) and n not in names)
    if unknown:
        raise ModelError(
            f"it has {len(unknown)} variables that the network does not have, such as "
            f"{unknown[0][:100]!r} of shape {list(found[unknown[0]])}. {OTHER_CONFIG}"
        )


def older_iterations(checkpoint: str) -> int:
    """Number of iterations, from the name of a checkpoint (``model-5000``).

    Raises
    ------
    ModelError
        If the name does not end with it.
    """
    match = _ITERATIONS.fullmatch(checkpoint)
    if match is None:
        raise ModelError(
            f"the name of the checkpoint, '{checkpoint}', does not end with the number of its "
            "iterations, as in 'model-5000'"
        )
    return int(match[1])


def check_older_settings(kwargs: Mapping[str, Any]) -> None:
    """Check that the TensorFlow version does with `model_kwargs` what this one does.

    Raises
    ------
    ModelError
        If there is a setting that it treats in another way.
    """
    # hex/icecube.py:286 stacks the rows of strings behind their loop: only the last one counts
    block = kwargs.get("conv_ic78_settings")
    zero_out = block.get("hex_zero_out_list") if isinstance(block, Mapping) else None
    if any(zero_out) if isinstance(zero_out, list | tuple) else zero_out:
        raise ModelError(
            "hex_zero_out_list is on in conv_IC78_settings: the TensorFlow version's older "
            "generation also sets cells of real strings to 0, which is not reproduced here"
        )


def ignored_settings(model_class: str, kwargs: Mapping[str, Any]) -> list[str]:
    """Settings in `model_kwargs` that the TensorFlow version does not read for this network."""
    if model_class != WITH_PREDICTION_CLASS:
        return []
    return [key for key in IGNORED_WITH_PREDICTION if kwargs.get(key)]
