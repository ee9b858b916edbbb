"""Sphinx configuration: pip install -e ".[docs]", then sphinx-build docs docs/_build."""

from __future__ import annotations

import cci_captum

project = "cci-captum"
copyright = "2026, the cci-captum authors"
release = cci_captum.__version__

myst_heading_anchors = 4  # links to headings, as GitHub makes them
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
nb_execution_mode = "force"
nb_execution_in_temp = True  # what notebooks write is not left among the sources
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_execution_timeout = 600  # seconds a cell
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_use_ivar = True
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
html_theme = "furo"
