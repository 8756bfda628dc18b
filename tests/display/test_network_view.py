"""What a network makes of an event: outputs of layers, and the influence of DOMs."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from made_up_spec import made_up_spec
from small_run import MODEL_KWARGS
from test_event_view import HITS

from dnn_reco.data.hits import Hits
from dnn_reco.detector.geometry import dom_positions
from dnn_reco.display.network_view import (
    cell_positions,
    dom_influence,
    draw_influence,
    draw_layers,
    has_string,
    layer_images,
    network_figure,
    without_each,
)
from dnn_reco.display.scales import shown_hits
from dnn_reco.errors import DataError
from dnn_reco.inference.backend import NetworkOutput
from dnn_reco.inference.model_info import LabelInfo, ModelInfo
from dnn_reco.modules.models.general_IC86_cnn import GeneralIC86CNN
from dnn_reco.nn.interface import LabelKeys

EVENT = HITS.part(1, 2)


@dataclass(frozen=True)
class SumOfCharges:
    """Predicts the charge of an event with uncertainty 2; another label is not trained."""

    info = ModelInfo("sum", (LabelInfo("a"), LabelInfo("b", is_trained=False)), 3, (0.0,) * 3)

    def predict(self, hits: Hits, misc: object = None) -> NetworkOutput:
        charge = [hits.features[a:b, 0].sum() for a, b in pairwise(hits.offsets)]
        labels = np.column_stack([charge, 1e3 * np.array(charge)])
        return NetworkOutput(labels, np.full_like(labels, 2.0), labels, labels)


def test_influence_is_the_change_without_the_dom() -> None:
    influence = dom_influence(SumOfCharges(), EVENT)
    np.testing.assert_allclose(influence, EVENT.features[:, 0] / 2)
    figure = draw_influence(shown_hits(HITS, 1), influence)
    assert figure.axes[2].get_ylabel() == "change without the DOM [σ]"
    assert figure.get_suptitle() == "Influence of 3 hit DOMs, 1 event"


def test_only_the_brightest_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnn_reco.display.network_view.MAX_DOMS", 2)
    influence = dom_influence(SumOfCharges(), EVENT)
    np.testing.assert_allclose(influence, [np.nan, 50.0, 2.0])
    _, caption = network_figure(SumOfCharges(), EVENT, shown_hits(HITS, 1))
    assert "of the 2 DOMs of highest charge" in caption


def test_copies_without_one_hit() -> None:
    copies = without_each(EVENT, np.array([0, 2]))
    assert copies.offsets.tolist() == [0, 2, 4]
    np.testing.assert_array_equal(copies.dom, EVENT.dom[[1, 2, 0, 1]])
    np.testing.assert_array_equal(copies.features, EVENT.features[[1, 2, 0, 1]])


def test_no_view_without_hits() -> None:
    with pytest.raises(DataError, match="no hits"):
        network_figure(SumOfCharges(), HITS.part(0, 1), shown_hits(HITS, 0))


@pytest.fixture(scope="module")
def network() -> GeneralIC86CNN:
    torch.manual_seed(1)
    network = GeneralIC86CNN(
        made_up_spec(["energy"], LabelKeys(), [0.0], [1.0], num_bins=3),
        **MODEL_KWARGS,
        enforce_direction_norm=False,
    )
    network.eval()
    return network


def test_layers_of_a_convolutional_network(network: GeneralIC86CNN) -> None:
    """The same mean from a direct computation, layer by layer."""
    from dnn_reco.data.hit_batch import HitBatch

    images = layer_images(network, EVENT)
    assert [image.name for image in images] == ["layer 1 of 2", "layer 2 of 2"]
    assert [image.values.shape for image in images] == [(10, 10), (5, 5)]
    outputs = []
    for hits in (EVENT, HITS.part(0, 1)):
        hits = Hits(hits.offsets, hits.dom, hits.features.astype(np.float32))
        x, _ = network.place_on_grid(HitBatch.from_hits(hits))
        with torch.no_grad():
            outputs.append([x := layer(x) for layer in network.ic78])
    for image, event, empty in zip(images, *outputs, strict=True):
        expected = (event - empty).abs()[0].mean(dim=(2, 3))
        np.testing.assert_allclose(image.values, expected, rtol=1e-4, atol=1e-6)
        assert image.values.max() > 0
    figure = draw_layers(images)
    hexagons = [axes.collections[0].get_paths() for axes in figure.axes[:2]]
    assert [len(paths) for paths in hexagons] == [78, has_string((5, 5)).sum()]


def test_positions_of_cells() -> None:
    """String 36 is at [4, 5]; a pooled cell lies in the middle of those that it covers."""
    places, distance = cell_positions((10, 10))
    np.testing.assert_allclose(places[4, 5], dom_positions()[35 * 60, :2], atol=20)
    assert distance == pytest.approx(125, abs=5)
    pooled, wider = cell_positions((5, 5))
    np.testing.assert_allclose(pooled[2, 1], places[4:6, 2:4].mean(axis=(0, 1)))
    assert wider == pytest.approx(2 * distance)
    assert has_string((10, 10)).sum() == 78
