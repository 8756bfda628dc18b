"""Which particle of a tree came from which, for all particles at once."""

import numpy as np
from numpy.typing import NDArray

from dnn_reco.i3.objects import MCTree, Particle


def is_leaf(tree: MCTree) -> NDArray[np.bool_]:
    """Whether each particle [n] made no other."""
    leaf = np.ones(len(tree), dtype=bool)
    leaf[tree.parents[tree.parents >= 0]] = False
    return leaf


def has_ancestor(tree: MCTree, marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether any ancestor of each particle [n] is marked [n].

    The number of steps is the logarithm of the depth: each doubles the way up that was seen.
    """
    jump = np.append(tree.parents, -1)  # the last one stands for "no ancestor"
    found = np.append(marked, False)[jump]
    while np.any(jump >= 0):
        found |= found[jump]
        jump = jump[jump]
    return np.asarray(found[:-1])


def find(tree: MCTree, particle: Particle) -> int | None:
    """Number of the first particle with the same major and minor id; None if there is none."""
    same = np.flatnonzero(_same_id(tree, particle.major_id, particle.minor_id))
    return int(same[0]) if len(same) else None


def find_equal(tree: MCTree, particle: NDArray[np.void]) -> int | None:
    """Number of the particle that equals one [1] of type `PARTICLE`; None if there is none.

    Equal are code, energy, position and direction; ids need not be unique in old files, so the
    first of all equal particles is returned if none has the id.
    """
    names = ("pdg", "energy", "x", "y", "z", "zenith", "azimuth")
    row = particle[0]
    equal = np.logical_and.reduce([tree.particles[name] == row[name] for name in names])
    with_id = equal & _same_id(tree, row["major_id"], row["minor_id"])
    numbers = np.flatnonzero(with_id if with_id.any() else equal)
    return int(numbers[0]) if len(numbers) else None


def _same_id(tree: MCTree, major: int, minor: int) -> NDArray[np.bool_]:
    particles = tree.particles
    return np.asarray((particles["minor_id"] == minor) & (particles["major_id"] == major))
