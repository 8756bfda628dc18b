"""Parsl, as the farm uses it: jobs that take tasks, started, replaced and ended.

Of parsl only its executor, providers and job poller are used, not its data-flow kernel: so there
are no checkpoints, no usage tracking, and no folder `runinfo`.
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dnn_reco.cluster.farm_settings import FarmSettings
from dnn_reco.cluster.submit import sbatch_quote
from dnn_reco.errors import ClusterError, ConfigError
from dnn_reco.workers import without_ctrl_c

if TYPE_CHECKING:
    from parsl.executors import HighThroughputExecutor
    from parsl.jobs.job_status_poller import JobStatusPoller
    from parsl.jobs.states import JobStatus
    from parsl.providers.base import ExecutionProvider

_log = logging.getLogger(__name__)

TASK_FUNCTION = "dnn_reco.cluster.farm_worker.run_task"
"""What a job calls with each message."""

_LOOPBACK = "127.0.0.1"
_WORKER_POOL = "parsl.executors.high_throughput.process_worker_pool"
_LABEL = "farm"
_DAY = 86_400
_PATIENCE = 20  # seconds for processes to end, before they are killed

# Seconds between signs of life, and after how many without one a job counts as lost.
_HEARTBEAT = {"local": (2, 30), "htcondor": (30, 120), "slurm": (30, 120)}
_NEW_JOBS = {"local": 1.0, "htcondor": 10.0, "slurm": 10.0}  # seconds between status queries


class Engine:
    """The jobs of a farm while they run; see :func:`running_engine`."""

    def __init__(self, settings: FarmSettings, num_jobs: int, folder: Path) -> None:
        self._folder = folder
        self._limit = 3 if settings.on_this_machine else max(3, num_jobs)
        self._lost = self._lost_before = 0
        self._executor = _make_executor(settings, num_jobs, folder, self._check_jobs)

    def submit(self, message: bytes) -> Future[Any]:
        """Let a job work on a message; its reply is the result of the future."""
        self.check()
        context = {"task_executor": {"f": TASK_FUNCTION}}
        future: Future[Any] = self._executor.submit_payload(context, message)
        return future

    def reply_came(self) -> None:
        """Note that a job did its work: jobs that were lost before no longer count."""
        self._lost_before = self._lost

    def check(self) -> None:
        """Check that the jobs can still work.

        Raises
        ------
        ClusterError
            If they end as soon as they start, or the process that hands out tasks has ended.
        """
        if self._executor.bad_state_is_set:
            raise ClusterError(f"the jobs cannot do the work: {self._executor.executor_exception}")
        process = self._executor.interchange_proc
        if process is not None and process.poll() is not None:
            raise ClusterError(
                "the process that distributes the work to the jobs has ended (exit code "
                f"{process.returncode}), most likely because memory ran out: run the same command "
                "to resume"
            )

    def _check_jobs(self, executor: Any, status: Mapping[str, JobStatus]) -> None:
        """Parsl calls this with the state of all jobs there were."""
        from parsl.jobs.states import JobState

        bad = (JobState.FAILED, JobState.MISSING, JobState.CANCELLED)
        lost = [job for job in status.values() if job.state in bad]
        self._lost = len(lost)
        if self._lost - self._lost_before >= self._limit:
            reasons = [str(job.message) for job in lost if job.message]
            reason = _last_output(self._folder) or (reasons or ["They have no output."])[-1]
            number = self._lost - self._lost_before
            executor.set_bad_state_and_fail_all(
                ClusterError(f"{number} of them ended without doing any work. {reason}")
            )

    def start(self, settings: FarmSettings) -> JobStatusPoller:
        """Start what runs beside this process; jobs follow."""
        import zmq
        from parsl.jobs.job_status_poller import JobStatusPoller

        try:
            self._executor.start()
        except Exception as error:  # such as: no port is free
            raise ClusterError(
                f"the process that distributes the work to the jobs cannot be started: {error}"
            ) from error
        # else messages that no process waits for any more would hold up the end
        self._executor.outgoing_q.zmq_socket.setsockopt(zmq.LINGER, 0)
        poller = JobStatusPoller(
            strategy="simple",
            max_idletime=float(settings.seconds),
            strategy_period=_NEW_JOBS[settings.cluster],
        )
        poller.add_executors([self._executor])
        return poller

    def stop(self, settings: FarmSettings, poller: JobStatusPoller | None) -> None:
        """Cancel all jobs, and end what runs beside this process."""
        try:
            if poller is not None:
                poller.close()
        except Exception:
            logging.getLogger("parsl").exception("the jobs are not cancelled yet")
        jobs = _jobs_to_cancel(settings, self._executor)
        if jobs and not all(self._executor.provider.cancel(jobs)):
            _log.warning("Some jobs could not be cancelled: %s.", ", ".join(jobs))
        self._executor.shutdown()
        if (process := self._executor.interchange_proc) is not None:
            process.wait()


@contextmanager
def running_engine(settings: FarmSettings, num_jobs: int, folder: Path) -> Iterator[Engine]:
    """The jobs of a farm; when the context ends, however it does, none of them is left.

    Parameters
    ----------
    settings
        Where they run, and what each asks for.
    num_jobs
        Number of jobs at the same time.
    folder
        Folder for their files.

    Raises
    ------
    ConfigError
        If parsl is not installed.
    ClusterError
        If the folder cannot be named in the files of a job.
    """
    require_parsl()
    _check_folder(folder)
    with _log_to(folder / "parsl.log"):
        engine = Engine(settings, num_jobs, folder)
        poller = None
        try:
            with without_ctrl_c():  # which is for this process, not for those started here
                poller = engine.start(settings)
            yield engine
        finally:
            with without_ctrl_c():
                engine.stop(settings, poller)


def require_parsl() -> None:
    """Check that parsl is installed.

    Raises
    ------
    ConfigError
        If it is not.
    """
    if importlib.util.find_spec("parsl") is None:
        raise ConfigError(
            "--cluster needs the package parsl, which is not installed: pip install "
            "'dnn_reco[farm]'"
        )


def _check_folder(folder: Path) -> None:
    """Check that a path stands unquoted in the files of a job, as parsl writes it."""
    if not all(letter.isalnum() or letter in "/._-+@:=" for letter in str(folder)):
        raise ClusterError(
            f"the files of the jobs cannot be in '{folder.parent}', whose path contains spaces or "
            "special characters: give another folder with --cluster-folder"
        )


def _make_executor(
    settings: FarmSettings, num_jobs: int, folder: Path, check_jobs: Any
) -> HighThroughputExecutor:
    from parsl.executors import HighThroughputExecutor
    from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD

    local = settings.on_this_machine
    period, threshold = _HEARTBEAT[settings.cluster]

    class Executor(HighThroughputExecutor):
        """With a time limit: a process that hangs must not hold up the end."""

        def connected_blocks(self) -> list[str]:
            return list(self.command_client.run("CONNECTED_BLOCKS", timeout_s=30))

        def connected_managers(self) -> list[dict[str, Any]]:
            return list(self.command_client.run("MANAGERS", timeout_s=30))

    launch = DEFAULT_LAUNCH_CMD.replace(
        "process_worker_pool.py", f"{settings.python} -m {_WORKER_POOL}"
    )
    interchange = [sys.executable, "-m", "dnn_reco.cluster.farm_interchange"]
    executor = Executor(
        label=_LABEL,
        provider=_make_provider(settings, num_jobs),
        launch_cmd=launch,
        interchange_launch_cmd=[*interchange, str(folder / "interchange.out")],
        # never None: parsl would then ask a server outside for the address of this machine
        address=_LOOPBACK if local else settings.address or _own_address(),
        loopback_address=_LOOPBACK,
        cores_per_worker=settings.cpus,
        max_workers_per_node=num_jobs if local else 1,
        heartbeat_period=period,
        heartbeat_threshold=threshold,
        drain_period=None if local else settings.seconds * 3 // 4,
        block_error_handler=check_jobs,
        encrypted=True,
    )
    executor.run_dir = str(folder)
    scripts = folder / "submit_scripts"
    scripts.mkdir()
    executor.provider.script_dir = str(scripts)
    return executor


def _make_provider(settings: FarmSettings, num_jobs: int) -> ExecutionProvider:
    """What starts and cancels jobs; locally one job has all worker processes."""
    from parsl.providers import CondorProvider, LocalProvider, SlurmProvider

    prepare = settings.prepare()
    if settings.on_this_machine:
        cores = f"export PARSL_CORES={num_jobs * settings.cpus}\n"

        class Provider(LocalProvider):
            """Waits until the processes have ended."""

            def cancel(self, job_ids: list[str]) -> list[bool]:
                processes = _processes(self.resources[job]["remote_pid"] for job in job_ids)
                cancelled = list(super().cancel(job_ids))
                _wait_for_end(processes)
                return cancelled

        return Provider(worker_init=prepare + cores)
    blocks = {"init_blocks": num_jobs, "max_blocks": num_jobs, "cmd_timeout": 60}
    if settings.cluster == "htcondor":
        # parsl keeps ended jobs in the queue to see them, but it may be killed before it ends
        lines = [
            f"request_memory = {settings.memory} MB",
            f"leave_in_queue = JobStatus == 4 && time() - EnteredCurrentStatus < {_DAY}",
        ]
        lines += [f"{name} = {value}" for name, value in settings.options.items()]
        return CondorProvider(
            cores_per_slot=settings.cpus,
            scheduler_options="\n".join(lines),
            worker_init=prepare,
            **blocks,
        )

    class Slurm(SlurmProvider):
        """Knows what squeue prints of a job that has ended, where there is no sacct."""

        def execute_wait(self, cmd: str, timeout: int | None = None) -> tuple[int, str, str]:
            code, output, errors = super().execute_wait(cmd, timeout)
            ended = cmd.startswith("squeue") and "Invalid job id" in errors
            return (0 if ended else code), output, errors

    lines = [f"#SBATCH --mem={settings.memory}M"]
    lines += [f"#SBATCH --{name}={sbatch_quote(value)}" for name, value in settings.options.items()]
    return Slurm(
        cores_per_node=settings.cpus,
        scheduler_options="\n".join(lines),
        worker_init=prepare,
        walltime=f"{settings.seconds // 3600:02d}:{settings.seconds % 3600 // 60:02d}:00",
        exclusive=False,
        **blocks,
    )


def _own_address() -> str:
    """Address of this machine for others: that of its host name, else of its default route."""
    from parsl.addresses import address_by_hostname, address_by_route

    for find in (address_by_hostname, address_by_route):
        try:
            address = str(find())
        except OSError:
            continue
        if not address.startswith("127."):
            return address
    raise ClusterError(
        "the network address of this machine is unknown: give it with --cluster-address"
    )


def _jobs_to_cancel(settings: FarmSettings, executor: HighThroughputExecutor) -> list[str]:
    """Jobs that parsl leaves in the queue: all after a failure, and HTCondor's ended ones."""
    jobs = executor.blocks_to_job_id
    if settings.cluster == "htcondor":
        return list(jobs.values())
    status = executor.status_facade
    return [job for block, job in jobs.items() if block in status and not status[block].terminal]


def _processes(numbers: Iterable[int]) -> list[Any]:
    """Processes with these numbers, and all that they started."""
    import psutil

    found = []
    for number in numbers:
        try:
            process = psutil.Process(number)
            found += [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
    return found


def _wait_for_end(processes: list[Any]) -> None:
    """Wait for processes that were asked to end; what does not is killed."""
    import psutil

    deadline = time.monotonic() + _PATIENCE
    for process in processes:
        try:
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                if time.monotonic() > deadline:
                    process.kill()
                time.sleep(0.02)
        except psutil.NoSuchProcess:
            continue


def _last_output(folder: Path) -> str:
    """The last lines that any job printed as errors."""
    files = [*folder.glob("submit_scripts/*.stderr"), *folder.glob("submit_scripts/*.err")]
    written = [file for file in files if file.stat().st_size]
    if not written:
        return ""
    newest = max(written, key=lambda file: file.stat().st_mtime)
    lines = newest.read_text(errors="replace").strip().splitlines()[-5:]
    return "The last one printed:\n  " + "\n  ".join(lines)


def remove_secrets(folder: Path) -> None:
    """Remove the keys of the encryption from a folder that is kept."""
    shutil.rmtree(folder / _LABEL / "certificates", ignore_errors=True)


@contextmanager
def _log_to(file: Path) -> Iterator[None]:
    """Send all messages of parsl to a file, and only there."""
    log = logging.getLogger("parsl")
    before = log.level, log.propagate
    handler = logging.FileHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()
        log.setLevel(before[0])
        log.propagate = before[1]
