"""Changes of hits, and figures of merit of reconstructions from them."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from event_files import random_events
from numpy.typing import NDArray

from dnn_reco.data.hits import Hits, check_hits
from dnn_reco.evaluation.reconstruction import Reconstruction, TrueEvents
from dnn_reco.evaluation.robustness import (
    UNCHANGED,
    Perturbation,
    figures_of_merit,
    perturbations,
    perturbed_chunks,
    perturbed_reconstructions,
    robustness_matrix,
    scale_charges,
    shift_times,
)
from dnn_reco.inference.prediction_table import PredictionTable
from dnn_reco.nn.interface import LabelKeys
from dnn_reco.nn.tokens import FeatureRoles

ROLES = FeatureRoles.of(9, "auto", "auto", "auto")
HITS = random_events(1, 600, mean_hits=30, empty_fraction=0.02).hits
CHANGES = {change.name: change for change in perturbations(ROLES)}


def chunks(size: int) -> Iterator[Hits]:
    for start in range(0, HITS.num_events, size):
        yield HITS.part(start, min(start + size, HITS.num_events))


def changed(name: str) -> Hits:
    return CHANGES[name].change(HITS, 0)


@pytest.mark.parametrize("name", CHANGES)
def test_changed_hits_are_valid_and_do_not_depend_on_chunks(name: str) -> None:
    before = HITS.features.copy()
    torch.manual_seed(7)
    state = torch.get_rng_state()
    whole = changed(name)
    assert torch.equal(torch.get_rng_state(), state)
    check_hits(whole)
    assert whole.num_events == HITS.num_events
    parts = list(perturbed_chunks(CHANGES[name], chunks(170)))
    assert np.array_equal(np.concatenate([part.dom for part in parts]), whole.dom)
    assert np.array_equal(np.concatenate([part.features for part in parts]), whole.features)
    assert np.array_equal(HITS.features, before)


def test_strengths_of_noise_and_dead_doms() -> None:
    num_hits = len(HITS.dom)
    num_hit_events = (np.diff(HITS.offsets) > 0).sum()
    for number in (5, 10, 20):
        added = (len(changed(f"noise: +{number} hits").dom) - num_hits) / num_hit_events
        # some of them hit DOMs that are hit already
        assert number * 0.97 - 0.4 < added < number + 0.4
    for percent in (5, 10, 20):
        lost = 1 - len(changed(f"dead DOMs: {percent} %").dom) / num_hits
        assert lost == pytest.approx(percent / 100, abs=0.012)


def test_strengths_of_times_and_charges() -> None:
    times, charges = list(ROLES.times), list(ROLES.scaling)
    shift = changed("DOM times: ± 20 ns").features - HITS.features
    assert shift[:, times[0]].std() == pytest.approx(20, rel=0.03)
    assert np.ptp(shift[:, times], axis=1).max() < 0.1  # the same for all times of a DOM
    ratio = changed("DOM charges: ± 30 %").features[:, charges] / HITS.features[:, charges]
    assert np.log(ratio[:, 0]).std() == pytest.approx(0.3, rel=0.03)


def test_shift_and_scale_change_nothing_else() -> None:
    shifted, scaled = shift_times(HITS, ROLES, -100.0), scale_charges(HITS, ROLES, 0.8)
    is_time, is_charge = np.zeros((2, 9), dtype=bool)
    is_time[list(ROLES.times)] = is_charge[list(ROLES.scaling)] = True
    np.testing.assert_allclose(
        shifted.features, HITS.features - 100 * is_time, rtol=1e-6, atol=1e-2
    )
    np.testing.assert_allclose(scaled.features, HITS.features * np.where(is_charge, 0.8, 1))
    assert shifted.features.dtype == HITS.features.dtype


def test_without_times_only_charges_and_doms_change() -> None:
    kinds = {change.kind for change in perturbations(FeatureRoles(None, (), (0,)))}
    assert kinds == {"dead DOMs", "charge scale", "DOM charges"}


def test_another_seed_draws_other_numbers() -> None:
    (other,) = (c for c in perturbations(ROLES, seed=2) if c.name == "dead DOMs: 10 %")
    assert not np.array_equal(other.change(HITS, 0).offsets, changed(other.name).offsets)


# --------------------------------------------------------------------------------------------------
# Figures of merit
# --------------------------------------------------------------------------------------------------
KEYS = LabelKeys(dir_x="x", dir_y="y", dir_z="z", particle={"energy": "energy"})


def tilted(degrees: float, size: int) -> NDArray[np.float64]:
    angle = math.radians(degrees)
    return np.tile([math.sin(angle), 0.0, math.cos(angle)], (size, 1))


def model(degrees: float, residual: NDArray[np.float64], sigma: float) -> Reconstruction:
    size = len(residual)
    energy = np.expm1(np.log1p(1000.0) + residual)
    labels = np.column_stack([tilted(degrees, size), energy])
    table = PredictionTable(
        ("x", "y", "z", "energy"), (False, False, False, True), labels, np.full((size, 4), sigma)
    )
    return Reconstruction("model", table, KEYS)


def true_events(size: int, weights: NDArray[np.float64] | None = None) -> TrueEvents:
    labels = dict(zip(("x", "y", "z"), tilted(0, size).T, strict=True))
    labels["energy"] = np.full(size, 1000.0)
    ids = np.zeros(size, dtype=[("Run", "u4")])
    return TrueEvents(ids, labels, {}, np.full(size, 30), weights)


def test_figures_of_merit_as_known_analytically() -> None:
    size = 40_000
    residual = np.random.default_rng(1).normal(0.1, 0.4, size)
    found = figures_of_merit(model(5.0, residual, 0.2), true_events(size))
    kappa = 2 / (3 * 0.2**2)
    level = -math.expm1(-kappa * (1 - math.cos(math.radians(5)))) / -math.expm1(-2 * kappa)
    assert level < 0.68
    expected = {
        "median opening angle": 5.0,
        "coverage 68 %": 100.0,
        "energy width": 0.4 / math.log(10),
        "energy bias": 0.1 / math.log(10),
        "energy pull width": 2.0,
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=4 * found[name].error + 1e-6), name


def test_weights_choose_events() -> None:
    residual = np.concatenate([np.full(500, 0.3), np.full(500, -0.3)])
    weights = np.repeat([1.0, 0.0], 500)
    found = figures_of_merit(model(5.0, residual, 0.2), true_events(1000, weights))
    assert found["energy bias"].value == pytest.approx(0.3 / math.log(10), rel=0.01)


def test_matrix_of_a_model_that_reads_the_charge() -> None:
    """Its energy is the total charge: 20 % more charge is a bias of log10 1.2."""

    def predict(hits_of: Iterator[Hits]) -> PredictionTable:
        found = [
            np.bincount(h.event, h.features[:, 0], minlength=h.num_events) + 1e3 for h in hits_of
        ]
        energy = np.concatenate(found)
        labels = np.column_stack([tilted(0, len(energy)), (energy - 1e3) * 1e3])
        flags = (False, False, False, True)
        return PredictionTable(("x", "y", "z", "energy"), flags, labels, np.full(labels.shape, 0.2))

    table = predict(chunks(100))
    kept = table.labels[:, 3] > 1e3
    weights = kept.astype(np.float64)
    truth = true_events(len(table), weights)
    truth = TrueEvents(
        truth.ids, {**truth.labels, "energy": table.labels[:, 3]}, {}, truth.num_hit_doms, weights
    )
    changes = [CHANGES["charge scale: × 1.2"], Perturbation("none", "0", lambda hits, _: hits)]
    found = perturbed_reconstructions(
        Reconstruction("model", table, KEYS), predict, lambda: chunks(100), changes
    )
    matrix = robustness_matrix(found, truth)
    assert list(matrix) == [UNCHANGED, "charge scale: × 1.2", "none: 0"]
    assert matrix["none: 0"] == matrix[UNCHANGED]
    found_bias = matrix["charge scale: × 1.2"]["energy bias"].value
    assert found_bias == pytest.approx(math.log10(1.2), abs=1e-4)
