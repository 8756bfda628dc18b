"""Reading plain values from a pickle file, without unpickling it.

A pickle is a program for a small stack machine, and Python's own reader runs whatever it names.
This reader is another machine: its values are numbers, texts, bytes, lists, tuples, dictionaries
with texts as keys, and numpy arrays of numbers, and nothing else can come into being. The few names
that pickled arrays need stand for functions of this module, never for those of numpy; any other
name, and any instruction that is not needed, ends the reading. (`pickletools` only splits the file
into instructions.)

Memory and time grow with the size of the file, whatever it says about lengths.
"""

from __future__ import annotations

import math
import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from dnn_reco.errors import ModelError

_MAX_SIZE = 2**28
_MAX_DEPTH = 8
_MAX_AXES = 4
_MAX_LENGTH = 10_000  # of an axis: four such axes still fit into a machine's address space

_NUMBER_CODES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_BYTE_ORDERS = ("<", ">", "=", "|")

_LITERALS = (
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PLAIN_TYPES = (type(None), bool, int, float, str, bytes)


def read_plain_pickle(data: bytes) -> Any:
    """The value that a pickle holds, if it is a plain one.

    Parameters
    ----------
    data
        Content of the file (protocol 2 to 4).

    Returns
    -------
    Any
        None, bool, int, float, str, bytes, lists, tuples and dictionaries of these, and numpy
        arrays of numbers or booleans.

    Raises
    ------
    ModelError
        If it holds anything else, or is damaged. Nothing that the file names is ever run.
    """
    if len(data) > _MAX_SIZE:
        raise ModelError(f"it is larger than {_MAX_SIZE} bytes")
    machine = _Machine(len(data))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # names with a stray backslash
            for instruction, argument, _ in pickletools.genops(data):
                machine.run(instruction.name, argument)
    except ValueError as error:
        raise ModelError(f"it is damaged, or no pickle: {error}") from error
    return _plain(machine.result(), {}, 0)[0]


def _refuse(what: str) -> NoReturn:
    raise ModelError(f"it holds more than plain values: {what}")


@dataclass
class _Dtype:
    """A type of numbers, complete once its byte order is set."""

    code: str
    order: str | None = None

    def build(self, state: Any) -> None:
        # version, byte order, subtype, names, fields, size, alignment, flags
        if type(state) is not tuple or len(state) != 8 or type(state[1]) is not str:
            _refuse("an unusual type of numbers")
        if state[1] not in _BYTE_ORDERS or any(part is not None for part in state[2:5]):
            _refuse("a structured type")
        self.order = state[1]

    def array(self, data: bytes, shape: tuple[int, ...], column_major: bool) -> NDArray[Any]:
        """The array in `data`, which is not copied."""
        if self.order is None:
            _refuse("a type of numbers without byte order")
        dtype = np.dtype(self.order + self.code)
        if math.prod(shape) * dtype.itemsize != len(data):
            raise ModelError(f"an array of shape {shape} does not lie in {len(data)} bytes")
        if self.code == "b1":
            dtype = np.dtype(np.uint8)
        array = np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if column_major else "C")
        return array.astype(np.bool_) if self.code == "b1" else array


@dataclass
class _Array:
    """An array, complete once its content is set."""

    values: NDArray[Any] | None = None

    def build(self, state: Any) -> None:
        if type(state) is not tuple or len(state) != 5:
            _refuse("an unusual array")
        _, shape, dtype, column_major, data = state
        if type(dtype) is not _Dtype or type(data) is not bytes or type(column_major) is not bool:
            _refuse("an array of objects")
        self.values = dtype.array(data, _shape(shape), column_major)


@dataclass(frozen=True)
class _Function:
    """A function that the file may call: one of this module."""

    call: Callable[[tuple[Any, ...]], Any]


_NDARRAY = object()  # what stands for the class numpy.ndarray


def _shape(value: Any) -> tuple[int, ...]:
    if type(value) is not tuple or len(value) > _MAX_AXES:
        _refuse("an array of unusual shape")
    if not all(type(length) is int and 0 <= length <= _MAX_LENGTH for length in value):
        _refuse("an array of unusual shape")
    return value


def _make_array(arguments: tuple[Any, ...]) -> _Array:
    if len(arguments) != 3 or arguments[0] is not _NDARRAY:
        _refuse("an unusual array")
    return _Array()


def _make_dtype(arguments: tuple[Any, ...]) -> _Dtype:
    if len(arguments) != 3 or type(arguments[0]) is not str or arguments[0] not in _NUMBER_CODES:
        _refuse("an array of something else than numbers")
    return _Dtype(arguments[0])


def _make_scalar(arguments: tuple[Any, ...]) -> Any:
    if len(arguments) != 2 or type(arguments[0]) is not _Dtype or type(arguments[1]) is not bytes:
        _refuse("an unusual number")
    return arguments[0].array(arguments[1], (), False).item()


def _encode(arguments: tuple[Any, ...]) -> bytes:
    """Bytes, which protocol 2 writes as text."""
    if len(arguments) != 2 or type(arguments[0]) is not str or arguments[1] != "latin1":
        _refuse("an unusual text")
    return str(arguments[0]).encode("latin-1")


def _no_bytes(arguments: tuple[Any, ...]) -> bytes:
    """How protocol 2 writes bytes that are none."""
    if arguments:
        _refuse("bytes made from something")
    return b""


_NAMES: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Function(_make_dtype),
    ("_codecs", "encode"): _Function(_encode),
    ("__builtin__", "bytes"): _Function(_no_bytes),
}
for _package in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _NAMES[_package, "_reconstruct"] = _Function(_make_array)
    _NAMES[_package, "scalar"] = _Function(_make_scalar)


class _Machine:
    """The stack machine that a pickle's instructions are for.

    Parameters
    ----------
    size
        Size of the file: what comes out of it must not be larger.
    """

    def __init__(self, size: int) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._bytes_left = 2 * size  # first as bytes, then as arrays

    def result(self) -> Any:
        """The one value that is left."""
        if len(self._stack) != 1 or self._marks:
            raise ModelError("it does not end with a single value")
        return self._stack[0]

    def run(self, name: str, argument: Any) -> None:
        """Carry out one instruction."""
        if name in _LITERALS:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in ("PROTO", "FRAME", "STOP"):
            pass
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if name == "MEMOIZE" else argument] = self._top()
        elif name in ("BINGET", "LONG_BINGET"):
            if argument not in self._memo:
                raise ModelError(f"it refers to a value {argument} that is not there")
            self._stack.append(self._memo[argument])
        elif name == "MARK":
            self._marks.append(len(self._stack))
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self._look_up(argument if name == "GLOBAL" else None)
        elif name == "REDUCE":
            self._call()
        elif name == "BUILD":
            state, target = self._pop(), self._top()
            if type(target) not in (_Dtype, _Array):
                _refuse("an object with a state of its own")
            target.build(state)
            self._spend(target)
        else:
            self._collect(name)

    def _collect(self, name: str) -> None:
        """Carry out an instruction that makes or fills a list, tuple or dictionary."""
        if name == "EMPTY_LIST":
            self._stack.append([])
        elif name == "EMPTY_DICT":
            self._stack.append({})
        elif name == "EMPTY_TUPLE":
            self._stack.append(())
        elif name == "TUPLE":
            self._stack.append(tuple(self._pop_to_mark()))
        elif name in _TUPLES:
            values = [self._pop() for _ in range(_TUPLES[name])]
            self._stack.append(tuple(reversed(values)))
        elif name in ("APPEND", "APPENDS"):
            values = [self._pop()] if name == "APPEND" else self._pop_to_mark()
            self._top_of_type(list).extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            values = self._pop_to_mark() if name == "SETITEMS" else [self._pop(), self._pop()][::-1]
            target = self._top_of_type(dict)
            keys = values[::2]
            if len(values) % 2 or any(type(key) is not str for key in keys):
                _refuse("a dictionary with other keys than texts")
            target.update(zip(keys, values[1::2], strict=True))
        else:
            _refuse(f"the instruction {name}")

    def _look_up(self, module_and_name: str | None) -> None:
        if module_and_name is None:
            name, module = self._pop(), self._pop()
            if type(name) is not str or type(module) is not str:
                raise ModelError("it is damaged: a name is no text")
        else:
            module, _, name = module_and_name.partition(" ")
        if (module, name) not in _NAMES:
            _refuse(f"it wants to use '{module}.{name}'"[:200])
        self._stack.append(_NAMES[module, name])

    def _call(self) -> None:
        arguments, function = self._pop(), self._pop()
        if type(function) is not _Function or type(arguments) is not tuple:
            _refuse("a call of something")
        result = function.call(arguments)
        self._spend(result)
        self._stack.append(result)

    def _spend(self, made: Any) -> None:
        """Count the bytes of something new: one text in the file may not become many arrays."""
        if type(made) is bytes:
            self._bytes_left -= len(made)
        elif type(made) is _Array and made.values is not None:
            self._bytes_left -= made.values.nbytes
        if self._bytes_left < 0:
            raise ModelError("it unfolds the same bytes again and again")

    def _top(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise ModelError("it is damaged: a value is missing")
        return self._stack[-1]

    def _top_of_type(self, kind: type) -> Any:
        top = self._top()
        if type(top) is not kind:
            raise ModelError(f"it is damaged: a {kind.__name__} is missing")
        return top

    def _pop(self) -> Any:
        self._top()
        return self._stack.pop()

    def _pop_to_mark(self) -> list[Any]:
        if not self._marks:
            raise ModelError("it is damaged: a mark is missing")
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values


def _plain(value: Any, done: dict[int, tuple[Any, int]], depth: int) -> tuple[Any, int]:
    """A plain copy of a value with finished arrays in it, and how deeply it is nested.

    Parameters
    ----------
    value
        What the machine made; a value may occur in it at many places.
    done
        Results so far, by identity, so that each value is copied once.
    depth
        Lists, tuples and dictionaries around it.
    """
    if type(value) in _PLAIN_TYPES:
        return value, 0
    if type(value) is _Array and value.values is not None:
        return value.values, 0
    if type(value) not in (list, tuple, dict):
        _refuse("something that is not finished")
    if depth >= _MAX_DEPTH or depth + done.get(id(value), (None, 0))[1] > _MAX_DEPTH:
        _refuse(f"lists within lists, more than {_MAX_DEPTH} deep")
    if id(value) not in done:
        entries = value.values() if type(value) is dict else value
        copies = [_plain(entry, done, depth + 1) for entry in entries]
        nested = 1 + max((height for _, height in copies), default=0)
        plain = [copy for copy, _ in copies]
        copy = dict(zip(value, plain, strict=True)) if type(value) is dict else type(value)(plain)
        done[id(value)] = copy, nested
    return done[id(value)]
