"""Options of a command about how to run: device, threads, folder of the event store."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from dnn_reco.workers import available_cpus

PrintFormat: TypeAlias = Literal["table", "reference", "none"]

INTERRUPTED = 128 + 2
"""Exit code after Ctrl-C (SIGINT), as shells count it, where no state is saved to resume from."""


@dataclass(frozen=True)
class RunOptions:
    """How to run a command, besides its config; each field is an option.

    Attributes
    ----------
    iterations
        Iterations in all; None: `num_training_iterations` of the config.
    device
        Where to compute: `auto`, `cpu`, `cuda`, `cuda:1`, …
    deterministic
        Whether GPUs add in a fixed order.
    checkpoint_exit_code
        Exit code after SIGTERM, once all is saved; None: 143.
    cache_dir
        Folder of the event store; None: that of the config.
    num_threads
        CPU threads and processes to use at most; 0: all that there are.
    log_level
        Least level of messages that are printed.
    allow_overlap
        Whether files may be both trained on and held out.
    print_format
        What a training prints at validations: a row of a `table`, the metrics of all labels in the
        form of the `reference`, or `none`.
    """

    iterations: int | None = None
    device: str = "auto"
    deterministic: bool = False
    checkpoint_exit_code: int | None = None
    cache_dir: str | None = None
    num_threads: int = 0
    log_level: str = "INFO"
    allow_overlap: bool = False
    print_format: PrintFormat = "table"

    @property
    def threads(self) -> int:
        """Number of CPU threads to use."""
        return self.num_threads or available_cpus()

    @property
    def overrides(self) -> dict[str, Any]:
        """Config keys that these options set."""
        return {} if self.iterations is None else {"num_training_iterations": self.iterations}

    def to_argv(self) -> list[str]:
        """The options as words of a command line; defaults are left out."""
        words: list[str] = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value == field.default:
                continue
            words.append(f"--{field.name.replace('_', '-')}")
            if value is not True:
                words.append(str(value))
        return words
