"""Write docs/reference/config.md from the schema: python docs/generate_config_reference.py."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import get_origin

from pydantic.fields import FieldInfo

from dnn_reco.config.key_lists import DEAD_KEYS
from dnn_reco.config.keys import extra_of
from dnn_reco.config.legacy import older_spelling
from dnn_reco.config.schema import GROUPS
from dnn_reco.config.value_types import ScheduleSettings, allowed, nested_settings

PAGE = Path(__file__).parent / "reference" / "config.md"

_HEAD = """\
# Keys of the config

<!-- Made by docs/generate_config_reference.py; do not edit. -->

A config is one YAML file or several, each key in only one of them. `{key}` inside a text is
replaced by the value of that key; `{config_name}` is the name of the file (of several: joined by
`__`). Relative paths are relative to the folder from which a command is run. `dnn-reco config show
FILE` prints the complete config and the origin of each value; `dnn-reco config check FILE` reports
mistakes.

Keys in the older spelling are accepted and translated. A key with the default *needed* must be set
for the commands that use it. A misspelt key is an error; other unknown keys are kept for your own
functions, with a warning.
"""


def page() -> str:
    """The whole page."""
    lines = [_HEAD]
    for group in GROUPS.values():
        lines += [f"## {group.title}", "", group.__doc__ or "", "", *_table(group.model_fields)]
        for key, field in group.model_fields.items():
            lines += _tables_below(key, field)
    dead = ", ".join(f"`{key}`" for key in sorted(DEAD_KEYS))
    lines += ["## Accepted without effect", "", f"{dead}."]
    return "\n".join(lines) + "\n"


def _tables_below(key: str, field: FieldInfo) -> Iterator[str]:
    """The keys inside a key, if it has any."""
    nested = nested_settings(field)
    if nested is None or nested is ScheduleSettings:
        return
    entry = "Keys of each entry of" if get_origin(field.annotation) is dict else "Keys of"
    yield from (f"### {entry} `{key}`", "", *_table(nested.model_fields))
    for below, inner in nested.model_fields.items():
        yield from _tables_below(below, inner)


def _table(fields: dict[str, FieldInfo]) -> Iterator[str]:
    header = ["key", "allowed", "default", "meaning", "older spelling"]
    rows = [_row(key, field) for key, field in fields.items()]
    columns = len(header) if any(row[-1] for row in rows) else len(header) - 1
    for cells in (header, ["---"] * columns, *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells[:columns]) + " |"
    yield ""


def _row(key: str, field: FieldInfo) -> list[str]:
    older = ", ".join(f"`{name}`" for name in older_spelling(key).split(", ") if name)
    return [f"`{key}`", allowed(field), _default(field), field.description or "", older]


def _default(field: FieldInfo) -> str:
    if extra_of(field, "example") or field.is_required():
        return "*needed*"
    if field.default is None:
        return "empty"
    if nested_settings(field) and field.default != {}:
        return "see below"
    return f"`{json.dumps(field.default)}`"


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
