"""The examples of docs/extending.md: one file of a newcomer for each table."""

import re
from pathlib import Path

from qface_jax import tables

DOCS = Path(__file__).parents[2] / "docs"
TABLES = {
    "Margin": tables.MARGINS,
    "Objective": tables.OBJECTIVES,
    "Backbone": tables.BACKBONES,
    "Source": tables.SOURCES,
    "Degradation": tables.RECIPES,
    "Protocol": tables.PROTOCOLS,
    "Quality score": tables.QUALITY_SCORES,
    "Export format": tables.EXPORT_FORMATS,
    "Config": tables.CONFIGS,
    "Command": tables.COMMANDS,
}
_PAGE = (DOCS / "extending.md").read_text(encoding="utf-8")
# Title of a section -> its text.
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", _PAGE, re.M | re.S))


def code(title):
    """The Python file of a section."""
    (text,) = re.findall(r"```python\n(.*?)```", SECTIONS[title], re.S)
    return text


def name(title):
    """What the section's commands call the entry, FILE.py:OBJECT."""
    (shell,) = re.findall(r"```bash\n(.*?)```", SECTIONS[title], re.S)
    (entry,) = set(re.findall(r"\w+\.py:\w+", shell))
    return entry


def write_all(folder):
    """Writes the files of all sections into a folder."""
    for title in SECTIONS:
        (folder / name(title).partition(":")[0]).write_text(code(title))
