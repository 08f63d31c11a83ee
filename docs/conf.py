"""How Sphinx makes the documentation site: ``make docs`` writes it into ``site/``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from gradprom import __version__ as release

project = "gradprom"
author = "the gradprom developers"
copyright = f"{author}, Apache-2.0"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "_mathml", "_made"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

# docstrings in Google's style; `name` in them is code
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
python_display_short_literal_types = True
add_module_names = False

html_theme = "furo"
html_title = f"gradprom {release}"
html_static_path = ["_static"]
html_css_files = ["gradprom.css"]
html_theme_options = {"announcement": "Research software, not a medical device."}
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
highlight_language = "none"
smartquotes = False  # it would make one dash of the two in --option
