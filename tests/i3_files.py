"""Small files with frames, made for tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dnn_reco.i3.frame import Frame
from dnn_reco.i3.objects import (
    OM_KEY,
    PULSE,
    TIME_WINDOW,
    EventHeader,
    OMKeyMap,
    PulseMask,
    Time,
)
from dnn_reco.i3.writer import write_i3

PULSES = "InIceDSTPulses"


def header(event: int, stream: str = "InIceSplit", run: int = 7, sub_event: int = 0) -> EventHeader:
    return EventHeader(
        run, event, Time(2020, 10), Time(2020, 20), stream=stream, sub_event=sub_event
    )


def om_keys(keys: Sequence[tuple[int, ...]]) -> np.ndarray:
    return np.array([(*key, 0)[:3] for key in keys], OM_KEY)


def pulse_map(pulses: dict[tuple[int, ...], Sequence[tuple[float, float]]]) -> OMKeyMap:
    """Pulses (time, charge) by (string, om[, pmt])."""
    keys = sorted(pulses)
    items = [(time, charge, 1.0, 1) for key in keys for time, charge in pulses[key]]
    counts = np.array([len(pulses[key]) for key in keys], dtype=np.int64)
    return OMKeyMap(om_keys(keys), counts, np.array(items, PULSE))


def windows(of: dict[tuple[int, int], Sequence[tuple[float, float]]]) -> OMKeyMap:
    keys = sorted(of)
    items = [window for key in keys for window in of[key]]
    counts = np.array([len(of[key]) for key in keys], dtype=np.int64)
    return OMKeyMap(om_keys(keys), counts, np.array(items, TIME_WINDOW))


def mask_of(source: str, bits: Sequence[Sequence[bool]]) -> PulseMask:
    """A mask: for each photomultiplier which of its pulses are selected."""
    selected = [any(of_key) for of_key in bits]
    kept = [list(of_key) for of_key, keep in zip(bits, selected, strict=True) if keep]
    return PulseMask(
        source,
        np.array(selected, dtype=np.bool_),
        np.array([len(of_key) for of_key in kept], dtype=np.int64),
        np.array([bit for of_key in kept for bit in of_key], dtype=np.bool_),
    )


def frame(stop: str, **objects: Any) -> Frame:
    made = Frame(stop)
    for key, value in objects.items():
        made.put(key, value)
    return made


def write(path: Path, frames: Iterable[Frame]) -> Path:
    write_i3(path, frames)
    return path


def events(
    path: Path, number: int, stream: str = "InIceSplit", seed: int = 1, run: int = 7
) -> Path:
    """A file of Q and P frames with random pulses."""
    rng = np.random.default_rng(seed)
    frames = []
    for event in range(number):
        doms = rng.choice(5160, size=rng.integers(3, 30), replace=False)
        pulses = {
            (int(dom) // 60 + 1, int(dom) % 60 + 1): [
                (float(9000 + time), float(np.float32(charge)))
                for time, charge in zip(
                    np.sort(rng.uniform(0, 3000, n)), rng.uniform(0.2, 3, n), strict=True
                )
            ]
            for dom in doms
            for n in rng.integers(1, 5, 1)
        }
        objects = {PULSES: pulse_map(pulses), "I3EventHeader": header(event, "", run)}
        frames.append(frame("Q", **objects))
        frames.append(frame("P", I3EventHeader=header(event, stream, run)))
    return write(path, frames)
