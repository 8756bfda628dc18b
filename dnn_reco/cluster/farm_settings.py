"""How work is shared among jobs: the batch system, and what each job asks for."""

from __future__ import annotations

import ipaddress
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from dnn_reco.cluster.job import check_lines
from dnn_reco.cluster.submit import CLUSTERS
from dnn_reco.config.typed_settings import STRICT
from dnn_reco.errors import ClusterError

FARMS = ("local", *CLUSTERS)
"""Where the work may run: processes of this machine, or a batch system."""

# Settings of the batch systems that are set here or by the engine, each with the option for it.
_TAKEN = {
    "htcondor": {
        "request_cpus": "--cluster-cpus",
        "requestcpus": "--cluster-cpus",
        "request_memory": "--cluster-memory",
        "requestmemory": "--cluster-memory",
        **dict.fromkeys(("universe", "executable", "arguments", "queue", "leave_in_queue"), ""),
        **dict.fromkeys(("output", "error", "log"), ""),
        **dict.fromkeys(("should_transfer_files", "transfer_input_files"), ""),
    },
    "slurm": {
        "cpus-per-task": "--cluster-cpus",
        "mem": "--cluster-memory",
        "time": "--cluster-time",
        **dict.fromkeys(("output", "error", "nodes", "ntasks", "ntasks-per-node", "array"), ""),
    },
}


@dataclass(frozen=True, config=STRICT)
class FarmSettings:
    """How work is shared among jobs.

    Attributes
    ----------
    cluster
        Where the jobs run; "local": processes of this machine.
    jobs
        Number of jobs at the same time; each does one item after the other.
    cpus
        CPUs of a job.
    memory
        Memory of a job [MB of 2²⁰ bytes]; not used locally.
    seconds
        Time limit of a job; not used locally. A job takes new items in the first three quarters
        of it, and another one takes its place.
    options
        Further settings of the batch system, by their names there.
    setup
        Lines of bash after which `python3` has this package and parsl; empty: the Python that runs
        now.
    retries
        How often an item is tried again.
    folder
        Folder for the files of the jobs, on a file system that all machines share; None: where the
        results go.
    address
        Address of this machine for the jobs; None: that of its host name.
    """

    cluster: Literal["local", "htcondor", "slurm"]
    jobs: Annotated[int, Field(ge=1)]
    cpus: Annotated[int, Field(ge=1)] = 1
    memory: Annotated[int, Field(ge=1)] = 4096
    seconds: Annotated[int, Field(ge=60)] = 4 * 3600
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    setup: tuple[str, ...] = ()
    retries: Annotated[int, Field(ge=0)] = 2
    folder: Path | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        check_lines([*self.setup, *self.options, *self.options.values()])
        if self.address is not None:
            _check_address(self.address)
        if self.cluster == "local":
            return
        system = CLUSTERS[self.cluster]
        for name, value in self.options.items():
            if not system.option_name.fullmatch(name):
                raise ClusterError(
                    f"--cluster-option {name}={value}: '{name}' is not a valid name of a setting "
                    f"of {system.submit_command}"
                )
            if (instead := _TAKEN[self.cluster].get(name.lower())) is not None:
                remedy = f": use {instead}" if instead else " by dnn_reco"
                raise ClusterError(f"--cluster-option {name}={value}: '{name}' is set{remedy}")
        if shutil.which(system.submit_command) is None:
            raise ClusterError(
                f"there is no program '{system.submit_command}' on this machine: run the command "
                f"on a machine of the cluster, or with --cluster local"
            )

    @property
    def on_this_machine(self) -> bool:
        """Whether the jobs are processes of this machine."""
        return self.cluster == "local"

    @property
    def python(self) -> str:
        """The word that starts Python in a job."""
        return "python3" if self.setup else shlex.quote(sys.executable)

    def prepare(self) -> str:
        """Lines of bash that a job runs first: as here, paths are relative to this folder."""
        path = os.environ.get("PYTHONPATH")
        own = [f"export PYTHONPATH={shlex.quote(path)}"] if path else []
        lines = [
            f"cd {shlex.quote(str(Path.cwd()))} || exit 1",
            *(self.setup or own),
            f"export OMP_NUM_THREADS={self.cpus}",
        ]
        return "\n".join(lines) + "\n"


def _check_address(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError as error:
        raise ClusterError(
            f"--cluster-address '{text}' is not an IP address such as 10.0.0.7"
        ) from error
