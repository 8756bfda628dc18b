"""Which events a training with biased selection sees (`nn_biased_selection`), batch after batch.

All of it is a function of the seed, the data and the weights that the network had at certain
iterations; the state below is all that a checkpoint needs to continue with the same events.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.hit_batch import TensorBatch
from dnn_reco.data.loader import PrefetchLoader
from dnn_reco.data.sampling import EventOrder, stream_key
from dnn_reco.data.selection import (
    Residuals,
    SelectionCriterion,
    choose,
    interesting,
    repeat_shuffled,
)
from dnn_reco.nn.interface import Network
from dnn_reco.nn.label_transform import LabelTransform, residual_trafo
from dnn_reco.nn.misc_data import MiscTransform
from dnn_reco.nn.own_network import call_network
from dnn_reco.nn.threads import at_most_threads

_log = logging.getLogger(__name__)

# After so many pools without a single interesting event, pools are used as they are.
_PATIENCE = 10
_LABELS_AT_ONCE = 4096


@dataclass(frozen=True)
class SelectionSettings:
    """How to select; see :mod:`dnn_reco.data.selection`.

    Attributes
    ----------
    criteria
        What makes an event interesting.
    fraction
        Share of interesting events in the sample.
    max_imbalance
        See :func:`dnn_reco.data.selection.choose`.
    pool_size
        Events on offer at a time.
    num_repetitions
        How often each chosen event of a pool is used.
    reload_frequency
        Pools after which the predicting network takes the current weights; None: never again.
    prediction_batch_size
        Events predicted at once.
    """

    criteria: tuple[SelectionCriterion, ...]
    fraction: float
    max_imbalance: int
    pool_size: int
    num_repetitions: int
    reload_frequency: int | None
    prediction_batch_size: int

    @property
    def needs_predictions(self) -> bool:
        """Whether any criterion compares with a prediction."""
        return any(criterion.needs_prediction for criterion in self.criteria)


class Snapshot:
    """A network as it was at some time, beside the one in training.

    Parameters
    ----------
    network
        The network in training. Nothing here changes it, its mode, or any random numbers.
    label_transform
        Transformation of its labels.
    azimuth_period
        Period of each label in transformed units [L], inf where there is none.
    misc_transform
        Transformation of the misc data, for networks that read them.
    num_threads
        CPU threads to use at most; None or 0: as many as the training.
    """

    def __init__(
        self,
        network: Network,
        label_transform: LabelTransform,
        azimuth_period: Tensor,
        misc_transform: MiscTransform | None = None,
        num_threads: int | None = None,
    ) -> None:
        self._network = network
        self._label_transform = label_transform
        self._misc_transform = misc_transform
        self._num_threads = num_threads
        self._period_trafo = azimuth_period
        self._period = label_transform.unscale_uncertainty(azimuth_period)
        self._copy = copy.deepcopy(network)
        self._copy.eval()

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self._period.device

    def refresh(self) -> None:
        """Take over the weights that the network has now."""
        self._copy.load_state_dict(self._network.state_dict())

    @torch.no_grad()
    def residuals(self, batch: TensorBatch) -> Residuals:
        """What the network of that time gets wrong; azimuth angles are compared across 2π."""
        transform = self._misc_transform
        misc = None if transform is None else transform.data(batch.misc)
        with at_most_threads(self._num_threads):
            predicted = call_network(self._copy, batch.hits, misc)
        true_trafo = self._label_transform(batch.labels)
        return Residuals(
            -residual_trafo(predicted.labels, batch.labels, self._period),
            -residual_trafo(predicted.labels_trafo, true_trafo, self._period_trafo),
            predicted.uncertainty_trafo,
        )

    def state(self) -> dict[str, Tensor]:
        """Its weights by name."""
        return dict(self._copy.state_dict())

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over weights that `state` gave."""
        self._copy.load_state_dict(state)


class BiasedSelection:
    """Event numbers of batch after batch, chosen pool by pool.

    Attributes
    ----------
    seconds
        Time that choosing has taken so far.
    num_chosen
        Events chosen in that time, each as often as it is used.
    interesting_share
        Share of interesting events in the pool that was offered last.
    balance
        By how many the random events taken exceed those that the fraction asks for.

    Parameters
    ----------
    settings
        How to select.
    events
        The data.
    order
        The order in which they are offered.
    batch_size
        Events of a batch.
    snapshot
        The network that predicts; None if no criterion needs a prediction.
    """

    def __init__(
        self,
        settings: SelectionSettings,
        events: EventDataset,
        order: EventOrder,
        batch_size: int,
        snapshot: Snapshot | None,
    ) -> None:
        self.settings = settings
        self.seconds = 0.0
        self.num_chosen = 0
        self.interesting_share = 0.0
        self.balance = 0.0
        self._events, self._order, self._batch_size = events, order, batch_size
        self._snapshot = snapshot
        self._snapshot_pool = -1  # for which pool the snapshot was taken
        self._pool = 0  # the next one
        self._empty_pools = 0  # without an interesting event, one after the other
        self._chosen = np.empty(0, dtype=np.int64)  # not trained yet
        self._asked_for = 0  # how many of these are on their way already
        self._reported: set[int] = set()

    def batches(
        self, interrupted: Callable[[], object] = lambda: False
    ) -> Iterator[NDArray[np.int64]]:
        """Event numbers of the batches from the next one to be trained on.

        They end early if `interrupted` becomes true while a pool is searched. That pool is
        then left for the next time, and none of the batches that are on their way may be trained
        on: the weights must be the same when it is searched again.
        """
        self._asked_for = 0
        while self._choose_enough(interrupted):
            start = self._asked_for
            self._asked_for += self._batch_size
            yield self._chosen[start : self._asked_for]

    def batch_is_trained(self) -> None:
        """Take note that one more of the batches was used: a checkpoint need not hold it."""
        self._chosen = self._chosen[self._batch_size :]
        self._asked_for -= self._batch_size

    def _choose_enough(self, interrupted: Callable[[], object]) -> bool:
        """Go through pools until there is another batch; returns whether there is."""
        start = time.perf_counter()
        while len(self._chosen) < self._asked_for + self._batch_size:
            marked = self._select_from_pool(interrupted)
            if marked is None:
                return False
            self._choose_from_pool(marked)
        self.seconds += time.perf_counter() - start
        return True

    def _offered(self) -> NDArray[np.int64]:
        """Event numbers of the pool."""
        return self._order.batch(self._pool, self.settings.pool_size)

    def _select_from_pool(self, interrupted: Callable[[], object]) -> NDArray[np.bool_] | None:
        """Which events of the pool are interesting; None if interrupted."""
        offered = self._offered()
        if self._snapshot is None:
            parts = self._marked_by_label(_split(offered, _LABELS_AT_ONCE))
        else:
            self._refresh_if_due(self._snapshot)
            batches = _split(offered, self.settings.prediction_batch_size)
            parts = self._marked_by_prediction(self._snapshot, batches)
        marked = []
        for part in parts:
            if interrupted():
                return None
            marked.append(part.cpu().numpy())
        return np.concatenate(marked)

    def _refresh_if_due(self, snapshot: Snapshot) -> None:
        frequency = self.settings.reload_frequency
        due = frequency is not None and self._pool % frequency == 0
        if due or self._snapshot_pool < 0:
            snapshot.refresh()
            self._snapshot_pool = self._pool

    def _marked_by_label(self, parts: Iterable[NDArray[np.int64]]) -> Iterator[Tensor]:
        for numbers in parts:
            labels = torch.from_numpy(self._events.read_labels(numbers))
            yield interesting(self.settings.criteria, labels, None)

    def _marked_by_prediction(
        self, snapshot: Snapshot, parts: Iterable[NDArray[np.int64]]
    ) -> Iterator[Tensor]:
        on_gpu = snapshot.device.type == "cuda"
        with PrefetchLoader(self._events, parts, pin=on_gpu) as batches:
            for batch in batches:
                there = batch.to(snapshot.device)
                yield interesting(self.settings.criteria, there.labels, snapshot.residuals(there))

    def _choose_from_pool(self, marked: NDArray[np.bool_]) -> None:
        """Choose events of the pool, and continue with the next one."""
        settings, key = self.settings, stream_key(self._order.seed, "biased selection", self._pool)
        self.interesting_share = float(marked.mean())
        self._empty_pools = 0 if marked.any() else self._empty_pools + 1
        looked_through = self._empty_pools * settings.pool_size
        if looked_through >= min(_PATIENCE * settings.pool_size, len(self._events)):
            self._report_once(
                logging.WARNING,
                f"nn_biased_selection: none of the last {looked_through:,} available events is "
                "interesting, so training uses them without selection. Check the criteria; if "
                "such events are rare, raise num_add_files.",
            )
            chosen = np.arange(len(marked))
        else:
            chosen, self.balance = choose(
                marked, settings.fraction, self.balance, settings.max_imbalance, key
            )
            if len(chosen) == len(marked) and self.interesting_share > settings.fraction:
                self._report_once(
                    logging.INFO,
                    f"nn_biased_selection: {self.interesting_share:.0%} of the available events "
                    "are interesting, more than the biased_fraction of "
                    f"{settings.fraction:.0%}: all events are used.",
                )
        again = repeat_shuffled(self._offered()[chosen], settings.num_repetitions, key)
        self._chosen = np.concatenate([self._chosen, again])
        self.num_chosen += len(again)
        self._pool += 1

    def _report_once(self, level: int, text: str) -> None:
        if level not in self._reported:
            self._reported.add(level)
            _log.log(level, text)

    def remark(self, seconds: float) -> str:
        """How selecting goes, for the progress bar; `seconds` is the time since the start."""
        return (
            f"{self.interesting_share:.1%} of events interesting, {self.seconds / seconds:.1%} of "
            "the time spent on selection"
        )

    def scalars(self, seconds: float) -> dict[str, float]:
        """The same for TensorBoard."""
        return {
            "biased_selection/interesting_share": self.interesting_share,
            "biased_selection/balance": self.balance,
            "biased_selection/share_of_time": self.seconds / seconds,
        }

    def state(self) -> dict[str, Tensor]:
        """All that the events to come depend on, for a checkpoint."""
        state = {
            "pool": torch.tensor(self._pool),
            "barren_pools": torch.tensor(self._empty_pools),
            "balance": torch.tensor(self.balance, dtype=torch.float64),
            "chosen": torch.from_numpy(self._chosen.copy()),
            "num_events": torch.tensor(len(self._events)),
        }
        if self._snapshot is not None:
            state["snapshot_pool"] = torch.tensor(self._snapshot_pool)
            state |= {f"snapshot/{name}": t for name, t in self._snapshot.state().items()}
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state from a checkpoint; {} if there was no biased selection then."""
        if not state:
            _log.info("Biased selection begins now: the checkpoint was trained without it.")
            return
        if int(state["num_events"]) != len(self._events):
            _log.warning(
                "Biased selection restarts: there are %d training events now, but there were %d "
                "when the checkpoint was written.",
                len(self._events),
                int(state["num_events"]),
            )
            return
        self._pool = int(state["pool"])
        self._empty_pools = int(state["barren_pools"])
        self.balance = float(state["balance"])
        self._chosen = state["chosen"].numpy()
        if self._snapshot is not None and "snapshot_pool" in state:
            self._snapshot_pool = int(state["snapshot_pool"])
            start = "snapshot/"
            weights = {k[len(start) :]: t for k, t in state.items() if k.startswith(start)}
            self._snapshot.restore(weights)


def _split(numbers: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """Parts of so many numbers; the last one may be shorter."""
    return (numbers[start : start + size] for start in range(0, len(numbers), size))
