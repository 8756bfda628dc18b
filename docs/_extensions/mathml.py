"""Formulas as MathML, which browsers show without a script from another host."""

import re

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.typing import ExtensionMetadata
from sphinx.writers.html5 import HTML5Translator

# The converter needs braces in \\tfrac12, and sets no space before a function as in 2\\ln x.
_SHORT_FRACTION = re.compile(r"(\\[td]?frac)(\d)(\d)")
_FACTOR = re.compile(r"(?<=[\w)}])\s*(?=\\(ln|log|exp|sin|cos|tan|tanh|max|min)\b)")

_log = logging.getLogger(__name__)


def _markup(node: nodes.math | nodes.math_block, *, as_block: bool) -> str:
    formula = _SHORT_FRACTION.sub(r"\1{\2}{\3}", node.astext().strip())
    formula = _FACTOR.sub(r"\\,", formula)
    try:
        return str(latex2mathml.tex2mathml(formula, as_block=as_block))
    except MathError as error:
        _log.warning("formula %r: %s", formula, error, location=node)
        return ""


def _visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(_markup(node, as_block=False))
    raise nodes.SkipNode


def _visit_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math-block">{_markup(node, as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the renderer `mathml`."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
