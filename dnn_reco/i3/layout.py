"""Classes of `.i3` files that consist of a fixed sequence of numbers."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dnn_reco.errors import DataError

Rows = NDArray[np.void]
_CODES = {"u1": "B", "i4": "i", "u4": "I", "i8": "q", "u8": "Q", "f4": "f", "f8": "d"}


@dataclass(frozen=True)
class Record:
    """A class that consists of numbers and of other such classes.

    Attributes
    ----------
    name
        The class.
    version
        Its version, as described here and written.
    parts
        Its content in order: (name, number type), or a class that it contains by value. A field
        has the same name in the arrays that are read.
    tracked
        Whether its objects are numbered.
    older
        The class in older versions.
    upgrade
        Of an older version, from its rows to those of the current one; None: new fields are 0.
    has_children
        Whether a vector of objects of the same class follows the content, which is not kept.
    """

    name: str
    version: int
    parts: tuple[tuple[str, str] | Record, ...]
    tracked: bool = True
    older: Mapping[int, Record] = field(default_factory=dict, hash=False, compare=False)
    upgrade: Callable[[Rows], Rows] | None = None
    has_children: bool = False

    @cached_property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """Names and types of all numbers, in order."""
        return tuple(
            item
            for part in self.parts
            for item in (part.fields if isinstance(part, Record) else [part])
        )

    @cached_property
    def steps(self) -> tuple[struct.Struct | Record, ...]:
        """The content as it is read: numbers that follow each other at once, and classes."""
        steps: list[struct.Struct | Record] = []
        for is_class, parts in groupby(self.parts, lambda part: isinstance(part, Record)):
            if is_class:
                steps += cast("Iterator[Record]", parts)
            else:
                codes = "".join(
                    _CODES[kind] for _, kind in cast("Iterator[tuple[str, str]]", parts)
                )
                steps.append(struct.Struct(f"<{codes}"))
        return tuple(steps)

    @cached_property
    def dtype(self) -> np.dtype[np.void]:
        """Type of a row."""
        return np.dtype(list(self.fields))

    @cached_property
    def stored(self) -> np.dtype[np.void]:
        """Type of a row in the archive, after the first.

        Fields whose names begin with # are numbers of objects.
        """
        return np.dtype([(name, kind) for name, kind in self._stored_fields()])

    def _stored_fields(self) -> list[tuple[str, str]]:
        found = [(f"#{self.name}", "<u4")] if self.tracked else []
        for part in self.parts:
            if isinstance(part, Record):
                inner = part._stored_fields()
                found += [(f"{n}@{part.name}" if n[0] == "#" else n, kind) for n, kind in inner]
            else:
                found.append((part[0], "<" + part[1]))
        return found

    @cached_property
    def classes(self) -> tuple[Record, ...]:
        """The class and all that it contains."""
        inner = (part.classes for part in self.parts if isinstance(part, Record))
        return (self, *(each for classes in inner for each in classes))

    @cached_property
    def id_names(self) -> tuple[str, ...]:
        """Fields of `stored` that are numbers of objects."""
        return tuple(name for name in self.stored.names or () if name[0] == "#")

    def in_version(self, version: int) -> Record:
        """The class as it was in a version.

        Raises
        ------
        DataError
            If that version is not known.
        """
        if version == self.version:
            return self
        if version not in self.older:
            raise DataError(f"class {self.name} in version {version} cannot be read")
        return self.older[version]


FRAME_OBJECT = Record("I3FrameObject", 0, ())
"""The base of nearly all classes: no content."""
