"""What every command does around its work: threads, messages, config, errors as one line."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

import click

from dnn_reco.commands.output import coloured
from dnn_reco.errors import DnnRecoError
from dnn_reco.run_options import RunOptions
from dnn_reco.workers import world_size

if TYPE_CHECKING:
    from dnn_reco.config import Config


def start(config_files: tuple[str, ...], options: RunOptions) -> Config:
    """Limit threads, set up logging, load the config, and print its notices."""
    return _start(config_files, options)[0]


def start_stages(config_files: tuple[str, ...], options: RunOptions) -> tuple[Config, ...]:
    """The same; the config of each stage of a training, of which most have one."""
    return _start(config_files, options)[1]


def _start(config_files: tuple[str, ...], options: RunOptions) -> tuple[Config, tuple[Config, ...]]:
    limit_threads(options.num_threads)
    show_messages(options.log_level)
    from dnn_reco.config import allow_plugins_beside, load_with_stages

    allow_plugins_beside(config_files)
    config, stages = load_with_stages(config_files, options.overrides)
    config.refuse_output_in_package()
    log = logging.getLogger(__name__)
    for notice in config.notices:
        level = "debug" if notice.only_in_checks else notice.level
        log.log(getattr(logging, level.upper()), "%s", notice.text)
    return config, stages


def limit_threads(num_threads: int) -> None:
    """Let numerical libraries use so many threads; 0: as many as they like."""
    # Read by the numerical libraries when they are imported. Threads that wait for each other spin
    # for some microseconds only: spinning on makes a step many times slower where other programs
    # run as well, not spinning at all halves the speed where none do.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    if num_threads:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = str(num_threads)


def show_messages(log_level: str) -> None:
    """Print messages of the package from this level on."""
    logging.basicConfig(format="%(message)s", handlers=[_TerminalHandler()], force=True)
    logging.getLogger("dnn_reco").setLevel(log_level.upper())


class _TerminalHandler(logging.Handler):
    """Prints messages to standard error, above any progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        text = self.format(record)
        if record.levelno >= logging.WARNING:
            colour = "yellow" if record.levelno < logging.ERROR else "red"
            text = f"{coloured(f'{record.levelname}:', colour, sys.stderr)} {text}"
        tqdm.write(text, file=sys.stderr)


def run_safely(command: click.Command, defaults: Mapping[str, object] | None = None) -> NoReturn:
    """Run a command; a mistake of the user ends in one message and exit code 1, no traceback.

    Parameters
    ----------
    command
        The command.
    defaults
        Other defaults of its options than those that they declare.
    """
    try:
        command(default_map=dict(defaults or {}))
    except DnnRecoError as error:
        _fail(str(error))
    except ImportError as error:
        _fail(_import_text(error))
    except OSError as error:  # such as: no such folder, not allowed, disk full
        _fail(str(error))
    except RuntimeError as error:
        text = _gpu_text(error)
        if text is None:
            raise
        _fail(text)
    sys.exit(0)


def _fail(text: str) -> NoReturn:
    logging.getLogger(__name__).debug("It happened here:", exc_info=True)
    click.echo(f"{coloured('Error:', 'red', sys.stderr)} {text}", err=True)
    sys.exit(1)


def _import_text(error: ImportError) -> str:
    """The message of a package that is missing or broken; errors of this package are raised."""
    package = (error.name or "").partition(".")[0]
    if package == "dnn_reco":
        raise error
    if isinstance(error, ModuleNotFoundError) and package:
        name = {"torch": "PyTorch (torch)"}.get(package, package)
        return (
            f"this command needs the Python package {name}, which is not installed: "
            f"pip install {package}. 'dnn-reco doctor' checks the whole installation"
        )
    return f"{error}: a Python package is broken, see 'dnn-reco doctor'"


def _gpu_text(error: RuntimeError) -> str | None:
    """Why a GPU cannot do something: no memory is left, or it has no fixed order; None: neither."""
    first_line = str(error).partition("\n")[0]
    if "CUDA" in first_line and "out of memory" in first_line:
        return (
            "the memory of the GPU is full: use smaller batches (batch_size), or a GPU that no "
            "other program uses (see nvidia-smi); in training also data_on_device: False, or "
            f"precision: bf16. PyTorch reports: {first_line}"
        )
    if found := re.match(r"(\S+) does not have a deterministic implementation", first_line):
        return (
            f"--deterministic is not possible with this network or loss: on GPUs PyTorch computes "
            f"{found[1]} in no fixed order. Leave --deterministic out, or change the layers"
        )
    return None


def leave(code: int) -> NoReturn:
    """End this process; all that it wrote is written.

    One of several does so at once: threads of PyTorch that talk to the other processes may still
    run, and now and then Python's own way out ends with "terminate called" and signal 6.
    """
    if world_size() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
