"""Legends and titles of figures."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dnn_reco.figure_style import fix_layout, legend_below, panels, say_too_few, title_above

LONG = "l2_energy_visible_red_summary_stats_fast_01"


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_the_legend_names_the_lines_of_all_panels_and_fits(columns: int) -> None:
    figure, axes = panels(1, columns, (2.6, 2.3))
    for number, panel in enumerate(axes):
        panel.plot([0, 1], label="in all")
        panel.plot([1, 0], label=f"{LONG}_{number}")
    legend_below(figure, axes)
    title_above(figure, f"{LONG}, 38 events")
    canvas = FigureCanvasAgg(figure)
    fix_layout(figure)
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["in all", *(f"{LONG}_{number}" for number in range(columns))]
    width = figure.bbox.width
    for part in (legend, figure.texts[0]):
        box = part.get_window_extent(canvas.get_renderer())
        assert box.x0 >= 0
        assert box.x1 <= width


def test_no_lines_no_legend() -> None:
    figure, axes = panels(1, 1)
    legend_below(figure, axes[0])
    assert figure.legends == []


def test_the_legend_is_read_in_rows_in_the_order_of_the_curves() -> None:
    figure, axes = panels(1, 2, (3.6, 3.0))
    axes[0].plot([0, 1], label="b")
    axes[0].plot([0, 1], label="reference")
    for name in "abcd":
        axes[1].plot([0, 1], label=name)
    legend_below(figure, axes, columns=3, order=list("abcd"))
    canvas = FigureCanvasAgg(figure)
    fix_layout(figure)
    (legend,) = figure.legends
    places = {}
    for text in legend.get_texts():
        box = text.get_window_extent(canvas.get_renderer())
        places[text.get_text()] = (-round(box.y0), box.x0)
    assert sorted(places, key=lambda name: places[name]) == ["a", "b", "c", "d", "reference"]
    assert len({row for row, _ in places.values()}) == 2


def test_an_empty_panel_gives_the_reason() -> None:
    _, (panel,) = panels(1, 1)
    say_too_few(panel)
    assert [text.get_text() for text in panel.texts] == ["too few events"]
