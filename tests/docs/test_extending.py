"""Each example of docs/extending.md is complete, short, and of its table's kind."""

import re

import pytest

import test_structure
from qface_jax import options, tables
from support import examples
from support.examples import DOCS, SECTIONS, TABLES


def test_there_is_an_example_of_each_table():
    assert list(SECTIONS) == list(TABLES)
    every = [table for table in vars(tables).values() if type(table) is tables.Table]
    assert sorted(map(id, TABLES.values())) == sorted(map(id, every))


@pytest.mark.parametrize("title", SECTIONS)
def test_the_example_is_an_entry_of_its_table(title, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tables, "_trusted", set())
    code, name = examples.code(title), examples.name(title)
    file = name.partition(":")[0]
    assert code.startswith(f"# {file}: ")
    assert len(code.splitlines()) <= 30
    assert max(map(len, code.splitlines())) <= 88
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
