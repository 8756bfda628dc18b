"""Features around a cascade hypothesis, compared with a loop over pulses and bins."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.hypothesis_features import cascade_classification_data
from dnn_reco.data.pulses import Pulses
from dnn_reco.detector.geometry import dom_positions
from dnn_reco.errors import ConfigError

C = 0.299792458
EDGES = ((0.0, -100.0), (1.0, 0.0), (1.36, 0.0), (1.36, 200.0))
HYPOTHESES = np.array(
    [
        [10.0, -20.0, 30.0, 1000.0, 5.0, 6.0, 7.0, 8.0],
        [-400.0, 0.0, 0.0, 500.0, 0.0, 0.0, 0.0, 20.0],
    ]
)
pulse = st.tuples(
    st.integers(0, 1), st.sampled_from([-1, 0, 2000, 5159]), st.floats(-1e3, 6e3), st.floats(0, 9)
)


def slow_features(rows: list[tuple], event: int, dom: int) -> list[float]:
    x, y, z, t, *unc_position, unc_time = HYPOTHESES[event]
    distance = math.dist(dom_positions()[dom], (x, y, z))
    sigma = math.hypot(*(u / C for u in unc_position), unc_time)
    edges = [t + multiple * distance / C + extra for multiple, extra in EDGES]
    values = []
    for low, high in pairwise(edges):
        content = 0.0
        for e, d, time, charge in rows:
            if (e, d) == (event, dom) and time <= edges[-1] + 4 * sigma:
                content += charge * (norm.cdf(high, time, sigma) - norm.cdf(low, time, sigma))
        values.append(content)
    return [value if value > 1e-7 else 0.0 for value in (*values, distance, sigma)]


@given(st.lists(pulse, max_size=12))
def test_same_as_pulse_by_pulse(rows: list[tuple]) -> None:
    rows = sorted(rows)
    event, dom, time, charge = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    flags = np.zeros(len(rows), np.uint8)
    pulses = Pulses(2, event.astype(int), dom.astype(int), time, charge, flags)
    found = cascade_classification_data(pulses, HYPOTHESES, EDGES)
    expected = sorted({(e, d) for e, d, _, _ in rows if d >= 0})
    assert list(zip(found.hits.event.tolist(), found.hits.dom.tolist(), strict=True)) == expected
    assert found.sparse and found.time_offset.tolist() == [1000.0, 500.0]
    assert found.hits.features.shape[1] == len(EDGES) + 1
    for features, (e, d) in zip(found.hits.features, expected, strict=True):
        np.testing.assert_allclose(features, slow_features(rows, e, d), rtol=1e-9, atol=2e-7)


@pytest.mark.parametrize("edges", [(0.1, 0.5), (), ((1.0, 0.0),), ((1.0, 0.0), (2.0, 0.0, 1.0))])
def test_edges_that_are_no_pairs(edges: tuple) -> None:
    none = np.zeros(0, np.int64)
    pulses = Pulses(0, none, none, np.zeros(0), np.zeros(0), np.zeros(0, np.uint8))
    with pytest.raises(ConfigError, match="'time_quantiles' that are pairs"):
        cascade_classification_data(pulses, np.zeros((0, 8)), edges)


def test_pairs_in_data_settings() -> None:
    pairs: list[list[float]] = [[0, -100.0], [1.36, 200]]
    settings = DataSettings(3, None, "cascade_classification_data", time_quantiles=pairs)  # type: ignore[arg-type]
    assert settings.time_quantiles == ((0.0, -100.0), (1.36, 200.0))
    assert settings.to_dict()["time_quantiles"] == [[0.0, -100.0], [1.36, 200.0]]
    assert DataSettings.from_json(settings.to_json()) == settings
