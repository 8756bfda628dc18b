"""Suggestions for misspelt names."""

import pytest

from dnn_reco.suggestions import did_you_mean, edit_distance, misspelling_of, nearest


def test_did_you_mean() -> None:
    known = ("batch_size", "log_path", "unique_name")
    assert did_you_mean("batchsize", known) == " Did you mean 'batch_size'?"
    assert did_you_mean("learning_rate", ["x", "yz"]) == ""
    assert did_you_mean("learning_rate", []) == ""
    assert did_you_mean(12, ["123", "x"]) == " Did you mean '123'?"
    # half of the letters in common are enough, fewer are not
    assert did_you_mean("abcd", ["abxy"]) == " Did you mean 'abxy'?"
    assert did_you_mean("abcd", ["axyz"]) == ""


def test_the_nearest_name_however_different() -> None:
    assert nearest("spectrum", ["seed", "spectral_index", "zenith"]) == "spectral_index"
    assert nearest("???", ["seed"]) == "seed"


@pytest.mark.parametrize(
    ("first", "second", "letters"),
    [
        ("", "", 0),
        ("", "abc", 3),
        ("abc", "", 3),
        ("kitten", "sitting", 3),
        ("flaw", "lawn", 2),
        ("abc", "abd", 1),
        ("abc", "xabc", 1),
        ("ab", "ba", 2),
    ],
)
def test_letters_that_differ(first: str, second: str, letters: int) -> None:
    assert edit_distance(first, second) == letters
    assert edit_distance(second, first) == letters


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("batch_size", "batch_size"),
        ("batchsize", "batch_size"),
        ("bacth_size", "batch_size"),  # two letters
        ("bacthsize", None),  # three
        ("batch_size__", "batch_size"),
        ("batch_size___", None),
        ("xog_paxh", "log_path"),
    ],
)
def test_at_most_two_letters_are_a_misspelling(name: str, expected: str | None) -> None:
    assert misspelling_of(name, ["log_path", "batch_size"]) == expected
    assert misspelling_of(name, []) is None
