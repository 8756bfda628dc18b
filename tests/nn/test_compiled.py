"""Compiled functions on disk belong to the present source."""

import re
from pathlib import Path

import pytest

pytest.importorskip("numba")

from dnn_reco.nn import compiled


def test_all_modules_with_compiled_functions_count_as_their_source() -> None:
    """A change of one that is left out would go unnoticed: Numba sees one file alone."""
    folder = Path(compiled.__file__).parent
    decorated = re.compile(r"^@(inlined|inlined_in_order|separate|_inlined|intrinsic|numba)", re.M)
    found = {path for path in folder.glob("*.py") if decorated.search(path.read_text())}
    assert len(found) > 5
    assert found <= set(compiled.sources())
