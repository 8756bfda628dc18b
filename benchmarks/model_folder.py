"""Time to load a model folder, and predictions per second, by what computes them.

Run as: python benchmarks/model_folder.py --source FILE [--threads 2] [--model FOLDER]

FILE is an event file with 9 features a DOM and labels; without it random events are used. The
networks are the tutorial's (5 kernels a layer) and the transformer of size S, not trained; or that
of a model folder, such as pretrained:dom_transformer_S, computed by PyTorch. Each case runs in
a separate process. *Import* is the time of `import torch` or `import onnxruntime`, *load* that of
`Reconstructor(FOLDER)` after it. Predictions are from hits in memory, for one event at a time and
in batches.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dnn_reco import Reconstructor
    from dnn_reco.data.hits import Hits

BACKENDS = {"torch": "torch", "onnxruntime": "onnxruntime"}
NETWORKS = {
    "tutorial's network": {},
    "transformer S": {
        "model_class": "dnn_reco.modules.models.dom_transformer.DomTransformer",
        "model_kwargs": {"size": "S"},
        "label_zenith_key": "PrimaryZenith",
        "label_azimuth_key": "PrimaryAzimuth",
    },
}
BATCH_SIZES = (1, 32, 256)
MIN_SECONDS = 4.0


def make_model(folder: Path, source: str | None, changes: dict[str, object]) -> tuple[Path, Path]:
    """A model folder with random weights and ONNX graphs, and an event file."""
    import torch
    from made_up_run import make_run

    from dnn_reco.commands.trafo import run_trafo
    from dnn_reco.config import load_config
    from dnn_reco.files import find_files
    from dnn_reco.inference.model_folder import Member, contents_of, write_model_folder
    from dnn_reco.inference.onnx_export import export_graphs
    from dnn_reco.nn.from_config import make_network, network_spec
    from dnn_reco.run_options import RunOptions
    from dnn_reco.transform import load_transformation

    path = make_run(folder, source, misc_load_dict={}, trafo_num_batches=10, **changes)
    config = load_config([path])
    run_trafo(config, RunOptions(device="cpu"), overwrite=True)
    transformation = load_transformation(Path(config.trafo.trafo_model_path))
    network = make_network(config, network_spec(config, transformation), torch.device("cpu"))
    member = Member(network.state_dict(), transformation, config)
    graphs = export_graphs(member.load("model", torch.device("cpu")))
    write_model_folder(folder / "model", contents_of([member], "a benchmark", graphs))
    return folder / "model", find_files(config.data_files.test_data_file, "test_data_file")[0]


def load(backend: str, model: Path, threads: int) -> tuple["Reconstructor", float, float]:
    """A model, and the time [s] to import what computes it and then to load it."""
    started = time.perf_counter()
    __import__(BACKENDS[backend])
    imported = time.perf_counter()
    from dnn_reco import Reconstructor

    reco = Reconstructor(model, "cpu", threads, backend=backend)
    return reco, imported - started, time.perf_counter() - imported


def load_seconds(backend: str, model: Path, threads: int) -> tuple[float, float]:
    """Import and load time [s], to be measured in a new process."""
    _, *seconds = load(backend, model, threads)
    return seconds[0], seconds[1]


def run_case(backend: str, model: Path, data: Path, threads: int) -> None:
    """Print import and load time [s], and events/s for each batch size."""
    reco, *seconds = load(backend, model, threads)
    from dnn_reco.event_sources import read_events

    hits = read_events(data, reco.hits_settings).hits
    rates = [events_per_second(reco, hits, size) for size in BATCH_SIZES]
    print(*seconds, *rates)


def events_per_second(reco: "Reconstructor", hits: "Hits", batch_size: int) -> float:
    """Predictions per second, batch after batch, for some seconds."""
    starts = range(0, hits.num_events - batch_size + 1, batch_size)
    batches = [hits.part(start, start + batch_size) for start in starts]
    for batch in batches[:3]:
        reco.backend.predict(batch)
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < MIN_SECONDS:
        reco.backend.predict(batches[done % len(batches)])
        done += 1
    return done * batch_size / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--source", help="event file")
    parser.add_argument("--model", help="model folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--case", nargs=3, metavar=("BACKEND", "MODEL", "DATA"))
    options = parser.parse_args()
    if options.case:
        backend, model, data = options.case
        run_case(backend, Path(model), Path(data), options.threads)
        return
    titles = ("import [s]", "load [s]", *(f"b{size} [1/s]" for size in BATCH_SIZES))
    print(f"{'':32}" + "".join(f"{title:>12}" for title in titles))
    if options.model:
        if not options.source:
            parser.error("--model needs --source")
        for _ in range(options.repeat):
            print_case(options.model, "torch", options.model, options.source, options.threads)
        return
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, changes) in enumerate(NETWORKS.items()):
            place = Path(folder) / str(number)
            place.mkdir()
            model, data = make_model(place, options.source, changes)
            for _ in range(options.repeat):
                for backend in BACKENDS:
                    title = f"{name}, {backend}"
                    print_case(title, backend, str(model), str(data), options.threads)


def print_case(title: str, backend: str, model: str, data: str, threads: int) -> None:
    """Print a line of the table, measured by a new process."""
    words = [sys.executable, __file__, "--threads", str(threads), "--case", backend, model, data]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found = [float(word) for word in done.stdout.split()]
    shown = "".join(f"{value:12.2f}" for value in found[:2])
    shown += "".join(f"{value:12,.0f}" for value in found[2:])
    print(f"{title:32}{shown}", flush=True)


if __name__ == "__main__":
    main()
