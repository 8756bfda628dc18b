"""`dnn-reco config example`: configs for those who install the package without its repository."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from dnn_reco.cli import cli
from dnn_reco.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"
EXAMPLES = {
    path.relative_to(CONFIGS).with_suffix("").as_posix(): path
    for path in sorted(CONFIGS.rglob("*.yaml"))
}


def test_all_configs_of_the_repository_are_listed() -> None:
    result = CliRunner().invoke(cli, ["config", "example"])
    assert result.exit_code == 0
    assert result.output.splitlines() == sorted(EXAMPLES)


@pytest.mark.parametrize("ending", ["", ".yaml"])
@pytest.mark.parametrize("name", ["tutorial/getting_started", "examples/DNNTracks/l2_direction"])
def test_an_example_is_printed_as_it_is(name: str, ending: str) -> None:
    result = CliRunner().invoke(cli, ["config", "example", name + ending])
    assert result.exit_code == 0
    assert result.output == EXAMPLES[name].read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["tutorial/geting_started", "../pyproject", "/etc/hostname", ""])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="there is no example config"):
        CliRunner().invoke(cli, ["config", "example", name], catch_exceptions=False)
