"""Energy around each DOM, compared with a loop over losses and DOMs."""

import math

import numpy as np

from dnn_reco.data.loss_features import EnergyLosses, mc_tree_input_data
from dnn_reco.detector.geometry import NUM_DOMS, dom_positions


def losses_of(rows: list[tuple]) -> EnergyLosses:
    position, direction, energy = zip(*rows, strict=True)
    return EnergyLosses(np.array(position), np.array(direction), np.array(energy, dtype=float))


def slow_features(losses: EnergyLosses) -> np.ndarray:
    features = np.zeros((NUM_DOMS, 10))
    for position, direction, energy in zip(
        losses.position, losses.direction, losses.energy, strict=True
    ):
        if energy < 1 or math.hypot(*position) > 2000:
            continue
        distances = [math.dist(dom, position) for dom in dom_positions()]
        for dom, distance in enumerate(distances):
            if not 0 < distance <= 150:
                continue
            cosine = float(direction @ (dom_positions()[dom] - position)) / distance
            angle = math.degrees(math.acos(max(-1.0, min(1.0, cosine))))
            ring = 0 if distance <= 30 else 1 if distance <= 60 else 2
            sector = 0 if angle <= 45 else 1 if angle <= 90 else 2
            if angle > 0:
                features[dom, 3 * ring + sector] += energy
        if energy > 1 and min(distances) < 500:
            features[int(np.argmin(distances)), 9] += energy
    return features


def test_same_as_dom_by_dom() -> None:
    rng = np.random.default_rng(5)
    events = []
    for scale in (300.0, 100.0):
        direction = rng.normal(size=(70, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        events.append(
            EnergyLosses(rng.normal(0, scale, (70, 3)), direction, rng.lognormal(1, 2, 70))
        )
    found = mc_tree_input_data(events)
    assert found.time_offset.tolist() == [0.0, 0.0] and found.sparse
    for i, losses in enumerate(events):
        dense = np.zeros((NUM_DOMS, 10))
        part = found.hits.part(i, i + 1)
        dense[part.dom] = part.features
        np.testing.assert_allclose(dense, slow_features(losses), rtol=1e-12)
        assert (part.features > 0).any(axis=1).all()


def test_limits() -> None:
    """Energy of exactly 1 GeV is in the bins only; far losses are nowhere."""
    dom = 2000
    above = dom_positions()[dom] + [0.0, 0.0, 8.0]
    down = (0.0, 0.0, -1.0)
    one = mc_tree_input_data([losses_of([(above, down, 1.0)])])
    assert one.hits.features[:, 9].sum() == 0 and one.hits.features.sum() > 0
    two = mc_tree_input_data([losses_of([(above, down, 2.0)])]).hits
    assert two.features[two.dom == dom, 9].tolist() == [2.0]
    assert two.features[:, 9].sum() == 2.0
    # straight ahead: an angle of 0 is in no bin
    assert two.features[two.dom == dom, :3].tolist() == [[0.0, 0.0, 0.0]]
    far = [((0.0, 0.0, 2001.0), down, 9.0), ((0.0, 0.0, 1999.0), down, 9.0), (above, down, 0.9)]
    assert len(mc_tree_input_data([losses_of(far)]).hits.dom) == 0
    assert mc_tree_input_data([]).hits.num_events == 0
