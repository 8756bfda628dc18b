"""Commands that are run in this process leave it as it was."""

import logging
import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def process_as_before() -> Iterator[None]:
    """Messages and environment, both of which a command sets for the whole process."""
    root, package = logging.getLogger(), logging.getLogger("dnn_reco")
    handlers, level, environment = root.handlers[:], package.level, dict(os.environ)
    yield
    root.handlers[:] = handlers
    package.setLevel(level)
    os.environ.clear()
    os.environ.update(environment)
