"""Visible energy and extent of interactions, against a slow obvious version and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mc_trees import ANYWHERE, BREMS, DARK, HADRONS, IN_ICE, Node, node, primary_of, tree_of

from dnn_reco.data_creation.labels.cascade import (
    interaction,
    shower_light,
    total_deposited_energy,
    visible_energy,
)
from dnn_reco.data_creation.labels.tree import has_ancestor, is_leaf
from dnn_reco.data_creation.labels.truth import MCTruth
from dnn_reco.errors import DataError
from dnn_reco.i3.objects import MCTree

ELECTROMAGNETIC = (11, -11, 22, 111, BREMS)
UNKNOWN = 1000080160  # oxygen
KINDS = (14, -16, 13, -15, 211, 2112, HADRONS, UNKNOWN, *ELECTROMAGNETIC)


def light(pdg: int, energy: float) -> float:
    if pdg in ELECTROMAGNETIC:
        return energy
    e0, m, f0 = (
        (0.66725124, 0.19263595, 0.17559033)
        if pdg == 2112
        else (0.18791678, 0.16267529, 0.30974123)
    )
    return energy * (1 - (1 - f0) / math.exp(m * math.log(max(energy, 2.71828183) / e0)))


def slow_visible_energy(tree: MCTree, number: int) -> tuple[float, float, float]:
    """The definition, word for word."""
    row = tree.particles[number]
    pdg, energy = int(row["pdg"]), float(row["energy"])
    if row["location"] != IN_ICE:
        return 0.0, 0.0, 0.0
    if abs(pdg) in (13, 15):
        return 0.0, 0.0, energy
    daughters = tree.daughters(number)
    if len(daughters) == 0:
        if abs(pdg) in (12, 14, 16):
            return 0.0, 0.0, 0.0
        if pdg in ELECTROMAGNETIC:
            return energy, 0.0, 0.0
        return 0.0, light(pdg, energy), 0.0
    em = hadronic = track = 0.0
    for daughter in daughters:
        e, h, t = slow_visible_energy(tree, int(daughter))
        if pdg in (211, 2112, HADRONS):
            e, h = 0.0, h + e
        em, hadronic, track = em + e, hadronic + h, track + t
    return em, hadronic, track


def nodes(depth: int) -> st.SearchStrategy[Node]:
    daughters = st.lists(nodes(depth - 1), max_size=3) if depth else st.just([])
    return st.builds(
        lambda pdg, energy, inside, made: node(
            pdg, energy, 0.0, *made, location=IN_ICE if inside else ANYWHERE
        ),
        st.sampled_from(KINDS),
        st.floats(0.01, 1e6),
        st.integers(0, 5).map(bool),
        daughters,
    )


@given(st.lists(nodes(4), min_size=1, max_size=3), st.integers(0, 1000))
def test_visible_energy_is_as_in_the_definition(roots: list[Node], number: int) -> None:
    tree = tree_of(*roots)
    number %= len(tree)
    expected = slow_visible_energy(tree, number)
    assert visible_energy(tree, number) == pytest.approx(expected, rel=1e-8)


@given(st.lists(nodes(4), min_size=1, max_size=3), st.data())
def test_ancestors(roots: list[Node], data: st.DataObject) -> None:
    tree = tree_of(*roots)
    flags = st.lists(st.booleans(), min_size=len(tree), max_size=len(tree))
    marked = np.array(data.draw(flags), dtype=bool)
    expected = []
    for number in range(len(tree)):
        parent, found = int(tree.parents[number]), False
        while parent >= 0:
            found, parent = found or bool(marked[parent]), int(tree.parents[parent])
        expected.append(found)
    assert has_ancestor(tree, marked).tolist() == expected
    leaf = [len(tree.daughters(number)) == 0 for number in range(len(tree))]
    assert is_leaf(tree).tolist() == leaf


def test_light_by_hand() -> None:
    tree = tree_of(node(11, 7.0, 0.0), node(HADRONS, 1000.0, 0.0), node(UNKNOWN, 1000.0, 0.0))
    np.testing.assert_allclose(shower_light(tree.particles), [7.0, 829.05, 829.05], atol=0.01)


def test_interaction_of_a_neutrino_that_came_through_the_earth() -> None:
    outgoing = node(-14, 300.0, 10.0, length=1e6, location=ANYWHERE)
    hadrons = node(HADRONS, 100.0, 10.0, length=4.0, time=55.0)
    tree = tree_of(
        node(2212, 1.0, 0.0, node(14, 1.0, 0.0, node(22, 1.0, 0.0))),  # coincident
        node(
            14,
            900.0,
            1e6,
            node(14, 500.0, 1e5, node(14, 400.0, 900.0, hadrons, outgoing), location=ANYWHERE),
            node(HADRONS, 400.0, 1e5, location=ANYWHERE),
            location=ANYWHERE,
            zenith=0.3,
            azimuth=2.0,
        ),
    )
    cascade = interaction(MCTruth(tree, primary_of(tree, 3)))
    assert cascade is not None
    assert cascade.neutrino == 5
    assert cascade.vertex.tolist() == [0.0, 0.0, 10.0]
    assert cascade.time == 55.0
    assert cascade.length == pytest.approx(1e6)  # of any particle, also of those outside
    assert cascade.energy == pytest.approx(light(HADRONS, 100.0))
    particle = cascade.as_particle(tree, primary_of(tree, 3))
    assert (particle.pdg, particle.shape, particle.zenith) == (14, 30, 0.3)
    assert (particle.minor_id, particle.energy) == (5, cascade.energy)


def test_nothing_interacts() -> None:
    for tree in (
        tree_of(node(14, 900.0, 0.0)),
        tree_of(node(14, 900.0, 0.0), node(13, 10.0, 0.0)),
        tree_of(node(14, 900.0, 0.0, node(11, 1.0, 0.0), location=ANYWHERE)),
    ):
        assert interaction(MCTruth(tree, primary_of(tree))) is None
    assert interaction(MCTruth(tree_of(), None)) is None


def test_primary_of_another_event() -> None:
    tree = tree_of(node(14, 900.0, 0.0, node(11, 1.0, 0.0)))
    stranger = tree_of(node(14, 1.0, 0.0), node(14, 1.0, 0.0), node(14, 1.0, 0.0))
    with pytest.raises(DataError, match="the primary is not in 'I3MCTree'"):
        interaction(MCTruth(tree, primary_of(stranger, 2)))


def test_total_deposited_energy() -> None:
    losses = [node(BREMS, 50.0, 600.0), node(BREMS, 70.0, 801.0), node(BREMS, 80.0, -799.0)]
    tree = tree_of(
        node(
            14,
            9000.0,
            0.0,
            node(13, 800.0, 900.0, *losses, node(HADRONS, 100.0, 0.0), length=2e3),
            node(HADRONS, 100.0, 0.0, node(11, 60.0, 0.0), shape=DARK),
            node(11, 30.0, 0.0, location=ANYWHERE),
            node(HADRONS, 1000.0, 0.0, node(11, 2.0, 0.0)),
        )
    )
    expected = 50 + 80 + light(HADRONS, 100.0) + 60 + light(HADRONS, 1000.0) + 2
    assert total_deposited_energy(tree) == pytest.approx(expected)
