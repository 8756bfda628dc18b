"""Running the server: address, signals, and the way out."""

from __future__ import annotations

import ipaddress
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from dnn_reco.errors import ConfigError
from dnn_reco.inference.server.app import InferenceServer

_BACKLOG = 2048
_SECONDS_TO_FINISH = 60  # for requests that are still being sent when the server is stopped


def run_server(
    server: InferenceServer, host: str, port: int, announce: Callable[[str], None]
) -> None:
    """Serve until SIGINT or SIGTERM; all requests accepted by then are answered.

    Parameters
    ----------
    server
        What is served.
    host, port
        Where; port 0: any that is free.
    announce
        Called with the URL as soon as connections are accepted.

    Raises
    ------
    ConfigError
        If this address cannot be used.
    """
    listening = listen(host, port)
    runner = make_runner(server)
    with listening, _stopped_by_signals(runner):
        announce(url_of(host, listening.getsockname()[1]))
        runner.run(sockets=[listening])
        server.close()


def make_runner(server: InferenceServer) -> uvicorn.Server:
    """What runs the web application of a server."""
    config = uvicorn.Config(
        server.app(),
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=_SECONDS_TO_FINISH,
    )
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on port {port} of '{host}': {error}. Choose others with --host and "
            "--port; --port 0 uses any free port"
        ) from error


@contextmanager
def _stopped_by_signals(runner: uvicorn.Server) -> Iterator[None]:
    """Let SIGINT and SIGTERM stop the server.

    uvicorn does so only while it runs, and sends itself the signal again at the end.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, runner.handle_exit) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def url_of(host: str, port: int) -> str:
    """The URL of the server."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def is_local(host: str) -> bool:
    """Whether only programs on this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
