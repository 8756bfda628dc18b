"""An independent, slow and obvious writer of .i3 objects and frames, for tests."""

import struct
from collections.abc import Sequence
from typing import Any


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
