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
exclude_patterns = ["_build", "_extensions", "drawings", "gallery"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "api_reference",
    "docstrings",
    "mathml",
    "site_pages",
    "sphinx_gallery.gen_gallery",
]
sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "image_scrapers": ("gallery_figures",),
    "within_subsection_order": "site_pages.FrontPageOrder",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "min_reported_time": 1000,
    "write_computation_times": False,
    "remove_config_comments": True,
    "capture_repr": (),
}
nitpicky = True
nitpick_ignore_regex = [
    # other packages, whose documentation is not at hand when the site is built
    ("py:.*", r"(collections|h5py|os|matplotlib|numpy|pandas|pathlib|torch|typing)\..*"),
    ("py:class", r"(ArrayLike|DataFrame|Figure|NDArray|Path|Tensor|np\..*)"),
    # of the package, but not part of its interface
    ("py:.*", r"dnn_reco\.(config|data|i3|inference|nn|transform)\..*"),
    (
        "py:class",
        r"(Config|FileEvents|MiscTransform|Names|Source|SpecialLabels|Status|StoredObject)",
    ),
]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
math_numfig = False

autodoc_type_aliases = {name: name for name in ("ArrayLike", "NDArray")}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
napoleon_google_docstring = False

smartquotes_action = "D"  # two hyphens become a dash, as in descriptions of arguments
html_theme = "furo"
html_title = "dnn_reco"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_copyright = False
