"""How Sphinx builds the pages of this folder: `bash launch/docs.sh`."""

import re
from importlib import metadata

project = "qface_jax"
version = release = metadata.version("qface-jax")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"{project} {version}"
myst_heading_anchors = 3
napoleon_use_ivar = True  # the fields of a tuple are members already
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"


def _as_restructured_text(app, what, name, obj, options, lines):
    """Docstrings are plain text with code in `backticks`; |x| and * mean themselves."""
    for number, line in enumerate(lines):
        texts = re.split(r"`([^`]+)`", line)  # every other one is code
        texts[::2] = [re.sub(r"([*|])", r"\\\1", text) for text in texts[::2]]
        texts[1::2] = [f"``{text}``" for text in texts[1::2]]
        lines[number] = "".join(texts)


def setup(app):
    """Called by Sphinx; before napoleon, which writes reStructuredText itself."""
    app.connect("autodoc-process-docstring", _as_restructured_text, priority=400)
