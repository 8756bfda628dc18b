"""Inputs of a transformer, computed again number by number."""

import math

import numpy as np
import torch

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.detector.geometry import dom_positions
from dnn_reco.nn.tokens import FeatureRoles, HitInputs

# Charge, time of the first pulse, and of a later one; the last DOM is one of DeepCore.
DOMS = [0, 61, 80 * 60 + 5]
FEATURES = [[2.0, 100.0, 150.0], [0.5, 400.0, 390.0], [7.0, 250.0, 900.0]]
LIGHT = 0.299792458 / 1.35634


def slow_inputs() -> tuple[list[list[float]], list[float]]:
    """Inputs of the three hits and of their event."""
    weights = [charge + 1e-3 for charge, _, _ in FEATURES]
    place = [
        [*dom_positions()[dom], LIGHT * time]
        for dom, (_, time, _) in zip(DOMS, FEATURES, strict=True)
    ]
    centre = np.average(place, axis=0, weights=weights)
    hits = []
    for dom, (charge, time, late), point in zip(DOMS, FEATURES, place, strict=True):
        relative = [a - b for a, b in zip(point, centre, strict=True)]
        phases = [
            length * 2 * math.pi / wavelength
            for length in (*relative, point[2])
            for wavelength in (2000.0, 1000.0)
        ]
        hits.append(
            [
                math.log(1 + charge) / 4,
                0.0,
                math.copysign(math.log(1 + abs(late - time)), late - time) / 4,
                *(length / 500 for length in point[:3]),
                *(length / 500 for length in relative),
                float(dom >= 78 * 60),
                *map(math.sin, phases),
                *map(math.cos, phases),
            ]
        )
    covariance = np.cov(np.transpose(place) / 500, aweights=weights, bias=True)
    upper = covariance[np.triu_indices(4)]
    root = upper / np.sqrt(np.abs(upper) + 1e-6)
    return hits, [math.log(10.5) / 4, math.log(4) / 4, *(centre / 500), *root]


def test_times_of_pulses_count_from_the_first() -> None:
    """Of a DOM with pulses of 2 PE at 100 ns and 0.5 PE at 107 ns, and of one with one pulse."""
    roles = FeatureRoles.of(15, "auto", "auto", "auto", "pulse_summary_and_first_pulses_3")
    inputs = HitInputs(15, roles, num_waves=1, dtype=torch.float64)
    two = [2.5, 2.5, 2.5, 100, 100, 100, 107, 101.4, 4, 100, 107, 100, 2, 0.5, 0]
    one = [1.5, 1.5, 1.5, 300, 300, 300, 300, 300, 0, 300, 300, 300, 1.5, 0, 0]
    features = torch.tensor([two, one], dtype=torch.float64)
    event, dom = torch.zeros(2, dtype=torch.int64), torch.tensor([3, 70])
    found = 4 * inputs(HitBatch(1, event, dom, features)).hits[:, 9:15]
    expected = [[0, math.log(8), 0, math.log(3), math.log(1.5), 0], [0, 0, 0, math.log(2.5), 0, 0]]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_inputs_are_those_computed_one_by_one() -> None:
    inputs = HitInputs(3, FeatureRoles(1, (2,), (0,)), num_waves=2, dtype=torch.float64)
    event = torch.ones(3, dtype=torch.int64)  # event 0 has no hit
    found = inputs(HitBatch(2, event, torch.tensor(DOMS), torch.tensor(FEATURES).double()))
    hits, events = slow_inputs()
    assert found.hits.shape[1] == inputs.num_hit_inputs
    assert found.events.shape[1] == inputs.num_event_inputs
    np.testing.assert_allclose(found.hits, hits, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.events[1], events, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.events[0, :6], 0.0, atol=1e-9)
    np.testing.assert_allclose(found.coordinates, np.array(hits)[:, 6:10] * 500, rtol=1e-9)
