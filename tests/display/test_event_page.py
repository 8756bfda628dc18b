"""The interactive page: all hits, the slider, cones, and nothing from elsewhere."""

import json
import re
import sys
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from test_event_view import DOMS, FEATURES, HITS
from test_particle import TRUTH, predictions

from dnn_reco.data.hits import Hits
from dnn_reco.detector.geometry import dom_positions
from dnn_reco.display.event_page import NUM_STEPS, event_html
from dnn_reco.display.event_pictures import MAX_BYTES, event_pictures
from dnn_reco.errors import ConfigError

HOSTILE = "</script><img src=x onerror=alert(1)>&$"
THREE = {name: np.append(values, values[0]) for name, values in TRUTH.items()}


class Page(HTMLParser):
    """Elements of a page by tag with their attributes, content of scripts, and visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script":
            self.scripts.append(data)
        else:
            self.text += data

    @property
    def content(self) -> dict[str, Any]:
        return json.loads(next(text for text in self.scripts if text.startswith('{"figure"')))


def page(*arguments: Any, **settings: Any) -> Page:
    pytest.importorskip("plotly", reason="plotly is not installed (extra display)")
    return Page(event_html(*arguments, **settings))


def test_all_hits_in_the_order_of_time() -> None:
    content = page(HITS, 1).content
    hits = content["figure"]["data"][0]
    order = [1, 2, 0]
    np.testing.assert_allclose(
        np.array([hits[axis] for axis in "xyz"]).T, dom_positions()[DOMS[order]]
    )
    strings_oms = [(1, 31), (86, 6), (1, 1)]
    expected = [[*s, *FEATURES[i, :2]] for s, i in zip(strings_oms, order, strict=True)]
    assert hits["customdata"] == expected
    assert hits["marker"]["color"] == [100, 200, 300]
    size = np.array(hits["marker"]["size"]) ** 2  # area by the root of the charge
    np.testing.assert_allclose(size / size[2], [10, 2, 1], rtol=0.01)
    assert hits["marker"]["colorbar"]["title"]["text"] == "time of the first pulse [ns]"


def test_steps_of_the_slider() -> None:
    random = np.random.default_rng(3)
    features = random.uniform([1, 0, 0], [50, 5000, 1], (40, 3))
    hits = Hits(np.array([0, 40]), np.arange(40, dtype=np.uint16), features)
    steps = page(hits).content["steps"]
    assert len(steps) == NUM_STEPS
    for step in steps[:-1]:
        assert step["hits"] == (features[:, 1] <= step["time"]).sum()
    assert steps[-1] == {"time": None, "hits": 40}
    times = [step["time"] for step in steps[:-1]]
    assert times == sorted(times)


def test_particles() -> None:
    truth = {**THREE, "VertexX": np.array([0.0, 20.0, 0.0]), "VertexY": np.zeros(3)}
    table = predictions().rows(np.array([0, 0, 0]))
    traces = page(HITS, 1, truth={**truth, "VertexZ": np.zeros(3)}, reconstruction=table)
    data = traces.content["figure"]["data"]
    by_name = {trace["name"]: trace for trace in data}
    vertex = by_name["true vertex"]
    assert [vertex[axis] for axis in "xyz"] == [[20.0], [0.0], [0.0]]
    (cone,) = (trace for trace in data if trace["name"].startswith("68 % cone, 10.6"))
    points = np.array([cone[axis] for axis in "xyz"]).T
    rim = points[1:] - points[0]
    angles = np.degrees(np.arccos(-rim[:, 1] / np.linalg.norm(rim, axis=1)))
    np.testing.assert_allclose(angles, 10.61, atol=0.01)
    assert len(cone["i"]) == len(rim)
    heads = [trace for trace in data if trace["type"] == "cone"]
    assert [trace["v"] for trace in heads] == [[-1.0], [-1.0]]


def test_nothing_from_elsewhere_and_texts_escaped() -> None:
    truth = {HOSTILE: np.array([1.0, 2, 3])}
    shown = page(HITS, 1, truth=truth, title=HOSTILE, pictures={HOSTILE: b"png"})
    tags = [tag for tag, _ in shown.elements]
    assert tags.count("script") == 3 and tags.count("img") == 1
    assert not {"link", "iframe", "object", "base"} & set(tags)
    for _, attributes in shown.elements:
        for name in ("src", "href", "action"):
            assert re.match(r"data:|$", attributes.get(name) or "")
        assert not any(name.startswith("on") for name in attributes)
    assert shown.text.count(HOSTILE) == 4  # title twice, label, caption
    policy = next(each for tag, each in shown.elements if "http-equiv" in each)
    assert (policy["content"] or "").startswith("default-src 'none'")


@pytest.mark.parametrize("event", [0, 2])
def test_event_without_hits(event: int) -> None:
    content = page(HITS, event).content
    assert content["figure"]["data"][0]["x"] == []
    assert {step["hits"] for step in content["steps"]} == {0}


def test_plotly_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(ConfigError, match=r"pip install 'dnn_reco\[display\]'"):
        event_html(HITS, 1)


def test_size_of_the_page() -> None:
    pytest.importorskip("plotly", reason="plotly is not installed (extra display)")
    features = np.random.default_rng(1).uniform(1, 1e4, (5160, 3))
    hits = Hits(np.array([0, 5160]), np.arange(5160, dtype=np.uint16), features)
    content = event_html(hits).encode()
    assert len(content) < 6e6
    assert len(Page(content.decode()).content["figure"]["data"][0]["x"]) == 5160


def test_pictures_of_events() -> None:
    from io import BytesIO

    from PIL import Image

    random = np.random.default_rng(1)
    features = random.uniform(1, 1e4, (600, 3))
    every = Hits(np.array([0, 0, 600]), np.arange(600, dtype=np.uint16), features)
    table = predictions()
    pictures = event_pictures(every, [1, 0], TRUTH, table)
    assert list(pictures) == [1, 0]
    for picture in pictures.values():
        assert len(picture) <= MAX_BYTES
        with Image.open(BytesIO(picture)) as opened:
            assert opened.size[0] == 900
