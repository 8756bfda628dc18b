"""An inference server in a thread, and hits to send to it."""

import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from small_run import SmallRun

from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.hits import Hits
from dnn_reco.data.pulses import Pulses
from dnn_reco.inference.reconstructor import Reconstructor
from dnn_reco.inference.server.app import AnyEndpoint, InferenceServer, Limits
from dnn_reco.inference.server.endpoints import Endpoint, RequestEvents
from dnn_reco.inference.server.micro_batches import BatchSettings, Columns
from dnn_reco.inference.server.run import listen, make_runner
from dnn_reco.inference.trained_model import load_trained_model

PATH = "/v2/models/small/infer"
COLUMNS = (
    *("EnergyVisible", "EnergyVisible_log_uncertainty"),
    *("PrimaryAzimuth", "PrimaryAzimuth_uncertainty"),
)
DATA_SETTINGS = DataSettings(
    num_bins=3, relative_time_method="time_range", data_format="reduced_summary_statistics_data"
)
SETTINGS, LIMITS = BatchSettings(), Limits()


@contextmanager
def serving(
    endpoints: Sequence[AnyEndpoint],
    settings: BatchSettings = SETTINGS,
    limits: Limits = LIMITS,
) -> Iterator[int]:
    """Serve in a thread; yields the port."""
    with running(InferenceServer(endpoints, settings, limits)) as port:
        yield port


@contextmanager
def running(server: InferenceServer) -> Iterator[int]:
    """Run a server in a thread; yields the port."""
    runner = make_runner(server)
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        thread = threading.Thread(target=runner.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield port
        finally:
            runner.should_exit = True
            thread.join()
            server.close()


@dataclass(frozen=True)
class Gated(Endpoint[Any]):
    """An endpoint whose predictions wait until its gate is open."""

    gate: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)

    def predict(self, requests: Sequence[RequestEvents[Any]]) -> Columns:
        self.begun.set()
        assert self.gate.wait(20)
        return super().predict(requests)


def gated(endpoint: Endpoint[Any]) -> Gated:
    return Gated(**vars(endpoint))


@dataclass(frozen=True)
class Broken(Endpoint[Any]):
    """An endpoint whose predictions fail."""

    def predict(self, requests: Sequence[RequestEvents[Any]]) -> Columns:
        raise RuntimeError("a bug")


@dataclass(frozen=True)
class Reply:
    """A response of the server."""

    code: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def call(
    port: int,
    path: str,
    body: bytes | dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
    method: str | None = None,
) -> Reply:
    """GET, or POST of a body."""
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        verb = method or ("GET" if body is None else "POST")
        connection.request(verb, path, content, headers or {})
        response = connection.getresponse()
        sent = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, sent, response.read())
    finally:
        connection.close()


def some_hits(num_events: int, num_features: int = 3, seed: int = 0) -> Hits:
    """Hits of events that all differ."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 40, num_events)
    dom = [np.sort(rng.choice(5160, count, replace=False)) for count in counts]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    features = rng.exponential(20.0, (offsets[-1], num_features)).astype(np.float32)
    return Hits(offsets, np.concatenate(dom).astype(np.uint16), features)


def json_tensors(hits: Hits) -> list[dict[str, Any]]:
    """The inputs of a request in JSON."""
    k, num_features = hits.features.shape
    return [
        {
            "name": "offsets",
            "datatype": "INT64",
            "shape": [len(hits.offsets)],
            "data": hits.offsets.tolist(),
        },
        {"name": "dom", "datatype": "INT64", "shape": [k], "data": hits.dom.tolist()},
        {
            "name": "features",
            "datatype": "FP32",
            "shape": [k, num_features],
            "data": hits.features.tolist(),
        },
    ]


def some_pulses(num_events: int, seed: int = 0) -> Pulses:
    """Pulses in the order of `Pulses`, one in eight of a surface tank."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(5, 60, num_events)
    event = np.repeat(np.arange(num_events), counts)
    dom = rng.integers(0, 5160, len(event))
    dom[rng.random(len(event)) < 1 / 8] = -1
    time = 9000 + rng.exponential(500, len(event))
    order = np.lexsort((time, dom, event))
    charge = rng.exponential(1.0, len(event)) + 0.1
    flags = np.zeros(len(event), np.uint8)
    return Pulses(num_events, event, dom[order], time[order], charge, flags)


def small_reconstructor(run: SmallRun) -> Reconstructor:
    """The network of a small run, under the name `small`."""
    model = load_trained_model(run.config(), torch.device("cpu"))
    return Reconstructor(replace(model, name="small", data_settings=DATA_SETTINGS))


def expected(reconstructor: Reconstructor, events: Any) -> NDArray[np.float64]:
    """Direct predictions [columns, n]."""
    columns = reconstructor.predict(events).columns()
    return np.stack([columns[name] for name in COLUMNS])


def assert_refused(reply: Reply, code: int, reason: str) -> None:
    assert reply.code == code, reply.body
    assert list(reply.json) == ["error"]
    assert re.search(reason, reply.json["error"]), reply.json


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


def gauge(port: int, name: str) -> float:
    """A number without labels, or the sum over labels, of the metrics."""
    lines = call(port, "/metrics").body.decode().splitlines()
    values = [line.split()[-1] for line in lines if re.match(rf"dnn_reco_{name}[ {{]", line)]
    return sum(map(float, values))


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
