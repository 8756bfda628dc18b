"""Compare networks, losses and training of dnn_reco with numbers of the TensorFlow version.

    python parity/network.py ../shared/data/golden/network --legacy dirnorm --legacy mixed

FOLDER contains golden files: `model_<name>_{weights,outputs}.npz` with `_meta.json`, and optionally
`losses_<name>.npz`, `trafo_*`, `train_*` and `tf_checkpoint*`. All existing files are compared; the
exit code is 1 if a deviation exceeds its limit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from comparison import Comparison
from golden import LABEL_KEYS, Arrays, GoldenFolder, layer_outputs, open_folder, parameters
from numpy.typing import NDArray
from torch import Tensor

from dnn_reco.commands.import_model import run_import
from dnn_reco.errors import DnnRecoError
from dnn_reco.inference.model_folder import load_model_folder
from dnn_reco.modules.loss import default_loss, track_loss
from dnn_reco.modules.loss.interface import Truth
from dnn_reco.modules.loss.untrained import mask_untrained
from dnn_reco.nn.densify import Densify
from dnn_reco.nn.interface import Prediction
from dnn_reco.nn.label_transform import LabelTransform
from dnn_reco.training.label_weights import LabelWeights

LAYERS = OUTPUTS = GRADIENTS = 2e-5
LOSSES = TRANSFORMATION = 1e-5
"""Largest deviations, as shares of the largest value of each array."""

LOSS_MODULES = (default_loss, track_loss)
KEEPS_SIGN = "pull_distribution_scale"
"""The loss that depends on the sign of the azimuth's residual, which is wrong in the reference."""


def compare(
    what: str,
    ours: Tensor | NDArray[Any],
    golden: NDArray[Any],
    allowed: float,
    axis: int | None = None,
) -> Comparison:
    """Compare two arrays of one shape; with `axis` 0, each column on its own scale."""
    ours = ours.detach().numpy() if isinstance(ours, Tensor) else np.asarray(ours)
    if ours.shape != golden.shape:
        return Comparison(f"{what}: shapes {ours.shape}, {golden.shape}", np.inf, allowed)
    difference = np.abs(ours.astype(np.float64) - golden).max(axis=axis)
    scale = np.maximum(np.abs(golden.astype(np.float64)).max(axis=axis), 1e-6)
    return Comparison(what, float(np.max(difference / scale)), allowed)


def check_model(folder: GoldenFolder, name: str, legacy: bool) -> Iterator[Comparison]:
    """Activations of each layer, and predictions, of one network."""
    outputs, prediction = layer_outputs(folder.network(name, legacy), folder.hits())
    golden = folder.arrays(f"model_{name}_outputs")
    for key in golden:
        if key.startswith(("act/", "pre/")):
            yield compare(key, outputs[key], golden[key], LAYERS)
        elif key.startswith("logit/"):
            column = folder.label_names.index(key.removeprefix("logit/"))
            yield compare(key, prediction.logits[:, column], golden[key], OUTPUTS)
    yield from check_prediction(prediction, golden)


def check_prediction(prediction: Prediction, golden: Arrays) -> Iterator[Comparison]:
    """Labels and uncertainties; in physical units, each label on its own scale."""
    for key, ours in (
        ("y_pred_trafo", prediction.labels_trafo),
        ("y_unc_pred_trafo", prediction.uncertainty_trafo),
    ):
        yield compare(key, ours, golden[key], OUTPUTS)
    for key, ours in (("y_pred", prediction.labels), ("y_unc", prediction.uncertainty)):
        yield compare(key, ours, golden[key], OUTPUTS, axis=0)


def golden_prediction(folder: GoldenFolder, golden: Arrays) -> Prediction:
    """A prediction from golden outputs, with gradients.

    Labels in physical units are computed from the transformed ones, since losses in angles and
    metres need their gradient, too.
    """
    transform = LabelTransform(folder.read_transformation())
    labels_trafo = torch.tensor(golden["y_pred_trafo"], requires_grad=True)
    uncertainty_trafo = torch.tensor(golden["y_unc_pred_trafo"], requires_grad=True)
    logits = torch.zeros_like(labels_trafo)
    labels = transform.inverse(labels_trafo)
    for key in golden:
        if key.startswith("logit/"):
            column = folder.label_names.index(key.removeprefix("logit/"))
            logits[:, column] = torch.tensor(golden[key])
    return Prediction(
        labels_trafo,
        uncertainty_trafo,
        labels,
        transform.unscale_uncertainty(uncertainty_trafo),
        logits,
    )


def check_losses(folder: GoldenFolder, name: str) -> Iterator[Comparison]:
    """Each loss and its gradients, on the golden predictions of a network."""
    golden = folder.arrays(f"losses_{name}")
    outputs = folder.arrays(f"model_{name}_outputs")
    functions = {n: getattr(m, n) for m in LOSS_MODULES for n in dir(m) if n in golden}
    names = folder.label_names
    label_weights = torch.tensor(golden["label_weights"])
    truth = Truth(torch.tensor(outputs["y_true"]), torch.tensor(outputs["y_true_trafo"]))
    for loss, function in sorted(functions.items()):
        keep = [loss != KEEPS_SIGN or LABEL_KEYS.azimuth not in label for label in names]
        for suffix in ("", "__weighted"):
            if loss + suffix not in golden:
                continue
            prediction = golden_prediction(folder, outputs)
            context = folder.loss_context(
                prediction, truth, torch.tensor(golden["event_weights"]) if suffix else None
            )
            values = function(prediction, truth, context)
            yield compare(loss + suffix, values[keep], golden[loss + suffix][keep], LOSSES)
            (values * label_weights).sum().backward()
            for kind, tensor in (
                ("pred", prediction.labels_trafo),
                ("unc", prediction.uncertainty_trafo),
            ):
                expected = golden[f"grad_{kind}/{loss}{suffix}"]
                if expected.shape == (1,):  # the loss does not depend on it
                    ours = tensor.grad
                    largest = 0.0 if ours is None else float(ours.abs().max())
                    yield Comparison(f"gradient_{kind} of {loss}{suffix}", largest, 0.0)
                    continue
                assert tensor.grad is not None
                ours = tensor.grad[:, keep]
                what = f"gradient_{kind} of {loss}{suffix}"
                yield compare(what, ours, expected[:, keep], LOSSES)


def check_transformation(folder: GoldenFolder, name: str) -> Iterator[Comparison]:
    """Inputs, labels and uncertainties: transformation and its inverse."""
    golden = folder.arrays(f"trafo_{name}")
    transform = LabelTransform(folder.read_transformation())
    main, deepcore = Densify(folder.spec(), 1.0, torch.float32)(folder.hits())
    labels, uncertainty = folder.labels(), torch.tensor(golden["unc"])
    for key, ours, axis in (
        ("ic78_trafo", main, None),
        ("deepcore_trafo", deepcore, None),
        ("label_trafo", transform(labels), 0),
        ("label_inv_of_trafo", transform.inverse(transform(labels)), 0),
        ("unc_trafo_nobias", transform.scale_uncertainty(uncertainty), 0),
        ("unc_inv_nobias", transform.unscale_uncertainty(uncertainty), 0),
    ):
        if key in golden:
            yield compare(key, ours, golden[key], TRANSFORMATION, axis)


def check_training_step(folder: GoldenFolder, name: str, num_events: int) -> Iterator[Comparison]:
    """Loss and gradients of one step of the Gaussian likelihood on the first events."""
    golden = folder.arrays("train_one_adam_step")
    network = folder.network(name, legacy=False)
    prediction = network(folder.hits(range(num_events)))
    labels = folder.labels()[:num_events]
    weights = torch.tensor(golden["label_weights_before"])
    truth = Truth(labels, network.label_head.transform(labels))
    prediction, truth = mask_untrained(prediction, truth, weights > 0)
    context = folder.loss_context(prediction, truth, None)
    loss = (default_loss.gaussian_likelihood(prediction, truth, context) * weights).sum()
    loss.backward()
    yield compare("loss", loss[None], golden["loss_total"][None], LOSSES)
    ours = dict(network.named_parameters())
    for key, gradient in parameters(below(golden, "grad")).items():
        yield compare(f"gradient of {key}", ours[key].grad, gradient.numpy(), GRADIENTS)
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    yield compare("global norm", norm[None], golden["global_norm"][None], GRADIENTS)


def check_label_weights(folder: GoldenFolder, name: str) -> Iterator[Comparison]:
    """Label weights after each update."""
    golden = folder.arrays(f"train_{name}")
    weights = LabelWeights(torch.tensor(golden["label_weights"][0]), True, scale_tukey=False)
    for step, mean_squares in enumerate(golden["mse"], start=1):
        weights.collect(torch.tensor(mean_squares).sqrt()[None])
        weights.update()
        yield compare(f"after step {step}", weights.current, golden["label_weights"][step], LOSSES)


def check_import(folder: GoldenFolder) -> Iterator[Comparison]:
    """Predictions of a checkpoint imported with the command of users."""
    with TemporaryDirectory() as folder_name:
        target = Path(folder_name) / "model"
        with redirect_stdout(StringIO()):
            run_import(folder.path / "tf_checkpoint", target, None, (), None, overwrite=False)
        model = load_model_folder(target, torch.device("cpu"))
        with torch.inference_mode():
            prediction = model.network(folder.hits())
    for name in folder.names("tf_checkpoint_predict_*.npz"):
        yield from check_prediction(prediction, folder.arrays(f"tf_checkpoint_predict_{name}"))


def below(arrays: Arrays, group: str) -> dict[str, NDArray[Any]]:
    """The arrays whose key begins with ``<group>/``, without this prefix."""
    return {k.partition("/")[2]: v for k, v in arrays.items() if k.partition("/")[0] == group}


def comparisons(
    folder: GoldenFolder, legacy: Sequence[str], step_model: str, step_events: int
) -> Iterator[tuple[str, Iterator[Comparison]]]:
    """All comparisons for which the folder has files, by title."""
    for name in folder.names("model_*_weights.npz"):
        repeats = name in legacy or "all" in legacy
        title = f"network {name}" + (" (legacy)" if repeats else "")
        yield title, check_model(folder, name, repeats)
    for name in folder.names("losses_*.npz"):
        yield f"losses of {name}", check_losses(folder, name)
    for name in folder.names("trafo_*.npz"):
        if "label_trafo" in folder.arrays(f"trafo_{name}"):
            yield f"transformation {name}", check_transformation(folder, name)
    if (folder.path / "train_one_adam_step.npz").is_file():
        yield f"training step of {step_model}", check_training_step(folder, step_model, step_events)
    for name in folder.names("train_label_weights_*.npz"):
        yield f"label weights {name}", check_label_weights(folder, f"label_weights_{name}")
    if (folder.path / "tf_checkpoint").is_dir():
        yield "imported checkpoint", check_import(folder)


def report(title: str, results: Iterator[Comparison], verbose: bool) -> bool:
    """Print the results of comparisons; returns whether all are within their limits."""
    found = list(results)
    bad = [result for result in found if not result.agrees]
    worst = max(found, key=lambda result: result.deviation / max(result.allowed, 1e-30))
    verdict = f"{len(bad)} of {len(found)} deviate" if bad else f"{len(found)} agree"
    print(f"{title:36s} {verdict:>20s}, at most {worst.deviation:.1e} ({worst.what})")
    for result in found if verbose else bad:
        mark = " " if result.agrees else "!"
        print(f"  {mark} {result.what:44s} {result.deviation:.1e}  allowed {result.allowed:.0e}")
    return not bad


def main() -> None:
    """Run all comparisons; exit code 1 if a deviation exceeds its limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--legacy",
        action="append",
        default=[],
        metavar="NAME",
        help="network for which to reproduce the errors of the reference (`all`: all networks)",
    )
    parser.add_argument("--data", help="name of the input data [the ones that fit]")
    parser.add_argument("--trafo", help="name of the transformation model [the one that fits]")
    parser.add_argument("--step-model", default="base_strong", help="network of the training step")
    parser.add_argument("--step-events", type=int, default=8, help="its number of events")
    parser.add_argument("-v", "--verbose", action="store_true", help="also print what agrees")
    options = parser.parse_args()
    try:
        folder = open_folder(options.folder, options.data, options.trafo)
        found = comparisons(folder, options.legacy, options.step_model, options.step_events)
        verdicts = [report(title, results, options.verbose) for title, results in found]
    except (OSError, DnnRecoError) as error:
        sys.exit(f"Error: {error}")
    sys.exit(0 if all(verdicts) else 1)


if __name__ == "__main__":
    main()
