"""Prediction: hits in, labels and uncertainties out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.data.hits import Hits, check_hits, join_hits
from dnn_reco.errors import DataError
from dnn_reco.inference.prediction_table import PredictionTable
from dnn_reco.inference.trained_model import TrainedModel
from dnn_reco.nn.device import as_array
from dnn_reco.nn.ensemble import Mixture
from dnn_reco.nn.interface import NetworkSpec, Prediction
from dnn_reco.nn.misc_data import MiscData, MiscTransform
from dnn_reco.nn.own_network import call_network, needs_misc


class Reconstructor:
    """Applies a trained model to hits, wherever they come from.

    Parameters
    ----------
    model
        The model.
    batch_size
        Events that :meth:`reconstruct` predicts at once.
    """

    def __init__(self, model: TrainedModel, batch_size: int = 256) -> None:
        self.model = model
        self.batch_size = batch_size
        self._dtype = np.dtype(model.config.general.float_precision)

    @torch.inference_mode()
    def predict(self, hits: Hits, misc: NDArray[np.floating] | None = None) -> Prediction:
        """Predict all events of some hits as one batch, on the device of the model.

        Parameters
        ----------
        hits
            Hits of n events.
        misc
            Their misc data [n, M], the columns of the training; only some networks need them.

        Raises
        ------
        DataError
            If the hits are invalid or have another number of features than those of the training,
            or misc data that the network needs are missing.
        """
        check_hits(hits)
        if hits.num_features != self.model.spec.num_bins:
            raise DataError(
                f"'{self.model.name}' was trained with {self.model.spec.num_bins} features a DOM, "
                f"these hits have {hits.num_features}: read them in the data format of its training"
            )
        hits = replace(hits, features=hits.features.astype(self._dtype, copy=False))
        device = self.model.device
        on_device = HitBatch.from_hits(hits).to(device)
        return call_network(self.model.network, on_device, self._misc(misc, hits.num_events))

    def _misc(self, misc: NDArray[np.floating] | None, num_events: int) -> MiscData | None:
        """Misc data of a batch as networks read them; None where the network reads none."""
        if not needs_misc(self.model.network):
            return None
        names = self.model.misc_names
        if misc is None or misc.shape != (num_events, len(names)):
            raise DataError(
                f"the network of '{self.model.name}' reads misc data: give it those of its "
                f"{num_events} events as an array [{num_events}, {len(names)}] "
                f"({', '.join(names)}), of the misc loader of its training"
            )
        values = torch.from_numpy(np.ascontiguousarray(misc, dtype=self._dtype))
        transform = MiscTransform(self.model.spec.transformation).to(self.model.device)
        return transform.data(values.to(self.model.device))

    def reconstruct(
        self,
        chunks: Iterable[Hits],
        num_events: int | None = None,
        misc: NDArray[np.floating] | None = None,
    ) -> PredictionTable:
        """Predict all events of chunks of any size, in their order.

        Parameters
        ----------
        chunks
            Hits of some events each; no more than a batch and a chunk is kept in memory.
        num_events
            Number of all events, for a progress bar; None: no bar is shown.
        misc
            Misc data of all events [n, M], for networks that need them.
        """
        done = 0
        parts = [np.zeros((2, 0, len(self.model.label_names)))]
        with tqdm(
            total=num_events,
            desc="Reconstruction",
            unit="event",
            leave=False,
            disable=num_events is None or None,
        ) as bar:
            for hits in batches_of(chunks, self.batch_size):
                rows = slice(done, done + hits.num_events)
                prediction = self.predict(hits, None if misc is None else misc[rows])
                values = torch.stack([prediction.labels, prediction.uncertainty])
                parts.append(as_array(values))
                bar.update(hits.num_events)
                done = rows.stop
        has_log = self.model.spec.transformation.settings.log_label_bins
        return PredictionTable(self.model.label_names, has_log, *np.concatenate(parts, axis=1))


def batches_of(chunks: Iterable[Hits], batch_size: int) -> Iterator[Hits]:
    """The same events in batches of one size; the last may be smaller."""
    waiting: list[Hits] = []
    num_waiting = 0
    for chunk in chunks:
        check_hits(chunk)  # whole: cut into batches, wrong offsets would not be seen
        waiting.append(chunk)
        num_waiting += chunk.num_events
        if num_waiting >= batch_size:
            joined = join_hits(waiting)
            stop = num_waiting - num_waiting % batch_size
            for start in range(0, stop, batch_size):
                yield joined.part(start, start + batch_size)
            waiting, num_waiting = [joined.part(stop, num_waiting)], num_waiting - stop
    if num_waiting > 0:
        yield join_hits(waiting)


def mix(tables: Sequence[PredictionTable], spec: NetworkSpec) -> PredictionTable:
    """Predictions of several models for the same events as the mixture of their densities.

    Parameters
    ----------
    tables
        Predictions of each.
    spec
        Names and transformation of the labels.
    """
    mixed = Mixture(spec).mix(
        torch.from_numpy(np.stack([table.labels for table in tables])),
        torch.from_numpy(np.stack([table.uncertainty for table in tables])),
    )
    return replace(tables[0], labels=mixed.labels.numpy(), uncertainty=mixed.uncertainty.numpy())
