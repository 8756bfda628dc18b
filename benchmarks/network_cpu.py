"""Events per second of a network with 35 labels on made-up hits.

The network is that of the tutorial (5 kernels per layer), or a transformer over hit DOMs. Training
is forward, backward and an Adam step on the likelihood; prediction is the forward pass. Hits are
random: 336 per event, as in real neutrino events, or with `--hits varying` as many as in neutrino
events above 100 GeV: median 66, mean 96, up to 1560::

    python benchmarks/network_cpu.py --threads 2
    python benchmarks/network_cpu.py --threads 2 --hits varying --batch 128 --model S
    python benchmarks/network_cpu.py --hits varying --batch 128 --model M --precision bf16
"""

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.detector.geometry import NUM_DOMS
from dnn_reco.detector.grid import CELL_HAS_DOM, NUM_CELLS
from dnn_reco.modules.loss.default_loss import gaussian_likelihood
from dnn_reco.modules.loss.density_loss import negative_log_likelihood
from dnn_reco.modules.loss.interface import Loss, LossContext, Truth
from dnn_reco.modules.models.dom_transformer import DomTransformer
from dnn_reco.modules.models.general_IC86_cnn import GeneralIC86CNN
from dnn_reco.nn.interface import LabelKeys, Network, NetworkSpec
from dnn_reco.nn.memory import bound_kernel_cache, keep_freed_memory
from dnn_reco.nn.predictor import Predictor, predictor
from dnn_reco.nn.threads import computes_in_pieces, use_threads
from dnn_reco.transform import TransformationModel, TransformSettings

KEYS = LabelKeys("zenith", "azimuth", "dir_x", "dir_y", "dir_z")
NAMES = (*(f"label_{i}" for i in range(30)), "zenith", "azimuth", "dir_x", "dir_y", "dir_z")
NUM_LABELS = len(NAMES)
NUM_BINS = 9
HITS_PER_EVENT = 336


def network_spec(rng: np.random.Generator) -> NetworkSpec:
    has_dom = CELL_HAS_DOM[:, None]
    settings = TransformSettings(
        label_names=NAMES,
        misc_names=(),
        log_dom_bins=(True,) * 3 + (False,) * 6,
        log_label_bins=(True,) * 2 + (False,) * (NUM_LABELS - 2),
        log_misc_bins=(),
        normalize_dom_data=True,
        normalize_label_data=True,
        normalize_misc_data=False,
        treat_doms_equally=True,
        norm_constant=1e-4,
    )
    transformation = TransformationModel(
        settings,
        dom_mean=np.where(has_dom, rng.uniform(0, 1, NUM_BINS), np.zeros((NUM_CELLS, 1))),
        dom_std=np.where(has_dom, rng.uniform(1, 2, NUM_BINS), np.ones((NUM_CELLS, 1))),
        label_mean=np.zeros(NUM_LABELS),
        label_std=np.ones(NUM_LABELS),
        misc_mean=np.zeros(0),
        misc_std=np.ones(0),
    )
    return NetworkSpec(transformation, np.zeros(NUM_BINS), KEYS)


def tutorial_kwargs(num_filters: int) -> dict[str, Any]:
    """`model_kwargs` of the tutorial."""

    def block(
        num_layers: int, filter_size: list[int], window: list[Any], method: str
    ) -> dict[str, Any]:
        return {
            "filter_size_list": [filter_size] * num_layers,
            "num_filters_list": [num_filters] * num_layers,
            "method_list": method,
            "pooling_type_list": [False, "avg"] * (num_layers // 2),
            "pooling_ksize_list": window,
            "pooling_strides_list": window,
            "activation_list": "elu",
            "use_residual_list": True,
        }

    z, xyz, none = [1, 1, 1, 2, 1], [1, 2, 2, 2, 1], [1, 1, 1, 1, 1]
    main_windows = [none, z, none, xyz, none, xyz, none, xyz]
    dense = {"fc_sizes": [50, -1], "activation_list": ["elu", ""]}
    return {
        "conv_upper_deepcore_settings": block(4, [1, 3], [1, 1, 2, 1], "convolution"),
        "conv_lower_deepcore_settings": block(8, [1, 3], [1, 1, 2, 1], "convolution"),
        "conv_ic78_settings": block(8, [2, 0, 3], main_windows, "hex_convolution"),
        "fc_settings": {**dense, "use_residual_list": [False, True]},
        "fc_unc_settings": dense,
        "enforce_direction_norm": False,
        "keep_prob_dom": 0.95,
    }


def random_hits(num_events: int, rng: np.random.Generator, varying: bool = False) -> HitBatch:
    counts = np.full(num_events, HITS_PER_EVENT)
    if varying:
        counts = np.clip(rng.lognormal(np.log(66), 0.866, num_events), 8, 1560).astype(int)
    doms = [np.sort(rng.choice(NUM_DOMS, count, replace=False)) for count in counts]
    features = rng.exponential(1, (counts.sum(), NUM_BINS)).astype(np.float32)
    return HitBatch(
        num_events,
        torch.from_numpy(np.repeat(np.arange(num_events), counts)),
        torch.tensor(np.concatenate(doms)),
        torch.tensor(features),
    )


def step_times(step: Callable[[], object], seconds: float) -> list[float]:
    """Durations of single steps, after three others."""
    for _ in range(3):
        step()
    times: list[float] = []
    while sum(times) < seconds:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times


def events_per_second(step: Callable[[], object], num_events: int, seconds: float = 5) -> float:
    """Events/s from the median time of single steps."""
    return num_events / float(np.median(step_times(step, seconds)))


def training_step(
    network: Network, predict: Predictor, loss: Loss, next_batch: Callable[[], HitBatch]
) -> Callable[[], object]:
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, eps=1e-7, fused=True)

    def step() -> None:
        hits = next_batch()
        truth = torch.zeros(hits.num_events, NUM_LABELS)
        optimizer.zero_grad()
        prediction = predict(hits)
        residual = prediction.labels_trafo - truth
        context = LossContext(NAMES, KEYS, residual, None, torch.ones(NUM_LABELS))
        loss(prediction, Truth(truth, truth), context).sum().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return step


def make_network(model: str, num_filters: int, rng: np.random.Generator) -> tuple[Network, Loss]:
    """The network and its loss."""
    spec = network_spec(rng)
    if model == "cnn":
        return GeneralIC86CNN(spec, **tutorial_kwargs(num_filters)), gaussian_likelihood
    return DomTransformer(spec, size=model), negative_log_likelihood


def start_network(
    model: str, num_filters: int, threads: int, rng: np.random.Generator
) -> tuple[Network, Loss]:
    """The network and its loss, with the memory and the threads of trainings on a CPU."""
    same_shapes = model == "cnn"
    bound_kernel_cache(same_shapes)
    keep_freed_memory(same_shapes)
    network, loss = make_network(model, num_filters, rng)
    use_threads(threads, computes_in_pieces(network))
    return network, loss


def prediction_step(predict: Predictor, next_batch: Callable[[], HitBatch]) -> Callable[[], object]:
    @torch.inference_mode()
    def step() -> object:
        return predict(next_batch())

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", choices=["cnn", "S", "M", "L"], default="cnn")
    parser.add_argument("--filters", type=int, default=5, help="kernels per layer (cnn)")
    parser.add_argument("--hits", choices=["many", "varying"], default="many")
    parser.add_argument("--batch", type=int, nargs="+", default=[32], help="sizes, in training")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    network, loss = start_network(options.model, options.filters, options.threads, rng)
    num_weights = sum(p.numel() for p in network.parameters())
    print(f"{num_weights} weights, {options.threads} threads, torch {torch.__version__}")

    compute = predictor(network, in_bfloat16=options.precision == "bf16")
    network.train()
    for batch in options.batch:
        hits = random_hits(batch, rng, options.hits == "varying")
        step = training_step(network, compute, loss, lambda hits=hits: hits)
        rate = events_per_second(step, batch)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"training,   batch {batch:3d}: {rate:8.0f} events/s, peak memory {peak:.0f} MiB")

    network.eval()
    for batch in (1, 32, 256):
        hits = random_hits(batch, rng, options.hits == "varying")
        step = prediction_step(compute, lambda hits=hits: hits)
        print(f"prediction, batch {batch:3d}: {events_per_second(step, batch):8.0f} events/s")


if __name__ == "__main__":
    main()
