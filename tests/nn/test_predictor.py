"""Networks in bfloat16, and compiled with `torch.compile`."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from small_run import MODEL_KWARGS

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.modules.models.general_IC86_cnn import GeneralIC86CNN
from dnn_reco.nn.interface import NetworkSpec
from dnn_reco.nn.predictor import Predictor, allow_tf32, predictor, without_tf32

NORMALISED = {"use_batch_normalisation_list": True}
KWARGS = {
    **MODEL_KWARGS,
    "conv_ic78_settings": {**MODEL_KWARGS["conv_ic78_settings"], **NORMALISED},
    "enforce_direction_norm": False,
}


def some_hits(spec: NetworkSpec) -> HitBatch:
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 60, 12)
    doms = [np.sort(rng.choice(5160, count, replace=False)) for count in counts]
    return HitBatch(
        len(counts),
        torch.from_numpy(np.repeat(np.arange(len(counts)), counts)),
        torch.from_numpy(np.concatenate(doms)),
        torch.from_numpy(rng.exponential(1, (counts.sum(), spec.num_bins)).astype(np.float32)),
    )


def outputs_and_gradients(
    network: GeneralIC86CNN, predict: Predictor, hits: HitBatch
) -> list[torch.Tensor]:
    torch.manual_seed(3)
    prediction = predict(hits)
    loss = prediction.labels_trafo.square().mean() + prediction.uncertainty_trafo.log().mean()
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    return [*(getattr(prediction, field.name) for field in fields(prediction)), *gradients]


@pytest.mark.parametrize("training", [False, True])
def test_bfloat16_is_used_and_is_accurate_enough(small_spec: NetworkSpec, training: bool) -> None:
    network = GeneralIC86CNN(small_spec, **KWARGS)
    network.train(training)
    hits = some_hits(small_spec)
    exact = outputs_and_gradients(network, network, hits)
    coarse = outputs_and_gradients(network, predictor(network, in_bfloat16=True), hits)
    assert not torch.equal(exact[0], coarse[0])
    for one, other in zip(exact, coarse, strict=True):
        assert other.dtype == torch.float32
        # eight bits of mantissa, and rounding errors that accumulate over some layers
        assert (one - other).norm() <= 0.05 * one.norm() + 1e-6
    assert network.ic78[0].bn.pop_mean.dtype == torch.float32


def test_full_precision_lasts_until_the_last_thread_has_left() -> None:
    def allowed() -> tuple[bool, bool]:
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = allowed()
    allow_tf32(True)
    first, second = without_tf32(), without_tf32()
    first.__enter__()
    second.__enter__()
    assert allowed() == (False, False)
    first.__exit__(None, None, None)
    assert allowed() == (False, False)
    second.__exit__(None, None, None)
    assert allowed() == (True, True)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("training", [False, True])
def test_all_that_follows_the_grid_is_one_graph(small_spec: NetworkSpec, training: bool) -> None:
    """It can be traced as one graph, with the same results; needs no C compiler."""
    network = GeneralIC86CNN(small_spec, **KWARGS)
    network.train(training)
    graph = torch.compile(network.read_grid, fullgraph=True, dynamic=False, backend="aot_eager")
    hits = some_hits(small_spec)
    plain = outputs_and_gradients(network, network, hits)
    found = outputs_and_gradients(network, lambda h: graph(*network.place_on_grid(h)), hits)
    for one, other in zip(plain, found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)
