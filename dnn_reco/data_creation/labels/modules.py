"""The reference's modules that make labels, by their names and with their settings."""

from collections.abc import Mapping
from typing import Annotated, Any, Protocol

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from dnn_reco.config.typed_settings import STRICT, typed_settings
from dnn_reco.config.value_types import Allowed, Flag, NotNegativeNumber, Number, Text
from dnn_reco.data_creation.labels import cascade_labels, cascade_parameters, muon_scattering
from dnn_reco.data_creation.labels.truth import PRIMARY_KEY, Frame, mc_truth, weighted_primary
from dnn_reco.detector.hull import detector_hull
from dnn_reco.detector.named_volumes import VOLUME_NAMES, named_volume
from dnn_reco.errors import ConfigError
from dnn_reco.suggestions import did_you_mean

CASCADE_KEY = "MCCascade"
"""Key of the particle that `MCLabelsCascadeParameters` adds."""


def _volume_name(name: str) -> str:
    named_volume(name)
    return name


_Volume = Annotated[
    Text, AfterValidator(_volume_name), Allowed(f"one of {', '.join(VOLUME_NAMES)}, or empty")
]


def _boundary(distance: float) -> float:
    if distance < 0 and detector_hull().extended(distance).is_empty():
        raise ValueError("nothing is left of the detector so far inside")
    return distance


_Boundary = Annotated[
    Number,
    AfterValidator(_boundary),
    Allowed("a a length in m; a large negative value leaves no volume"),
]


class LabelModule(Protocol):
    """A module with its settings."""

    @property
    def run_on_daq_frames(self) -> bool:
        """Whether it runs on Q frames, so that their P frames inherit what it adds."""

    def outputs(self, frame: Frame) -> dict[str, Any]:
        """Objects to add to a frame, by key: labels by name, and particles.

        Raises
        ------
        DataError
            If the particles of the frame cannot be used.
        """

    def columns(self) -> dict[str, tuple[str, ...]]:
        """Names of the labels that :meth:`outputs` gives for each frame, by key."""


@dataclass(frozen=True, config=STRICT)
class MCLabels:
    """Settings of all modules.

    Attributes
    ----------
    primary_key
        Key of the particle that the event was simulated for; `MCPrimary` is found in the tree if
        the frame lacks it.
    convex_hull
        The volume that muons enter, by name (:func:`dnn_reco.detector.named_volumes.named_volume`);
        None: the hull around the outer strings.
    output_key
        Key of the labels.
    run_on_daq_frames
        Whether the module runs on Q frames.
    pulse_map_string, mcpe_series_map_name
        Without effect: these labels depend on no pulses.
    """

    primary_key: Annotated[Text, Field(alias="PrimaryKey")] = PRIMARY_KEY
    convex_hull: Annotated[_Volume | None, Field(alias="ConvexHull")] = None
    output_key: Annotated[Text, Field(alias="OutputKey")] = "LabelsDeepLearning"
    run_on_daq_frames: Annotated[Flag, Field(alias="RunOnDAQFrames")] = False
    pulse_map_string: Annotated[Text | None, Field(alias="PulseMapString")] = "InIcePulses"
    mcpe_series_map_name: Annotated[Text | None, Field(alias="MCPESeriesMapName")] = (
        "I3MCPESeriesMap"
    )


@dataclass(frozen=True, config=STRICT)
class MCLabelsCascades(MCLabels):
    """Labels of the kind of event, its vertex, energies and muons.

    Attributes
    ----------
    extend_boundary
        Distance in m from the detector up to which an interaction is starting; negative: inside.
    """

    extend_boundary: Annotated[_Boundary, Field(alias="ExtendBoundary")] = 0.0

    def outputs(self, frame: Frame) -> dict[str, Any]:
        """See :class:`LabelModule`."""
        truth = mc_truth(frame, self.primary_key)
        volume = named_volume(self.convex_hull)
        labels = cascade_labels.cascade_labels(truth, volume, self.extend_boundary)
        return {self.output_key: labels}

    def columns(self) -> dict[str, tuple[str, ...]]:
        """See :class:`LabelModule`."""
        return {self.output_key: cascade_labels.COLUMNS}


@dataclass(frozen=True, config=STRICT)
class MCLabelsCascadeParameters(MCLabels):
    """Labels of the shower at the interaction, and the shower as the particle `MCCascade`."""

    def outputs(self, frame: Frame) -> dict[str, Any]:
        """See :class:`LabelModule`."""
        truth = mc_truth(frame, self.primary_key)
        labels, particle = cascade_parameters.cascade_parameters(
            truth, named_volume(self.convex_hull)
        )
        return {self.output_key: labels, CASCADE_KEY: particle}

    def columns(self) -> dict[str, tuple[str, ...]]:
        """See :class:`LabelModule`."""
        return {self.output_key: cascade_parameters.COLUMNS}


@dataclass(frozen=True, config=STRICT)
class MCLabelsMuonScattering(MCLabels):
    """Labels of muons with one large loss in the detector; see `ScatteringCuts`."""

    min_length: Annotated[NotNegativeNumber, Field(alias="MinLength")] = 1000.0
    min_length_before: Annotated[NotNegativeNumber, Field(alias="MinLengthBefore")] = 400.0
    min_length_after: Annotated[NotNegativeNumber, Field(alias="MinLengthAfter")] = 400.0
    min_entry_energy: Annotated[NotNegativeNumber, Field(alias="MinMuonEntryEnergy")] = 10_000.0
    min_relative_loss: Annotated[NotNegativeNumber, Field(alias="MinRelativeLossEnergy")] = 0.5

    def outputs(self, frame: Frame) -> dict[str, Any]:
        """See :class:`LabelModule`."""
        cuts = muon_scattering.ScatteringCuts(
            length=self.min_length,
            length_before=self.min_length_before,
            length_after=self.min_length_after,
            entry_energy=self.min_entry_energy,
            loss=self.min_relative_loss,
        )
        truth = mc_truth(frame, self.primary_key)
        volume = named_volume(self.convex_hull)
        return {self.output_key: muon_scattering.muon_scattering_labels(truth, volume, cuts)}

    def columns(self) -> dict[str, tuple[str, ...]]:
        """See :class:`LabelModule`."""
        return {self.output_key: muon_scattering.COLUMNS}


@dataclass(frozen=True, config=STRICT)
class AddWeightedPrimary:
    """The particle `MCPrimary`, where there is none, as in the reference's `add_weighted_primary`.

    Attributes
    ----------
    output_key
        Key of the particle.
    tree_key
        Key of the tree; None: the tree before propagation, or if it is missing or empty the other.
    run_on_daq_frames
        Whether the module runs on Q frames.
    """

    output_key: Annotated[Text, Field(alias="MCPrimary")] = PRIMARY_KEY
    tree_key: Annotated[Text | None, Field(alias="mctree_name")] = None
    run_on_daq_frames: Annotated[Flag, Field(alias="RunOnDAQFrames")] = False

    def outputs(self, frame: Frame) -> dict[str, Any]:
        """See :class:`LabelModule`; nothing for events without any particle."""
        if self.output_key in frame:
            return {}
        primary = weighted_primary(frame, self.tree_key)
        return {} if primary is None else {self.output_key: primary}

    def columns(self) -> dict[str, tuple[str, ...]]:
        """See :class:`LabelModule`."""
        return {}


LABEL_MODULES: dict[str, type[LabelModule]] = {
    "MCLabelsCascades": MCLabelsCascades,
    "MCLabelsCascadeParameters": MCLabelsCascadeParameters,
    "MCLabelsMuonScattering": MCLabelsMuonScattering,
    "add_weighted_primary": AddWeightedPrimary,
}
"""Modules by the last part of their dotted names in the reference."""


def label_module(name: str, settings: Mapping[str, Any] | None, key: str) -> LabelModule:
    """A module of the reference by its name, with its settings.

    Parameters
    ----------
    name
        Its dotted name, such as `ic3_labels.labels.modules.MCLabelsCascades`; only the last part
        counts.
    settings
        Its settings, by the reference's names; None: there are none.
    key
        Their key path in the config, for messages.

    Raises
    ------
    ConfigError
        For a module or setting that does not exist, or a wrong value.
    """
    last = name.rpartition(".")[2]
    if last not in LABEL_MODULES:
        hint = did_you_mean(last, LABEL_MODULES)
        raise ConfigError(
            f"{key}: no module '{name}' for labels.{hint} Known: {', '.join(LABEL_MODULES)}."
        )
    return typed_settings(
        LABEL_MODULES[last], {} if settings is None else settings, key, ConfigError
    )
