"""Decoded objects as text for people: one line, or tables, trees and lists of values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.amounts import counted
from dnn_reco.i3.columns import fields_of, is_single
from dnn_reco.i3.objects import (
    MMC_TRACK,
    NO_SUB_RUN,
    PARTICLE,
    PULSE,
    CorrectedPulses,
    DomCalibration,
    DomGeometry,
    EventHeader,
    FilterResult,
    MCTree,
    OMKeyMap,
    Particle,
    PulseMask,
    PulsesByModule,
    PulseUnion,
    RawObject,
    Time,
)
from dnn_reco.i3.particle_names import FIT_STATUS, LOCATIONS, SHAPES, pdg_name

_SUMMARY = 80  # letters of a text
_HEX_BYTES, _HEX_WIDTH = 128, 16
_MEANINGS = {"shape": SHAPES, "fit_status": FIT_STATUS, "location": LOCATIONS}
_ANGLES = ("zenith", "azimuth")


def printable(text: str) -> str:
    """A text of a file in one line, with what cannot be printed as escape sequences."""
    return "".join(
        letter
        if letter.isprintable()
        else letter.encode("unicode_escape", "surrogatepass").decode()
        for letter in text
    )


def value_text(value: Any) -> str:
    """A number or text; numbers that are not whole have at most 7 or 10 digits."""
    if isinstance(value, np.float32):
        return f"{value:.7g}"
    if isinstance(value, float | np.floating):
        return f"{value:.10g}"
    return printable(str(value))


def event_text(header: EventHeader) -> str:
    """Run:event:sub-event."""
    return f"{header.run}:{header.event}:{header.sub_event}"


def time_text(time: Time) -> str:
    """Date and time in UTC, to milliseconds; a leap second has the times of the one before."""
    try:
        start = datetime(time.year, 1, 1, tzinfo=timezone.utc)
        moment = start + timedelta(microseconds=time.utc_count // 10_000)
    except (ValueError, OverflowError):  # a time that is not set has the year 0
        return f"{time.daq_time} × 0.1 ns of the year {time.year}"
    return f"{moment.replace(tzinfo=None).isoformat(' ', 'milliseconds')} UTC"


# --------------------------------------------------------------------------------------------------
# One line
# --------------------------------------------------------------------------------------------------
def summary(value: Any) -> str:
    """A decoded object in one line."""
    if isinstance(value, RawObject):
        return f"not decoded, {len(value.content):,} bytes"
    if isinstance(value, OMKeyMap):
        return _map_summary(value)
    if isinstance(value, MCTree):
        return _with_names(value, "particle", _primaries(value))
    if isinstance(value, Particle):
        return _particle_summary(value)
    if isinstance(value, EventHeader):
        return f"{event_text(value)} {value.stream}, {time_text(value.start)}".replace(" ,", ",")
    if isinstance(value, Time):
        return time_text(value)
    if isinstance(value, DomGeometry | DomCalibration):
        return counted(len(value.keys), "PMT")
    if isinstance(value, Mapping):
        return _with_names(value, "entry", _listed(_names(value)) or "none passed")
    if isinstance(value, np.ndarray) and value.dtype == PARTICLE:
        return _with_names(value, "particle", _listed(map(pdg_name, value["pdg"].tolist())))
    if isinstance(value, np.ndarray) and value.dtype.names is None:
        return _with_names(value, "number", _listed(map(value_text, value)))
    if isinstance(value, np.ndarray | list) or type(value) is tuple:
        return counted(len(value), "entry")
    if isinstance(value, str):
        return printable(value[:_SUMMARY]) + ("…" if len(value) > _SUMMARY else "")
    return ", ".join(
        f"{name} {value_text(field)}" if name else value_text(field)
        for name, field in fields_of(value).items()
        if is_single(field)
    )


def _names(values: Mapping[Any, Any]) -> Iterator[str]:
    """Names of entries, with their value if it is one word; of filters only those that passed."""
    for name, value in values.items():
        if isinstance(value, FilterResult):
            if value.condition_passed and value.prescale_passed:
                yield f"{printable(name)} passed"
        elif isinstance(value, np.ndarray):
            yield printable(name)
        else:
            yield f"{printable(str(name))} {value_text(value)}"


def _with_names(value: Sized, what: str, names: str) -> str:
    return f"{counted(len(value), what)}{': ' if len(value) else ''}{names if len(value) else ''}"


def _listed(names: Iterable[Any], most: int = 4) -> str:
    shown: list[str] = []
    for name in names:
        if len(shown) == most:
            return f"{', '.join(shown)}, …"
        shown.append(str(name))
    return ", ".join(shown)


def _map_summary(value: OMKeyMap) -> str:
    num_hit = int(np.count_nonzero(value.counts))
    if value.items.dtype != PULSE:
        return f"{counted(len(value.items), 'entry')} of {counted(num_hit, 'PMT')}"
    text = f"{counted(len(value.items), 'pulse')} of {counted(num_hit, 'PMT')}"
    if not len(value.items):
        return text
    times, charge = value.items["time"], value.items["charge"].sum(dtype=np.float64)
    return f"{text}, {charge:,.2f} PE, {times.min():,.1f} to {times.max():,.1f} ns"


def _primaries(tree: MCTree) -> str:
    rows = tree.particles[tree.primaries]
    return _listed(
        f"{pdg_name(pdg)} {energy:.4g} GeV"
        for pdg, energy in zip(rows["pdg"].tolist(), rows["energy"], strict=True)
    )


def _particle_summary(particle: Particle) -> str:
    zenith, azimuth = np.degrees([particle.zenith, particle.azimuth])
    status = f", fit {_meaning('fit_status', particle.fit_status)}" if particle.fit_status else ""
    return (
        f"{pdg_name(particle.pdg)}, {SHAPES.get(particle.shape, particle.shape)}, "
        f"{particle.energy:.4g} GeV, zenith {zenith:.1f}°, azimuth {azimuth:.1f}°, "
        f"at {particle.x:.1f}, {particle.y:.1f}, {particle.z:.1f} m{status}"
    )


def _meaning(field: str, value: int) -> str:
    return _MEANINGS[field].get(value, str(value))


def reference_text(stored: Any) -> str:
    """What a reference to pulses refers to; empty: this is none.

    Parameters
    ----------
    stored
        What :meth:`dnn_reco.i3.frame.Frame.stored` gives.
    """
    if isinstance(stored, PulseMask):
        share = f"{np.count_nonzero(stored.pulses)} of {len(stored.pulses)} pulses"
        return f"mask of '{printable(stored.source)}': {share} of {len(stored.counts)} of its PMTs"
    if isinstance(stored, PulseUnion):
        return f"union of {', '.join(printable(source) for source in stored.sources)}"
    if isinstance(stored, PulsesByModule):
        return f"'{printable(stored.source)}' with the PMTs of a module as one"
    if isinstance(stored, CorrectedPulses):
        return f"'{printable(stored.source)}' corrected by '{printable(stored.calibration)}'"
    return ""


# --------------------------------------------------------------------------------------------------
# Many lines
# --------------------------------------------------------------------------------------------------
def text_of(value: Any, most_rows: int) -> Iterator[str]:
    """A decoded object as lines of text.

    Parameters
    ----------
    value
        What a key of a frame gives.
    most_rows
        Most rows of a table or tree.
    """
    if isinstance(value, RawObject):
        yield from _hex(value)
    elif isinstance(value, MCTree):
        yield from _tree(value, most_rows)
    elif isinstance(value, np.ndarray) and value.dtype == PARTICLE:
        yield from _tree(MCTree(value, np.full(len(value), -1)), most_rows)
    elif isinstance(value, EventHeader):
        yield from _pairs(_header_fields(value))
    elif isinstance(value, str):
        yield from map(printable, value.splitlines())
    elif isinstance(value, Mapping) and value and _is_filter(next(iter(value.values()))):
        rows = [(printable(name), *map(str, result)) for name, result in value.items()]
        yield from table(["filter", "condition", "prescale"], rows, frozenset((0,)))
    else:
        fields = fields_of(value)
        if isinstance(value, np.ndarray) and value.dtype == MMC_TRACK:
            fields = _track_fields(fields)
        single = {name: field for name, field in fields.items() if is_single(field)}
        lists = {name: field for name, field in fields.items() if name not in single}
        if isinstance(value, Particle):
            single = _particle_fields(single)
        yield from _pairs(single)
        lengths = {len(field) for field in lists.values()}
        if len(lengths) == 1:
            yield from _rows(lists, lengths.pop(), most_rows)
        else:  # a map of lists
            yield from _pairs({name: _listed(map(value_text, f), 8) for name, f in lists.items()})


def _is_filter(value: Any) -> bool:
    return isinstance(value, FilterResult)


def _track_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of propagated tracks, with the name of the particle in place of all its properties."""
    names = tuple(pdg_name(pdg) for pdg in fields["particle.pdg"].tolist())
    rest = {name: field for name, field in fields.items() if "." not in name}
    return {"particle": names, "energy": fields["particle.energy"], **rest}


def _pairs(fields: Mapping[str, Any]) -> Iterator[str]:
    names = [printable(name) for name in fields]
    width = max(map(len, names), default=0)
    for name, field in zip(names, fields.values(), strict=True):
        yield f"{name:{width}}  {value_text(field)}" if name else value_text(field)


def _header_fields(header: EventHeader) -> dict[str, Any]:
    fields = {name: field for name, field in fields_of(header).items() if "." not in name}
    if header.sub_run == NO_SUB_RUN:
        fields["sub_run"] = "not set"
    return fields | {"start": time_text(header.start), "end": time_text(header.end)}


def _particle_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    units = {**dict.fromkeys(("x", "y", "z", "length"), "m"), "time": "ns", "energy": "GeV"}
    units |= dict.fromkeys(_ANGLES, "rad") | {"speed": "m/ns"}
    found = {
        name: f"{value_text(field)} {units[name]}" if name in units else field
        for name, field in fields.items()
    }
    for name in _ANGLES:
        found[name] += f" ({np.degrees(fields[name]):.2f}°)"
    for name in _MEANINGS:
        found[name] = f"{fields[name]} ({_meaning(name, fields[name])})"
    return found | {"pdg": f"{fields['pdg']} ({pdg_name(fields['pdg'])})"}


def _rows(lists: Mapping[str, Any], number: int, most: int) -> Iterator[str]:
    """Lists of one length as columns of a table, or as lines where there is one without name."""
    shown = min(number, most)
    if list(lists) == [""]:
        yield from (value_text(field) for field in lists[""][:shown])
    else:
        columns = [[value_text(field) for field in values[:shown]] for values in lists.values()]
        yield from table([printable(name) for name in lists], list(zip(*columns, strict=True)))
    yield from _left_out(number - shown)
    if not number:
        yield "(empty)"


def _left_out(number: int) -> Iterator[str]:
    if number > 0:
        yield f"… {number:,} more"


def table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], left: frozenset[int] = frozenset()
) -> Iterator[str]:
    """Rows of texts below titles, aligned on the right; some columns, by number, on the left."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        cells = [
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _tree(tree: MCTree, most: int) -> Iterator[str]:
    """Particles with their daughters below them, further to the right."""
    shown = min(len(tree), most)
    if not shown:
        yield "(empty)"
        return
    depth: list[int] = []
    for parent in tree.parents[:shown].tolist():
        depth.append(depth[parent] + 1 if parent >= 0 else 0)
    particles = tree.particles[:shown]
    columns = [
        [str(number) for number in range(shown)],
        [f"{'  ' * d}{pdg_name(p)}" for d, p in zip(depth, particles["pdg"].tolist(), strict=True)],
        [f"{energy:.5g}" for energy in particles["energy"]],
        *([f"{value:.2f}" for value in particles[name]] for name in ("x", "y", "z")),
        *([f"{value:.2f}" for value in np.degrees(particles[name])] for name in _ANGLES),
        *([f"{value:.1f}" for value in particles[name]] for name in ("time", "length")),
        [_meaning("shape", shape) for shape in particles["shape"].tolist()],
    ]
    titles = ["", "particle", "GeV", "x/m", "y/m", "z/m", "zenith/°", "azimuth/°", "time/ns"]
    rows = list(zip(*columns, strict=True))
    yield from table([*titles, "length/m", "shape"], rows, frozenset((1, 10)))
    yield from _left_out(len(tree) - shown)


def _hex(value: RawObject) -> Iterator[str]:
    yield f"not decoded: {len(value.content):,} bytes of class {printable(value.class_name)}"
    head: NDArray[np.uint8] = np.frombuffer(value.content[:_HEX_BYTES], np.uint8)
    for start in range(0, len(head), _HEX_WIDTH):
        part = head[start : start + _HEX_WIDTH].tolist()
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        yield f"{start:04x}  {' '.join(f'{byte:02x}' for byte in part):47}  {letters}"
    yield from _left_out(len(value.content) - len(head))
