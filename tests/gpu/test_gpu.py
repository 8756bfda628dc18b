"""What only a GPU can show: precision, CUDA graphs, memory, waits, several processes.

All of it is skipped where there is none.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from event_files import random_events, write_events
from made_up_spec import made_up_spec
from safetensors.torch import load_file
from small_run import BRANCH, MODEL_KWARGS, SmallRun, make_small_run, run_of
from torch import Tensor, nn

from dnn_reco import load_model, open_events, predict
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.modules.models.dom_transformer import DomTransformer
from dnn_reco.modules.models.general_IC86_cnn import GeneralIC86CNN
from dnn_reco.nn.interface import LabelKeys, Prediction
from dnn_reco.nn.predictor import Predictor, allow_tf32, predictor
from dnn_reco.run_options import RunOptions
from dnn_reco.training.from_config import make_trainer

DEVICE = "cuda"
ON_GPU = RunOptions(device=DEVICE, num_threads=1, print_format="reference")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="compile needs a C compiler"
)

KEYS = LabelKeys("zenith", "azimuth", "dir_x", "dir_y", "dir_z", ("p_track",))
NAMES = ("energy", "dir_x", "dir_y", "dir_z", "zenith", "azimuth", "p_track")
MEAN, STD = [5.0, 0.0, 0.1, -0.2, 1.5, 3.0, 0.2], [2.0, 0.6, 0.6, 0.6, 0.7, 1.8, 0.4]
SPEC = made_up_spec(NAMES, KEYS, MEAN, STD)
WITHOUT_DROPOUT = {**MODEL_KWARGS, "keep_prob_dom": 1.0, "keep_prob_fc": 1.0}
WIDE = {"num_filters_list": [16, 16]}  # wide enough for the units that multiply TF32
TRANSFORMER = "dnn_reco.modules.models.dom_transformer.DomTransformer"
LIKELIHOOD = "dnn_reco.modules.loss.density_loss.negative_log_likelihood"
TRAIN_TRANSFORMER = {
    "model_class": TRANSFORMER,
    "model_kwargs": {"width": 16, "num_layers": 2, "num_heads": 2, "max_tokens": 20},
    "model_optimizer_dict": {
        "adam": {
            "optimizer": "Adam",
            "optimizer_settings": {"learning_rate": 0.001},
            "loss_class": LIKELIHOOD,
            "clip_gradients_value": 1.0,
        }
    },
    "label_weight_dict": {f"PrimaryDirection{axis}": 1.0 for axis in "XYZ"},
}


@pytest.fixture(autouse=True)
def precision_of_before() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """Data, a transformation model, and an event store."""
    run = make_small_run(tmp_path_factory.mktemp("gpu"), num_training_iterations=30)
    run_trafo(run.config(), ON_GPU, overwrite=False)
    return run


def trained(run: SmallRun, **changes: object) -> dict[str, Tensor]:
    """All tensors of the checkpoint after 30 iterations on the GPU."""
    assert run_train(run.config(**changes), ON_GPU) == 0
    return tensors(run)


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "dnn_reco", *map(str, words)]


def finished(words: list[str]) -> str:
    """Output of a command, which must succeed."""
    result = subprocess.run(words, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def train_command(run: SmallRun, *options: str) -> list[str]:
    return command("train", run.config_file, f"--device={DEVICE}", "--num_threads=1", *options)


def tensors(run: SmallRun) -> dict[str, Tensor]:
    return load_file(run.checkpoints / "checkpoint-00000030" / "state.safetensors")


def some_hits(seed: int, num_events: int = 12, num_bins: int = 9) -> HitBatch:
    """Random events, one of them without hits."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 120, num_events)
    counts[3] = 0
    features = rng.exponential(3.0, (counts.sum(), num_bins)).astype(np.float32)
    features[:, 3:] += rng.uniform(0, 5000, (counts.sum(), 1)).astype(np.float32)
    doms = [np.sort(rng.choice(5160, count, replace=False)) for count in counts]
    return HitBatch(
        num_events,
        torch.from_numpy(np.repeat(np.arange(num_events), counts)),
        torch.from_numpy(np.concatenate(doms)),
        torch.from_numpy(features),
    )


@torch.no_grad()
def stirred(network: nn.Module) -> nn.Module:
    """A network none of whose layers is the identity, as some are initially."""
    random = torch.Generator().manual_seed(7)
    for parameter in network.parameters():
        parameter += 0.05 * torch.randn(parameter.shape, generator=random)
    return network


def cnn(dtype: str = "float32", **changes: object) -> nn.Module:
    kwargs = {**WITHOUT_DROPOUT, "enforce_direction_norm": False, **changes}
    return stirred(GeneralIC86CNN(SPEC, **kwargs, dtype=dtype))


def transformer(dtype: str = "float32") -> nn.Module:
    return stirred(DomTransformer(SPEC, size="S", relative_bias=True, dtype=dtype))


def in_float64(hits: HitBatch) -> HitBatch:
    return HitBatch(hits.num_events, hits.event, hits.dom, hits.features.double())


def tensors_of(prediction: Prediction) -> dict[str, Tensor]:
    return {each.name: getattr(prediction, each.name) for each in fields(prediction)}


def relative_error(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact.double()).norm() / exact.double().norm())


@pytest.mark.parametrize("kind", ["product", "convolution"])
def test_tf32_shortens_float32_and_nothing_else(kind: str) -> None:
    """11 bits of mantissa, where they are allowed: rounding errors of some 2⁻¹²."""
    random = torch.Generator().manual_seed(1)
    shapes = {
        "product": ((512, 512), (512, 512)),
        "convolution": ((16, 64, 32, 32), (64, 64, 3, 3)),
    }
    a, b = (torch.randn(shape, generator=random, dtype=torch.float64) for shape in shapes[kind])
    compute = torch.matmul if kind == "product" else nn.functional.conv2d
    exact = compute(a, b)
    a, b = a.to(DEVICE), b.to(DEVICE)
    for allowed in (False, True, False):
        allow_tf32(allowed)
        error = relative_error(compute(a.float(), b.float()).cpu(), exact)
        if allowed:
            if torch.cuda.get_device_capability() < (8, 0):
                pytest.skip("this GPU has no TF32")
            assert 5e-5 < error < 1e-3
        else:
            assert error < 2e-5
        assert relative_error(compute(a, b).cpu(), exact) < 1e-13


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_the_config_decides_on_tf32(prepared: SmallRun, precision: str, tmp_path: Path) -> None:
    make_trainer(prepared.config(precision=precision), ON_GPU, trial_folder=tmp_path)
    assert torch.backends.cuda.matmul.allow_tf32 is (precision == "tf32")
    assert torch.backends.cudnn.allow_tf32 is (precision == "tf32")


# The transformer takes sines of large phases, which amplify differences of rounding.
@pytest.mark.parametrize(
    ("make", "dtype", "tolerance"),
    [
        (cnn, "float32", 1e-5),
        (cnn, "float64", 1e-11),
        (transformer, "float32", 2e-4),
        (transformer, "float64", 1e-10),
    ],
)
@torch.no_grad()
def test_predictions_are_those_of_the_cpu(make, dtype: str, tolerance: float) -> None:
    allow_tf32(False)
    on_cpu = make(dtype).eval()
    on_gpu = deepcopy(on_cpu).to(DEVICE)
    for seed in range(3):
        hits = some_hits(seed)
        if dtype == "float64":
            hits = in_float64(hits)
        expected, found = on_cpu(hits), on_gpu(hits.to(torch.device(DEVICE)))
        assert found.labels_trafo.device.type == torch.device(DEVICE).type
        for name, value in tensors_of(expected).items():
            other = getattr(found, name).cpu()
            torch.testing.assert_close(other, value, rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("make", [cnn, transformer])
@torch.no_grad()
def test_shorter_precision_predicts_nearly_the_same(make, precision: str) -> None:
    allow_tf32(precision == "tf32")
    on_cpu = make().eval()
    on_gpu = predictor(deepcopy(on_cpu).to(DEVICE), in_bfloat16=precision == "bf16")
    hits = some_hits(5)
    expected, found = on_cpu(hits), on_gpu(hits.to(torch.device(DEVICE)))
    assert found.labels_trafo.dtype == torch.float32
    error = relative_error(found.labels_trafo.cpu(), expected.labels_trafo)
    assert 0 < error < {"tf32": 5e-3, "bf16": 5e-2}[precision]


def test_a_model_predicts_in_full_precision_after_a_training_with_tf32(
    prepared: SmallRun, tmp_path: Path
) -> None:
    run = run_of(prepared, tmp_path / "run")
    wide = {
        name: {**settings, **WIDE} if name.startswith("conv_") else settings
        for name, settings in WITHOUT_DROPOUT.items()
    }
    config = run.config(model_kwargs=wide, precision="tf32", num_training_iterations=5)
    assert run_train(config, ON_GPU) == 0
    allow_tf32(True)
    path = write_events(tmp_path / "events.hdf5", random_events(9, 100, num_bins=3))
    hits = open_events(path, run.config_file).hits
    there, here = (predict(load_model(config, name), hits).columns() for name in (DEVICE, "cpu"))
    assert torch.backends.cudnn.allow_tf32 is True
    assert "PrimaryAzimuth_uncertainty" in here
    for name in here:
        np.testing.assert_allclose(there[name], here[name], rtol=2e-5, atol=2e-5, err_msg=name)


def outputs_and_gradients(network: nn.Module, predict: Predictor, hits: HitBatch) -> list[Tensor]:
    prediction = predict(hits)
    loss = prediction.labels_trafo.square().mean() + prediction.uncertainty_trafo.log().mean()
    gradients = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    # those of a CUDA graph are overwritten when it is replayed
    return [*tensors_of(prediction).values(), *(g.clone() for g in gradients if g is not None)]


@needs_compiler
def test_cuda_graphs_give_results_and_gradients_of_the_network() -> None:
    """Of several batches in turn: a graph that is replayed must not keep those of another."""
    allow_tf32(False)
    network = cnn("float64", keep_prob_dom=0.9).to(DEVICE).train()
    compiled = predictor(network, compiled=True)
    batches = [in_float64(some_hits(seed)).to(torch.device(DEVICE)) for seed in range(4)]
    results = []
    for predict_batch in (network, compiled):
        found = []
        for number in (0, 1, 2, 3, 0, 1, 2, 3):
            torch.manual_seed(number)  # drops the same DOMs
            found.append(outputs_and_gradients(network, predict_batch, batches[number]))
        results.append(found)
    assert len({float(found[0].sum()) for found in results[0]}) == 4
    for plain, replayed in zip(*results, strict=True):
        for one, other in zip(plain, replayed, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-8, atol=1e-10)


@needs_compiler
def test_dropout_in_cuda_graphs_follows_the_seed() -> None:
    network = cnn(keep_prob_flat=0.5).to(DEVICE).train()
    compiled = predictor(network, compiled=True)
    hits = some_hits(1).to(torch.device(DEVICE))
    found = []
    for seed in (7, 7, 7, 1, 2, 1):  # the first ones until the graph is replayed
        torch.manual_seed(seed)
        found.append(outputs_and_gradients(network, compiled, hits))
    for first, again in zip(found[3], found[5], strict=True):
        torch.testing.assert_close(again, first)
    assert not torch.allclose(found[4][0], found[3][0])


@needs_compiler
def test_a_training_with_cuda_graphs_is_the_same(prepared: SmallRun, tmp_path: Path) -> None:
    plain, compiled = (
        trained(
            run_of(prepared, tmp_path / str(wanted)),
            compile=wanted,
            float_precision="float64",
            model_kwargs={**WITHOUT_DROPOUT, "keep_prob_dom": 0.9},
        )
        for wanted in (False, True)
    )
    assert plain.keys() == compiled.keys()
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize("changes", [{}, TRAIN_TRANSFORMER], ids=["cnn", "transformer"])
def test_events_in_the_memory_of_the_gpu_train_the_same_network(
    prepared: SmallRun, tmp_path: Path, changes: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    found = []
    for wanted in ("auto", False):
        caplog.clear()
        with caplog.at_level("INFO", logger="dnn_reco"):
            run = run_of(prepared, tmp_path / str(wanted))
            settings = {"data_on_device": wanted, "float_precision": "float64", "compile": False}
            found.append(trained(run, **settings, **changes))
        assert ("in the memory of" in caplog.text) is (wanted == "auto")
    there, read = found
    assert there.keys() == read.keys()
    for name, value in read.items():
        torch.testing.assert_close(there[name], value, rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize(
    "changes",
    [
        {"compile": False, "label_scale_tukey": True},
        pytest.param({"compile": True}, marks=needs_compiler),
        TRAIN_TRANSFORMER,
    ],
    ids=["cnn", "compiled cnn", "transformer"],
)
def test_two_deterministic_trainings_agree_in_every_bit(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    first = make_small_run(tmp_path / "first", **{"num_training_iterations": 30, **changes})
    run_trafo(first.config(), ON_GPU, overwrite=False)
    second = run_of(first, tmp_path / "second")
    for run in (first, second):
        finished(train_command(run, "--deterministic"))
    expected, found = tensors(first), tensors(second)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_what_has_no_fixed_order_is_one_message(tmp_path: Path) -> None:
    """PyTorch has no deterministic gradient of a maximum over windows of three dimensions."""
    main = {**MODEL_KWARGS["conv_ic78_settings"], "pooling_type_list": [False, "max"]}
    run = make_small_run(
        tmp_path, compile=False, model_kwargs={**MODEL_KWARGS, "conv_ic78_settings": main}
    )
    run_trafo(run.config(), ON_GPU, overwrite=False)
    words = train_command(run, "--deterministic")
    result = subprocess.run(words, check=False, capture_output=True, text=True)
    assert result.returncode == 1, result.stderr
    assert "Error: --deterministic is not possible" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("changes", [{}, TRAIN_TRANSFORMER], ids=["cnn", "transformer"])
@pytest.mark.parametrize("resident", [False, True])
def test_a_training_step_never_waits_for_the_gpu(
    prepared: SmallRun, tmp_path: Path, changes: dict[str, object], resident: bool
) -> None:
    config = prepared.config(data_on_device=resident, compile=False, **changes)
    trainer = make_trainer(config, ON_GPU, trial_folder=tmp_path)
    steps = trainer.steps(lambda: None)
    for _ in range(3):  # the optimizer makes its state
        next(steps)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(10):
            next(steps)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    steps.close()


# Connects a single process, as several would be, and adds on the GPU and on the CPU.
ALONE = """
import sys, torch
from torch import distributed
from dnn_reco.training.distributed import DistributedContext, all_reduce_sum
torch.cuda.set_device(0)
distributed.init_process_group("cpu:gloo,cuda:nccl")
for device in ("cuda", "cpu"):
    x = torch.arange(3.0, device=device, requires_grad=True)
    total = all_reduce_sum(x)
    total.square().sum().backward()
    assert total.tolist() == [0.0, 1.0, 2.0], total
    assert x.grad.tolist() == [0.0, 2.0, 4.0], x.grad
distributed.destroy_process_group()
print("added up")
"""
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1"]


def test_nccl_with_one_process(tmp_path: Path) -> None:
    if not torch.distributed.is_nccl_available():
        pytest.skip("this build of PyTorch has no NCCL")
    script = tmp_path / "alone.py"
    script.write_text(ALONE)
    assert "added up" in finished([*TORCHRUN, str(script)])


def test_torchrun_with_one_process_trains_as_without(prepared: SmallRun, tmp_path: Path) -> None:
    changes = {"float_precision": "float64", "compile": False}
    alone, started = (run_of(prepared, tmp_path / name) for name in ("alone", "started"))
    expected = trained(alone, **changes)
    text = started.config_file.read_text()
    started.config_file.write_text(f"{text}\nfloat_precision: float64\ncompile: false\n")
    finished([*TORCHRUN, *train_command(started)[1:]])
    for name, value in expected.items():
        torch.testing.assert_close(tensors(started)[name], value, rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("changes", [{}, TRAIN_TRANSFORMER], ids=["cnn", "transformer"])
def test_two_processes_train_as_one_does(tmp_path: Path, changes: dict[str, object]) -> None:
    normalised = {**BRANCH, **MODEL_KWARGS["conv_ic78_settings"]}
    normalised["use_batch_normalisation_list"] = True
    settings = {
        "num_training_iterations": 30,
        "batch_size": 9,
        "float_precision": "float64",
        "compile": False,
        "model_kwargs": {**MODEL_KWARGS, "conv_ic78_settings": normalised},
        **changes,
    }
    alone = make_small_run(tmp_path / "alone", **settings)
    run_trafo(alone.config(), ON_GPU, overwrite=False)
    together = run_of(alone, tmp_path / "together")
    finished(train_command(alone))
    finished(train_command(together, "--processes=2"))
    expected, found = tensors(alone), tensors(together)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-8, msg=name)


def test_more_processes_than_gpus_are_refused(prepared: SmallRun, tmp_path: Path) -> None:
    run, count = run_of(prepared, tmp_path / "run"), torch.cuda.device_count() + 1
    words = train_command(run, f"--processes={count}")
    result = subprocess.run(words, check=False, capture_output=True, text=True)
    assert result.returncode == 1
    assert f"{count} processes on this machine need a GPU each" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_estimate_has_the_memory_of_the_gpu(prepared: SmallRun, tmp_path: Path) -> None:
    text = finished(train_command(run_of(prepared, tmp_path / "run"), "--estimate"))
    (line,) = [line for line in text.splitlines() if line.startswith("GPU memory")]
    assert "about" in line and "MB" in line
    assert f"measured on {torch.cuda.get_device_name(0)}" in text
    assert "--gpus 1" in text


def test_doctor_names_the_gpu() -> None:
    result = subprocess.run(command("doctor"), check=False, capture_output=True, text=True)
    assert torch.cuda.get_device_name(0) in result.stdout
    assert f"CUDA {torch.version.cuda}" in result.stdout


# Lets a command use so many bytes of the GPU.
LIMITED = """
import sys, torch
share = float(sys.argv.pop(1)) / torch.cuda.get_device_properties(0).total_memory
torch.cuda.set_per_process_memory_fraction(share, 0)
from dnn_reco.cli import main
main()
"""


def test_too_little_memory_is_one_message(prepared: SmallRun, tmp_path: Path) -> None:
    run = run_of(prepared, tmp_path / "run")
    text = run.config_file.read_text()
    run.config_file.write_text(
        f"{text}\ncompile: false\n".replace("batch_size: 8", "batch_size: 4096")
    )
    words = [sys.executable, "-c", LIMITED, "200e6", *train_command(run)[3:]]
    result = subprocess.run(words, check=False, capture_output=True, text=True)
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if "Error:" in line]
    assert "the memory of the GPU is full: use smaller batches (batch_size)" in line
