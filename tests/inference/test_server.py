"""The inference server over HTTP: the protocol, and mistakes of clients."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from load_client import binary_body, hit_tensors, http_request
from numpy.typing import NDArray
from serving import (
    COLUMNS,
    PATH,
    Broken,
    assert_refused,
    call,
    expected,
    json_tensors,
    send,
    serving,
    small_reconstructor,
    some_hits,
    some_pulses,
)
from small_run import SmallRun

from dnn_reco.data.pulses import Pulses
from dnn_reco.detector.geometry import string_and_om
from dnn_reco.inference.prediction_table import Status
from dnn_reco.inference.reconstructor import Reconstructor
from dnn_reco.inference.server.endpoints import endpoints_of

http_client = pytest.importorskip("tritonclient.http")


@pytest.fixture(scope="module")
def reconstructor(trained_run: SmallRun) -> Reconstructor:
    return small_reconstructor(trained_run)


@pytest.fixture(scope="module")
def port(reconstructor: Reconstructor) -> Iterator[int]:
    with serving(endpoints_of(reconstructor)) as port:
        yield port


@pytest.fixture
def client(port: int) -> Iterator[Any]:
    with http_client.InferenceServerClient(f"127.0.0.1:{port}") as client:
        yield client


def infer_inputs(tensors: dict[str, NDArray[Any]], binary: bool = True) -> list[Any]:
    inputs = []
    for name, array in tensors.items():
        datatype = http_client.np_to_triton_dtype(array.dtype)
        tensor = http_client.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    return inputs


# The protocol


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live() and client.is_server_ready()
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert client.is_model_ready("small") and client.is_model_ready("small_pulses", "1")
    assert not client.is_model_ready("other")
    metadata = client.get_model_metadata("small", "1")
    assert metadata["versions"] == ["1"]
    assert metadata["inputs"][2] == {"name": "features", "datatype": "FP32", "shape": [-1, 3]}
    assert metadata["inputs"][3]["parameters"] == {"optional": True}
    outputs = [(output["name"], output["datatype"]) for output in metadata["outputs"]]
    assert outputs == [*((name, "FP64") for name in COLUMNS), ("status", "INT32")]
    names = [tensor["name"] for tensor in client.get_model_metadata("small_pulses")["inputs"]]
    assert names == ["offsets", "string", "om", "time", "charge", "flags"]


@pytest.mark.parametrize("binary_in", [False, True])
@pytest.mark.parametrize("binary_out", [False, True])
def test_hits(client: Any, reconstructor: Reconstructor, binary_in: bool, binary_out: bool) -> None:
    hits = some_hits(7)
    names = (*COLUMNS, "status")
    outputs = [http_client.InferRequestedOutput(name, binary_data=binary_out) for name in names]
    inputs = infer_inputs(hit_tensors(hits), binary_in)
    result = client.infer("small", inputs, outputs=outputs, request_id="a name")
    found = np.stack([result.as_numpy(name) for name in COLUMNS])
    np.testing.assert_allclose(found, expected(reconstructor, hits), rtol=1e-5)
    assert result.as_numpy("status").tolist() == [0] * 7
    response = result.get_response()
    assert (response["id"], response["model_version"]) == ("a name", "1")


def test_other_datatypes_versions_and_all_outputs(
    client: Any, reconstructor: Reconstructor
) -> None:
    hits = some_hits(3)
    tensors = {
        "features": hits.features.astype(np.float64),
        "dom": hits.dom,
        "offsets": hits.offsets.astype(np.int32),
        "time_offset": np.array([0.0, 5.0, np.nan]),
    }
    result = client.infer("small", infer_inputs(tensors), model_version="1")
    direct = reconstructor.predict(hits, time_offset=tensors["time_offset"])
    for name, values in direct.columns().items():
        np.testing.assert_allclose(result.as_numpy(name), values, rtol=1e-5)
    status = result.as_numpy("status")
    assert status.tolist() == [Status.OK, Status.OK, Status.INVALID_INPUT]
    assert np.isnan(result.as_numpy("EnergyVisible")[2])


def test_json_has_null_for_nan(port: int) -> None:
    time_offset = {"name": "time_offset", "datatype": "FP64", "shape": [2], "data": [1.5, None]}
    reply = call(port, PATH, {"inputs": [*json_tensors(some_hits(2)), time_offset]})
    assert reply.code == 200
    outputs = {output["name"]: output["data"] for output in reply.json["outputs"]}
    assert list(outputs) == [*COLUMNS, "status"]
    assert outputs["status"] == [Status.OK, Status.INVALID_INPUT]
    assert outputs["PrimaryAzimuth"][0] is not None and outputs["PrimaryAzimuth"][1] is None
    assert "id" not in reply.json


def test_no_events(port: int) -> None:
    reply = call(port, PATH, {"inputs": json_tensors(some_hits(1).part(0, 0)), "parameters": {}})
    assert [output["shape"] for output in reply.json["outputs"]] == [[0]] * 5


def pulse_tensors(pulses: Pulses) -> dict[str, NDArray[Any]]:
    """Input tensors, with the pulses of each event in any order."""
    string, om = string_and_om(pulses.dom)
    tank = pulses.dom < 0
    string[tank], om[tank] = 17, 62
    order = np.lexsort((np.random.default_rng(3).random(len(pulses.event)), pulses.event))
    return {
        "offsets": np.searchsorted(pulses.event, np.arange(pulses.num_events + 1)),
        "string": string.astype(np.int32)[order],
        "om": om.astype(np.int32)[order],
        "time": pulses.time[order],
        "charge": pulses.charge[order],
    }


def test_pulses(client: Any, reconstructor: Reconstructor) -> None:
    pulses = some_pulses(5)
    result = client.infer("small_pulses", infer_inputs(pulse_tensors(pulses)))
    found = np.stack([result.as_numpy(name) for name in COLUMNS])
    np.testing.assert_allclose(found, expected(reconstructor, pulses), rtol=1e-5)


def test_events_without_pulses(client: Any) -> None:
    pulses = {
        "offsets": np.zeros(3, np.int64),
        **{name: np.zeros(0, np.int32) for name in ("string", "om")},
        **{name: np.zeros(0) for name in ("time", "charge")},
    }
    result = client.infer("small_pulses", infer_inputs(pulses))
    assert result.as_numpy("status").tolist() == [Status.NO_HITS] * 2
    assert np.isnan(result.as_numpy("EnergyVisible")).all()


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("om", np.int32(65), "om 1 … 64"),
        ("string", np.int32(0), "strings are 1 … 86"),
        ("time", np.nan, "must be finite"),
        ("time", 1e300, "1e\\+09 ns at most"),
        ("charge", np.inf, "charges must be finite"),
        ("charge", -1.0, "not negative"),
    ],
)
def test_wrong_pulses(port: int, name: str, values: Any, reason: str) -> None:
    tensors = pulse_tensors(some_pulses(2))
    tensors[name][3] = values
    body, length = binary_body(tensors)
    headers = {"Inference-Header-Content-Length": str(length)}
    assert_refused(call(port, "/v2/models/small_pulses/infer", body, headers), 400, reason)


# Mistakes of clients


def changed(tensor: str, **changes: Any) -> dict[str, Any]:
    """A request of which one input is changed."""
    inputs = json_tensors(some_hits(2))
    return {"inputs": [each | changes if each["name"] == tensor else each for each in inputs]}


RIGHT = json_tensors(some_hits(2))
HUGE = 2**62


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "Invalid JSON"),
        (b"[]", "object"),
        (b"\xff{}", "Invalid JSON"),
        (b'{"inputs": [' + b"[" * 10_000, "recursion limit"),
        (b'{"inputs": [' + b'{"a":' * 10_000, "recursion limit"),
        ({}, "inputs: Field required"),
        ({"inputs": RIGHT, "input": []}, "input: Extra inputs are not permitted"),
        ({"inputs": RIGHT, "id": 5}, "id: Input should be a valid string"),
        ({"inputs": RIGHT[:2]}, "inputs are missing: features"),
        ({"inputs": [*RIGHT, RIGHT[0]]}, "'offsets' is given twice"),
        ({"inputs": [*RIGHT, RIGHT[0] | {"name": "misc"}]}, "there is no input 'misc': the inputs"),
        ({"inputs": RIGHT, "outputs": [{"name": "Zenith"}]}, "no output 'Zenith': the outputs are"),
        ({"inputs": RIGHT, "outputs": [{"name": "status"}] * 2}, "requested twice"),
        ({"inputs": RIGHT, "parameters": {"binary_data_output": 1}}, "must be true or false"),
        (
            {"inputs": RIGHT, "outputs": [{"name": "status", "parameters": {"classification": 2}}]},
            "'classification' is not supported",
        ),
        (changed("offsets", datatype="FP32"), "INT64 or INT32, not 'FP32'"),
        (changed("dom", datatype="BYTES"), "not 'BYTES'"),
        (changed("dom", shape=[HUGE]), f"has {HUGE} values, its 'data' have"),
        (changed("features", shape=[HUGE, 3]), "values, its 'data' have"),
        (changed("features", shape=[2**70, 2**70]), "must have the shape"),
        (changed("dom", shape=[-1]), "shape.0: Input should be greater than or equal to 0"),
        (changed("dom", shape=[1.5]), "shape.0: Input should be a valid integer"),
        (changed("dom", shape=[True]), "shape.0: Input should be a valid integer"),
        (changed("dom", shape=5), "shape: Input should be a valid array"),
        (changed("dom", data="text"), "data: Input should be a valid array"),
        (changed("dom", data=None), "either 'data' or"),
        (changed("dom", parameters={"binary_data_size": 8}), "either 'data' or"),
        (changed("dom", shape=[2], data=[1.5, 2]), "must be whole numbers"),
        (changed("dom", shape=[2], data=[True, 2]), "must be whole numbers"),
        (changed("dom", shape=[2], data=["1", 2]), "must be whole numbers"),
        (changed("dom", shape=[1], data=[2**64]), "out of range"),
        (changed("dom", datatype="UINT16", shape=[1], data=[70_000]), "out of range"),
        (changed("dom", datatype="UINT16", shape=[1], data=[-1]), "out of range"),
        (changed("features", shape=[1, 3], data=[[1.0, 2.0, "3"]]), "must be numbers or null"),
        (changed("features", shape=[1, 3], data=[[1.0, 2.0, 10**400]]), "out of range|[Nn]umber"),
        (changed("features", shape=[1, 3], data=[[1.0, 2.0], [3.0]]), "nested lists"),
        (changed("features", shape=[1, 3], data=[[[1.0, 2.0, 3.0]]]), "nested lists"),
        (changed("features", shape=[1, 4], data=[1, 2, 3, 4]), r"must have the shape \[-1, 3\]"),
        (changed("features", shape=[2, 3], data=[0] * 6), "features of shape"),
        (changed("features", data=[None] * RIGHT[2]["shape"][0] * 3), "not finite"),
        (changed("features", datatype="FP32", shape=[1, 3], data=[1e300, 0, 0]), "features of"),
        (changed("dom", data=[9] * RIGHT[1]["shape"][0]), "each DOM once"),
        (changed("dom", data=[6000] * RIGHT[1]["shape"][0]), "outside 0 … 5159"),
        (changed("offsets", shape=[0], data=[]), "'offsets' must be n"),
        (changed("offsets", shape=[1], data=[0]), "'offsets' must be n"),
        (changed("offsets", shape=[3], data=[0, 10**6, RIGHT[1]["shape"][0]]), "'offsets' must"),
        (  # differences overflow to positive numbers
            changed("offsets", shape=[5], data=[0, 2**63 - 1, -(2**63), -1, RIGHT[1]["shape"][0]]),
            "'offsets' must be n",
        ),
        (
            {
                "inputs": [
                    *RIGHT,
                    {"name": "time_offset", "datatype": "FP64", "shape": [1], "data": [0]},
                ]
            },
            "'time_offset' has 1 rows for 2 events",
        ),
    ],
)
def test_malformed_json(port: int, body: bytes | dict[str, Any], reason: str) -> None:
    assert_refused(call(port, PATH, body), 400, reason)


@pytest.mark.parametrize(
    ("length", "more", "reason"),
    [
        ("-1", 0, "must be the number of bytes"),
        ("1e2", 0, "must be the number of bytes"),
        ("٣", 0, "must be the number of bytes"),
        ("9" * 5000, 0, "must be the number of bytes"),
        ("1000000", 0, "at most"),
        ("0", 0, "Invalid JSON"),
        (None, 0, "Invalid JSON"),
        (0, -1, "the body ends before the binary data of 'features'"),
        (0, 1, "1 bytes of binary data belong to no input"),
        (1, 0, "Invalid JSON"),
    ],
)
def test_malformed_binary(port: int, length: str | int | None, more: int, reason: str) -> None:
    """`length` is the header, or how much it is too large; `more` bytes are there than should."""
    body, right = binary_body(hit_tensors(some_hits(2)))
    body = body[:more] if more < 0 else body + b"\0" * more
    value = str(right + length) if isinstance(length, int) else length
    request = http_request("small", body, value)
    assert_refused(send(port, request), 400, reason)


@pytest.mark.parametrize("size", [-8, 0, 7, 2**70, 8.0, "8", True, None])
def test_wrong_sizes_of_binary_data(port: int, size: object) -> None:
    inputs = changed("dom", parameters={"binary_data_size": size})["inputs"]
    inputs[1].pop("data")
    assert_refused(call(port, PATH, {"inputs": inputs}), 400, "binary_data_size")


def test_unknown_models_paths_and_methods(port: int) -> None:
    body = {"inputs": RIGHT}
    served = "served are small, small_pulses"
    assert_refused(call(port, "/v2/models/other/infer", body), 404, f"no model 'other': {served}")
    assert_refused(call(port, "/v2/models/other"), 404, "no model 'other'")
    assert_refused(call(port, "/v2/models/small/versions/2/infer", body), 404, "only the version 1")
    assert_refused(call(port, "/v2/nothing"), 404, "Not Found")
    refused = call(port, PATH)
    assert_refused(refused, 405, "Method Not Allowed")
    assert refused.headers["allow"] == "POST"
    assert_refused(call(port, "/v2", b"{}"), 405, "Method Not Allowed")
    compressed = call(port, PATH, b"x", {"Content-Encoding": "gzip"})
    assert_refused(compressed, 415, "compressed requests are not supported")


def test_an_error_that_no_request_causes(
    reconstructor: Reconstructor, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Broken(**vars(endpoints_of(reconstructor)[0]))
    with serving([broken]) as port:
        reply = call(port, PATH, {"inputs": RIGHT})
        assert_refused(reply, 500, "^internal error of the server$")
        assert 'code="500"} 1' in call(port, "/metrics").body.decode()
    assert "A request failed" in caplog.text and "a bug" in caplog.text
