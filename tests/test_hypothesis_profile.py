"""Property tests: no deadline on any machine, and in CI the same examples in each run."""

import os
import re
from pathlib import Path

import hypothesis

TESTS = Path(__file__).parent


def test_profile() -> None:
    assert hypothesis.settings.default.deadline is None
    assert hypothesis.settings.default.derandomize == ("CI" in os.environ)


def test_no_test_sets_a_deadline_of_its_own() -> None:
    with_deadline = re.compile(r"@settings\([^@]*?deadline=\d")
    found = [path.name for path in TESTS.rglob("*.py") if with_deadline.search(path.read_text())]
    assert not found, f"a deadline fails on a busy machine: {found}"
