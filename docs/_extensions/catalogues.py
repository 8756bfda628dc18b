"""Tables of errors and of classes in `.i3` files, from the package's source."""

from __future__ import annotations

import inspect

from markdown_text import table

from dnn_reco import errors
from dnn_reco.errors import DnnRecoError
from dnn_reco.i3.codecs import CODECS


def errors_page() -> str:
    """All classes of errors with what they mean."""
    lines = ["```{eval-rst}"]
    for error in _family():
        lines += [
            f".. autoexception:: {error.__module__}.{error.__name__}",
            "   :show-inheritance:",
            "",
        ]
    return "\n".join([*lines, "```"])


def _family() -> list[type[DnnRecoError]]:
    return [value for value in vars(errors).values() if inspect.isclass(value)]


def frame_classes_page() -> str:
    """Classes that are decoded, and whether they are written."""
    rows = [
        (
            f"`{name}`",
            str(codec.version),
            "whole" if codec.reads_all else "in part",
            "yes" if codec.write else "no",
        )
        for name, codec in CODECS.items()
    ]
    return "\n".join(table(("class", "latest version", "read", "written"), rows))
