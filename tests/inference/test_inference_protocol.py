"""The parser of requests: whatever bytes come, they are read or refused."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_client import DATATYPES, binary_body, hit_tensors
from numpy.typing import NDArray
from serving import some_hits

from dnn_reco.data.hits import check_hits
from dnn_reco.errors import DataError
from dnn_reco.inference.model_info import LabelInfo, ModelInfo
from dnn_reco.inference.server import endpoints, protocol
from dnn_reco.inference.server.protocol import RequestError, encode_response, parse_request

INFO = ModelInfo("a", (LabelInfo("x"),), num_features=3, init_values=(0.0,) * 3)
OUTPUTS = ("x", "x_uncertainty", "status")
BODY, LENGTH = binary_body(hit_tensors(some_hits(3)), ["x"], "id")


def read(body: bytes, length: str | None = None) -> None:
    """Read a request as the server does; it must be valid, or refused."""
    try:
        request = parse_request(body, length, endpoints.hit_inputs(INFO), OUTPUTS)
        hits = endpoints._hits(request.tensors, INFO)
    except RequestError as error:
        assert error.code in (400, 413) and str(error)
        assert len(str(error)) < 400, "the client's own data come back"
    except DataError:
        pass
    else:
        check_hits(hits)
        assert hits.dom.dtype == np.uint16 and hits.features.dtype == np.float32


@given(st.binary(max_size=200), st.none() | st.text(max_size=5) | st.integers(0, 200).map(str))
def test_any_bytes(body: bytes, length: str | None) -> None:
    read(body, length)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
SIZES = st.integers(-2, 4) | st.sampled_from([2**31, 2**63, 2**64, 10**30])
TENSORS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["offsets", "dom", "features", "time_offset", "other"]),
        "datatype": st.sampled_from([*DATATYPES.values(), "BYTES", "BOOL"]),
        "shape": st.lists(SIZES, max_size=3),
    },
    optional={
        "data": JSON,
        "parameters": st.dictionaries(st.just("binary_data_size"), SIZES | JSON, max_size=1),
    },
)
REQUESTS = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS, max_size=4)}, optional={"outputs": JSON, "id": JSON}
)


@given(REQUESTS | JSON, st.binary(max_size=32))
def test_any_json(content: Any, binary: bytes) -> None:
    text = json.dumps(content).encode()
    read(text + binary, str(len(text)))


@given(st.integers(0, len(BODY) - 1), st.integers(0, 255), st.integers(-3, 3))
def test_any_changed_byte(place: int, value: int, shift: int) -> None:
    body = bytearray(BODY)
    body[place] = value
    read(bytes(body), str(LENGTH + shift))
    read(BODY[:place], str(LENGTH))


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=6), st.lists(st.integers(0, 2**16 - 1)))
def test_any_offsets_and_doms(offsets: list[int], dom: list[int]) -> None:
    tensors = {
        "offsets": np.array(offsets, np.int64),
        "dom": np.array(dom, np.uint16),
        "features": np.ones((len(dom), 3), np.float32),
    }
    body, length = binary_body(tensors)
    read(body, str(length))


def test_long_json_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_JSON_SIZE", 50)
    with pytest.raises(RequestError, match="send tensors as binary data") as refused:
        parse_request(b"[" * 51, None, endpoints.hit_inputs(INFO), OUTPUTS)
    assert refused.value.code == 413


def test_tensors_are_aligned_and_of_their_own() -> None:
    request = parse_request(BODY, str(LENGTH), endpoints.hit_inputs(INFO), OUTPUTS)
    for name, values in hit_tensors(some_hits(3)).items():
        array = request.tensors[name]
        assert np.array_equal(array, values)
        assert array.flags.aligned and array.flags.writeable and array.dtype.isnative
    assert request.id == "id"


@pytest.mark.parametrize("binary", [False, True])
def test_responses(binary: bool) -> None:
    outputs = [{"name": "status"}, {"name": "x", "parameters": {"binary_data": binary}}]
    content = {"inputs": [], "outputs": outputs}
    request = parse_request(json.dumps(content).encode(), None, (), OUTPUTS)
    columns: dict[str, NDArray[Any]] = {
        "x": np.array([[1.5, 0], [np.nan, 0], [np.inf, 0]])[:, 0],
        "x_uncertainty": np.zeros(3),
        "status": np.array([0, 1, 2], np.int32),
    }
    body, length = encode_response("a", request, columns)
    header = json.loads(body[:length])
    assert (header["model_name"], header["model_version"]) == ("a", "1")
    status, x = header["outputs"]
    assert status == {"name": "status", "datatype": "INT32", "shape": [3], "data": [0, 1, 2]}
    assert (x["datatype"], x["shape"]) == ("FP64", [3])
    if binary:
        assert length is not None and x["parameters"] == {"binary_data_size": 24}
        assert np.array_equal(np.frombuffer(body[length:]), columns["x"], equal_nan=True)
    else:
        assert length is None and x["data"] == [1.5, None, None]
