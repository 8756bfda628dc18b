"""Damaged and lying .i3 files: how many are read, refused, crash, or take long.

Run as: python tests/i3/fuzz_i3.py --cases 20000 [--seed 1] [--seconds 600]

Files of made-up frames with an object of each class, and the collaboration's files where they are
found, get bits flipped, lengths replaced by hostile ones, parts cut out, repeated or swapped: in
the file, in its compressed bytes, or in one object of a frame whose checksum is right. All frames
are read in all ways and all objects decoded. The counts:

read     everything was decoded, and objects that can be written again decode to the same bytes
refused  with DataError, here or there
crashed  another error, or a value that is not written as it was read
slow     took more than 5 s

The exit code is 1 if any case is in one of the last two. The process may use 3 GB, so that what
fills the memory is a crash. The same seed gives the same files.
"""

import argparse
import bz2
import gzip
import logging
import os
import resource
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from made_up_frames import Bytes, Readout, encode_readouts, frame, head, particle

from dnn_reco.errors import DataError
from dnn_reco.i3.codecs import CODECS, decode, encode
from dnn_reco.i3.frame import Frame, StoredObject, frame_bytes
from dnn_reco.i3.objects import (
    MC_PHOTOELECTRON,
    MC_PULSE,
    MMC_TRACK,
    OM_KEY,
    PARTICLE,
    PULSE,
    TANK_KEY,
    TIME_WINDOW,
    CorrectedPulses,
    Direction,
    EventHeader,
    FilterResult,
    MCTree,
    OMKeyMap,
    Particle,
    Position,
    PulseMask,
    PulsesByModule,
    PulseUnion,
    Time,
    TimeWindow,
)
from dnn_reco.i3.reader import read_i3

COUNTS = ("read", "refused", "crashed", "slow")
_MOST_SECONDS = 5.0
_MOST_MEMORY = 3 * 2**30
_LARGEST_GOLDEN_OBJECT = 20_000  # bytes: damage to small ones tests as much
_HOSTILE = [0, 1, 2, 3, 7, 8, 9, 63, 64, 65, 255, 256, 65534, 65535, 65536, 2**20, 2**24]
_HOSTILE += [2**30, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1]


# --------------------------------------------------------------------------------------------------
# Sound objects
# --------------------------------------------------------------------------------------------------
def om_key_map(dtype: Any, counts: list[int]) -> OMKeyMap:
    keys = np.array([(1, om, om % 2) for om in range(1, len(counts) + 1)], OM_KEY)
    rng = np.random.default_rng(len(counts))
    items = np.frombuffer(rng.bytes(sum(counts) * np.dtype(dtype).itemsize), dtype)
    return OMKeyMap(keys, np.array(counts), items)


def values() -> dict[str, Any]:
    """A value of each class that can be written."""
    counts = [2, 0, 1, 3]
    particles = np.zeros(6, PARTICLE)
    pulses = om_key_map(PULSE, counts)
    mask = PulseMask(
        "Pulses", np.array([True, False, True, True]), np.array([2, 1, 3]), np.arange(6) % 2 == 0
    )
    return {
        "Pulses": pulses,
        "Mask": mask,
        "Union": PulseUnion(("Pulses", "Mask", "SuperDST")),
        "Modules": PulsesByModule("Union"),
        "Corrected": CorrectedPulses("Pulses", "I3Calibration"),
        "Windows": om_key_map(TIME_WINDOW, counts),
        "Series": np.zeros(3, TIME_WINDOW),
        "Doubles": om_key_map("f8", counts),
        "Ints": om_key_map("i4", counts),
        "Electrons": om_key_map(MC_PHOTOELECTRON, counts),
        "MCPulses": om_key_map(MC_PULSE, counts),
        "Energy": 1.5,
        "Number": 3,
        "Passed": True,
        "Text": "text é",
        "Weights": {"one": 1.0, "two": 2.0},
        "Counts": {"one": 1, "two": 2},
        "Flags": {"one": True},
        "Vectors": {"one": np.arange(3.0), "two": np.zeros(0)},
        "Unsigned": {1: 2, 3: 4},
        "Filters": {"one": FilterResult(True, False), "two": FilterResult(False, True)},
        "Filter": FilterResult(True, True),
        "Vector": np.arange(5.0),
        "Integers": np.arange(5, dtype="i4"),
        "Strings": ("a", "bc"),
        "Keys": np.zeros(3, OM_KEY),
        "Tanks": np.zeros(2, TANK_KEY),
        "I3EventHeader": EventHeader(1, 2, Time(2020, 5), Time(2020, 6), stream="InIceSplit"),
        "Time": Time(2020, 7),
        "Window": TimeWindow(0.0, 1.0),
        "Position": Position(1.0, 2.0, 3.0),
        "Direction": Direction(1.0, 2.0),
        "Particle": Particle(energy=1.0),
        "Particles": particles[:3],
        "Tree": MCTree(particles, np.array([-1, 0, 1, 0, -1, 4])),
        "Tracks": np.zeros(3, MMC_TRACK),
    }


def other_objects() -> Iterator[tuple[str, bytes]]:
    """Objects of classes that are read only, of older versions, and that refer to earlier ones."""
    readouts = [
        Readout(1, 1, [(5000, 70_000, True, 3), (0, 3, False, 2), (300, 5, True, 2)]),
        Readout(1, 1, [(0, 5, True, 3)]),
        Readout(2, 61, [(5, 16000, True, 3)]),
    ]
    yield "SuperDST", encode_readouts(readouts)
    nested = head("I3MCTree", 0).raw("I", 1)
    for number in range(4):
        nested.tracked("I3Particle", 5).base()
        particle(nested, number).raw("I", int(number < 3))
    yield "OldTree", nested.content
    triggers = head("I3TriggerHierarchy").raw("I", 2)
    for number in range(2):
        triggers.tracked("I3Trigger", 1).raw("ddB", 1.0, 2.0, 1)
        triggers.tracked("TriggerKey", 1).raw("iiiBi", 1, 2, 3, 1, number).raw("I", 0)
    yield "Triggers", triggers.content
    yield "Geometry", geometry().content
    referring = head("I3ParticleVect").untracked("vector").raw("I", 6)
    for number in range(3):
        referring.tracked("I3Particle", 5).base()
        particle(referring, number)
    yield "Referring", referring.again(2).again(8).again(2).content


def geometry() -> Bytes:
    made = head("I3Geometry", 3).tracked("I3OMGeoMap").base().untracked("map").raw("I", 2)
    for om in (1, 2):
        made.untracked("pair").tracked("OMKey", 2).raw("iIB", 1, om, 0).tracked("I3OMGeo", 2)
        made.tracked("I3Position").base().raw("ddd", 1.0, 2.0, 3.0)
        made.tracked("I3Orientation").base().tracked("I3Quaternion").base().raw("4d", 0, 0, 0, 1)
        made.raw("idi", 20, 0.5, 5)
    return made


def sound_objects() -> dict[str, bytes]:
    """Contents of objects by name, one or more for each class."""
    found = {key: encode(value)[1] for key, value in values().items()}
    found["KeyDoubles"] = encode(om_key_map("f8", [1, 1, 1]), "I3MapKeyDouble")[1]
    found["KeyUnsigned"] = encode(om_key_map("u4", [1, 1, 1]), "I3MapKeyUInt")[1]
    return {**found, **dict(other_objects())}


def golden_objects() -> list[dict[str, bytes]]:
    """Small objects of P frames of the collaboration's files, with what they inherit."""
    folder = Path(os.environ.get("DNN_RECO_TEST_DATA", "")) / "i3"
    return [
        {
            key: each.object(key).content
            for key in each
            if len(each.object(key).content) < _LARGEST_GOLDEN_OBJECT
        }
        for path in sorted(folder.glob("*.i3.gz"))
        for each in read_i3(path)
        if each.stop == "P"
    ]


# --------------------------------------------------------------------------------------------------
# Damage
# --------------------------------------------------------------------------------------------------
def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """A copy with one or a few kinds of damage."""
    for _ in range(int(rng.choice([1, 1, 1, 2, 4]))):
        content = _damaged_once(content, rng)
    return content


def _damaged_once(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    size = max(len(changed), 1)
    begin = int(rng.integers(size))
    end = min(begin + int(rng.choice([1, 2, 4, 8, 21, 64])), size)
    kind = rng.choice(["bit", "word", "near", "byte", "cut", "end", "repeat", "move", "noise"])
    if kind == "bit" and changed:
        changed[begin] ^= 1 << int(rng.integers(8))
    elif kind == "word":  # lengths, counts, numbers of objects
        changed[begin : begin + 4] = struct.pack("<I", int(rng.choice(_HOSTILE)))
    elif kind == "near" and begin + 4 <= len(changed):
        (word,) = struct.unpack_from("<I", changed, begin)
        struct.pack_into("<I", changed, begin, (word + int(rng.integers(-3, 4))) % 2**32)
    elif kind == "byte":
        changed[begin : begin + 1] = bytes([int(rng.choice([0, 1, 2, 3, 127, 128, 254, 255]))])
    elif kind == "cut":
        del changed[begin:end]
    elif kind == "end":
        del changed[begin:]
    elif kind == "repeat":
        changed[begin:begin] = changed[begin:end] * int(rng.choice([1, 2, 100]))
    elif kind == "move":
        other = int(rng.integers(size))
        changed[other:other] = changed[begin:end]
    else:
        changed[begin:end] = rng.bytes(end - begin)
    return bytes(changed)


def relabelled(content: bytes, other: bytes) -> bytes:
    """The content of an object with the class and version of another one."""
    return other[: _size_of_head(other)] + content[_size_of_head(content) :]


def _size_of_head(content: bytes) -> int:
    (length,) = struct.unpack_from("<I", content, 4)
    return 20 + int(length)


def case(rng: np.random.Generator, sound: list[dict[str, bytes]]) -> bytes:
    """The bytes of a damaged file."""
    objects = sound[int(rng.integers(len(sound))) if rng.random() < 0.3 else 0]
    where = rng.choice(["object", "file", "compressed"], p=[0.6, 0.3, 0.1])
    keys = list(objects)
    chosen = {keys[int(number)] for number in rng.integers(len(keys), size=4)}
    if where == "object":
        key, other = (keys[int(number)] for number in rng.integers(len(keys), size=2))
        content = objects[key]
        if rng.random() < 0.15:
            content = relabelled(content, objects[other])
        objects = {**objects, key: damaged(content, rng)}
        chosen |= {key, "Pulses", "Union", "Mask", "Modules", "SuperDST"} & objects.keys()
    stored = {key: StoredObject("X", objects[key]) for key in sorted(chosen) if key in objects}
    content = b"".join(
        (
            frame("Q", [("Q", "X", objects.get("Pulses", b"?"))]),
            frame_bytes(Frame("P", stored)),
            frame("P", version=5),
        )
    )
    if where == "object":
        return content
    if where == "file":
        return damaged(content, rng)
    pack = (gzip.compress, bz2.compress, zstandard.ZstdCompressor(write_checksum=True).compress)
    return damaged(pack[int(rng.integers(3))](content), rng)


# --------------------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------------------
def use(each: Frame) -> bool:
    """Decode all objects of a frame; whether none was refused."""
    is_sound = True
    for key in each:
        try:
            write_again(each.object(key), each.stored(key))
            value = each[key]
            if isinstance(value, OMKeyMap):
                value.to_numpy()
            if isinstance(value, EventHeader):
                assert np.isfinite(value.start.mjd)
        except DataError:
            is_sound = False
    return is_sound


def write_again(stored: StoredObject, value: Any) -> None:
    """What is written for a value must be read as the same value."""
    codec = CODECS.get(stored.class_name)
    if codec is not None and codec.write is not None:
        _, content = encode(value, stored.class_name)
        assert encode(decode(content), stored.class_name)[1] == content


def outcome(path: Path) -> tuple[str, str]:
    """Read a file in all ways; one of COUNTS, and what happened."""
    start = time.perf_counter()
    is_sound = True
    try:
        for options in ({}, {"verify": True}, {"recover": True}):
            try:
                for each in read_i3(path, **options):
                    is_sound &= use(each)
            except DataError:
                is_sound = False
    except (Exception, MemoryError):
        return "crashed", traceback.format_exc()
    seconds = time.perf_counter() - start
    if seconds > _MOST_SECONDS:
        return "slow", f"{seconds:.1f} s"
    return "read" if is_sound else "refused", ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=np.inf, help="stop after this time")
    parser.add_argument("--keep", type=Path, help="folder for files that crash or are slow")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("error")
    sound = [sound_objects(), *golden_objects()]
    counts: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fuzzed.i3"
        for number in range(options.cases):
            if time.perf_counter() - start > options.seconds:
                break
            content = case(np.random.default_rng([options.seed, number]), sound)
            path.write_bytes(content)
            kind, what = outcome(path)
            counts[kind] += 1
            if kind in ("crashed", "slow"):
                print(f"case {number}: {kind}\n{what}", flush=True)
                if options.keep:
                    (options.keep / f"{options.seed}_{number}.i3").write_bytes(content)
    print(", ".join(f"{counts[name]} {name}" for name in COUNTS))
    sys.exit(1 if counts["crashed"] + counts["slow"] else 0)


if __name__ == "__main__":
    main()
