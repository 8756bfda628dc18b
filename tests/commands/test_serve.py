"""`dnn-reco serve`: what it prints, and how it ends."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from small_run import SmallRun
from workspace import invoke

from dnn_reco.inference.model_folder import Member, contents_of, write_model_folder
from dnn_reco.inference.trained_model import load_trained_model

pytest.importorskip("uvicorn")

REQUEST = {
    "inputs": [
        {"name": "offsets", "datatype": "INT64", "shape": [2], "data": [0, 1]},
        {"name": "dom", "datatype": "INT64", "shape": [1], "data": [2115]},
        {"name": "features", "datatype": "FP32", "shape": [1, 3], "data": [[1.5, 100, 0]]},
    ]
}


@pytest.fixture(scope="module")
def folder(trained_run: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = load_trained_model(trained_run.config(), torch.device("cpu"))
    member = Member(model.network.state_dict(), model.spec.transformation, model.config)
    path = tmp_path_factory.mktemp("models") / "small"
    write_model_folder(path, contents_of([member], "a test"))
    return path


@contextmanager
def serve(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    words = ["-m", "dnn_reco", "serve", *map(str, arguments), "--device=cpu", "--num-threads=1"]
    process = subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def post(url: str, content: dict[str, object]) -> dict[str, object]:
    request = urllib.request.Request(f"{url}/infer", json.dumps(content).encode())
    with urllib.request.urlopen(request, timeout=20) as response:
        answer: dict[str, object] = json.load(response)
    return answer


def test_serving_two_models_until_sigterm(folder: Path, tmp_path: Path) -> None:
    """The request that is on its way when the signal comes is answered."""
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    with serve(folder, other, "--port=0", "--max-wait=1000") as process:
        assert process.stdout is not None
        urls = []
        for name in ("small", "other"):
            line = process.stdout.readline()
            matched = re.fullmatch(
                rf"Serving '{name}' at (http://127\.0\.0\.1:\d+/v2/models/{name})\n", line
            )
            assert matched, process.communicate()
            urls.append(matched[1])
        assert urllib.request.urlopen(urls[1], timeout=20).status == 200
        port = int(urls[0].split(":")[2].split("/")[0])
        body = json.dumps(REQUEST).encode()
        head = f"POST /v2/models/small/infer HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}"
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(head.encode() + b"\r\n\r\n" + body)
            metrics = f"http://127.0.0.1:{port}/metrics"
            waiting = b'dnn_reco_queue_events{model="small"} 1'
            while waiting not in urllib.request.urlopen(metrics, timeout=20).read():
                pass
            process.send_signal(signal.SIGTERM)
            answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200 OK") and b'"EnergyVisible"' in answer
        out, err = process.communicate(timeout=20)
    assert out == "Stopped; all accepted requests are answered.\n"
    assert process.returncode == 0
    assert [line.split(":")[0] for line in err.splitlines()] == [
        f"'{name}' is served for hits only" for name in ("small", "other")
    ]


def test_ctrl_c_and_a_taken_port(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = invoke("serve", folder, f"--port={port}", "--device=cpu")
    assert result.exit_code == 1
    error = result.err.splitlines()[-1]
    assert error.startswith(f"Error: cannot listen on port {port} of '127.0.0.1': ")
    with serve(folder, "--port=0", "--host=0.0.0.0") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        port = int(line.split(":")[2].split("/")[0])
        assert post(f"http://127.0.0.1:{port}/v2/models/small", REQUEST)["model_name"] == "small"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert err.splitlines()[1:] == [
        "WARNING: The server on '0.0.0.0' has no authentication and no encryption: everyone who "
        "can reach it can use it"
    ]


def test_models_that_cannot_be_served(folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "small"
    shutil.copytree(folder, again)
    result = invoke("serve", folder, again, "--device=cpu")
    assert result.exit_code == 1
    assert result.err.endswith(
        f"Error: two models would be served as 'small': rename the folder '{again}'\n"
    )
    result = invoke("serve", tmp_path / "none")
    assert result.exit_code == 1
    assert result.err.startswith("Error: ") and "Traceback" not in result.err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--max-request-size=64XB", "'64XB' is not a size: write 500KB or 64MB"),
        ("--max-request-size=0", "is not a size"),
        ("--port=70000", "not in the range"),
        ("--batch-size=0", "not in the range"),
    ],
)
def test_wrong_options(option: str, message: str) -> None:
    result = invoke("serve", "model", option)
    assert result.exit_code == 2
    assert message in result.err
