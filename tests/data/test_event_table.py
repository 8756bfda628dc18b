"""Tables of events and of named columns."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from event_files import random_events

from dnn_reco.data.event_table import EventTable, NamedColumns, join_tables
from dnn_reco.errors import ConfigError, DataError


def table(seed: int, num_events: int) -> EventTable:
    events = random_events(seed, num_events, run=seed)
    columns = np.arange(2.0 * num_events).reshape(num_events, 2)
    labels = NamedColumns(("energy", "zenith"), columns)
    misc = NamedColumns(("weight",), columns[:, :1] + 100)
    return EventTable(events.hits, labels, misc, events.time_offset, events.ids)


def test_named_columns() -> None:
    columns = table(1, 3).labels
    assert list(columns) == ["energy", "zenith"]
    assert len(columns) == 2
    assert "zenith" in columns
    assert "Zenith" not in columns
    assert columns["zenith"].tolist() == [1, 3, 5]
    with pytest.raises(DataError, match=r"no column 'Zenith'. Available: energy, zenith$"):
        columns["Zenith"]
    with pytest.raises(DataError, match=r"Available: none$"):
        NamedColumns((), np.zeros((3, 0)))["a"]
    frame = columns.to_pandas()
    assert list(frame.columns) == ["energy", "zenith"]
    assert frame["energy"].tolist() == [0, 2, 4]


def test_some_of_the_events() -> None:
    events = table(1, 5)
    assert len(events) == 5
    counts = np.diff(events.hits.offsets)
    for chosen, numbers in ((3, [3]), (slice(2), [0, 1]), ([4, 0], [4, 0])):
        part = events[chosen]
        assert len(part) == len(numbers)
        assert part.labels["energy"].tolist() == [2 * n for n in numbers]
        assert part.misc["weight"].tolist() == [100 + 2 * n for n in numbers]
        assert part.ids["Event"].tolist() == events.ids["Event"][numbers].tolist()
        assert part.time_offset.tolist() == events.time_offset[numbers].tolist()
        assert np.diff(part.hits.offsets).tolist() == counts[numbers].tolist()
    assert events[np.array([False, True, False, False, True])].labels["energy"].tolist() == [2, 8]


def test_many_names_are_printed_in_short() -> None:
    events = table(1, 2)
    assert repr(events).endswith("; labels: energy, zenith; misc: weight>")
    names = tuple(f"label_{i}" for i in range(100))
    many = replace(events, labels=NamedColumns(names, np.zeros((2, 100))))
    shown = "label_0, label_1, label_2, label_3, … (100 in all)"
    assert repr(many).endswith(f"; labels: {shown}; misc: weight>")


def test_tables_are_joined_in_their_order() -> None:
    parts = [table(1, 2), table(2, 3)]
    events = join_tables(parts)
    assert events.ids["Run"].tolist() == [1, 1, 2, 2, 2]
    assert events.labels["zenith"].tolist() == [1, 3, 1, 3, 5]
    assert events.misc["weight"].tolist() == [100, 102, 100, 102, 104]
    assert events.time_offset.tolist() == [x for part in parts for x in part.time_offset]
    assert events.hits.dom.tolist() == [x for part in parts for x in part.hits.dom]
    assert events.labels.names == ("energy", "zenith")
    assert events.misc.names == ("weight",)


def test_a_row_of_pandas_for_each_event() -> None:
    pytest.importorskip("pandas")
    events = table(7, 3)
    frame = events.to_pandas()
    ids = ["Run", "Event", "SubEvent", "SubEventStream"]
    assert list(frame.columns) == [*ids, "time_offset", "energy", "zenith", "weight"]
    assert frame["Run"].tolist() == [7, 7, 7]
    assert frame["Event"].tolist() == events.ids["Event"].tolist()
    assert frame["zenith"].tolist() == [1, 3, 5]
    assert frame["weight"].tolist() == [100, 102, 104]


def test_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match=r"needs the package pandas: pip install 'dnn_reco\[pan"):
        table(1, 2).to_pandas()
