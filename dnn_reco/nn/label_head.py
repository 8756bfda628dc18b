"""From the last dense layer to labels: direction vectors, angles, classification scores."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dnn_reco.errors import ModelError
from dnn_reco.nn.direction import DirectionSettings, shape_direction, zenith_and_azimuth
from dnn_reco.nn.interface import LabelKeys, NetworkSpec
from dnn_reco.nn.label_transform import LabelTransform

_DIRECTION_KEYS = {
    "dir_x": "label_dir_x_key",
    "dir_y": "label_dir_y_key",
    "dir_z": "label_dir_z_key",
    "zenith": "label_zenith_key",
    "azimuth": "label_azimuth_key",
}


class LabelHead(nn.Module):
    """Derive consistent labels from raw predictions.

    Direction vectors are limited and normalised, zenith and azimuth computed from them, and
    classification labels mapped to 0 … 1 by a sigmoid, all in physical units. Other labels are the
    raw predictions, unchanged.

    Parameters
    ----------
    spec
        Label names, special labels, transformation.
    direction
        How direction vectors are treated.

    Raises
    ------
    ModelError
        If direction vectors are limited or normalised but a direction label is missing, or a label
        is named like a classification (`p_…`) but is not among `label_pid_keys`.
    """

    _classes: Tensor
    _changed: Tensor
    _direction: Tensor

    def __init__(self, spec: NetworkSpec, direction: DirectionSettings) -> None:
        super().__init__()
        names = spec.label_names
        self.settings = direction
        self.transform = LabelTransform(spec.transformation)
        self.treats_directions = direction.enforce_norm or direction.limit is not None
        indices = _direction_indices(names, spec.label_keys) if self.treats_directions else []
        check_classes(names, spec.label_keys)
        classes = torch.tensor([name in spec.label_keys.pid for name in names])
        changed = classes.clone()
        changed[indices] = True
        self.register_buffer("_classes", classes, persistent=False)
        self.register_buffer("_changed", changed, persistent=False)
        self.register_buffer(
            "_direction", torch.tensor(indices, dtype=torch.int64), persistent=False
        )

    def forward(self, raw_trafo: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Labels in the transformed space, in physical units, and logits; all [B, L].

        Parameters
        ----------
        raw_trafo
            Output of the last dense layer [B, L].
        """
        raw = self.transform.inverse(raw_trafo)
        labels = torch.where(self._classes, torch.sigmoid(raw), raw)
        logits = torch.where(self._classes, raw, 0)
        if self.treats_directions:
            vector = shape_direction(raw.index_select(1, self._direction[:3]), self.settings)
            angles = torch.stack(zenith_and_azimuth(vector), dim=1)
            labels = labels.index_copy(1, self._direction, torch.cat([vector, angles], dim=1))
        labels_trafo = torch.where(self._changed, self.transform(labels), raw_trafo)
        return labels_trafo, labels, logits


def _direction_indices(names: Sequence[str], keys: LabelKeys) -> list[int]:
    """Columns of direction x, y, z, zenith and azimuth among the labels."""
    indices = []
    for field, key in _DIRECTION_KEYS.items():
        name = getattr(keys, field)
        if name not in names:
            raise ModelError(
                f"enforce_direction_norm and limit_dir_vec need the label that '{key}' names, but "
                f"{name!r} is not among the labels {list(names)}. Correct '{key}', or switch both "
                f"off (model_kwargs.enforce_direction_norm: False)."
            )
        indices.append(list(names).index(name))
    return indices


def check_classes(names: Sequence[str], keys: LabelKeys) -> None:
    """Check that labels named like classifications (`p_…`) are among `label_pid_keys`.

    Raises
    ------
    ModelError
        Naming the labels.
    """
    missing = [name for name in names if name.startswith("p_") and name not in keys.pid]
    if missing:
        raise ModelError(
            f"the labels {missing} begin with 'p_' as classification labels do, but "
            f"'label_pid_keys' does not list them. Add them there, or rename them."
        )
