"""The built-in event weights, against their formulas worked out by hand."""

import math
from typing import Any

import pytest
import torch

from dnn_reco.errors import ConfigError
from dnn_reco.modules.data.event_weights.event_weights import (
    clipped_astroness_weights,
    event_selection_weight,
)
from dnn_reco.modules.data.event_weights.interface import (
    EventColumns,
    label_columns,
    misc_columns,
)
from dnn_reco.modules.data.event_weights.nersc_gnn_event_weights import nersc_gnn_weight


def columns(**values: list[float]) -> tuple[EventColumns, EventColumns]:
    """Truth (names with `is_`) and misc values of some events."""
    truth = {name: column for name, column in values.items() if name.startswith("is_")}
    misc = {name: column for name, column in values.items() if name not in truth}
    n = len(next(iter(values.values())))
    return (
        label_columns(torch.tensor([*truth.values()]).reshape(-1, n).T, [*truth]),
        misc_columns(torch.tensor([*misc.values()]).reshape(-1, n).T, [*misc]),
    )


SELECTION: dict[str, Any] = {
    "event_weights_corsika_keys": ["weights_hoerandel"],
    "event_weights_muongun_keys": [],
    "event_weights_nugen_keys": ["weights_astro", "weights_conv"],
    "event_weights_num_corsika_files": 1000,
    "event_weights_num_nugen_files": 10,
}


def test_event_selection_weight_counts_events_of_a_year() -> None:
    """A file of CORSIKA with 2e-3 Hz among 1000, and one of NuGen with 1e-6 and 3e-6 among 10."""
    truth, misc = columns(
        weights_hoerandel=[2e-3, 0.0], weights_astro=[0.0, 1e-6], weights_conv=[0.0, 3e-6]
    )
    weights = event_selection_weight(truth, misc, SELECTION)
    assert weights.shape == (2, 1)
    assert weights[:, 0].tolist() == pytest.approx([2e-6 * 31536000, 4e-7 * 31536000])


def test_event_selection_weight_takes_one_generator_alone() -> None:
    truth, misc = columns(weights_muongun=[1.0, 2.0])
    config = {
        "event_weights_muongun_keys": ["weights_muongun"],
        "event_weights_num_muongun_files": 4,
    }
    weights = event_selection_weight(truth, misc, config)
    assert weights[:, 0].tolist() == pytest.approx([7884000, 15768000])


def test_event_selection_weight_with_missing_settings() -> None:
    truth, misc = columns(weights_hoerandel=[2e-3], weights_astro=[0.0])
    with pytest.raises(ConfigError, match=r"'weights_conv', which.*weights_hoerandel, weights_ast"):
        event_selection_weight(truth, misc, SELECTION)
    without = {k: v for k, v in SELECTION.items() if k != "event_weights_num_nugen_files"}
    with pytest.raises(ConfigError, match="needs the key 'event_weights_num_nugen_files'"):
        event_selection_weight(truth, misc, without)
    with pytest.raises(ConfigError, match="none is configured: set event_weights_corsika_keys"):
        event_selection_weight(truth, misc, {})
    with pytest.raises(ConfigError, match=r"Available: none\. Add .* misc_load_dict"):
        event_selection_weight(truth, misc_columns(torch.zeros(3, 0), ()), SELECTION)


def test_clipped_astroness_weights() -> None:
    config = {"event_weights_nugen_astro_weight": "a", "event_weights_nugen_conv_weight": "c"}
    #          all,     half,    e^-7.65 of it,             none,    no flux at all
    a, c = [5e-9, 1e-12, math.exp(-7.65), 0.0, 0.0], [0.0, 1e-12, 1 - math.exp(-7.65), 1.0, 0.0]
    truth, misc = columns(a=a, c=c)
    weights = clipped_astroness_weights(truth, misc, config)
    assert weights.shape == (5, 1)
    expected = [8.65, 8.65 - math.log(2), 1.0, 1.0, 1.0]
    assert weights[:, 0].tolist() == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ConfigError, match="needs the key 'event_weights_nugen_conv_weight'"):
        clipped_astroness_weights(truth, misc, {"event_weights_nugen_astro_weight": "a"})


def test_nersc_gnn_weight_of_signal_and_background() -> None:
    """Smoothed labels of 0.05 and 0.95 are classified, too."""
    config = {"nersc_gnn_weight_num_nugen_files": 100, "nersc_gnn_weight_num_corsika_files": 1000}
    truth, misc = columns(
        is_signal=[1.0, 0.0, 0.95, 0.05], nersc_gnn_info_weight=[1e-6, 1e-6, 2e-6, 2e-6]
    )
    weights = nersc_gnn_weight(truth, misc, config)
    assert weights.shape == (4, 1)
    assert weights[:, 0].tolist() == pytest.approx([3.1536, 0.31536, 6.3072, 0.63072])
    with pytest.raises(ConfigError, match=r"needs the label 'is_signal'.*data_handler_label_class"):
        nersc_gnn_weight(label_columns(torch.zeros(4, 0), ()), misc, config)


def test_columns_by_name_and_missing_ones() -> None:
    _, misc = columns(a=[1.0, 2.0], b=[3.0, 4.0])
    assert misc.names == ("a", "b")
    assert len(misc) == 2
    assert "a" in misc
    assert "c" not in misc
    assert misc["b"].tolist() == [3.0, 4.0]
    assert misc["b"].dtype == torch.float64


def test_columns_may_be_changed_without_harm_to_the_events() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    truth = label_columns(values, ["a", "b"])
    assert len(truth) == 2
    assert "b" in truth
    assert "c" not in truth
    truth["b"].mul_(0)
    assert values.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert truth["a"].tolist() == [1.0, 3.0]
    assert label_columns(values.float(), ["a", "b"])["a"].dtype == torch.float64


def test_columns_that_are_not_loaded() -> None:
    values = torch.zeros(1, 2)
    message = r"needs the label 'c', which is not loaded. Available: a, b. The label loader"
    with pytest.raises(ConfigError, match=message):
        label_columns(values, ["a", "b"])["c"]
    message = r"needs the misc value 'c', .*Available: none. Add its table and column to misc_load"
    with pytest.raises(ConfigError, match=message):
        misc_columns(values[:, :0], [])["c"]
