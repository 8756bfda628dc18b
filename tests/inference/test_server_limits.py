"""The inference server under load: too much, too slow, stopped, and many clients at once."""

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from load_client import Question, ask_in_parallel, binary_body, hit_tensors, http_request
from serving import (
    COLUMNS,
    PATH,
    Reply,
    assert_refused,
    call,
    expected,
    gated,
    gauge,
    json_tensors,
    read_reply,
    running,
    send,
    serving,
    small_reconstructor,
    some_hits,
    wait_until,
)
from small_run import SmallRun

from dnn_reco.cli.inference import serve_command
from dnn_reco.inference.reconstructor import Reconstructor
from dnn_reco.inference.server.app import InferenceServer, Limits
from dnn_reco.inference.server.endpoints import endpoints_of
from dnn_reco.inference.server.micro_batches import BatchSettings


@pytest.fixture(scope="module")
def reconstructor(trained_run: SmallRun) -> Reconstructor:
    return small_reconstructor(trained_run)


@pytest.fixture(scope="module")
def port(reconstructor: Reconstructor) -> Iterator[int]:
    with serving(endpoints_of(reconstructor), limits=Limits(max_request_size=400_000)) as port:
        yield port


def test_large_requests(port: int) -> None:
    reason = "a request may have at most 400000 bytes"
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
    assert_refused(reply, 413, "at most 4096 events")


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
            assert_refused(read_reply(connection), 408, "was not received")
            connection.close()
        assert_refused(call(port, PATH, b" " * 900), 400, "Invalid JSON")


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
                assert_refused(refused, 503, "4 events are already waiting")
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


def test_limits_without_settings_are_those_of_the_command() -> None:
    command = serve_command.make_context("serve", ["model"]).params
    batches, limits = BatchSettings(), Limits()
    assert batches.batch_size == command["batch_size"]
    assert 1000 * batches.max_wait == command["max_wait"]  # ms
    assert batches.max_queue == command["max_queue"]
    assert limits.max_request_size == command["max_request_size"]
    assert limits.max_pause == 30  # s, as in the guide


def test_closed_servers_are_not_ready(reconstructor: Reconstructor) -> None:
    server = InferenceServer(endpoints_of(reconstructor), BatchSettings(), Limits())
    with running(server) as port:
        assert call(port, "/v2/health/ready").code == 200
        server.close()
        assert call(port, "/v2/health/live").code == 200
        for path in ("/v2/health/ready", "/v2/models/small/ready"):
            reply = call(port, path)
            assert (reply.code, reply.json["ready"]) == (503, False)
        refused = call(port, PATH, {"inputs": json_tensors(some_hits(2))})
        assert_refused(refused, 503, "the server is shutting down")
        assert refused.headers["retry-after"] == "1"


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
        reply = call(port, "/metrics")
    text = reply.body.decode()
    # Prometheus refuses answers that do not name its text format
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
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
