"""`serve`: predictions of models over HTTP."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from dnn_reco.commands.output import print_note
from dnn_reco.errors import ConfigError
from dnn_reco.inference.reconstructor import Reconstructor
from dnn_reco.workers import available_cpus


@dataclass(frozen=True)
class ServeSettings:
    """How to serve models; each field is an option of the command.

    Attributes
    ----------
    host, port
        Address; port 0: any that is free.
    device, backend, num_threads, raw, allow_code
        See `Reconstructor`.
    batch_size
        Events to predict at once.
    max_wait
        How long [ms] a request waits for others to share its batch.
    max_queue
        Events that may wait.
    max_request_size
        Bytes of a request.
    """

    host: str
    port: int
    device: str
    backend: str
    num_threads: int
    batch_size: int
    max_wait: float
    max_queue: int
    max_request_size: int
    raw: bool = False
    allow_code: Collection[str] = ()


def run_serve(folders: Sequence[Path], settings: ServeSettings) -> None:
    """Serve the models in these folders until SIGINT or SIGTERM."""
    if not all(importlib.util.find_spec(name) for name in ("starlette", "uvicorn")):
        raise ConfigError("'serve' needs starlette and uvicorn: pip install 'dnn_reco[serve]'")
    from dnn_reco.inference.server.app import AnyEndpoint, InferenceServer, Limits
    from dnn_reco.inference.server.endpoints import endpoints_of
    from dnn_reco.inference.server.micro_batches import BatchSettings
    from dnn_reco.inference.server.run import is_local, run_server

    endpoints: dict[str, AnyEndpoint] = {}
    for folder in folders:
        for endpoint in endpoints_of(_load(folder, settings)):
            if endpoint.name in endpoints:
                raise ConfigError(
                    f"two models would be served as '{endpoint.name}': rename the folder '{folder}'"
                )
            endpoints[endpoint.name] = endpoint
    server = InferenceServer(
        list(endpoints.values()),
        BatchSettings(settings.batch_size, settings.max_wait / 1000, settings.max_queue),
        Limits(settings.max_request_size),
    )
    if not is_local(settings.host):
        logging.getLogger(__name__).warning(
            "The server on '%s' has no authentication and no encryption: everyone who can reach "
            "it can use it",
            settings.host,
        )

    def announce(url: str) -> None:
        for name in endpoints:
            print_note(f"Serving '{name}' at {url}/v2/models/{name}")

    run_server(server, settings.host, settings.port, announce)
    print_note("Stopped; all accepted requests are answered.")


def _load(folder: Path, settings: ServeSettings) -> Reconstructor:
    return Reconstructor(
        folder,
        settings.device,
        settings.num_threads or available_cpus(),
        backend=settings.backend,
        batch_size=settings.batch_size,
        allow_code=settings.allow_code,
        raw=settings.raw,
    )
