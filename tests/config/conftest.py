from collections.abc import Callable
from pathlib import Path

import pytest

WriteConfig = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> WriteConfig:
    """Write a config file into an empty folder."""

    def write_config(text: str, name: str = "config.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write_config


@pytest.fixture(scope="session")
def production_style() -> Path:
    return Path(__file__).parent / "production_style.yaml"
