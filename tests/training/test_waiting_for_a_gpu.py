"""A training step makes no call that waits for a GPU: seen without one.

The device "meta", which computes shapes only, plays the GPU: whatever needs a value of a tensor
there would wait for it.
"""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_run import MODEL_KWARGS, SmallRun, make_small_run
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dnn_reco.commands.trafo import run_trafo
from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.data.loader import to_tensors
from dnn_reco.modules.models.dom_transformer import DomTransformer
from dnn_reco.nn.from_config import network_spec
from dnn_reco.run_options import RunOptions
from dnn_reco.training import trainer as trainer_module
from dnn_reco.training.divergence import NonFiniteDetector
from dnn_reco.training.from_config import make_trainer
from dnn_reco.transform import load_transformation

META = torch.device("meta")
LOSSES = "dnn_reco.modules.loss"
# operations whose result, or its shape, depends on values
_READ = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero")


class Waits(TorchDispatchMode):
    """Names of the calls that make the program wait for a device.

    Parameters
    ----------
    device
        The device that plays the GPU.
    """

    def __init__(self, device: str = "meta") -> None:
        super().__init__()
        self.device = device
        self.found: list[str] = []

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Any = (), keywords: Any = None
    ) -> Any:
        name, keywords = operation.__name__.split(".")[0], keywords or {}
        tensors = [each for each in tree_leaves((arguments, keywords)) if isinstance(each, Tensor)]
        there = any(each.device.type == self.device for each in tensors)
        reads = there and (name.startswith(_READ) or _has_mask_or_list(name, arguments))
        if reads or _is_copy_between_devices(name, arguments, keywords):
            self.found.append(name)
        return operation(*arguments, **keywords)


def _is_copy_between_devices(name: str, arguments: Any, keywords: Any) -> bool:
    if name == "copy_":
        return arguments[0].device != arguments[1].device
    target = keywords.get("device")
    return name == "_to_copy" and target is not None and target != arguments[0].device


def _has_mask_or_list(name: str, arguments: Any) -> bool:
    """Whether it takes elements by a mask, or by numbers that are copied to the device first."""
    if name not in ("index", "index_put", "index_put_", "_index_put_impl_"):
        return False
    indices = [each for each in arguments[1] if each is not None]
    device = arguments[0].device
    return any(each.dtype == torch.bool or each.device != device for each in indices)


class Made(TorchFunctionMode):
    """Calls that make tensors of numbers directly on "meta": on a GPU these are copied there.

    So are lists of numbers that are used as an index.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(
        self, function: Any, types: Any, arguments: Any = (), keywords: Any = None
    ) -> Any:
        keywords = keywords or {}
        if function in (torch.tensor, torch.as_tensor):
            device = keywords.get("device")
            if device is not None and torch.device(device).type == "meta":
                self.found.append(function.__name__)
        if function in (Tensor.__getitem__, Tensor.__setitem__) and arguments[0].is_meta:
            index = arguments[1] if isinstance(arguments[1], tuple) else (arguments[1],)
            if any(isinstance(each, list | np.ndarray) for each in index):
                self.found.append("index by a list")
        return function(*arguments, **keywords)


def waits_of(work: Callable[[], object]) -> list[str]:
    """What would wait for the GPU."""
    with Made() as made, Waits() as waits:
        try:
            work()
        except (NotImplementedError, RuntimeError):  # without values it cannot go on
            if not waits.found:
                raise
    return [*made.found, *waits.found]


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x.sum().item(),
        lambda x: x.tolist(),
        lambda x: bool((x > 0).all()),
        lambda x: int(x.long().max()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x[:, [0, 2]],
        lambda x: x.__setitem__((slice(None), [0, 2]), 1.0),
        lambda x: x + torch.tensor([1.0, 2.0, 3.0], device=x.device),
        lambda x: torch.ones(3).to(x.device) * x,
        lambda x: x.copy_(torch.ones(3, 3)),
    ],
)
def test_what_waits_is_found(work: Callable[[Tensor], object]) -> None:
    x = torch.ones(3, 3, device=META)
    assert waits_of(lambda: work(x))


def test_what_does_not_wait_is_not_found() -> None:
    x, chosen = torch.ones(3, 3, device=META), torch.zeros(2, dtype=torch.int64, device=META)
    assert waits_of(lambda: torch.where(x > 0, x[chosen][:1], 0).sum() + torch.zeros(())) == []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    made = make_small_run(tmp_path_factory.mktemp("waits"), validation_events=0)
    run_trafo(made.config(), RunOptions(device="cpu", num_threads=1), overwrite=False)
    return made


def optimizer(*losses: str) -> dict[str, object]:
    return {
        "adam": {
            "optimizer": "AdamW",
            # the fused one does not know "meta"
            "optimizer_settings": {"learning_rate": 0.001, "foreach": True, "weight_decay": 0.01},
            "loss_class": [f"{LOSSES}.{loss}" for loss in losses],
            "clip_gradients_value": 1.0,
            "remove_nan_gradients": True,
            "l2_regularization": 1e-4,
        }
    }


DIRECTION = {f"PrimaryDirection{axis}": 1.0 for axis in "XYZ"}
ANGLES = {"PrimaryZenith": 1.0, "PrimaryAzimuth": 1.0}
TRANSFORMER = {
    "model_class": "dnn_reco.modules.models.dom_transformer.DomTransformer",
    "label_weight_dict": {**DIRECTION, **ANGLES, "EnergyVisible": 1.0, "p_starting": 1.0},
    "model_optimizer_dict": optimizer("density_loss.negative_log_likelihood"),
}
SMALL = {"width": 16, "num_layers": 2, "num_heads": 2, "hidden": 24}
EASY_AUGMENTATION = {
    "jitter_times": 3.0,
    "scale_charges": 0.1,
    "vary_charges": 0.1,
    "rotate_events": "any",
}
NORMALISED = {**MODEL_KWARGS["conv_ic78_settings"], "use_batch_normalisation_list": True}
CNN = {
    "model_kwargs": {**MODEL_KWARGS, "conv_ic78_settings": NORMALISED, "keep_prob_conv": 0.9},
    "label_weight_dict": {**DIRECTION, **ANGLES, "EnergyVisible": 1.0, "p_starting": 1.0},
    "label_update_weights": True,
    "label_scale_tukey": True,
    "ema_decay": 0.9,
}
TRAININGS: dict[str, dict[str, object]] = {
    "transformer": {**TRANSFORMER, "model_kwargs": SMALL},
    "transformer with all that needs no values": {
        **TRANSFORMER,
        "model_kwargs": {
            **SMALL,
            "max_tokens": 15,
            "relative_bias": True,
            "dropout": 0.1,
            "augmentation": EASY_AUGMENTATION,
        },
    },
    **{
        f"cnn with {'.'.join(losses)}": {**CNN, "model_optimizer_dict": optimizer(*losses)}
        for losses in (
            ("default_loss.gaussian_likelihood", "default_loss.tukey"),
            ("default_loss.mse_and_cross_entropy", "default_loss.pull_distribution_scale"),
            ("default_loss.mse_and_weighted_cross_entropy", "default_loss.mse"),
            ("default_loss.opening_angle", "default_loss.opening_angle_raleigh"),
            ("direction_loss.von_mises_fisher", "density_loss.negative_log_likelihood"),
            ("robust_loss.huber", "robust_loss.student"),
            ("classification_loss.focal_cross_entropy", "default_loss.abs"),
        )
    },
}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_step_does_not_wait(
    run: SmallRun, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_no_weights(weights: object, interval: int) -> NonFiniteDetector:
        return NonFiniteDetector({}, interval)  # looks at the values of weights as it is made

    monkeypatch.setattr(trainer_module, "NonFiniteDetector", of_no_weights)
    for module in ("dom_transformer", "general_IC86_cnn"):  # "meta" has no autocast
        name_there = f"dnn_reco.modules.models.{module}.autocast_disabled"
        monkeypatch.setattr(name_there, lambda device: nullcontext())
    config = run.config(**TRAININGS[name])
    options = RunOptions(device="meta", num_threads=1)
    trainer = make_trainer(config, options, trial_folder=tmp_path)
    batches = [
        to_tensors(trainer.data.training.read(np.arange(start, start + 8))).to(META)
        for start in (0, 8, 16)
    ]
    trainer._step(0, batches[0])  # the optimizer makes its state
    for iteration, batch in enumerate(batches[1:], start=1):
        assert waits_of(lambda i=iteration, b=batch: trainer._step(i, b)) == []


def some_hits(run: SmallRun) -> HitBatch:
    trainer = make_trainer(run.config(), RunOptions(device="cpu", num_threads=1))
    return to_tensors(trainer.data.training.read(np.arange(16))).hits


@pytest.mark.parametrize(
    ("augmentation", "expected"),
    [
        ({}, []),
        (EASY_AUGMENTATION, []),
        ({"drop_doms": 0.2}, ["nonzero"]),
        ({"noise_hits": 4.0}, ["nonzero"]),
        ({"drop_doms": 0.2, "noise_hits": 4.0, **EASY_AUGMENTATION}, ["nonzero", "nonzero"]),
    ],
)
def test_hits_that_are_dropped_or_added_are_counted_once(
    run: SmallRun, augmentation: dict[str, object], expected: list[str]
) -> None:
    """How many there are depends on random numbers on the GPU: each waits once."""
    spec = network_spec(
        run.config(), load_transformation(Path(run.config().trafo.trafo_model_path))
    )
    network = DomTransformer(spec, **SMALL, max_tokens=15, augmentation=augmentation).train()
    hits = some_hits(run)
    keys = "dnn_reco.nn.augmentation.new_key"  # drawn on the CPU in any case
    with pytest.MonkeyPatch.context() as monkeypatch, Waits("cpu") as waits:
        monkeypatch.setattr(keys, lambda: 12345)
        network(hits).labels.sum().backward()
    assert waits.found == expected


@torch.no_grad()
def test_counts_of_the_cpu_change_nothing(run: SmallRun) -> None:
    spec = network_spec(
        run.config(), load_transformation(Path(run.config().trafo.trafo_model_path))
    )
    hits = some_hits(run)
    assert hits.counts is not None
    assert hits.counts.tolist() == torch.bincount(hits.event, minlength=16).tolist()
    unknown = HitBatch(hits.num_events, hits.event, hits.dom, hits.features)
    for max_tokens in (5, 15, 500):
        network = DomTransformer(spec, **SMALL, max_tokens=max_tokens)
        for mode in (True, False):
            network.train(mode)
            one, other = network(hits), network(unknown)
            assert all(
                torch.equal(value, getattr(other, name)) for name, value in vars(one).items()
            )
