"""Plain values are read from pickles, and nothing is executed."""

import contextlib
import os
import pickle
import pickletools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from dnn_reco.errors import ModelError
from dnn_reco.tf_import import restricted_pickle
from dnn_reco.tf_import.restricted_pickle import read_plain_pickle

PROTOCOLS = (2, 3, 4)
NUMBER_TYPES = ["b1", "i1", "<i2", ">i4", "<i8", "u1", "<u4", "<f2", "<f4", ">f4", "<f8", ">f8"]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
number_arrays = st.sampled_from(NUMBER_TYPES).flatmap(
    lambda dtype: arrays_of.arrays(
        dtype, arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0)
    )
)


def is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(type(key) is str for key in value) and all(map(is_plain, value.values()))
    if type(value) is np.ndarray:
        return value.dtype.kind in "biuf"
    return value is None or type(value) in (bool, int, float, str, bytes)


@given(value=values, protocol=st.sampled_from(PROTOCOLS))
def test_plain_values(value: Any, protocol: int) -> None:
    assert read_plain_pickle(pickle.dumps(value, protocol)) == value


@given(array=number_arrays, protocol=st.sampled_from(PROTOCOLS), fortran=st.booleans())
def test_arrays_of_numbers(array: np.ndarray, protocol: int, fortran: bool) -> None:
    array = np.asfortranarray(array) if fortran and array.ndim else array
    content = {"first": array, "again": [array, array.copy()]}
    found = read_plain_pickle(pickle.dumps(content, protocol))
    assert (found["first"].dtype, found["first"].shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found["first"], array)
    np.testing.assert_array_equal(found["again"][1], array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_numbers_become_plain_ones(protocol: int) -> None:
    content = {"a": np.float32(0.5), "b": np.int64(-3), "c": np.bool_(True)}
    found = read_plain_pickle(pickle.dumps(content, protocol))
    assert found == {"a": 0.5, "b": -3, "c": True}
    assert [type(number) for number in found.values()] == [float, int, bool]


def test_names_of_older_numpy() -> None:
    """Files of numpy before version 2 name another module."""
    data = pickle.dumps(np.arange(3.0), protocol=2)
    older = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert older != data or np.lib.NumpyVersion(np.__version__) < "2.0.0"
    np.testing.assert_array_equal(read_plain_pickle(older), np.arange(3.0))


def test_a_file_of_python_2() -> None:
    """What its cPickle wrote for names and moments: strings where there are bytes today."""
    data = (
        b"\x80\x02}q\x01(U\x0blabel_namesq\x02]q\x03U\x01aaU\nlabel_meanq\x04"
        b"cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85U\x01b\x87R"
        b"q\x07(K\x01K\x02\x85cnumpy\ndtype\nq\x08U\x02f8K\x00K\x01\x87Rq\t(K\x03U\x01<NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U\x10\x00\x00\x00\x00\x00\x00\xe0?\x00\x00\x00\x00\x00\xc0r@tbU\x01n"
        b"cnumpy.core.multiarray\nscalar\nq\nh\tU\x08\x00\x00\x00\x00\x00\x00\xe0?\x86Rq\x0bu."
    )
    found = read_plain_pickle(data)
    np.testing.assert_array_equal(found.pop("label_mean"), [0.5, 300.0])
    assert found == {"label_names": ["a"], "n": 0.5}


class Calls:
    """Its pickle asks to call a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


class Stateful:
    """Its pickle asks to call `__setstate__`."""

    def __init__(self) -> None:
        self.content = 1

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("this ran")


def text(content: str) -> bytes:
    return b"X" + struct.pack("<I", len(content.encode())) + content.encode()


TOUCH = "touch executed"
MALICIOUS = {
    "call": pickle.dumps(Calls(os.system, TOUCH), 2),
    "call, protocol 4": pickle.dumps(Calls(os.system, TOUCH), 4),
    "call inside": pickle.dumps({"num_bins": [1, Calls(os.system, TOUCH)]}, 2),
    "eval": pickle.dumps(Calls(eval, f"__import__('os').system('{TOUCH}')"), 2),
    "global alone": b"cbuiltins\neval\n.",
    "instance": b"(" + text(TOUCH) + b"ios\nsystem\n.",
    "object": b"(cos\nsystem\n" + text(TOUCH) + b"o.",
    "object of a known name": b"(c_codecs\nencode\n" + text(TOUCH) + b"o.",
    "new object": pickle.dumps(Stateful(), 2),
    "new object, protocol 4": pickle.dumps(Stateful(), 4),
    "state of a list": b"\x80\x02]}b.",
    "persistent name": b"Pname\n.",
    "extension": b"\x80\x02\x82\x01.",
    "numpy.load": b"cnumpy\nload\n(X\x04\x00\x00\x00filetR.",
    "numpy.fromfile": b"cnumpy._core.multiarray\nfromfile\n(X\x04\x00\x00\x00filetR.",
    "attribute of numpy": b"cnumpy\nndarray.tofile\n.",
    "ndarray called": b"cnumpy\nndarray\n(K\x05tR.",
    "bytes of a length": b"c__builtin__\nbytes\n(K\x09tR.",
    "other encoding": b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00hextR.",
    "objects in an array": pickle.dumps(np.array([{}, 1], dtype=object), 2),
    "call in an array": pickle.dumps(np.array([Calls(os.system, TOUCH)], dtype=object), 2),
    "strings in an array": pickle.dumps(np.array(["a"]), 2),
    "structured array": pickle.dumps(np.zeros(2, dtype=[("a", "f8")]), 2),
    "array of a subclass": pickle.dumps(np.ma.zeros(2), 2),
    "dates": pickle.dumps(np.zeros(2, dtype="M8[s]"), 2),
    "complex numbers": pickle.dumps(1j, 2),
    "set": pickle.dumps({1}, 4),
    "keys that are not strings": pickle.dumps({(1, 2): 3}, 2),
    "type alone": pickle.dumps(np.dtype("f8"), 2),
    "function alone": b"c_codecs\nencode\n.",
}


@pytest.mark.parametrize("name", MALICIOUS)
def test_other_content_is_refused_and_not_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="more than plain values"):
        read_plain_pickle(MALICIOUS[name])
    assert list(tmp_path.iterdir()) == []


ENCODE, ARRAY = b"c_codecs\nencode\n", b"cnumpy._core.multiarray\n_reconstruct\n"
DOUBLES = b"cnumpy\ndtype\n" + text("f8") + b"\x89\x88\x87R(K\x03" + text("<") + b"NNN"
DOUBLES += b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def array_of(shape: bytes, data: str) -> bytes:
    """An array of doubles, from the instructions for its shape, and its bytes as a string."""
    start = ARRAY + b"cnumpy\nndarray\nK\x00\x85" + ENCODE + text("b") + text("latin1") + b"\x86R"
    content = ENCODE + text(data) + text("latin1") + b"\x86R"
    return start + b"\x87R(K\x01" + shape + DOUBLES + b"\x89" + content + b"tb."


def test_the_array_that_the_following_tests_break() -> None:
    np.testing.assert_array_equal(read_plain_pickle(array_of(b"K\x02\x85", "\0" * 16)), [0.0, 0.0])


HUGE = b"\x8a\x08" + struct.pack("<q", 2**62)
DAMAGED = {
    "nothing": b"",
    "no end": b"\x80\x02N",
    "no pickle": b"\x93NUMPY",
    "two values": b"NN.",
    "no value": b"\x80\x02.",
    "open mark": b"N(.",
    "value below a mark": b"N(\x85.",
    "no mark": b"Nt.",
    "append to a number": b"K\x01K\x01a.",
    "items of a list": b"](X\x01\x00\x00\x00aK\x01u.",
    "unknown value": b"h\x05.",
    "string longer than the file": b"X\xff\xff\xff\x7fabc.",
    "string of 2**62 bytes": b"\x8d" + struct.pack("<q", 2**62) + b"abc.",
    "number of negative length": b"\x8b\xff\xff\xff\xffabc.",
    "name that is a number": b"K\x01K\x02\x93.",
    "too few numbers": array_of(b"K\x03\x85", "\0" * 16),
    "too many numbers": array_of(b"K\x01\x85", "\0" * 16),
}
# a pair of a pair of a pair …, each twice the same
DOUBLING = b")q\x00" + b"".join(b"h%c\x86q%c" % (i, i + 1) for i in range(200))
BOMBS = {
    "length of 2**62": array_of(HUGE + b"\x85", "\0" * 16),
    "negative length": array_of(b"J\xff\xff\xff\xff\x85", "\0" * 8),
    "lengths behind a zero": array_of(b"K\x00" + HUGE + b"\x86", ""),
    "many axes": array_of(b"(" + b"K\x01" * 40 + b"t", "\0" * 8),
    "one string, many bytes": b"](" + ENCODE + b"q\x00" + text("a" * 10_000) + b"q\x01"
    + text("latin1") + b"q\x02\x86R" + b"h\x00h\x01h\x02\x86R" * 100 + b"e.",
    "deep lists": b"]" * 100_000 + b"a" * 99_999 + b".",
    "deep tuples": b")" + b"\x85" * 100_000 + b".",
    "list of itself": b"]q\x00(h\x00h\x00e.",
    "lists in each other": b"]q\x00]q\x01h\x00aa.",
    "doubling": DOUBLING + b".",
    "key that takes forever": b"}" + DOUBLING + b"Ns.",
    "type that takes forever": b"cnumpy\ndtype\n" + text("f8") + b"\x89\x88\x87R(K\x03" + DOUBLING
    + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb.",
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_reported(name: str) -> None:
    with pytest.raises(ModelError, match=r"damaged|single value|do not match"):
        read_plain_pickle(DAMAGED[name])


@pytest.mark.parametrize("name", BOMBS)
def test_small_files_do_not_expand_without_limit(name: str) -> None:
    with pytest.raises(ModelError, match=r"more than plain values|bytes repeatedly"):
        read_plain_pickle(BOMBS[name])


def test_one_list_at_many_places_is_read_once() -> None:
    shared = ["a"] * 1000
    content = {str(number): [shared] * 1000 for number in range(100)}
    found = read_plain_pickle(pickle.dumps(content, 2))
    assert found["0"][0] is found["99"][999] == shared


def file_of_a_model() -> bytes:
    content = {
        "num_bins": 2,
        "label_names": ["a", "b"],
        "log_label_bins": np.array([True, False]),
        "norm_constant": np.float64(1e-4),
        "label_mean": np.arange(2.0),
        "label_std": np.arange(2.0) + 1,
    }
    return pickle.dumps(content, 2)


OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
changes = st.lists(
    st.tuples(
        st.integers(0, 10_000),
        st.sampled_from(["flip", "remove", "insert", "repeat", "cut"]),
        st.binary(min_size=1, max_size=4) | st.sampled_from(OPCODES),
    ),
    min_size=1,
    max_size=6,
)


def changed(data: bytes, steps: list[tuple[int, str, bytes]]) -> bytes:
    for place, kind, extra in steps:
        at = place % (len(data) + 1)
        end = at + len(extra)
        data = {
            "flip": data[:at] + extra + data[end:],
            "remove": data[:at] + data[end:],
            "insert": data[:at] + extra + data[at:],
            "repeat": data[:end] + data[at:],
            "cut": data[:at] + b"." if place % 10 == 0 else data,
        }[kind]
    return data


@pytest.mark.filterwarnings("error")
@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(base=st.sampled_from([file_of_a_model(), *MALICIOUS.values()]), steps=changes)
@example(base=b"", steps=[])
@example(base=b"cnu\\*py\nndarray\n.", steps=[])
def test_any_change_gives_plain_values_or_an_error(
    tmp_path: Path, base: bytes, steps: list[tuple[int, str, bytes]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        with contextlib.suppress(ModelError):
            assert is_plain(read_plain_pickle(changed(base, steps)))
        assert list(tmp_path.iterdir()) == []


@given(st.lists(st.sampled_from(OPCODES) | st.binary(max_size=5), max_size=30).map(b"".join))
def test_any_instructions_give_plain_values_or_an_error(data: bytes) -> None:
    with contextlib.suppress(ModelError):
        assert is_plain(read_plain_pickle(data + b"."))


def test_a_type_without_byte_order_is_refused() -> None:
    whole = array_of(b"K\x02\x85", "\0" * 16)
    bare = b"cnumpy\ndtype\n" + text("f8") + b"\x89\x88\x87R"
    assert DOUBLES in whole
    with pytest.raises(ModelError, match="a type of numbers without byte order"):
        read_plain_pickle(whole.replace(DOUBLES, bare))


def test_large_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restricted_pickle, "_MAX_SIZE", 10)
    ten = text("abcd") + b"."
    assert len(ten) == 10
    assert read_plain_pickle(ten) == "abcd"
    with pytest.raises(ModelError, match="it is larger than 10 bytes"):
        read_plain_pickle(text("abcde") + b".")
