"""Reading TensorFlow's checkpoints: real ones, made-up ones, and damaged ones."""

import contextlib
import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference_files as files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from dnn_reco.errors import ModelError
from dnn_reco.tf_import.sorted_table import read_table
from dnn_reco.tf_import.tensor_bundle import (
    OBJECT_GRAPH_KEY,
    latest_checkpoint,
    open_bundle,
    variable_names,
)

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
numbers = st.sampled_from(sorted(files.DATA_TYPES)).flatmap(
    lambda dtype: arrays_of.arrays(dtype, arrays_of.array_shapes(min_dims=0, min_side=0))
)
SMALL = {
    "a/weights": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a/biases": np.array([1.5, -2.0]),
    "step": np.array(7),
}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A checkpoint of three arrays and their names."""
    prefix = tmp_path / "ckpt-7"
    files.write_bundle(prefix, SMALL, {"a/weights": "layer_weights", "step": "step"})
    return prefix


def read_all(prefix: Path) -> dict[str, Any]:
    bundle = open_bundle(prefix)
    values = {key: bundle.read(key) for key in bundle.entries if key != OBJECT_GRAPH_KEY}
    return values | {OBJECT_GRAPH_KEY: bundle.read_string(OBJECT_GRAPH_KEY)}


def test_checkpoint_of_the_reference(golden_network: Path) -> None:
    """All variables that TensorFlow itself lists, and the weights that it reads."""
    prefix = latest_checkpoint(golden_network / "tf_checkpoint")
    assert prefix.name == "ckpt-200"
    bundle = open_bundle(prefix)
    listed = json.loads((golden_network / "tf_checkpoint_variables.json").read_text())["variables"]
    assert {key: list(entry.shape) for key, entry in bundle.entries.items()} == dict(listed)
    order = json.loads((golden_network / "tf_checkpoint_order.json").read_text())
    weights = np.load(golden_network / "tf_checkpoint_weights.npz")
    for position, key in enumerate(order["index_to_key"]):
        found = bundle.read(f"model/{position}{files.VALUE}")
        np.testing.assert_array_equal(found, weights[key.removesuffix(":0")])
    assert bundle.read(f"step{files.VALUE}") == order["step"]
    names = variable_names(bundle.read_string(OBJECT_GRAPH_KEY))
    assert names[f"model/0{files.VALUE}"] == "label_weights"
    assert names[f"model/1{files.VALUE}"] == "GeneralIC86CNN__upper_deepcore_000_biases"


@in_one_folder
@given(
    values=st.dictionaries(st.text(min_size=1, max_size=20), numbers, max_size=5),
    num_shards=st.integers(1, 3),
)
def test_any_arrays(tmp_path: Path, values: dict[str, Any], num_shards: int) -> None:
    files.write_bundle(tmp_path / "ckpt-1", values, num_shards=num_shards)
    bundle = open_bundle(tmp_path / "ckpt-1")
    assert set(bundle.entries) == set(values)
    for key, value in values.items():
        found = bundle.read(key)
        assert (found.dtype, found.shape) == (value.dtype, value.shape)
        assert found.tobytes() == value.tobytes()


@given(
    entries=st.dictionaries(st.binary(max_size=12), st.binary(max_size=12), max_size=30),
    per_block=st.integers(1, 8),
    restart_interval=st.integers(1, 5),
)
def test_any_table(entries: dict[bytes, bytes], per_block: int, restart_interval: int) -> None:
    assert read_table(files.table(entries, per_block, restart_interval)) == entries


def test_names_of_variables(small: Path) -> None:
    graph = open_bundle(small).read_string(OBJECT_GRAPH_KEY)
    assert variable_names(graph) == {"a/weights": "layer_weights", "step": "step"}


@pytest.mark.parametrize("suffix", [".index", ".data-00000-of-00001"])
def test_every_flipped_bit_is_detected(small: Path, suffix: str) -> None:
    """Or it changes nothing: the padding of the footer has no meaning."""
    before = read_all(small)
    file = Path(f"{small}{suffix}")
    content = file.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        file.write_bytes(damaged)
        try:
            after = read_all(small)
        except ModelError:
            continue
        assert suffix == ".index" and len(content) - 48 < position < len(content) - 8
        assert {key: bytes(value) for key, value in after.items()} == {
            key: bytes(value) for key, value in before.items()
        }


@pytest.mark.parametrize("suffix", [".index", ".data-00000-of-00001"])
def test_every_truncation_is_detected(small: Path, suffix: str) -> None:
    file = Path(f"{small}{suffix}")
    content = file.read_bytes()
    for length in range(len(content)):
        file.write_bytes(content[:length])
        with pytest.raises(ModelError):
            read_all(small)


def index_of(**changes: Any) -> dict[bytes, bytes]:
    """Entries of an index of one array of 8 bytes, with some fields changed."""
    data = np.arange(2, dtype=np.float32).tobytes()
    right = {"dtype": 1, "shape": (2,), "shard": 0, "offset": 0, "data": data}
    chosen = {**right, "crc": files.masked(data), **changes}
    return {b"": files.field(1, 1), b"x": files.entry(**chosen)}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (index_of(shape=(3,)), "8 bytes do not match an array of shape [3] and type float32"),
        (index_of(shape=(2**63, 2)), "do not match an array of shape"),
        (index_of(shape=(0, 2**62), data=b""), "do not match an array of shape"),
        (index_of(shape=(1,) * 40), "do not match an array of shape"),
        (index_of(offset=1), "ends before byte 9"),
        (index_of(offset=2**62), "ends before byte"),
        (index_of(data=bytes(16), shape=(4,)), "ends before byte 16"),
        (index_of(shard=1), "a data file that does not exist"),
        (index_of(dtype=21), "arrays of TensorFlow's type 21"),
        (index_of(crc=5), "checksum is wrong"),
        ({b"x": index_of()[b"x"]}, "it has no header"),
        ({**index_of(), b"": files.field(1, 0)}, "it declares 0 data files"),
        ({**index_of(), b"": files.field(1, 1) + files.field(2, 1)}, "big-endian"),
        ({**index_of(), b"x": index_of()[b"x"] + files.field(7, b"")}, "array in slices"),
        ({**index_of(), b"x": files.field(1, b"a")}, "bytes where a number belongs"),
        ({**index_of(), b"x": files.field(2, 4)}, "a number where bytes belong"),
        ({**index_of(), b"x": b"\x12\xff\xff\xff\x7f"}, "exceeds its message"),
        ({**index_of(), b"x": b"\x0b"}, "unknown kind 3"),
        ({**index_of(), b"x": b"\x08" + b"\xff" * 10}, "truncated or too long"),
        ({**index_of(), b"x": b"\x08" + b"\xff" * 9 + b"\x02"}, "truncated or too long"),
        ({**index_of(), b"\xff": b""}, "a name is not UTF-8"),
    ],
)
def test_wrong_entries(tmp_path: Path, entries: dict[bytes, bytes], message: str) -> None:
    """Entries that are complete, but inconsistent."""
    (tmp_path / "c.index").write_bytes(files.table(entries))
    (tmp_path / "c.data-00000-of-00001").write_bytes(np.arange(2, dtype=np.float32).tobytes())
    with pytest.raises(ModelError, match=re.escape(message)):
        open_bundle(tmp_path / "c").read("x")


def table_of_block(content: bytes, kind: int = 0, size: int | None = None) -> bytes:
    """A table with one block, whatever is in it; the index stands for the filters, too."""
    data = files.with_trailer(content, kind)
    handle = files.varint(0) + files.varint(len(content) if size is None else size)
    index = files.block([(b"z", handle)], 1)
    handles = 2 * (files.varint(len(data)) + files.varint(len(index)))
    footer = handles.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")
    return data + files.with_trailer(index) + footer


RESTARTS = struct.pack("<II", 0, 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not end as the index"),
        (table_of_block(RESTARTS, kind=1), "compressed with Snappy"),
        (table_of_block(RESTARTS, kind=9), "unknown method 9"),
        (table_of_block(RESTARTS, size=2**40), "extends beyond the end"),
        (table_of_block(b"\x00\x00"), "shorter than it declares"),
        (table_of_block(struct.pack("<I", 2**32 - 1)), "shorter than it declares"),
        (table_of_block(b"\x00\x05\x05abc" + RESTARTS), "exceeds its block"),
        (table_of_block(b"\x03\x00\x00" + RESTARTS), "exceeds its block"),
        (table_of_block(b"\x00\x80\x80\x01\x00" + bytes(2**14) + RESTARTS), "key is longer"),
    ],
)
def test_wrong_tables(data: bytes, message: str) -> None:
    """Blocks with correct checksums and invalid content."""
    with pytest.raises(ModelError, match=message):
        read_table(data)


def test_a_table_does_not_expand_without_limit() -> None:
    """Keys that share all with the one before cost the file three bytes each."""
    first = b"\x00" + files.varint(1000) + b"\x00" + bytes(1000)
    again = files.varint(1000) + b"\x00\x00"
    with pytest.raises(ModelError, match="expands"):
        read_table(table_of_block(first + 5000 * again + RESTARTS))


def test_missing_data_file(small: Path) -> None:
    file = Path(f"{small}.data-00000-of-00001")
    file.unlink()
    with pytest.raises(ModelError, match=re.escape(f"the file '{file}' is missing")):
        open_bundle(small).read("step")


def test_missing_array(small: Path) -> None:
    with pytest.raises(ModelError, match="has no 'b'"):
        open_bundle(small).read("b")


def test_strings_and_numbers_are_not_mixed_up(small: Path) -> None:
    bundle = open_bundle(small)
    with pytest.raises(ModelError, match="type 7"):
        bundle.read(OBJECT_GRAPH_KEY)
    with pytest.raises(ModelError, match="not a single string"):
        bundle.read_string("step")


def test_latest_checkpoint_is_the_named_one(tmp_path: Path) -> None:
    for number in (100, 200, 1000):
        files.write_bundle(tmp_path / f"ckpt-{number}", SMALL)
    with pytest.raises(ModelError, match=r"several checkpoints.*ckpt-200.index"):
        latest_checkpoint(tmp_path)
    state = tmp_path / "checkpoint"
    state.write_text(
        'model_checkpoint_path: "/their/machine/ckpt-200"\n'
        'all_model_checkpoint_paths: "/their/machine/ckpt-100"\n'
    )
    assert latest_checkpoint(tmp_path) == tmp_path / "ckpt-200"
    state.write_text("nothing")
    with pytest.raises(ModelError, match="names no checkpoint"):
        latest_checkpoint(tmp_path)


def test_the_only_checkpoint_need_not_be_named(small: Path) -> None:
    assert latest_checkpoint(small.parent) == small


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no TensorFlow checkpoint"):
        latest_checkpoint(tmp_path)


@given(st.binary(max_size=60))
def test_any_block_is_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(ModelError):
        read_table(table_of_block(content + RESTARTS))


@in_one_folder
@given(header=st.binary(max_size=12), message=st.binary(max_size=40))
def test_any_entry_is_read_or_refused(tmp_path: Path, header: bytes, message: bytes) -> None:
    entries = {b"": files.field(1, 1) + header, b"x": index_of()[b"x"] + message}
    (tmp_path / "c.index").write_bytes(files.table(entries))
    (tmp_path / "c.data-00000-of-00001").write_bytes(np.arange(2, dtype=np.float32).tobytes())
    with contextlib.suppress(ModelError):
        assert open_bundle(tmp_path / "c").read("x").nbytes == 8


@given(st.binary(max_size=60))
def test_any_object_graph_is_read_or_refused(graph: bytes) -> None:
    try:
        names = variable_names(files.object_graph({"key": "name"}) + graph)
    except ModelError:
        return
    assert names["key"] == "name"


def test_missing_index(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no index: the file '.*ckpt-3.index' is missing"):
        open_bundle(tmp_path / "ckpt-3")
