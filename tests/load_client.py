"""Many clients of an inference server at once, who check each answer: for tests and benchmarks.

Written against the text of the Open Inference Protocol and HTTP/1.1, apart from the server's code.
"""

import asyncio
import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.hits import Hits

TOLERANCE = 1e-4
DATATYPES = {
    **{np.dtype(f"<i{n}"): f"INT{8 * n}" for n in (1, 2, 4, 8)},
    **{np.dtype(f"<u{n}"): f"UINT{8 * n}" for n in (1, 2, 4, 8)},
    **{np.dtype(f"<f{n}"): f"FP{8 * n}" for n in (4, 8)},
}


@dataclass(frozen=True)
class Question:
    """A request, and the values of its outputs in float64, one after the other."""

    model: str
    tensors: Mapping[str, NDArray[Any]]
    outputs: tuple[str, ...]
    expected: NDArray[np.float64]


@dataclass
class Outcome:
    """What became of the requests of all clients."""

    latencies: list[float] = field(default_factory=list)  # s, of correct answers
    wrong: int = 0
    lost: int = 0
    refused: int = 0  # malformed ones with status 4xx
    not_refused: int = 0
    cut_off: int = 0
    busy: int = 0  # answered with 503, and sent again
    seconds: float = 0.0

    @property
    def good(self) -> int:
        return len(self.latencies)


def hit_tensors(hits: Hits) -> dict[str, NDArray[Any]]:
    """The input tensors of some hits."""
    dom, features = hits.dom.astype(np.int64), hits.features.astype(np.float32)
    return {"offsets": hits.offsets.astype(np.int64), "dom": dom, "features": features}


def binary_body(
    tensors: Mapping[str, NDArray[Any]], outputs: Sequence[str] = (), request_id: str | None = None
) -> tuple[bytes, int]:
    """Body of a request with binary tensors, answered in binary; and the length of its JSON."""
    inputs = [
        {
            "name": name,
            "datatype": DATATYPES[array.dtype],
            "shape": list(array.shape),
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in tensors.items()
    ]
    chosen = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    content: dict[str, Any] = {"id": request_id, "inputs": inputs, "outputs": chosen}
    header = json.dumps(content).encode()
    return header + b"".join(array.tobytes() for array in tensors.values()), len(header)


def http_request(model: str, body: bytes, header_length: int | str | None) -> bytes:
    """The bytes of a POST."""
    lines = [f"POST /v2/models/{model}/infer HTTP/1.1", "Host: a", f"Content-Length: {len(body)}"]
    if header_length is not None:
        lines.append(f"Inference-Header-Content-Length: {header_length}")
    return "\r\n".join([*lines, "\r\n"]).encode() + body


def malformed(question: Question) -> Iterator[tuple[bytes, int | str | None]]:
    """Wrong bodies, and the length of their JSON."""
    body, length = binary_body(question.tensors, question.outputs)
    yield body, length - 1
    yield body, None
    yield body[:-1], length
    yield body + b"\0", length
    yield body, len(body) + 1
    yield b"{" + body[:length], None
    yield b"", None
    tensors = dict(question.tensors)
    yield binary_body(tensors | {"offsets": tensors["offsets"] + 1}, question.outputs)
    yield binary_body(tensors | {"features": tensors["features"] * np.float32(np.nan)})
    yield binary_body(tensors, ["no_output"])
    tensors.pop("dom")
    yield binary_body(tensors)


async def read_response(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status code, headers in lower case, and body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    body = await reader.readexactly(int(headers["content-length"]))
    return int(head[0].split()[1]), headers, body


def is_right(
    question: Question, request_id: str, code: int, headers: dict[str, str], body: bytes
) -> bool:
    """Whether a response is that to the question."""
    if code != 200:
        return False
    length = int(headers["inference-header-content-length"])
    header, values = json.loads(body[:length]), np.frombuffer(body[length:])
    return (
        header["id"] == request_id
        and tuple(output["name"] for output in header["outputs"]) == question.outputs
        and values.shape == question.expected.shape
        and np.allclose(values, question.expected, TOLERANCE, TOLERANCE, equal_nan=True)
    )


class Client:
    """One client, who keeps its connection open."""

    def __init__(self, port: int, outcome: Outcome) -> None:
        self.port, self.outcome = port, outcome
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, question: Question, request_id: str) -> None:
        body, length = binary_body(question.tensors, question.outputs, request_id)
        start = time.perf_counter()
        try:
            code, headers, answer = await self._exchange(question.model, body, length)
            while code == 503:
                self.outcome.busy += 1
                await asyncio.sleep(0.05)
                code, headers, answer = await self._exchange(question.model, body, length)
        except (OSError, asyncio.IncompleteReadError):
            self.outcome.lost += 1
            self.close()
            return
        if is_right(question, request_id, code, headers, answer):
            self.outcome.latencies.append(time.perf_counter() - start)
        else:
            self.outcome.wrong += 1

    async def send_malformed(self, model: str, body: bytes, length: int | str | None) -> None:
        code, _, answer = await self._exchange(model, body, length)
        if code == 400 and "error" in json.loads(answer):
            self.outcome.refused += 1
        else:
            self.outcome.not_refused += 1

    async def cut_off(self, question: Question, share: float) -> None:
        """Send a part of a request, or all of it (share 1), and go away."""
        body, length = binary_body(question.tensors, question.outputs)
        request = http_request(question.model, body, length)
        _, writer = await self._connection()
        writer.write(request[: round(share * len(request))])
        await writer.drain()
        self.close()
        self.outcome.cut_off += 1

    async def _exchange(
        self, model: str, body: bytes, length: int | str | None
    ) -> tuple[int, dict[str, str], bytes]:
        reader, writer = await self._connection()
        writer.write(http_request(model, body, length))
        return await read_response(reader)

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self._reader, self._writer

    def close(self) -> None:
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()
        self._reader = self._writer = None


async def ask_in_parallel(
    port: int,
    questions: Sequence[Question],
    num_clients: int,
    num_requests: int,
    share_bad: float = 0.01,
    seed: int = 0,
) -> Outcome:
    """Let clients send requests until so many are sent; of each kind of bad ones a share."""
    outcome, numbers = Outcome(), iter(range(num_requests))
    rng = np.random.default_rng(seed)
    wrong = itertools.cycle([(q.model, *bad) for q in questions[:10] for bad in malformed(q)])

    async def client() -> None:
        this = Client(port, outcome)
        for number in numbers:
            question, kind = questions[rng.integers(len(questions))], rng.random()
            if kind < share_bad:
                await this.send_malformed(*next(wrong))
            elif kind < 2 * share_bad:
                await this.cut_off(question, share=rng.choice([0.02, 0.5, 0.99, 1.0]))
            else:
                await this.ask(question, f"request {number}")
        this.close()

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(num_clients)))
    outcome.seconds = time.perf_counter() - start
    return outcome
