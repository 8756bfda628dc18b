"""What all tests of training share."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def without_drawing(blank_figures: object) -> None:
    """`test_logging` draws figures; the other tests need none."""
