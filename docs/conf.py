"""How Sphinx builds the pages of this folder: `bash launch/docs.sh`."""

import re
from importlib import metadata

from sphinx.util.docutils import SphinxDirective

from qface_jax import options
from qface_jax.configs import base

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


class ConfigKeys(SphinxDirective):
    """Tables of every key of a config, one for each group."""

    def run(self):
        """Returns the nodes of the tables."""
        groups = {}
        for path, option in options.flatten(base.keys()).items():
            group = path.partition(".")[0] if "." in path else "Of no group"
            groups.setdefault(group, []).append(_row(path, option))
        lines = []
        for group, rows in groups.items():
            lines += ["", f"## {group}", "", "| key | default | value | meaning |"]
            lines += ["|---|---|---|---|", *rows]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def _row(path, option):
    """Returns the line of a key in a Markdown table."""
    value = option.expected
    if option.rule is not None:
        value += f", {option.rule.text.removeprefix('must be ')}"
    cells = (
        f"`{path}`",
        f"`{option.default!r}`",
        _escaped(value),
        _escaped(option.text),
    )
    return f"| {' | '.join(cells)} |"


def _escaped(text):
    return re.sub(r"([*|<])", r"\\\1", text)


def setup(app):
    """Called by Sphinx; before napoleon, which writes reStructuredText itself."""
    app.add_directive("config-keys", ConfigKeys)
    app.connect("autodoc-process-docstring", _as_restructured_text, priority=400)
