"""Many clients of `dnn-reco serve`: requests/s, latency, memory, and whether each answer is right.

    python benchmarks/serving.py [--model cnn] [--requests 100000] [--plain_requests 5000]

A transformer of size S, or the tutorial's network with 5 kernels per layer, with random weights:
behind `dnn-reco serve`, and behind a plain server that predicts each request alone. Events have as
many hits as neutrino events above 100 GeV. 200 clients send one event at a time and wait for the
answer, which is compared with the direct prediction; 1 % of the requests are malformed, 1 % are cut
off. Server and clients share the machine.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import network_cpu
import numpy as np
import psutil
import torch
from made_up_run import REPOSITORY, make_run

sys.path.insert(0, str(REPOSITORY / "tests"))

from load_client import TOLERANCE, Outcome, Question, ask_in_parallel, hit_tensors

from dnn_reco.config import load_config
from dnn_reco.data.hits import Hits
from dnn_reco.inference.model_folder import (
    Member,
    contents_of,
    write_model_folder,
)
from dnn_reco.inference.reconstructor import Reconstructor
from dnn_reco.nn.from_config import make_network, network_spec

NUM_QUESTIONS = 500
TRANSFORMER = "dnn_reco.modules.models.dom_transformer.DomTransformer"
NETWORKS: dict[str, dict[str, object]] = {
    "cnn": {},
    "S": {"model_class": TRANSFORMER, "model_kwargs": {"size": "S"}},
}
TRAINED = ("EnergyVisible", "PrimaryEnergy")
DIRECTION = tuple(
    f"Primary{name}" for name in ("Zenith", "Azimuth", *map("Direction{}".format, "XYZ"))
)


def make_model(folder: Path, model: str) -> None:
    """A model folder of a network that is not trained."""
    transformation = network_cpu.network_spec(np.random.default_rng(1)).transformation
    others = transformation.settings.label_names[len(TRAINED) : -len(DIRECTION)]
    names = (*TRAINED, *others, *DIRECTION)
    settings = replace(transformation.settings, label_names=names)
    # So wide that predictions of different events differ by far more than rounding.
    wide = np.full(len(names), 20.0)
    transformation = replace(transformation, settings=settings, label_mean=wide, label_std=wide)
    config = load_config(
        [make_run(folder.parent, "none.hdf5", misc_load_dict={}, **NETWORKS[model])]
    )
    torch.manual_seed(1)
    spec = network_spec(config, transformation)
    network = make_network(config, spec, torch.device("cpu"))
    member = Member(network.state_dict(), transformation, config)
    write_model_folder(folder, contents_of([member], "a benchmark"))


def make_questions(folder: Path) -> list[Question]:
    """Events, and what the model predicts for them one by one."""
    reconstructor = Reconstructor(folder, "cpu", 1, batch_size=1)
    batch = network_cpu.random_hits(NUM_QUESTIONS, np.random.default_rng(2), varying=True)
    offsets = np.searchsorted(batch.event.numpy(), np.arange(NUM_QUESTIONS + 1))
    hits = Hits(offsets, batch.dom.numpy().astype(np.uint16), batch.features.numpy())
    columns = reconstructor.predict(hits).columns()
    values = np.stack(list(columns.values()))
    different = np.unique(np.round(np.log(values) / (10 * TOLERANCE)), axis=1)
    if different.shape[1] < 0.95 * NUM_QUESTIONS:
        raise RuntimeError("predictions of different events are equal: mix-ups could not be seen")
    return [
        Question(folder.name, hit_tensors(hits.part(i, i + 1)), tuple(columns), values[:, i])
        for i in range(NUM_QUESTIONS)
    ]


def serve_plainly(folder: Path, threads: int) -> None:
    """The least that answers: each request is predicted alone, in the order of their arrival."""
    from dnn_reco.inference.server.endpoints import endpoints_of
    from dnn_reco.inference.server.protocol import RequestError, encode_response, parse_request

    endpoint = endpoints_of(Reconstructor(folder, "cpu", threads))[0]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            length = self.headers["Inference-Header-Content-Length"]
            try:
                request = parse_request(body, length, endpoint.inputs, endpoint.output_names)
                columns = endpoint.predict([endpoint.read(request.tensors)])
                code, (answer, header) = 200, encode_response(folder.name, request, columns)
            except (RequestError, ValueError) as error:
                code, answer, header = 400, b'{"error": "%s"}' % type(error).__name__.encode(), None
            self.send_response(code)
            self.send_header("Content-Length", str(len(answer)))
            if header is not None:
                self.send_header("Inference-Header-Content-Length", str(header))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 1024

        def handle_error(self, *arguments: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    print(f"Serving at http://127.0.0.1:{server.server_port}/v2", flush=True)
    server.serve_forever()


@contextmanager
def running(command: Sequence[str]) -> Iterator[tuple[psutil.Process, int]]:
    """A server as a process, and its port."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        line = process.stdout.readline()
        yield psutil.Process(process.pid), int(line.split(":")[2].split("/")[0])
    finally:
        process.terminate()
        process.wait()


def measure(
    name: str, command: Sequence[str], questions: Sequence[Question], options: argparse.Namespace
) -> None:
    """Send requests in ten parts, and print what came back."""
    total = options.plain_requests if name == "plain loop" else options.requests
    outcomes: list[Outcome] = []
    with running(command) as (process, port):
        memory, cpu = [], []
        for part in range(10):
            outcomes.append(
                asyncio.run(
                    ask_in_parallel(port, questions, options.clients, total // 10, seed=part)
                )
            )
            memory.append(process.memory_info().rss / 1e6)
            cpu.append(sum(process.cpu_times()[:2]))
    # The first part warms up.
    latencies = 1e3 * np.concatenate([outcome.latencies for outcome in outcomes[1:]])
    p50, p99 = np.percentile(latencies, [50, 99])
    rate = len(latencies) / sum(outcome.seconds for outcome in outcomes[1:])
    cpu_ms = 1e3 * (cpu[-1] - cpu[0]) / len(latencies)
    counts = {
        field: sum(getattr(outcome, field) for outcome in outcomes)
        for field in ("good", "wrong", "lost", "refused", "not_refused", "cut_off", "busy")
    }
    print(
        f"{name:<12}{rate:8.0f} requests/s   p50 {p50:7.1f} ms   p99 {p99:7.1f} ms   CPU of the "
        f"server {cpu_ms:5.2f} ms a request\n"
        f"    {', '.join(f'{count} {field}' for field, count in counts.items())}\n"
        f"    memory [MB] after each tenth: {' '.join(f'{each:.0f}' for each in memory)}",
        flush=True,
    )


def gemm_rate(threads: int) -> float:
    """GFLOP/s of the product of two matrices of 2048² in float32."""
    torch.set_num_threads(threads)
    a, times = torch.rand(2048, 2048), []
    for _ in range(10):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(times) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--plain_requests", type=int, default=5_000)
    parser.add_argument("--model", choices=NETWORKS, default="S")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the network")
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain:
        serve_plainly(options.plain, options.threads)
        return
    load = os.getloadavg()[0]
    print(f"GEMM: {gemm_rate(2):.0f} GFLOP/s on two threads, best of 10; load {load:.1f}")
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "served"
        make_model(folder, options.model)
        torch.set_num_threads(1)
        questions = make_questions(folder)
        threads = str(options.threads)
        plain = [__file__, "--plain", str(folder), "--threads", threads]
        served = ["-m", "dnn_reco", "serve", str(folder), "--port=0", "--device=cpu"]
        measure("plain loop", plain, questions, options)
        measure("dnn-reco", [*served, "--num-threads", threads], questions, options)


if __name__ == "__main__":
    main()
