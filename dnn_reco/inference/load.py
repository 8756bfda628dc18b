"""Loading a model with the library that computes its predictions."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from dnn_reco.errors import ConfigError
from dnn_reco.inference.backend import Backend
from dnn_reco.inference.calibration import calibrated
from dnn_reco.pretrained_models import model_folder

if TYPE_CHECKING:
    from dnn_reco.inference.trained_model import TrainedModel

BackendName: TypeAlias = Literal["auto", "torch", "onnxruntime"]


def make_backend(
    model: str | Path | TrainedModel,
    device: str = "auto",
    num_threads: int | None = None,
    backend: str = "auto",
    allow_code: Collection[str] = (),
    raw: bool = False,
) -> Backend:
    """Load a model; see :class:`dnn_reco.inference.reconstructor.Reconstructor`."""
    if backend not in get_args(BackendName):
        raise ConfigError(
            f"there is no backend '{backend}': choose one of {', '.join(get_args(BackendName))}"
        )
    if num_threads is not None and num_threads < 0:
        raise ConfigError(f"num_threads is {num_threads}: give the number of CPUs to use")
    has_torch = importlib.util.find_spec("torch") is not None
    if backend == "onnxruntime" or (backend == "auto" and not has_torch):
        return _onnx_backend(model, device, num_threads, raw)
    if not has_torch:
        raise ConfigError("torch is not installed: install it, or use backend='onnxruntime'")
    return _torch_backend(model, device, num_threads, allow_code, raw)


def _torch_backend(
    model: str | Path | TrainedModel,
    device: str,
    num_threads: int | None,
    allow_code: Collection[str],
    raw: bool,
) -> Backend:
    from dnn_reco.inference.model_folder import load_model_folder
    from dnn_reco.inference.torch_backend import TorchBackend
    from dnn_reco.nn.device import choose_device
    from dnn_reco.nn.threads import computes_in_pieces, use_threads

    if isinstance(model, str | Path):
        model = load_model_folder(model_folder(model), choose_device(device), allow_code)
    if num_threads:
        use_threads(num_threads, computes_in_pieces(model.network))
    return calibrated(TorchBackend(model), model.calibration, raw)


def _onnx_backend(
    model: str | Path | TrainedModel, device: str, num_threads: int | None, raw: bool
) -> Backend:
    from dnn_reco.inference.onnx_backend import OnnxBackend

    if not isinstance(model, str | Path):
        raise ConfigError(
            "backend='onnxruntime' needs the graph in a model folder: give its path, not a loaded "
            "model"
        )
    if device not in ("auto", "cpu"):
        raise ConfigError(
            f"backend='onnxruntime' computes on the CPU, not on device {device!r}: use "
            "device='cpu' or backend='torch'"
        )
    backend = OnnxBackend(model_folder(model), num_threads)
    return calibrated(backend, backend.calibration, raw)
