"""The command line."""

from dnn_reco.cli.main import cli, main

__all__ = ["cli", "main"]
