"""`view`: pictures of one event of a file."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dnn_reco.commands.given_options import first_given
from dnn_reco.commands.output import print_note
from dnn_reco.data.data_settings import check_setting_names
from dnn_reco.data.event_choice import parse_event
from dnn_reco.data.event_table import EventTable
from dnn_reco.data.hdf5 import list_tables
from dnn_reco.data_creation.event_to_view import event_of
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.evaluation.stored_reconstructions import list_stored
from dnn_reco.event_sources import is_i3_file, reader_of
from dnn_reco.files import write_atomically, writing
from dnn_reco.i3.events import find_frame
from dnn_reco.i3.reader import read_i3
from dnn_reco.inference.prediction_table import PARTICLE_SUFFIX, REASONS, PredictionTable, Status
from dnn_reco.inference.stored_predictions import stored_predictions
from dnn_reco.labelled_events import FileContent, read_all_rows
from dnn_reco.pretrained_models import is_pretrained, model_folder
from dnn_reco.suggestions import did_you_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dnn_reco.inference.reconstructor import Reconstructor

_log = logging.getLogger(__name__)

_DEFAULT_PICTURE = Path("event.png")


@dataclass(frozen=True)
class ViewSettings:
    """What to draw.

    Attributes
    ----------
    file
        Event file.
    event
        Number of the event, from 0; "first"; or its id, Run:Event or Run:Event:SubEvent.
    model
        Model folder, or a table of the file that holds predictions; None: no reconstruction.
    out
        Picture to write; None: event.png, if there is no page.
    html
        Page to write; None: none.
    network
        Whether to also draw the view of the network.
    tables, num_bins, labels
        See :class:`dnn_reco.labelled_events.FileContent`; None: as found, or those of the model.
    charge_feature, time_feature
        Features to show.
    device, allow_code
        See :class:`dnn_reco.inference.reconstructor.Reconstructor`.
    ignore_mismatch
        Data settings that may differ between file and model.
    pulses
        Key of the pulses of an .i3 file; None: the first of the usual ones.
    """

    file: Path
    event: str
    model: str | None
    out: Path | None
    html: Path | None
    network: bool
    tables: str | None
    num_bins: int | None
    labels: str | None
    charge_feature: int
    time_feature: int | None
    device: str
    allow_code: tuple[str, ...]
    ignore_mismatch: tuple[str, ...]
    pulses: str | None


@dataclass(frozen=True)
class _View:
    """An event, alone in its table, with its reconstruction and the figure of the network."""

    event: EventTable
    reconstruction: PredictionTable | None = None
    network: Figure | None = None
    caption: str = ""


def run_view(settings: ViewSettings) -> None:
    """Draw one event."""
    check_setting_names(settings.ignore_mismatch)
    if is_i3_file(settings.file):
        event, number = _of_frame(settings)
        return _draw(settings, _View(event), _title(settings.file, event, number))
    if settings.pulses is not None:
        raise ConfigError(f"--pulses is for .i3 files, which '{settings.file}' is not")
    reader_of(settings.file)  # raises if the format is unknown
    model = settings.model
    if model is not None and is_pretrained(model):
        model = str(model_folder(model))
    if model is None or not Path(model).is_dir():
        of_network = {
            "--network": settings.network,
            "--ignore-mismatch": settings.ignore_mismatch,
        }
        if name := first_given(of_network):
            raise ConfigError(f"{name} needs a model folder: --model FOLDER")
    content = FileContent(settings.tables, settings.num_bins, settings.labels)
    if model is None:
        events, number = _read(settings, content)
        view = _View(events[number])
    elif Path(model).is_dir():
        view, number = _view_of_model(settings, content, model)
    else:
        view, number = _view_of_table(settings, content, model)
    return _draw(settings, view, _title(settings.file, view.event, number))


def _of_frame(settings: ViewSettings) -> tuple[EventTable, int]:
    """The event of an .i3 file, and its number."""
    given = {
        "--model": settings.model,
        "--network": settings.network,
        "--tables": settings.tables,
        "--num-bins": settings.num_bins,
        "--labels": settings.labels,
        "--ignore-mismatch": settings.ignore_mismatch,
        "--allow-code": settings.allow_code,
    }
    if name := first_given(given):
        raise ConfigError(f"{name} is for HDF5 files, but '{settings.file}' is an .i3 file")
    event = parse_event(settings.event)
    try:
        number, frame = find_frame(read_i3(settings.file), event, "P")
    except DataError as error:
        if str(settings.file) in str(error):
            raise
        raise DataError(f"'{settings.file}': {error}") from error
    return event_of(frame, settings.pulses), number


def _read(settings: ViewSettings, content: FileContent) -> tuple[EventTable, int]:
    """All events of an HDF5 file, and the number of the one to draw."""
    events, exists = next(read_all_rows([settings.file], content))
    number = find_event(events, settings.event)
    if not exists[number]:
        others = np.flatnonzero(exists)
        hint = f"; the first that has is event {others[0]}" if len(others) else ""
        raise DataError(f"event {number} of '{settings.file}' has no input{hint}")
    return events, number


def _view_of_model(settings: ViewSettings, content: FileContent, model: str) -> tuple[_View, int]:
    """The event reconstructed by a model folder, and its number."""
    from dnn_reco.inference.reconstructor import Reconstructor

    reconstructor = Reconstructor(
        model, settings.device, allow_code=settings.allow_code, inputs=settings.tables
    )
    events, number = _read(settings, replace(content, hits=reconstructor.hits_settings))
    of_file, misc = reconstructor.read_file(settings.file, settings.ignore_mismatch)
    rows = np.array([number])
    misc = None if misc is None else misc[rows]
    table = reconstructor.predict_events(of_file.select(rows), misc)
    status = Status(int(table.status[0])) if table.status is not None else Status.OK
    if status is not Status.OK:
        _log.warning("'%s' did not reconstruct this event: %s", model, REASONS[status])
    view = _View(events[number], table)
    if settings.network:
        view = _with_network(settings, view, reconstructor, misc)
    return view, number


def _with_network(
    settings: ViewSettings,
    view: _View,
    reconstructor: Reconstructor,
    misc: NDArray[np.floating] | None,
) -> _View:
    from dnn_reco.display.network_view import network_figure
    from dnn_reco.display.scales import shown_hits

    hits = view.event.hits
    shown = shown_hits(hits, 0, settings.charge_feature, settings.time_feature)
    figure, caption = network_figure(reconstructor.backend, hits, shown, misc)
    return replace(view, network=figure, caption=caption)


def _view_of_table(settings: ViewSettings, content: FileContent, name: str) -> tuple[_View, int]:
    """The event with predictions that are stored in the file, and its number."""
    stored = list_stored(settings.file, with_truth=True)
    with_predictions = {each.labels or each.particle for each in stored}
    known = sorted(table for table in with_predictions if table is not None)
    if name not in {*known, *(each.particle for each in stored)}:
        raise ConfigError(
            f"--model '{name}' is neither a model folder nor a reconstruction table in "
            f"'{settings.file}'.{did_you_mean(name, known)} Such tables: "
            f"{', '.join(known) or 'none'}"
        )
    # those of the particle first: columns of the predictions themselves take precedence
    tables = list_tables(settings.file)
    names = [each for each in (f"{name}{PARTICLE_SUFFIX}", name) if each in tables]
    events, number = _read(settings, replace(content, misc=dict.fromkeys(names)))
    columns = _columns_of(events.misc, names)
    table = stored_predictions(columns, len(events)).rows(np.array([number]))
    return _View(events[number], table), number


def _columns_of(
    misc: Mapping[str, NDArray[np.floating]], tables: Sequence[str]
) -> dict[str, NDArray[np.floating]]:
    """Columns of some tables, named without the table."""
    by_table = sorted(tables, key=len, reverse=True)  # longer names first: one may begin another
    columns = {}
    for name, values in misc.items():
        table = next(each for each in by_table if name.startswith(f"{each}_"))
        columns[name.removeprefix(f"{table}_")] = values
    return columns


def find_event(events: EventTable, wanted: str) -> int:
    """Number of an event by its number, "first", or id (Run:Event or Run:Event:SubEvent).

    Raises
    ------
    DataError
        If there is no such event, or there are several.
    """
    event = parse_event(wanted)
    if isinstance(event, int):
        if event >= len(events):
            raise DataError(
                f"there is no event {event}: the file has {len(events)} events, counted from 0"
            )
        return event
    names = ("Run", "Event", "SubEvent")
    matches = np.all(
        [events.ids[name] == part for name, part in zip(names, event, strict=False)], axis=0
    )
    found = np.flatnonzero(matches)
    if len(found) == 0:
        raise DataError(f"no event of the {len(events)} events of the file has the id {wanted}")
    if len(found) > 1:
        numbers = ", ".join(str(number) for number in found[:5])
        raise DataError(
            f"{len(found)} events have the id {wanted}: give the number of one, --event {found[0]} "
            f"(they are {numbers}{', …' if len(found) > 5 else ''})"
        )
    return int(found[0])


def _title(file: Path, event: EventTable, number: int) -> str:
    run, in_run = (int(event.ids[name][0]) for name in ("Run", "Event"))
    return f"{file.name}, event {number} ({run}:{in_run})"


def _draw(settings: ViewSettings, view: _View, title: str) -> None:
    """Write the picture, the page, and the figure of the network beside them."""
    from dnn_reco.figure_style import figure_bytes

    hits = view.event.hits
    features = settings.charge_feature, settings.time_feature
    truth = view.event.labels if len(view.event.labels) else None
    out, page = settings.out, settings.html
    if page is not None:
        from dnn_reco.display.event_page import event_html

        pictures = {view.caption: figure_bytes(view.network, "png")} if view.network else {}
        html = event_html(
            *(hits, 0, *features),
            truth=truth,
            reconstruction=view.reconstruction,
            title=title,
            pictures=pictures,
        )
        _write(page, html.encode())
    if out is not None or page is None:
        from dnn_reco.display.event_view import plot_event

        out = out or _DEFAULT_PICTURE
        suffix = out.suffix.removeprefix(".")
        figure = plot_event(
            hits, 0, *features, truth=truth, reconstruction=view.reconstruction, title=title
        )
        _write(out, figure_bytes(figure, suffix))
        if view.network is not None:
            _write(out.with_stem(f"{out.stem}_network"), figure_bytes(view.network, suffix))


def _write(path: Path, content: bytes) -> None:
    with writing("the pictures", path, "choose another --out or --html"):
        write_atomically(path, content)
    print_note(f"Wrote '{path}'.")
