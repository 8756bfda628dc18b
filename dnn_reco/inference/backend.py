"""What computes the predictions of a model: PyTorch, or ONNX Runtime where torch is absent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.file_events import FileEvents
from dnn_reco.data.hits import Hits, check_hits, join_hits
from dnn_reco.errors import DataError
from dnn_reco.inference.model_info import ModelInfo
from dnn_reco.nn.density_layout import total_width
from dnn_reco.progress import Progress


@dataclass(frozen=True)
class NetworkOutput:
    """What a network predicts for n events, as arrays [n, L] of all its labels.

    Attributes
    ----------
    labels_trafo, uncertainty_trafo
        Labels and their uncertainties in the transformed (normalised) space.
    labels, uncertainty
        The same in physical units; for labels with logarithm the uncertainty is that of ln(1 + x).
    shapes
        Shapes of densities [n, P], as `ModelInfo.densities` defines; P is 0 without such
        densities. None is replaced by no columns.
    """

    labels_trafo: NDArray[np.floating]
    uncertainty_trafo: NDArray[np.floating]
    labels: NDArray[np.floating]
    uncertainty: NDArray[np.floating]
    shapes: NDArray[np.floating] = cast(NDArray[np.floating], None)  # noqa: RUF009

    def __post_init__(self) -> None:
        if cast(NDArray[np.floating] | None, self.shapes) is None:
            object.__setattr__(self, "shapes", np.zeros((len(self.labels), 0), self.labels.dtype))


class Backend(Protocol):
    """Computes the predictions of one model. Several threads may call it at once."""

    @property
    def info(self) -> ModelInfo:
        """What the model predicts and reads."""

    def predict(self, hits: Hits, misc: NDArray[np.floating] | None = None) -> NetworkOutput:
        """Predict all events of some hits as one batch.

        Parameters
        ----------
        hits
            Valid hits of n events, n > 0, with the features of the model.
        misc
            Their misc data [n, M], in the order of `info.misc_names`.
        """

    def predict_transformed(
        self, main: NDArray[np.floating], deepcore: NDArray[np.floating]
    ) -> NetworkOutput:
        """Predict from dense arrays that are transformed already.

        Parameters
        ----------
        main, deepcore
            [n, 10, 10, 60, F] and [n, 8, 60, F].

        Raises
        ------
        ModelError
            If the network does not read such arrays.
        """

    def read_misc(self, path: Path, events: FileEvents) -> NDArray[np.floating] | None:
        """Misc data [n, M] of the events of a file; None: the network reads none."""

    def members(self) -> Sequence[Backend]:
        """One for each network of an ensemble; itself where there is one network.

        Raises
        ------
        ModelError
            If the networks of an ensemble cannot be had alone.
        """


def predict_chunks(
    backend: Backend,
    chunks: Iterable[Hits],
    batch_size: int,
    num_events: int | None = None,
    misc: NDArray[np.floating] | None = None,
) -> NetworkOutput:
    """Predict all events of chunks of any size, in their order; arrays in float64.

    Parameters
    ----------
    backend
        What computes.
    chunks
        Hits of some events each; no more than a batch and a chunk is kept in memory.
    batch_size
        Events to predict at once.
    num_events
        Number of all events, for a progress bar; None: no bar is shown.
    misc
        Misc data of all events [n, M], for networks that need them.

    Raises
    ------
    DataError
        If hits are invalid or have other features than those of the training, or misc data that
        the network needs are missing.
    """
    outputs: list[NetworkOutput] = []
    done = 0
    shown = num_events is not None
    with Progress(num_events, "Reconstruction", "events", shown=shown) as progress:
        for hits in batches_of(chunks, batch_size):
            check_features(backend.info, hits)
            rows = slice(done, done + hits.num_events)
            outputs.append(backend.predict(hits, _part_of(misc, rows, backend.info)))
            progress.update(hits.num_events)
            done = rows.stop
    return joined_outputs(outputs, backend.info)


def joined_outputs(outputs: Sequence[NetworkOutput], info: ModelInfo) -> NetworkOutput:
    """The events of several outputs of a model, one after the other, in float64."""
    widths = dict.fromkeys((field.name for field in fields(NetworkOutput)), len(info.labels))
    widths["shapes"] = total_width(info.densities)
    return NetworkOutput(
        *(
            np.concatenate([np.zeros((0, width)), *(getattr(each, name) for each in outputs)])
            for name, width in widths.items()
        )
    )


def check_features(info: ModelInfo, hits: Hits) -> None:
    """Check that hits have the number of features that a model reads.

    Raises
    ------
    DataError
        If they have another one.
    """
    if hits.num_features != info.num_features:
        raise DataError(
            f"'{info.name}' was trained with {info.num_features} features a DOM, "
            f"but these hits have {hits.num_features}: read them in the data format of its training"
        )


def _part_of(
    misc: NDArray[np.floating] | None, rows: slice, info: ModelInfo
) -> NDArray[np.floating] | None:
    """Misc data of a batch; None where the network reads none."""
    names = info.misc_names
    if not names:
        return None
    part = None if misc is None else misc[rows]
    num_events = rows.stop - rows.start
    if part is None or part.shape != (num_events, len(names)):
        raise DataError(
            f"the network of '{info.name}' reads misc data: give the values of its {num_events} "
            f"events as an array [{num_events}, {len(names)}] ({', '.join(names)}), of the misc "
            "loader of its training"
        )
    return part


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
