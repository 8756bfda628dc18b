"""Settings of the documentation site; `make docs` builds it."""

import sys
from pathlib import Path

import dnn_reco

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))

project = "dnn_reco"
author = "the dnn_reco developers"
version = release = dnn_reco.__version__
root_doc = "index"
exclude_patterns = ["_build", "_extensions"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "mathml",
    "site_pages",
]
nitpicky = True

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
math_numfig = False

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
napoleon_google_docstring = False

html_theme = "furo"
html_title = "dnn_reco"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_copyright = False
