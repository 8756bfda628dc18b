"""A frame: named objects that belong to an event or to the detector."""

from __future__ import annotations

import binascii
import functools
import struct
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

import numpy as np

from dnn_reco.errors import DataError
from dnn_reco.i3.archive import to_bytes
from dnn_reco.i3.codecs import (
    class_name,
    class_of,
    decode,
    encode,
    python_numbers,
    type_name_of,
)
from dnn_reco.i3.objects import (
    PULSE,
    CorrectedPulses,
    DomCalibration,
    OMKeyMap,
    PulseMask,
    PulsesByModule,
    PulseUnion,
    RawObject,
)
from dnn_reco.i3.om_key_maps import apply_mask, corrected, merge

_REFERENCES = (PulseMask, PulseUnion, PulsesByModule, CorrectedPulses)
_LONGEST_CHAIN = 100  # of references to pulses


class StoredObject:
    """An object of a frame: its bytes, and its value, each made when it is asked for.

    Attributes
    ----------
    type_name
        Name of the C++ type.
    """

    __slots__ = ("_content", "_of_class", "_value", "type_name")

    def __init__(self, type_name: str, content: bytes) -> None:
        self.type_name = type_name
        self._content: bytes | None = content
        self._of_class = ""
        self._value: Any = None

    @classmethod
    def of(cls, value: Any, of_class: str | None = None) -> StoredObject:
        """The object of a value; see :func:`dnn_reco.i3.codecs.encode`."""
        value = python_numbers(value)
        made = cls("", b"")
        made._of_class = of_class or class_of(value)
        made.type_name = type_name_of(value, made._of_class)
        made._content = None
        made._value = value
        return made

    @property
    def content(self) -> bytes:
        """Its bytes."""
        if self._content is None:
            _, self._content = encode(self._value, self._of_class)
        return self._content

    @property
    def num_bytes(self) -> int:
        """Number of bytes; 0 where they are not made yet."""
        return len(self._content or b"")

    @property
    def value(self) -> Any:
        """What it decodes to.

        Raises
        ------
        DataError
            If it is damaged or of a version that is not known.
        """
        if self._value is None:
            self._value = _read_only(decode(self.content, self.type_name))
        return self._value

    @property
    def class_name(self) -> str:
        """The class."""
        return self._of_class or class_name(self.content)


def _read_only(value: Any) -> Any:
    """The value with arrays that cannot be changed: the bytes of its object would not change."""
    arrays = (
        [value]
        if isinstance(value, np.ndarray)
        else vars(value).values()
        if is_dataclass(value)
        else []
    )
    for array in arrays:
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    return value


class Frame(Mapping[str, Any]):
    """Objects by name: those of the frame itself, and those of frames before it.

    ``frame[key]`` is the object decoded: see :mod:`dnn_reco.i3.objects`. References to pulses,
    which are masks, unions and the like, become the pulses.

    Parameters
    ----------
    stop
        Kind of frame: I information, G geometry, C calibration, D detector status, S simulation,
        Q an event as it was read out, P an event or a part of one.
    own
        The frame's own objects, which are written with it.
    inherited
        From earlier frames it.
    version
        Version of the format, 5 or 6.
    source
        The file and the number of the frame in it, for messages.
    """

    def __init__(
        self,
        stop: str,
        own: dict[str, StoredObject] | None = None,
        inherited: Mapping[str, StoredObject] | None = None,
        version: int = 6,
        source: str = "a new frame",
    ) -> None:
        self.stop = stop
        self.own = own if own is not None else {}
        self.inherited = inherited if inherited is not None else {}
        self.version = version
        self.source = source
        self._pulses: dict[str, OMKeyMap] = {}

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from (key for key in self.inherited if key not in self.own)

    def __len__(self) -> int:
        return len(self.own.keys() | self.inherited.keys())

    def __contains__(self, key: object) -> bool:
        return key in self.own or key in self.inherited

    def __repr__(self) -> str:
        return f"<{self.stop} frame with {len(self)} objects, {self.source}>"

    @property
    def num_bytes(self) -> int:
        """Size of the frame's own objects that are read from a file."""
        return sum(stored.num_bytes for stored in self.own.values())

    def object(self, key: str) -> StoredObject:
        """An object as it is in the file.

        Raises
        ------
        KeyError
            If there is none of that name.
        """
        return self.own[key] if key in self.own else self.inherited[key]

    def stored(self, key: str) -> Any:
        """An object decoded as it is in the file, references to pulses included.

        Raises
        ------
        KeyError
            If there is none of that name.
        DataError
            If it cannot be decoded.
        """
        stored = self.object(key)
        try:
            return stored.value
        except DataError as error:
            raise DataError(f"{self.source}: object '{key}' cannot be read: {error}") from error

    def __getitem__(self, key: str) -> Any:
        value = self.stored(key)
        return self._resolve(key, ()) if isinstance(value, _REFERENCES) else value

    def _resolve(self, key: str, asked_by: tuple[str, ...]) -> OMKeyMap:
        """The pulses of a key."""
        if key in self._pulses:
            return self._pulses[key]
        if key in asked_by:
            raise DataError(f"{self.source}: the pulses '{key}' refer to themselves")
        if len(asked_by) > _LONGEST_CHAIN:
            raise DataError(
                f"{self.source}: the pulses '{asked_by[0]}' are references nested too deeply"
            )
        if key not in self:
            raise DataError(
                f"{self.source}: the pulses '{asked_by[-1]}' refer to '{key}', which the frame "
                "does not have"
            )
        try:
            pulses = self._pulses_of(self.stored(key), (*asked_by, key))
        except DataError as error:
            if self.source in str(error):
                raise
            raise DataError(f"{self.source}: pulses '{key}': {error}") from error
        self._pulses[key] = _read_only(pulses)
        return pulses

    def _pulses_of(self, value: Any, keys: tuple[str, ...]) -> OMKeyMap:
        if isinstance(value, PulseMask):
            return apply_mask(value, self._resolve(value.source, keys))
        if isinstance(value, PulseUnion):
            return merge([self._resolve(source, keys) for source in value.sources])
        if isinstance(value, PulsesByModule):
            return merge([self._resolve(value.source, keys)], by_module=True)
        if isinstance(value, CorrectedPulses):
            calibration = self.get(value.calibration)
            if not isinstance(calibration, DomCalibration):
                raise DataError(
                    f"corrections of charges need '{value.calibration}', an I3Calibration: read "
                    "the GCD file with it before this one"
                )
            return corrected(self._resolve(value.source, keys), calibration)
        if isinstance(value, OMKeyMap) and value.items.dtype == PULSE:
            return value
        kind = value.class_name if isinstance(value, RawObject) else type(value).__name__
        raise DataError(f"it is not a map of pulses, but of class {kind}")

    def put(self, key: str, value: Any, of_class: str | None = None) -> None:
        """Add an object to the frame, or replace its own.

        Parameters
        ----------
        key
            Its name.
        value
            A value of a type that :mod:`dnn_reco.i3.objects` describes.
        of_class
            Class to write it as, where the type of the value does not determine it.

        Raises
        ------
        DataError
            If the name is not allowed or the value cannot be written.
        """
        if not key or any(character.isspace() or character == "\0" for character in key):
            raise DataError(
                f"'{key}' is not a valid object name: it is empty or contains white space"
            )
        self.own[key] = StoredObject.of(value, of_class)
        self._pulses.clear()

    def delete(self, key: str) -> None:
        """Remove one of the frame's own objects.

        Raises
        ------
        KeyError
            If it has none of that name.
        """
        del self.own[key]
        self._pulses.clear()


# --------------------------------------------------------------------------------------------------
# Bytes of a frame
# --------------------------------------------------------------------------------------------------
TAG = b"[i3]"
STREAM_PREAMBLE = b"\x00\x00"
VERSIONS = (5, 6)
NUMBER = struct.Struct("<I")
MOST_BYTES, MOST_OBJECTS, LONGEST_NAME = 2**30, 2**16, 2**16
"""Limits of a frame that is read or written: a damaged length must not fill the memory."""


def is_stop(stop: str) -> bool:
    """Whether a text can be the stop of a frame, which is any letter."""
    return len(stop) == 1 and stop.isascii() and stop.isalpha()


def frame_bytes(frame: Frame) -> bytes:
    """The frame as it is in a file, without inherited objects.

    Raises
    ------
    DataError
        If the frame breaks a rule of the format, or a package is missing that makes checksums.
    """
    if not is_stop(frame.stop) or frame.version not in VERSIONS:
        raise DataError(f"no frame has the stop '{frame.stop}' and version {frame.version}")
    content = bytearray(frame.stop.encode())
    content += NUMBER.pack(len(frame.own))
    for key in sorted(frame.own, key=to_bytes):
        stored = frame.own[key]
        try:
            stored_bytes = stored.content
        except DataError as error:
            raise DataError(f"object '{key:.80}' cannot be written: {error}") from error
        for part, most in (
            (to_bytes(key), LONGEST_NAME),
            (to_bytes(stored.type_name), LONGEST_NAME),
            (stored_bytes, MOST_BYTES - len(content)),
        ):
            if len(part) > most:
                raise DataError(f"object '{key:.80}' or its name is too long ({len(part)} bytes)")
            content += NUMBER.pack(len(part))
            content += part
    end = NUMBER.pack(checksum(content, frame.version))
    return b"".join((TAG, NUMBER.pack(frame.version), STREAM_PREAMBLE, content, end))


def checksum(content: bytes | bytearray, version: int) -> int:
    """Checksum of a frame's bytes, from its stop to its last object.

    Version 5 has CRC-16/CCITT-FALSE, version 6 a CRC-32C with initial value 0 and no final
    inversion.

    Raises
    ------
    DataError
        If the package google-crc32c is missing, which frames of version 6 need.
    """
    if version < 6:
        return binascii.crc_hqx(content, 0xFFFF)
    return int(_crc32c()(0xFFFFFFFF, bytes(content))) ^ 0xFFFFFFFF


@functools.cache
def _crc32c() -> Any:
    try:
        from google_crc32c import extend
    except ImportError as error:
        raise DataError(
            "checksums of frames need the package google-crc32c: pip install 'dnn_reco[i3]'"
        ) from error
    return extend
