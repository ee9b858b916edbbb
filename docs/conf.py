"""Sphinx configuration: pip install -e ".[docs]", then sphinx-build docs docs/_build."""

from __future__ import annotations

import cci_captum

project = "cci-captum"
copyright = "2026, the cci-captum authors"
release = cci_captum.__version__

myst_heading_anchors = 4  # links to headings, as GitHub makes them
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_use_ivar = True
exclude_patterns = ["_build"]
html_theme = "furo"
