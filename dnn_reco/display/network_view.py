"""What a network makes of an event: outputs of its hexagonal layers, or the influence of each DOM.

Convolutional networks: the mean absolute difference between a layer's output for the event and its
output for an event without any hit, over the DOM axis and all kernels, for each string.

All other networks: each DOM in turn is left out of the event (occlusion: Zeiler & Fergus,
arXiv:1311.2901). Its influence is the root mean square, over the trained labels, of the change of
the prediction in units of its uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PatchCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import RegularPolygon
from numpy.typing import NDArray

from dnn_reco.data.hits import Hits
from dnn_reco.detector.geometry import NUM_DOMS_PER_STRING, dom_positions
from dnn_reco.detector.grid import MAIN_SHAPE, NUM_MAIN_STRINGS, STRING_CELL
from dnn_reco.display.drawing import SIDE, TOP, draw_detector, draw_markers
from dnn_reco.display.event_view import brightest_of_strings
from dnn_reco.display.scales import ShownHits
from dnn_reco.errors import DataError
from dnn_reco.figure_style import COUNTS, panel_grid, panels
from dnn_reco.inference.backend import Backend, predict_chunks

if TYPE_CHECKING:
    from dnn_reco.nn.interface import Network

Values = NDArray[np.float64]

MAX_LAYERS, MAX_DOMS = 6, 400
"""Layers that are shown, and DOMs of highest charge that are left out one by one."""
_BATCH_SIZE = 64
_COLUMNS = 3
_TOP_DOMS = np.arange(NUM_MAIN_STRINGS) * NUM_DOMS_PER_STRING  # of the strings of the main array


@dataclass(frozen=True)
class LayerImage:
    """The output of a layer over the main array.

    Attributes
    ----------
    name
        Its name.
    values
        Mean absolute difference to an event without hits [a, b], on the grid of
        :mod:`dnn_reco.detector.grid` or, behind layers that pool, a coarser one.
    """

    name: str
    values: Values


def network_figure(
    backend: Backend, hits: Hits, shown: ShownHits, misc: NDArray[np.floating] | None = None
) -> tuple[Figure, str]:
    """A figure of what a network makes of an event, and its caption.

    Parameters
    ----------
    backend
        The model.
    hits
        Hits of the one event, as the model reads them.
    shown
        The same hits, as displays draw them.
    misc
        Misc data of the event [1, M], where the network reads them.

    Raises
    ------
    DataError
        If the event has no hits.
    """
    if len(hits.dom) == 0:
        raise DataError("the event has no hits: there is no view of the network to draw")
    model = getattr(backend, "model", None)  # only that of PyTorch has one
    images = [] if model is None else layer_images(model.network, hits)
    if images:
        return draw_layers(images), (
            "Layers of the main array from the top, a hexagon for each string, or for several "
            "behind layers that pool: difference between the output for this event and that for "
            "an event without hits, mean of the absolute values over the depth and all kernels. "
            "Each layer has its own scale."
        )
    influence = dom_influence(backend, hits, misc)
    return draw_influence(shown, influence), (
        "Influence of each DOM: change of the prediction without it, in units of the "
        "predicted uncertainty, root mean square over the trained labels"
        f"{_of_brightest(influence)}."
    )


def _of_brightest(influence: Values) -> str:
    num = int(np.isfinite(influence).sum())
    return "" if num == len(influence) else f"; of the {num} DOMs of highest charge (others: grey)"


def layer_images(network: Network, hits: Hits) -> list[LayerImage]:
    """Outputs of some convolutional layers of the main array; none if the network has none.

    Parameters
    ----------
    network
        A network, or an ensemble, of which the first convolutional network is taken.
    hits
        Hits of the one event.
    """
    import torch

    from dnn_reco.data.hit_batch import HitBatch
    from dnn_reco.nn.conv_layers import ConvLayer, ConvLayers
    from dnn_reco.nn.predictor import GridNetwork

    modules = network.modules() if isinstance(network, torch.nn.Module) else []
    found = next((each for each in modules if isinstance(each, GridNetwork)), None)
    if not isinstance(found, torch.nn.Module):
        return []
    layers = [
        layer
        for stack in found.modules()
        if isinstance(stack, ConvLayers)
        for layer in stack
        if isinstance(layer, ConvLayer) and len(layer.output_shape) == len(MAIN_SHAPE)
    ]
    outputs: list[torch.Tensor] = []
    handles = [
        layer.register_forward_hook(lambda module, inputs, output: outputs.append(output))
        for layer in layers
    ]
    # the event, and beside it one without hits
    two = Hits(np.append(hits.offsets, hits.offsets[-1]), hits.dom, hits.features)
    parameter = next(found.parameters())
    features = two.features.astype(str(parameter.dtype).removeprefix("torch."), copy=False)
    try:
        with torch.inference_mode():
            batch = HitBatch.from_hits(Hits(two.offsets, two.dom, features))
            found(batch.to(parameter.device))
    finally:
        for handle in handles:
            handle.remove()
    chosen = np.unique(np.linspace(0, len(layers) - 1, MAX_LAYERS).round().astype(int))
    images = [(int(i), outputs[i].double().cpu().numpy()) for i in chosen if len(layers)]
    return [
        LayerImage(f"layer {i + 1} of {len(layers)}", np.abs(y[0] - y[1]).mean(axis=(2, 3)))
        for i, y in images
    ]


def draw_layers(images: list[LayerImage]) -> Figure:
    """Hexagonal heat maps of layers."""
    figure, axes = panel_grid(len(images), _COLUMNS, (3.7, 3.3))
    for panel, image in zip(axes, images, strict=True):
        _draw_layer(figure, panel, image)
    figure.suptitle("Outputs of hexagonal layers, 1 event", fontsize="medium")
    return figure


def _grid_fit() -> Values:
    """Both axes of the grid that fits the strings best, and the place of cell (0, 0) [3, 2]."""
    known = np.column_stack([STRING_CELL, np.ones(len(STRING_CELL))])
    return np.asarray(np.linalg.lstsq(known, dom_positions()[_TOP_DOMS, :2], rcond=None)[0])


def _axis_of_rows() -> float:
    """Angle in rad of the direction from a string to a neighbour."""
    x, y = _grid_fit()[0]
    return float(np.arctan2(y, x))


def cell_positions(shape: tuple[int, ...]) -> tuple[Values, float]:
    """Position [a, b, 2] of the cells of a grid over the main array, and their distance, in m.

    A cell of a pooled grid lies in the middle of the cells that it covers. The positions are those
    of the regular grid that fits the strings best.
    """
    fit = _grid_fit()
    steps = [full / num for full, num in zip(MAIN_SHAPE, shape, strict=False)][:2]
    first, second = (
        (np.arange(num) + 0.5) * step - 0.5 for num, step in zip(shape, steps, strict=False)
    )
    a, b = np.meshgrid(first, second, indexing="ij")
    places = np.stack([a, b, np.ones_like(a)], axis=-1) @ fit
    return places, float(np.linalg.norm(fit[0]) * max(steps))


def has_string(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether each cell [a, b] of a grid over the main array covers a string."""
    covered = np.zeros(shape, dtype=bool)
    covered[tuple((STRING_CELL * shape // MAIN_SHAPE[:2]).T)] = True
    return covered


def _draw_layer(figure: Figure, panel: Axes, image: LayerImage) -> None:
    places, distance = cell_positions(image.values.shape)
    shown = has_string(image.values.shape)
    toward = _axis_of_rows()
    hexagons = [
        RegularPolygon((x, y), 6, radius=distance / np.sqrt(3), orientation=toward)
        for x, y in places[shown]
    ]
    drawn = PatchCollection(hexagons, cmap=COUNTS, edgecolors="white", linewidths=0.4)
    drawn.set_array(image.values[shown])
    drawn.set_clim(0, max(float(image.values[shown].max()), 1e-12))
    panel.add_collection(drawn)
    strings = dom_positions()[_TOP_DOMS]
    panel.scatter(strings[:, 0], strings[:, 1], 3, color="0.5")
    panel.grid(False)
    panel.set(title=image.name, xlabel="x [m]", ylabel="y [m]", aspect="equal")
    panel.autoscale_view()
    figure.colorbar(drawn, ax=panel, shrink=0.8, label="mean |difference|")


def dom_influence(backend: Backend, hits: Hits, misc: NDArray[np.floating] | None = None) -> Values:
    """How much each hit DOM [k] of one event changes the prediction, in units of its uncertainty.

    NaN for DOMs that are not left out: all but the MAX_DOMS of highest charge (feature 0).

    Parameters
    ----------
    backend
        The model.
    hits
        Hits of the one event.
    misc
        Misc data of the event [1, M], where the network reads them.
    """
    num_hits = len(hits.dom)
    tested = np.sort(np.argsort(-hits.features[:, 0], kind="stable")[:MAX_DOMS])
    whole = predict_chunks(backend, [hits], 1, misc=misc)
    chunks = (without_each(hits, part) for part in _parts(tested, _BATCH_SIZE))
    copies = None if misc is None else np.repeat(misc, len(tested), axis=0)
    changed = predict_chunks(backend, chunks, _BATCH_SIZE, misc=copies)
    trained = [label.is_trained for label in backend.info.labels]
    change = (changed.labels_trafo - whole.labels_trafo) / whole.uncertainty_trafo
    influence = np.full(num_hits, np.nan)
    influence[tested] = np.sqrt(np.square(change[:, trained]).mean(axis=1))
    return influence


def without_each(hits: Hits, left_out: NDArray[np.integer]) -> Hits:
    """Copies of one event, each without one of its hits."""
    kept = np.arange(len(hits.dom)) != left_out[:, None]
    chosen = np.nonzero(kept)[1]
    offsets = np.arange(len(left_out) + 1) * (len(hits.dom) - 1)
    return Hits(offsets, hits.dom[chosen], hits.features[chosen])


def _parts(values: NDArray[np.integer], size: int) -> list[NDArray[np.integer]]:
    return [values[first : first + size] for first in range(0, len(values), size)]


def draw_influence(hits: ShownHits, influence: Values) -> Figure:
    """Hit DOMs from the top and from the side, coloured by their influence [k].

    A string has the influence of its most influential DOM.
    """
    figure, (top, side) = panels(1, 2, (5.5, 4.6))
    for panel in (top, side):
        panel.grid(False)
    draw_detector(top, side)
    values = np.where(np.isfinite(influence), influence, -1.0)
    colors = ScalarMappable(Normalize(0, max(float(values.max(initial=0)), 1e-12)), COUNTS)
    rgba = np.where((values >= 0)[:, None], colors.to_rgba(values), (0.85, 0.85, 0.85, 1.0))
    draw_markers(side, hits.position[:, SIDE], hits.charge, rgba)
    most, _ = brightest_of_strings(hits.dom, values)
    _, charge = brightest_of_strings(hits.dom, hits.charge)
    draw_markers(top, hits.position[most][:, TOP], charge, rgba[most])
    figure.colorbar(colors, ax=side, shrink=0.85, label="change without the DOM [σ]")
    figure.suptitle(f"Influence of {len(hits.dom)} hit DOMs, 1 event", fontsize="medium")
    return figure
