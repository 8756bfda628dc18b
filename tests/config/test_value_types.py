"""Borders of the values that keys may have, as their messages tell them."""

import math
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from dnn_reco.config import value_types

LARGEST = 2**63 - 1

# Type, values at its borders that are allowed, and the nearest ones that are not.
BORDERS: list[tuple[str, list[Any], list[Any]]] = [
    ("Text", ["a"], ["", "a\0", 5, None]),
    ("Flag", [True, False], ["maybe", 2, None]),
    ("Number", [-1e300, 0.0, 5], [math.inf, math.nan, True, "a", None]),
    ("PositiveNumber", [5e-324, 1e300], [0.0, -1.0, math.inf, math.nan, True]),
    ("NotNegativeNumber", [0.0, 1e300], [-5e-324, math.inf, math.nan, True]),
    ("Fraction", [5e-324, 1.0], [0.0, 1.0 + 2**-52, True]),
    ("OpenFraction", [5e-324, 1 - 2**-53], [0.0, 1.0, True]),
    ("Smoothing", [0.0, 1.0], [-5e-324, 1.0 + 2**-52, True]),
    ("WholeNumber", [0, LARGEST], [-1, LARGEST + 1, 0.5, True]),
    ("PositiveWholeNumber", [1, LARGEST], [0, LARGEST + 1, 0.5, True]),
    ("Seed", [0, LARGEST], [-1, LARGEST + 1, 0.5, True]),
    ("BatchSize", [1, 1_000_000], [0, 1_000_001, True]),
    ("NumBins", [1, 10_000], [0, 10_001, True]),
    ("Precision", ["float32", "float64"], ["float16", 32]),
    ("Verification", ["samples", "full"], ["none", True]),
    ("NetworkPrecision", ["float32", "tf32", "bf16"], ["float64"]),
    ("AutoFlag", ["auto", True, False], ["always"]),
    ("NotEmptyNames", ["a", ["a", "b"]], [[], 5]),
    ("Numbers", [1.5, [1, 2], [[1], [2]]], [[], "a"]),
    ("WeightByName", [{}, {"a": 0}], [{"a": -1}, {"a": "b"}, [1]]),
]


def is_allowed(name: str, value: Any) -> bool:
    try:
        TypeAdapter(getattr(value_types, name)).validate_python(value)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(("name", "allowed", "refused"), BORDERS, ids=[row[0] for row in BORDERS])
def test_borders(name: str, allowed: list[Any], refused: list[Any]) -> None:
    assert [value for value in allowed if not is_allowed(name, value)] == []
    assert [value for value in refused if is_allowed(name, value)] == []


def test_loose_flags() -> None:
    """Of classes of settings, which convert nothing else."""
    adapter = TypeAdapter(value_types.LooseFlag)
    for value, expected in ((0, False), (1, True), (None, False), (True, True), (False, False)):
        assert adapter.validate_python(value, strict=True) is expected
    for value in (2, "true", []):
        with pytest.raises(ValidationError):
            adapter.validate_python(value, strict=True)
