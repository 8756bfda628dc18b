"""`sky`: the direction of one event as a sky map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from dnn_reco.commands.output import print_note
from dnn_reco.data.hdf5 import list_tables, read_columns
from dnn_reco.detector.directions import Vectors
from dnn_reco.display.sky_view import plot_sky
from dnn_reco.errors import ConfigError
from dnn_reco.event_sources import is_i3_file
from dnn_reco.figure_style import save_figure
from dnn_reco.files import OTHER_FOLDER, writing
from dnn_reco.inference.reconstructor import Reconstructor
from dnn_reco.inference.sky_files import write_sky_map
from dnn_reco.inference.sky_frame import Frame, area_text, require_sky_packages
from dnn_reco.inference.sky_labels import true_direction
from dnn_reco.inference.sky_map import SkyMap
from dnn_reco.labelled_events import LABEL_TABLE


@dataclass(frozen=True)
class SkySettings:
    """Which event, and what to write.

    Attributes
    ----------
    model
        Model folder.
    file
        Event file.
    event
        Number of the event in it, from 0.
    out
        Outputs are written beside this path, with the suffixes .fits and .png; existing ones are
        replaced.
    levels
        Probabilities inside of the contours.
    mjd
        Time of the event, for equatorial coordinates; None: those of the detector.
    shape, members, ignore_mismatch
        See :meth:`dnn_reco.inference.reconstructor.Reconstructor.sky`.
    device, backend, allow_code, num_threads, inputs, raw
        See :class:`dnn_reco.inference.reconstructor.Reconstructor`.
    """

    model: Path
    file: Path
    event: int
    out: Path
    levels: tuple[float, ...]
    mjd: float | None
    shape: str
    members: bool
    ignore_mismatch: tuple[str, ...]
    device: str
    backend: str
    allow_code: tuple[str, ...]
    num_threads: int
    inputs: str | None
    raw: bool


def run_sky(settings: SkySettings) -> None:
    """Write the map of one event as FITS and PNG, and print its direction and areas."""
    if is_i3_file(settings.file):
        raise ConfigError(
            f"'{settings.file}' is an .i3 file, but sky maps are made of events of HDF5 files: "
            f"make one with dnn-reco create-data --input '{settings.file}' --pulses NAME --out "
            "FOLDER, and give that"
        )
    require_sky_packages()
    frame = Frame(settings.mjd)
    reconstructor = Reconstructor(
        settings.model,
        settings.device,
        settings.num_threads,
        backend=settings.backend,
        allow_code=settings.allow_code,
        inputs=settings.inputs,
        raw=settings.raw,
    )
    density = reconstructor.sky(
        settings.file,
        settings.event,
        settings.shape,
        members=settings.members,
        ignore_mismatch=settings.ignore_mismatch,
    )
    truth = _truth(settings, reconstructor)
    name = f"event {settings.event} of {settings.file.name}"
    sky_map = SkyMap.of(density, frame)
    figure = plot_sky(density, settings.levels, frame, f"{name}, {reconstructor.info.name}", truth)
    with writing("the maps", settings.out.parent, OTHER_FOLDER):
        write_sky_map(settings.out.with_name(f"{settings.out.name}.fits"), sky_map, name)
        save_figure(figure, settings.out.parent, settings.out.name, ["png"])
    click.echo(f"Event:     {settings.event} of '{settings.file}'")
    click.echo(f"Direction: {frame.shown(density.best)}")
    for level, area in zip(settings.levels, density.contour_area(settings.levels), strict=True):
        click.echo(f"{f'{100 * level:g} % in:':10} {area_text(area)}")
    if truth is not None:
        level = float(density.cdf_dir(truth))
        click.echo(f"True:      {frame.shown(truth)}; on the contour of {level:.1%}")
    pixels = f"{len(sky_map.uniq):,} pixels up to order {sky_map.order.max()}"
    print_note(f"Written:   '{settings.out}.fits' ({pixels}), '{settings.out}.png'")


def _truth(settings: SkySettings, reconstructor: Reconstructor) -> Vectors | None:
    """True direction of the event; None if the file does not have it."""
    if LABEL_TABLE not in list_tables(settings.file):
        return None
    events = reconstructor.hits_settings.tables.time_offset
    values, names = read_columns(settings.file, LABEL_TABLE, None, events)
    row = values[settings.event].filled(np.nan).tolist()
    return true_direction(dict(zip(names, row, strict=True)), reconstructor.info)
