"""Label weights against the golden run, and their rules."""

from pathlib import Path

import numpy as np
import torch

from dnn_reco.training.label_weights import NORMAL_MAD, LabelWeights


def test_five_golden_steps(golden_network: Path) -> None:
    golden = np.load(golden_network / "train_label_weights_5steps.npz")
    weights = LabelWeights(torch.tensor(golden["label_weights"][0]), update=True, scale_tukey=False)
    for step in range(5):
        # one event with the mean squared residuals of the golden batch
        weights.collect(torch.tensor(golden["mse"][step]).sqrt()[None])
        weights.update()
        np.testing.assert_allclose(weights.current, golden["label_weights"][step + 1], rtol=1e-6)


def test_the_mean_of_several_batches_counts() -> None:
    weights = LabelWeights(torch.tensor([2.0, 0.0]), update=True, scale_tukey=False)
    weights.collect(torch.tensor([[0.1, 5.0], [0.3, 5.0]]))
    weights.collect(torch.tensor([[0.5, 5.0], [0.5, 5.0]]))
    weights.update()
    rmse = np.sqrt(np.mean([0.1**2, 0.3**2, 0.5**2, 0.5**2]) + 1e-6)
    target = 2.0 / (rmse + 1e-3)
    np.testing.assert_allclose(weights.current, [0.5 * 2 + 0.5 * target, 0.0], rtol=1e-6)


def test_batches_that_are_not_finite_do_not_count() -> None:
    """With `remove_nan_gradients` training goes on after them; the second label has only such."""
    weights = LabelWeights(torch.tensor([2.0, 1.0]), update=True, scale_tukey=True)
    nan, inf = float("nan"), float("inf")
    for residual in ([[0.5, inf], [0.5, 1.0]], [[nan, nan], [0.5, 1.0]]):
        weights.collect(torch.tensor(residual))
    weights.update()
    rmse = np.sqrt(0.5**2 + 1e-6)
    np.testing.assert_allclose(weights.current, [0.5 * 2 + 0.5 * 2 / (rmse + 1e-3), 1.0], rtol=1e-6)
    assert weights.tukey_scale.isfinite().all()


def test_hard_labels_keep_their_weight_and_untrained_labels_stay_at_zero() -> None:
    weights = LabelWeights(torch.tensor([1.0, 0.0]), update=True, scale_tukey=False)
    weights.collect(torch.tensor([[3.0, float("nan")]]))
    weights.update()
    assert weights.current.tolist() == [1.0, 0.0]


def test_no_update_unless_asked_for() -> None:
    weights = LabelWeights(torch.tensor([1.0]), update=False, scale_tukey=False)
    weights.collect(torch.tensor([[0.01]]))
    weights.update()
    assert weights.current.tolist() == [1.0]


def test_tukey_scale_follows_the_median_residual_slowly() -> None:
    weights = LabelWeights(torch.tensor([1.0, 0.0]), update=False, scale_tukey=True)
    weights.collect(torch.tensor([[1.0, 9.0], [-2.0, 9.0], [3.0, 9.0]]))
    expected = NORMAL_MAD * 0.999 + 0.001 * 2.0
    np.testing.assert_allclose(weights.tukey_scale, [expected, NORMAL_MAD], rtol=1e-6)


def test_tukey_scale_is_that_of_the_lower_median_and_skips_batches_with_nan() -> None:
    weights = LabelWeights(torch.ones(2), update=False, scale_tukey=True)
    residual = torch.tensor(np.random.default_rng(1).normal(size=(64, 2)), dtype=torch.float32)
    lower_median = np.sort(np.abs(residual.numpy()), axis=0)[31]
    weights.collect(residual)
    expected = NORMAL_MAD + 0.001 * (lower_median - NORMAL_MAD)
    np.testing.assert_allclose(weights.tukey_scale, expected, rtol=1e-6)
    residual[5, 0] = torch.nan
    weights.collect(residual)
    expected[1] += 0.001 * (lower_median[1] - expected[1])
    np.testing.assert_allclose(weights.tukey_scale, expected, rtol=1e-6)


def test_state_goes_on_where_it_was() -> None:
    first = LabelWeights(torch.tensor([1.0, 0.5]), update=True, scale_tukey=True)
    second = LabelWeights(torch.tensor([1.0, 0.5]), update=True, scale_tukey=True)
    first.collect(torch.tensor([[0.1, 0.2]]))
    second.restore({name: value.clone() for name, value in first.state().items()})
    for weights in (first, second):
        weights.collect(torch.tensor([[0.3, 0.1]]))
        weights.update()
    assert torch.equal(first.current, second.current)
    assert torch.equal(first.tukey_scale, second.tukey_scale)


def test_changed_weights_of_the_config_count_after_a_resume() -> None:
    first = LabelWeights(torch.tensor([1.0, 0.5, 2.0, 0.0]), update=True, scale_tukey=False)
    first.collect(torch.tensor([[0.1, 0.2, 0.3, 0.4]]))
    first.update()
    changed = torch.tensor([4.0, 0.5, 0.0, 3.0])
    updated = LabelWeights(changed, update=True, scale_tukey=False)
    updated.restore(first.state())
    expected = [4.0 * first.current[0].item(), first.current[1].item(), 0.0, 3.0]
    assert updated.current.tolist() == expected
    constant = LabelWeights(changed, update=False, scale_tukey=False)
    constant.restore(first.state())
    assert constant.current.tolist() == changed.tolist()


def test_updated_weights_of_older_checkpoints_are_kept() -> None:
    first = LabelWeights(torch.tensor([1.0]), update=True, scale_tukey=False)
    first.collect(torch.tensor([[0.1]]))
    first.update()
    older = {name: tensor for name, tensor in first.state().items() if name != "initial"}
    second = LabelWeights(torch.tensor([2.0]), update=True, scale_tukey=False)
    second.restore(older)
    assert second.current.tolist() == first.current.tolist()
