"""Diagrams of the package: the way of an event, the layers of the package, the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from svg import arrow, box, drawing, labelled_box, polygon, text

# Rooms that begin a floor, from the top.
_FLOORS = {
    "cli": "Entry points",
    "training": "Work",
    "modules": "Networks and results",
    "data": "Events",
    "files": "Basics",
}


def house(layers: Sequence[str]) -> str:
    """The parts of the package, as the contract on imports lists them, the topmost layer first."""
    width, left, row, gap = 640.0, 190.0, 32.0, 14.0
    parts = []
    y = 14.0
    for number, layer in enumerate(layers):
        rooms = [room.strip().removeprefix("dnn_reco.") for room in layer.split("|")]
        floor = _FLOORS.get(rooms[0])
        if floor:
            y += gap if number else 0
            parts.append(text(left - 16, y + row / 2, floor, "title", "end"))
        each = width / len(rooms)
        for place, room in enumerate(rooms):
            parts.append(box(left + place * each, y, each - 4, row - 4, "strong" if floor else ""))
            parts.append(text(left + (place + 0.5) * each - 2, y + row / 2 - 2, room))
        y += row
    return drawing(left + width + 14, y + 10, "The parts of the package, layer by layer", parts)


_LANES = (
    (
        "Data, once",
        "dnn-reco create-data, simulate",
        (
            (".i3 file", "frames"),
            ("Frame", "pulses, particles"),
            ("FrameInput", "pulses of an event"),
            ("EventInputs", "features, labels"),
            ("HDF5 file", "tables"),
        ),
    ),
    (
        "Training",
        "dnn-reco trafo, train",
        (
            ("EventStore", "decoded files"),
            ("EventDataset", "numbered events"),
            ("TensorBatch", "hits and labels"),
            ("Network", "Prediction"),
            ("Trainer", "loss, step"),
        ),
    ),
    (
        "Prediction",
        "dnn-reco apply, serve, evaluate",
        (
            ("Files", ".i3, HDF5, arrays"),
            ("Hits", "DOMs and features"),
            ("HitBatch", "tensors"),
            ("Network", "Prediction"),
            ("PredictionTable", "named columns"),
        ),
    ),
)


def way_of_an_event() -> str:
    """What an event is at each step: when data are made, in training, and in prediction."""
    left, top, width, height, space, lane = 24.0, 20.0, 136.0, 54.0, 30.0, 112.0
    parts = []
    for number, (title, commands, steps) in enumerate(_LANES):
        y = top + number * lane
        parts.append(text(left, y, title, "title", "start"))
        parts.append(text(left + 134, y, commands, "small", "start"))
        for place, lines in enumerate(steps):
            x = left + place * (width + space)
            kind = "warm" if lines[0] == "Network" else "strong" if place in (0, 4) else ""
            parts.append(labelled_box(x, y + 18, width, height, lines, kind))
            if place:
                parts.append(arrow(x - space + 3, y + 18 + height / 2, x - 3, y + 18 + height / 2))
    last = left + 4 * (width + space) + width / 2
    parts.append(_turn(last, top + 18 + height, left + 116, lane))
    total = 2 * left + 5 * width + 4 * space
    return drawing(total, top + 3 * lane - 8, "What an event is at each step", parts)


def _turn(x0: float, y0: float, x1: float, lane: float) -> str:
    """From the last step of a lane to the first one of the next."""
    middle, end = y0 + 12, y0 + lane - 54
    path = f'<path class="line" d="M{x0:.1f},{y0:.1f} V{middle:.1f} H{x1:.1f} V{end - 7:.1f}"/>'
    return path + polygon([(x1, end), (x1 - 4, end - 7), (x1 + 4, end - 7)], "tip")


_BRANCHES = (
    ("main array", "10 × 10 × 60 × F", "hexagonal convolutions", "kernels [s, o, z], 8 layers"),
    ("upper DeepCore", "1 × 10 × 8 F", "convolutions along z", "4 layers"),
    ("lower DeepCore", "1 × 50 × 8 F", "convolutions along z", "8 layers"),
)


def network() -> str:
    """The convolutional network of the tutorial."""
    height, rows = 54.0, 76.0
    parts = []
    middle = 20 + rows + height / 2
    for number, (name, shape, layers, kernels) in enumerate(_BRANCHES):
        y = 20 + number * rows
        parts.append(labelled_box(20, y, 150, height, (name, shape), "strong"))
        parts.append(labelled_box(204, y, 200, height, (layers, kernels)))
        parts.append(arrow(172, y + height / 2, 202, y + height / 2))
        parts.append(f'<path class="line" d="M406,{y + height / 2:.1f} H422 V{middle:.1f}"/>')
    parts.append(arrow(422, middle, 440, middle))
    parts.append(labelled_box(442, middle - height / 2, 120, height, ("flat", "all outputs")))
    for sign, lines in (
        (-1, ("dense layers", "labels ŷ")),
        (1, ("dense layers", "uncertainties σ")),
    ):
        y = middle + sign * 44
        parts.append(f'<path class="line" d="M564,{middle:.1f} H580 V{y:.1f}"/>')
        parts.append(arrow(580, y, 598, y))
        parts.append(labelled_box(600, y - height / 2, 150, height, lines, "warm"))
    return drawing(770, 20 + 3 * rows, "The branches of the convolutional network", parts)


def all_diagrams(layers: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Names and texts of the files."""
    yield "house", house(layers)
    yield "way_of_an_event", way_of_an_event()
    yield "network", network()
