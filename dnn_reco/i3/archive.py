"""The binary archive that one object of a frame is stored in.

Boost's portable binary archives, little-endian. A class that occurs by value is preceded by its
version, but only at its first occurrence; objects of *tracked* classes have a number, counted in
the order of appearance, with which a later occurrence may refer to an earlier object.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.errors import DataError
from dnn_reco.i3.layout import FRAME_OBJECT, Record, Rows

U1, U2, U4, U8 = (struct.Struct(f"<{code}") for code in "BHIQ")
I4, I8, F4, F8 = (struct.Struct(f"<{code}") for code in "iqfd")
_LONG_VERSION, _LONG_LENGTH = 255, 0xFFFFFFFF


class IrregularIdsError(Exception):
    """Objects are not numbered in order: they refer to each other, and must be read one by one."""


# --------------------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------------------
class InputArchive:
    """Reads an archive from its start to its end.

    Parameters
    ----------
    data
        The archive.
    one_by_one
        Whether objects are read one by one, so that they may refer to each other. Much slower.

    Notes
    -----
    Methods raise DataError where the archive ends too early, and IrregularIdsError where objects
    refer to each other and `one_by_one` is False.
    """

    def __init__(self, data: bytes, one_by_one: bool = False) -> None:
        self.data = data
        self.position = 0
        self.one_by_one = one_by_one
        self.num_objects = 0
        self._versions: dict[str, int] = {}
        self._tracked: set[str] = set()  # those that are numbered or not depending on the file
        self._objects: dict[int, Any] = {}

    @property
    def remaining(self) -> int:
        """Number of bytes that are left."""
        return len(self.data) - self.position

    def number(self, kind: struct.Struct) -> Any:
        """One number."""
        if self.remaining < kind.size:
            raise DataError("it ends too early")
        (value,) = kind.unpack_from(self.data, self.position)
        self.position += kind.size
        return value

    def flag(self) -> bool:
        """A truth value."""
        value = self.number(U1)
        if value > 1:
            raise DataError(f"a truth value is {value}")
        return bool(value)

    def take(self, num_bytes: int) -> bytes:
        """The next bytes."""
        if num_bytes > self.remaining:
            raise DataError("it ends too early")
        self.position += num_bytes
        return self.data[self.position - num_bytes : self.position]

    def length(self, least_bytes: int) -> int:
        """A number of items, each of which takes at least some bytes of what follows."""
        number: int = self.number(U4)
        if number == _LONG_LENGTH:
            number = int(self.number(U8))
        if number * least_bytes > self.remaining:
            raise DataError(f"{number} items are declared, more than fit into the data")
        return number

    def string(self) -> str:
        """A text; bytes that are not UTF-8 survive, for writing."""
        return self.take(self.length(1)).decode(errors="surrogateescape")

    def numbers(self, kind: str) -> NDArray[Any]:
        """A vector of numbers of a NumPy type."""
        dtype = np.dtype(kind).newbyteorder("<")
        return self.array(dtype, self.length(dtype.itemsize))

    def array(self, dtype: np.dtype[Any], number: int) -> NDArray[Any]:
        """A known number of items."""
        return np.frombuffer(self.take(number * dtype.itemsize), dtype).copy()

    def class_version(self, name: str, tracked: bool = False) -> int:
        """The version of a class that follows; it stands in the archive at its first occurrence."""
        if name not in self._versions:
            if self.number(U1) != tracked:
                raise DataError(f"the numbering of objects of class {name} is not as expected")
            version = self.number(U1)
            self._versions[name] = version if version != _LONG_VERSION else int(self.number(U8))
        return self._versions[name]

    def is_current(self, record: Record) -> bool:
        """Whether a class has occurred, in its current version."""
        return self._versions.get(record.name) == record.version

    def declare(self, name: str, version: int) -> None:
        """Note the version of a class that was read elsewhere."""
        self._versions[name] = version

    def container(self, name: str, least_bytes: int) -> int:
        """Number of items of a map, list or vector of objects; `name` is any, one a type."""
        self.class_version(name)
        return self.length(least_bytes)

    def tracked(self, name: str, read: Callable[[int], Any]) -> Any:
        """An object of a numbered class; `read` gets the version and reads its content."""
        version = self.class_version(name, tracked=True)
        number = self.number(U4)
        if number != self.num_objects:
            return self._earlier(number, name)
        self.num_objects += 1
        value = read(version)
        if self.one_by_one:
            self._objects[number] = (name, value)
        return value

    def either(self, name: str, read: Callable[[int], Any]) -> Any:
        """An object of a class whose objects are numbered in some files and not in others."""
        if self.is_tracked(name):
            return self.tracked(name, read)
        return read(self.class_version(name))

    def is_tracked(self, name: str) -> bool:
        """Whether objects of a class, of which one follows, are numbered."""
        if name not in self._versions and self.data[self.position : self.position + 1] == b"\x01":
            self._tracked.add(name)
        return name in self._tracked

    def _earlier(self, number: int, name: str) -> Any:
        if not self.one_by_one:
            raise IrregularIdsError
        of_class, value = self._objects.get(number, (None, None))
        if of_class != name:
            raise DataError(f"it refers to an object {number} of class {name} that does not exist")
        return value

    def base(self) -> None:
        """The base of an object of a frame, which has no content."""
        self._one(FRAME_OBJECT)

    def records(self, record: Record, number: int) -> Rows:
        """Objects of one class, one after the other.

        Returns
        -------
        rows
            [number] of type `record.dtype`.
        """
        if number == 0:
            return np.zeros(0, record.dtype)
        head: list[Any] = []
        while len(head) < number and not self._is_regular(record):
            head.append(self._one(record))
        if not head:
            return self._block(record, number)
        rows = np.array(head, record.dtype)
        if len(head) == number:
            return rows
        return np.concatenate([rows, self._block(record, number - len(head))])

    def _is_regular(self, record: Record) -> bool:
        """Whether objects are alike from here on, with what they contain in its current version."""
        if self.one_by_one or record.name not in self._versions:
            return False
        layout = record.in_version(self._versions[record.name])
        return not layout.has_children and all(self.is_current(each) for each in layout.classes)

    def vector(self, record: Record) -> Rows:
        """A vector of objects of one class, of type `record.dtype`."""
        return self.records(record, self.container(f"vector<{record.name}>", 4))

    def _one(self, record: Record) -> tuple[Any, ...]:
        """One object."""

        def content(version: int) -> tuple[Any, ...]:
            return self._current(record, version, self._parts(record.in_version(version)))

        if record.tracked:
            return tuple(self.tracked(record.name, content))
        return content(self.class_version(record.name))

    def body(self, record: Record, version: int) -> Rows:
        """The content of an object whose head has been read, [1] of type `record.dtype`."""
        layout = record.in_version(version)
        values = self._parts(layout, skip_base=True)
        return np.array([self._current(record, version, values)], record.dtype)

    def _parts(self, record: Record, skip_base: bool = False) -> tuple[Any, ...]:
        values: list[Any] = []
        for step in record.steps[1 if skip_base else 0 :]:
            if isinstance(step, Record):
                values += self._one(step)
            else:
                values += step.unpack(self.take(step.size))
        if record.has_children:
            self.vector(record)
        return tuple(values)

    def _current(self, record: Record, version: int, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if version == record.version:
            return values
        layout = record.in_version(version)
        return tuple(_upgraded(np.array([values], layout.dtype), layout, record)[0])

    def _block(self, record: Record, number: int) -> Rows:
        """Objects of a class that has occurred, whose numbers follow each other."""
        layout = record.in_version(self._versions[record.name])
        names = layout.id_names
        if names and number * layout.stored.itemsize > self.remaining:
            raise IrregularIdsError  # where objects refer to others, they are shorter
        raw = self.array(layout.stored, number)
        first = self.num_objects + len(names) * np.arange(len(raw))
        if any((raw[name] != first + k).any() for k, name in enumerate(names)):
            raise IrregularIdsError
        self.num_objects += len(names) * len(raw)
        rows = np.empty(number, layout.dtype)
        for name in layout.dtype.names or ():
            rows[name] = raw[name]
        return rows if layout is record else _upgraded(rows, layout, record)


def _upgraded(old: Rows, layout: Record, record: Record) -> Rows:
    """Rows of the current version from those of an older one."""
    if layout.upgrade is not None:
        return layout.upgrade(old)
    rows = np.zeros(len(old), record.dtype)
    for name in set(record.dtype.names or ()) & set(old.dtype.names or ()):
        rows[name] = old[name]
    return rows


# --------------------------------------------------------------------------------------------------
# Writing
# --------------------------------------------------------------------------------------------------
def to_bytes(text: str) -> bytes:
    """A text of a file as it stands there; raises DataError where it has no bytes."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError as error:
        raise DataError(f"the text {text!r:.80} cannot be written: {error.reason}") from error


class OutputArchive:
    """Writes an archive."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.num_objects = 0
        self._seen: set[str] = set()

    def number(self, kind: struct.Struct, value: float) -> None:
        """Append a number.

        Raises
        ------
        DataError
            If it does not fit its type.
        """
        try:
            self.content += kind.pack(value)
        except struct.error as error:
            raise DataError(f"{value} does not fit its type in the file ({error})") from error

    def length(self, number: int) -> None:
        """Append a number of items."""
        if number >= _LONG_LENGTH:
            self.number(U4, _LONG_LENGTH)
            self.number(U8, number)
        else:
            self.number(U4, number)

    def string(self, text: str) -> None:
        """Append a text."""
        content = to_bytes(text)
        self.length(len(content))
        self.content += content

    def numbers(self, kind: str, values: NDArray[Any]) -> None:
        """Append a vector of numbers of a NumPy type; raises DataError if they do not fit it."""
        self.length(len(values))
        self.array(kind, values)

    def array(self, kind: str, values: NDArray[Any]) -> None:
        """Append a known number of numbers; raises DataError if they do not fit the NumPy type."""
        given, dtype = np.asarray(values), np.dtype(kind).newbyteorder("<")
        fits = np.can_cast(given.dtype, dtype) or (
            given.dtype.kind in "iu" and np.array_equal(given.astype(dtype), given)
        )
        if given.ndim != 1 or (len(given) and not fits):
            raise DataError(
                f"an array {given.shape} of {given.dtype} is not a vector of {dtype.name}"
            )
        self.content += given.astype(dtype).tobytes()

    def class_version(self, name: str, version: int = 0, tracked: bool = False) -> None:
        """Append the version of a class that follows, at its first occurrence."""
        if name not in self._seen:
            self._seen.add(name)
            self.content += bytes([tracked, version])

    def declare(self, name: str) -> None:
        """Note a class whose version was written elsewhere."""
        self._seen.add(name)

    def container(self, name: str, number: int) -> None:
        """Append the number of items of a map, list or vector of objects."""
        self.class_version(name)
        self.length(number)

    def tracked(self, name: str, version: int) -> None:
        """Append the beginning of an object of a numbered class; its content follows."""
        self.class_version(name, version, tracked=True)
        self.number(U4, self.num_objects)
        self.num_objects += 1

    def records(self, record: Record, rows: Rows) -> None:
        """Append objects of one class; `rows` [n] have the fields of `record.dtype`."""
        if len(rows) == 0:
            return
        first = 0
        if record.name not in self._seen:
            self._one(record, rows[0])
            first = 1
        raw = np.empty(len(rows) - first, record.stored)
        for name in record.dtype.names or ():
            raw[name] = rows[name][first:]
        ids = self.num_objects + len(record.id_names) * np.arange(len(raw))
        for k, name in enumerate(record.id_names):
            raw[name] = ids + k
        self.num_objects += len(record.id_names) * len(raw)
        self.content += raw.tobytes()

    def vector(self, record: Record, rows: Rows) -> None:
        """Append a vector of objects of one class."""
        self.container(f"vector<{record.name}>", len(rows))
        self.records(record, rows)

    def _one(self, record: Record, row: Any) -> None:
        if record.tracked:
            self.tracked(record.name, record.version)
        else:
            self.class_version(record.name, record.version)
        self._parts(record, row, record.parts)

    def body(self, record: Record, rows: Rows) -> None:
        """Append the content of an object whose head has been written; `rows` [1]."""
        self._parts(record, rows[0], record.parts[1:])

    def _parts(self, record: Record, row: Any, parts: tuple[Any, ...]) -> None:
        for part in parts:
            if isinstance(part, Record):
                self._one(part, row)
            else:
                self.content += np.array(row[part[0]], "<" + part[1]).tobytes()


# --------------------------------------------------------------------------------------------------
# Objects of frames
# --------------------------------------------------------------------------------------------------
_POINTER = b"\x00\x01\x02\x00"  # a shared pointer in version 1, and a class that is new
_FIRST_IDS = 2  # the object itself and its base


def read_head(archive: InputArchive) -> tuple[str, int]:
    """Class and version of the object of a frame; its content follows.

    Raises
    ------
    DataError
        If this is not the beginning of an object of a frame.
    """
    if archive.take(len(_POINTER)) != _POINTER:
        raise DataError("it does not begin as objects of a frame do")
    name = archive.string()
    is_tracked = archive.number(U1) == 1
    version = archive.number(U1)
    version = version if version != _LONG_VERSION else int(archive.number(U8))
    archive.declare(name, version)
    own = archive.number(U4)
    base_version = archive.class_version(FRAME_OBJECT.name, tracked=True)
    if not is_tracked or (own, base_version, archive.number(U4)) != (0, 0, 1):
        raise DataError("it does not begin as objects of a frame do")
    archive.num_objects = _FIRST_IDS
    return name, version


def write_head(archive: OutputArchive, name: str, version: int) -> None:
    """Append the beginning of the object of a frame."""
    archive.content += _POINTER
    archive.string(name)
    archive.content += bytes([1, version]) + U4.pack(0)
    archive.declare(name)
    archive.content += bytes([1, 0]) + U4.pack(1)
    archive.declare(FRAME_OBJECT.name)
    archive.num_objects = _FIRST_IDS
