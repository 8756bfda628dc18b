"""Two data sets whose differences are known."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from event_files import Events, random_events

from dnn_reco.data.event_table import EventTable, NamedColumns
from dnn_reco.evaluation.data_comparison import (
    DataComparison,
    EventSample,
    compare_samples,
    join_samples,
    sample_events,
)
from dnn_reco.evaluation.data_comparison_report import text_report, write_data_comparison


def sample(events: Events, weights: np.ndarray | None = None) -> EventSample:
    nothing = NamedColumns((), np.empty((len(events), 0)))
    labels = NamedColumns(tuple(events.labels), np.stack(list(events.labels.values()), axis=1))
    table = EventTable(events.hits, labels, nothing, events.time_offset, events.ids)
    given = np.ones(len(events)) if weights is None else weights
    return sample_events(table, given, np.random.default_rng(1))


def brighter(events: Events, factor: float) -> Events:
    features = events.features.copy()
    features[:, :3] *= factor
    return replace(events, features=features)


def without_string(events: Events, string: int) -> Events:
    keep = events.dom // 60 != string - 1
    offsets = np.append(0, np.cumsum(keep))[events.offsets]
    return replace(events, offsets=offsets, dom=events.dom[keep], features=events.features[keep])


def test_samples_of_the_same_kind() -> None:
    comparison = compare_samples(
        ("a", "b"), sample(random_events(1, 300)), sample(random_events(2, 200))
    )
    assert min(q.adjusted_p for q in [*comparison.inputs, *comparison.labels]) > 1e-3
    assert np.nanmin(comparison.strings.p_value) > 1e-3
    assert np.nanmin(comparison.layers.p_value) > 1e-3
    assert comparison.strings.share.sum(axis=1) == pytest.approx([1.0, 1.0], rel=1e-6)
    assert comparison.layers.share.sum(axis=1) == pytest.approx([1.0, 1.0], rel=1e-6)
    assert "finds no difference" in text_report(comparison)


def test_brighter_events_and_a_dead_string() -> None:
    second = without_string(brighter(random_events(2, 500, mean_hits=60), 1.3), 36)
    comparison = compare_samples(
        ("a", "b"), sample(random_events(1, 500, mean_hits=60)), sample(second)
    )
    charges = {q.name for q in comparison.inputs if q.adjusted_p < 1e-6}
    assert {"total charge [PE]", "mean of charge [PE]"} <= charges
    assert "mean of mean time [ns]" not in charges
    mean = next(q for q in comparison.inputs if q.name == "mean of charge [PE]").mean
    assert mean[1] / mean[0] == pytest.approx(1.3, rel=0.02)
    assert np.flatnonzero(comparison.strings.p_value < 1e-6).tolist() == [35]
    assert comparison.strings.share[1, 35] == 0.0
    assert comparison.classifier is not None
    assert comparison.classifier.area.value > 0.95
    text = text_report(comparison)
    assert "1 strings differ, most string 36" in text
    assert "The two data sets differ" in text


def test_samples_read_in_parts_and_weights() -> None:
    """Weights of 0 and 1 are a selection."""
    events = random_events(3, 60, empty_fraction=0.1)
    whole = sample(events)
    joined = join_samples([whole, sample(random_events(4, 40))])
    assert joined.num_events == 100
    np.testing.assert_array_equal(joined.string_share[:60], whole.string_share)
    weights = np.append(np.ones(60), np.zeros(40))
    other = sample(random_events(5, 50))
    selected = compare_samples(("a", "b"), whole, other)
    weighted = compare_samples(("a", "b"), replace(joined, weights=weights), other)
    for first, second in zip(selected.inputs, weighted.inputs, strict=True):
        assert (first.name, first.ks) == (second.name, pytest.approx(second.ks, abs=1e-12))
        assert first.p_value == pytest.approx(second.p_value, rel=1e-9)
    np.testing.assert_allclose(selected.strings.share, weighted.strings.share, atol=1e-12)


def small_comparison() -> DataComparison:
    """Few events, without classifier, and labels of the first sample alone."""
    second = replace(random_events(2, 3, empty_fraction=0.5), labels={"Other": np.ones(3)})
    return compare_samples(("<a>", "b"), sample(random_events(1, 10)), sample(second))


def test_report_of_few_events(tmp_path: Path) -> None:
    comparison = small_comparison()
    assert comparison.labels == []
    assert comparison.classifier is None
    assert "too few events" in text_report(comparison)
    page = write_data_comparison(comparison, tmp_path).read_text()
    assert "&lt;a&gt;" in page and "<a>" not in page
    assert not re.search(r"""(src|href)=["'](?!data:|#)|@import|url\((?!data:)""", page)
    numbers = json.loads((tmp_path / "data_comparison.json").read_text())
    assert numbers["data_sets"] == [{"name": "<a>", "events": 10}, {"name": "b", "events": 3}]
    assert {each["name"] for each in numbers["inputs"]} == {q.name for q in comparison.inputs}
    assert (tmp_path / "figures" / "inputs_measures.png").is_file()
