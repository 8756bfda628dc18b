"""Rates of .i3 files: decompression, scan of frames, decoding of objects, writing.

Run as: python benchmarks/i3.py [FILE …] [--seconds 1]

FILE is an .i3 file, compressed or not, whose frames are repeated to 100 MB; without FILE made-up
frames are used, with 300 pulses and 1,000 particles each. Files are in the page cache. All is done
by one thread, and reports the median of as many repeats as fit into --seconds, 5 at least. MB are
those of the decompressed file.
"""

import argparse
import bz2
import contextlib
import gzip
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zstandard
from machine import matrix_rate, median_seconds

from dnn_reco.i3.codecs import CODECS, decode, encode
from dnn_reco.i3.frame import Frame, StoredObject, frame_bytes
from dnn_reco.i3.objects import OM_KEY, PARTICLE, PULSE, MCTree, OMKeyMap, PulseMask
from dnn_reco.i3.reader import read_i3
from dnn_reco.i3.stream import EndOfStreamError, open_stream
from dnn_reco.i3.writer import write_i3

_BYTES = 100e6
_BYTES_OF_BZ2 = 10e6  # it is slow
_PIECE = 2**20
_DOMS, _PULSES, _PARTICLES = 100, 300, 1000


def made_up_frames() -> list[Frame]:
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(10):
        keys = np.zeros(_DOMS, OM_KEY)
        keys["string"], keys["om"] = np.arange(_DOMS) // 10 + 1, np.arange(_DOMS) % 10 + 1
        counts = 1 + rng.multinomial(_PULSES - _DOMS, np.full(_DOMS, 1 / _DOMS))
        pulses = np.zeros(_PULSES, PULSE)
        pulses["time"], pulses["charge"] = rng.uniform(0, 2e4, _PULSES), rng.gamma(1, 1, _PULSES)
        selected = rng.random(_DOMS) < 0.5
        of_mask = counts[selected]
        event, readout = Frame("P"), Frame("Q")
        readout.put("Pulses", OMKeyMap(keys, counts, pulses))
        mask = PulseMask("Pulses", selected, of_mask, rng.random(of_mask.sum()) < 0.5)
        event.put("CleanedPulses", mask)
        parents = np.arange(_PARTICLES) - 1
        parents[2:] = 1
        readout.put("I3MCTree", MCTree(np.zeros(_PARTICLES, PARTICLE), parents))
        readout.put("I3MCWeightDict", {f"weight {k}": float(k) for k in range(50)})
        frames += [readout, event]
    return frames


def scan(path: Path, verify: bool) -> int:
    return sum(len(frame.own) for frame in read_i3(path, verify=verify))


def file_rates(content: bytes, num_frames: int, folder: Path, seconds: float) -> None:
    print(f"{'':28s} {'MB/s':>8s} {'frames/s':>10s}")
    compressors: dict[str, Callable[[bytes], bytes]] = {
        "": bytes,
        ".gz": lambda data: gzip.compress(data, 6),
        ".zst": zstandard.ZstdCompressor(6).compress,
        ".bz2": bz2.compress,
    }
    for suffix, compress in compressors.items():
        repeats = max(1, int((_BYTES_OF_BZ2 if suffix == ".bz2" else _BYTES) / len(content)))
        path = folder / f"events.i3{suffix}"
        path.write_bytes(compress(content) * repeats)
        name = suffix or "plain"
        cases: dict[str, Callable[[], object]] = {f"{name}: frames": lambda p=path: scan(p, False)}
        if suffix:
            cases = {f"{name}: decompress": lambda p=path: unpack(p), **cases}
        else:
            cases["plain: frames, checksums"] = lambda p=path: scan(p, True)
        for title, run in cases.items():
            taken = median_seconds(run, seconds)
            rate = len(content) * repeats / taken / 1e6
            frames = f"{num_frames * repeats / taken:10,.0f}" if "frames" in title else f"{'':10s}"
            print(f"{title:28s} {rate:8,.0f} {frames}", flush=True)
        path.unlink()


def unpack(path: Path) -> None:
    """Decompress a file piece by piece, as it is done for reading."""
    with open_stream(path) as stream, contextlib.suppress(EndOfStreamError):
        while stream.peek(0, _PIECE):
            stream.consume(_PIECE)


def object_rates(frames: list[Frame], seconds: float) -> None:
    """Decoding and encoding of the objects of each class, all those of the file in turn."""
    print(f"\n{'class':34s} {'number':>7s} {'decoded/s':>10s} {'encoded/s':>10s} {'items/s':>12s}")
    by_class: dict[str, list[StoredObject]] = defaultdict(list)
    for frame in frames:
        for stored in frame.own.values():
            if stored.class_name in CODECS:
                by_class[stored.class_name].append(stored)
    for name, objects in sorted(by_class.items()):
        contents = [stored.content for stored in objects]
        values = [decode(content) for content in contents]
        taken = median_seconds(lambda c=contents: [decode(each) for each in c], seconds)
        rate, encoded, items = len(objects) / taken, "", ""
        if CODECS[name].write is not None:
            of_name = median_seconds(lambda v=values, n=name: [encode(e, n) for e in v], seconds)
            encoded = f"{len(objects) / of_name:,.0f}"
        if isinstance(values[0], (OMKeyMap, MCTree)):
            number = sum(len(getattr(value, "items", value)) for value in values)
            items = f"{number / taken:,.0f}"
        print(f"{name:34s} {len(objects):7d} {rate:10,.0f} {encoded:>10s} {items:>12s}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="*", help=".i3 files whose frames are repeated")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each measurement")
    options = parser.parse_args()
    print(f"numpy {np.__version__}; matrix product {matrix_rate():.0f} GFLOP/s")
    frames = list(read_i3(*options.files)) if options.files else made_up_frames()
    content = b"".join(frame_bytes(frame) for frame in frames)
    num_objects = sum(len(frame.own) for frame in frames)
    print(f"{len(frames)} frames, {num_objects} objects, {len(content) / 1e6:.1f} MB\n")
    with tempfile.TemporaryDirectory() as folder:
        file_rates(content, len(frames), Path(folder), options.seconds)
        path = Path(folder) / "written.i3"
        taken = median_seconds(lambda: write_i3(path, frames), options.seconds)
        print(
            f"{'write, plain':28s} {len(content) / taken / 1e6:8,.0f} {len(frames) / taken:10,.0f}"
        )
    object_rates(frames, options.seconds)


if __name__ == "__main__":
    main()
