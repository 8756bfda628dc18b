"""Fitted calibrations: synthetic predictions whose widths are wrong in a known way."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from dnn_reco.errors import DataError
from dnn_reco.evaluation.calibration import (
    DENSITY,
    LEVEL,
    CalibrationEvents,
    choose_terms,
    cross_fitted,
    fit_calibration,
    fit_temperature,
    inside,
)
from dnn_reco.inference.cone import needed_concentration
from dnn_reco.inference.model_info import LabelInfo, ModelInfo
from dnn_reco.nn.density_layout import DIRECTION, DensityShape, PredictedShapes

VECTOR = ("dir_x", "dir_y", "dir_z")
INFO = ModelInfo(
    "a model",
    (
        LabelInfo("energy", "GeV", has_log=True),
        *(LabelInfo(name) for name in VECTOR),
        LabelInfo("p_track", is_class=True),
        LabelInfo("untrained", is_trained=False),
    ),
    9,
    (0.0,) * 9,
    direction=VECTOR,
)


def fisher_vectors(rng, center, kappa):
    """Directions around unit vectors, von Mises-Fisher distributed, by inversion of the CDF."""
    n = len(kappa)
    u, phi = rng.uniform(size=n), rng.uniform(0, 2 * np.pi, n)
    cosine = 1 + np.log(u + (1 - u) * np.exp(-2 * kappa)) / kappa
    sine = np.sqrt(np.maximum(0, 1 - cosine**2))
    helper = np.where(np.abs(center[:, [2]]) < 0.9, [[0, 0, 1.0]], [[1.0, 0, 0]])
    first = np.cross(helper, center)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(center, first)
    around = np.cos(phi)[:, None] * first + np.sin(phi)[:, None] * second
    return cosine[:, None] * center + sine[:, None] * around


def made_up(num_events, seed, sigma_factor, kappa_factor, temperature=1.0, tails=False):
    """Events whose true widths are the predicted ones times factors (σ or κ, hits, p) -> [n]."""
    rng = np.random.default_rng(seed)
    hits = rng.integers(5, 2000, num_events)
    p = expit(2 * rng.normal(size=num_events))
    is_track = rng.uniform(size=num_events) < expit(logit(p) / temperature)
    sigma = np.exp(rng.uniform(-3, 0, num_events))
    kappa = np.exp(rng.uniform(-1, 8, num_events))
    noise = rng.standard_t(2, num_events) if tails else rng.normal(size=num_events)
    log_energy = rng.uniform(3, 12, num_events)
    true_log_energy = log_energy + sigma * sigma_factor(sigma, hits, is_track) * noise
    center = rng.normal(size=(num_events, 3))
    center /= np.linalg.norm(center, axis=1, keepdims=True)
    true_vector = fisher_vectors(rng, center, kappa * kappa_factor(kappa, hits, is_track))
    component = np.sqrt(2 / (3 * kappa))
    unknown = np.zeros(num_events)
    labels = np.column_stack([np.expm1(log_energy), center, p, unknown])
    widths = np.column_stack([sigma, *[component] * 3, np.sqrt(p * (1 - p)), unknown + 1])
    true = np.column_stack([np.expm1(true_log_energy), true_vector, is_track, unknown])
    return CalibrationEvents(labels, widths, None, true, hits, INFO)


def applied(calibration, events):
    return events.corrected(calibration)


def assert_covered(is_inside, groups):
    """68.3 % of the events of each group lie inside, within three standard errors."""
    for number, group in enumerate(groups):
        n = group.sum()
        error = np.sqrt(LEVEL * (1 - LEVEL) / n)
        assert n > 300
        assert abs(is_inside[group].mean() - LEVEL) < 3 * error + 0.01, number


def quartiles(values):
    edges = np.quantile(values, [0.25, 0.5, 0.75])
    return [np.digitize(values, edges) == number for number in range(4)]


@pytest.mark.parametrize("tails", [False, True], ids=["normal", "heavy tails"])
def test_right_in_parts_of_other_events(tails):
    def wrong(tail):
        return {
            "sigma_factor": lambda sigma, hits, track: 1.7 * sigma**0.2 * np.where(track, 1.5, 0.8),
            "kappa_factor": lambda kappa, hits, track: 0.4 * (hits / 200) ** 0.4,
            "tails": tail,
        }

    calibration = fit_calibration(made_up(12_000, 1, **wrong(tails)), true_classes=False)
    judged = made_up(20_000, 2, **wrong(tails))
    after = applied(calibration, judged)
    before = inside(judged)
    assert before["energy"].mean() < 0.6
    assert before[DIRECTION].mean() < 0.64
    found = inside(after)
    sigma = judged.uncertainty[:, 0]
    kappa = 1 / judged.uncertainty[:, 1] ** 2
    certain = [judged.labels[:, 4] > 0.95, judged.labels[:, 4] < 0.05]
    assert_covered(found["energy"], [*quartiles(sigma), *quartiles(judged.num_hits), *certain])
    assert_covered(found[DIRECTION], [*quartiles(kappa), *quartiles(judged.num_hits), *certain])


def test_right_in_each_true_class_though_it_is_not_known():
    wrong = {
        "sigma_factor": lambda sigma, hits, track: np.where(track, 1.6, 0.8),
        "kappa_factor": lambda kappa, hits, track: np.where(track, 0.5, 1.5),
    }
    judged = made_up(20_000, 14, **wrong)
    track = judged.true[:, 4] == 1
    shares = {}
    for true_classes in (True, False):
        calibration = fit_calibration(made_up(20_000, 13, **wrong), true_classes)
        found = inside(applied(calibration, judged))
        shares[true_classes] = {
            name: (values[track].mean(), values[~track].mean()) for name, values in found.items()
        }
    assert_allclose(shares[True]["energy"], LEVEL, atol=0.02)
    assert_allclose(shares[True][DIRECTION], LEVEL, atol=0.02)
    # the class is not certain: given what is predicted, tracks are still covered less
    assert shares[False]["energy"][0] < LEVEL - 0.03 < LEVEL + 0.03 < shares[False]["energy"][1]


def with_mixture(events, seed, factor):
    """The same with mixtures of two widths, of which those of tracks are wrong by a factor on κ."""
    rng, number = np.random.default_rng(seed), len(events)
    center, track = events.labels[:, 1:4], events.true[:, 4] == 1
    kappa = 2 / (3 * events.uncertainty[:, 1] ** 2)
    kappas = np.stack([kappa, kappa / 10], axis=1)
    weights = np.broadcast_to([0.7, 0.3], (number, 2))
    natural = kappas[..., None] * center[:, None]
    components = np.concatenate([np.log(weights)[..., None], natural], axis=2)
    chosen = kappas[np.arange(number), (rng.uniform(size=number) > 0.7).astype(int)]
    true = events.true.copy()
    true[:, 1:4] = fisher_vectors(rng, center, chosen * np.where(track, factor, 1.0))
    layout = (DensityShape(DIRECTION, "von_mises_fisher", 2),)
    shapes = PredictedShapes(layout, components.reshape(number, -1))
    return replace(events, shapes=shapes, true=true, info=replace(INFO, densities=layout))


def test_density_of_the_direction_is_right_in_each_class():
    right = (lambda *_: 1.0, lambda *_: 1.0)
    events, judged = (with_mixture(made_up(2000, seed, *right), seed, 0.4) for seed in (21, 22))
    calibration = fit_calibration(events)
    before, after = inside(judged)[DENSITY], inside(applied(calibration, judged))[DENSITY]
    track = judged.true[:, 4] == 1
    assert before[track].mean() < 0.55
    assert_allclose(before[~track].mean(), LEVEL, atol=0.05)
    assert_allclose([after[track].mean(), after[~track].mean()], LEVEL, atol=0.05)


def test_classes_that_are_mere_guesses_do_not_matter():
    events = made_up(4000, 15, lambda *_: 2.0, lambda *_: 0.25)
    labels = events.labels.copy()
    labels[:, 4] = np.random.default_rng(1).uniform(0.45, 0.55, 4000)
    blind = replace(events, labels=labels)
    after = applied(fit_calibration(blind), blind).uncertainty
    assert_allclose(after[:, 0] / events.uncertainty[:, 0], 2, rtol=0.25)


def test_right_uncertainties_stay():
    right = {"sigma_factor": lambda *_: 1.0, "kappa_factor": lambda *_: 1.0}
    calibration = fit_calibration(made_up(20_000, 3, **right), true_classes=False)
    judged = made_up(2000, 4, **right)
    ratio = applied(calibration, judged).uncertainty / judged.uncertainty
    assert_allclose(ratio[:, :4], 1, atol=0.06)
    assert calibration.widths["energy"].terms.uses_classes is False
    assert calibration.temperatures["p_track"] == pytest.approx(1, abs=0.06)


def test_scale_is_that_of_the_errors():
    events = made_up(40_000, 5, lambda *_: 2.0, lambda *_: 0.25)
    after = applied(fit_calibration(events), events).uncertainty
    ratio = after / events.uncertainty
    assert np.median(ratio[:, 0]) == pytest.approx(2, rel=0.03)
    assert np.median(ratio[:, 1]) == pytest.approx(2, rel=0.03)  # √(1 / 0.25)


def test_only_widths_of_trained_labels_change_and_probabilities():
    events = made_up(2000, 6, lambda *_: 2.0, lambda *_: 0.25, temperature=2.0)
    calibration = fit_calibration(events)
    after = applied(calibration, events)
    assert_array_equal(after.labels[:, [0, 1, 2, 3, 5]], events.labels[:, [0, 1, 2, 3, 5]])
    assert_array_equal(after.uncertainty[:, 5], events.uncertainty[:, 5])
    temperature = calibration.temperatures["p_track"]
    assert temperature == pytest.approx(2, rel=0.25)
    expected = expit(logit(events.labels[:, 4]) / temperature)
    assert_allclose(after.labels[:, 4], expected, atol=1e-5)
    assert_allclose(after.uncertainty[:, 4], np.sqrt(expected * (1 - expected)), rtol=1e-3)


def test_temperature_is_that_of_the_smallest_cross_entropy():
    rng = np.random.default_rng(7)
    z = 3 * rng.normal(size=3000)
    true = (rng.uniform(size=3000) < expit(z / 1.8)).astype(float)

    def cross_entropy(temperature):
        return np.mean(np.logaddexp(0, z / temperature) - true * z / temperature)

    expected = minimize_scalar(cross_entropy, bounds=(0.1, 10), method="bounded").x
    assert fit_temperature(expit(z), true) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("true", [0.0, 1.0, np.nan])
def test_temperature_needs_events_of_the_class_and_others(true):
    assert fit_temperature(np.linspace(0.01, 0.99, 300), np.full(300, true)) == 1.0


def test_temperature_of_classes_that_are_never_wrong_is_finite():
    p = np.array([1.0, 0.0] * 200)
    assert 0 < fit_temperature(p, p) < np.inf


@pytest.mark.parametrize("kappa", [0.3, 2.0, 50.0, 1e5])
def test_needed_concentration_is_that_whose_cone_has_the_angle(kappa):
    # cos of the border of the cone, by inversion of the distribution of the angle
    cosine = 1 + np.log(1 - LEVEL * -np.expm1(-2 * kappa)) / kappa
    found = needed_concentration(np.array([np.arccos(cosine)]), LEVEL)
    assert_allclose(found, kappa, rtol=1e-6)


def test_angle_beyond_any_cone_needs_the_smallest_concentration():
    assert needed_concentration(np.array([np.pi]), LEVEL)[0] == pytest.approx(1e-3)
    assert needed_concentration(np.array([0.0]), LEVEL)[0] == pytest.approx(1e7)


def test_no_event_decides_on_its_own_correction():
    events = made_up(600, 8, lambda *_: 1.5, lambda *_: 0.5)
    calibration = fit_calibration(events)
    right, wrong = events.true.copy(), events.true.copy()
    right[11] = events.labels[11]
    wrong[11] = [1e12, *-events.labels[11, 1:4], 1, 0]
    before = cross_fitted(replace(events, true=right), calibration)
    after = cross_fitted(replace(events, true=wrong), calibration)
    assert_array_equal(before.uncertainty[11], after.uncertainty[11])
    assert (before.uncertainty[:, 0] != after.uncertainty[:, 0]).sum() > 300  # others see it


def test_correction_keeps_the_order_of_widths():
    # the larger the predicted width, the smaller the error: its order means nothing
    events = made_up(3000, 9, lambda sigma, *_: 0.3 * sigma**-2.0, lambda *_: 1.0)
    calibration = fit_calibration(events, true_classes=False)
    after = applied(calibration, events).uncertainty[:, 0]
    sigma = events.uncertainty[:, 0]
    order = np.argsort(sigma)
    assert (np.diff(after[order]) >= -1e-9).mean() > 0.99


def test_too_few_events():
    with pytest.raises(DataError, match="at least 200 events, there are 150: give more files"):
        fit_calibration(made_up(150, 10, lambda *_: 1.0, lambda *_: 1.0))


def test_events_that_cannot_be_used_are_left_out():
    events = made_up(3000, 11, lambda *_: 2.0, lambda *_: 0.5)
    true = events.true.copy()
    true[:100] = np.nan
    sigma = events.uncertainty.copy()
    sigma[100:200] = 0
    damaged = replace(events, true=true, uncertainty=sigma)
    ratio = applied(fit_calibration(damaged), events).uncertainty / (events.uncertainty)
    assert np.median(ratio[:, 0]) == pytest.approx(2, rel=0.1)
    assert np.isfinite(ratio[:, :5]).all()


def test_terms_without_classes():
    from dnn_reco.evaluation.calibration import Target
    from dnn_reco.inference.calibration import EventFeatures

    rng = np.random.default_rng(12)
    width = rng.normal(size=2000)
    features = EventFeatures(width, rng.normal(size=2000), np.zeros((2000, 0)))
    needed = 0.5 * width + np.log(np.abs(rng.normal(size=2000)))
    terms = choose_terms(Target(features, needed, LEVEL))
    assert (terms.degree, terms.uses_classes) == (1, False)


def test_components_of_a_direction_that_is_not_wholly_trained_are_labels():
    events = made_up(3000, 21, lambda *_: 1.0, lambda *_: 0.25)
    labels = tuple(
        replace(each, is_trained=each.is_trained and each.name != "dir_z") for each in INFO.labels
    )
    partly = replace(events, info=replace(INFO, labels=labels))
    calibration = fit_calibration(partly, true_classes=False)
    assert calibration.direction is None
    assert calibration.widths.keys() == {"energy", "dir_x", "dir_y"}
    found = inside(partly.corrected(calibration))
    assert found["dir_x"].mean() == pytest.approx(LEVEL, abs=0.03)


@pytest.mark.parametrize("name", ["direction", "direction density"])
def test_label_that_is_called_as_the_direction_is_refused(name):
    events = made_up(300, 22, lambda *_: 1.0, lambda *_: 1.0)
    labels = (replace(INFO.labels[0], name=name), *INFO.labels[1:])
    with pytest.raises(DataError, match=f"a label is called '{name}'"):
        fit_calibration(replace(events, info=replace(INFO, labels=labels)))
