"""The web application: routes of the Open Inference Protocol V2, and `/metrics`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dnn_reco._version import __version__
from dnn_reco.data.hits import Hits
from dnn_reco.data.pulses import Pulses
from dnn_reco.errors import DataError
from dnn_reco.inference.server.endpoints import Endpoint, RequestEvents
from dnn_reco.inference.server.metrics import CONTENT_TYPE, Metrics
from dnn_reco.inference.server.micro_batches import (
    BatchSettings,
    ClosedError,
    Columns,
    MicroBatches,
    QueueFullError,
)
from dnn_reco.inference.server.protocol import (
    VERSION,
    RequestError,
    encode_response,
    parse_request,
)

_HEADER_LENGTH = "Inference-Header-Content-Length"
_CLIENT_GONE = 499  # status code of requests whose client did not wait, in metrics only
_RETRY_AFTER = {"Retry-After": "1"}

AnyEndpoint: TypeAlias = "Endpoint[Hits] | Endpoint[Pulses]"


@dataclass(frozen=True)
class Limits:
    """What clients may ask of the server.

    Attributes
    ----------
    max_request_size
        Bytes of the body of one request.
    max_pause
        How long [s] the next part of a body may take to come.
    """

    max_request_size: int = 64_000_000
    max_pause: float = 30.0

    @property
    def max_total_size(self) -> int:
        """Bytes of the bodies of all requests in memory."""
        return 4 * self.max_request_size


@dataclass(frozen=True)
class _Served:
    """A model that is served."""

    endpoint: AnyEndpoint
    batches: MicroBatches[RequestEvents[Any]]


class InferenceServer:
    """Models, and the requests for their predictions.

    Parameters
    ----------
    endpoints
        What is served; their names differ.
    batch_settings
        How requests are collected into batches.
    limits
        What clients may ask for.
    """

    def __init__(
        self,
        endpoints: Sequence[AnyEndpoint],
        batch_settings: BatchSettings,
        limits: Limits,
    ) -> None:
        self.batch_settings = batch_settings
        self.limits = limits
        self.metrics = Metrics()
        self._bytes_in_memory = 0
        self._served = {each.name: _Served(each, self._batches(each)) for each in endpoints}

    def _batches(self, endpoint: AnyEndpoint) -> MicroBatches[RequestEvents[Any]]:
        count = self.metrics.batch_counter(endpoint.name)
        return MicroBatches(endpoint.predict, self.batch_settings, count)

    def close(self) -> None:
        """Accept nothing more, and return when all that was accepted is predicted."""
        for served in self._served.values():
            served.batches.close()

    def app(self) -> Starlette:
        """The web application."""
        model = "/v2/models/{model}"
        routes = [
            Route("/v2", self.server_metadata),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
            Route("/metrics", self.metrics_text),
        ]
        for path in (model, f"{model}/versions/{{version}}"):
            routes += [
                Route(path, self.model_metadata),
                Route(f"{path}/ready", self.model_ready),
                Route(f"{path}/infer", self.infer, methods=["POST"]),
            ]
        handlers: Mapping[Any, Any] = {
            HTTPException: _http_error,
            RequestError: _request_error,
            Exception: _unexpected_error,
        }
        return Starlette(routes=routes, exception_handlers=handlers)

    async def server_metadata(self, request: Request) -> Response:
        """GET /v2."""
        extensions = ["binary_tensor_data"]
        return JSONResponse({"name": "dnn_reco", "version": __version__, "extensions": extensions})

    async def live(self, request: Request) -> Response:
        """GET /v2/health/live."""
        return JSONResponse({"live": True})

    async def ready(self, request: Request) -> Response:
        """GET /v2/health/ready."""
        is_ready = all(served.batches.is_ready for served in self._served.values())
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    async def metrics_text(self, request: Request) -> Response:
        """GET /metrics."""
        queues = {name: served.batches.num_waiting for name, served in self._served.items()}
        return Response(self.metrics.text(queues), headers={"Content-Type": CONTENT_TYPE})

    async def model_metadata(self, request: Request) -> Response:
        """GET /v2/models/M."""
        endpoint = self._find(request).endpoint
        return JSONResponse(
            {
                "name": endpoint.name,
                "versions": [VERSION],
                "platform": "dnn_reco",
                "inputs": [spec.metadata() for spec in endpoint.inputs],
                "outputs": [spec.metadata() for spec in endpoint.outputs],
            }
        )

    async def model_ready(self, request: Request) -> Response:
        """GET /v2/models/M/ready."""
        served = self._find(request)
        is_ready = served.batches.is_ready
        content = {"name": served.endpoint.name, "ready": is_ready}
        return JSONResponse(content, 200 if is_ready else 503)

    async def infer(self, request: Request) -> Response:
        """POST /v2/models/M/infer."""
        start = time.perf_counter()
        self.metrics.in_flight += 1
        name = ""  # names that clients make up are not counted one by one
        try:
            served = self._find(request)
            name = served.endpoint.name
            response = await self._infer(request, served)
        except RequestError as error:
            response = await _request_error(request, error)
        except ClientDisconnect:
            response = Response(status_code=_CLIENT_GONE)
        except Exception as error:
            response = await _unexpected_error(request, error)
        finally:
            self.metrics.in_flight -= 1
        self.metrics.count_request(name, response.status_code, time.perf_counter() - start)
        return response

    def _find(self, request: Request) -> _Served:
        """The model that a path names."""
        name, version = request.path_params["model"], request.path_params.get("version", VERSION)
        if name not in self._served:
            raise RequestError(
                f"there is no model '{name[:100]}': served are {', '.join(self._served)}", 404
            )
        if version != VERSION:
            raise RequestError(f"'{name}' has only the version {VERSION}", 404)
        return self._served[name]

    async def _infer(self, request: Request, served: _Served) -> Response:
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise RequestError("compressed requests are not supported", 415)
        endpoint = served.endpoint
        with self._bytes_of_one_request() as body:
            await self._read_body(request, body)
            parsed = parse_request(
                body,
                request.headers.get(_HEADER_LENGTH),
                endpoint.inputs,
                endpoint.output_names,
            )
            try:
                events = endpoint.read(parsed.tensors)
            except DataError as error:
                raise _as_request_error(error) from error
            columns = await _columns_of(request, served.batches, events)
        content, header_length = encode_response(endpoint.name, parsed, columns)
        if header_length is None:
            return Response(content, media_type="application/json")
        headers = {_HEADER_LENGTH: str(header_length)}
        return Response(content, headers=headers, media_type="application/octet-stream")

    @contextmanager
    def _bytes_of_one_request(self) -> Iterator[bytearray]:
        """A buffer for a body; what is in it at the end no longer counts as in memory."""
        body = bytearray()
        try:
            yield body
        finally:
            self._bytes_in_memory -= len(body)

    async def _read_body(self, request: Request, body: bytearray) -> None:
        """Read the body of a request into a buffer, within the limits."""
        limit = self.limits.max_request_size
        too_large = RequestError(f"a request may have at most {limit} bytes", 413)
        announced = request.headers.get("Content-Length", "0")
        if announced.isdecimal() and int(announced) > limit:
            raise too_large
        parts = request.stream().__aiter__()
        while True:
            try:
                with anyio.fail_after(self.limits.max_pause):
                    part = await anext(parts)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                raise RequestError("the body of the request was not received", 408) from error
            if len(body) + len(part) > limit:
                raise too_large
            if self._bytes_in_memory + len(part) > self.limits.max_total_size:
                raise RequestError("too many large requests at once: try again later", 503)
            self._bytes_in_memory += len(part)
            body += part


async def _columns_of(
    request: Request, batches: MicroBatches[RequestEvents[Any]], events: RequestEvents[Any]
) -> Columns:
    """Predictions of the events of a request, unless its client goes away before they begin."""
    largest = batches.settings.max_queue
    if events.num_events > largest:
        raise RequestError(f"a request may have at most {largest} events", 413)
    try:
        submitted = batches.submit(events, events.num_events)
    except (QueueFullError, ClosedError) as error:
        raise RequestError(str(error), 503) from error
    result = asyncio.wrap_future(submitted)
    gone = asyncio.ensure_future(_disconnect(request))
    either: set[asyncio.Future[Any]] = {result, gone}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            raise ClientDisconnect
        return result.result()
    except DataError as error:
        raise _as_request_error(error) from error
    finally:
        gone.cancel()
        result.cancel()  # does nothing to one that is done


async def _disconnect(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _as_request_error(error: DataError) -> RequestError:
    return error if isinstance(error, RequestError) else RequestError(str(error))


async def _request_error(request: Request, error: RequestError) -> Response:
    headers = _RETRY_AFTER if error.code == 503 else None
    return JSONResponse({"error": str(error)}, error.code, headers)


async def _http_error(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _unexpected_error(request: Request, error: Exception) -> Response:
    """Answer after an error that no request should be able to cause."""
    logging.getLogger(__name__).error("A request failed", exc_info=error)
    return JSONResponse({"error": "internal error of the server"}, 500)
