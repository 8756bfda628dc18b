"""Fit test events with the true light model, and compute the bound at their truth.

    python benchmarks/limit/measure.py cascades bound --out limit --events 500
    python benchmarks/limit/measure.py cascades fit --out limit --events 100

The results are `<out>/<kind>/bound.npz` and `fit.npz`. They are written after every few events, and
a call that was stopped continues there.
"""

import argparse
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from bound import bound
from events import KINDS, Kind, samples
from fit import climb, fit
from hypotheses import Hypotheses, Local
from likelihood import Hits
from limit_network import TEST
from numpy.typing import NDArray

from dnn_reco.files import temporary_beside

_SAVE_EVERY = 5

Columns = dict[str, NDArray[np.float64]]


def test_events(kind: Kind, num: int, seed: int) -> list[tuple[Hypotheses, Hits]]:
    """Truth and photo-electrons of the first events of the test."""
    blocks = samples(kind, num, [seed, TEST])
    every = ((s.truth[[i]], s.hits(i)) for s in blocks for i in range(len(s.truth)))
    return list(islice(chain(every), num))


def bound_of(kind: Kind, truth: Hypotheses, hits: Hits) -> Columns:
    """Truth and bound of an event."""
    smallest = bound(kind.likelihood(), Local(truth, kind.is_track))
    values = {
        "num_hits": len(hits),
        "log_energy": truth.log_energy.item(),
        "direction": truth.direction[0].numpy(),
        "bound_direction": smallest.direction,
        "bound_log_energy": smallest.log_energy,
    }
    return {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}


def fit_of(kind: Kind, truth: Hypotheses, hits: Hits) -> Columns:
    """Results of the fit, and of one that starts at the truth; `gain` is ln L minus its truth."""
    likelihood = kind.likelihood()
    found = fit(likelihood, hits, kind.is_track)
    near_truth = climb(likelihood, hits, truth, kind.is_track)
    with torch.no_grad():
        at_truth = likelihood.log(truth, hits).item()
    values = {
        "fit_direction": found.best.direction[0].numpy(),
        "fit_log_energy": found.best.log_energy.item(),
        "fit_gain": found.log_likelihood - at_truth,
        "near_gain": near_truth.log_likelihood - at_truth,
    }
    return {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}


PASSES = {"bound": bound_of, "fit": fit_of}
"""What can be computed; the names of the files are `<name>.npz`."""


def load(path: Path) -> Columns:
    """Results [n, ...] of earlier calls by name; empty if there are none."""
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def save(path: Path, columns: Columns) -> None:
    """Write results under a temporary name, and rename them."""
    with temporary_beside(path) as folder:
        np.savez(folder / path.name, **columns)
        (folder / path.name).replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("what", choices=sorted(PASSES))
    parser.add_argument("--out", type=Path, default=Path("limit"))
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kind, path = KINDS[options.kind], options.out / options.kind / f"{options.what}.npz"
    done = load(path)
    first = len(next(iter(done.values()), ()))
    rows = [{name: column[i] for name, column in done.items()} for i in range(first)]
    for number, event in enumerate(test_events(kind, options.events, options.seed)):
        if number < first:
            continue
        rows.append(PASSES[options.what](kind, *event))
        if (number + 1) % _SAVE_EVERY == 0 or number + 1 == options.events:
            save(path, {name: np.stack([row[name] for row in rows]) for name in rows[0]})
            print(f"\r{kind.name}, {options.what}: {number + 1} events", end="", flush=True)
    print()


if __name__ == "__main__":
    main()
