"""From files with frames to one event file with labels and input features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.bin_exclusions import no_exclusions
from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.file_events import EVENT_ID
from dnn_reco.data.hdf5 import (
    NUM_INPUTS,
    InputTables,
    dom_maps,
    input_tables,
    write_event_file,
)
from dnn_reco.data.hdf5.writer import DomMap
from dnn_reco.data.hits import Hits, join_hits
from dnn_reco.data_creation.block_inputs import EventInputs, make_inputs
from dnn_reco.data_creation.event_tables import EventTables, Row, row_of
from dnn_reco.data_creation.frame_inputs import FrameInput, frame_input
from dnn_reco.data_creation.modules import Features, Labels, Modules
from dnn_reco.detector.geometry import string_and_om
from dnn_reco.errors import DataError
from dnn_reco.i3.events import HEADER, header_of, pulse_keys
from dnn_reco.i3.frame import Frame
from dnn_reco.i3.objects import OM_KEY, OMKeyMap
from dnn_reco.i3.reader import read_i3
from dnn_reco.i3.record import write_frame_record
from dnn_reco.i3.writer import FrameWriter, open_i3

MC_TREES = ("I3MCTree", "I3MCTree_preMuonProp")

CREATION_RECORD = "dnn_reco_creation"
"""Name of the attribute of an event file with the text about how it was made."""

NOTHING_USABLE = "dnn_reco_nothing_usable"
"""Name of the attribute with the reason why no event of a file can be used; else it has none."""

NO_SIMULATION = "no simulated particles"

_BLOCK = 100  # events whose features are computed at once
_MOST_BYTES = 2**26  # of frames that wait for them


@dataclass(frozen=True)
class FileJob:
    """An event file to make.

    Attributes
    ----------
    inputs
        Files with frames, in the order to read them.
    hdf5
        The event file; None: none is written.
    keys
        Frame objects to write to it beside labels and features.
    streams
        Sub-event streams whose P frames are events; number s of `SubEventStream` is `streams[s]`.
    i3
        File of the frames with labels and features added; None: none is written.
    i3_stops
        Kinds of frames that it holds.
    gcd
        File with geometry, calibration and detector status that the frames inherit; None: there is
        none, or they are part of the inputs.
    max_events
        Read no more than these first events; None: all.
    record
        Text about how the event file is made, to attach to it; empty: none.
    """

    inputs: tuple[Path, ...]
    hdf5: Path | None
    keys: tuple[str, ...]
    streams: tuple[str, ...]
    i3: Path | None = None
    i3_stops: tuple[str, ...] = ("Q", "P")
    gcd: Path | None = None
    max_events: int | None = None
    record: str = ""


@dataclass
class FileSummary:
    """What became of the frames of a file.

    Attributes
    ----------
    num_frames, num_events
        Frames read, and events written.
    num_usable
        Events with features of any kind.
    pulses
        Names of the pulses that the first event without features has.
    skipped
        P frames that are not events, by reason.
    without
        Events that lack something, by what and why.
    left_out
        Pulses in no feature, by reason.
    absent, unwritable
        Frame objects that were to be written, and that no event has, or that are no rows of a
        table.
    unlabelled
        Labels that no event has, though they should.
    absent_exclusions
        Lists of DOMs and time windows to leave out, and that no event has.
    """

    num_frames: int = 0
    num_events: int = 0
    num_usable: int = 0
    pulses: tuple[str, ...] = ()
    skipped: Counter[str] = field(default_factory=Counter)
    without: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    absent: tuple[str, ...] = ()
    unwritable: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()
    absent_exclusions: tuple[str, ...] = ()


def make_event_file(job: FileJob, modules: Modules) -> FileSummary:
    """Read the frames of files, and write their events.

    Each P frame of one of the streams is an event: one row in each table. An event without the
    pulses or labels that it should have keeps its row, marked as empty, and is counted.

    Raises
    ------
    DataError
        If a file cannot be read to its end, an object is damaged or of a wrong kind, or the output
        cannot be written.
    """
    events = _Events(job, modules)
    with ExitStack() as stack:
        output = _Output(job, stack)
        for frame in read_i3(*job.inputs, verify=True, gcd=job.gcd):
            is_event = events.add(frame)
            output.add(frame, is_event)
            if events.is_block_full or output.num_bytes > _MOST_BYTES:
                output.write(events.finish_block())
            if events.summary.num_events == job.max_events:
                break
        output.write(events.finish_block())
    events.count_labels()
    if job.hdf5 is not None:
        events.write(job.hdf5)
    return events.summary


def count_event_frames(path: Path, streams: Collection[str]) -> int:
    """How many events :func:`make_event_file` finds in a file with frames.

    Raises
    ------
    DataError
        If the file cannot be read to its end.
    """
    headers = (header_of(frame) for frame in read_i3(path) if frame.stop == "P")
    return sum(header is not None and header.stream in streams for header in headers)


class _Output:
    """The file of frames with labels and features, if one is written."""

    def __init__(self, job: FileJob, stack: ExitStack) -> None:
        self.stops = job.i3_stops
        self.writer: FrameWriter | None = None
        if job.i3 is not None:
            finish = partial(write_frame_record, job.i3, record=job.record)
            self.writer = stack.enter_context(open_i3(job.i3, finish))
        self.waiting: list[Frame] = []  # until the features of their events are made
        self.events: list[Frame] = []
        self.num_bytes = 0

    def add(self, frame: Frame, is_event: bool) -> None:
        """Keep a frame until it can be written."""
        if self.writer is None:
            return
        if frame.stop in self.stops:
            self.waiting.append(frame)
            self.num_bytes += frame.num_bytes
        if is_event:
            self.events.append(frame)

    def write(self, features: Mapping[str, EventInputs]) -> None:
        """Write the frames that wait, with the features of their events by name."""
        if self.writer is None:
            return
        for prefix, made in features.items():
            _put_features(self.events, prefix, made)
        for frame in self.waiting:
            self.writer.write(frame)
        self.waiting.clear()
        self.events.clear()
        self.num_bytes = 0


class _Events:
    """Events of a file, which grow frame by frame."""

    def __init__(self, job: FileJob, modules: Modules) -> None:
        self.job = job
        self.modules = modules
        self.summary = FileSummary()
        self.tables = EventTables()
        self.ids: list[tuple[int, int, int, int]] = []
        self.inputs: list[list[FrameInput]] = [[] for _ in modules.features]
        self.blocks: list[list[EventInputs]] = [[] for _ in modules.features]
        exclusions = [
            key for each in modules.features for key in each.settings.dom_exclusions or ()
        ]
        self.unseen = dict.fromkeys(exclusions)
        self.num_waiting = 0  # events without features yet
        self.without_rows: Counter[tuple[str, str]] = Counter()  # key, type -> events
        self.without_labels: Counter[tuple[str, str]] = Counter()  # key, why -> events
        self.why: dict[str, str] = {}  # there are no labels for the frame, by key

    @property
    def is_block_full(self) -> bool:
        """Whether there are enough events to compute their features."""
        return self.num_waiting >= _BLOCK

    def add(self, frame: Frame) -> bool:
        """Take a frame; returns whether it is an event: a P frame of one of the streams."""
        self.summary.num_frames += 1
        if frame.stop == "Q":
            self._add_labels(frame, on_daq_frames=True)
        if frame.stop != "P":
            return False
        header = header_of(frame)
        if header is None:
            self.summary.skipped[f"no '{HEADER}'"] += 1
            return False
        if header.stream not in self.job.streams:
            self.summary.skipped[f"sub-event stream '{header.stream}'"] += 1
            return False
        self._add_labels(frame, on_daq_frames=False)
        self.without_labels.update((key, why) for key, why in self.why.items())
        stream = self.job.streams.index(header.stream)
        self.ids.append((header.run, header.event, header.sub_event, stream))
        self.tables.add_event(self._rows(frame))
        for features, inputs in zip(self.modules.features, self.inputs, strict=True):
            inputs.append(self._input(frame, features))
        is_usable = any(not inputs[-1].missing for inputs in self.inputs)
        self.summary.num_usable += is_usable
        if not is_usable and not self.summary.pulses:
            self.summary.pulses = tuple(pulse_keys(frame))
        for key in [key for key in self.unseen if key in frame]:
            del self.unseen[key]
        self.num_waiting += 1
        self.summary.num_events += 1
        return True

    def _add_labels(self, frame: Frame, on_daq_frames: bool) -> None:
        """Put the objects that the modules make into the frame."""
        for each in self.modules.labels:
            if each.module.run_on_daq_frames is not on_daq_frames:
                continue
            outputs, why = _outputs(frame, each)
            for key, value in outputs.items():
                frame.put(key, value)
            for key in each.module.columns():
                self.why.pop(key, None)
                if key not in outputs:
                    self.why[key] = why

    def _rows(self, frame: Frame) -> dict[str, Row]:
        rows = {}
        for key in self._keys():
            if key not in frame:
                continue
            of_type = (key, frame.object(key).type_name)
            # what has no rows is not decoded for each event: it may be large
            row = None if of_type in self.without_rows else row_of(frame[key])
            if row is None:
                self.without_rows[of_type] += 1
            else:
                rows[key] = row
        return rows

    def _keys(self) -> tuple[str, ...]:
        """Frame objects to write; features have tables of their own."""
        made = [key for each in self.modules.labels for key in each.module.columns()]
        prefixes = [each.settings.output_key for each in self.modules.features]
        features = {name for prefix in prefixes for name in (prefix, *_feature_tables(prefix))}
        return tuple(key for key in dict.fromkeys([*self.job.keys, *made]) if key not in features)

    def _input(self, frame: Frame, features: Features) -> FrameInput:
        found = frame_input(frame, features.settings, keep_frame=features.user_format is not None)
        if found.missing:
            self.summary.without[f"no '{features.settings.output_key}': {found.missing}"] += 1
        self.summary.left_out.update(found.left_out)
        return found

    def finish_block(self) -> dict[str, EventInputs]:
        """Compute the features of the events that have none yet; returns them by name."""
        if not self.num_waiting:
            return {}
        ids = np.array(self.ids[-self.num_waiting :], dtype=EVENT_ID)
        self.num_waiting = 0
        found = {}
        for features, inputs, blocks in zip(
            self.modules.features, self.inputs, self.blocks, strict=True
        ):
            made = make_inputs(inputs, features.settings, ids, own=features.user_format)
            blocks.append(made)
            found[features.settings.output_key] = made
            inputs.clear()
        return found

    def count_labels(self) -> None:
        """Count the events without labels; a file without simulation lacks none."""
        missing: Counter[str] = Counter()
        for (key, why), number in self.without_labels.items():
            if (key, NO_SIMULATION) in self.without_labels and (
                self.without_labels[key, NO_SIMULATION] == self.summary.num_events
            ):
                continue
            missing[key] += number
            self.summary.without[f"no '{key}': {why}"] += number
        everyone = self.summary.num_events
        self.summary.unlabelled = tuple(key for key, n in missing.items() if n == everyone)

    def write(self, path: Path) -> None:
        """Write the event file."""
        tables: dict[str, Any] = self.tables.tables()
        exists = self.tables.exists()
        maps: dict[str, DomMap] = {}
        for features, blocks in zip(self.modules.features, self.blocks, strict=True):
            of_features = _FeatureTables(features.settings, blocks)
            tables |= of_features.tables
            exists |= of_features.exists
            maps |= of_features.maps
        self.summary.absent_exclusions = tuple(self.unseen)
        without_rows = {key for key, _ in self.without_rows}
        known = {*tables, *maps, *without_rows}
        self.summary.absent = tuple(key for key in self._keys() if key not in known)
        self.summary.unwritable = tuple(sorted(without_rows - tables.keys()))
        for (key, kind), number in self.without_rows.items():
            if key in tables:
                self.summary.without[f"no '{key}': {kind} is no row of a table"] += number
        texts = {CREATION_RECORD: self.job.record, NOTHING_USABLE: self._why_nothing()}
        write_event_file(
            path,
            np.array(self.ids, dtype=EVENT_ID),
            dict(sorted(tables.items())),
            maps,
            exists,
            self.job.streams,
            [each.settings for each in self.modules.features],
            {
                NUM_INPUTS: str(_num_inputs(self.job.inputs)),
                **{name: text for name, text in texts.items() if text},
            },
        )

    def _why_nothing(self) -> str:
        """Why no event can be used; empty: some can."""
        if self.summary.unlabelled:
            return f"no event has the labels {', '.join(self.summary.unlabelled)}"
        return "no event has features" if self.inputs and not self.summary.num_usable else ""


def _num_inputs(paths: Sequence[Path]) -> int:
    """Number of input files but for those of the detector; files without any event left count."""
    return max(1, sum(not _is_detector(path) for path in paths))


def _is_detector(path: Path) -> bool:
    """Whether a file holds geometry, calibration or status of the detector, and no events."""
    found = False
    for frame in read_i3(path, mix=False):
        if frame.stop in ("S", "Q", "P"):
            return False
        found |= frame.stop in ("G", "C", "D")
    return found


def _outputs(frame: Frame, labels: Labels) -> tuple[Mapping[str, Any], str]:
    """What a module makes for a frame, and why it makes nothing."""
    if labels.only_simulation and not any(key in frame for key in MC_TREES):
        return {}, NO_SIMULATION
    try:
        return labels.module.outputs(frame), ""
    except DataError as error:
        return {}, str(error).removeprefix(f"{frame.source}: ")


def _feature_tables(prefix: str) -> tuple[str, ...]:
    """Names of all tables of features."""
    names = input_tables(prefix)
    others = (f"{prefix}_runtime", f"{prefix}_bin_exclusions")
    return (names.values, names.indices, names.time_offset, *others)


class _FeatureTables:
    """Tables of the input features of all blocks."""

    def __init__(self, settings: DataSettings, blocks: Sequence[EventInputs]) -> None:
        prefix = settings.output_key
        names = input_tables(prefix)
        self.tables: dict[str, dict[str, NDArray[np.float64]]] = {}
        self.exists: dict[str, NDArray[np.bool_]] = {}
        self.maps: dict[str, DomMap] = {}
        exists = np.concatenate([np.zeros(0, dtype=np.bool_), *(each.exists for each in blocks)])
        offset = _joined([each.features.time_offset for each in blocks])
        self.tables[names.time_offset] = {"value": offset}
        self.tables[f"{prefix}_runtime"] = {"value": _joined([each.seconds for each in blocks])}
        self.exists = dict.fromkeys(self.tables, exists)
        none = Hits(np.zeros(1, np.int64), np.zeros(0, np.uint16), np.zeros((0, settings.num_bins)))
        hits = join_hits([each.features.hits for each in blocks] or [none])
        made = blocks[0].features if blocks else None
        listing = (made.sparse, made.num_listed) if made else (False, 0)
        self.maps[names.values], self.maps[names.indices] = dom_maps(hits, *listing)
        exclusions = [each.exclusions for each in blocks] or [no_exclusions(0)]
        self.maps[f"{prefix}_bin_exclusions"] = _join_maps(exclusions)


def _joined(parts: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate([np.zeros(0), *parts])


def _join_maps(maps: Sequence[DomMap]) -> DomMap:
    counts = np.concatenate([np.diff(each.offsets) for each in maps])
    return DomMap(
        np.concatenate([[0], np.cumsum(counts)]),
        np.concatenate([each.dom for each in maps]),
        np.concatenate([each.vector_index for each in maps]),
        np.concatenate([each.item for each in maps]),
    )


# --------------------------------------------------------------------------------------------------
# Features in frames
# --------------------------------------------------------------------------------------------------
def _put_features(frames: Sequence[Frame], prefix: str, made: EventInputs) -> None:
    """Put the features of events into their P frames."""
    features = made.features
    values, indices = dom_maps(features.hits, features.sparse, features.num_listed)
    names = InputTables(*(f"{prefix}_{part}" for part in ("bin_values", "bin_indices", "x")))
    for event, frame in enumerate(frames):
        if not made.exists[event]:
            continue
        frame.put(names.values, _om_key_map(values, event))
        frame.put(names.indices, _om_key_map(indices, event))
        frame.put(f"{prefix}_bin_exclusions", _om_key_map(made.exclusions, event))
        frame.put(f"{prefix}_global_time_offset", float(features.time_offset[event]))
        frame.put(f"{prefix}_runtime", float(made.seconds[event]))


def _om_key_map(dom_map: DomMap, event: int) -> OMKeyMap:
    """The rows of an event as a map of photomultipliers."""
    rows = slice(*dom_map.offsets[event : event + 2])
    dom, counts = np.unique(dom_map.dom[rows], return_counts=True)
    keys = np.zeros(len(dom), OM_KEY)
    keys["string"], keys["om"] = string_and_om(dom)
    return OMKeyMap(keys, counts.astype(np.int64), dom_map.item[rows])
