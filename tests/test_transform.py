"""The transformation model against a float64 reference written out here, and the golden one."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from dnn_reco.detector.grid import CELL_HAS_DOM, DOM_CELL, NUM_CELLS, NUM_MAIN_CELLS
from dnn_reco.errors import DataError, ModelError
from dnn_reco.transform import (
    TransformationModel,
    TransformFit,
    TransformSettings,
    check_settings,
    load_transformation,
    save_transformation,
    settings_differences,
)

SETTINGS = TransformSettings(
    label_names=("energy", "zenith", "constant"),
    misc_names=("weight",),
    log_dom_bins=(True, False),
    log_label_bins=(True, False, False),
    log_misc_bins=(False,),
    normalize_dom_data=True,
    normalize_label_data=True,
    normalize_misc_data=False,
    treat_doms_equally=False,
    norm_constant=1e-4,
)


def with_changes(settings: TransformSettings, **changes: object) -> TransformSettings:
    return replace(settings, **changes)


def random_events(num_events: int, seed: int = 1) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Event number, DOM index, features [k, 2] of hits, labels [n, 3] of events."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 400, num_events)
    event = np.repeat(np.arange(num_events), counts)
    dom = np.concatenate([np.sort(rng.choice(5160, count, replace=False)) for count in counts])
    # times with a large offset and a small spread: cancellation in a naive variance
    features = np.stack([rng.gamma(0.5, 20, len(dom)), 9.5e3 + rng.normal(size=len(dom))], axis=1)
    labels = np.stack(
        [
            10 ** rng.uniform(2, 6, num_events),
            rng.uniform(0, np.pi, num_events),
            np.full(num_events, 7.1),
        ],
        axis=1,
    )
    return event, dom, features.astype(np.float32), labels.astype(np.float32)


def dense(event: NDArray, dom: NDArray, features: NDArray, num_events: int) -> NDArray:
    cells = np.zeros((num_events, NUM_CELLS, features.shape[1]))
    cells[event, DOM_CELL[dom]] = features
    return cells


def fit(settings: TransformSettings, events: tuple, block: int) -> TransformationModel:
    event, dom, features, labels = events
    result = TransformFit(settings, np.zeros(2))
    for start in range(0, len(labels), block):
        in_block = (event >= start) & (event < start + block)
        rows = labels[start : start + block]
        result.add(dom[in_block], features[in_block], rows, np.ones((len(rows), 1)))
    assert result.num_events == len(labels)
    return result.result()


@pytest.mark.parametrize("block", [1, 7, 64])
def test_moments_per_dom_equal_a_dense_float64_reference(block: int) -> None:
    events = random_events(64)
    model = fit(SETTINGS, events, block)
    cells = dense(*events[:3], 64)
    cells[..., 0] = np.log1p(cells[..., 0])
    std = cells.std(axis=0)
    std[std == 0] = 1.0
    np.testing.assert_allclose(model.dom_mean, cells.mean(axis=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.dom_std, std, rtol=1e-9)
    labels = events[3].astype(np.float64)
    labels[:, 0] = np.log1p(labels[:, 0])
    np.testing.assert_allclose(model.label_mean, labels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(model.label_std[:2], labels[:, :2].std(axis=0), rtol=1e-9)
    assert model.label_std[2] == 1.0  # a constant column is not blown up by rounding


def test_treating_doms_equally_averages_means_and_stds_over_the_doms_of_each_part() -> None:
    events = random_events(50)
    model = fit(with_changes(SETTINGS, treat_doms_equally=True), events, 16)
    cells = dense(*events[:3], 50)
    cells[..., 0] = np.log1p(cells[..., 0])
    mean, std = cells.mean(axis=0), cells.std(axis=0)
    std[std == 0] = 1.0
    main = CELL_HAS_DOM & (np.arange(NUM_CELLS) < NUM_MAIN_CELLS)
    deepcore = np.arange(NUM_CELLS) >= NUM_MAIN_CELLS
    for part in (main, deepcore):
        np.testing.assert_allclose(
            model.dom_mean[part], np.tile(mean[part].mean(0), (part.sum(), 1))
        )
        np.testing.assert_allclose(model.dom_std[part], np.tile(std[part].mean(0), (part.sum(), 1)))
    assert (model.dom_mean[~CELL_HAS_DOM] == 0).all()
    assert (model.dom_std[~CELL_HAS_DOM] == 1).all()


def test_a_dom_hit_equally_in_every_event_has_standard_deviation_one() -> None:
    result = TransformFit(with_changes(SETTINGS, log_dom_bins=(False, False)), np.zeros(2))
    for _ in range(3):
        result.add(np.array([17]), np.array([[0.1, 1e4 + 0.1]]), np.ones((1, 3)), np.ones((1, 1)))
    assert (result.result().dom_std[DOM_CELL[17]] == 1.0).all()


def test_bins_that_are_not_listed_count_with_their_initial_value() -> None:
    result = TransformFit(SETTINGS, np.array([np.e - 1, 5.0]))
    result.add(np.array([3]), np.array([[0.0, 2.0]]), np.ones((4, 3)), np.ones((4, 1)))
    model = result.result()
    np.testing.assert_allclose(model.dom_mean[DOM_CELL[3]], [0.75, (3 * 5 + 2) / 4])
    np.testing.assert_allclose(model.dom_mean[DOM_CELL[4]], [1.0, 5.0])


@pytest.mark.parametrize(
    ("misc", "mean", "std"),
    [([1, np.nan, 3, 5], 3, (8 / 3) ** 0.5), ([np.nan, 5], 5, 1), ([np.inf], 0, 1)],
)
def test_non_finite_misc_values_are_ignored_in_the_moments(
    misc: list[float], mean: float, std: float
) -> None:
    result = TransformFit(SETTINGS, np.zeros(2))
    empty, labels = np.zeros((0, 2)), np.ones((len(misc), 3))
    result.add(np.array([], int), empty, labels, np.array(misc)[:, None])
    model = result.result()
    assert model.misc_mean == pytest.approx([mean])
    assert model.misc_std == pytest.approx([std])


def test_logarithm_of_values_below_minus_one_names_the_column() -> None:
    result = TransformFit(SETTINGS, np.zeros(2))
    with pytest.raises(DataError, match=r"'energy'.*-2.*trafo_log_label_bins"):
        result.add(np.array([1]), np.ones((1, 2)), np.array([[-2.0, 0, 0]]), np.ones((1, 1)))


def test_saved_model_is_read_back_exactly_and_holds_no_pickle(tmp_path: Path) -> None:
    model = fit(SETTINGS, random_events(10), 10)
    path = tmp_path / "folder" / "trafo_model.npy"
    save_transformation(model, path)
    again = load_transformation(path)
    assert again.settings == model.settings
    for name in ("dom_mean", "dom_std", "label_mean", "label_std", "misc_mean", "misc_std"):
        np.testing.assert_array_equal(getattr(again, name), getattr(model, name))
    assert [p.name for p in path.parent.iterdir()] == ["trafo_model.npy"]
    with pytest.raises(ValueError, match=r"pickle|magic"):
        np.load(path, allow_pickle=False)


def test_equal_doms_are_stored_once_and_read_as_if_they_were_not(tmp_path: Path) -> None:
    model = fit(with_changes(SETTINGS, treat_doms_equally=True), random_events(10), 10)
    path, whole = tmp_path / "small.npy", tmp_path / "whole.npy"
    save_transformation(model, path)
    arrays = load_file(path)
    assert arrays["dom_mean"].shape == arrays["dom_std"].shape == (2, 2)
    with safe_open(path, framework="np") as file:
        save_file(
            {**arrays, "dom_mean": model.dom_mean, "dom_std": model.dom_std},
            whole,
            metadata=file.metadata(),
        )
    for each in (path, whole):
        again = load_transformation(each)
        assert again.digest == model.digest
        np.testing.assert_array_equal(again.dom_mean, model.dom_mean)
        np.testing.assert_array_equal(again.dom_std, model.dom_std)
    dom_std = model.dom_std.copy()
    dom_std[DOM_CELL[9]] *= 2
    imported = replace(model, dom_std=dom_std)
    save_transformation(imported, path)
    np.testing.assert_array_equal(load_transformation(path).dom_std, imported.dom_std)


def test_missing_damaged_and_foreign_files_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"create_trafo_model\.py"):
        load_transformation(tmp_path / "absent.npy")
    pickled = tmp_path / "pickled.npy"
    np.save(pickled, np.array({"mean": 1}, dtype=object), allow_pickle=True)
    with pytest.raises(ModelError, match="pickle"):
        load_transformation(pickled)
    path = tmp_path / "model.npy"
    save_transformation(fit(SETTINGS, random_events(5), 5), path)
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(ModelError, match=r"model\.npy"):
        load_transformation(path)
    path.write_bytes(content.replace(b"norm_constant", b"norm_konstant"))
    with pytest.raises(ModelError, match="damaged"):
        load_transformation(path)


def test_differing_settings_are_each_named(tmp_path: Path) -> None:
    model = fit(SETTINGS, random_events(5), 5)
    wanted = with_changes(
        SETTINGS, norm_constant=1e-6, log_label_bins=(True, True, False), misc_names=("other",)
    )
    with pytest.raises(ModelError) as error:
        check_settings(model, wanted, tmp_path / "trafo.npy")
    message = str(error.value)
    assert "norm_constant: 0.0001 in the model, 1e-06 in the config" in message
    assert "log_label_bins" in message
    assert "misc_names" in message
    assert "treat_doms_equally" not in message
    check_settings(model, SETTINGS, tmp_path / "trafo.npy")


def test_relative_times_are_part_of_the_settings_but_not_of_older_files(tmp_path: Path) -> None:
    older = fit(SETTINGS, random_events(5), 5)
    labels = (SETTINGS.label_names[0],)
    newer = replace(older, settings=with_changes(SETTINGS, relative_time_labels=labels))
    assert newer.digest == older.digest
    save_transformation(newer, tmp_path / "trafo.npy")
    newer = load_transformation(tmp_path / "trafo.npy")
    wanted = with_changes(SETTINGS, relative_time_labels=())
    with pytest.raises(
        ModelError, match=r"relative_time_labels: .* in the model, \(\) in the conf"
    ):
        check_settings(newer, wanted, tmp_path / "trafo.npy")
    check_settings(older, wanted, tmp_path / "trafo.npy")


def test_moments_of_the_real_events_equal_the_golden_model_inputs(golden_network: Path) -> None:
    """Means and stds of the 32 real events, against float64 moments of the golden dense arrays."""
    golden = np.load(golden_network / "data_numu_medium_inputs9.npz")
    meta = json.loads((golden_network / "data_meta.json").read_text())
    names = tuple(meta["label_names"])
    settings = TransformSettings(
        label_names=names,
        misc_names=tuple(meta["misc_names"]),
        log_dom_bins=(True,) * 3 + (False,) * 6,
        log_label_bins=tuple(name in ("EnergyVisible", "PrimaryEnergy") for name in names),
        log_misc_bins=(False,),
        normalize_dom_data=True,
        normalize_label_data=True,
        normalize_misc_data=False,
        treat_doms_equally=False,
        norm_constant=1e-4,
    )
    cells = np.concatenate(
        [golden["x_ic78"].reshape(32, -1, 9), golden["x_deepcore"].reshape(32, -1, 9)], axis=1
    )
    event, cell = np.nonzero(cells.any(axis=2))
    dom_of_cell = np.full(NUM_CELLS, -1)
    dom_of_cell[DOM_CELL] = np.arange(5160)
    result = TransformFit(settings, np.zeros(9))
    result.add(dom_of_cell[cell], cells[event, cell], golden["labels"], golden["misc"])
    model = result.result()
    reference = cells.astype(np.float64)
    reference[..., :3] = np.log1p(reference[..., :3])
    std = reference.std(axis=0)
    std[std == 0] = 1
    np.testing.assert_allclose(model.dom_mean, reference.mean(axis=0), rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(model.dom_std, std, rtol=1e-6)
    labels = golden["labels"].astype(np.float64)
    log = np.array(settings.log_label_bins)
    labels[:, log] = np.log1p(labels[:, log])
    np.testing.assert_allclose(model.label_mean, labels.mean(axis=0), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("std", [0.0, -1.0, np.nan, np.inf])
def test_standard_deviations_that_no_fit_gives_are_refused(tmp_path: Path, std: float) -> None:
    model = fit(SETTINGS, random_events(5), 5)
    label_std = model.label_std.copy()
    label_std[1] = std
    path = tmp_path / "model.npy"
    save_transformation(replace(model, label_std=label_std), path)
    with pytest.raises(ModelError, match=rf"model\.npy.*label_std.*{std:g}"):
        load_transformation(path)


def test_means_that_are_not_finite_and_wrong_shapes_are_refused(tmp_path: Path) -> None:
    model = fit(SETTINGS, random_events(5), 5)
    path = tmp_path / "model.npy"
    save_transformation(replace(model, misc_mean=np.array([np.inf])), path)
    with pytest.raises(ModelError, match=r"misc_std and misc_mean have means that are not finite"):
        load_transformation(path)
    save_transformation(replace(model, label_mean=np.zeros(2)), path)
    with pytest.raises(ModelError, match=r"label_mean has shape \(2,\), not \(3,\)"):
        load_transformation(path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"a": np.zeros(1)}, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="is not a transformation model but 'pt'"):
        load_transformation(path)
    save_file({"a": np.zeros(1)}, path)
    with pytest.raises(ModelError, match="is not a transformation model but None"):
        load_transformation(path)


def test_a_file_without_settings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.npy"
    save_transformation(fit(SETTINGS, random_events(5), 5), path)
    with safe_open(path, framework="np") as file:
        kind = file.metadata()["format"]
    save_file({"a": np.zeros(1)}, path, metadata={"format": kind})
    with pytest.raises(ModelError, match=r"model\.npy' is damaged"):
        load_transformation(path)


def test_values_without_logarithm_are_found_beside_values_that_are_not_finite() -> None:
    settings = with_changes(SETTINGS, log_misc_bins=(True,))
    _, _, _, labels = random_events(3)
    nothing = np.zeros((0, 2), np.float32)
    misc = np.array([[np.nan], [-5.0], [1.0]])
    with pytest.raises(DataError, match="for 'weight', which has values down to -5"):
        TransformFit(settings, np.zeros(2)).add(np.array([], int), nothing, labels, misc)
    misc[1] = np.e**2 - 1
    result = TransformFit(settings, np.zeros(2))
    result.add(np.array([], int), nothing, labels, misc)
    np.testing.assert_allclose(result.result().misc_mean, (2 + np.log(2)) / 2)


def test_a_model_of_no_events_is_refused() -> None:
    empty = np.zeros((0, 2))
    result = TransformFit(SETTINGS, np.zeros(2))
    with pytest.raises(DataError, match="cannot be fitted to 0 events"):
        result.result()
    result.add(np.array([], int), empty, np.zeros((0, 3)), np.zeros((0, 1)))
    with pytest.raises(DataError, match="cannot be fitted to 0 events"):
        result.result()


def test_of_long_lists_only_the_differences_are_named() -> None:
    model = fit(SETTINGS, random_events(5), 5)
    found = with_changes(SETTINGS, label_names=("a", "b", "c", "d", "e"))
    model = replace(model, settings=found)

    def lines(*names: str) -> list[str]:
        return settings_differences(model, with_changes(found, label_names=names))

    assert lines("a", "b", "c", "d", "f", "g") == [
        "  label_names: only in the config: ['f', 'g']; only in the model: ['e']"
    ]
    assert lines("a", "b", "c", "d") == [
        "  label_names: only in the config: none; only in the model: ['e']"
    ]
    # the same names in another order are told in full
    assert lines("b", "a", "c", "d", "e") == [
        "  label_names: ('a', 'b', 'c', 'd', 'e') in the model, "
        "('b', 'a', 'c', 'd', 'e') in the config"
    ]
    assert lines("a", "b", "c", "d", "e") == []
