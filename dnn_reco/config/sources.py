"""Reading YAML files with line numbers, and merging several of them.

Errors and `config show` name the file and line of a value, also deep inside a mapping. The files
are therefore composed to YAML nodes, which have a position, and only plain values are constructed
from them: nothing in a file is executed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, StringMark, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.resolver import VersionedResolver

from dnn_reco.errors import ConfigError

_MOST_LEVELS, _MOST_VALUES = 50, 100_000
_LIMITS = (
    f"a config may have {_MOST_LEVELS} levels and {_MOST_VALUES:,} values, and no alias inside of "
    "what it names"
)

_FILE_PATTERN = re.compile(r"[*\[{][^'\"]*\.\w")
_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}"
    for kind in ("str", "int", "float", "bool", "null", "seq", "map", "merge", "timestamp", "value")
)

KeyPath: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True)
class SourceLocation:
    """A location in a file: its path as given by the user, and the line (counted from 1)."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True)
class Origin:
    """Where the value of a key comes from.

    Attributes
    ----------
    kind
        `file`, `override` (command line) or `default`.
    key
        The key as it was written (the older spelling, if that was used).
    path, line
        The file and its line, for values from a file.
    """

    kind: Literal["file", "default", "override"]
    key: str
    path: Path | None = None
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" if self.kind == "file" else self.kind


@dataclass(frozen=True)
class Notice:
    """A remark on the config that is not an error.

    Attributes
    ----------
    level
        Importance.
    text
        The message.
    unknown_key
        The key that nothing in this package reads, if the message is about one.
    only_in_checks
        Whether only a check of the config is to report it, as of keys without effect.
    """

    level: Literal["warning", "info"]
    text: str
    unknown_key: str = ""
    only_in_checks: bool = False


@dataclass(frozen=True)
class RawConfig:
    """The keys of all files, as written: values and locations.

    Attributes
    ----------
    values
        Value of each top-level key.
    locations
        Location of each key, at every depth, by its path of keys and list positions.
    """

    values: dict[str, Any]
    locations: dict[KeyPath, SourceLocation]

    def with_entry(self, key: str, number: int) -> "RawConfig":
        """The config in which an entry (a mapping) of the list at `key` replaces top-level keys."""
        entry = self.values[key][number]
        replaced = {key, *entry}
        values = {k: v for k, v in self.values.items() if k not in replaced}
        kept = {at: place for at, place in self.locations.items() if at[0] not in replaced}
        inside = {at[2:]: place for at, place in self.locations.items() if at[:2] == (key, number)}
        return RawConfig(values | entry, kept | {at: place for at, place in inside.items() if at})


def read_files(
    paths: Sequence[Path], problems: list[str], *, ignore_tags: bool = False
) -> RawConfig:
    """Read and merge YAML files; what is wrong with them is appended to `problems`.

    A key that is defined twice keeps its first value, so that reading can continue and all problems
    are reported at once.

    Parameters
    ----------
    paths
        The files.
    problems
        Messages are appended to it.
    ignore_tags
        Tags such as `!!python/tuple`, which files of other programs contain, are left out: their
        values are those that would stand there without. Otherwise they are errors.

    Raises
    ------
    ConfigError
        If a file cannot be read as YAML mapping at all.
    """
    merged = RawConfig({}, {})
    unreadable: list[str] = []
    for path in paths:
        try:
            raw = _read_file(path, problems, ignore_tags)
        except ConfigError as error:
            unreadable.append(str(error))
            continue
        repeated = merged.values.keys() & raw.values.keys()
        problems += [
            f"{raw.locations[key,]}: the key '{key}' is already defined in "
            f"{merged.locations[key,]}: each key belongs in one file only"
            for key in raw.values
            if key in repeated
        ]
        for key in raw.values.keys() - repeated:
            merged.locations.update({at: m for at, m in raw.locations.items() if at[0] == key})
        merged.values.update({k: v for k, v in raw.values.items() if k not in repeated})
    if unreadable:
        raise ConfigError("\n".join(unreadable + problems))
    return merged


def _read_file(path: Path, problems: list[str], ignore_tags: bool) -> RawConfig:
    """Read one YAML file, which must hold a mapping."""
    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"the config file '{path}' does not exist (working directory: '{Path.cwd()}')"
        ) from error
    except IsADirectoryError as error:
        raise ConfigError(
            f"the config file '{path}' cannot be read: it is a folder. Name a file, such as "
            f"'{path}/config.yaml'"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"the config file '{path}' cannot be read: it does not hold text ({error})"
        ) from error
    except OSError as error:
        raise ConfigError(f"the config file '{path}' cannot be read: {error}") from error
    except YAMLError as error:
        raise ConfigError(_syntax_error(path, error)) from error
    except RecursionError as error:
        raise ConfigError(f"the config file '{path}' is nested too deeply: {_LIMITS}") from error
    if root is None:
        raise ConfigError(f"the config file '{path}' is empty: it must hold lines of 'key: value'")
    if not isinstance(root, MappingNode):
        raise ConfigError(
            f"the config file '{path}' holds a {_kind(root)}, but must hold lines of 'key: value'"
        )
    _check_size(root, path)
    if ignore_tags:
        _remove_tags(root, yaml.resolver)
    constructor = yaml.constructor
    constructor.allow_duplicate_keys = True  # reported by `_positions`, with both lines
    locations, repeated = _positions(root, path)
    problems += repeated
    return RawConfig(_construct(constructor, root, path), locations)


def _check_size(root: Node, path: Path) -> None:
    """Refuse what would take too much time or memory, with all aliases (`*name`) filled in."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: Node, depth: int) -> int:
        """Number of keys and values in a node, itself included."""
        problem = "refers to itself" if id(node) in open_nodes else ""
        if depth > _MOST_LEVELS:
            problem = "is nested too deeply"
        if not problem and id(node) not in sizes:
            open_nodes.add(id(node))
            sizes[id(node)] = 1 + sum(size(inner, depth + 1) for inner in _inside(node))
            open_nodes.remove(id(node))
        if not problem and sizes[id(node)] > _MOST_VALUES:
            problem = f"has {sizes[id(node)]:.2g} values, with all aliases filled in"
        if problem:
            line = node.start_mark.line + 1
            raise ConfigError(f"{path}:{line}: this {_kind(node)} {problem}: {_LIMITS}")
        return sizes[id(node)]

    size(root, 1)


def _nodes(root: Node) -> Iterator[Node]:
    """All nodes, each once."""
    waiting, found = [root], {id(root)}
    while waiting:
        node = waiting.pop()
        yield node
        new = [inner for inner in _inside(node) if id(inner) not in found]
        found.update(map(id, new))
        waiting += new


def _remove_tags(root: Node, resolver: VersionedResolver) -> None:
    """Give nodes whose tag is not that of a plain value the type that they have without a tag."""
    for node in _nodes(root):
        if node.tag not in _PLAIN_TAGS:
            is_plain = isinstance(node, ScalarNode) and not node.style
            node.ctag = resolver.resolve(type(node), node.value, (is_plain, not is_plain))


def _inside(node: Node) -> Iterator[Node]:
    """Keys and values, or entries, of a node."""
    if isinstance(node, MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, SequenceNode):
        yield from node.value


def _construct(constructor: SafeConstructor, root: MappingNode, path: Path) -> dict[str, Any]:
    """Plain values of all nodes."""
    try:
        values: dict[Any, Any] = constructor.construct_document(root)
    except MarkedYAMLError as error:
        raise ConfigError(_syntax_error(path, error)) from error
    except (ValueError, KeyError) as error:
        raise ConfigError(_wrong_value(root, path)) from error
    wrong = [key for key in values if not isinstance(key, str)]
    if wrong:
        raise ConfigError(
            f"the config file '{path}' has the key {wrong[0]!r}: a key must be a name"
        )
    return values


def _wrong_value(root: MappingNode, path: Path) -> str:
    """Message for the first value that has the form of a type but does not exist in it."""
    constructor = YAML(typ="safe", pure=True).constructor
    scalars = [node for node in _nodes(root) if isinstance(node, ScalarNode)]
    for node in sorted(scalars, key=lambda node: node.start_mark.index):
        try:
            constructor.construct_object(node)
        except (ValueError, KeyError) as error:
            text = node.value if len(node.value) <= 50 else f"{node.value[:50]}…"
            kind = (node.tag or "").rpartition(":")[2]
            return (
                f"{path}:{node.start_mark.line + 1}: '{text}' is not a valid {kind} ({error}): "
                "write text in quotes, without a tag"
            )
    return f"the config file '{path}' holds a value that does not exist in its type"


def _syntax_error(path: Path, error: YAMLError) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if not isinstance(error, MarkedYAMLError) or mark is None:
        return f"the config file '{path}' is not YAML: {error}"
    text = ", ".join(part for part in (error.context, error.problem) if part)
    text = re.sub(r"\('([^']*)',\)", r"'\1'", text)  # ruamel.yaml shows some names as tuples
    if _FILE_PATTERN.search(mark.get_snippet(max_length=1000)):
        text += ". File names with *, [ ] or { } need quotes"
    return f"{path}:{mark.line + 1}: not valid YAML at column {mark.column + 1}: {text}"


def _kind(node: Node) -> str:
    if isinstance(node, MappingNode):
        return "mapping"
    return "list" if isinstance(node, SequenceNode) else "single value"


def _positions(root: Node, path: Path) -> tuple[dict[KeyPath, SourceLocation], list[str]]:
    """Location of every key below `root`, and a message for every key that is defined twice."""
    locations: dict[KeyPath, SourceLocation] = {}
    repeated: dict[KeyPath, str] = {}
    for key_path, position in _walk(root, ()):
        here = SourceLocation(path, position.line + 1)
        first = locations.setdefault(key_path, here)
        inside_repeated = any(key_path[:depth] in repeated for depth in range(len(key_path)))
        if first is not here and not inside_repeated:
            name = ".".join(map(str, key_path))
            repeated[key_path] = f"{here}: the key '{name}' is already defined in line {first.line}"
    return locations, list(repeated.values())


def _walk(node: Node, at: KeyPath) -> Iterator[tuple[KeyPath, StringMark]]:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            below = (*at, str(key.value))
            yield below, key.start_mark
            yield from _walk(value, below)
    elif isinstance(node, SequenceNode):
        for position, value in enumerate(node.value):
            below = (*at, position)
            yield below, value.start_mark
            yield from _walk(value, below)


def locate(locations: Mapping[KeyPath, SourceLocation], at: KeyPath) -> SourceLocation | None:
    """Location of `at`, or of the deepest key above it whose location is known."""
    for depth in range(len(at), 0, -1):
        if at[:depth] in locations:
            return locations[at[:depth]]
    return None
