"""`make demo`: from nothing to a trained network that is shown to work, in the folder `demo/`.

    python tools/demo.py [--quick] [--out FOLDER] [--picture FILE]

Runs the commands below, one after the other, each as a user would in that folder. After Ctrl-C, or
a step that failed, the same command resumes at the step that was not finished.
"""

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIGS = Path("configs/demo")
RECORD = "steps.json"
STOPPED = 128 + signal.SIGINT
QUICK = "--iterations", "20"
ENVIRONMENT = {
    "PYTHONPATH": str(REPOSITORY),  # the commands are those of this copy of the package
    # workers that are stopped leave semaphores, which Python removes, but not without a warning
    "PYTHONWARNINGS": "ignore:resource_tracker:UserWarning",
}
HELD_OUT = "events/*/simulation_*0.hdf5"


@dataclass(frozen=True)
class Step:
    """A command of the demo.

    Attributes
    ----------
    title
        What it does.
    words
        The command: `dnn-reco` or `python`, and its arguments; paths in the repository are `Path`.
    """

    title: str
    words: tuple[str | Path, ...]


def steps(is_quick: bool) -> list[Step]:
    """All steps of the demo, in their order; quick: as few events and iterations as possible."""
    num_tracks, num_cascades, num_files = (1000, 1020, 10) if is_quick else (12000, 5000, 20)
    iterations = QUICK if is_quick else ()

    def simulate(name: str, number: int) -> tuple[str | Path, ...]:
        options = ("--events", str(number), "--files", str(num_files), "--out", f"events/{name}")
        return ("dnn-reco", "simulate", CONFIGS / f"{name}.yaml", *options)

    configs = (CONFIGS / "events.yaml", CONFIGS / "dom_transformer.yaml")
    model = "models/dom_transformer"
    return [
        Step("Simulate tracks", simulate("tracks", num_tracks)),
        Step("Simulate cascades", simulate("cascades", num_cascades)),
        Step("Fit lines to the test events", ("python", Path("tools/line_fit.py"), HELD_OUT)),
        Step("Create the data transformation model", ("dnn-reco", "trafo", *configs)),
        Step("Train the network", ("dnn-reco", "train", *configs, *iterations)),
        Step("Export it", ("dnn-reco", "export", *configs, "-o", model, "--overwrite")),
        Step("Calibrate its uncertainties", ("dnn-reco", "calibrate", model)),
        Step("Evaluate it", ("dnn-reco", "evaluate", model, "--stored", "LineFit")),
        Step("Apply it", ("dnn-reco", "apply", model, "-i", HELD_OUT, "-o", "reconstructed")),
        Step("Draw the summary", ("python", Path("tools/demo_report.py"))),
    ]


class Record:
    """The finished steps of a folder, and the seconds that each took."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / RECORD
        known = self.path.exists()
        self.seconds: dict[str, float] = json.loads(self.path.read_text()) if known else {}

    def has(self, step: Step) -> bool:
        """Whether a step is finished, with the files of the repository as they are now."""
        return _key(step) in self.seconds

    def add(self, step: Step, seconds: float) -> None:
        """Note a step as finished."""
        self.seconds[_key(step)] = seconds
        self.path.write_text(json.dumps(self.seconds, indent=2) + "\n")


def _key(step: Step) -> str:
    """Command of a step, and a digest of the files of the repository that it names."""
    contents = [(REPOSITORY / word).read_bytes() for word in step.words if isinstance(word, Path)]
    digest = hashlib.sha256(b"".join(contents)).hexdigest()[:12]
    return f"{' '.join(map(str, step.words))} [{digest}]"


def open_folder(folder: Path, planned: Sequence[Step]) -> Record:
    """The record of a folder whose finished steps come first; any other one is emptied."""
    if folder.exists() and any(folder.iterdir()) and not (folder / RECORD).exists():
        sys.exit(f"'{folder}' is not empty, and not of an earlier demo: give another --out")
    record = Record(folder)
    finished = [record.has(step) for step in planned]
    num_finished = finished.index(False) if False in finished else len(finished)
    if num_finished == len(record.seconds) < len(planned):
        if num_finished:
            print(f"Resuming after {num_finished} finished steps in '{folder}'.")
    elif record.seconds:
        why = "all steps are finished" if all(finished) else "the steps or configs have changed"
        print(f"Starting from the first step in '{folder}': {why}.")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    record = Record(folder)
    record.path.write_text(json.dumps(record.seconds) + "\n")
    return record


class Stop:
    """Ctrl-C and SIGTERM: they end the command that runs, once it has saved what it saves then."""

    def __init__(self) -> None:
        self.is_asked = False
        self.command: subprocess.Popen[bytes] | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: object) -> None:
        self.is_asked = True
        self._end()

    def _end(self) -> None:
        # SIGTERM ends it without a traceback during its imports, too
        if self.command is not None:
            self.command.terminate()

    def run(self, command: Sequence[str], folder: Path) -> int:
        """Run a command in a folder; returns its exit code."""
        environment = os.environ | ENVIRONMENT
        # in a separate session, where the terminal's Ctrl-C does not reach it
        self.command = subprocess.Popen(
            command, cwd=folder, env=environment, start_new_session=True
        )
        if self.is_asked:
            self._end()
        code = self.command.wait()
        if self.is_asked:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.command.pid, signal.SIGTERM)  # its workers
        self.command = None
        return code


def command_line(step: Step, folder: Path) -> list[str]:
    """The words of a step as they are in a folder."""
    return [
        os.path.relpath(REPOSITORY / w, folder) if isinstance(w, Path) else w for w in step.words
    ]


def main() -> None:
    """Run the steps that are not finished yet; then print what each took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="try all steps with few events")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder to write to")
    options = parser.parse_args()
    folder: Path = options.out
    stop = Stop()
    planned = steps(options.quick)
    record = open_folder(folder, planned)
    for number, step in enumerate(planned, 1):
        if record.has(step):
            continue
        print(f"\n[{number}/{len(planned)}] {step.title}", flush=True)
        words = command_line(step, folder)
        print("$", *(f"'{word}'" if "*" in word else word for word in words), flush=True)
        module = ["-m", "dnn_reco"] if words[0] == "dnn-reco" else []
        started = time.perf_counter()
        code = stop.run([sys.executable, *module, *words[1:]], folder)
        if stop.is_asked:
            print(f"\nStopped in step {number}, '{step.title}': the same command resumes there.")
            sys.exit(STOPPED)
        if code:
            print(f"\nStep {number}, '{step.title}', failed with exit code {code}.")
            sys.exit(abs(code))
        record.add(step, time.perf_counter() - started)
    print(f"\n{times(planned, record)}\n\n{what_next(folder)}")


def times(planned: Sequence[Step], record: Record) -> str:
    """The seconds of each step, and of all."""
    taken = [(step.title, record.seconds[_key(step)]) for step in planned]
    lines = [f"  {title:<40}{seconds:>6.0f} s" for title, seconds in taken]
    total = sum(seconds for _, seconds in taken)
    return "\n".join(["Time of each step:", *lines, f"  {'all':<40}{total:>6.0f} s"])


def what_next(folder: Path) -> str:
    """What the demo has written, and what to try."""
    configs = os.path.relpath(REPOSITORY / CONFIGS, folder)
    return f"""What there is in {folder}/:
  report.png                two events, angles, energies and coverage in one picture
  evaluation/report.html    how good the network is, for which events, and whether its
                            uncertainties are right, beside the line fit: open it in a browser
  events/                   the simulated events
  logs/, checkpoints/       the training: tensorboard --logdir {folder}/logs
  models/                   the network as a model folder, with a model card
  reconstructed/            its predictions for the held-out events, as HDF5 files

What to try next, in {folder}/:
  dnn-reco view events/tracks/simulation_00000000.hdf5 --html --model models/dom_transformer
  dnn-reco apply models/dom_transformer --input 'my_data/*.hdf5' --output out
  dnn-reco simulate --help; other events: configs/simulation/
  a longer training: num_training_iterations in {configs}/dom_transformer.yaml
The tutorial explains each step: docs/tutorial.md"""


if __name__ == "__main__":
    main()
