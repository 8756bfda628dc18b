"""Fenced code blocks of the documentation, and what the tests do with each of them.

By its language a block is

- `bash`: run, with stand-ins for pip and batch systems; variables and the working directory last
  until the end of the page;
- `console`: each line that starts with `$ ` is run, and the lines below it are its output;
- `python`: run in the test's process; names last until the end of the page;
- `text`: the output of the `bash` or `python` block before it;
- `yaml`: a part of a config, which is validated.

A comment before a block changes this, or describes what the test does differently from a user:

- `<!-- test: skip: REASON -->`: the block is neither run nor compared.
- `<!-- test: replace "A" "B" -->`: from here to the end of the page, B is used in the place of A.
- `<!-- test: before: COMMANDS -->`: these commands are run first.
- `<!-- test: instead: COMMANDS -->`: these commands are run in the place of the block.
- `<!-- test: file NAME -->`: the block is a file of this name in the working directory.
- `<!-- test: example NAME -->`: the same, and it is `docs/how-to/examples/NAME` word for word.
- `<!-- test: background URL -->`: the command stays running; the next block waits for the URL.
- `<!-- test: exit CODE -->`: the command ends with this exit code.
- `<!-- test: needs NAME -->`: the block is run only where the workspace has this file.
- `<!-- test: into NAME -->`: the keys of the block replace those of this config.
- `<!-- test: within KEY.KEY -->`: the block is the content of this key of a config.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
PAGES = [
    REPOSITORY / "README.md",
    *(page for page in sorted(DOCS.rglob("*.md")) if DOCS / "_build" not in page.parents),
]
LANGUAGES = {"bash", "console", "python", "text", "yaml"}

# A fence at any indentation, with the comments right above it.
_BLOCK = re.compile(
    r"(?P<comments>(?:^[ ]*<!--(?:(?!-->).)*-->\n+)*)"
    r"^(?P<indent>[ ]*)```(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^(?P=indent)```[ ]*$",
    re.MULTILINE | re.DOTALL,
)
_DIRECTIVE = re.compile(r"<!--\s*test:\s*(\w+):?\s*((?:(?!-->).)*?)\s*-->", re.DOTALL)
_REPLACEMENT = re.compile(r'"([^"]*)"\s+"([^"]*)"')
DIRECTIVES = {
    *("skip", "replace", "before", "instead", "file", "example"),
    *("background", "exit", "needs", "within", "into"),
}


@dataclass(frozen=True)
class Block:
    """A fenced code block; `directives` are the comments above it, by name."""

    page: Path
    line: int
    language: str
    text: str
    directives: tuple[tuple[str, str], ...]

    def directive(self, name: str) -> str | None:
        return dict(self.directives).get(name)

    @property
    def replacements(self) -> list[tuple[str, str]]:
        """Pairs of old and new text that begin to hold with this block."""
        found = []
        for name, text in self.directives:
            if name == "replace":
                match = _REPLACEMENT.fullmatch(text)
                assert match, f'{self}: write replace "A" "B"'
                found.append((match[1], match[2]))
        return found

    @property
    def use(self) -> str:
        """What the tests do with the block, in words."""
        if reason := self.directive("skip"):
            return f"skipped: {reason}"
        if name := self.directive("needs"):
            return f"run where {name} is at hand"
        for name in ("example", "file", "into"):
            if self.directive(name):
                return f"written to {self.directive(name)}"
        return {"text": "compared", "yaml": "validated"}.get(self.language, "run")

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line} ({self.language})"


def blocks(page: Path) -> list[Block]:
    """All fenced code blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return list(_blocks(page, text))


def _blocks(page: Path, text: str) -> Iterator[Block]:
    for match in _BLOCK.finditer(text):
        indent = match["indent"]
        lines = [line.removeprefix(indent) for line in match["text"].splitlines()]
        yield Block(
            page=page,
            line=text.count("\n", 0, match.start("language")) + 1,
            language=match["language"],
            text="".join(f"{line}\n" for line in lines),
            directives=tuple(_DIRECTIVE.findall(match["comments"])),
        )


@dataclass(frozen=True)
class Command:
    """A command of a `console` block, and the output that the page shows for it."""

    text: str
    output: str


def commands(console: str) -> list[Command]:
    """The commands of a `console` block; a command goes on after a backslash."""
    found: list[tuple[list[str], list[str]]] = []
    for line in console.splitlines():
        if line.startswith("$ "):
            found.append(([line[2:]], []))
        elif found and not found[-1][1] and found[-1][0][-1].endswith("\\"):
            found[-1][0].append(line)
        else:
            found[-1][1].append(line)
    return [Command("\n".join(words), "\n".join(output)) for words, output in found]


# --------------------------------------------------------------------------------------------------
# Comparing outputs
# --------------------------------------------------------------------------------------------------
_NUMBER = re.compile(
    r"[-+]?(?:\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?|\b(?:nan|inf)\b)"
    r"(?:[ ]?(?:B|kB|MB|GB|TB|ms|s|min|h|d)\b)?"
)
_PLURAL = re.compile(r"(# [a-z]+?)(?:s\b|\(s\))")
_HIDDEN = "…"
# Printed on the first use on a machine, if that is slow.
_ONCE = "A part of the network was compiled for this CPU"


def fixed_parts(text: str) -> list[str]:
    """Lines of an output without what differs from run to run.

    Each number (with a unit of time or size) becomes `#`, a plural behind it the singular, and
    several spaces one; empty lines, and the note that a network was compiled, are left out.
    """
    lines = (re.sub(r"\s+", " ", _NUMBER.sub("#", line)).strip() for line in text.splitlines())
    return [
        _PLURAL.sub(r"\1", re.sub(r"#(?: #)+", "#", line))
        for line in lines
        if line and not line.startswith(_ONCE)
    ]


def agree(shown: str, actual: str) -> bool:
    """Whether an output is the one shown, in its fixed parts.

    `…` stands for any text of a line, or alone on a line for any number of lines.
    """
    pattern = ""
    for line in fixed_parts(shown):
        if line == _HIDDEN:
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*?".join(map(re.escape, line.split(_HIDDEN))) + r"\n"
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in fixed_parts(actual))) is not None
