"""Types of events from their labels."""

import numpy as np

from dnn_reco.evaluation.event_types import (
    ALL_EVENTS,
    CASCADE,
    OTHER_ENTERING,
    STARTING_TRACK,
    THROUGH_GOING_TRACK,
    event_types,
    parts,
    reconstructed_types,
)

# a through-going muon, a bundle, an entering tau, a starting muon, a starting cascade, one outside
ENTERING = np.array([1, 1, 1, 0, 0, 0], dtype=float)
STARTING = np.array([0, 0, 0, 1, 1, 0], dtype=float)
TRACK = np.array([1, 1, 0, 1, 0, 0], dtype=float)
BASE = {"p_entering": ENTERING, "p_starting": STARTING}
MUONS = {
    "p_entering_muon_single": np.array([1, 0, 0, 0, 0, 0], dtype=float),
    "p_entering_muon_bundle": np.array([0, 1, 0, 0, 0, 0], dtype=float),
}


def numbers(labels: dict[str, np.ndarray]) -> dict[str, list[int]]:
    return {name: np.flatnonzero(mask).tolist() for name, mask in event_types(labels, 6).items()}


def test_entering_taus_are_a_type_of_their_own() -> None:
    expected = {
        ALL_EVENTS: [0, 1, 2, 3, 4, 5],
        CASCADE: [4, 5],
        STARTING_TRACK: [3],
        THROUGH_GOING_TRACK: [0, 1],
        OTHER_ENTERING: [2],
    }
    assert numbers({**BASE, "p_is_track": TRACK}) == expected
    # where labels name what comes in, they decide
    assert numbers({**BASE, "p_is_track": np.ones(6), **MUONS}) == {
        **expected,
        CASCADE: [5],
        STARTING_TRACK: [3, 4],
    }
    smoothed = {name: 0.98 * values + 0.01 for name, values in {**BASE, **MUONS}.items()}
    assert numbers({**smoothed, "p_is_track": 0.98 * TRACK + 0.01}) == expected


def test_one_of_the_labels_of_muons_is_not_enough() -> None:
    labels = {**BASE, "p_is_track": TRACK}
    labels["p_entering_muon_single"] = MUONS["p_entering_muon_single"]
    assert numbers(labels)[THROUGH_GOING_TRACK] == [0, 1]


def test_without_labels_of_muons_all_that_comes_in_is_a_track() -> None:
    found = numbers({**BASE, "p_starting_cc_mu": np.array([0, 0, 0, 1, 0, 0])})
    assert found[THROUGH_GOING_TRACK] == [0, 1, 2]
    assert found[STARTING_TRACK] == [3]
    assert OTHER_ENTERING not in found


def test_without_labels_of_types_there_is_one() -> None:
    assert list(event_types({}, 3)) == [ALL_EVENTS]
    assert list(parts(event_types({}, 3))) == [ALL_EVENTS]
    types = event_types({**BASE, "p_is_track": TRACK}, 6)
    assert list(parts(types)) == [CASCADE, STARTING_TRACK, THROUGH_GOING_TRACK, OTHER_ENTERING]
    assert sum(mask.sum() for mask in parts(types).values()) == 6


def test_reconstructed_types() -> None:
    classes = {
        "p_is_track": np.array([0.9, 0.8, 0.2, 0.1]),
        "p_starting": np.array([0.3, 0.6, 0.9, 0.2]),
    }
    expected = {THROUGH_GOING_TRACK: [0], STARTING_TRACK: [1], CASCADE: [2, 3]}

    def found(labels: dict[str, np.ndarray]) -> dict[str, list[int]]:
        return {
            name: np.flatnonzero(mask).tolist()
            for name, mask in reconstructed_types(labels).items()
        }

    assert found(classes) == expected
    # a network that also predicts what comes in
    entering = {"p_entering": np.array([0.9, 0.1, 0.0, 0.7])}
    assert found({**classes, **entering}) == {**expected, CASCADE: [2], OTHER_ENTERING: [3]}
    assert found({"p_is_track": classes["p_is_track"]}) == {}
