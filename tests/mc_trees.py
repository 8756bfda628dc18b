"""Hand-made trees of simulated particles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.i3.objects import MMC_TRACK, PARTICLE, MCTree, Particle

IN_ICE, ANYWHERE, DARK = 20, 0, 90
HADRONS, BREMS = -2000001006, -2000001001
DOWN = {"zenith": 0.0, "azimuth": 0.0}  # moves along (0, 0, -1)


@dataclass
class Node:
    """A particle and what it made."""

    pdg: int
    energy: float
    z: float
    daughters: Sequence[Node] = ()
    more: dict[str, Any] = field(default_factory=dict)

    def particle(self) -> Particle:
        given = {"location": IN_ICE, "x": 0.0, "y": 0.0, "time": 0.0, "length": 0.0, **DOWN}
        return Particle(pdg=self.pdg, energy=self.energy, z=self.z, **{**given, **self.more})


def node(pdg: int, energy: float, z: float, *daughters: Node, **more: Any) -> Node:
    """A particle at (0, 0, z), moving down, in the ice, with other attributes in `more`."""
    return Node(pdg, energy, z, daughters, more)


def tree_of(*roots: Node) -> MCTree:
    """A tree, with ascending ids."""
    particles: list[Particle] = []
    parents: list[int] = []

    def add(each: Node, parent: int) -> None:
        particles.append(each.particle())
        parents.append(parent)
        number = len(parents) - 1
        for daughter in each.daughters:
            add(daughter, number)

    for root in roots:
        add(root, -1)
    rows = np.zeros(len(particles), PARTICLE)
    for i, particle in enumerate(particles):
        rows[i] = particle.to_numpy()[0]
        rows[i]["major_id"], rows[i]["minor_id"] = 2**63 + 5, i
    return MCTree(rows, np.array(parents, dtype=np.int64))


def track_of(
    tree: MCTree,
    number: int,
    enter: tuple[float, float] | None = None,
    leave: tuple[float, float] | None = None,
) -> NDArray[np.void]:
    """An entry [1] of the list of tracks: z in m and energy in GeV where it enters and leaves."""
    track = np.zeros(1, MMC_TRACK)
    track["particle"] = tree.particles[number]
    for end, point in (("i", enter), ("f", leave)):
        if point is not None:
            track[f"x{end}"], track[f"y{end}"] = (tree.particles[axis][number] for axis in "xy")
            track[f"z{end}"], track[f"e{end}"] = point
    return track


def primary_of(tree: MCTree, number: int = 0) -> Particle:
    return Particle.of(tree.particles[number])
