"""The inference server over HTTP: protocol, limits, mistakes of clients, many clients at once."""

import asyncio
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from load_client import Question, ask_in_parallel, binary_body, hit_tensors, http_request
from numpy.typing import NDArray
from serving import (
    Broken,
    Reply,
    call,
    gated,
    json_tensors,
    running,
    serving,
    some_hits,
    some_pulses,
)
from small_run import SmallRun

from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.pulses import Pulses
from dnn_reco.detector.geometry import string_and_om
from dnn_reco.inference.prediction_table import Status
from dnn_reco.inference.reconstructor import Reconstructor
from dnn_reco.inference.server.app import InferenceServer, Limits
from dnn_reco.inference.server.endpoints import endpoints_of
from dnn_reco.inference.server.micro_batches import BatchSettings
from dnn_reco.inference.trained_model import load_trained_model

http_client = pytest.importorskip("tritonclient.http")

PATH = "/v2/models/small/infer"
COLUMNS = (
    *("EnergyVisible", "EnergyVisible_log_uncertainty"),
    *("PrimaryAzimuth", "PrimaryAzimuth_uncertainty"),
)
SETTINGS = DataSettings(
    num_bins=3, relative_time_method="time_range", data_format="reduced_summary_statistics_data"
)


@pytest.fixture(scope="module")
def reconstructor(trained_run: SmallRun) -> Reconstructor:
    model = load_trained_model(trained_run.config(), torch.device("cpu"))
    return Reconstructor(replace(model, name="small", data_settings=SETTINGS))


@pytest.fixture(scope="module")
def port(reconstructor: Reconstructor) -> Iterator[int]:
    with serving(endpoints_of(reconstructor), limits=Limits(max_request_size=400_000)) as port:
        yield port


@pytest.fixture
def client(port: int) -> Iterator[Any]:
    with http_client.InferenceServerClient(f"127.0.0.1:{port}") as client:
        yield client


def expected(reconstructor: Reconstructor, events: Any) -> NDArray[np.float64]:
    """Direct predictions [columns, n]."""
    columns = reconstructor.predict(events).columns()
    return np.stack([columns[name] for name in COLUMNS])


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


def assert_refused(reply: Reply, code: int, reason: str) -> None:
    assert reply.code == code, reply.body
    assert list(reply.json) == ["error"]
    assert re.search(reason, reply.json["error"]), reply.json


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
        ({"inputs": [*RIGHT, RIGHT[0]]}, "'offsets' is there twice"),
        ({"inputs": [*RIGHT, RIGHT[0] | {"name": "misc"}]}, "there is no input 'misc': the inputs"),
        ({"inputs": RIGHT, "outputs": [{"name": "Zenith"}]}, "no output 'Zenith': the outputs are"),
        ({"inputs": RIGHT, "outputs": [{"name": "status"}] * 2}, "asked for twice"),
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


def send(port: int, request: bytes) -> Reply:
    """Send raw bytes, and read one response."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(request)
        return read_reply(connection)


def read_reply(connection: socket.socket) -> Reply:
    file = connection.makefile("rb")
    code = int(file.readline().split()[1])
    headers = {}
    while line := file.readline().strip():
        name, _, value = line.decode().partition(": ")
        headers[name.lower()] = value
    return Reply(code, headers, file.read(int(headers["content-length"])))


def test_unknown_models_paths_and_methods(port: int) -> None:
    body = {"inputs": RIGHT}
    served = "served are small, small_pulses"
    assert_refused(call(port, "/v2/models/other/infer", body), 404, f"no model 'other': {served}")
    assert_refused(call(port, "/v2/models/other"), 404, "no model 'other'")
    assert_refused(call(port, "/v2/models/small/versions/2/infer", body), 404, "the version 1 only")
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


# Limits


def test_large_requests(port: int) -> None:
    reason = "a request may have 400000 bytes at most"
    assert_refused(call(port, PATH, b" " * 400_001), 413, reason)
    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head + 7 * chunk)  # without an end
        assert_refused(read_reply(connection), 413, reason)
    announced = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n"
    assert_refused(send(port, announced.encode()), 413, reason)


def test_many_events_without_hits(port: int) -> None:
    hits = {
        "offsets": np.zeros(4098, np.int32),
        "dom": np.zeros(0, np.int64),
        "features": np.zeros((0, 3)),
    }
    body, length = binary_body(hits)
    reply = call(port, PATH, body, {"Inference-Header-Content-Length": str(length)})
    assert_refused(reply, 413, "4096 events at most")


def test_slow_bodies_and_many_large_ones(reconstructor: Reconstructor) -> None:
    limits = Limits(max_request_size=1000, max_pause=0.3)
    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n".encode()
    with serving(endpoints_of(reconstructor)[:1], limits=limits) as port:
        slow = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(4)]
        for connection in slow:
            connection.sendall(head + b" " * 999)
        wait_until(lambda: gauge(port, "requests_in_flight") == 4)
        refused = call(port, PATH, b" " * 900)
        assert_refused(refused, 503, "too many large requests")
        assert refused.headers["retry-after"] == "1"
        for connection in slow:
            assert_refused(read_reply(connection), 408, "does not arrive")
            connection.close()
        assert_refused(call(port, PATH, b" " * 900), 400, "Invalid JSON")


def gauge(port: int, name: str) -> float:
    """A number without labels, or the sum over labels, of the metrics."""
    lines = call(port, "/metrics").body.decode().splitlines()
    values = [line.split()[-1] for line in lines if re.match(rf"dnn_reco_{name}[ {{]", line)]
    return sum(map(float, values))


def wait_until(condition: Any) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_full_queue_clients_who_leave_and_shutdown(reconstructor: Reconstructor) -> None:
    """While a batch is predicted: the queue fills, a client leaves, and the server is stopped."""
    slow = gated(endpoints_of(reconstructor)[0])
    hits = some_hits(12)
    direct = expected(reconstructor, hits)

    def ask(event: int) -> Reply:
        return call(port, PATH, {"inputs": json_tensors(hits.part(event, event + 1))})

    pool = ThreadPoolExecutor(8)
    try:
        with serving([slow], BatchSettings(batch_size=1, max_queue=4)) as port:
            replies = [pool.submit(ask, 0)]
            assert slow.begun.wait(20)
            replies += [pool.submit(ask, event) for event in (1, 2, 3)]
            wait_until(lambda: gauge(port, "queue_events") == 3)
            body, length = binary_body(hit_tensors(hits.part(4, 5)))
            with socket.create_connection(("127.0.0.1", port)) as leaving:
                leaving.sendall(http_request("small", body, length))
                wait_until(lambda: gauge(port, "queue_events") == 4)
                refused = ask(5)
                assert_refused(refused, 503, "4 events wait already")
                assert refused.headers["retry-after"] == "1"
            wait_until(lambda: gauge(port, "requests_in_flight") == 4)
            threading.Timer(0.5, slow.gate.set).start()
            codes = call(port, "/metrics").body.decode()
        # The server has been stopped before the gate opened.
        for event, reply in enumerate(replies):
            outputs = {each["name"]: each["data"] for each in reply.result().json["outputs"]}
            found = [outputs[name][0] for name in COLUMNS]
            np.testing.assert_allclose(found, direct[:, event], rtol=1e-4)
        assert 'dnn_reco_requests_total{model="small",code="499"} 1' in codes
        assert 'dnn_reco_requests_total{model="small",code="503"} 1' in codes
    finally:
        slow.gate.set()
        pool.shutdown()


def test_closed_servers_are_not_ready(reconstructor: Reconstructor) -> None:
    server = InferenceServer(endpoints_of(reconstructor), BatchSettings(), Limits())
    with running(server) as port:
        assert call(port, "/v2/health/ready").code == 200
        server.close()
        assert call(port, "/v2/health/live").code == 200
        for path in ("/v2/health/ready", "/v2/models/small/ready"):
            reply = call(port, path)
            assert (reply.code, reply.json["ready"]) == (503, False)
        refused = call(port, PATH, {"inputs": RIGHT})
        assert_refused(refused, 503, "the server is shutting down")
        assert refused.headers["retry-after"] == "1"


# Many clients


def test_two_hundred_clients(reconstructor: Reconstructor) -> None:
    """A thousand requests; each good one gets the prediction of its own events."""
    hits, questions = some_hits(60), []
    for start, stop in zip(range(50), [*range(1, 41), *range(43, 53)], strict=True):
        part = hits.part(start, stop)
        values = expected(reconstructor, part).ravel()
        questions.append(Question("small", hit_tensors(part), COLUMNS, values))
    energies = [question.expected[0] for question in questions]
    assert len(set(np.round(energies, 4))) > 45, "answers could be mixed up unseen"
    settings = BatchSettings(batch_size=32, max_queue=150)
    with serving(endpoints_of(reconstructor), settings) as port:
        outcome = asyncio.run(ask_in_parallel(port, questions, 200, 1000, seed=4))
        wait_until(lambda: gauge(port, "requests_in_flight") == 0)
        text = call(port, "/metrics").body.decode()
    assert (outcome.wrong, outcome.lost, outcome.not_refused) == (0, 0, 0)
    assert outcome.refused > 0 and outcome.cut_off > 0
    assert outcome.good + outcome.refused + outcome.cut_off == 1000
    assert f'requests_total{{model="small",code="400"}} {outcome.refused}' in text
    check_metrics(text)


def check_metrics(text: str) -> None:
    """Each line is one of Prometheus' text format, and histograms add up."""
    sample = re.compile(r'(\w+)(?:\{((?:\w+="(?:[^"\\\n]|\\.)*",?)*)\})? (\S+)')
    values: dict[str, float] = {}
    types: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, types[name] = line.split()
        elif not line.startswith("# HELP "):
            matched = sample.fullmatch(line)
            assert matched, line
            base = re.sub(r"_(bucket|sum|count)$", "", matched[1])
            assert matched[1] in types or types[base] == "histogram"
            values[line.rpartition(" ")[0]] = float(matched[3])
    for name in ("request_seconds", "batch_events"):
        label = 'model="small"'
        buckets = [v for k, v in values.items() if k.startswith(f"dnn_reco_{name}_bucket{{{label}")]
        assert buckets == sorted(buckets)
        assert buckets[-1] == values[f"dnn_reco_{name}_count{{{label}}}"] > 0
    assert values['dnn_reco_events_total{model="small"}'] >= 900
    assert values['dnn_reco_queue_events{model="small"}'] == 0
