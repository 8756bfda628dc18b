"""Summaries of the inputs of events against slow loops."""

import numpy as np
import pytest
from event_files import random_events

from dnn_reco.data.event_summary import event_summaries, feature_names
from dnn_reco.data.hits import Hits
from dnn_reco.detector.geometry import dom_positions


def test_one_event_by_hand() -> None:
    events = random_events(1, 6, empty_fraction=0.4)
    found = event_summaries(events.hits)
    for i, (start, stop) in enumerate(zip(events.offsets[:-1], events.offsets[1:], strict=True)):
        features = events.features[start:stop].astype(float)
        assert found["number of hit DOMs"][i] == stop - start
        if stop == start:
            assert np.isnan(found.array[i, 1:]).all()
            continue
        charge = features[:, 0]
        assert found["total charge [PE]"][i] == pytest.approx(charge.sum())
        place = charge @ dom_positions()[events.dom[start:stop]] / charge.sum()
        for axis, name in enumerate("xyz"):
            assert found[f"centre of gravity {name} [m]"][i] == pytest.approx(place[axis])
        mean = np.average(features[:, 3], weights=charge)
        spread = np.sqrt(np.average((features[:, 3] - mean) ** 2, weights=charge))
        assert found["spread of first times [ns]"][i] == pytest.approx(spread)
        for number, name in enumerate(feature_names(9)):
            assert found[f"mean of {name}"][i] == pytest.approx(features[:, number].mean())


def test_formats_whose_features_are_not_known() -> None:
    hits = random_events(2, 5, num_bins=4).hits
    found = event_summaries(hits)
    assert "total charge [PE]" not in found
    assert "mean of feature 3" in found
    place = dom_positions()[hits.dom[: hits.offsets[1]]].mean(axis=0)
    assert found["centre of gravity z [m]"][0] == pytest.approx(place[2])


def test_no_events() -> None:
    none = Hits(np.zeros(1, np.int64), np.empty(0, np.uint16), np.empty((0, 9)))
    assert event_summaries(none).array.shape[0] == 0
