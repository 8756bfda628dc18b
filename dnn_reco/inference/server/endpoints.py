"""What a served model reads and returns: hits under its own name, pulses under `<name>_pulses`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.hits import Hits, check_hits, join_hits
from dnn_reco.data.pulses import Pulses, join, no_pulses
from dnn_reco.detector.geometry import NUM_STRINGS, dom_index
from dnn_reco.errors import DnnRecoError
from dnn_reco.inference.model_info import ModelInfo
from dnn_reco.inference.reconstructor import Reconstructor
from dnn_reco.inference.server.micro_batches import Columns
from dnn_reco.inference.server.protocol import RequestError, TensorSpec

Tensors: TypeAlias = "Mapping[str, NDArray[Any]]"

_Source = TypeVar("_Source", Hits, Pulses)

LAST_OM = 64  # with the surface tanks, whose pulses count in time offsets only
MAX_TIME = 1e9  # ns: a readout takes less than a ten-thousandth of that


@dataclass(frozen=True)
class RequestEvents(Generic[_Source]):
    """The n events of a request.

    Attributes
    ----------
    source
        Their hits or pulses, valid.
    num_events
        Number of events n.
    time_offset
        Time [n] that their hits are relative to, ns; NaN where it is not known.
    misc
        Their misc data [n, M], for models that read them.
    """

    source: _Source
    num_events: int
    time_offset: NDArray[np.float64]
    misc: NDArray[np.float64] | None


@dataclass(frozen=True)
class Endpoint(Generic[_Source]):
    """One way to use a model.

    Attributes
    ----------
    name
        The name that it is served under.
    reconstructor
        The model.
    inputs, outputs
        Its input and output tensors.
    read_source
        Makes hits or pulses of the input tensors.
    join_sources
        Joins those of several requests.
    """

    name: str
    reconstructor: Reconstructor
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    read_source: Callable[[Tensors, ModelInfo], _Source]
    join_sources: Callable[[Sequence[_Source]], _Source]

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return tuple(spec.name for spec in self.outputs)

    def read(self, tensors: Tensors) -> RequestEvents[_Source]:
        """The events in the input tensors of a request.

        Raises
        ------
        DataError
            If they do not describe valid events.
        """
        source = self.read_source(tensors, self.reconstructor.info)
        n = source.num_events
        time_offset = tensors.get("time_offset", np.zeros(n)).astype(np.float64)
        misc = tensors.get("misc")
        for name, array in (("time_offset", time_offset), ("misc", misc)):
            if array is not None and len(array) != n:
                raise RequestError(f"'{name}' has {len(array)} rows for {n} events")
        return RequestEvents(source, n, time_offset, misc)

    def predict(self, requests: Sequence[RequestEvents[_Source]]) -> Columns:
        """Predictions of the events of several requests, one after the other."""
        source = self.join_sources([request.source for request in requests])
        misc = [request.misc for request in requests if request.misc is not None]
        time_offset = np.concatenate([request.time_offset for request in requests])
        table = self.reconstructor.predict(
            source,
            misc=np.concatenate(misc) if misc else None,
            time_offset=time_offset if isinstance(source, Hits) else None,
        )
        assert table.status is not None
        return {**table.columns(), "status": table.status}


def endpoints_of(reconstructor: Reconstructor) -> tuple[Endpoint[Hits] | Endpoint[Pulses], ...]:
    """The ways to use a model: by hits, and by pulses where its features can be computed."""
    info = reconstructor.info
    outputs = _outputs(reconstructor)
    hits = Endpoint(
        info.name,
        reconstructor,
        hit_inputs(info),
        outputs,
        read_source=_hits,
        join_sources=join_hits,
    )
    if not _reads_pulses(reconstructor):
        return (hits,)
    pulses = Endpoint(
        f"{info.name}_pulses",
        reconstructor,
        pulse_inputs(info),
        outputs,
        read_source=_pulses,
        join_sources=join,
    )
    return hits, pulses


def _reads_pulses(reconstructor: Reconstructor) -> bool:
    """Whether the features of the model can be computed from pulses alone."""
    try:
        reconstructor.events_of_pulses(no_pulses())
    except DnnRecoError as error:
        log = logging.getLogger(__name__)
        log.info("'%s' is served for hits only: %s", reconstructor.info.name, error)
        return False
    return True


def hit_inputs(info: ModelInfo) -> tuple[TensorSpec, ...]:
    """Input tensors for hits."""
    return (
        TensorSpec("offsets", ("INT64", "INT32")),
        TensorSpec("dom", ("INT64", "INT32", "UINT16")),
        TensorSpec("features", ("FP32", "FP64"), (-1, info.num_features)),
        TensorSpec("time_offset", ("FP64",), is_optional=True),
        *_misc_input(info),
    )


def pulse_inputs(info: ModelInfo) -> tuple[TensorSpec, ...]:
    """Input tensors for pulses."""
    return (
        TensorSpec("offsets", ("INT64", "INT32")),
        TensorSpec("string", ("INT32", "INT64")),
        TensorSpec("om", ("INT32", "INT64")),
        TensorSpec("time", ("FP64",)),
        TensorSpec("charge", ("FP64", "FP32")),
        TensorSpec("flags", ("UINT8",), is_optional=True),
        *_misc_input(info),
    )


def _misc_input(info: ModelInfo) -> tuple[TensorSpec, ...]:
    names = info.misc_names
    return (TensorSpec("misc", ("FP64", "FP32"), (-1, len(names))),) if names else ()


def _outputs(reconstructor: Reconstructor) -> tuple[TensorSpec, ...]:
    """Output tensors, as the prediction of no events at all has them."""
    info = reconstructor.info
    nothing = Hits(np.zeros(1, np.int64), np.zeros(0, np.uint16), np.zeros((0, info.num_features)))
    table = reconstructor.predict(nothing, misc=np.zeros((0, len(info.misc_names))))
    columns = tuple(TensorSpec(name, ("FP64",)) for name in table.columns())
    return (*columns, TensorSpec("status", ("INT32",)))


def _hits(tensors: Tensors, info: ModelInfo) -> Hits:
    dom = tensors["dom"]
    with np.errstate(over="ignore"):  # a number that is too large becomes infinite, and is refused
        features = tensors["features"].astype(info.float_precision)
    hits = Hits(_offsets(tensors, len(dom)), dom, features)
    check_hits(hits)
    return replace(hits, dom=dom.astype(np.uint16))


def _pulses(tensors: Tensors, info: ModelInfo) -> Pulses:
    """Pulses, put into the order of `Pulses`."""
    string, om, time = (tensors[name] for name in ("string", "om", "time"))
    charge = tensors["charge"].astype(np.float64)
    flags = tensors.get("flags", np.zeros(len(time), np.uint8))
    if {len(each) for each in (string, om, charge, flags)} != {len(time)}:
        raise RequestError("'string', 'om', 'time', 'charge' and 'flags' must have equal lengths")
    if ((string < 1) | (string > NUM_STRINGS) | (om < 1) | (om > LAST_OM)).any():
        raise RequestError(f"strings are 1 … {NUM_STRINGS}, om 1 … {LAST_OM}")
    if not (np.abs(time) <= MAX_TIME).all():
        raise RequestError(f"times of pulses must be finite, and {MAX_TIME:g} ns at most")
    if not (np.isfinite(charge) & (charge >= 0)).all():
        raise RequestError("charges must be finite and not negative")
    offsets = _offsets(tensors, len(time))
    event = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    dom = dom_index(string, om)
    order = np.lexsort((time, dom, event))
    return Pulses(len(offsets) - 1, event, dom[order], time[order], charge[order], flags[order])


def _offsets(tensors: Tensors, num_rows: int) -> NDArray[np.int64]:
    """The offsets [n + 1], checked without arithmetic, which wrong ones could make overflow."""
    offsets = tensors["offsets"].astype(np.int64)
    is_valid = (
        len(offsets) > 0
        and offsets[0] == 0
        and offsets[-1] == num_rows
        and bool((offsets[1:] >= offsets[:-1]).all())
    )
    if not is_valid:
        raise RequestError(
            f"'offsets' must be n + 1 numbers that ascend from 0 to the {num_rows} rows given"
        )
    return offsets
