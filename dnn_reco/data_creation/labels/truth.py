"""Simulated truth of an event, from the objects of a frame."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data_creation.labels.particles import is_neutrino
from dnn_reco.errors import DataError
from dnn_reco.i3.objects import MCTree, Particle

TREE_KEY, TREE_BEFORE_PROPAGATION_KEY = "I3MCTree", "I3MCTree_preMuonProp"
TRACKS_KEY, WEIGHTS_KEY, CORSIKA_WEIGHTS_KEY = "MMCTrackList", "I3MCWeightDict", "CorsikaWeightMap"
PRIMARY_KEY = "MCPrimary"

NOT_IN_TREE = (
    f"the primary is not in '{TREE_KEY}': set PrimaryKey to the key of a particle of that tree"
)
"""Message of an error."""


class Frame(Protocol):
    """Decoded objects by key."""

    def __contains__(self, key: object, /) -> bool: ...

    def __getitem__(self, key: str, /) -> Any: ...


@dataclass(frozen=True)
class MCTruth:
    """The simulated particles of an event.

    Attributes
    ----------
    tree
        All particles.
    primary
        The particle that the event was simulated for; None: there are no particles at all, only
        noise.
    tracks
        Muons and taus that were propagated, of type `MMC_TRACK`; None: no list of them exists.
    weights
        Values of the weights by name; empty if there are none.
    """

    tree: MCTree
    primary: Particle | None
    tracks: NDArray[np.void] | None = None
    weights: Mapping[str, float] = field(default_factory=dict)


def mc_truth(frame: Frame, primary_key: str = PRIMARY_KEY) -> MCTruth:
    """The simulated particles of an event, from its frame.

    Parameters
    ----------
    frame
        The frame, with objects of its parents.
    primary_key
        Key of the primary. Where there is no `MCPrimary`, it is :func:`weighted_primary`; any
        other key must exist, unless the tree is empty.

    Raises
    ------
    DataError
        If the tree or the primary is missing, or is not what it should be.
    """
    if TREE_KEY not in frame:
        before = TREE_BEFORE_PROPAGATION_KEY in frame
        raise DataError(
            f"the frame lacks '{TREE_KEY}', which labels are made from"
            + (f": '{TREE_BEFORE_PROPAGATION_KEY}' has no lengths of muons" if before else "")
            + "; labels exist only for simulated events with propagated particles"
        )
    tree = _object(frame, TREE_KEY, MCTree)
    return MCTruth(
        tree,
        _primary(frame, primary_key, tree),
        _object(frame, TRACKS_KEY, np.ndarray) if TRACKS_KEY in frame else None,
        _object(frame, WEIGHTS_KEY, Mapping) if WEIGHTS_KEY in frame else {},
    )


def _primary(frame: Frame, key: str, tree: MCTree) -> Particle | None:
    if key in frame:
        primary: Particle = _object(frame, key, Particle)
        return primary
    if len(tree) == 0:
        return None
    if key == PRIMARY_KEY:
        return weighted_primary(frame)
    raise DataError(f"the frame lacks '{key}', the primary that PrimaryKey names")


def weighted_primary(frame: Frame, tree_key: str | None = None) -> Particle | None:
    """The primary that the event was simulated for, without those of coincident events.

    If there are several, it is the one whose energy is closest to that in the weights of CORSIKA,
    or else the only neutrino.

    Parameters
    ----------
    frame
        The frame, with objects of its parents.
    tree_key
        Key of the tree; None: the tree before propagation, or if it is missing or empty the other.

    Returns
    -------
    primary
        None if the tree is empty.

    Raises
    ------
    DataError
        If there is no tree, or if the weights do not determine which primary it is.
    """
    keys = (TREE_BEFORE_PROPAGATION_KEY, TREE_KEY) if tree_key is None else (tree_key,)
    trees = [_object(frame, key, MCTree) for key in keys if key in frame]
    if not trees:
        raise DataError(f"the frame lacks {' and '.join(map(repr, keys))}: there is no primary")
    tree = next((tree for tree in trees if len(tree)), trees[-1])
    primaries = tree.particles[tree.primaries]
    if len(primaries) == 0:
        return None
    number = 0 if len(primaries) == 1 else _weighted(frame, primaries)
    return Particle.of(primaries[number])


def _weighted(frame: Frame, primaries: NDArray[np.void]) -> int:
    if CORSIKA_WEIGHTS_KEY in frame:
        return _of_corsika(frame[CORSIKA_WEIGHTS_KEY], primaries)
    neutrinos = np.flatnonzero(is_neutrino(primaries["pdg"]))
    if WEIGHTS_KEY not in frame or len(neutrinos) != 1:
        raise DataError(
            f"the tree has {len(primaries)} primaries, of them {len(neutrinos)} neutrinos, and "
            f"the weights ('{CORSIKA_WEIGHTS_KEY}', '{WEIGHTS_KEY}') do not determine which one "
            "the event was simulated for: set PrimaryKey to the key of that particle"
        )
    return int(neutrinos[0])


def _of_corsika(weights: Mapping[str, float], primaries: NDArray[np.void]) -> int:
    """The primary with the energy that was drawn, which only the weight holds in some files."""
    if "PrimaryEnergy" in weights:
        energy = weights["PrimaryEnergy"]
    elif "PrimarySpectralIndex" in weights and "Weight" in weights:
        energy = weights["Weight"] ** (-1.0 / weights["PrimarySpectralIndex"])
    else:
        return 0
    distance = np.abs(primaries["energy"] - energy)
    if np.isnan(distance).all():
        raise DataError(f"'{CORSIKA_WEIGHTS_KEY}' and the primaries have no energies in common")
    return int(np.nanargmin(distance))


def _object(frame: Frame, key: str, kind: type) -> Any:
    value = frame[key]
    if not isinstance(value, kind):
        raise DataError(f"'{key}' is of type {type(value).__name__}, not {kind.__name__}")
    return value
