"""Patterns in texts of a config: those of format strings, as far as they name keys."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnn_reco.data_creation.plan.patterns import PatternFiller, pattern_names
from dnn_reco.errors import ConfigError

VALUES: dict[str, Any] = {
    "run_number": 1234567,
    "dataset": 21,
    "season": "IC86.2020",
    "gamma": 1.5,
    "_offset": -7,
    "folder": "{season}/{dataset:03d}",
    "nothing": None,
    "edges": [1, 2],
    "flag": True,
    "loop": "{pool}",
    "pool": "x{loop}",
}
PLAIN = ("run_number", "dataset", "season", "gamma", "_offset")
WHOLE = ("run_number", "dataset", "_offset")


def fill(text: str, values: dict[str, Any] = VALUES) -> str:
    return PatternFiller(values, lambda key: f"config.yaml:{key}").fill(text, "config.yaml:1")


literals = st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]), max_size=8)
patterns = st.one_of(
    literals,
    st.sampled_from(["{{", "}}"]),
    st.sampled_from(PLAIN).map(lambda name: f"{{{name}}}"),
    st.builds(
        lambda name, width: f"{{{name}:0{width}d}}", st.sampled_from(WHOLE), st.integers(1, 20)
    ),
    st.sampled_from(WHOLE).map(lambda name: f"{{{name}:d}}"),
)


@given(st.lists(patterns, max_size=8).map("".join))
def test_the_same_as_format_strings(text: str) -> None:
    assert fill(text) == text.format(**VALUES)


@given(st.text(st.sampled_from("{}{}abdset.[]!:0123r_'(), "), max_size=12))
def test_any_text_is_filled_like_a_format_string_or_refused(text: str) -> None:
    values = {"a": 1, "b": "text"}
    try:
        filled = fill(text, values)
    except ConfigError:
        return
    assert filled == text.format(**values)


@pytest.mark.parametrize(
    "pattern",
    [
        *("{season.upper}", "{season.__class__}", "{edges[0]}", "{season!r}", "{0}", "{}"),
        *("{ season }", "{dataset:6d}", "{dataset:x}", "{dataset:0999d}", "{gamma:.2f}"),
        *("{dataset:{run_number}}", "{season", "season}", "{dataset:}", "{season:s}"),
    ],
)
def test_other_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml:1: .*is not a pattern"):
        fill(f"/data/{pattern}/x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{seson}", "no key 'seson' is set for '{seson}'; the nearest is 'season'"),
        ("{season:03d}", "'{season:03d}' needs a whole number, but 'season' .* is 'IC86.2020'"),
        ("{flag:d}", "needs a whole number, but 'flag'"),
        ("{nothing}", r"'nothing' \(config.yaml:nothing\) is None, which cannot be inserted"),
        ("{edges}", r"is \[1, 2\], which cannot be inserted into text"),
        ("{loop}", "'loop' refers to itself: loop -> pool -> loop"),
        ("{insert_DNN_HOME}/x", "must be replaced by your folder"),
    ],
)
def test_what_cannot_be_filled(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("{", r"\{")):
        fill(text)


def test_values_have_patterns_too() -> None:
    assert fill("a/{folder}/b{folder}") == "a/IC86.2020/021/bIC86.2020/021"


def test_patterns_that_multiply_end_quickly() -> None:
    empty = {"a0": "", **{f"a{i}": f"{{a{i - 1}}}" * 10 for i in range(1, 60)}}
    assert fill("{a59}", empty) == ""
    with pytest.raises(ConfigError, match="too long"):
        fill("{a59}", empty | {"a0": "x"})


def test_names_in_nested_values() -> None:
    values = {"a": "{x}/{y:03d}", "b": [{"c": "{z}{{w}}{v.u}"}, 3]}
    assert set(pattern_names(values)) == {"x", "y", "z"}
