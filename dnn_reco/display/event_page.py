"""The event display as an interactive page: one HTML file that needs nothing else."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from numpy.typing import NDArray

from dnn_reco.data.hits import Hits
from dnn_reco.detector.geometry import (
    NUM_DOMS_PER_STRING,
    NUM_STRINGS,
    dom_positions,
    string_and_om,
)
from dnn_reco.display.drawing import STRING_COLOR, STYLES, Style
from dnn_reco.display.event_view import TIME_COLORS, particles_of
from dnn_reco.display.label_table import label_rows
from dnn_reco.display.particle import Columns, Particle
from dnn_reco.display.scales import ShownHits, marker_area, shown_hits, time_range
from dnn_reco.display.shapes import (
    ARROW_LENGTH,
    Points,
    chord,
    cone_rim,
    drawn_box,
    is_drawn,
    start,
)
from dnn_reco.errors import ConfigError
from dnn_reco.inference.prediction_table import PredictionTable

NUM_STEPS = 60
"""Number of times that the slider stops at; with the last one all hits are shown."""
_PIXELS_PER_POINT = 4 / 3
_GREY = f"rgb({', '.join([str(int(255 * float(STRING_COLOR)))] * 3)})"
_HOVER = (
    "string %{customdata[0]}, DOM %{customdata[1]}<br>%{customdata[2]:,.2f} PE<br>"
    "%{customdata[3]:,.0f} ns<extra></extra>"
)


def event_html(
    hits: Hits,
    event: int = 0,
    charge_feature: int = 0,
    time_feature: int | None = None,
    *,
    truth: Columns | None = None,
    reconstruction: PredictionTable | None = None,
    title: str = "Event",
    pictures: Mapping[str, bytes] | None = None,
) -> str:
    """An interactive page of an event in three dimensions, as one file without outer references.

    It shows what :func:`dnn_reco.plot_event` shows, can be rotated, names string, DOM, charge and
    time of each hit, and plays the event in time.

    Parameters
    ----------
    hits, event, charge_feature, time_feature, truth, reconstruction
        As for :func:`dnn_reco.plot_event`.
    title
        Title of the page.
    pictures
        PNG files to show below, by their captions.

    Returns
    -------
    html
        The page, some 5 MB: it contains plotly.js.

    Raises
    ------
    ConfigError
        If plotly is not installed.
    DataError
        As for :func:`dnn_reco.plot_event`.

    Examples
    --------
    >>> from pathlib import Path
    >>> from dnn_reco import event_html, simulate_events
    >>> events = simulate_events(1, flavor="numu", energy=(1e5, 1e6))
    >>> page = event_html(events.hits, truth=events.labels)
    >>> _ = Path("event.html").write_text(page, encoding="utf-8")
    """
    plotly = _import_plotly()
    shown = shown_hits(hits, event, charge_feature, time_feature)
    truth_and_reconstruction = particles_of(hits.num_events, event, truth, reconstruction)
    traces = [_strings()]
    for particle, style in zip(truth_and_reconstruction, STYLES, strict=True):
        if particle is not None:
            traces += _particle_traces(particle, shown.centre, style)
    shown = _in_time_order(shown)
    figure = plotly.graph_objects.Figure([_hit_trace(shown), *traces], _layout())
    content = {"figure": json.loads(figure.to_json()), "steps": _steps(shown)}
    environment = Environment(
        loader=PackageLoader("dnn_reco.display"), autoescape=True, trim_blocks=True
    )
    return environment.get_template("event.html").render(
        title=title,
        summary=shown.summary,
        rows=label_rows(*truth_and_reconstruction),
        pictures={
            caption: b64encode(picture).decode() for caption, picture in (pictures or {}).items()
        },
        content=Markup(_json_for_html(content)),
        plotly_js=Markup(plotly.offline.get_plotlyjs()),
    )


def _import_plotly() -> ModuleType:
    try:
        import plotly.graph_objects
        import plotly.offline
    except ImportError as error:
        raise ConfigError(
            "interactive event displays need the package plotly: pip install 'dnn_reco[display]'"
        ) from error
    module: ModuleType = plotly
    return module


def _json_for_html(content: object) -> str:
    """JSON that may stand in a script element: no text in it can end the element."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def _in_time_order(hits: ShownHits) -> ShownHits:
    order = np.argsort(hits.time, kind="stable")
    return ShownHits(hits.dom[order], hits.charge[order], hits.time[order])


def _steps(hits: ShownHits) -> list[dict[str, float | None]]:
    """Times of the slider in ns (None: the end), and number of hits up to each."""
    low, high = time_range(hits)
    times = np.linspace(low, high, NUM_STEPS - 1)
    counts = np.searchsorted(hits.time, times, side="right")
    steps: list[dict[str, float | None]] = [
        {"time": float(t), "hits": int(n)} for t, n in zip(times, counts, strict=True)
    ]
    return [*steps, {"time": None, "hits": len(hits.time)}]


def _rounded(values: NDArray[np.floating], digits: int = 2) -> list[float]:
    return [round(float(value), digits) for value in values]


def _lines(points: Points) -> dict[str, list[float]]:
    """Coordinates x, y, z of points [k, 3]."""
    return {axis: _rounded(values) for axis, values in zip("xyz", points.T, strict=True)}


def _hit_trace(hits: ShownHits) -> dict[str, Any]:
    string, om = string_and_om(hits.dom)
    low, high = time_range(hits)
    charge, time = _rounded(hits.charge, 3), _rounded(hits.time, 1)
    return {
        "type": "scatter3d",
        "name": "hit DOMs",
        "mode": "markers",
        **_lines(hits.position),
        "customdata": [
            list(each) for each in zip(string.tolist(), om.tolist(), charge, time, strict=True)
        ],
        "hovertemplate": _HOVER,
        "marker": {
            "size": _rounded(_PIXELS_PER_POINT * np.sqrt(marker_area(hits.charge))),
            "color": time,
            "cmin": low,
            "cmax": high,
            "colorscale": _color_scale(),
            "opacity": 1.0,
            "line": {"color": "black", "width": 1},
            "colorbar": {
                "title": {"text": "time of the first pulse [ns]", "side": "bottom"},
                "orientation": "h",
                "thickness": 12,
                "len": 0.8,
                "y": 0,
                "yanchor": "top",
            },
        },
        "showlegend": False,
    }


def _color_scale() -> list[tuple[float, str]]:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    places = np.linspace(0, 1, 21).tolist()
    return [(place, to_hex(colormaps[TIME_COLORS](place))) for place in places]


def _strings() -> dict[str, Any]:
    """All strings as thin lines in one trace, with gaps between them."""
    ends = dom_positions().reshape(NUM_STRINGS, NUM_DOMS_PER_STRING, 3)[:, [0, -1]]
    coordinates: dict[str, list[float | None]] = {}
    for axis, values in zip("xyz", np.moveaxis(ends, 2, 0), strict=True):
        coordinates[axis] = [each for pair in values.tolist() for each in (*pair, None)]
    line = {"color": _GREY, "width": 1.5}
    hidden = {"hoverinfo": "skip", "showlegend": False, "connectgaps": False}
    return {"type": "scatter3d", "mode": "lines", "name": "strings", "line": line} | (
        hidden | coordinates
    )


def _particle_traces(particle: Particle, centre: Points, style: Style) -> list[dict[str, Any]]:
    traces: list[dict[str, Any]] = []
    if particle.has_direction:
        apex = start(particle, centre)
        for percent, angle in particle.cones.items():
            traces.append(_cone(apex, particle.direction, percent, angle, style))
        traces += _direction(apex, particle.direction, style)
    if is_drawn(particle.vertex):
        traces.append(
            {
                "type": "scatter3d",
                "mode": "markers",
                "name": f"{style.name} vertex",
                **_lines(particle.vertex[None]),
                "marker": {"size": 7, "symbol": "diamond", "color": style.color},
                "hovertemplate": f"{style.name} vertex<br>x %{{x:.1f}} m<br>y %{{y:.1f}} m<br>"
                "z %{z:.1f} m<extra></extra>",
            }
        )
    return traces


def _direction(apex: Points, direction: Points, style: Style) -> list[dict[str, Any]]:
    """A thin line through the detector, and an arrow with its head."""
    name = f"{style.name} direction"
    dash = {"-": "solid", "--": "dash"}[style.dashes]
    group = {"legendgroup": name, "hoverinfo": "skip", "name": name}
    tip = apex + ARROW_LENGTH * direction
    traces = [(np.array([apex, tip]), 6, "solid")]
    line = chord(apex, direction)
    if line is not None:
        traces.append((line, 3, dash))
    return [
        {"type": "scatter3d", "mode": "lines", **_lines(points), **group, "showlegend": not number}
        | {"line": {"color": style.color, "width": width, "dash": dashes}}
        for number, (points, width, dashes) in enumerate(traces)
    ] + [
        {
            "type": "cone",
            **_lines(tip[None]),
            **dict(zip("uvw", ([each] for each in _rounded(direction, 5)), strict=True)),
            **group,
            "sizemode": "absolute",
            "sizeref": 40,
            "anchor": "tip",
            "colorscale": [(0, style.color), (1, style.color)],
            "showscale": False,
        }
    ]


def _cone(
    apex: Points, direction: Points, percent: int, angle: float, style: Style
) -> dict[str, Any]:
    """The surface of a cone: triangles from the apex, point 0, to neighbours on the rim."""
    points = np.vstack([apex, cone_rim(apex, direction, angle)])
    rim = np.arange(1, len(points))
    return {
        "type": "mesh3d",
        "name": f"{percent} % cone, {np.degrees(angle):.3g}°",
        **_lines(points),
        "i": [0] * len(rim),
        "j": rim.tolist(),
        "k": np.roll(rim, -1).tolist(),
        "color": style.color,
        "opacity": {68: 0.25, 90: 0.12}[percent],
        "hoverinfo": "name",
        "showlegend": True,
    }


def _layout() -> dict[str, Any]:
    low, high = drawn_box()
    axes = {
        f"{axis}axis": {
            "title": {"text": f"{axis} [m]"},
            "range": [float(low[i]), float(high[i])],
            "backgroundcolor": "white",
            "gridcolor": "rgb(230, 230, 230)",
            "showspikes": False,
        }
        for i, axis in enumerate("xyz")
    }
    return {
        "scene": axes
        | {
            "aspectmode": "data",
            "camera": {
                "eye": {"x": 1.2, "y": -1.2, "z": 0.35},
                "center": {"x": 0, "y": 0, "z": -0.1},
            },
        },
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        "margin": {"l": 0, "r": 0, "t": 0, "b": 60},
        "uirevision": "kept",
        "hoverlabel": {"align": "left"},
    }
