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
