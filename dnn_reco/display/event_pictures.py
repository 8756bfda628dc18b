"""Small pictures of many events, for pages that list them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from io import BytesIO

from matplotlib.figure import Figure
from PIL import Image

from dnn_reco.data.hits import Hits
from dnn_reco.display.event_view import draw_event, particles_of
from dnn_reco.display.particle import Columns
from dnn_reco.display.scales import shown_hits
from dnn_reco.inference.prediction_table import PredictionTable

_WIDTH = 900  # pixels
MAX_BYTES = 60_000
# thin lines keep their colour: a median cut would give them that of the markers
_KEEPS_RARE = Image.Quantize.MAXCOVERAGE


def event_pictures(
    hits: Hits,
    events: Iterable[int],
    truths: Columns | None = None,
    reconstructions: PredictionTable | None = None,
    charge_feature: int = 0,
    time_feature: int | None = None,
    titles: Mapping[int, str] | None = None,
) -> dict[int, bytes]:
    """PNG files of some events, 900 pixels wide and at most 60 kB each, by their numbers.

    Parameters
    ----------
    hits
        Hits of n events.
    events
        Numbers of the events to draw, 0 … n - 1.
    truths
        True labels [n] by name.
    reconstructions
        Predictions of the n events.
    charge_feature, time_feature
        As for :func:`dnn_reco.plot_event`.
    titles
        Titles by number of the event; None: that number.

    Raises
    ------
    DataError
        As for :func:`dnn_reco.plot_event`.
    """
    pictures = {}
    for event in events:
        shown = shown_hits(hits, event, charge_feature, time_feature)
        particles = particles_of(hits.num_events, event, truths, reconstructions)
        title = f"Event {event}" if titles is None else titles[event]
        pictures[event] = small_png(draw_event(shown, *particles, title=title))
    return pictures


def small_png(figure: Figure) -> bytes:
    """A figure as a PNG file with a palette; of few colours if it would be too large otherwise."""
    content = BytesIO()
    figure.savefig(content, format="png", dpi=_WIDTH / figure.get_size_inches()[0])
    picture = Image.open(content).convert("RGB")
    for num_colors in (200, 128, 64, 32, 16, 8):
        small = BytesIO()
        picture.quantize(num_colors, _KEEPS_RARE).save(small, format="png", optimize=True)
        if small.tell() <= MAX_BYTES:
            break
    return small.getvalue()
