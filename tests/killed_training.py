"""A training that is killed repeatedly, at random times."""

import multiprocessing
import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import torch
from small_run import ON_CPU, SmallRun
from tqdm import tqdm

from dnn_reco.checkpoint_file import latest_path, load_latest
from dnn_reco.commands.train import run_stages
from dnn_reco.config import load_stages

NEVER = 10**9
"""Iterations that no training reaches before it is killed."""

_PRELOADED = ["dnn_reco.commands.train", "torch._dynamo", "torch.utils.tensorboard.writer"]


@dataclass(frozen=True)
class Kill:
    """The state after one `kill -9`.

    Attributes
    ----------
    reached
        Iterations that were done for certain.
    kept
        Iterations of the newest whole checkpoint.
    unfinished
        Whether the kill came in the middle of writing a checkpoint.
    """

    reached: int
    kept: int
    unfinished: bool


def train_and_kill(run: SmallRun, kills: int, seed: int) -> Iterator[Kill]:
    """Train, kill and resume repeatedly; the config must validate in every iteration.

    The processes come from a server that has imported everything already: a process of its own for
    each training, which begins at once.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    rng = np.random.default_rng(seed)
    save_frequency = run.config().training.save_frequency
    for number in range(kills):
        output = run.folder / f"output_{number}.txt"
        process = context.Process(target=_train, args=(run, output))
        before = _kept(run)
        process.start()
        _let_it_run(process, output, before + int(rng.integers(0, 2 * save_frequency + 1)))
        time.sleep(rng.uniform(0, 0.03))
        process.kill()
        process.join()
        unfinished = any(run.checkpoints.glob(".tmp-checkpoint-*"))
        yield Kill(max(before, _reached(output)), _kept(run), unfinished)


def differences(run: SmallRun, iterations: int) -> list[str]:
    """Finish a killed training, and train without a kill: differences of their checkpoints."""
    whole = run.folder / "whole"
    paths = {"model_checkpoint_path": str(whole / "model"), "log_path": str(whole / "logs")}
    states = []
    for changes in ({}, paths):
        overrides = {"num_training_iterations": iterations, **changes}
        stages = load_stages([run.config_file], overrides)
        run_stages(stages, ON_CPU)
        checkpoint = load_latest(Path(stages[-1].model.model_checkpoint_path))
        assert checkpoint is not None
        assert checkpoint.progress.iterations == iterations
        states.append(checkpoint.tensors)
    killed, undisturbed = states
    names = sorted(killed.keys() | undisturbed.keys())
    none = torch.zeros(0)
    return [n for n in names if not torch.equal(killed.get(n, none), undisturbed.get(n, none))]


def _train(run: SmallRun, output: Path) -> None:
    tqdm.set_lock(threading.RLock())  # the usual one, for several processes, survives a kill
    with output.open("w", buffering=1) as sys.stdout:
        run_stages(load_stages([run.config_file], {"num_training_iterations": NEVER}), ON_CPU)


def _let_it_run(process: BaseProcess, output: Path, iterations: int) -> None:
    """Wait until this number of iterations is done."""
    while _reached(output) < iterations:
        if not process.is_alive():
            raise RuntimeError("the training ended by itself")
        time.sleep(0.001)


def _reached(output: Path) -> int:
    """Iterations that a training has done: one more than the last one that it printed."""
    text = output.read_text() if output.is_file() else ""
    return max((int(number) + 1 for number in re.findall(r"Step: (\d+),", text)), default=0)


def _kept(run: SmallRun) -> int:
    path = latest_path(run.checkpoints)
    return 0 if path is None else int(path.name.removeprefix("checkpoint-"))
