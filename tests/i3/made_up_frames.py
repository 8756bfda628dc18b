"""An independent, slow and obvious writer of .i3 objects and frames, for tests."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


class Bytes:
    """Bytes of one object: class versions at first use, objects numbered."""

    def __init__(self) -> None:
        self.content = b""
        self.seen: set[str] = set()
        self.next_id = 0

    def raw(self, kinds: str, *values: Any) -> "Bytes":
        """Numbers, little-endian; see the module struct."""
        self.content += struct.pack("<" + kinds, *values)
        return self

    def text(self, text: bytes) -> "Bytes":
        self.raw("I", len(text))
        self.content += text
        return self

    def untracked(self, name: str, version: int = 0) -> "Bytes":
        """Begin an object of a class without numbers."""
        if name not in self.seen:
            self.seen.add(name)
            self._version(0, version)
        return self

    def tracked(self, name: str, version: int = 0) -> "Bytes":
        """Begin an object of a class with numbers."""
        if name not in self.seen:
            self.seen.add(name)
            self._version(1, version)
        self.raw("I", self.next_id)
        self.next_id += 1
        return self

    def again(self, number: int) -> "Bytes":
        """An object that has occurred."""
        return self.raw("I", number)

    def base(self) -> "Bytes":
        return self.tracked("I3FrameObject")

    def _version(self, tracked: int, version: int) -> None:
        self.raw("B", tracked)
        if version < 255:
            self.raw("B", version)
        else:
            self.raw("BQ", 255, version)


def head(name: str, version: int = 0) -> Bytes:
    """The beginning of a frame's object."""
    made = Bytes()
    made.content = b"\x00\x01\x02\x00"
    made.text(name.encode())
    made.seen.discard(name)
    return made.tracked(name, version).base()


def crc_of_version_6(data: bytes) -> int:
    """Bit by bit: polynomial of Castagnoli, from 0, without final inversion."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc


def crc_of_version_5(data: bytes) -> int:
    """Bit by bit: CRC-16/CCITT-FALSE."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ (0x11021 if crc & 0x8000 else 0)
    return crc


def frame(
    stop: str, objects: Sequence[tuple[str, str, bytes]] = (), version: int = 6, wrong_crc: int = 0
) -> bytes:
    """A frame; objects are (key, type, content)."""
    content = stop.encode() + struct.pack("<I", len(objects))
    for key, type_name, value in objects:
        for part in (key.encode(), type_name.encode(), value):
            content += struct.pack("<I", len(part)) + part
    crc = (crc_of_version_6 if version > 5 else crc_of_version_5)(content) ^ wrong_crc
    return b"[i3]" + struct.pack("<I", version) + b"\0\0" + content + struct.pack("<I", crc)


def double(key: str, value: float) -> tuple[str, str, bytes]:
    return key, "I3PODHolder<double>", head("I3Double").raw("d", value).content


def particle(made: Bytes, number: int, energy: float = 1.0) -> Bytes:
    """The content of a particle of version 5; its beginning and base have been written."""
    made.raw("iQiii", number, 7, 13, 40, 0)
    made.tracked("I3Position").base().raw("ddd", 1.0, 2.0, 3.0)
    made.tracked("I3Direction").base().raw("dd", 0.5, 1.5)
    return made.raw("ddddi", 9000.0, energy, 5.0, 0.25, 20)


PARTICLE_ROW = (7, 13, 40, 0, 1.0, 2.0, 3.0, 0.5, 1.5, 9000.0, 1.0, 5.0, 0.25, 20)
"""What it is read as, but for its number."""


# --------------------------------------------------------------------------------------------------
# Compressed pulses
# --------------------------------------------------------------------------------------------------
@dataclass
class Readout:
    """Pulses of one DOM: (time after the one before, charge code, is HLC, width code)."""

    string: int
    om: int
    pulses: list[tuple[int, int, bool, int]]


def _overflow_words(excess: int) -> list[int]:
    words = []
    while excess >= 0xFFFF:
        words.append(0xFFFF)
        excess -= 0xFFFF
    return [*words, excess]


def encode_readouts(readouts: Sequence[Readout]) -> bytes:
    stamps: list[int] = []
    headers: list[int] = []
    extra: list[int] = []
    widths: list[list[int]] = [[], [], [], []]
    for readout in readouts:
        is_tank = readout.om > 60
        dom = readout.string << 6 | (readout.om - 1)
        for number, (time, charge, is_hlc, width) in enumerate(readout.pulses):
            is_last = number == len(readout.pulses) - 1
            most = 255 if number else 2047
            time_code = min(time, most)
            if number == 0:
                headers.append(time_code >> 8 << 13 | dom)
            charge_code = charge & 63 if is_tank else min(charge, 63)
            stamps.append(time_code & 0xFF | charge_code << 8 | is_hlc << 14 | is_last << 15)
            if time_code == most:
                stamps += _overflow_words(time - most)
            if is_tank:
                extra.append(charge >> 6)
            elif charge_code == 63:
                stamps += _overflow_words(charge - 63)
            widths[2 * is_tank + is_hlc].append(width)
    made = head("I3SuperDST", 1)
    add_compact(made, "stamps", np.array(stamps, "<u2").tobytes(), len(stamps))
    add_compact(made, "headers", np.array(headers, "<u2").tobytes(), len(headers))
    for codes in widths:
        runs = bytes(_run_bytes(codes))
        add_compact(made, "bytes", runs, len(runs))
    add_compact(made, "bytes", bytes(extra), len(extra))
    return made.content


def add_compact(made: Bytes, name: str, content: bytes, size: int) -> None:
    made.untracked(f"CompactVector<{name}>").untracked("SizeCodec")
    if size < 0xF7:
        made.raw("B", size)
    else:
        num_bytes = (size.bit_length() + 7) // 8
        made.raw("B", 0xFF - num_bytes)
        made.content += size.to_bytes(num_bytes, "little")
    made.content += content


def _run_bytes(codes: list[int]) -> list[int]:
    found = []
    while codes:
        length = 1
        while length < len(codes) and codes[length] == codes[0]:
            length += 1
        code, codes = codes[0], codes[length:]
        while length:
            found.append((length & 15) << 4 | code)
            length >>= 4
    return found
