"""Each example of docs/extending.md is complete, short, and of its table's kind."""

import re
from pathlib import Path

import pytest

import test_structure
from qface_jax import options, tables

DOCS = Path(__file__).parents[2] / "docs"
TABLES = {
    "Margin": tables.MARGINS,
    "Objective": tables.OBJECTIVES,
    "Backbone": tables.BACKBONES,
    "Source": tables.SOURCES,
    "Degradation": tables.RECIPES,
    "Protocol": tables.PROTOCOLS,
    "Quality score": tables.QUALITY_SCORES,
    "Config": tables.CONFIGS,
    "Command": tables.COMMANDS,
}
PAGE = (DOCS / "extending.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))


@pytest.mark.parametrize("title", SECTIONS)
def test_the_example_is_an_entry_of_its_table(title, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tables, "_trusted", set())
    (code,) = re.findall(r"```python\n(.*?)```", SECTIONS[title], re.S)
    (shell,) = re.findall(r"```bash\n(.*?)```", SECTIONS[title], re.S)
    (name,) = set(re.findall(r"\w+\.py:\w+", shell))
    file = name.partition(":")[0]
    assert code.startswith(f"# {file}: ")
    assert len(code.splitlines()) <= 30
    (tmp_path / file).write_text(code)
    tables.trust(name)
    entry = TABLES[title][name]
    options.defaults(getattr(entry, "options", {}))


def test_the_page_on_architecture_has_the_import_order():
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    (order,) = re.findall(r"```text\n(.*?)```", page, re.S)
    assert tuple(order.replace(">", " ").split()) == test_structure.ORDER


def test_the_index_names_every_page():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    (pages,) = re.findall(r"```\{toctree\}\n.*?\n\n(.*?)```", index, re.S)
    assert set(pages.split()) | {"index"} == {path.stem for path in DOCS.glob("*.md")}
