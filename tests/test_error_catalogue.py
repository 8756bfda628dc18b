"""Each error and warning of the package, as tests/error_catalogue.txt lists them, reads well."""

import re
import runpy
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
GENERATOR = runpy.run_path(str(REPOSITORY / "tools" / "error_catalogue.py"))
MESSAGES = [(one.module, one.kind, one.text) for one in GENERATOR["messages"]()]
OF_THE_PACKAGE = ("ConfigError", "DataError", "ModelError", "TrainingError", "ClusterError")

NOT_ENGLISH = re.compile(
    r"nobody|(is|are) there already|\bgo(es|ing)? on\b|by heart|\blooks? at\b|\bknows\b|\bwholly\b"
    r"|\btells?\b|\bcosts? time\b|\(s\)|\bstrangers?\b|, too\b|\bmade otherwise\b|\bfits no\b"
    r"|(?<![Tt]here )\b(is|are) no (?!longer)"
)
REMEDY = re.compile(r"[:;,.]\s|\bmust\b|did_you_mean|\bonly\b|\bneeds?\b")


def texts(*kinds: str) -> list[str]:
    return [text for _, kind, text in MESSAGES if kind in kinds]


def test_the_catalogue_is_that_of_the_code() -> None:
    committed = (REPOSITORY / "tests" / "error_catalogue.txt").read_text(encoding="utf-8")
    assert GENERATOR["page"]() == committed, "run: python tools/error_catalogue.py"


def test_messages_of_each_kind_are_found() -> None:
    assert len(MESSAGES) > 800
    found = set(texts("ModelError"))
    # one written at the `raise`, one of several parts, one with the constant of the module
    assert "there is no checkpoint in '{folder}': train the network first" in found
    assert "…a type of numbers without byte order" in found
    assert any("set model_restore_model: False to train from the start" in each for each in found)
    assert any("the damaged part is skipped" in each for each in texts("Warning"))


@pytest.mark.parametrize("kind", [*OF_THE_PACKAGE, "ValueError", "Warning"])
def test_form_and_words(kind: str) -> None:
    for text in texts(kind):
        prose = re.sub(r"\{.*?\}", "{}", text)
        assert "  " not in re.sub(r"\n +.*", "", prose), text  # indented lines are examples
        assert text == text.strip() or text.startswith(" "), text
        assert not re.search(r"[:,;]$", text), text
        assert not NOT_ENGLISH.search(prose), text


def test_errors_follow_the_word_error() -> None:
    """The command line prints `Error: ` first, so no text starts with a capital, only names do."""
    for text in texts(*OF_THE_PACKAGE):
        assert not re.match(r"(An|The|There|No|Unknown|It|Its|This|Two|All)\b", text), text


def test_config_errors_give_a_remedy() -> None:
    """What is allowed, or what to do, stands behind what is wrong."""
    for text in texts("ConfigError"):
        assert text.startswith("…") or REMEDY.search(text), text
