"""The command line of `dnn-reco serve`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from dnn_reco.cli.command import Command
from dnn_reco.cli.options import (
    ModelFolder,
    allow_code_option,
    backend_option,
    batch_size_option,
    device_option,
    message_options,
    num_threads_option,
    raw_option,
)
from dnn_reco.cli.session import limit_threads, show_messages

_BYTES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


def _num_bytes(ctx: click.Context, param: click.Parameter, value: str) -> int:
    """The number of bytes in a text such as 500KB or 64MB."""
    match = re.fullmatch(r"(\d+) *([KMG]?)B?", value.strip(), re.IGNORECASE)
    if match is None or not int(match[1]):
        raise click.BadParameter(f"'{value}' is not a size: write 500KB or 64MB")
    return int(match[1]) * _BYTES[match[2].upper()]


@click.command("serve", cls=Command)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...", type=ModelFolder())
@click.option(
    "--host",
    default="127.0.0.1",
    help="Address to listen on; 0.0.0.0: all addresses of this machine, open to the network.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    default=8000,
    help="Port; 0: any that is free.",
)
@batch_size_option
@click.option(
    "--max-wait",
    type=click.FloatRange(0, 10_000),
    metavar="N",
    default=2,
    help="Longest time that a request waits for others to share its batch, in ms.",
)
@click.option(
    "--max-queue",
    type=click.IntRange(min=1),
    metavar="N",
    default=4096,
    help="Events that may wait for their prediction; further requests are refused with 503.",
)
@click.option(
    "--max-request-size",
    callback=_num_bytes,
    default="64MB",
    help="Largest request; larger ones are refused with 413.",
)
@backend_option
@raw_option
@allow_code_option
@device_option
@message_options
@num_threads_option
def serve_command(models: tuple[str, ...], log_level: str, **settings: Any) -> None:
    """Serve predictions over HTTP.

    A MODEL is a model folder, served under its name for hits and, where its features can be
    computed from pulses alone, as NAME_pulses for pulses. The protocol is the Open Inference
    Protocol V2 of KServe and Triton; /metrics is for Prometheus. Requests that wait at the same
    time are predicted in one batch. Ctrl-C or SIGTERM stops the server after all accepted requests
    are answered.

    \b
    Examples:
      dnn-reco serve models/my_model --port 8000
      curl http://127.0.0.1:8000/v2/models/my_model
      curl http://127.0.0.1:8000/v2/models/my_model/infer -d @request.json
    In Python:
      client = tritonclient.http.InferenceServerClient("127.0.0.1:8000")
      client.infer("my_model", inputs).as_numpy("EnergyVisible")
    """
    limit_threads(settings["num_threads"])
    show_messages(log_level)
    from dnn_reco.commands.serve import ServeSettings, run_serve

    run_serve([Path(model) for model in models], ServeSettings(**settings))
