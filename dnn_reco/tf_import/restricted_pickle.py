"""Reading plain values from a pickle file, without unpickling it.

A pickle is a program for a small stack machine, and Python's own reader calls whatever it names.
This reader is another machine: its values are numbers, strings, bytes, lists, tuples, dictionaries
with strings as keys, and numpy arrays of numbers, and nothing else can be created. The few names
that pickled arrays need stand for functions of this module, never for those of numpy; any other
name and any unnecessary instruction end the reading. (`pickletools` only splits the file into
instructions.)

Memory and time grow with the size of the file, whatever lengths it declares.
"""

from __future__ import annotations

import math
import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
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
                if instruction.name not in _INSTRUCTIONS:
                    _refuse(f"the instruction {instruction.name}")
                _INSTRUCTIONS[instruction.name](machine, argument)
    except ValueError as error:
        raise ModelError(f"it is damaged, or not a pickle: {error}") from error
    return _plain(machine.result(), {}, 0)[0]


def _refuse(what: str) -> NoReturn:
    raise ModelError(f"it holds more than plain values: {what}")


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        _refuse(otherwise)


@dataclass
class _Dtype:
    """A type of numbers, complete once its byte order is set."""

    code: str
    order: str | None = None

    def build(self, state: Any) -> None:
        # version, byte order, subtype, names, fields, size, alignment, flags
        is_state = type(state) is tuple and len(state) == 8 and type(state[1]) is str
        _require(is_state, "an unusual type of numbers")
        is_simple = state[1] in _BYTE_ORDERS and all(part is None for part in state[2:5])
        _require(is_simple, "a structured type")
        self.order = state[1]

    def array(self, data: bytes, shape: tuple[int, ...], column_major: bool) -> NDArray[Any]:
        """The array in `data`, which is not copied."""
        if self.order is None:
            _refuse("a type of numbers without byte order")
        dtype = np.dtype(self.order + self.code)
        if math.prod(shape) * dtype.itemsize != len(data):
            raise ModelError(f"{len(data)} bytes do not match an array of shape {list(shape)}")
        if self.code == "b1":
            dtype = np.dtype(np.uint8)
        array = np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if column_major else "C")
        return array.astype(np.bool_) if self.code == "b1" else array


@dataclass
class _Array:
    """An array, complete once its content is set."""

    values: NDArray[Any] | None = None

    def build(self, state: Any) -> None:
        _require(type(state) is tuple and len(state) == 5, "an unusual array")
        _, shape, dtype, column_major, data = state
        data = _as_bytes(data)
        found = (type(dtype), type(column_major), type(data))
        _require(found == (_Dtype, bool, bytes), "an array of objects")
        _require(_is_shape(shape), "an array of unusual shape")
        self.values = dtype.array(data, shape, column_major)


def _as_bytes(value: Any) -> Any:
    """The bytes of a string of Python 2, which its reader decodes as Latin-1."""
    return value.encode("latin-1") if type(value) is str else value


def _is_shape(value: Any) -> bool:
    return (
        type(value) is tuple
        and len(value) <= _MAX_AXES
        and all(type(length) is int and 0 <= length <= _MAX_LENGTH for length in value)
    )


# The functions that a file may call.

_NDARRAY = object()  # stands for the class numpy.ndarray


def _make_array(arguments: tuple[Any, ...]) -> _Array:
    _require(len(arguments) == 3 and arguments[0] is _NDARRAY, "an unusual array")
    return _Array()


def _make_dtype(arguments: tuple[Any, ...]) -> _Dtype:
    is_code = len(arguments) == 3 and type(arguments[0]) is str and arguments[0] in _NUMBER_CODES
    _require(is_code, "an array without numbers")
    return _Dtype(arguments[0])


def _make_scalar(arguments: tuple[Any, ...]) -> Any:
    arguments = (*arguments[:1], *map(_as_bytes, arguments[1:]))
    _require(tuple(map(type, arguments)) == (_Dtype, bytes), "an unusual number")
    return arguments[0].array(arguments[1], (), False).item()


def _encode(arguments: tuple[Any, ...]) -> bytes:
    """Bytes, which protocol 2 writes as a string."""
    is_latin = tuple(map(type, arguments)) == (str, str) and arguments[1] == "latin1"
    _require(is_latin, "an unusual string")
    return str(arguments[0]).encode("latin-1")


def _no_bytes(arguments: tuple[Any, ...]) -> bytes:
    """Empty bytes, which protocol 2 writes as a call."""
    _require(not arguments, "bytes created by a call")
    return b""


_NAMES: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _make_dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
}
for _package in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _NAMES[_package, "_reconstruct"] = _make_array
    _NAMES[_package, "scalar"] = _make_scalar


class _Machine:
    """The stack machine that a pickle's instructions are for.

    Parameters
    ----------
    size
        Size of the file, which limits the bytes that may be created.
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

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def mark(self) -> None:
        self._marks.append(len(self._stack))

    def put(self, number: int | None) -> None:
        """Keep the last value under a number, by default the next one."""
        self._memo[len(self._memo) if number is None else number] = self._top()

    def append(self, values: list[Any]) -> None:
        self._top_of_type(list).extend(values)

    def set_items(self, items: list[Any]) -> None:
        """Set items, which come as keys and values in turn."""
        target = self._top_of_type(dict)
        keys = items[::2]
        is_plain = len(items) % 2 == 0 and all(type(key) is str for key in keys)
        _require(is_plain, "a dictionary with keys that are not strings")
        target.update(zip(keys, items[1::2], strict=True))

    def get(self, number: int) -> None:
        if number not in self._memo:
            raise ModelError(f"it is damaged: it refers to a missing value {number}")
        self.push(self._memo[number])

    def look_up(self, module: Any, name: Any) -> None:
        if type(name) is not str or type(module) is not str:
            raise ModelError("it is damaged: a name is not a string")
        if (module, name) not in _NAMES:
            _refuse(f"it names '{module}.{name}'"[:200])
        self.push(_NAMES[module, name])

    def call(self, function: Any, arguments: Any) -> None:
        # the only functions that can be on the stack are those in _NAMES
        is_call = type(function) is FunctionType and type(arguments) is tuple
        _require(is_call, "a call of something")
        result = function(arguments)
        self._spend(result)
        self.push(result)

    def build(self, state: Any) -> None:
        target = self._top()
        _require(type(target) in (_Dtype, _Array), "an object with its own state")
        target.build(state)
        self._spend(target)

    def _spend(self, made: Any) -> None:
        """Count the bytes of something new: one string must not become many arrays."""
        if type(made) is bytes:
            self._bytes_left -= len(made)
        elif type(made) is _Array and made.values is not None:
            self._bytes_left -= made.values.nbytes
        if self._bytes_left < 0:
            raise ModelError("it expands the same bytes repeatedly")

    def _top(self) -> Any:
        self._check_above_mark(1)
        return self._stack[-1]

    def _top_of_type(self, kind: type) -> Any:
        top = self._top()
        if type(top) is not kind:
            raise ModelError(f"it is damaged: a {kind.__name__} is missing")
        return top

    def pop(self, count: int) -> list[Any]:
        """The last values, in the order in which they were pushed."""
        self._check_above_mark(count)
        values = self._stack[-count:]
        del self._stack[-count:]
        return values

    def pop_to_mark(self) -> list[Any]:
        if not self._marks:
            raise ModelError("it is damaged: a mark is missing")
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _check_above_mark(self, count: int) -> None:
        """Check that there are so many values above the last mark."""
        if len(self._stack) - (self._marks[-1] if self._marks else 0) < count:
            raise ModelError("it is damaged: a value is missing")


_LITERALS = (
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINSTRING", "BINSTRING"),  # of Python 2: its strings, and bytes
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
)
# What each instruction does with the machine and the argument of the instruction, if it has one.
_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    **dict.fromkeys(_LITERALS, _Machine.push),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.pop(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.pop(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.pop(3))),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "APPEND": lambda machine, _: machine.append(machine.pop(1)),
    "APPENDS": lambda machine, _: machine.append(machine.pop_to_mark()),
    "SETITEM": lambda machine, _: machine.set_items(machine.pop(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "MARK": lambda machine, _: machine.mark(),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.get),
    "GLOBAL": lambda machine, names: machine.look_up(*names.partition(" ")[::2]),
    "STACK_GLOBAL": lambda machine, _: machine.look_up(*machine.pop(2)),
    "REDUCE": lambda machine, _: machine.call(*machine.pop(2)),
    "BUILD": lambda machine, _: machine.build(*machine.pop(1)),
}


def _plain(value: Any, done: dict[int, tuple[Any, int]], depth: int) -> tuple[Any, int]:
    """A plain copy of a value with complete arrays in it, and how deeply it is nested.

    Parameters
    ----------
    value
        Result of the machine; a value may occur in it many times.
    done
        Results so far, by identity, so that each value is copied once.
    depth
        Number of lists, tuples and dictionaries around it.
    """
    if type(value) in _PLAIN_TYPES:
        return value, 0
    if type(value) is _Array and value.values is not None:
        return value.values, 0
    _require(type(value) in (list, tuple, dict), "an incomplete array, a type or a function")
    if depth >= _MAX_DEPTH or depth + done.get(id(value), (None, 0))[1] > _MAX_DEPTH:
        _refuse(f"lists nested more than {_MAX_DEPTH} deep")
    if id(value) not in done:
        entries = value.values() if type(value) is dict else value
        copies = [_plain(entry, done, depth + 1) for entry in entries]
        nested = 1 + max((height for _, height in copies), default=0)
        plain = [copy for copy, _ in copies]
        copy = dict(zip(value, plain, strict=True)) if type(value) is dict else type(value)(plain)
        done[id(value)] = copy, nested
    return done[id(value)]
