"""Example configs, the folder `configs` of the repository, as parts of the installed package."""

from pathlib import Path

from dnn_reco.errors import ConfigError
from dnn_reco.suggestions import did_you_mean

FOLDER = Path(__file__).parents[1] / "example_configs"
"""A link to `configs` in the repository, a copy of it in the installed package."""


def example_names() -> list[str]:
    """Names of the examples, sorted: paths in their folder, without the ending `.yaml`."""
    return sorted(
        path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.glob("**/*.yaml")
    )


def example_text(name: str) -> str:
    """The text of an example.

    Raises
    ------
    ConfigError
        If there is no example of this name.
    """
    known = example_names()
    if name.removesuffix(".yaml") not in known:
        raise ConfigError(
            f"there is no example config '{name}'.{did_you_mean(name, known)} "
            "`dnn-reco config example` lists all."
        )
    return (FOLDER / name.removesuffix(".yaml")).with_suffix(".yaml").read_text(encoding="utf-8")
