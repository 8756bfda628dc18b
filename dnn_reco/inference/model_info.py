"""What a trained model predicts and reads, as plain values: known without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.file_events import InputTables
from dnn_reco.nn.density_layout import DensityShape


@dataclass(frozen=True)
class LabelInfo:
    """A label that a model predicts.

    Attributes
    ----------
    name
        Its name.
    unit
        Its unit, as far as config and name show it: "GeV", "m", "ns", "rad" or "".
    has_log
        Whether it is predicted as ln(1 + x), so that its uncertainty is that of ln(1 + x).
    is_trained
        Whether it has a weight in the loss; predictions of all others mean nothing.
    is_relative_time
        Whether the network predicts it relative to the event's time offset.
    is_class
        Whether it is a probability.
    """

    name: str
    unit: str = ""
    has_log: bool = False
    is_trained: bool = True
    is_relative_time: bool = False
    is_class: bool = False


@dataclass(frozen=True)
class ModelInfo:
    """What a model predicts and reads.

    Attributes
    ----------
    name
        Name of the model.
    labels
        All L labels that the network predicts, in order.
    num_features
        Number of input features F of a DOM.
    init_values
        Values [F] of a DOM without hit (`DOM_init_values`).
    float_precision
        "float32" or "float64".
    misc_names
        Names of the misc data that the network reads; empty: it reads none.
    particle
        Label by property of the reconstructed particle (`label_particle_keys`).
    zenith, azimuth
        The labels that are the angles of the direction; None: there are none.
    direction
        The labels that are x, y and z of the direction vector; None: there are not all three.
    input_tables
        Names of the tables that it was trained with.
    data_settings
        How its training data were made; None: unknown.
    densities
        Shapes of densities that the network predicts; a label without has a normal distribution,
        a direction without that of von Mises-Fisher.
    """

    name: str
    labels: tuple[LabelInfo, ...]
    num_features: int
    init_values: tuple[float, ...]
    float_precision: str = "float32"
    misc_names: tuple[str, ...] = ()
    particle: Mapping[str, str] = field(default_factory=dict)
    zenith: str | None = None
    azimuth: str | None = None
    direction: tuple[str, str, str] | None = None
    input_tables: InputTables = field(default_factory=InputTables)
    data_settings: DataSettings | None = None
    densities: tuple[DensityShape, ...] = ()

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of all labels."""
        return tuple(label.name for label in self.labels)

    @property
    def trained_labels(self) -> tuple[str, ...]:
        """Names of the labels that the network was trained for."""
        return tuple(label.name for label in self.labels if label.is_trained)

    @property
    def has_log(self) -> tuple[bool, ...]:
        """Whether each label is predicted with logarithm."""
        return tuple(label.has_log for label in self.labels)

    @property
    def relative_times(self) -> NDArray[np.bool_]:
        """Which labels [L] are predicted relative to the event's time offset."""
        return np.array([label.is_relative_time for label in self.labels], dtype=bool)


_UNITS_OF_PARTS = {"energy": "GeV", "time": "ns", "zenith": "rad", "azimuth": "rad"} | (
    dict.fromkeys(("length", "pos_x", "pos_y", "pos_z"), "m")
)
# Labels of IceCube's labelling tools are named by what they are; the first word that occurs counts.
_UNITS_OF_WORDS = {"direction": "", "energy": "GeV", "time": "ns"} | (
    {"zenith": "rad", "azimuth": "rad", "length": "m", "distance": "m", "vertex": "m", "pos_": "m"}
)


def label_unit(name: str, particle: Mapping[str, str]) -> str:
    """Unit of a label: by its role in the particle, else by its name, "" where neither shows it.

    Parameters
    ----------
    name
        Name of the label.
    particle
        Label by property of the particle (`label_particle_keys`).
    """
    parts = [part for part, label in particle.items() if label == name]
    of_parts = [_UNITS_OF_PARTS[part] for part in parts if part in _UNITS_OF_PARTS]
    of_words = [unit for word, unit in _UNITS_OF_WORDS.items() if word in name.lower()]
    return next(iter([*of_parts, *of_words]), "")
