"""What `bench.py` measures: the lines of its table, with goals and the reference's rows."""

from typing import NamedTuple

BYTES = {"MiB": 2**20, "GB": 1e9}


class Goal(NamedTuple):
    """A bound on a figure, or on its ratio to the reference (larger is better)."""

    sign: str  # ≥ or <
    value: float
    of_ratio: bool = False

    def __str__(self) -> str:
        return f"{self.sign} {self.value:,.10g}{' ×' if self.of_ratio else ''}"

    def is_met(self, value: float, ratio: float | None) -> bool:
        """Whether a figure meets it, with its ratio to the reference if that is known."""
        found = ratio if self.of_ratio else value
        if found is None:
            return False
        return found >= self.value if self.sign == "≥" else found < self.value


class Quantity(NamedTuple):
    """A figure: a row of results.json."""

    name: str
    case: str  # that measures it
    goal: Goal | None = None
    reference: str | None = None  # row of reference.py


class Line(NamedTuple):
    """A line of the summary, whose quantities stand side by side."""

    title: str
    unit: str
    quantities: tuple[Quantity, ...]


def at_least(value: float) -> Goal:
    return Goal("≥", value)


def below(value: float) -> Goal:
    return Goal("<", value)


def times_the_reference(value: float) -> Goal:
    return Goal("≥", value, of_ratio=True)


def is_better_if_larger(unit: str) -> bool:
    return unit.endswith("/s")


PARTS = {
    "machine": ("machine",),
    "read": ("read_zlib", "read_deflate"),
    "batches": ("batches",),
    "trafo": ("trafo_fit", "trafo_command"),
    "count": ("count",),
    "train": ("train",),
    "step": ("step",),
    "predict": ("predict",),
    "transformer": ("transformer", "busy_transformer"),
    "memory": ("memory",),
    "config": ("config_check",),
    "model": ("model",),
    "stop": ("stop",),
    "i3": ("i3",),
    "simulation": ("simulation",),
}
"""Names for `--parts`, and the cases of each: a case is a process."""

MATRIX, COPY = "matrix product", "copy"
MACHINE = (
    Line(
        "matrix product of 2048², float32, two threads", "GFLOP/s", (Quantity(MATRIX, "machine"),)
    ),
    Line("copy, one thread", "GB/s", (Quantity(COPY, "machine"),)),
)

SUMMARY = (
    Line(
        "reading HDF5, one process and thread",
        "events/s",
        (Quantity("read", "read_zlib", times_the_reference(20), "read"),),
    ),
    Line(
        "the same with the extra `fastread`",
        "events/s",
        (Quantity("read, fastread", "read_deflate", times_the_reference(40), "read"),),
    ),
    Line(
        "peak memory of reading",
        "GB",
        (Quantity("read, peak memory", "read_zlib", below(0.3), "read, peak memory"),),
    ),
    Line(
        "batches of 32 / 1,024 from the event store, one thread",
        "events/s",
        tuple(
            Quantity(f"batches of {size:,}", "batches", at_least(50_000), "read")
            for size in (32, 1024)
        ),
    ),
    Line(
        "transformation model, fit alone, one thread",
        "events/s",
        (Quantity("trafo, fit", "trafo_fit", at_least(100_000)),),
    ),
    Line(
        "`trafo`, 640 events, with a new event store",
        "s",
        (Quantity("trafo", "trafo_command", below(1), "trafo"),),
    ),
    Line("`count`, one file", "s", (Quantity("count", "count", below(0.35), "count"),)),
    Line(
        "start of `train` to the end of its first step",
        "s",
        (Quantity("train, first step", "train", below(3.3), "train, end of first step"),),
    ),
    Line(
        "`train` of 120 iterations of 32 events, whole command",
        "s",
        (Quantity("train", "train", below(9.5), "train"),),
    ),
    Line(
        "the same, training loop alone",
        "events/s",
        (Quantity("train, loop", "train", at_least(830), "train, steps 1 to 100"),),
    ),
    Line(
        "training step in memory, batch 32: alone / beside one / two programs",
        "events/s",
        (
            Quantity("step", "step", at_least(1180), "step"),
            Quantity("step, beside 1", "step", at_least(340), "step, beside 1"),
            Quantity("step, beside 2", "step", None, "step, beside 2"),
        ),
    ),
    Line(
        "prediction in memory, batch 1 / 32 / 256",
        "events/s",
        tuple(
            Quantity(f"predict, batch {size}", "predict", goal, f"predict, batch {size}")
            for size, goal in ((1, at_least(560)), (32, at_least(3600)), (256, at_least(4500)))
        ),
    ),
    Line(
        "time of a prediction, batch 1: 99 % quantile / median",
        "",
        (Quantity("predict, batch 1, p99 / median", "predict"),),
    ),
    Line(
        "transformer S, one thread: training, batch 64",
        "events/s",
        (Quantity("transformer S, step", "transformer", at_least(1000)),),
    ),
    Line(
        "the same, two threads: alone / beside one program",
        "events/s",
        (
            Quantity("transformer S, two threads", "busy_transformer"),
            Quantity("transformer S, two threads, beside 1", "busy_transformer"),
        ),
    ),
    Line(
        "transformer S, one thread: prediction, batch 1 / 32",
        "events/s",
        (
            Quantity("transformer S, predict, batch 1", "transformer", at_least(1000)),
            Quantity("transformer S, predict, batch 32", "transformer", at_least(4000)),
        ),
    ),
    Line(
        "peak memory of training: this network / transformer S / M",
        "GB",
        (
            Quantity("train, peak memory", "train", below(0.6), "train, peak memory"),
            Quantity("transformer S, peak memory", "memory", below(1)),
            Quantity("transformer M, peak memory", "memory", below(2)),
        ),
    ),
    Line("`config check`", "s", (Quantity("config check", "config_check", below(1)),)),
    Line(
        "`export` of a model / loading it",
        "s",
        (Quantity("export", "model", below(3)), Quantity("load", "model", below(1))),
    ),
    Line("Ctrl-C in a training to its end", "s", (Quantity("Ctrl-C", "stop", below(2)),)),
    Line(
        "`.i3` file to features, one thread",
        "events/s",
        (Quantity("i3 to features", "i3", at_least(500)),),
    ),
    Line(
        "simulation to files, 1–100 TeV, one thread: neutrinos / muons",
        "events/s",
        (
            Quantity("simulation, neutrinos", "simulation", at_least(150)),
            Quantity("simulation, muons", "simulation", at_least(150)),
        ),
    ),
)

UNITS = {each.name: line.unit for line in (*MACHINE, *SUMMARY) for each in line.quantities}
QUANTITIES = {each.name: each for line in (*MACHINE, *SUMMARY) for each in line.quantities}
