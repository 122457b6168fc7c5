"""Names from outside do not act on the terminal."""

import logging
import os

import pytest

from qface_jax.errors import printable
from qface_jax.launch import main, terminal
from support.recordio_writer import jpeg

EVIL = "a\nb\x1b[31m\x07\x9b\u200b.jpg"
SHOWN = r"a\nb\x1b[31m\x07\x9b\u200b.jpg"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, naïve, 顔, 😀", "plain, naïve, 顔, 😀"),
        (EVIL, SHOWN),
        ("\udcff\udcfe", r"\udcff\udcfe"),
        ("a\tb\rc", r"a\tb\rc"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
    ],
)
def test_what_does_not_show_is_an_escape(text, shown):
    assert printable(text) == shown


def test_line_ends_of_a_message_stay():
    assert printable("one\ntwo\x1b", keep="\n") == "one\ntwo\\x1b"


def folder(root):
    for person in (b"id0", b"\xff\xfe"):
        place = os.path.join(os.fsencode(root), person)
        os.makedirs(place)
        for number, name in enumerate((EVIL.encode(), b"b.jpg")):
            with open(os.path.join(place, name), "wb") as file:
                file.write(jpeg(number))
    return root


def harmless(text):
    text.encode()  # no surrogates
    return printable(text, keep="\n\t") == text


def test_inspect_names_duplicates(tmp_path, capsys):
    assert main.main(["data", "inspect", str(folder(tmp_path / "set"))]) == 0
    said = capsys.readouterr()
    assert harmless(said.out) and harmless(said.err)
    assert f"id0/{SHOWN}" in said.out
    assert r"\udcff\udcfe/b.jpg" in said.out


def test_an_error_names_a_file(tmp_path, capsys):
    root = folder(tmp_path / "set")
    (root / "id0" / EVIL).write_bytes(b"no picture")
    out = tmp_path / "out"
    assert main.main(["data", "import", str(root), str(out)]) == 2
    said = capsys.readouterr().err
    assert harmless(said.replace("\r", "\n"))
    assert f"{SHOWN}: not a picture" in said
    assert main.main(["data", "import", str(root), str(out), "--skip-broken"]) == 0
    said = capsys.readouterr()
    assert harmless(said.out) and f"{SHOWN}: not a picture" in said.out


def test_what_is_logged(capsys):
    log = logging.getLogger("qface_jax.test")
    handler = logging.StreamHandler()
    log.addHandler(handler)
    try:
        with terminal.harmless():
            log.warning("left out: %s", EVIL)
    finally:
        log.removeHandler(handler)
    assert r"b\x1b[31m" in capsys.readouterr().err
    record = logging.getLogRecordFactory()("n", 30, "p", 1, "%s", ("\x1b",), None)
    assert record.getMessage() == "\x1b"
