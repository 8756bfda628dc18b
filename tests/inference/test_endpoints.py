"""What is given to a model for the tensors of several requests."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from load_client import hit_tensors
from serving import some_hits

from dnn_reco.data.data_settings import DataSettings
from dnn_reco.errors import DataError
from dnn_reco.inference.model_info import LabelInfo, ModelInfo
from dnn_reco.inference.prediction_table import PredictionTable
from dnn_reco.inference.reconstructor import Reconstructor
from dnn_reco.inference.server.endpoints import Endpoint, endpoints_of
from dnn_reco.inference.server.protocol import RequestError

INFO = ModelInfo("a", (LabelInfo("x"),), 3, (0.0,) * 3, misc_names=("m", "n"))


@dataclass
class Recorder:
    """Takes the place of a `Reconstructor`, and keeps what it is given."""

    info: ModelInfo = INFO
    given: dict[str, Any] = field(default_factory=dict)
    events_of_pulses = Reconstructor.events_of_pulses

    @property
    def data_settings(self) -> DataSettings | None:
        return self.info.data_settings

    def predict(self, source: Any, **more: Any) -> PredictionTable:
        self.given = {"source": source, **more}
        n = source.num_events
        zeros, status = np.zeros((n, 1)), np.zeros(n, np.int32)
        return PredictionTable(("x",), (False,), zeros, zeros, status=status)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def hits_endpoint(recorder: Recorder) -> Endpoint[Any]:
    return endpoints_of(recorder)[0]  # type: ignore[arg-type]


def test_misc_data_and_time_offsets_of_several_requests(recorder: Recorder) -> None:
    endpoint = hits_endpoint(recorder)
    assert [(spec.name, spec.shape) for spec in endpoint.inputs][-1] == ("misc", (-1, 2))
    assert not endpoint.inputs[-1].is_optional
    parts = [some_hits(2), some_hits(1, seed=1)]
    misc, offset = np.arange(6.0).reshape(3, 2), np.array([5.0])
    requests = [
        endpoint.read(hit_tensors(parts[0]) | {"misc": misc[:2]}),
        endpoint.read(hit_tensors(parts[1]) | {"misc": misc[2:], "time_offset": offset}),
    ]
    columns = endpoint.predict(requests)
    assert list(columns) == list(endpoint.output_names) == ["x", "x_uncertainty", "status"]
    assert np.array_equal(recorder.given["misc"], misc)
    assert np.array_equal(recorder.given["time_offset"], [0, 0, 5])
    joined = recorder.given["source"]
    assert joined.num_events == 3
    assert np.array_equal(joined.dom, np.concatenate([part.dom for part in parts]))
    with pytest.raises(RequestError, match="'misc' has 3 rows for 2 events"):
        endpoint.read(hit_tensors(parts[0]) | {"misc": misc})


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("time_range", None),
        ("cascade_vertex", "needs the vertices"),
        (None, "does not hold the settings of its training data"),
    ],
)
def test_pulses_are_served_only_where_features_can_be_computed(
    recorder: Recorder, caplog: pytest.LogCaptureFixture, method: str | None, reason: str | None
) -> None:
    settings = DataSettings(
        num_bins=3,
        relative_time_method=method,
        data_format="charge_weighted_time_quantiles",
        time_quantiles=(0.1, 0.5),
    )
    data_settings = None if method is None else settings
    recorder.info = replace(INFO, misc_names=(), data_settings=data_settings)
    with caplog.at_level("INFO"):
        names = [each.name for each in endpoints_of(recorder)]  # type: ignore[arg-type]
    assert names == (["a", "a_pulses"] if reason is None else ["a"])
    assert ("'a' is served for hits only: " in caplog.text) == (reason is not None)
    assert (reason or "") in caplog.text
    assert all(spec.name != "misc" for spec in hits_endpoint(recorder).inputs)


def test_numbers_that_the_precision_of_the_model_cannot_hold(recorder: Recorder) -> None:
    tensors = hit_tensors(some_hits(1)) | {"misc": np.zeros((1, 2))}
    tensors["features"] = tensors["features"].astype(np.float64) * 1e300
    with pytest.raises(DataError, match="not finite"):
        hits_endpoint(recorder).read(tensors)
