"""docs/reference/modules.md lists exactly the functions that a config may name."""

import inspect
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest

from dnn_reco.utils import learning_rate

TEXT = (Path(__file__).parents[2] / "docs" / "reference" / "modules.md").read_text()
PACKAGES = [
    f"dnn_reco.modules.{name}"
    for name in ("data.labels", "data.misc", "data.filter", "data.event_weights", "evaluation")
]
# Helpers in the modules: not for a config.
HELPERS = {
    "label_columns",
    "misc_columns",
    "get_label",
    "stack_labels",
    "as_numbers",
    "find_column",
}


@pytest.mark.parametrize("package", PACKAGES)
def test_functions_of_a_package(package: str) -> None:
    there = set()
    for info in pkgutil.iter_modules(import_module(package).__path__):
        module = import_module(f"{package}.{info.name}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            is_public = not name.startswith("_") and name not in HELPERS
            if function.__module__ == module.__name__ and is_public:
                there.add(f"{info.name}.{name}")
    section = TEXT[TEXT.index(f"in `{package}`") :].split("\n## ")[0]
    assert set(re.findall(r"^\| `([\w.]+)`", section, re.MULTILINE)) == there


def test_schedules() -> None:
    section = TEXT[TEXT.index("## Learning-rate schedules") :]
    named = re.findall(r"^\| `(?:[\w.]+\.)?(\w+)`", section, re.MULTILINE)
    classes = inspect.getmembers(learning_rate, inspect.isclass)
    there = {name for name, cls in classes if cls.__module__ == learning_rate.__name__}
    assert set(named) == {name for name in there if name[0] != "_"} - {"ConstantRate"}
