"""Trees of particles and triggers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.constants import SPEED_OF_LIGHT
from dnn_reco.detector.directions import vector_of
from dnn_reco.errors import DataError
from dnn_reco.i3.archive import F8, I4, U4, U8, InputArchive, OutputArchive
from dnn_reco.i3.layout import Rows
from dnn_reco.i3.objects import PARTICLE, MCTree, Trigger, TriggerKey
from dnn_reco.i3.records import PARTICLE_RECORD, STOCHASTIC_RECORD

_BITS_OF_BLOCK = 65535
_WORD = 64


def read_mc_tree(archive: InputArchive, version: int) -> MCTree:
    """A tree whose head has been read.

    Raises
    ------
    DataError
        If its version is not known or it is damaged.
    """
    if version == 1:
        return _read_linked_tree(archive)
    if version == 0:
        rows, parents = _read_nested(archive, lambda: archive.records(PARTICLE_RECORD, 1)[0])
        return MCTree(np.array(rows, PARTICLE), np.array(parents, dtype=np.int64))
    raise DataError(f"a tree in version {version} cannot be read")


def _read_linked_tree(archive: InputArchive) -> MCTree:
    """Bits of the walk along (first child, next sibling), and the particles, in blocks."""
    bits: list[NDArray[np.uint8]] = []
    particles: list[NDArray[np.void]] = []
    while True:
        num_bits: int = archive.number(U4)
        if num_bits == 0:
            break
        if num_bits > _BITS_OF_BLOCK:
            raise DataError(f"a block of a tree has {num_bits} bits")
        words = archive.numbers("u8")
        if len(words) != -(-num_bits // _WORD):
            raise DataError(f"{num_bits} bits of a tree are in {len(words)} words")
        block = np.unpackbits(words.view(np.uint8), bitorder="little")[:num_bits]
        bits.append(block)
        particles.append(archive.records(PARTICLE_RECORD, int(block.sum())))
        if num_bits != _BITS_OF_BLOCK:
            break
    walk = np.concatenate([np.zeros(0, np.uint8), *bits]).tolist()
    return MCTree(
        np.concatenate([np.zeros(0, PARTICLE), *particles]),
        np.array(_parents(walk), dtype=np.int64),
    )


def _parents(walk: list[int]) -> list[int]:
    """Parent of each particle from the bits of the walk.

    After a particle, 1 is its first child; 0 means that it has none, or no further sibling.
    """
    if walk and not walk[0]:
        raise DataError("a tree begins without a particle")
    parents = [-1] if walk else []
    current, is_child = 0, True
    for bit in walk[1:]:
        if current < 0:
            raise DataError("a tree continues after its end")
        if bit:
            parents.append(current if is_child else parents[current])
            current, is_child = len(parents) - 1, True
        elif is_child:
            is_child = False
        else:
            current = parents[current]
    if current >= 0 and walk:
        raise DataError("a tree ends too early")
    return parents


def _walk(parents: list[int]) -> list[int]:
    """The bits of the walk; the inverse of `_parents`."""
    walk: list[int] = []
    for number, parent in enumerate(parents):
        current = number - 1
        if current >= 0 and parent != current:
            walk.append(0)
            while parents[current] != parent:
                walk.append(0)
                current = parents[current]
        walk.append(1)
    current = len(parents) - 1
    if parents:
        walk.append(0)
    while current >= 0:
        walk.append(0)
        current = parents[current]
    return walk


def write_mc_tree(archive: OutputArchive, value: MCTree) -> None:
    """Append a tree in version 1.

    Raises
    ------
    DataError
        If a particle does not follow its parent, or the parent's descendants.
    """
    parents = value.parents.tolist()
    _check_order(parents, len(value.particles))
    walk = _walk(parents)
    first = 0
    for start in range(0, len(walk), _BITS_OF_BLOCK):
        block = np.array(walk[start : start + _BITS_OF_BLOCK], dtype=np.uint8)
        words = np.zeros(-(-len(block) // _WORD) * 8, dtype=np.uint8)
        packed = np.packbits(block, bitorder="little")
        words[: len(packed)] = packed
        archive.number(U4, len(block))
        archive.numbers("u8", words.view("<u8"))
        stop = first + int(block.sum())
        archive.records(PARTICLE_RECORD, value.particles[first:stop])
        first = stop
    if len(walk) % _BITS_OF_BLOCK == 0:
        archive.number(U4, 0)


def _check_order(parents: list[int], num_particles: int) -> None:
    if len(parents) != num_particles:
        raise DataError(f"a tree has {num_particles} particles and {len(parents)} parents")
    ancestors = [-1]  # of the particle before, and itself
    for number, parent in enumerate(parents):
        while ancestors and ancestors[-1] != parent:
            ancestors.pop()
        if not ancestors:
            raise DataError(
                f"particle {number} of a tree must follow its parent {parent} and its siblings"
            )
        ancestors.append(number)


# --------------------------------------------------------------------------------------------------
# Trees with losses apart
# --------------------------------------------------------------------------------------------------
_IN_ICE = 20  # location
_PAIR_OF_NUMBERS = np.dtype([("parent", "<u4"), ("count", "<u4")])


def read_linearized_tree(archive: InputArchive, version: int) -> MCTree:
    """A tree whose losses along muons and taus are stored apart, whose head has been read.

    Of those losses the file has time, energy, kind and id; they move as the particle that made
    them, and are among what else it made in the order of time. Source: IceTray,
    I3LinearizedMCTree.

    Raises
    ------
    DataError
        If its version is not known or it is damaged.
    """
    if version > 1:
        raise DataError(f"a tree with losses apart in version {version} cannot be read")

    def content(of_version: int) -> MCTree:
        archive.base()
        return read_mc_tree(archive, of_version)

    tree: MCTree = archive.either("I3MCTree", content)
    groups = _groups_of_losses(archive, version, tree)
    record = STOCHASTIC_RECORD
    number = archive.container(f"vector<{record.name}>", 4)
    record = replace(record, tracked=archive.is_tracked(record.name))
    losses = archive.records(record, number)
    if sum(count for _, count in groups) != len(losses):
        raise DataError(
            f"a tree has {len(losses)} losses, but its particles declare another number"
        )
    return _with_losses(tree, groups, losses)


def _groups_of_losses(archive: InputArchive, version: int, tree: MCTree) -> list[tuple[int, int]]:
    """Number of a particle in the tree, and how many losses it made, of each that made any."""
    if version == 0:
        number = archive.container("vector<pair<number, number>>", _PAIR_OF_NUMBERS.itemsize)
        pairs = archive.array(_PAIR_OF_NUMBERS, number)
        if (pairs["parent"] >= len(tree)).any():
            raise DataError("a tree has losses of a particle that is not in it")
        return list(zip(pairs["parent"].tolist(), pairs["count"].tolist(), strict=True))
    ids = zip(*(tree.particles[name].tolist() for name in ("major_id", "minor_id")), strict=True)
    numbers = {each: number for number, each in reversed(list(enumerate(ids)))}
    groups = []
    for _ in range(archive.container("vector<pair<I3ParticleID, number>>", 4)):
        archive.class_version("pair<I3ParticleID, number>")
        each = archive.either("I3ParticleID", lambda _: (archive.number(U8), archive.number(I4)))
        if each not in numbers:
            raise DataError(f"a tree has losses of a particle {each} that is not in it")
        groups.append((numbers[each], archive.number(U4)))
    return groups


def _with_losses(tree: MCTree, groups: list[tuple[int, int]], losses: Rows) -> MCTree:
    """The tree with losses [m] among the daughters of the particles that made them."""
    makers = np.repeat([n for n, _ in groups], [count for _, count in groups]).astype(np.int64)
    particles = np.concatenate([tree.particles, _loss_particles(tree.particles[makers], losses)])
    times = particles["time"].tolist()
    daughters: list[list[int]] = [[] for _ in range(len(particles) + 1)]  # last: primaries
    for number, parent in enumerate(tree.parents.tolist()):
        daughters[parent].append(number)
    numbers = iter(range(len(tree), len(particles)))
    for maker, count in groups:
        siblings, place = daughters[maker], 0
        for number in islice(numbers, count):
            while place < len(siblings) and times[number] >= times[siblings[place]]:
                place += 1
            siblings.insert(place, number)
    order: list[int] = []
    parents: list[int] = []
    waiting = [(number, -1) for number in reversed(daughters[-1])]
    while waiting:
        number, parent = waiting.pop()
        waiting += [(each, len(order)) for each in reversed(daughters[number])]
        order.append(number)
        parents.append(parent)
    return MCTree(particles[order], np.array(parents, dtype=np.int64))


def _loss_particles(makers: Rows, losses: Rows) -> Rows:
    """Losses [m] as particles, from those that made them [m]."""
    rows = np.zeros(len(losses), PARTICLE)
    for name in ("energy", "major_id", "minor_id", "pdg"):
        rows[name] = losses[name]
    for name in ("zenith", "azimuth"):
        rows[name] = makers[name]
    after = losses["time"].astype(np.float64)
    way = (SPEED_OF_LIGHT * after)[:, None] * vector_of(makers["zenith"], makers["azimuth"])
    for axis, step in zip("xyz", way.T, strict=True):
        rows[axis] = makers[axis] + step
    rows["time"] = makers["time"] + after
    rows["fit_status"], rows["location"], rows["speed"] = -1, _IN_ICE, SPEED_OF_LIGHT
    return rows


# --------------------------------------------------------------------------------------------------
# Older trees
# --------------------------------------------------------------------------------------------------
def _read_nested(
    archive: InputArchive, read_item: Callable[[], Any]
) -> tuple[list[Any], list[int]]:
    """Items of a tree that lists the number of children after each, and their parents."""
    items: list[Any] = []
    parents: list[int] = []
    waiting = [(archive.length(4), -1)]  # children still to come, and their parent
    while waiting:
        number, parent = waiting.pop()
        if number == 0:
            continue
        waiting.append((number - 1, parent))
        items.append(read_item())
        parents.append(parent)
        waiting.append((archive.length(4), len(items) - 1))
    return items, parents


def read_triggers(archive: InputArchive, version: int) -> list[Trigger]:
    """The triggers of a hierarchy whose head has been read.

    Raises
    ------
    DataError
        If its version is not known or it is damaged.
    """
    if version != 0:
        raise DataError(f"a hierarchy of triggers in version {version} cannot be read")

    def content(of_version: int) -> Any:
        unit = 1.0 if of_version >= 1 else 0.1  # ns
        time, length = archive.number(F8) * unit, archive.number(F8) * unit
        fired = archive.flag()
        return time, length, fired, archive.tracked("TriggerKey", key)

    def key(of_version: int) -> TriggerKey:
        source, kind = archive.number(I4), archive.number(I4)
        subtype = archive.number(I4) if of_version >= 1 else 0
        config = archive.number(I4) if archive.flag() else None
        return TriggerKey(source, kind, subtype, config)

    items, parents = _read_nested(archive, lambda: archive.tracked("I3Trigger", content))
    return [
        Trigger(time, length, fired, of_key, parent)
        for (time, length, fired, of_key), parent in zip(items, parents, strict=True)
    ]
