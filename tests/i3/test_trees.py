"""Trees against a slow and obvious encoder."""

from collections.abc import Iterator, Sequence

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from made_up_frames import Bytes, head, particle

from dnn_reco.errors import DataError
from dnn_reco.i3.codecs import decode, encode
from dnn_reco.i3.objects import PARTICLE, MCTree

_PARTICLE_SIZE = 124  # bytes, after the first one, which has the versions of three classes


# --------------------------------------------------------------------------------------------------
# A slow encoder
# --------------------------------------------------------------------------------------------------
def children(parents: Sequence[int], parent: int) -> list[int]:
    return [number for number, each in enumerate(parents) if each == parent]


def bits_of(parents: Sequence[int], siblings: Sequence[int]) -> Iterator[int]:
    """First a particle's children, then its next sibling."""
    for number in siblings:
        yield 1
        yield from bits_of(parents, children(parents, number))
    yield 0


def add_particle(made: Bytes, number: int) -> None:
    made.tracked("I3Particle", 5).base()
    particle(made, number)


def slow_tree(parents: Sequence[int]) -> bytes:
    made = head("I3MCTree", 1)
    if not parents:
        return made.raw("I", 0).content
    bits = list(bits_of(parents, children(parents, -1)))
    return tree_of_bits(made, bits).content


def tree_of_bits(made: Bytes, bits: Sequence[int]) -> Bytes:
    words = [0] * -(-len(bits) // 64)
    for place, bit in enumerate(bits):
        words[place // 64] |= bit << place % 64
    made.raw("II", len(bits), len(words)).raw(f"{len(words)}Q", *words)
    for number in range(sum(bits)):
        add_particle(made, number)
    return made


def tree(parents: Sequence[int]) -> MCTree:
    rows = np.zeros(len(parents), PARTICLE)
    row = (0, 7, 13, 40, 0, 1.0, 2.0, 3.0, 0.5, 1.5, 9000.0, 1.0, 5.0, 0.25, 20)
    rows[:] = row
    rows["minor_id"] = np.arange(len(parents))
    return MCTree(rows, np.array(parents, dtype=np.int64))


def assert_same_tree(one: MCTree, other: MCTree) -> None:
    assert one.parents.tolist() == other.parents.tolist()
    assert one.particles.dtype == other.particles.dtype
    assert one.particles.tobytes() == other.particles.tobytes()


@st.composite
def forests(draw: st.DrawFn, most: int = 60) -> list[int]:
    """Parents; each particle follows its parent or the parent's descendants."""
    parents: list[int] = []
    ancestors = [-1]
    for number in range(draw(st.integers(0, most))):
        depth = draw(st.integers(0, len(ancestors) - 1))
        del ancestors[depth + 1 :]
        parents.append(ancestors[-1])
        ancestors.append(number)
    return parents


# --------------------------------------------------------------------------------------------------
# Tests
# --------------------------------------------------------------------------------------------------
@given(forests())
def test_any_forest(parents: list[int]) -> None:
    content = slow_tree(parents)
    assert_same_tree(decode(content), tree(parents))
    assert encode(tree(parents))[1] == content


@given(forests())
def test_families(parents: list[int]) -> None:
    made = tree(parents)
    assert made.primaries.tolist() == children(parents, -1)
    for number in range(len(parents)):
        assert made.daughters(number).tolist() == children(parents, number)
        family = {number}
        for other in range(number + 1, len(parents)):
            if parents[other] in family:
                family.add(other)
        assert family == set(range(number, made.end(number)))


@given(forests(20))
def test_older_trees(parents: list[int]) -> None:
    made = head("I3MCTree", 0).raw("I", len(children(parents, -1)))
    for number in range(len(parents)):  # they are in the order of the walk
        add_particle(made, number)
        made.raw("I", len(children(parents, number)))
    assert_same_tree(decode(made.content), tree(parents))


@pytest.mark.parametrize("number", [32_766, 32_767, 32_768, 65_534, 65_535, 100_000])
@pytest.mark.parametrize("shape", ["chain", "siblings", "primaries", "random"])
def test_several_blocks(number: int, shape: str) -> None:
    """A block has up to 65,535 bits; n particles have 2n + 1 bits."""
    rng = np.random.default_rng(number)
    parents = {
        "chain": list(range(-1, number - 1)),
        "siblings": [-1] + [0] * (number - 1),
        "primaries": [-1] * number,
        "random": random_parents(number, rng),
    }[shape]
    made = tree(parents)
    content = encode(made)[1]
    assert_same_tree(decode(content), made)
    start = len(head("I3MCTree", 1).content)
    num_bits, num_words = np.frombuffer(content, "<u4", 2, start).tolist()
    total = 2 * number + 1
    assert num_bits == min(total, 65_535)
    assert num_words == -(-num_bits // 64)
    blocks = [65_535] * (total // 65_535) + [total % 65_535]  # the last one may have no bits
    of_bits = sum(8 + 8 * -(-bits // 64) if bits else 4 for bits in blocks)
    assert len(content) == start + of_bits + number * _PARTICLE_SIZE + 3 * 2


def random_parents(number: int, rng: np.random.Generator) -> list[int]:
    parents: list[int] = []
    ancestors = [-1]
    for each in range(number):
        del ancestors[max(1, len(ancestors) - int(rng.integers(0, 4))) :]
        parents.append(ancestors[-1])
        ancestors.append(each)
    return parents


def test_a_deep_tree_of_the_older_kind() -> None:
    """As deep as no recursion goes."""
    made = head("I3MCTree", 0).raw("I", 1)
    for number in range(5_000):
        add_particle(made, number)
        made.raw("I", int(number < 4_999))
    assert decode(made.content).parents.tolist() == list(range(-1, 4_999))


def test_walks_that_are_none() -> None:
    for bits in ([0], [0, 1, 0, 0], [1], [1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 1, 0, 0]):
        with pytest.raises(DataError, match="tree"):
            decode(tree_of_bits(head("I3MCTree", 1), bits).content)
    for num_bits, num_words in ((65_536, 1024), (2**32 - 1, 1), (3, 0), (3, 2), (65, 1)):
        made = head("I3MCTree", 1).raw("II", num_bits, num_words)
        made.content += bytes(8 * num_words)
        with pytest.raises(DataError, match="bits"):
            decode(made.content)


def test_trees_that_cannot_be_written() -> None:
    for parents in ([0], [1, -1], [-1, 0, -1, 1], [-1, 0, 0, 1], [-2], [-1, 5]):
        with pytest.raises(DataError, match="must follow its parent"):
            encode(tree(parents))
    with pytest.raises(DataError, match="2 particles and 1 parents"):
        encode(MCTree(np.zeros(2, PARTICLE), np.array([-1])))


# --------------------------------------------------------------------------------------------------
# Trees with losses apart
# --------------------------------------------------------------------------------------------------
def tree_with_losses(
    version: int,
    groups: list[tuple[int, int]],
    losses: list[tuple[float, float, int, int]],
    is_numbered: bool = True,
) -> bytes:
    """A primary with a muon, which made an electron, and a second muon.

    All start at 9000 ns in (1, 2, 3) m. Groups are number of the particle and of its losses; losses
    are time, energy, id and kind.
    """
    made = head("I3LinearizedMCTree", version)
    begin = made.tracked if is_numbered else made.untracked
    begin("I3MCTree", 1).base()
    tree_of_bits(made, list(bits_of([-1, 0, 1, 0], [0])))
    if version == 0:
        made.untracked("pairs of numbers").raw("I", len(groups))
        for number, count in groups:
            made.raw("II", number, count)
    else:
        made.untracked("vector of pairs").raw("I", len(groups))
        for number, count in groups:
            made.untracked("pair")
            begin("I3ParticleID").raw("QiI", 7, number, count)
    made.untracked("vector of losses").raw("I", len(losses))
    for time, energy, minor, kind in losses:
        begin("I3Stochastic").raw("ffQii", time, energy, 8, minor, kind)
    return made.content


LOSSES = [(100.0, 2.5, 50, -2000001001), (-1.5, 0.5, 51, 11), (0.25, 4.0, 60, -2000001004)]


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("is_numbered", [True, False])
def test_losses_join_the_tree_in_the_order_of_time(version: int, is_numbered: bool) -> None:
    found = decode(tree_with_losses(version, [(1, 2), (3, 1)], LOSSES, is_numbered))
    # The second loss is before the first one, where the search stopped, but after the electron.
    assert found.particles["minor_id"].tolist() == [0, 1, 2, 51, 50, 3, 60]
    assert found.parents.tolist() == [-1, 0, 1, 1, 1, 0, 5]
    loss = found.particles[4]
    assert loss["major_id"] == 8
    assert loss["pdg"] == -2000001001
    assert loss["time"] == 9100.0
    assert loss["energy"] == 2.5
    assert (loss["zenith"], loss["azimuth"]) == (0.5, 1.5)
    assert (loss["shape"], loss["fit_status"], loss["location"]) == (0, -1, 20)
    assert (loss["length"], loss["speed"]) == (0.0, 0.299792458)
    # 29.9792458 m along -(sin 0.5 cos 1.5, sin 0.5 sin 1.5, cos 0.5)
    way = 29.9792458 * np.array([-0.0339132213, -0.4782245712, -0.8775825619])
    np.testing.assert_allclose([loss[axis] for axis in "xyz"], np.add(way, (1, 2, 3)), atol=1e-6)


def test_a_loss_before_all_others_comes_first() -> None:
    found = decode(tree_with_losses(1, [(0, 1)], [(-1.0, 1.0, 70, 22)]))
    assert found.particles["minor_id"].tolist() == [0, 70, 1, 2, 3]
    assert found.parents.tolist() == [-1, 0, 0, 2, 0]


def test_losses_that_belong_to_nobody() -> None:
    for version in (0, 1):
        with pytest.raises(DataError, match="not in it"):
            decode(tree_with_losses(version, [(4, 3)], LOSSES))
        for count in (2, 4, 2**32 - 1):
            with pytest.raises(DataError, match="has 3 losses"):
                decode(tree_with_losses(version, [(1, count)], LOSSES))
    assert len(decode(tree_with_losses(1, [], []))) == 4
