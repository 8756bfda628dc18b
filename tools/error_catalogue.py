"""Write tests/error_catalogue.txt, each error and warning of the package, with its text.

Run `python tools/error_catalogue.py` after a message was added or changed, and read the difference:
tests/test_error_catalogue.py compares the file with the code.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
CATALOGUE = REPOSITORY / "tests" / "error_catalogue.txt"

_HEAD = """\
# Each error and warning of the package: what users read when something is wrong.
# Made by `python tools/error_catalogue.py`; do not edit. Values are in braces. Where a text has
# several forms, each is listed; the reason that completes another text starts with "…".
"""
_WARNINGS = ("warning", "error", "critical")  # methods of a logger
_OTHER_ERRORS = ("UsageError", "BadParameter", "ClickException", "PydanticCustomError")
_SILENT = ("NotImplementedError", "AssertionError", "StopIteration", "SystemExit", "Exit")
_MOST_FORMS = 12


@dataclass(frozen=True)
class Message:
    """A text with its kind, and the module where it is written."""

    module: str
    kind: str
    text: str


@dataclass(frozen=True)
class _Maker:
    """A function that makes or raises errors with a text that callers give."""

    name: str
    kind: str
    parameters: tuple[str, ...]
    texts: frozenset[str]  # parameters that are part of the message


def messages() -> list[Message]:
    """All messages of the package, by module."""
    found: set[Message] = set()
    for path in sorted((REPOSITORY / "dnn_reco").rglob("*.py")):
        module = str(path.relative_to(REPOSITORY))
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found |= {Message(module, kind, text) for kind, text in _of_module(tree)}
    return sorted(found, key=lambda one: (one.module, one.kind, one.text))


def page() -> str:
    """The whole catalogue."""
    lines = [_HEAD]
    module = ""
    for one in messages():
        if one.module != module:
            module = one.module
            lines.append(f"\n{module}")
        text = one.text.replace("\n", "\n" + " " * 8)
        lines.append(f"    {one.kind}: {text}")
    return "\n".join(lines) + "\n"


def _of_module(tree: ast.Module) -> Iterator[tuple[str, str]]:
    constants = _assignments(tree.body)
    makers = {maker.name: maker for maker in _makers(tree)}
    for function in _functions(tree):
        names = {**constants, **_assignments(function.body)}
        for call in _own_calls(function):
            kind = _kind(call)
            if kind is not None:
                yield from ((kind, text) for text in _texts(call.args, names))
            elif (maker := makers.get(_name(call.func))) is not None:
                for argument in _arguments_of_text(call, maker):
                    yield from ((maker.kind, f"…{text}") for text in _forms(argument, names))


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.Module]:
    yield tree
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _own_calls(scope: ast.AST) -> Iterator[ast.Call]:
    """Calls in a function, without those in functions inside it."""
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(child, ast.Call):
            yield child
        yield from _own_calls(child)


def _kind(call: ast.Call) -> str | None:
    """Name of the error that a call makes; `Warning` for one that logs; None for other calls."""
    name = _name(call.func)
    if isinstance(call.func, ast.Attribute) and name in _WARNINGS:
        return "Warning" if "log" in ast.unparse(call.func.value).lower() else None
    is_error = name.endswith("Error") and name not in _SILENT
    return name.lstrip("_") if is_error or name in _OTHER_ERRORS else None


def _makers(tree: ast.Module) -> Iterator[_Maker]:
    for function in _functions(tree):
        if isinstance(function, ast.Module):
            continue
        given = tuple(one.arg for one in function.args.args if one.arg not in ("self", "cls"))
        for call in _own_calls(function):
            kind = _kind(call)
            if kind is None or kind == "Warning":
                continue
            used = {node.id for node in ast.walk(call) if isinstance(node, ast.Name)}
            texts = frozenset(
                one.arg
                for one in function.args.args
                if one.arg in used
                and one.annotation is not None
                and ast.unparse(one.annotation) == "str"
            )
            if texts:
                yield _Maker(function.name, kind, given, texts)


def _arguments_of_text(call: ast.Call, maker: _Maker) -> Iterator[ast.expr]:
    """Arguments of a call that become part of the message, where they are sentences."""
    by_name = dict(zip(maker.parameters, call.args, strict=False))
    by_name |= {one.arg: one.value for one in call.keywords if one.arg is not None}
    for name in maker.texts & set(by_name):
        if any(" " in text for text in _forms(by_name[name], {})):
            yield by_name[name]


def _assignments(body: list[ast.stmt]) -> dict[str, ast.expr]:
    """Texts that are assigned once to a name."""
    found: dict[str, ast.expr] = {}
    twice = set()
    for node in (each for statement in body for each in ast.walk(statement)):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            twice |= {name} & set(found)
            found[name] = node.value
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            twice.add(node.target.id)
    return {name: value for name, value in found.items() if name not in twice}


def _texts(arguments: list[ast.expr], names: Mapping[str, ast.expr]) -> Iterator[str]:
    """Texts of the arguments of an error: those that hold words."""
    for argument in arguments:
        yield from (text for text in _forms(argument, names) if _has_words(text))


def _forms(node: ast.expr, names: Mapping[str, ast.expr]) -> list[str]:
    """Each form of a text, with the values as braces."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        return _joined([_part(value, names) for value in node.values])
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _joined([_forms(node.left, names), _forms(node.right, names)])
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        return _forms(node.left, names)
    if isinstance(node, ast.IfExp):
        return [*_forms(node.body, names), *_forms(node.orelse, names)]
    if isinstance(node, ast.Name) and _is_text(names.get(node.id)):
        others = {name: value for name, value in names.items() if name != node.id}
        return _forms(names[node.id], others)
    return [f"{{{ast.unparse(node)}}}"]


def _part(value: ast.expr, names: Mapping[str, ast.expr]) -> list[str]:
    if not isinstance(value, ast.FormattedValue):
        return _forms(value, names)
    inner = value.value
    if isinstance(inner, ast.IfExp) or (
        isinstance(inner, ast.Name) and _is_text(names.get(inner.id))
    ):
        return _forms(inner, names)
    return [f"{{{ast.unparse(inner)}}}"]


def _joined(parts: list[list[str]]) -> list[str]:
    """All combinations of the forms of the parts of a text."""
    texts = [""]
    for forms in parts:
        texts = [text + form for text in texts for form in forms][:_MOST_FORMS]
    return texts


def _is_text(node: ast.expr | None) -> bool:
    if isinstance(node, ast.IfExp):
        return _is_text(node.body) and _is_text(node.orelse)
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) or _is_text(node.right)
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _has_words(text: str) -> bool:
    is_value = text.startswith("{") and text.find("}") == len(text) - 1
    return " " in text and not is_value


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


if __name__ == "__main__":
    CATALOGUE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{CATALOGUE}: {len(messages())} messages\n")
