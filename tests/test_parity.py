"""`parity/network.py` on the shared golden files, and on modified copies."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import network
import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "parity" / "network.py"


Validate = Callable[..., tuple[int, str]]


@pytest.fixture
def validate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Validate:
    """Exit code and output of the script, in this process."""

    def run(*arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            network.main()
        if isinstance(leaving.value.code, str):
            return 1, leaving.value.code
        return int(leaving.value.code or 0), capsys.readouterr().out

    return run


def test_all_golden_files_agree(golden_network: Path) -> None:
    result = subprocess.run(
        [sys.executable, SCRIPT, golden_network, "--legacy", "dirnorm", "--legacy", "mixed"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    titles = [line[:36].rstrip() for line in result.stdout.splitlines()]
    assert titles == [
        "network base",
        "network base_strong",
        "network dirnorm (legacy)",
        "network mixed (legacy)",
        "network tilted10",
        "losses of base_strong",
        "transformation inputs9_numu_medium",
        "training step of base_strong",
        "label weights 5steps",
        "imported checkpoint",
    ]
    assert all(" agree, at most " in line for line in result.stdout.splitlines())


@pytest.fixture
def copy(golden_network: Path, tmp_path: Path) -> Path:
    """The files of one network alone."""
    names = ["data_numu_medium_inputs9.npz", "losses_base_strong.npz"]
    names += ["trafo_inputs9_5files.npz", "trafo_inputs9_5files_settings.json"]
    names += [f"model_base_strong_{part}" for part in ("meta.json", "weights.npz", "outputs.npz")]
    for name in names:
        shutil.copyfile(golden_network / name, tmp_path / name)
    return tmp_path


def change(path: Path, key: str, factor: float) -> None:
    arrays = dict(np.load(path))
    arrays[key] = (arrays[key] * factor).astype(arrays[key].dtype)
    np.savez(path, **arrays)


def test_existing_files_are_compared_and_deviations_are_named(
    copy: Path, validate: Validate
) -> None:
    code, output = validate(copy)
    assert code == 0, output
    assert len(output.splitlines()) == 2
    change(copy / "model_base_strong_weights.npz", "ic78/6/biases", 1.01)
    change(copy / "losses_base_strong.npz", "grad_unc/mse", 1.001)
    code, output = validate(copy)
    assert code == 1
    assert "! act/ic78/6 " in output
    assert "! act/ic78/5 " not in output
    assert "! gradient_unc of mse " in output


def test_network_with_an_error_of_the_reference_needs_legacy(
    golden_network: Path, validate: Validate
) -> None:
    code, output = validate(golden_network, "--legacy", "dirnorm")
    assert code == 1
    assert "! act/ic78/0 " in output.split("network mixed", 1)[1]


def test_folder_without_golden_files(tmp_path: Path, validate: Validate) -> None:
    code, output = validate(tmp_path)
    assert code == 1
    assert output.startswith("Error: ")
    assert "--trafo" in output
