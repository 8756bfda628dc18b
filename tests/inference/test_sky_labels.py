"""The density of an event from the labels that a model predicts."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from applied_models import TIME_OFFSET
from event_files import random_events, write_events
from small_graph_models import CNN, TRANSFORMER, SmallModel, made_up_hits
from small_run import SmallRun

from dnn_reco.detector.directions import angles_of, unit_vectors, vector_of
from dnn_reco.errors import ConfigError, DataError, ModelError
from dnn_reco.inference.model_info import LabelInfo, ModelInfo
from dnn_reco.inference.prediction_table import PredictionTable, Status
from dnn_reco.inference.reconstructor import Reconstructor
from dnn_reco.inference.sky_densities import (
    AngularGaussian,
    Mixture,
    VectorGaussian,
    VonMisesFisher,
)
from dnn_reco.inference.sky_labels import sky_density, true_direction
from dnn_reco.inference.trained_model import model_info

VECTOR = ("X", "Y", "Z")
ANGLES = ("PrimaryZenith", "PrimaryAzimuth")
NAMES = (*VECTOR, "Zenith", "Azimuth")
INFO = ModelInfo(
    "made_up",
    tuple(LabelInfo(name) for name in NAMES),
    num_features=3,
    init_values=(0.0,) * 3,
    zenith="Zenith",
    azimuth="Azimuth",
    direction=VECTOR,
)
LABELS = np.array([[0.6, 0.0, 0.7, 2.2, 3.0], [0.1, 0.2, 0.3, -0.1, 7.0]])
SIGMA = np.array([[0.1, 0.2, 0.1, 0.15, 0.3], [0.1, 0.1, 0.1, 0.2, 0.4]])
TABLE = PredictionTable(NAMES, (False,) * 5, LABELS, SIGMA)
TRAINED: dict[str, Any] = {
    "label_weight_dict": {
        "PrimaryDirectionX": 1,
        "PrimaryDirectionY": 1,
        "PrimaryDirectionZ": 1,
        "PrimaryZenith": 1,
        "PrimaryAzimuth": 1,
    }
}


def without(*names: str) -> ModelInfo:
    """A model that is not trained for some labels."""
    labels = tuple(replace(label, is_trained=label.name not in names) for label in INFO.labels)
    return replace(INFO, labels=labels)


def test_shapes_and_their_labels() -> None:
    fisher = sky_density(TABLE, 0, INFO)
    assert isinstance(fisher, VonMisesFisher)
    assert fisher.kappa == pytest.approx(2 / (0.1**2 + 0.2**2 + 0.1**2))
    np.testing.assert_allclose(fisher.best, unit_vectors(LABELS[0, :3]))
    ellipse = sky_density(TABLE, 0, without("Z"))
    assert isinstance(ellipse, AngularGaussian)
    np.testing.assert_allclose(angles_of(ellipse.best), [2.2, 3.0])
    assert (ellipse.zenith_sigma, ellipse.azimuth_sigma) == (0.15, 0.3)
    assert isinstance(sky_density(TABLE, 0, INFO, "elliptical"), AngularGaussian)
    assert isinstance(sky_density(TABLE, 0, INFO, "vector"), VectorGaussian)
    assert isinstance(sky_density(TABLE, 0, INFO, "circular"), VonMisesFisher)


def test_angles_out_of_their_range_are_the_same_direction() -> None:
    density = sky_density(TABLE, 1, INFO, "elliptical")
    np.testing.assert_allclose(density.best, vector_of(-0.1, 7.0))
    assert isinstance(density, AngularGaussian)
    assert density.zenith == pytest.approx(0.1)
    assert density.azimuth == pytest.approx(7.0 - np.pi)


@pytest.mark.parametrize("event", [-1, 2])
def test_no_such_event(event: int) -> None:
    with pytest.raises(DataError, match=rf"no event {event} in .*: there are 2, counted from 0"):
        sky_density(TABLE, event, INFO)


def test_events_without_a_direction() -> None:
    table = replace(TABLE, status=np.array([Status.NO_HITS, Status.OK], dtype=np.int32))
    with pytest.raises(DataError, match="event 0 has no reconstructed direction: no hit DOM"):
        sky_density(table, 0, INFO)
    with pytest.raises(DataError, match="event 1 has no reconstructed direction: X, Y, Z are"):
        sky_density(replace(TABLE, uncertainty=SIGMA * [[1], [np.nan]]), 1, INFO)
    with pytest.raises(DataError, match="event 1 has no reconstructed direction: X, Y, Z are"):
        sky_density(replace(TABLE, uncertainty=SIGMA * [[1], [0]]), 1, INFO)


def test_models_without_a_direction() -> None:
    with pytest.raises(ModelError, match="'made_up' predicts no direction: use a model"):
        sky_density(TABLE, 0, without("X", "Azimuth"))
    with pytest.raises(ModelError, match="predicts no direction"):
        sky_density(TABLE, 0, replace(INFO, direction=None, zenith=None))
    with pytest.raises(ModelError, match="'fisher' needs: choose circular or elliptical"):
        sky_density(TABLE, 0, without("X"), "fisher")
    with pytest.raises(ModelError, match="'circular' needs: choose fisher or vector"):
        sky_density(TABLE, 0, without("Zenith"), "circular")
    with pytest.raises(
        ConfigError, match="no density 'kent': choose one of auto, predicted, fisher"
    ):
        sky_density(TABLE, 0, INFO, "kent")


def test_true_directions() -> None:
    labels = {"X": 0.0, "Y": 2.0, "Z": 0.0, "Zenith": 1.0, "Azimuth": 2.0}
    np.testing.assert_allclose(true_direction(labels, INFO), [0, 1, 0])
    del labels["Y"]
    np.testing.assert_allclose(true_direction(labels, INFO), vector_of(1.0, 2.0))
    assert true_direction({**labels, "Zenith": math.nan}, INFO) is None
    assert true_direction({"X": 1.0}, INFO) is None


def test_a_reconstructor_gives_the_density_of_what_it_predicts(
    small_model: Callable[..., SmallModel], prepared: SmallRun, tmp_path: Path
) -> None:
    reco = Reconstructor(small_model(TRANSFORMER, **TRAINED).model, device="cpu")
    assert reco.info.direction == tuple(f"PrimaryDirection{axis}" for axis in "XYZ")
    file = prepared.folder / "validation.hdf5"
    table = reco.predict(file)
    density = reco.sky(file, 4)
    assert isinstance(density, VonMisesFisher)
    vector = np.array([table[name][4] for name in reco.info.direction])
    np.testing.assert_allclose(density.best, unit_vectors(vector), rtol=1e-5)
    sigma = np.array([table[f"{name}_uncertainty"][4] for name in reco.info.direction])
    assert density.kappa == pytest.approx(2 / np.square(sigma).sum(), rel=1e-4)
    same = reco.sky(table, 4)
    np.testing.assert_allclose(same.best, density.best, atol=1e-6)
    assert reco.sky(made_up_hits(3), 2).cdf_dir(vector).shape == ()
    with pytest.raises(DataError, match=rf"no event 99 in '{file}': there are"):
        reco.sky(file, 99)
    events = random_events(1, 3, num_bins=3)
    gone = tmp_path / "gone.hdf5"
    write_events(gone, events, exists={TIME_OFFSET: np.array([True, True, False])})
    with pytest.raises(DataError, match=f"event 2 of '{gone}' has no reconstructed direction: no"):
        reco.sky(gone, 2)
    with pytest.raises(DataError, match=r"matches \d files: give the one with the event"):
        reco.sky(str(prepared.folder / "*.hdf5"), 1)


def test_members_of_an_ensemble_give_a_mixture(
    small_model: Callable[..., SmallModel], tmp_path: Path
) -> None:
    small = small_model(TRANSFORMER, TRANSFORMER, **TRAINED)
    folder, hits = small.write(tmp_path / "both"), made_up_hits(3)
    reco = Reconstructor(folder, device="cpu")
    mixture = reco.sky(hits, 1, members=True)
    assert isinstance(mixture, Mixture) and len(mixture.members) == 2
    alone = [Reconstructor(SmallModel([each]).model).sky(hits, 1) for each in small.members]
    points = vector_of([0.3, 1.0, 2.0], [1.0, 2.0, 3.0])
    expected = np.log(np.mean([np.exp(each.log_prob_dir(points)) for each in alone], axis=0))
    np.testing.assert_allclose(mixture.log_prob_dir(points), expected, rtol=1e-4, atol=1e-4)
    whole = reco.sky(hits, 1)
    assert isinstance(whole, VonMisesFisher)
    # its mean vector is that of the mixture
    drawn = mixture.nodes(2**14)
    mean = drawn.probability @ drawn.vectors
    length = 1 / math.tanh(whole.kappa) - 1 / whole.kappa
    np.testing.assert_allclose(length * whole.best, mean, atol=5e-3)
    with pytest.raises(ConfigError, match="members of an ensemble predict from events"):
        reco.sky(reco.predict(hits), 1, members=True)
    one = Reconstructor(SmallModel(small.members[:1]).model).sky(hits, 1, members=True)
    assert isinstance(one, VonMisesFisher)


def test_maps_of_an_ensemble_without_a_trained_vector_follow_from_the_angles(
    small_model: Callable[..., SmallModel],
) -> None:
    """The network predicts a vector, too, but nothing makes it that of the angles."""
    free = {"model_kwargs": {**CNN["model_kwargs"], "enforce_direction_norm": False}}
    trained = {"PrimaryZenith": 1, "PrimaryAzimuth": 1}
    small, hits = small_model(free, free, label_weight_dict=trained), made_up_hits(3)
    reco = Reconstructor(small.model)
    mixture, whole = reco.sky(hits, 1, members=True), reco.sky(hits, 1)
    assert isinstance(mixture, Mixture) and isinstance(whole, AngularGaussian)
    alone = [Reconstructor(SmallModel([each]).model).predict(hits) for each in small.members]
    for part, table in zip(mixture.members, alone, strict=True):
        np.testing.assert_allclose(part.best, vector_of(*(table[name][1] for name in ANGLES)))
    mean = np.mean([[table[name][1] for name in ANGLES] for table in alone], axis=0)
    np.testing.assert_allclose(whole.best, vector_of(*mean), atol=1e-6)


def test_info_has_the_direction_only_where_all_of_it_is_a_label(
    small_model: Callable[..., SmallModel],
) -> None:
    model = small_model(TRANSFORMER).model
    keys = replace(model.spec.label_keys, dir_y="NoSuchLabel")
    assert model_info(replace(model, spec=replace(model.spec, label_keys=keys))).direction is None
