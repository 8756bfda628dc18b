"""Rules for the source of the package; those for imports between its parts are in pyproject.toml.

Imports inside functions and under TYPE_CHECKING count like any other.
"""

import ast
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import grimp
import pytest

import dnn_reco

PACKAGE = Path(dnn_reco.__file__).parent
TREES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text())
    for path in sorted(PACKAGE.rglob("*.py"))
}
Graph: TypeAlias = Mapping[str, set[str]]
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

MAX_FILE_LINES = 520
MAX_FUNCTION_LINES = 80
MAX_ARGUMENTS = 11

# Functions whose signature the reference fixes, as <file>:<name>.
FIXED_SIGNATURES = {"ic3/segments.py:ApplyDNNRecos"}

# These set the log level of the whole package.
SETTING_LOG_LEVELS = {"cli/session.py", "commands/estimate.py", "commands/train.py"}

# Modules that keep older names, as users' plug-ins import them.
PLUGIN_INTERFACES = {
    "plugins.py",
    "misc.py",
    "nn/interface.py",
    "modules/loss/interface.py",
    "modules/evaluation/interface.py",
    "modules/data/event_weights/interface.py",
}
OLD_MODULES = {
    *("training/engine.py", "training/average.py", "training/ranks.py", "training/pace.py"),
    *("training/best.py", "data/sample.py", "nn/whole_batch.py", "nn/token_layout.py"),
    *("nn/keyed_random.py", "config/older.py", "simulation/losses.py"),
    *("simulation/calibration/again.py", "commands/needs.py", "commands/comparison_entry.py"),
}
OLD_NAMES = {
    *("Training", "TrainingPlan", "Judge", "Judged", "Pace", "measure_pace", "WeightAverage"),
    *("BestSoFar", "Ranks", "add_up", "told_by_first", "first_goes_first", "GradientMean"),
    *("GradientCleaner", "DivergenceWatch", "Scores", "SetScores", "Measured", "print_out"),
    *("EventSet", "Events", "Batch", "PrefetchedBatches", "ResidentEvents", "Look", "look_at"),
    *("Weigh", "own", "WholeBatch", "part_of", "Group", "lay_out", "FeatureMeaning", "brightest"),
    *("in_full_precision", "num_hits_cut", "Trained", "Answers", "as_one", "Contender", "cone_68"),
    *("Effort", "Entry", "settle", "settled", "begun", "Written", "Mark"),
}


@pytest.fixture(scope="module")
def module_graph() -> Graph:
    """Modules that each module imports."""
    graph = grimp.build_graph("dnn_reco", cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def room(module: str) -> str:
    """The part of the package that a module belongs to."""
    return ".".join(module.split(".")[:2])


def shortest_path(graph: Graph, start: str, goal: str) -> list[str]:
    """The modules from start to goal, or none if it cannot be reached."""
    paths = {start: [start]}
    waiting = deque([start])
    while waiting and goal not in paths:
        module = waiting.popleft()
        new = sorted(graph[module] - paths.keys())
        paths.update({imported: [*paths[module], imported] for imported in new})
        waiting.extend(new)
    return paths.get(goal, [])


def shortest_cycles(graph: Graph) -> list[str]:
    """Cycles without a common import, the shortest first: some, wherever there are any."""
    cycles = [
        [module, *way_back]
        for module in sorted(graph)
        for imported in sorted(graph[module])
        if (way_back := shortest_path(graph, imported, module))
    ]
    found: list[str] = []
    seen: set[tuple[str, str]] = set()
    for cycle in sorted(cycles, key=len):
        imports = set(pairwise(cycle))
        if not imports & seen:
            found.append(" -> ".join(cycle))
            seen |= imports
    return found


def expect_none(problems: Iterable[str], rule: str) -> None:
    if listed := list(problems):
        pytest.fail("\n  ".join([f"{rule}:", *listed]), pytrace=False)


def test_no_cycle_of_modules(module_graph: Graph) -> None:
    expect_none(shortest_cycles(module_graph), "modules import each other")


def test_no_cycle_of_rooms(module_graph: Graph) -> None:
    rooms: dict[str, set[str]] = {room(module): set() for module in module_graph}
    for module, imported in module_graph.items():
        rooms[room(module)] |= {room(other) for other in imported} - {room(module)}
    expect_none(shortest_cycles(rooms), "parts of the package import each other")


def test_cycles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"a", "c", "f"}, "c": {"d"}, "d": {"b"}, "e": {"a", "f"}, "f": set()}
    assert shortest_cycles(graph) == ["a -> b -> a", "b -> c -> d -> b"]
    assert shortest_cycles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def functions() -> Iterator[tuple[str, Function]]:
    """All functions and methods, by <file>:<name>."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield f"{path}:{node.name}", node


def num_lines(node: ast.AST) -> int:
    return node.end_lineno - node.lineno + 1


def num_lines_without_docstring(function: Function) -> int:
    has_docstring = ast.get_docstring(function) is not None
    return num_lines(function) - (num_lines(function.body[0]) if has_docstring else 0)


def num_arguments(function: Function) -> int:
    """Number of arguments, without self, cls, *args and **kwargs."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return sum(argument.arg not in ("self", "cls") for argument in named)


def over(limit: int, sizes: Iterable[tuple[str, int]]) -> list[str]:
    return [f"{name}: {size} (at most {limit})" for name, size in sizes if size > limit]


def test_functions_are_short() -> None:
    sizes = ((name, num_lines_without_docstring(function)) for name, function in functions())
    expect_none(over(MAX_FUNCTION_LINES, sizes), "lines of a function without its docstring")


def test_signatures_are_short() -> None:
    """Callbacks of the command line have one argument for each option."""
    sizes = (
        (name, num_arguments(function))
        for name, function in functions()
        if not name.startswith("cli/") and name not in FIXED_SIGNATURES
    )
    expect_none(over(MAX_ARGUMENTS, sizes), "arguments of a function")


def test_files_are_short() -> None:
    sizes = ((path, len((PACKAGE / path).read_text().splitlines())) for path in TREES)
    expect_none(over(MAX_FILE_LINES, sizes), "lines of a file")


def defined_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of classes, functions, type aliases, and fields of classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | Function):
            yield node.lineno, node.name
        if isinstance(node, ast.ClassDef | ast.Module):
            for statement in node.body:
                targets = getattr(statement, "targets", [getattr(statement, "target", None)])
                yield from (
                    (target.lineno, target.id) for target in targets if isinstance(target, ast.Name)
                )


def test_old_names_are_gone() -> None:
    expect_none(sorted(OLD_MODULES & TREES.keys()), "modules that have been renamed")
    found = (
        f"{path}:{line} {name}"
        for path, tree in TREES.items()
        if path not in PLUGIN_INTERFACES
        for line, name in defined_names(tree)
        if name in OLD_NAMES
    )
    expect_none(found, "names that have been replaced")


def test_each_module_has_its_own_logger() -> None:
    calls = (
        (path, node)
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("getLogger")
    )
    of_parsl = ("cluster/farm_engine.py", "logging.getLogger('parsl')")
    found = (
        f"{path}:{call.lineno} {ast.unparse(call)}"
        for path, call in calls
        if [ast.unparse(argument) for argument in call.args] != ["__name__"]
        and not (path in SETTING_LOG_LEVELS and ast.unparse(call).endswith("('dnn_reco')"))
        and (path, ast.unparse(call)) != of_parsl
    )
    expect_none(found, "loggers other than the module's own, getLogger(__name__)")
