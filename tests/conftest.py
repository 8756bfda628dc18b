"""Where the shared test data are: `DNN_RECO_TEST_DATA`, or `../shared/data` beside the checkout."""

import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

# Tests run side by side, one worker for each CPU: a worker, and the programs that it starts, use
# one thread. PyTorch reads the variable when it is imported: by the imports below.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

from small_run import ON_CPU, SmallRun, make_small_run

# No deadline: how long an example takes says nothing on a busy machine. In CI the examples are the
# same in each run, so that a failure belongs to the change.
hypothesis.settings.register_profile("dnn_reco", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("dnn_reco")

_REPOSITORY = Path(__file__).resolve().parent.parent

# A shell ignores Ctrl-C for what it starts in the background; tests of Ctrl-C, and the programs
# that they start, need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the collaboration's own events and the golden numbers; skips where it is absent."""
    folder = Path(os.environ.get("DNN_RECO_TEST_DATA", _REPOSITORY.parent / "shared" / "data"))
    if not (folder / "golden").is_dir():
        pytest.skip(f"shared test data not found in '{folder}': set DNN_RECO_TEST_DATA")
    return folder


@pytest.fixture
def shown_messages() -> Iterator[None]:
    """Messages of the level INFO are shown, as by the commands."""
    package = logging.getLogger("dnn_reco")
    level = package.level
    package.setLevel(logging.INFO)
    yield
    package.setLevel(level)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time [s] of progress bars, to be set."""
    now = [1000.0]
    monkeypatch.setattr("dnn_reco.progress.time.perf_counter", lambda: now[0])
    return now


@pytest.fixture(scope="module")
def blank_figures() -> Iterator[Callable[..., None]]:
    """Figures are saved blank: drawing one takes longer than a tiny training.

    Gives the method `Figure.draw` for tests that need it after all.
    """
    from matplotlib.figure import Figure

    # matplotlib copies `draw` to classes made of Figure: ours must have the real one
    from dnn_reco.display import event_view  # noqa: F401

    draw = Figure.draw
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Figure, "draw", lambda figure, renderer: None)
        yield draw


@pytest.fixture(scope="session")
def golden_network(shared_data: Path) -> Path:
    return shared_data / "golden" / "network"


@pytest.fixture(scope="session")
def numu_file(shared_data: Path) -> Path:
    """32 real neutrino simulation events."""
    return shared_data / "real_nugen" / "NuMu_medium_00000001.hdf5"


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A run of four iterations, for tests that only read it."""
    from dnn_reco.commands.trafo import run_trafo
    from dnn_reco.commands.train import run_train

    run = make_small_run(tmp_path_factory.mktemp("trained_run"))
    run_trafo(run.config(), ON_CPU, overwrite=False)
    run_train(run.config(num_training_iterations=4), ON_CPU)
    return run
