"""`train` on a GPU: events per second and time waiting for data, by batch size and precision.

    python benchmarks/gpu_training.py [--source '/data/*.hdf5'] [--batch_sizes 32 256 1024 4096]

The tutorial's network with 5 kernels per layer; each combination of precision, compile and
data_on_device is a separate command. Rates are those of the second half of the iterations, without
start-up and compilation.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from made_up_run import make_run


def command(name: str, config_file: Path, *options: str) -> None:
    words = [sys.executable, "-m", "dnn_reco", name, str(config_file), *options]
    result = subprocess.run(words, check=False, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(result.stderr)


def measure(
    source: str | None, device: str, iterations: int, **changes: object
) -> tuple[float, float]:
    """Events per second, and fraction of the time spent waiting for data."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config_file = make_run(
            folder,
            source,
            validation_frequency=iterations // 2,
            num_training_iterations=iterations + 1,
            save_frequency=10 * iterations,
            validation_events=0,
            trafo_num_batches=4,
            **changes,
        )
        command("trafo", config_file)
        command("train", config_file, f"--device={device}", "--allow-overlap")
        lines = (folder / "logs" / "metrics.jsonl").read_text().splitlines()
        runs = [json.loads(line)["machine"] for line in lines]
    half, end = runs[-2:]
    seconds = end["seconds"] - half["seconds"]
    waited = [run["seconds"] * run["share_of_time_waiting_for_data"] for run in (half, end)]
    return iterations // 2 * int(str(changes["batch_size"])) / seconds, (
        waited[1] - waited[0]
    ) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", help="glob of HDF5 files to read")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[32, 256, 1024, 4096])
    parser.add_argument("--precisions", nargs="+", default=["tf32", "bf16"])
    options = parser.parse_args()
    print("| batch | precision | compile | data_on_device | events/s | waiting for data |")
    print("|---|---|---|---|---|---|")
    flags = (False, True)
    for batch_size, precision, compiled, resident in itertools.product(
        options.batch_sizes, options.precisions, flags, flags
    ):
        rate, waiting = measure(
            options.source,
            options.device,
            options.iterations,
            batch_size=batch_size,
            precision=precision,
            compile=compiled,
            data_on_device=resident,
        )
        row = (f"{batch_size:,}", precision, compiled, resident, f"{rate:,.0f}", f"{waiting:.1%}")
        print("|", " | ".join(map(str, row)), "|", flush=True)


if __name__ == "__main__":
    main()
