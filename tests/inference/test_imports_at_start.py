"""Libraries that take longer to import than a command to run are imported only where needed."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_graph_models import CNN, TRANSFORMER, SmallModel


def imported_by(code: str, *names: str) -> list[str]:
    """Which of these modules a new process has imported after running code."""
    show = f"import sys\nprint(*(name for name in {names} if name in sys.modules))"
    found = subprocess.run(
        [sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True
    )
    return found.stdout.split()


@pytest.mark.parametrize("command", ["count", "trafo", "check_config", "check_data", "apply"])
def test_commands_without_a_network_do_not_import_pytorch(command: str) -> None:
    code = f"import dnn_reco.commands.{command}"
    assert imported_by(code, "torch", "onnxruntime", "matplotlib") == []


MIXTURES = {"heads": {"direction": "mixture", "EnergyVisible": "mixture"}}
WITH_MIXTURES = {**TRANSFORMER, "model_kwargs": {**TRANSFORMER["model_kwargs"], **MIXTURES}}


@pytest.mark.parametrize("kind", [CNN, WITH_MIXTURES], ids=["convolutional", "transformer"])
def test_a_model_is_loaded_without_the_compiler_of_pytorch(
    small_model: Callable[..., SmallModel], tmp_path: Path, kind: dict[str, Any]
) -> None:
    """Operations on the device "meta" import it, such as `where`, or sums with a tensor."""
    folder = small_model(kind).write(tmp_path / "model")
    code = f"import dnn_reco\ndnn_reco.load_model('{folder}')"
    assert imported_by(code, "torch", "torch._dynamo", "matplotlib") == ["torch"]
